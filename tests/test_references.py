"""Sources by a table of references: from every kind of file, over every raw store, and what a wrong table comes to."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import pickle
import random
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import fsspec
import obstore.store
import pyarrow
import pytest
from pyarrow import feather, parquet

from bitstore import (
    Budget,
    FileRaw,
    FsspecRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    InvalidURI,
    Md5References,
    NotFoundInStore,
    ObstoreRaw,
    Price,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1References,
    Sha256References,
    Store,
    StoreNotAvailable,
    config,
)
from bitstore._lookup.event import Event
from bitstore._lookup.run import run
from bitstore._packs import opening
from bitstore._packs.gather import Gather
from bitstore._planning.gathering import Place, gathered
from bitstore._raw import parts
from bitstore.references import DamagedReferences, Reference, ReferenceTable, archive_members, write_references
from bitstore.steps import RangesInSteps, Sleep, Steps, Wait
from bitstore.testing import check_store
from tests.servers import FakeGCS, MakeProxy, SeaweedS3
from tests.servers.faults import Answer, s3_error
from tests.servers.web_folder import WebFolder
from tests.stores import Shelf, as_source, composed, outcome, sha1

RANDOM = random.Random(16)
BLOBS = [RANDOM.randbytes(100 + 7 * number) for number in range(50)]
GAP = b"-" * 30
PACK = b"".join(GAP + blob for blob in BLOBS)
OFFSETS = [PACK.index(blob) for blob in BLOBS]
ROWS = [(sha1(blob), "pack.bin", offset, len(blob)) for blob, offset in zip(BLOBS, OFFSETS, strict=True)]
WHOLE = b"an object of its own"
QUICK = Retry(attempts=1)
PLACES = ("http://127.0.0.1:9/", "s3://bucket/")


def columns_of(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    digests, urls, offsets, lengths = zip(*rows, strict=True)
    return {"sha1": [*digests], "url": [*urls], "offset": [*offsets], "length": [*lengths]}


def as_parquet(path: Path, rows: list[Any], **types: Any) -> None:
    parquet.write_table(pyarrow.table(columns_of(rows)), path, row_group_size=7)


def as_raw_parquet(path: Path, rows: list[Any]) -> None:
    table = columns_of(rows)
    table["sha1"] = pyarrow.array([bytes.fromhex(each) for each in table["sha1"]], pyarrow.binary(20))
    table["url"] = pyarrow.array(table["url"]).dictionary_encode()
    parquet.write_table(pyarrow.table(table), path)


def as_feather(path: Path, rows: list[Any]) -> None:
    feather.write_feather(pyarrow.table(columns_of(rows)), path)


def as_csv(path: Path, rows: list[Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sha1", "url", "offset", "length"])
        writer.writerows((row[0].upper(), *row[1:]) for row in rows)


def as_sqlite(path: Path, rows: list[Any], digest: Callable[[str], Any] = str, index: str = "PRIMARY KEY") -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE refs (sha1 {index}, url TEXT, offset INTEGER, length INTEGER)")
        connection.executemany("INSERT INTO refs VALUES (?, ?, ?, ?)", [(digest(row[0]), *row[1:]) for row in rows])
    connection.close()


def as_blob_sqlite(path: Path, rows: list[Any]) -> None:
    as_sqlite(path, rows, bytes.fromhex)


def as_upper_sqlite(path: Path, rows: list[Any]) -> None:
    as_sqlite(path, rows, str.upper)


def as_table(path: Path, rows: list[Any]) -> None:
    write_references(path, rows, "sha1")


KINDS = [as_parquet, as_raw_parquet, as_feather, as_csv, as_sqlite, as_blob_sqlite, as_upper_sqlite, as_table]


@pytest.fixture
def pack(tmp_path: Path) -> str:
    """The base URL of a folder with the pack and another object."""
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "pack.bin").write_bytes(PACK)
    (folder / "whole").write_bytes(WHOLE)
    return f"file://{folder}/"


@pytest.mark.parametrize("write", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_table_is_a_source(write: Callable[..., None], tmp_path: Path, pack: str) -> None:
    rows = [*ROWS, (sha1(WHOLE), "whole", 0, None), (sha1(b""), "pack.bin", 5, 0)]
    write(tmp_path / "table", rows)
    source = Sha1References(tmp_path / "table", base_url=pack)
    for store in (source, pickle.loads(pickle.dumps(source))):
        found = {blob.uri: blob.data for blob in store.get_many([row[0] for row in rows], errors="raise")}
        assert found == {sha1(blob): blob for blob in [*BLOBS, WHOLE, b""]}
    assert source.get(ROWS[3][0].upper()) == BLOBS[3] == source.get(bytes.fromhex(ROWS[3][0]))  # type: ignore[arg-type]
    assert source.exists(ROWS[0][0]) and not source.exists("0" * 40)
    assert source.reference(ROWS[2][0]) == Reference(*ROWS[2])
    with pytest.raises(NotFoundInStore):
        source.get("0" * 40)
    with pytest.raises(InvalidURI):
        source.get("0" * 39)


@pytest.mark.parametrize("write", [as_parquet, as_sqlite], ids=lambda kind: kind.__name__)
def test_a_source_by_references_keeps_the_store_contract(write: Callable[..., None], tmp_path: Path, pack: str) -> None:
    rows: dict[str, Any] = {}

    def put(digest: str, data: bytes) -> None:
        (tmp_path / "objects" / digest).write_bytes(b"before" + data + b"behind")
        rows[digest] = (digest, f"{pack}{digest}", 6, len(data))
        write(tmp_path / "table", list(rows.values()))

    put(sha1(b"first"), b"first")
    check_store(lambda: Sha1References(tmp_path / "table"), "sha1", put=put,
                unreachable=lambda: Sha1References(tmp_path / "no table"))  # fmt: skip


# --- Parts of objects in every raw store ------------------------------------------------------------------------------


def raw_stores(
    s3: SeaweedS3, public_bucket: str, gcs: FakeGCS, gcs_bucket: str, folder: Path
) -> list[tuple[Any, str, Callable[[bytes], Any]]]:
    def put_s3(data: bytes) -> None:
        s3.put(public_bucket, "o", data)

    def raw(**options: Any) -> S3Raw:
        return S3Raw(s3.admin.session, region="us-east-1", endpoint_url=s3.endpoint_url, **options)

    gs = GSRaw("anonymous", endpoint_url=gcs.url)
    client = s3.client()
    local = obstore.store.LocalStore(folder)
    return [
        (raw(), f"s3://{public_bucket}/o", put_s3),
        (S3Raw(client=client), f"s3://{public_bucket}/o", put_s3),
        (HTTPRaw(), f"{s3.endpoint_url}/{public_bucket}/o", put_s3),
        (gs, f"gs://{gcs_bucket}/o", lambda data: gs.put(f"gs://{gcs_bucket}/o", data)),
        (FileRaw(), f"file://{folder}/o", (folder / "o").write_bytes),
        (FsspecRaw(fsspec.filesystem("file")), f"file://{folder}/o", (folder / "o").write_bytes),
        (ObstoreRaw(local), f"file://{folder}/o", (folder / "o").write_bytes),
    ]


def beyond_end(raw: Any, url: str) -> None:
    if run(raw.range_steps(url, len(PACK) + 3, len(PACK) + 5)) == b"":
        raise StoreNotAvailable(raw, "nothing came: the object ends before")


def test_every_raw_store_reads_a_part_of_an_object(
    s3: SeaweedS3, public_bucket: str, gcs: FakeGCS, gcs_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 1000)
    for raw, url, put in raw_stores(s3, public_bucket, gcs, gcs_bucket, tmp_path):
        assert isinstance(raw, RangesInSteps)
        put(PACK)
        for start, end in ((0, 1), (0, len(PACK)), (17, 1017), (17, 4999), (len(PACK) - 5, len(PACK))):
            assert run(raw.range_steps(url, start, end)) == PACK[start:end], raw
        assert run(raw.range_steps(url, len(PACK) - 1100, len(PACK) + 5000)) == PACK[-1100:], raw
        beyond = outcome(partial(beyond_end, raw, url))
        assert "ends before" in str(beyond), raw
        with pytest.raises(NotFoundInStore):
            run(raw.range_steps(f"{url}-not-there", 0, 5))


def test_a_store_of_the_user_that_has_only_get_is_read_in_parts(tmp_path: Path) -> None:
    class URLs(Shelf):
        def is_valid(self, uri: Any) -> bool:
            return True

    as_csv(tmp_path / "t.csv", [(row[0], "mine://pack", *row[2:]) for row in ROWS])
    source = Sha1References(tmp_path / "t.csv", raw={"mine": URLs({"mine://pack": PACK})})
    assert source.get(ROWS[9][0]) == BLOBS[9]


# --- Requests ---------------------------------------------------------------------------------------------------------


class Bucket:
    """The pack in S3, behind a proxy that sees the requests, and the table of its members."""

    def __init__(self, s3: SeaweedS3, bucket: str, make: MakeProxy, folder: Path) -> None:
        s3.put(bucket, "pack.bin", PACK)
        self.proxy = make(s3.endpoint_url)
        self.url = f"s3://{bucket}/"
        self.raw = S3Raw(s3.admin.session, region="us-east-1", endpoint_url=self.proxy.url, retry=QUICK)
        self.table = folder / "table"
        as_table(self.table, ROWS)

    def source(self, **options: Any) -> Sha1References:
        return Sha1References(self.table, base_url=self.url, raw=self.raw, **options)


@pytest.fixture
def behind(s3: SeaweedS3, bucket: str, fault_proxy: MakeProxy, tmp_path: Path) -> Bucket:
    return Bucket(s3, bucket, fault_proxy, tmp_path)


def test_a_single_lookup_reads_the_blob_and_nothing_else(behind: Bucket) -> None:
    source = behind.source()
    assert source.get(ROWS[5][0]) == BLOBS[5]
    (request,) = behind.proxy.requests
    assert request.headers["range"] == f"bytes={OFFSETS[5]}-{OFFSETS[5] + len(BLOBS[5]) - 1}"
    assert source.exists(ROWS[6][0]) and not source.exists("1" * 40) and len(behind.proxy.requests) == 1


def test_near_parts_of_a_batch_come_by_few_requests(behind: Bucket) -> None:
    digests = [row[0] for row in ROWS]
    RANDOM.shuffle(digests)
    found = list(behind.source().get_many(digests, in_flight=50, errors="raise"))
    assert {blob.data for blob in found} == set(BLOBS)
    together = len(behind.proxy.requests)
    list(behind.source(gap=0, read_ahead=0).get_many(digests, in_flight=50, errors="raise"))
    assert together <= 5 and len(behind.proxy.requests) > together + 40


def test_a_plan_knows_the_requests_for_near_parts_without_a_request(behind: Bucket) -> None:
    behind.raw.price = Price(per_1000_reads="1 USD", egress_per_gb="1 USD")
    digests = [row[0] for row in ROWS]
    for options, least, expected in ({}, 1, 1), ({"gap": 0, "read_ahead": 0}, 50, 50):
        before = len(behind.proxy.requests)
        store = composed(as_source(behind.source(**options), "refs"), as_source(Shelf({}), "shelf"))
        plan = store.plan([*digests, *(sha1(b"%d" % number) for number in range(30))], sample=0)
        assert len(behind.proxy.requests) == before and (tier := plan.tiers[0]).hits == (50, 50, 50)
        assert tier.basis == "its table" and plan.tiers[1].asked == (30, 30, 30)
        assert tier.requests == (least, expected, 50) and tier.bytes is not None and tier.money is not None
        store.budget = Budget()
        list(store.get_many(digests, in_flight=50, errors="raise"))
        spent = store.budget.receipt()["refs"]
        assert len(behind.proxy.requests) - before == spent.requests and spent.money is not None
        assert tier.requests.low <= spent.requests <= tier.requests.high
        assert tier.bytes.low <= spent.bytes <= tier.bytes.high
        cost = float(spent.money.amount)  # each request is rounded up
        assert float(tier.money.low.amount) - 1e-12 <= cost <= float(tier.money.high.amount) + 1e-12


def test_a_plan_says_where_objects_lie_at_several_services(tmp_path: Path, pack: str) -> None:
    rows = [(row[0], f"{place}pack.bin", *row[2:]) for place, row in zip((pack, *PLACES) * 20, ROWS, strict=False)]
    as_table(tmp_path / "t", rows)
    plan = composed(as_source(Sha1References(tmp_path / "t"), "refs")).plan([row[0] for row in rows], sample=0)
    assert plan.tiers[0].hits == (50, 50, 50) and plan.tiers[0].requests == (2, 2, 33) and plan.money is None
    assert plan.notes == ("refs has blobs at several services, and their prices are not in the money",)


def test_a_plan_of_many_parts_counts_the_blocks_that_are_not_kept() -> None:
    far = [Place(None if number == 99 else FileRaw, "u", number << 21, (number << 21) + 10) for number in range(100)]
    assert gathered(far, 0, 1 << 30) == (100, (99, 99, 99), (990, 990, 99 << 20))
    near = [Place(FileRaw, "u", 100 * number, 100 * number + 90) for number in range(100_000)]
    took = gathered(near, 64, 1 << 30)
    assert took.requests == (2, 2, 100_000) and took.bytes is not None and took.bytes.high > took.bytes.expected
    assert 2 < gathered(near, 64, 1 << 22).requests.expected < 100_000  # four of the ten blocks are kept
    assert gathered([*near, Place(FileRaw, "whole", 0, None)], 64, 0).bytes is None


def test_lookups_one_after_another_are_served_from_what_was_read_ahead(behind: Bucket) -> None:
    source = behind.source()
    assert [source.get(row[0]) for row in ROWS] == BLOBS
    assert [request.headers["range"] for request in behind.proxy.requests][1:] == ["bytes=0-1048575"]
    source = behind.source(read_ahead=0)
    assert [source.get(row[0]) for row in ROWS] == BLOBS
    assert len(behind.proxy.requests) == 2 + len(ROWS)


def test_an_object_that_is_gone_through_in_order_is_read_ahead_in_growing_steps(
    behind: Bucket, s3: SeaweedS3, tmp_path: Path
) -> None:
    size, count = 40_000, 500  # 20 MB
    data = RANDOM.randbytes(size * count)
    s3.put(behind.url[5:-1], "large.bin", data)
    parts_of = [data[at : at + size] for at in range(0, len(data), size)]
    as_table(
        tmp_path / "t", [(sha1(part), f"{behind.url}large.bin", at * size, size) for at, part in enumerate(parts_of)]
    )
    digests = [sha1(part) for part in parts_of]
    for batch in (False, True):
        before = len(behind.proxy.requests)
        source = Sha1References(tmp_path / "t", raw=behind.raw)
        found = source.get_many(digests, errors="raise", ordered=True) if batch else ()
        assert ([blob.data for blob in found] or [source.get(digest) for digest in digests]) == parts_of
        asked = [request.headers["range"].removeprefix("bytes=") for request in behind.proxy.requests[before:]]
        assert len(asked) <= 20
        ends = [tuple(map(int, each.split("-"))) for each in asked]
        assert max(end - start for start, end in ends) >= 4 << 20
        assert sum(min(end, len(data)) - start for start, end in ends) < 1.2 * len(data)


def test_a_lookup_whose_time_is_up_while_it_reads_ahead_has_its_part(tmp_path: Path) -> None:
    class Slow(Shelf):
        def is_valid(self, uri: Any) -> bool:
            return True

        def range_steps(self, uri: Any, start: int, end: int) -> Steps[bytes]:
            if start >= 2 << 20:
                yield Wait(Event())  # for ever
            yield from ()
            return bytes(end - start)

    gather = Gather(0, 64 << 20)
    raw = Slow()
    for at in (0, 10, (1 << 20) + 5):
        assert run(gather.read(raw, "x://o", at, at + 5), timeout=0.2) == bytes(5)
    assert run(gather.read(raw, "x://o", (1 << 20) + 50, (1 << 20) + 55), timeout=0.2) == bytes(5)


def test_bytes_that_were_read_ahead_and_do_not_match_are_read_again(behind: Bucket, s3: SeaweedS3) -> None:
    source = behind.source()
    bucket = behind.url[5:-1]
    s3.put(bucket, "pack.bin", bytes(len(PACK)))
    for row in ROWS[:3]:
        with pytest.raises(InvalidDataFound):
            source.get(row[0])
    s3.put(bucket, "pack.bin", PACK)
    assert [source.get(row[0]) for row in ROWS[:3]] == BLOBS[:3]


def test_memory_of_what_is_read_ahead_is_bounded(tmp_path: Path) -> None:
    blobs = [RANDOM.randbytes(300_000) for _ in range(20)]  # some lie in two blocks
    (tmp_path / "o").write_bytes(b"".join(blobs))
    as_table(
        tmp_path / "t", [(sha1(blob), f"file://{tmp_path}/o", 300_000 * at, 300_000) for at, blob in enumerate(blobs)]
    )
    gather = Gather(0, 3 << 20)
    raw, url = FileRaw(), f"file://{tmp_path}/o"
    for _ in range(3):
        for at in RANDOM.sample(range(20), 20):
            assert run(gather.read(raw, url, 300_000 * at, 300_000 * at + 300_000)) == blobs[at]
    assert 0 < gather.held <= 3 << 20
    gather.forget(raw, url)
    assert gather.held == 0


@pytest.mark.parametrize("action", [Answer(503), s3_error(403, "AccessDenied")], ids=["outage", "refusal"])
def test_a_failed_request_is_a_failure_of_each_of_its_lookups(behind: Bucket, action: Any) -> None:
    behind.proxy.rules.add(action)
    found = list(behind.source().get_many([row[0] for row in ROWS], in_flight=50, patience=0))
    errors = [blob.error for blob in found]
    assert all(isinstance(error, StoreNotAvailable) and not isinstance(error, NotFoundInStore) for error in errors)
    assert len({id(error) for error in errors}) == len(ROWS)


@pytest.mark.parametrize("steps_before", [1, 2])
def test_lookups_go_on_where_the_one_that_reads_for_them_is_given_up(steps_before: int, tmp_path: Path) -> None:
    (tmp_path / "o").write_bytes(PACK)

    class Slow(FileRaw):
        def range_steps(self, uri: Any, start: int, end: int) -> Steps[bytes]:
            yield Sleep(0.0)
            return (yield from super().range_steps(uri, start, end))

    gather, raw, url = Gather(64, 0), Slow(), f"file://{tmp_path}/o"
    leader, waiting = gather.read(raw, url, 0, 5), gather.read(raw, url, 7, 20)
    assert isinstance(next(leader), Sleep)
    step = next(waiting)
    for _ in range(steps_before - 1):
        assert isinstance(leader.send(None), Sleep)
    leader.close()
    assert isinstance(step, Wait) and cast("Event", step.event).landed
    assert run(waiting) == PACK[7:20]


# --- Wrong tables, and wrong objects ----------------------------------------------------------------------------------


def of(source: Store, digest: str) -> Exception:
    with pytest.raises((NotFoundInStore, StoreNotAvailable)) as caught:
        source.get(digest)
    (blob,) = source.get_many([digest], patience=0)
    assert type(blob.error) is type(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    error: Exception = caught.value
    return error


@pytest.mark.parametrize(
    ("row", "kind", "told"),
    [
        (("pack.bin", 31, 100), InvalidDataFound, "its bytes"),
        (("pack.bin", len(PACK) - 5, 100), StoreNotAvailable, "ends at byte"),
        (("pack.bin", len(PACK) + 5, 100), StoreNotAvailable, "ends at byte"),
        (("gone.bin", 0, 100), StoreNotAvailable, "there is nothing"),
        (("gone.bin", 0, None), StoreNotAvailable, "there is nothing"),
        (("hdfs://name/gone", 0, 10), StoreNotAvailable, "no store for hdfs:// URLs"),
        (("file://host/x", 0, 10), StoreNotAvailable, "no URL of its store"),
    ],
)
def test_a_wrong_row_is_no_absence(row: Any, kind: type[Exception], told: str, tmp_path: Path, pack: str) -> None:
    digest = sha1(BLOBS[0])
    as_table(tmp_path / "table", [(digest, *row)])
    error = of(Sha1References(tmp_path / "table", base_url=pack), digest)
    assert type(error) is kind and told in str(error)


def test_objects_that_are_gone_are_failures_on_every_server(
    s3: SeaweedS3, public_bucket: str, gcs: FakeGCS, gcs_bucket: str, tmp_path: Path
) -> None:
    for raw, url, _ in raw_stores(s3, public_bucket, gcs, gcs_bucket, tmp_path):
        as_table(tmp_path / "table", [(ROWS[0][0], f"{url}-gone", 5, 6)])
        error = of(Sha1References(tmp_path / "table", raw=raw), ROWS[0][0])
        assert isinstance(error, StoreNotAvailable) and "there is nothing" in str(error)


def test_a_server_without_ranges_is_a_failure() -> None:
    with WebFolder() as server:
        server.files["/pack.bin"] = PACK
        raw = HTTPRaw(retry=QUICK)
        with pytest.raises(StoreNotAvailable, match="knows no ranges"):
            run(raw.range_steps(f"{server.url}/pack.bin", 100, 200))
        server.files["/pack.bin"] = PACK[:150]
        assert run(raw.range_steps(f"{server.url}/pack.bin", 0, 150)) == PACK[:150]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ({"Content-Range": "bytes 0-99/5000"}, PACK[:100]),
        ({"Content-Range": "bytes 100-198/5000"}, PACK[100:200]),
        ({}, PACK[100:200]),
        ({"Content-Range": "bytes 100-249/5000"}, PACK[100:250]),
    ],
)
def test_a_server_that_answers_with_another_range_is_a_failure(behind: Bucket, head: Any, body: bytes) -> None:
    behind.proxy.rules.add(Answer(206, body, head))
    with pytest.raises(StoreNotAvailable):
        run(behind.raw.range_steps(f"{behind.url}pack.bin", 100, 200))


def broken(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("write", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "change",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:20] + b"\xff" * (len(data) - 20)],
    ids=["cut", "empty", "overwritten"],
)
def test_a_damaged_table_is_a_failure_and_never_an_absence(
    write: Callable[..., None], change: Callable[[bytes], bytes], tmp_path: Path, pack: str
) -> None:
    write(tmp_path / "table", ROWS)
    if write is as_csv and len(change(b"12345678")) == 4:  # a text that is cut within its last number looks whole
        change = lambda data: data[: data.rindex(b",pack")]  # noqa: E731
    broken(tmp_path / "table", change)
    error = of(Sha1References(tmp_path / "table", base_url=pack), "0" * 40)
    assert isinstance(error, StoreNotAvailable) and "table" in str(error) and error.definite


def test_each_damaged_byte_of_a_compiled_table_is_noticed(tmp_path: Path) -> None:
    as_table(tmp_path / "table", ROWS)
    good = (tmp_path / "table").read_bytes()
    digests = [row[0] for row in ROWS]
    for at in [*range(60), *range(16384 + 4096, len(good), 37)]:
        (tmp_path / "table").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(DamagedReferences):
            list(map(ReferenceTable(tmp_path / "table").find, digests))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha1": [None, "zz" * 20]}, "row 1: 'zz"),
        ({"sha1": ["0" * 39, "0" * 40]}, "row 0: '0{39}' is no digest of sha1"),
        ({"url": ["x", None]}, "row 1: it has a digest and no URL"),
        ({"url": ["x", ""]}, "row 1: it has a digest and no URL"),
        ({"offset": [0, -1]}, "row 1: the offset is -1"),
        ({"length": [1, None]}, "row 1: it has an offset and no length"),
        ({"offset": ["a", "b"]}, "expected whole numbers"),
        ({"sha1": [1, 2]}, "expected text or bytes"),
        ({"url": [1, 2]}, "expected text"),
        ({"sha1": None, "sha_1": ["0" * 40, "1" * 40]}, "no column named 'sha1' or 'digest'"),
        ({"length": None}, "has offsets .* and no lengths"),
    ],
)
def test_a_bad_row_is_named_when_the_table_is_compiled(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    rows: dict[str, Any] = {"sha1": ["0" * 40, "1" * 40], "url": ["x", "y"], "offset": [0, 5], "length": [1, 2]}
    table = {name: values for name, values in {**rows, **change}.items() if values is not None}
    parquet.write_table(pyarrow.table(table), tmp_path / "table")
    with pytest.raises(StoreNotAvailable, match=told):
        Sha1References(tmp_path / "table").get("2" * 40)


def test_names_of_columns_are_given_or_guessed(tmp_path: Path, pack: str) -> None:
    table = columns_of(ROWS)
    renamed = {"Hash": table["sha1"], "where": table["url"], "start": table["offset"], "nbytes": table["length"]}
    parquet.write_table(pyarrow.table(renamed), tmp_path / "table")
    source = Sha1References(tmp_path / "table", base_url=pack, columns={"url": "where"})
    assert source.get(ROWS[1][0]) == BLOBS[1]
    with pytest.raises(StoreNotAvailable, match=r"no column 'wher' .did you mean 'where'"):
        Sha1References(tmp_path / "table", columns={"url": "wher"}).get(ROWS[1][0])
    with pytest.raises(ValueError, match="'uri' is none of digest, url, offset, length"):
        Sha1References(tmp_path / "table", columns={"uri": "x"})


def test_a_table_without_offsets_names_whole_objects(tmp_path: Path, pack: str) -> None:
    parquet.write_table(pyarrow.table({"digest": [sha1(WHOLE)], "path": ["whole"], "size": [3]}), tmp_path / "table")
    assert Sha1References(tmp_path / "table", base_url=pack).get(sha1(WHOLE)) == WHOLE


def test_a_table_that_has_changed_is_compiled_again(tmp_path: Path, pack: str) -> None:
    as_parquet(tmp_path / "table", ROWS[:5])
    assert not Sha1References(tmp_path / "table", base_url=pack).exists(ROWS[7][0])
    as_parquet(tmp_path / "table", ROWS)
    assert Sha1References(tmp_path / "table", base_url=pack).exists(ROWS[7][0])
    before = (tmp_path / "table.bitrefs").stat().st_mtime_ns
    assert Sha1References(tmp_path / "table", base_url=pack).exists(ROWS[7][0])
    assert (tmp_path / "table.bitrefs").stat().st_mtime_ns == before
    (tmp_path / "other").mkdir()
    Sha1References(tmp_path / "table", compiled=tmp_path / "other" / "sorted").exists(ROWS[7][0])
    assert len(ReferenceTable(tmp_path / "other" / "sorted")) == len(ROWS)
    with pytest.raises(StoreNotAvailable, match=r"cannot be written .*\(compiled\)"):
        Sha1References(tmp_path / "table", compiled=tmp_path / "no folder" / "sorted").exists(ROWS[7][0])


def test_a_table_waits_for_another_process_that_compiles_it_with_a_limit(
    tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_LOCK_SECONDS", 0.05)
    as_parquet(tmp_path / "table", ROWS)
    source = Sha1References(tmp_path / "table", base_url=pack)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    lock = f"{tmp_path / 'table'}.bitrefs.lock"
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold, lock], **pipes) as other:
        assert other.stdout is not None and other.stdout.readline()
        error = of(source, ROWS[7][0])
        assert isinstance(error, StoreNotAvailable) and not error.definite
        assert f"cannot be read yet: another process has held the lock of {lock} for 0.05 seconds" in str(error)
        other.communicate(b"\n")
    assert source.get(ROWS[7][0]) == BLOBS[7]


def test_a_table_with_digests_of_two_algorithms_serves_the_classes_of_both(tmp_path: Path, pack: str) -> None:
    table = columns_of(ROWS)
    table["sha256"] = [hashlib.sha256(blob).hexdigest() for blob in BLOBS]
    parquet.write_table(pyarrow.table(table), tmp_path / "table")
    for _ in range(2):
        assert Sha1References(tmp_path / "table", base_url=pack).get(table["sha1"][3]) == BLOBS[3]
        assert Sha256References(tmp_path / "table", base_url=pack).get(table["sha256"][3]) == BLOBS[3]


def test_a_sqlite_table_without_an_index_is_refused(tmp_path: Path) -> None:
    as_sqlite(tmp_path / "table", ROWS, index="TEXT")
    with pytest.raises(StoreNotAvailable, match="CREATE INDEX by_digest ON"):
        Sha1References(tmp_path / "table").get(ROWS[0][0])
    with sqlite3.connect(tmp_path / "table") as connection:
        connection.execute("CREATE INDEX by_digest ON refs (sha1)")
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(StoreNotAvailable, match="has 2 tables"):
        Sha1References(tmp_path / "table").exists(ROWS[0][0])
    assert Sha1References(tmp_path / "table", sql_table="refs").exists(ROWS[0][0])
    with pytest.raises(StoreNotAvailable, match="no table 'ref'"):
        Sha1References(tmp_path / "table", sql_table="ref").exists(ROWS[0][0])


def test_rows_written_into_a_sqlite_table_are_seen(tmp_path: Path, pack: str) -> None:
    as_sqlite(tmp_path / "table", ROWS[:1])
    source = Sha1References(tmp_path / "table", base_url=pack)
    assert not source.exists(ROWS[1][0])
    with sqlite3.connect(tmp_path / "table") as connection:
        connection.execute("INSERT INTO refs VALUES (?, ?, ?, ?)", ROWS[1])
    assert source.get(ROWS[1][0]) == BLOBS[1]
    with sqlite3.connect(tmp_path / "table") as connection:
        connection.execute("INSERT INTO refs VALUES (?, ?, ?, ?)", ("2" * 40, "x", "far", 1))
    with pytest.raises(StoreNotAvailable, match="is no reference: the offset is 'far'"):
        source.get("2" * 40)


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    as_table(tmp_path / "table", ROWS)
    for options, told in (
        ({"raw": {"s3://": S3Raw()}}, "no scheme"), ({"base_url": "/data"}, "no URL"), ({"gap": "much"}, "gap"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            Sha1References(tmp_path / "table", **options)
    with pytest.raises(TypeError, match="expected a store"):
        Sha1References(tmp_path / "table", raw={"s3": "bucket"})  # type: ignore[dict-item]
    with pytest.raises(StoreNotAvailable, match="are sha1, and not md5"):
        Md5References(tmp_path / "table").get("0" * 32)
    with pytest.raises(StoreNotAvailable, match="relative"):
        Sha1References(tmp_path / "table").get(ROWS[0][0])
    with pytest.raises(ValueError, match="reference 0: 'x' is no digest of md5"):
        write_references(tmp_path / "table", [("x", "y")], "md5")


def test_a_signature_in_a_url_of_the_table_is_never_shown(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/pack?X-Amz-Signature=s3cr3t"
    as_table(tmp_path / "table", [(ROWS[0][0], url, 0, 5)])
    source = Sha1References(tmp_path / "table", raw=HTTPRaw(retry=QUICK))
    assert "s3cr3t" not in f"{of(source, ROWS[0][0])!r} {source!r} {source.outline()}"
    location = Sha1Composite()
    location.append_source(source)
    assert "s3cr3t" not in repr(location.locate(ROWS[0][0]))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("cache = true", "cache = true excludes references"),
        ('compression = "gzip"', "compression excludes references"),
        ('references = { table = "" }', "references.table is empty"),
        ('references = { table = "x", tabel = "y" }', "unknown key 'references.tabel' .did you mean 'table'"),
        ('references = { table = "x", columns = { uri = "y" } }', "'uri' is none of"),
        ('references = { table = "x", gap = "y" }', "gap"),
    ],
)
def test_a_file_says_where_a_table_is(lines: str, told: str, tmp_path: Path, pack: str) -> None:
    as_parquet(tmp_path / "table", ROWS)
    text = f'algorithm = "sha1"\n[[tier]]\nname = "a"\nurl = "{pack}"\n'
    references = 'references = { table = "table", columns = { digest = "sha1" } }'

    def load(text: str) -> Any:
        (tmp_path / "bitstore.toml").write_text(text)
        return config.load(tmp_path / "bitstore.toml")

    store = load(text + references)
    assert store.get(ROWS[4][0]) == BLOBS[4] and not store.exists("0" * 40)
    with pytest.raises(config.ConfigError, match=told):
        load(text + (lines if "references" in lines else f"{lines}\n{references}"))
    with pytest.raises(config.ConfigError, match="Git LFS server"):
        load(f"{text}{references}".replace("sha1", "sha256").replace(pack, "lfs+https://h/r.git/info/lfs/"))
    with pytest.raises(config.ConfigError, match="no key template"):
        load(text.replace(pack, pack + "{digest}") + references)


# --- Archives ---------------------------------------------------------------------------------------------------------


def a_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for blob in BLOBS:
            member = tarfile.TarInfo(f"long/{'n' * 120}/{sha1(blob)}.bin")
            member.size = len(blob)
            tar.addfile(member, io.BytesIO(blob))


def a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, blob in enumerate(BLOBS):
            archive.writestr(f"{sha1(blob)}", blob, zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED)


def records() -> list[bytes]:
    made = [b"WARC/1.1\r\nWARC-Type: warcinfo\r\nContent-Length: 4\r\n\r\ninfo\r\n\r\n"]
    for number, blob in enumerate(BLOBS):
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(blob), blob)
        coding, body = (b"Transfer-Encoding: chunked\r\n", chunked) if number % 2 else (b"", blob)
        block = b"HTTP/1.1 200 OK\r\n" + coding + b"Content-Type: x/y\r\n\r\n" + body
        named = base64.b32encode(bytes.fromhex(sha1(blob)))
        head = b"WARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\n"
        head += b"WARC-Payload-Digest: sha1:%b\r\nContent-Length: %d\r\n" % (named, len(block))
        made.append(b"WARC/1.1\r\n" + head + b"\r\n" + block + b"\r\n\r\n")
    return made


def a_warc(path: Path) -> None:
    path.write_bytes(b"".join(records()))


def a_compressed_warc(path: Path) -> None:
    path.write_bytes(b"".join(map(gzip.compress, records())))


@pytest.mark.parametrize("write", [a_tar, a_zip, a_warc, a_compressed_warc], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("named", [False, True])
def test_the_members_of_an_archive_are_a_source(write: Callable[[Path], None], named: bool, tmp_path: Path) -> None:
    write(tmp_path / "archive")
    if named and "warc" in write.__name__:
        with pytest.raises(ValueError, match="have no names"):
            list(archive_members(tmp_path / "archive", "sha1", named=True))
        return
    write_references(tmp_path / "table", archive_members(tmp_path / "archive", "sha1", named=named), "sha1")
    source = Sha1References(tmp_path / "table", base_url=f"file://{tmp_path}/")
    found = source.get_many(map(sha1, BLOBS), errors="raise", ordered=True)
    assert [blob.data for blob in found] == BLOBS


def test_a_cut_archive_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    for write in (a_tar, a_zip, a_warc, a_compressed_warc):
        write(path)
        broken(path, lambda data: data[: len(data) * 2 // 3])
        with pytest.raises(ValueError, match=str(path)):
            list(archive_members(path, "sha1"))
    for data in (b"", b"x" * 1000, gzip.compress(PACK), zlib.compress(PACK)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="neither a tar"):
            list(archive_members(path, "sha1"))


def test_compressed_parts_are_expanded_where_that_matches(tmp_path: Path) -> None:
    blob = b"text " * 100
    packed = gzip.compress(blob)
    (tmp_path / "o").write_bytes(b"..." + packed + b"...")
    write_references(tmp_path / "t", [(sha1(blob), f"file://{tmp_path}/o", 3, len(packed))], "sha1")
    assert Sha1References(tmp_path / "t").get(sha1(blob)) == blob
    assert Sha1References(tmp_path / "t", verify=False).get(sha1(blob)) == packed
    with pytest.raises(InvalidDataFound):
        Sha1References(tmp_path / "t", max_blob_size=100).get(sha1(blob))


def test_many_references_are_found_and_others_are_not(tmp_path: Path) -> None:
    digests = [RANDOM.randbytes(32).hex() for _ in range(20_000)]
    digests += [("00" * 31) + f"{number:02x}" for number in range(200)]  # not uniform at all
    rows = [Reference(digest, f"s3://b/{number % 100}", number, 7) for number, digest in enumerate(digests)]
    assert write_references(tmp_path / "table", rows, "sha256", source="made up") == len(rows)
    with ReferenceTable(tmp_path / "table") as table:
        for asked in (1000, 4000, 1000):  # the beginnings of digests are marked after 2,500 that are not there
            assert [table.find(row.digest) for row in rows] == rows
            assert not any(RANDOM.randbytes(32) in table for _ in range(asked))
            assert not any(f"{int(digest, 16) ^ 1:064x}" in table for digest in digests[:500])
        assert table._marks is not None
        assert len(table) == len(rows) and sorted(table) == sorted(rows)
    assert Sha256References(tmp_path / "table").exists(digests[0])


def test_compiling_a_large_table_keeps_the_first_place_of_each_digest(tmp_path: Path) -> None:
    digests = [RANDOM.randbytes(20).hex() for _ in range(5000)]
    rows = [(digest, f"file:///{number}", number, 7) for number, digest in enumerate(digests * 2)]
    as_parquet(tmp_path / "table", rows)
    source = Sha1References(tmp_path / "table")
    assert [source.reference(digest) for digest in digests] == [Reference(*row) for row in rows[:5000]]
