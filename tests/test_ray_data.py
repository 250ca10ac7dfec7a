"""`fetch_blobs` and `FetchBlobs` on a real local Ray with two CPUs, against a real S3 server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray as ray_module
import ray.data as ray_data

from bitstore import DiskCache, FileRaw, S3Raw, Sha1Cache, Sha1Composite, Sha1Store
from ray_integration import FetchBlobs, fetch_blobs
from tests.ray_cluster import on_ray
from tests.ray_stores import FolderStore, LockedStore, MadeStore, NotedAPI
from tests.servers import FaultProxy, MakeProxy, SeaweedS3
from tests.servers.faults import s3_error
from tests.stores import as_cache, as_source, composed

ADDED = pyarrow.schema([("data", pyarrow.large_binary()), ("source", pyarrow.string()), ("error", pyarrow.string())])

pytestmark = on_ray(150)


@pytest.fixture
def ray(shared_ray: Any) -> Iterator[Any]:
    """Ray, which keeps the order of rows. The unit of time here is the start of an actor, about 4 seconds."""
    options = ray_data.DataContext.get_current().execution_options
    options.preserve_order = True
    yield ray_module
    options.preserve_order = False


def digest_of(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def rows_of(ds: Any) -> pyarrow.Table:
    """All rows, as they are in the blocks."""
    return pyarrow.concat_tables(
        list(ds.iter_batches(batch_size=None, batch_format="pyarrow")), promote_options="permissive"
    )


def bucket_store(s3: SeaweedS3, bucket: str, endpoint_url: str) -> Sha1Composite:
    return composed(
        as_source(Sha1Store(S3Raw(s3.reader.session, endpoint_url=endpoint_url), f"s3://{bucket}/"), "bucket")
    )


FOUND = [str(number) for number in range(30)]
REFUSED = digest_of("refused")
MIXED: list[Any] = [
    *map(digest_of, FOUND), digest_of("absent"), REFUSED, None, "no digest", digest_of("1"), digest_of("2").upper(),
]  # fmt: skip
BLOBS = [*(text.encode() for text in FOUND), None, None, None, None, b"1", b"2"]
TOLD = [*[None] * 30, "missing:", "failed:", "invalid:", "invalid:", None, None]


@pytest.fixture(scope="module")
def filled(s3: SeaweedS3) -> str:
    """A bucket that has the blobs that are to be found."""
    name = s3.create_bucket()
    for text in FOUND:
        s3.put(name, digest_of(text), text.encode())
    return name


@pytest.fixture
def refusing(s3: SeaweedS3, fault_proxy: MakeProxy) -> FaultProxy:
    """The way to that bucket, on which one blob is refused."""
    proxy = fault_proxy(s3.endpoint_url)
    proxy.rules.add(s3_error(403, "AccessDenied"), path=REFUSED)
    return proxy


@pytest.fixture
def store(s3: SeaweedS3, filled: str, refusing: FaultProxy) -> Sha1Composite:
    return bucket_store(s3, filled, refusing.url)


def check_mixed(rows: pyarrow.Table, store: Any) -> None:
    """The new columns are right, and the same as what `get_many` says."""
    assert pyarrow.schema([rows.schema.field(name) for name in ADDED.names]) == ADDED
    errors = rows.column("error").to_pylist()
    assert rows.column("data").to_pylist() == BLOBS
    assert [error and error.split()[0] for error in errors] == TOLD
    assert "AccessDenied" in errors[31]
    assert rows.column("source").to_pylist() == [None if told else "bucket" for told in TOLD]
    named = [digest for digest in MIXED if digest is not None]
    blobs = [blob.data for blob in store.get_many(named, ordered=True)]
    assert blobs == [data for data, digest in zip(BLOBS, MIXED, strict=True) if digest is not None]


def test_parquet_rows_of_every_type_are_fetched(ray: Any, refusing: FaultProxy, store: Any, tmp_path: Path) -> None:
    count = len(MIXED)
    table = pyarrow.table(
        {
            "sha1": pyarrow.array(MIXED),
            "small": pyarrow.array([None if row % 3 else row for row in range(count)], pyarrow.int16()),
            "when": pyarrow.array([None, *range(count - 1)], pyarrow.timestamp("us", tz="UTC")),
            "price": pyarrow.array([None, *["1.50"] * (count - 1)]).cast(pyarrow.decimal128(9, 2)),
            "tags": pyarrow.array([["a", None], None, []] * (count // 3), pyarrow.list_(pyarrow.string())),
            "box": pyarrow.array([{"x": 1, "y": None}, None] * (count // 2)),
            "raw": pyarrow.array([b"", None, b"\x00"] * (count // 3), pyarrow.binary()),
            "flag": pyarrow.array([True, None] * (count // 2)),
            "nothing": pyarrow.nulls(count, pyarrow.float32()),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "hashes.parquet", row_group_size=5)

    rows = rows_of(fetch_blobs(ray.data.read_parquet(str(tmp_path / "hashes.parquet")), store))

    assert rows.schema.remove_metadata() == pyarrow.schema([*table.schema, *ADDED])
    assert rows.select(table.column_names).to_pylist() == table.to_pylist()
    asked = [path.rpartition("/")[2] for method, path in refusing.counts.elements() if method == "GET"]
    assert sorted(asked) == sorted({digest.lower() for digest in MIXED if digest and digest != "no digest"})
    check_mixed(rows, store)


def test_pandas_batches_of_a_frame_get_their_blobs(ray: Any, store: Any) -> None:
    frame = pandas.DataFrame({"hash": MIXED, "n": range(len(MIXED)), "share": [0.5] * len(MIXED)})

    rows = rows_of(fetch_blobs(ray.data.from_pandas(frame), store, column="hash", batch_format="pandas", batch_size=10))

    assert [rows.schema.field(name).type for name in ("n", "share")] == [pyarrow.int64(), pyarrow.float64()]
    assert rows.column("hash").to_pylist() == MIXED
    assert rows.column("n").to_pylist() == list(range(len(MIXED)))
    check_mixed(rows, store)


def test_numpy_batches_through_plain_map_batches_get_their_blobs(ray: Any, store: Any) -> None:
    ds = ray.data.from_items([{"sha1": digest, "n": row} for row, digest in enumerate(MIXED)], override_num_blocks=3)
    ds = ds.map_batches(
        FetchBlobs,
        fn_constructor_kwargs={"store": store},
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0,
        batch_size=10,
    )
    rows = rows_of(ds)
    assert rows.column("sha1").to_pylist() == MIXED
    assert rows.column("n").to_pylist() == list(range(len(MIXED)))
    check_mixed(rows, store)


def test_a_second_pass_over_text_lines_reads_the_disk_cache(
    ray: Any, s3: SeaweedS3, filled: str, fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    store = composed(
        as_cache(DiskCache(tmp_path / "cache", max_size="10MB"), "disk"),
        as_source(Sha1Store(S3Raw(s3.reader.session, endpoint_url=proxy.url), f"s3://{filled}/"), "bucket"),
        as_cache(Sha1Cache(FileRaw(), f"{(tmp_path / 'paid').as_uri()}/"), "paid for"),
    )
    store.append_store(NotedAPI(tmp_path / "calls"), name="api")
    digests = [*map(digest_of, FOUND), *(digest_of(f"only the API has {number}") for number in range(5))]
    (tmp_path / "hashes.txt").write_text("\n".join(digests))
    lines = ray.data.read_text(str(tmp_path / "hashes.txt"))
    ds = fetch_blobs(lines, store, column="text", actors=2, batch_size=8, routing="direct")

    first = rows_of(ds)
    assert first.column("text").to_pylist() == digests
    assert first.column("data").to_pylist()[:30] == BLOBS[:30]
    assert first.column("source").to_pylist() == ["bucket"] * 30 + ["api"] * 5
    assert first.column("error").null_count == 35
    requests = len(proxy.requests)
    assert requests == 35

    second = rows_of(ds)
    assert second.column("data").equals(first.column("data"))
    assert second.column("source").to_pylist() == ["disk"] * 35
    assert len(proxy.requests) == requests
    assert sorted((tmp_path / "calls").read_text().split()) == sorted(digests[30:])


def test_a_first_block_without_a_found_blob_keeps_the_schema(ray: Any, tmp_path: Path) -> None:
    (tmp_path / digest_of("1")).write_bytes(b"1")
    ds = ray.data.from_items([{"sha1": digest_of("absent")}] * 4 + [{"sha1": digest_of("1")}], override_num_blocks=5)
    done = fetch_blobs(ds, FolderStore(tmp_path), batch_size=1).materialize()
    assert dict(zip(done.schema().names, done.schema().types, strict=True)) == {
        "sha1": pyarrow.string(),
        **{field.name: field.type for field in ADDED},
    }
    assert done.take(1)[0]["error"].startswith("missing: ")
    assert [row["data"] for row in done.take_all()] == [None] * 4 + [b"1"]


def test_the_mode_errors_raise_stops_the_job_with_the_error(ray: Any, tmp_path: Path) -> None:
    (tmp_path / digest_of("1")).write_bytes(b"1")
    ds = ray.data.from_items([{"sha1": digest_of("1")}, {"sha1": "dead" * 10}])
    with pytest.raises(Exception, match="the disk is tired"):
        fetch_blobs(ds, FolderStore(tmp_path), errors="raise").materialize()


RAW = [bytes.fromhex(digest_of(text)) for text in FOUND[:3]]
TEXTS = [raw.hex() for raw in RAW]
COLUMNS: dict[str, tuple[Callable[[], Any], int]] = {
    "fixed size": (lambda: ray_data.from_arrow(pyarrow.table({"sha1": pyarrow.array(RAW, pyarrow.binary(20))})), 3),
    "dictionary": (lambda: ray_data.from_arrow(pyarrow.table({"sha1": pyarrow.array(RAW).dictionary_encode()})), 3),
    "objects": (
        lambda: ray_data.from_items(
            [{"sha1": value} for value in [*TEXTS, 5, float("nan"), None]], override_num_blocks=1
        ),
        3,
    ),
    "frame": (
        lambda: ray_data.from_pandas(
            pandas.DataFrame({"sha1": pandas.Series([*TEXTS, float("nan"), pandas.NA], dtype=object)})
        ),
        3,
    ),
    "not UTF-8": (
        lambda: ray_data.from_arrow(
            pyarrow.table({"sha1": pyarrow.array([TEXTS[0].encode(), b"\xff\xfe"]).view(pyarrow.string())})
        ),
        1,
    ),
}


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "numpy"])
def test_digests_of_any_type_are_found_and_other_values_are_errors_of_their_rows(
    ray: Any, s3: SeaweedS3, filled: str, batch_format: Any
) -> None:
    """One dataset for all types, a block each, because each dataset costs the start of an actor."""
    columns = dict(COLUMNS)
    if batch_format == "pandas" and int(pandas.__version__.partition(".")[0]) < 3:
        del columns[
            "objects"
        ]  # a frame with Ray's own array of objects of many types is pickled there, and not unpickled
    first, *others = [make() for make, _ in columns.values()]
    ds = fetch_blobs(
        first.union(*others),
        bucket_store(s3, filled, s3.endpoint_url),
        actors=1,
        batch_format=batch_format,
        batch_size=None,
    )
    blocks: list[Any] = list(ds.select_columns(["data", "error"]).iter_batches(batch_size=None, batch_format="pyarrow"))
    for (name, (_, found)), table in zip(columns.items(), blocks, strict=True):
        assert table.column("data").to_pylist()[:found] == [text.encode() for text in FOUND[:found]], name
        errors = table.column("error").to_pylist()
        assert errors[:found] == [None] * found, name
        assert all(error.startswith("invalid: ") for error in errors[found:]), (name, errors)


def test_a_column_missing_or_of_another_type_fails_the_job_by_name(ray: Any, tmp_path: Path) -> None:
    unknown = ray.data.from_items([{"hash": "x"}]).map(_renamed)
    assert unknown.schema(fetch_if_missing=False) is None  # else this tests nothing
    with pytest.raises(Exception, match=r"there is no column 'sha1'; there are 'digest', 'n'"):
        fetch_blobs(unknown, FolderStore(tmp_path)).materialize()
    with pytest.raises(Exception, match=r"column 'n' has the type int64, but it must hold digests"):
        fetch_blobs(unknown, FolderStore(tmp_path), column="n").materialize()


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    return {"digest": row["hash"], "n": 1}


def test_a_wrong_column_is_an_error_in_the_driver_where_the_schema_is_known(ray: Any, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"sha1": ["x"], "n": [1], "data": [2]}), tmp_path / "a.parquet")
    ds = ray.data.read_parquet(str(tmp_path / "a.parquet"))
    store = FolderStore(tmp_path)
    with pytest.raises(ValueError, match=r"there is no column 'hash'; there are 'sha1', 'n', 'data'"):
        fetch_blobs(ds, store, column="hash")
    with pytest.raises(TypeError, match="column 'n' has the type int64, but it must hold digests"):
        fetch_blobs(ds, store, column="n", data_column="blob")
    with pytest.raises(ValueError, match=r"already has a column 'data'; name the new one with data_column=\.\.\."):
        fetch_blobs(ds, store)
    with pytest.raises(TypeError, match=r"store\.settings\['client'\] \(_thread\.lock\) does not pickle"):
        fetch_blobs(ds, LockedStore(), data_column="blob")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"actors": 0}, "actors=0: give a number from 1"),
        ({"actors": (3, 2)}, r"actors=\(3, 2\)"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_format": "cudf"}, "batch_format='cudf'"),
        ({"errors": "log"}, "errors='log'"),
    ]
    for options, told in wrong:
        with pytest.raises(ValueError, match=told):
            fetch_blobs(ds, store, data_column="blob", **options)


def test_only_the_rows_that_a_limit_asks_for_are_fetched(ray: Any, tmp_path: Path) -> None:
    store = MadeStore(100, tmp_path / "log")
    ds = ray.data.from_items([{"sha1": digest_of(str(number))} for number in range(1000)], override_num_blocks=10)
    ds = fetch_blobs(ds, store, batch_size=None)
    if not ray.__version__.startswith("2.55."):  # which counts by running it all
        assert ds.count() == 1000
        assert store.calls() == []
    assert ds.limit(7).materialize().count() == 7
    assert len(store.calls()) == 7


def test_reading_fetching_and_another_actor_stage_share_two_cpus(ray: Any, tmp_path: Path) -> None:
    """The stage after takes a whole CPU for good. Any fraction that our actors took would stop the reading for ever."""
    for number in range(4):
        lines = [digest_of(f"{number} {row}") for row in range(50)]
        (tmp_path / f"{number}.txt").write_text("\n".join(lines))
    ds = ray.data.read_text(str(tmp_path), override_num_blocks=4)
    ds = fetch_blobs(ds, MadeStore(1000), column="text", actors=3, batch_size=16)
    ds = ds.map_batches(_Sizes, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1, batch_format="pyarrow")
    rows = rows_of(ds)
    assert rows.num_rows == 200
    assert set(rows.column("size").to_pylist()) == {1000}


class _Sizes:
    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        return pyarrow.table({"size": [len(blob.as_buffer()) for blob in batch.column("data")]})


def test_more_blobs_than_the_object_store_holds_pass_through(ray: Any) -> None:
    """One batch of 640 MB through an object store of 300."""
    store = MadeStore(20_000_000)
    digests = [digest_of(str(number)) for number in range(32)]
    ds = fetch_blobs(ray.data.from_items([{"sha1": digest} for digest in digests]), store, in_flight=4, batch_size=32)
    sizes: list[int] = []
    seen: list[str] = []
    batch: Any
    for batch in ds.iter_batches(batch_size=None, batch_format="pyarrow"):
        sizes.append(batch.nbytes)
        seen += [blob.as_buffer().slice(0, 40).to_pybytes().decode() for blob in batch.column("data")]
        assert set(batch.column("error").to_pylist()) == {None}
    assert seen == digests
    assert [size // 1_000_000 for size in sizes] == [140] * 4 + [80]
