"""`FetchBlobs` by itself, without a running Ray: batches in, pieces out."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import pickle
import resource
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest

from bitstore import InvalidURI, MemoryCache, NotFoundInStore, Sha1Composite, Store
from bitstore._support.digests import algorithm
from bitstore._warming.run import numbered
from ray_integration import FetchBlobs, fetch_blobs
from ray_integration._fetch.placement import default_actors, default_cpus
from ray_integration._portable import check_portable
from ray_integration._warm.warm import _texts
from tests.ray_stores import FolderStore, LockedStore, MadeStore, OddStore, UnbornStore
from tests.stores import composed

ADDED = pyarrow.schema([("data", pyarrow.large_binary()), ("source", pyarrow.string()), ("error", pyarrow.string())])


def digest_of(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the blobs "0" to "9", and an empty one, each named by its digest."""
    for blob in ("", *map(str, range(10))):
        (tmp_path / digest_of(blob)).write_text(blob)
    return tmp_path


def run(fetch: FetchBlobs, table: pyarrow.Table) -> pyarrow.Table:
    return pyarrow.concat_tables(fetch(table))


class Counted(Store):
    """Counts what it is asked for, in this process."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def is_valid(self, uri: Any) -> bool:
        return True

    def get(self, uri: str) -> bytes:
        self.asked[uri] += 1
        return uri.encode()


MIXED = [digest_of("1"), digest_of("absent"), None, "no digest", "dead" * 10, digest_of(""), digest_of("1").upper()]
TOLD = [None, "missing: ", "invalid: ", "invalid: ", "failed: ", None, None]


def check_mixed(data: list[Any], sources: list[Any], errors: list[Any]) -> None:
    assert data == [b"1", None, None, None, None, b"", b"1"]
    assert [
        error if error is None else error[: len(told or "")] for error, told in zip(errors, TOLD, strict=True)
    ] == TOLD
    assert [source is None for source in sources] == [error is not None for error in errors]
    assert "the disk is tired" in errors[4]
    assert "no digest" in errors[3]


def test_arrow_batches_with_rows_of_all_kinds_get_their_columns(folder: Path) -> None:
    table = pyarrow.table(
        {
            "sha1": MIXED,
            "n": pyarrow.array([1, None, 3, 4, 5, 6, 7], pyarrow.int16()),
            "tags": pyarrow.array([["a"], None, [], ["b", None], [], [], []], pyarrow.list_(pyarrow.string())),
            "kind": pyarrow.array(list("aabbaab")).dictionary_encode(),
        }
    )
    result = run(FetchBlobs(composed(FolderStore(folder))), table)
    assert result.schema == pyarrow.schema([*table.schema, *ADDED])
    assert result.select(table.column_names) == table
    check_mixed(*(result.column(name).to_pylist() for name in ADDED.names))


def test_pandas_batches_with_rows_of_all_kinds_get_their_columns(folder: Path) -> None:
    frame = pandas.DataFrame(
        {
            "sha1": MIXED,
            "n": pandas.array([1, None, 3, 4, 5, 6, 7], "Int16"),
            "kind": pandas.Categorical(list("aabbaab")),
        },
        index=[3, 3, 1, 9, 0, 0, 2],
    )
    before = frame.copy()
    pieces = list(FetchBlobs(composed(FolderStore(folder)), block_bytes=1)(frame))
    assert len(pieces) > 1
    result = pandas.concat(pieces)
    pandas.testing.assert_frame_equal(frame, before)
    pandas.testing.assert_frame_equal(result[list(frame.columns)], frame)
    arrow = pyarrow.Table.from_pandas(result, preserve_index=False)
    assert arrow.select(ADDED.names).schema.remove_metadata() == ADDED
    check_mixed(*(arrow.column(name).to_pylist() for name in ADDED.names))


def test_numpy_batches_with_rows_of_all_kinds_get_their_columns(folder: Path) -> None:
    batch = {"sha1": numpy.array(MIXED, dtype=object), "image": numpy.arange(42).reshape(7, 2, 3)}
    pieces = list(FetchBlobs(composed(FolderStore(folder)), block_bytes=1)(batch))
    assert len(pieces) > 1
    for name, values in batch.items():
        assert numpy.array_equal(numpy.concatenate([piece[name] for piece in pieces]), values)
    for field in ADDED:
        assert all(piece[field.name].type == field.type for piece in pieces)
    check_mixed(*([value for piece in pieces for value in piece[name].to_pylist()] for name in ADDED.names))


@pytest.mark.parametrize(
    "values",
    [
        pyarrow.table({"sha1": pyarrow.array(["x"], pyarrow.large_string())}),
        pyarrow.table({"sha1": pyarrow.array(["x"]).dictionary_encode()}),
        pyarrow.table({"sha1": pyarrow.nulls(1)}),
        pandas.DataFrame({"sha1": ["x"]}, dtype="string"),
        pandas.DataFrame({"sha1": ["x"]}, dtype="category"),
        pandas.DataFrame({"sha1": ["x"]}, dtype=pandas.ArrowDtype(pyarrow.string())),
        pandas.DataFrame({"sha1": [None]}, dtype=float),
        {"sha1": numpy.array(["x"])},
        {"sha1": numpy.array(["x"], dtype=object)},
        {"sha1": numpy.array([numpy.nan])},
        {"sha1": ["x"]},
        {"sha1": [None]},
    ],
    ids=lambda batch: f"{type(batch).__module__}-{batch['sha1']!r:.30}",
)
def test_every_type_of_text_column_is_accepted(values: Any) -> None:
    (piece,) = FetchBlobs(Counted())(values)
    ((data,), (error,)) = (pyarrow.array(piece[name]).to_pylist() for name in ("data", "error"))
    assert (data, error) in ((b"x", None), (None, "invalid: null: column 'sha1' has no digest here"))
    null = values["sha1"][0]
    assert (error is None) == (str(null) == "x")


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (pyarrow.table({"sha1": [1, 2]}), "int64"),
        (pandas.DataFrame({"sha1": [1.5, None]}), "float64"),
        (pandas.DataFrame({"sha1": [1]}, dtype="category"), "int64"),
        ({"sha1": numpy.array([1, 2])}, "int64"),
        ({"sha1": numpy.array([["a"], ["b"]])}, "2-dimensional"),
    ],
)
def test_a_column_of_another_type_is_an_error(batch: Any, told: str) -> None:
    with pytest.raises(TypeError, match=rf"column 'sha1' has the type .*{told}"):
        list(FetchBlobs(Counted())(batch))


def cached(*blobs: bytes) -> Sha1Composite:
    """A store that has these blobs."""
    cache, chain = MemoryCache("1MB"), Sha1Composite()
    for blob in blobs:
        cache.put(hashlib.sha1(blob).hexdigest(), blob)
    chain.append_cache(cache)
    return chain


ENDS_IN_ZERO = next(blob for blob in map(b"%d".__mod__, range(10_000)) if hashlib.sha1(blob).digest().endswith(b"\0"))
RAW = [hashlib.sha1(blob).digest() for blob in (b"x", ENDS_IN_ZERO)]
TEXT = [digest.hex() for digest in RAW]
NOT_UTF8 = pyarrow.array([TEXT[0].encode(), b"\xff\xfe", None]).view(pyarrow.string())
VIEWS = (  # types that older Arrows lack
    [pyarrow.array(RAW, pyarrow.binary_view()), pyarrow.array(TEXT, pyarrow.string_view())]
    if hasattr(pyarrow, "string_view")
    else []
)


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array(RAW, pyarrow.binary()),
        pyarrow.array(RAW, pyarrow.large_binary()),
        pyarrow.array(RAW, pyarrow.binary(20)),
        pyarrow.array(RAW).dictionary_encode(),
        pyarrow.array(TEXT, pyarrow.large_string()),
        pyarrow.array(TEXT).dictionary_encode(),
        *VIEWS,
        numpy.array(RAW),
        numpy.array(RAW, dtype="V20"),
        numpy.array(RAW, dtype=object),
        numpy.array(TEXT),
        numpy.array([text.encode() for text in TEXT]),
        pandas.Series(RAW, dtype=object),
        pandas.Series(RAW, dtype="category"),
        pandas.Series(TEXT, dtype="string"),
        pandas.Series(TEXT, dtype="category"),
    ],
    ids=lambda column: f"{type(column).__name__} {getattr(column, 'dtype', '') or column.type}",
)
def test_digests_in_a_column_of_any_type_of_text_or_bytes_are_found(column: Any) -> None:
    batches: list[Any] = [{"sha1": column}]
    if isinstance(column, pandas.Series):
        batches = [pandas.DataFrame({"sha1": column})]
    elif isinstance(column, pyarrow.Array):
        frame = pandas.DataFrame({"sha1": pandas.arrays.ArrowExtensionArray(pyarrow.chunked_array([column]))})
        batches = [pyarrow.table({"sha1": column}), frame]
    fetch = FetchBlobs(cached(b"x", ENDS_IN_ZERO))
    for batch in batches:
        (piece,) = fetch(batch)
        assert pyarrow.array(piece["error"]).to_pylist() == [None, None]
        assert pyarrow.array(piece["data"]).to_pylist() == [b"x", ENDS_IN_ZERO]


OBJECTS = [TEXT[0], numpy.nan, pandas.NA, None, 7, 1.5, b"\xff\xfe", "no digest", "\udcff", [1], RAW[0]]


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        ({"sha1": numpy.array([*OBJECTS, None], dtype=object)[:-1]}, OBJECTS),
        ({"sha1": OBJECTS}, OBJECTS),
        (pandas.DataFrame({"sha1": pandas.Series(OBJECTS, dtype=object)}), OBJECTS),
        (pyarrow.table({"sha1": NOT_UTF8}), NOT_UTF8),
        (pandas.DataFrame({"sha1": pandas.Series(NOT_UTF8, dtype=pandas.ArrowDtype(pyarrow.string()))}), NOT_UTF8),
        (pyarrow.table({"sha1": [TEXT[0].encode(), b"\xff\xfe", b"", None]}), range(4)),
    ],
    ids=["numpy", "list", "pandas", "arrow", "arrow in pandas", "binary"],
)
def test_a_value_that_is_no_digest_is_that_rows_error(batch: Any, rows: Sequence[Any]) -> None:
    (piece,) = FetchBlobs(cached(b"x"))(batch)
    found = [index for index, value in enumerate(rows) if index == 0 or value is RAW[0]]
    errors = pyarrow.array(piece["error"]).to_pylist()
    assert [index for index, error in enumerate(errors) if error is None] == found
    assert all(error is None or error.startswith("invalid: ") for error in errors)


@pytest.mark.parametrize("other", [numpy.nan, pandas.NA, pandas.NaT, 5, {"a": 1}, b"\xff"])
def test_an_object_among_digests_is_its_rows_error_in_each_of_rays_forms(other: Any) -> None:
    from ray.data.block import BlockAccessor

    frame = pandas.DataFrame({"sha1": pandas.Series([TEXT[0], other], dtype=object)})
    block = BlockAccessor.for_block(frame)
    batches: list[Any] = [block.to_pandas()]
    with contextlib.suppress(pyarrow.ArrowTypeError):  # of Ray 2.52, for a number among text
        arrow = block.to_arrow()
        batches += [arrow, *map(BlockAccessor.for_block(arrow).to_batch_format, ("pandas", "numpy"))]
    for batch in batches:
        (piece,) = FetchBlobs(cached(b"x"))(batch)
        first, second = pyarrow.array(piece["error"]).to_pylist()
        assert first is None
        assert second.startswith("invalid: ")


def test_an_object_for_a_store_of_urls_is_its_rows_error() -> None:
    (piece,) = FetchBlobs(Counted())({"sha1": numpy.array(["x", 7, b"x", b"\xff"], dtype=object)})
    assert piece["data"].to_pylist() == [b"x", None, b"x", None]
    number, _, bad = piece["error"].to_pylist()[1:]
    assert number == "invalid: 7: column 'sha1' must hold text here, not int"
    assert bad == r"invalid: \xff: column 'sha1' is not UTF-8 here"


def test_an_error_begins_with_its_kind_and_the_key(folder: Path) -> None:
    store = composed(FolderStore(folder))
    absent, dead = digest_of("absent"), "dead" * 10
    (piece,) = FetchBlobs(store)({"sha1": [absent, dead, "no digest", None]})
    missing, failed, invalid, null = piece["error"].to_pylist()
    assert missing.startswith(f"missing: {absent}")
    assert failed.startswith(f"failed: {dead}: ")
    assert invalid.startswith("invalid: no digest: ")
    assert null.startswith("invalid: null: ")
    assert missing.count(absent) == failed.count(dead) == 1


def test_a_batch_of_no_known_format_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"expected a batch as pyarrow.Table.*got builtins.list"):
        list(FetchBlobs(Counted())([1]))


@pytest.mark.parametrize(
    "batch",
    [
        pyarrow.Table.from_arrays([pyarrow.array(["0" * 40]), pyarrow.array(["1" * 40])], names=["sha1", "sha1"]),
        pandas.DataFrame([["0" * 40, "1" * 40]], columns=["sha1", "sha1"]),
    ],
    ids=["arrow", "pandas"],
)
def test_two_columns_of_one_name_are_an_error_that_names_them(batch: Any) -> None:
    with pytest.raises(ValueError, match="2 columns are called 'sha1': rename all but one; there are 'sha1', 'sha1'"):
        list(FetchBlobs(MadeStore(10))(batch))


def test_missing_and_taken_columns_are_errors_that_name_them() -> None:
    with pytest.raises(ValueError, match=r"no column 'sha1'; there are 'hash', 'n'"):
        list(FetchBlobs(Counted())(pyarrow.table({"hash": ["x"], "n": [1]})))
    taken = pyarrow.table({"sha1": ["x"], "data": [1]})
    with pytest.raises(ValueError, match=r"already has a column 'data'; name the new one with data_column="):
        list(FetchBlobs(Counted())(taken))
    result = run(FetchBlobs(Counted(), data_column="blob"), taken)
    assert result.to_pylist() == [{"sha1": "x", "data": 1, "blob": b"x", "source": "Counted", "error": None}]


@pytest.mark.parametrize(
    "batch",
    [pyarrow.table({"sha1": pyarrow.array([], pyarrow.string())}), pandas.DataFrame(), {}, {"sha1": numpy.array([])}],
)
def test_a_batch_without_rows_keeps_the_new_columns(batch: Any) -> None:
    (piece,) = FetchBlobs(Counted())(batch)
    assert len(piece["data"]) == len(piece["error"]) == 0


def test_a_batch_without_a_found_blob_keeps_the_column_types(folder: Path) -> None:
    result = run(FetchBlobs(FolderStore(folder)), pyarrow.table({"sha1": [digest_of("absent")] * 3}))
    assert result.select(ADDED.names).schema == ADDED
    assert result.column("data").null_count == 3
    assert result.column("error").null_count == 0


def test_a_repeated_digest_in_a_batch_is_asked_for_once(tmp_path: Path) -> None:
    store = MadeStore(1000, tmp_path / "log")
    digests = [digest_of(str(number % 700)) for number in range(2100)]
    digests[700:1400] = [digest.upper() for digest in digests[700:1400]]
    table = pyarrow.table({"sha1": digests})
    result = run(FetchBlobs(store, in_flight=8, block_bytes=10_000), table)
    assert result.column("data").to_pylist() == [store.blob(digest) for digest in digests]
    assert sorted(store.calls()) == sorted(digests[:700])


def test_rows_keep_their_order_and_pieces_their_bound() -> None:
    sizes = [300, 10, 500, 1200, 0, 0, 10, 990, 1, 2000, 0, 499, 1, 500, 1, 1]
    store = OddStore({f"blob {index}": bytes(size) for index, size in enumerate(sizes)})
    table = pyarrow.table({"sha1": list(store.answers), "n": list(range(len(sizes)))})
    pieces = list(FetchBlobs(store, block_bytes=1000)(table))
    assert pyarrow.concat_tables(pieces).column("n").to_pylist() == list(range(len(sizes)))
    held = [[len(blob) for blob in piece.column("data").to_pylist()] for piece in pieces]
    assert held == [[300, 10, 500], [1200], [0, 0, 10, 990, 1], [2000], [0, 499, 1, 500, 1], [1]]


def test_data_that_is_not_bytes_is_a_failure_of_its_row() -> None:
    store = OddStore({"text": "abc", "none": None, "array": bytearray(b"ab"), "view": memoryview(b"cd"), "right": b"x"})
    result = run(FetchBlobs(store), pyarrow.table({"sha1": list(store.answers)}))
    assert result.column("data").to_pylist() == [None, None, b"ab", b"cd", b"x"]
    errors = result.column("error").to_pylist()
    assert errors[0] == "failed: text: it returned str, not bytes (OddStore is not available)"
    assert errors[1].startswith("failed: ")
    assert errors[2:] == [None] * 3


@pytest.mark.parametrize(
    ("value", "kind"),
    [(digest_of("absent"), NotFoundInStore), ("no digest", InvalidURI), (None, ValueError), ("dead" * 10, Exception)],
)
def test_errors_raise_stops_with_the_error_of_the_row(folder: Path, value: str | None, kind: type[Exception]) -> None:
    fetch = FetchBlobs(composed(FolderStore(folder)), errors="raise")
    assert run(fetch, pyarrow.table({"sha1": [digest_of("1")]})).column("data").to_pylist() == [b"1"]
    with pytest.raises(kind):
        run(fetch, pyarrow.table({"sha1": [digest_of("1"), value]}))


def test_a_store_that_hangs_fails_its_row_when_its_time_is_up() -> None:
    gate = threading.Event()

    class Hanging(Counted):
        def get(self, uri: str) -> bytes:
            if uri == "slow":
                gate.wait(60)
            return super().get(uri)

    try:
        result = run(FetchBlobs(Hanging(), timeout=0.2), pyarrow.table({"sha1": ["a", "slow", "b"]}))
    finally:
        gate.set()
    assert result.column("data").to_pylist() == [b"a", None, b"b"]
    assert result.column("error").to_pylist()[1].startswith("failed: ")
    assert "0.2 s" in result.column("error").to_pylist()[1]


def test_a_consumer_that_stops_early_leaves_nothing_under_way(tmp_path: Path) -> None:
    store = MadeStore(1000, tmp_path / "log")
    pieces = FetchBlobs(store, in_flight=4, block_bytes=5000)(pyarrow.table({"sha1": [str(n) for n in range(1000)]}))
    assert next(pieces).num_rows == 6
    pieces.close()  # type: ignore[attr-defined]
    assert len(store.calls()) < 50


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"errors": "ignore"}, "errors='ignore': choose one of return, raise"),
        ({"column": ""}, "a column is named by a non-empty str"),
        ({"data_column": "sha1"}, "must all have different names"),
        ({"timeout": 0}, "timeout=0: must be more than 0 seconds"),
        ({"in_flight": 0}, "in_flight=0: must be a number of lookups, at least 1"),
        ({"max_bytes": "much"}, "max_bytes 'much' is not a size"),
        ({"block_bytes": -1}, "block_bytes -1 is out of range"),
    ],
)
def test_invalid_options_of_fetch_blobs_are_errors(options: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        FetchBlobs(Counted(), **options)


def test_an_object_that_is_no_store_is_an_error() -> None:
    with pytest.raises(TypeError, match="expected a store"):
        FetchBlobs("s3://bucket/")
    with pytest.raises(TypeError, match="expected a store"):
        FetchBlobs(Counted)
    with pytest.raises(TypeError, match=r"expected a ray.data.Dataset, got builtins.list"):
        fetch_blobs([digest_of("1")], Counted())  # type: ignore[arg-type]


def test_fetch_blobs_shows_the_options_that_it_hands_on_and_takes_no_others() -> None:
    own, handed_on = (inspect.signature(each).parameters for each in (fetch_blobs, FetchBlobs))
    shared = dict(handed_on)
    assert shared.pop("batch_rows").default is None  # there it is called batch_size
    assert {name: own[name] for name in shared} == shared
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values())
    for name in ("batch_rows", "time_out"):
        with pytest.raises(TypeError, match=rf"fetch_blobs\(\) got an unexpected keyword argument '{name}'"):
            fetch_blobs(None, Counted(), **{name: 5})  # type: ignore[arg-type]


def test_fetch_blobs_pickles_and_shows_its_configuration(folder: Path) -> None:
    fetch = pickle.loads(pickle.dumps(FetchBlobs(composed(FolderStore(folder)), errors="raise")))
    assert run(fetch, pyarrow.table({"sha1": [digest_of("1")]})).column("data").to_pylist() == [b"1"]
    assert "column='sha1', errors='raise'" in repr(fetch)


def made_by(client: Any) -> Any:
    class Captured(OddStore):
        def get(self, uri: str) -> Any:
            return client, super().get(uri)

    return Captured


@pytest.mark.parametrize(
    ("store", "named"),
    [
        (LockedStore(), r"store\.settings\['client'\] \(_thread\.lock\)"),
        (composed(Counted(), LockedStore()), r"store\.tiers\['LockedStore'\]\.settings\['client'\] \(_thread\.lock\)"),
        (composed(made_by(threading.Lock())({})), r"variable 'client' \(_thread\.lock\)"),
        (UnbornStore({}), r"UnbornStore pickles, but unpickling it fails: TypeError"),
    ],
    ids=["attribute", "tier", "variable", "unpickling"],
)
def test_the_error_for_a_store_that_does_not_pickle_names_the_attribute(store: Any, named: str) -> None:
    with pytest.raises(TypeError, match=rf"cannot be sent to Ray's workers: .*{named}"):
        check_portable(store)


def test_a_global_of_a_script_that_does_not_pickle_is_named(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import threading\n"
        "from ray_integration._portable import check_portable\n"
        "client = threading.Lock()\n"
        "class Mine:\n"
        "    def get(self, uri):\n"
        "        return [client for _ in uri]\n"
        "try:\n"
        "    check_portable(Mine())\n"
        "except TypeError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, script],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "store.Mine.get -> global 'client' (_thread.lock)" in done.stdout, done.stdout + done.stderr


def test_importing_ray_integration_imports_neither_ray_nor_arrow() -> None:
    code = "import ray_integration, sys; print({'ray', 'pyarrow', 'pandas', 'numpy', 'boto3'} & set(sys.modules))"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_blobs_of_a_batch_may_exceed_two_gigabytes() -> None:
    store = MadeStore(64_000_000)
    digests = [digest_of(str(number)) for number in range(36)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = total = 0
    for piece in FetchBlobs(store, in_flight=4)(pyarrow.table({"sha1": digests})):
        assert piece.schema.field("data").type == pyarrow.large_binary()
        assert piece.nbytes < 1.5 * 2**27
        for digest, blob in zip(piece.column("sha1"), piece.column("data"), strict=True):
            # Without a copy: a bytes object of each would cost more than all the rest.
            assert blob.as_buffer().slice(0, 40).to_pybytes() == digest.as_py().encode()
            total += blob.as_buffer().size
        rows += piece.num_rows
    assert (rows, total) == (36, 36 * 64_000_000)
    # In kilobytes, here and on Linux: far below the 2.3 GB of the batch.
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "linux" else 1 / 1024)
    assert grown < 1_500_000


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus"),
    [
        ([], 1, 0.0),  # Ray is not running
        ([1], 1, 0.0),
        ([2], 1, 0.0),
        ([1, 1], 2, 0.0),
        ([0, 1, 1], 2, 0.0),  # anything would starve the reads
        ([0, 2, 2], 2, 0.01),  # keeps off the head
        ([64, 8, 0], 9, 0.01),
    ],
)
def test_placement_leaves_a_whole_cpu_and_avoids_nodes_without(nodes: list[float], actors: int, cpus: float) -> None:
    assert default_actors(nodes) == actors
    assert default_cpus(nodes, actors) == cpus


def test_a_warming_reads_raw_digests_and_counts_values_that_are_no_digests() -> None:
    columns = [pyarrow.array(RAW, pyarrow.binary(20)), pyarrow.array([*TEXT, None]).dictionary_encode(), NOT_UTF8]
    values = _texts([pyarrow.table({"sha1": column}) for column in columns], "sha1")
    digests = [digest for _, _, digest, _ in numbered(values, algorithm("sha1"))]
    assert digests == [*TEXT, *TEXT, None, TEXT[0], None, None]
    with pytest.raises(TypeError, match="column 'n' has the type int64, but it must hold digests"):
        list(_texts([pyarrow.table({"n": [1]})], "n"))
