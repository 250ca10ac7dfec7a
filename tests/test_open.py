"""Blobs as open files: parts of one version where the tier can, the file itself from the disk cache, else the whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    InvalidURI,
    LookupFailed,
    MemoryCache,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1Store,
    Store,
    StoreNotAvailable,
)
from bitstore._raw import parts
from bitstore.steps import Call, Found, Steps, Wait
from tests.scripted_server import Asked, Reply, ScriptedServer
from tests.servers import CountedAPI, FakeGCS, FaultProxy, MakeProxy, SeaweedS3
from tests.servers.faults import Answer, Reset, s3_error
from tests.stores import API, Box, Shelf, sha1

BLOB = random.Random(14).randbytes(3_000_001)
SHA1 = sha1(BLOB)
QUICK = Retry(attempts=3, first_delay=0.01)


class Ranges:
    """A large blob in S3 below a proxy that counts."""

    def __init__(self, s3: SeaweedS3, proxy: FaultProxy, bucket: str) -> None:
        self.s3, self.proxy, self.bucket = s3, proxy, bucket
        self.put(BLOB)

    def put(self, data: bytes, digest: str = SHA1) -> None:
        self.s3.put(self.bucket, f"o/{digest}", data)

    def delete(self) -> None:
        self.s3.client().delete_object(Bucket=self.bucket, Key=f"o/{SHA1}")

    def store(self, **options: Any) -> Sha1Store:
        raw = S3Raw(self.s3.admin.session, region="us-east-1", endpoint_url=self.proxy.url, retry=QUICK)
        return Sha1Store(raw, f"s3://{self.bucket}/o/", **options)

    @property
    def asked(self) -> list[str]:
        return [request.headers.get("range", "") for request in self.proxy.requests]


@pytest.fixture
def ranges(s3: SeaweedS3, public_bucket: str, fault_proxy: MakeProxy) -> Ranges:
    return Ranges(s3, fault_proxy(s3.endpoint_url), public_bucket)


def composite(*sources: Store, cache: Store | None = None) -> Sha1Composite:
    store = Sha1Composite()
    if cache is not None:
        store.append_cache(cache, name="cache")
    for source in sources:
        store.append_source(source)
    return store


def reads_like_a_file(file: Any, data: bytes) -> None:
    model = io.BytesIO(data)
    assert file.readable() and file.seekable() and not file.closed
    for seek in ((0, 2), (-10, 2), (5, 0), (1_500_000, 0), (len(data) + 5, 0), (0, 0), (7, 1)):
        assert file.seek(*seek) == model.seek(*seek)
        assert file.read(100_000) == model.read(100_000) and file.tell() == model.tell()
    assert file.readline() == model.readline() and file.read() == model.read() and file.read() == b""
    file.seek(0)
    assert file.read() == data
    with pytest.raises((ValueError, OSError), match=r"negative|Invalid argument"), file:
        file.seek(-1)
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_a_file_of_any_store_reads_like_a_file(
    ranges: Ranges, gcs: FakeGCS, gcs_bucket: str, api: CountedAPI, tmp_path: Path
) -> None:
    gcs.put(gcs_bucket, SHA1, BLOB)
    api.blobs = {SHA1: BLOB}
    (tmp_path / SHA1).write_bytes(BLOB)
    cache, memory = DiskCache(tmp_path / "cache", algorithm="sha1"), MemoryCache()
    packed = Sha1Store(FileRaw(), f"file://{tmp_path}/{{digest}}.gz", compression="gzip")
    for kept in (cache, memory, packed):
        kept.put(SHA1, BLOB)
    for store in (
        ranges.store(),
        ranges.store(verify=True),
        composite(ranges.store()),
        composite(Shelf(), composite(ranges.store(verify=True))),
        Sha1Store(GSRaw("anonymous", endpoint_url=gcs.url), f"gs://{gcs_bucket}/"),
        Sha1Store(HTTPRaw(), f"{ranges.proxy.url}/{ranges.bucket}/o/"),
        Sha1Store(HTTPRaw(), api.blob_url("")),  # a server without ranges
        Sha1Store(FileRaw(), f"file://{tmp_path}/"),
        packed,
        cache,
        memory,
        composite(Shelf({SHA1: BLOB})),
    ):
        reads_like_a_file(store.open(SHA1), BLOB)
        with pytest.raises(NotFoundInStore):
            store.open("0" * 40)
        if not isinstance(store, (DiskCache, MemoryCache)):
            with pytest.raises(InvalidURI):
                store.open("no digest")


def test_only_the_parts_that_are_read_are_fetched(ranges: Ranges, monkeypatch: pytest.MonkeyPatch) -> None:
    with ranges.store().open(SHA1) as file:
        assert file.read(4) == BLOB[:4] and file.seek(-8, os.SEEK_END) and file.read() == BLOB[-8:]
    assert ranges.asked == ["bytes=0-65535", f"bytes={len(BLOB) - 8}-{len(BLOB) - 1}"]
    assert ["if-match" in request.headers for request in ranges.proxy.requests] == [False, True]
    monkeypatch.setattr(parts, "PART_BYTES", 1_000_000)  # a long read is made of several ranges at once
    ranges.proxy.clear()
    with ranges.store().open(SHA1) as file:
        file.seek(100)
        assert file.read() == BLOB[100:]
    assert len(ranges.asked) == 4


def test_a_verifying_tier_gives_no_part_unless_asked_to(ranges: Ranges, tmp_path: Path) -> None:
    wrong = bytes([BLOB[0] ^ 1]) + BLOB[1:]
    ranges.put(wrong)
    trusting, careful = ranges.store(), ranges.store(verify=True)
    assert trusting.open(SHA1).read() == careful.open(SHA1, verify=False).read() == wrong
    for store in (trusting, careful):
        with pytest.raises(InvalidDataFound):
            store.open(SHA1, verify=True)
    with pytest.raises(InvalidDataFound):
        careful.open(SHA1)
    cache = MemoryCache()
    cache.put(SHA1, wrong)
    for chain in (
        composite(careful),
        composite(composite(careful)),
        composite(trusting),
        composite(composite(trusting)),
        composite(Shelf({SHA1: wrong})),
        composite(API({SHA1: wrong})),
        composite(trusting, cache=cache),
        composite(trusting, cache=DiskCache(tmp_path / "cache")),
    ):
        with pytest.raises(LookupFailed, match=SHA1):
            chain.open(SHA1, verify=True)
    assert composite(trusting).open(SHA1).read(3) == composite(careful).open(SHA1, verify=False).read(3) == wrong[:3]


def test_wrong_bytes_in_a_cache_are_replaced(tmp_path: Path) -> None:
    cache = MemoryCache()
    cache.put(SHA1, b"wrong")
    store = composite(Shelf({SHA1: BLOB}), cache=cache)
    assert store.open(SHA1).read() == b"wrong"  # as `get` would say: nothing here verifies
    assert store.open(SHA1, verify=True).read() == BLOB == cache.get(SHA1)
    disk = DiskCache(tmp_path / "cache", algorithm="sha1")
    disk.put(SHA1, b"wrong")
    assert composite(Shelf({SHA1: BLOB}), cache=disk).open(SHA1, verify=True).read() == BLOB == disk.get(SHA1)


def test_a_file_that_never_matched_is_closed_and_replaced(tmp_path: Path) -> None:
    (tmp_path / SHA1).write_bytes(BLOB)
    disk = DiskCache(tmp_path / "cache", algorithm="sha1")
    disk.put(SHA1, b"wrong")
    store = composite(Sha1Store(FileRaw(), f"file://{tmp_path}/", verify=True), cache=disk)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always", ResourceWarning)
        assert store.open(SHA1).read() == BLOB == disk.get(SHA1)
    assert given == []


def test_parts_are_not_kept_and_whole_blobs_are(ranges: Ranges, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    ranged = composite(ranges.store(verify=True), cache=cache)
    assert ranged.open(SHA1, verify=False).read(5) == BLOB[:5] and not cache.exists(SHA1)
    assert ranged.stats()["cache"].write_failures == 0
    assert ranged.open(SHA1).read(5) == BLOB[:5] and cache.exists(SHA1)
    small = b"small"
    ranges.put(small, sha1(small))
    assert ranged.open(sha1(small), verify=False).read() == small and cache.get(sha1(small)) == small


def test_open_gives_the_file_itself_of_a_disk_cache(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    store = composite(Shelf({SHA1: BLOB}), cache=cache)
    store.get(SHA1)
    with store.open(f"sha1://{SHA1.upper()}") as file:
        assert os.path.samestat(os.fstat(file.fileno()), cache.path(SHA1).stat())
        cache.clear()
        assert file.read() == BLOB  # although it was evicted
    store.get(SHA1)
    cache.path(SHA1).write_bytes(b"damaged")
    assert store.open(SHA1).read() == BLOB == cache.get(SHA1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda case: case.put(bytes(len(BLOB))), "replaced while it was read"),
        (lambda case: case.put(BLOB[:-1]), "replaced while it was read"),
        (lambda case: case.put(b""), "replaced while it was read"),
        (lambda case: case.delete(), "deleted while it was read"),
        (lambda case: case.proxy.rules.add(s3_error(403, "AccessDenied")), "AccessDenied"),
        (lambda case: case.proxy.rules.add(s3_error(500, "InternalError")), "InternalError"),
        (lambda case: case.proxy.rules.add(Answer(206, b"12", {"Content-Range": "bytes 0-1/2"})), "replaced while"),
    ],
)
def test_a_change_while_it_is_read_is_a_failure(ranges: Ranges, change: Any, match: str) -> None:
    for store in (ranges.store(), composite(ranges.store())):
        ranges.put(BLOB)
        ranges.proxy.rules.clear()
        with store.open(SHA1) as file:
            assert file.read(10) == BLOB[:10]
            file.seek(2_000_000)
            change(ranges)
            with pytest.raises(StoreNotAvailable, match=match):
                file.read(10)


def test_a_passing_fault_is_tried_again(ranges: Ranges) -> None:
    with ranges.store().open(SHA1) as file:
        ranges.proxy.rules.add(Reset(), times=1)
        file.seek(2_000_000)
        assert file.read(10) == BLOB[2_000_000:2_000_010]


def test_a_file_of_a_folder_that_changes_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / SHA1
    changes: list[Callable[[], object]] = [
        lambda: path.write_bytes(BLOB[:100]),
        lambda: os.truncate(path, 2_000_000),
        lambda: os.utime(path),
    ]
    reads: list[Callable[[Any], object]] = [
        lambda file: file.read(10),
        lambda file: file.read(),
        lambda file: file.readinto(bytearray(9)),
    ]
    path.write_bytes(BLOB)
    for change in changes:
        for read in reads:
            os.utime(path, ns=(1, 1))
            with Sha1Store(FileRaw(), f"file://{tmp_path}/").open(SHA1) as file:
                assert file.fileno() and file.read(10) == BLOB[:10]
                file.seek(2_500_000)
                change()
                with pytest.raises(StoreNotAvailable, match="changed while it was read"):
                    read(file)
                path.write_bytes(BLOB)


def test_bodies_that_a_server_has_packed_come_whole(tmp_path: Path) -> None:
    body = gzip.compress(BLOB)

    def answer(asked: Asked) -> Reply:
        start, end = asked.headers.get("range", "bytes=0-9999999")[6:].split("-")
        part = body[int(start) : int(end) + 1]
        extent = {"ETag": '"1"', "Content-Range": f"bytes {start}-{int(start) + len(part) - 1}/{len(body)}"}
        return (206, extent, part) if "range" in asked.headers else (200, {"ETag": '"1"'}, body)

    with ScriptedServer(answer) as server:
        assert Sha1Store(HTTPRaw(), f"{server.url}/").open(SHA1).read() == BLOB
        assert HTTPRaw().open(f"{server.url}/k").read() == body


@pytest.mark.parametrize("etag", [{}, {"ETag": 'W/"1"'}])
def test_a_server_whose_versions_cannot_be_told_gives_the_whole(etag: dict[str, str]) -> None:
    def answer(asked: Asked) -> Reply:
        if "range" not in asked.headers:
            return 200, etag, BLOB
        return 206, {**etag, "Content-Range": f"bytes 0-65535/{len(BLOB)}"}, BLOB[:65536]

    with ScriptedServer(answer) as server:
        assert Sha1Store(HTTPRaw(), f"{server.url}/").open(SHA1).read() == BLOB
        assert [asked.headers.get("range") for asked in server.seen] == ["bytes=0-65535", None]


def test_limits_and_options_of_a_store_hold(ranges: Ranges) -> None:
    raw: Any = ranges.store().base_store
    url = f"s3://{ranges.bucket}/o/{SHA1}"
    raw.max_blob_size = "1MB"
    with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
        raw.open(url)
    raw.max_blob_size, raw.range_threshold = None, None
    ranges.proxy.clear()
    assert raw.open(url).read() == BLOB and ranges.asked == [""]
    assert S3Raw(client=ranges.s3.client()).open(url).read() == BLOB
    with pytest.raises(StoreNotAvailable, match="no bucket"):
        raw.open(f"s3://no-such-bucket-here/{SHA1}")
    with pytest.raises(ValueError, match="timeout"):
        raw.open(url, timeout=-1)


def test_open_gives_an_empty_file_for_an_empty_blob(ranges: Ranges, tmp_path: Path) -> None:
    empty = sha1(b"")
    ranges.put(b"", empty)
    (tmp_path / empty).write_bytes(b"")
    for store in (ranges.store(), Sha1Store(FileRaw(), f"file://{tmp_path}/"), composite(ranges.store(verify=True))):
        assert store.open(empty).read() == b""


def test_a_store_of_a_user_opens_in_its_own_way() -> None:
    files: list[Any] = []

    class Opens(Shelf):
        def open_steps(self, uri: str, verify: bool | None) -> Steps[Found]:
            yield from ()
            files.append(io.BytesIO(self.held[uri]))
            return Found(files[-1], self.label)

    class Plain(Opens):
        def get(self, uri: str) -> bytes:
            return b"by get"

    store = Opens({SHA1: BLOB})
    assert store.open(SHA1) is files[0] and composite(store).open(SHA1) is files[1]
    assert composite(store, cache=MemoryCache()).open(SHA1, verify=True).read() == BLOB
    with pytest.raises(LookupFailed):
        composite(Opens({SHA1: b"wrong"})).open(SHA1, verify=True)
    assert files[-1].closed
    assert Plain({SHA1: BLOB}).open(SHA1).read() == b"by get"
    with pytest.raises(TypeError, match="only bytes can be opened"):
        Shelf({"key": {}}).open("key")  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="only bytes can be opened"):
        composite(Shelf({SHA1: "a text"})).open(SHA1)  # type: ignore[dict-item]
    for kind in (bytearray, memoryview):
        assert composite(Shelf({SHA1: kind(BLOB)})).open(SHA1).read() == BLOB  # type: ignore[dict-item]
    assert hashlib.sha1(BLOB).hexdigest() == SHA1


def finished(steps: Any, answer: Any = None) -> Any:
    """What steps come to that wait for one more answer."""
    with pytest.raises(StopIteration) as end:
        steps.send(answer)
    return end.value.value


class Slow(Shelf):
    """Opens a file of its own at each call, after a step."""

    def open_steps(self, uri: str, verify: bool | None) -> Steps[Found]:
        yield Call(len, uri)
        return Found(io.BytesIO(self.held[uri]), self.label)


def test_two_opens_at_once_get_files_of_their_own() -> None:
    chain = composite(Slow({SHA1: BLOB}))
    first, second = chain.open_steps(SHA1), chain.open_steps(SHA1)
    next(first)
    assert isinstance(next(second), Wait)
    found = finished(first)
    assert isinstance(second.send(None), Call)
    assert finished(second).data.file is not found.data.file


def test_the_find_of_another_lookup_is_checked_before_it_is_opened() -> None:
    for data in (b"wrong", BLOB):
        chain = composite(Shelf({SHA1: data}))
        leading, opening = chain.get_steps(SHA1), chain.open_steps(SHA1, True)
        next(leading)
        assert isinstance(next(opening), Wait)
        finished(leading, data)
        check = opening.send(None)
        assert isinstance(check, Call)
        if data == BLOB:
            assert finished(opening, check.function(*check.args)).data == BLOB
        else:
            with pytest.raises(LookupFailed, match="do not match"):
                opening.send(check.function(*check.args))


def test_a_paid_blob_is_opened_for_one_payment() -> None:
    paid = API({SHA1: BLOB})
    kept = composite(paid, cache=MemoryCache())
    assert kept.open(SHA1).read() == kept.open(SHA1, verify=True).read() == BLOB and paid.calls == [SHA1]
    with pytest.raises(NotFoundInStore):
        kept.open(sha1(b"absent"))
    unkept = composite(paid)
    paid.calls.clear()
    first, second = unkept.open_steps(SHA1), unkept.open_steps(SHA1)
    call: Any = next(first)
    assert isinstance(next(second), Wait)
    assert finished(first, call.function(*call.args)).data == finished(second).data == BLOB and paid.calls == [SHA1]
    down = Shelf()
    down.fail = ConnectionError("down")
    with pytest.raises(LookupFailed, match="not asked, because an earlier tier failed"):
        composite(down, paid).open(SHA1)
    assert paid.calls == [SHA1]


def test_no_cache_is_given_a_file() -> None:
    class Anything(Box):
        bytes_only = False

    cache = Anything()
    assert composite(Slow({SHA1: BLOB}), cache=cache).open(SHA1).read() == BLOB
    assert not cache.held


def test_a_small_blob_comes_whole_and_is_checked_as_the_store_says(ranges: Ranges) -> None:
    small = b"a small blob"
    ranges.put(b"wrong", sha1(small))
    for options in ({}, {"verify": False}):
        with pytest.raises(InvalidDataFound):
            ranges.store(verify=True).open(sha1(small), **options)
    ranges.put(gzip.compress(small), sha1(small))
    assert ranges.store().open(sha1(small)).read() == small
