"""Blobs as columns: of Arrow, pandas and Polars, whole and in streams, and what Parquet makes of them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest
from typing_extensions import assert_type

from bitstore import NotFoundInStore, Sha1Composite, Store
from bitstore._frames import tables
from tests.clock import SkippingClock
from tests.ray_stores import MadeStore, OddStore
from tests.stores import Shelf, blobs, sha1
from tests.test_import import WITHOUT_EXTRAS, loaded, run

ADDED = pyarrow.schema(
    [("data", pyarrow.large_binary()), *[(name, pyarrow.string()) for name in ("source", "error", "kind")]]
)
HELD = {sha1(data): data for data in (b"one", b"", b"\xff\x00")}
ONE, EMPTY, RAW = HELD
ABSENT, DEAD = sha1(b"absent"), sha1(b"dead")
# One row for each thing that can be in the column of digests.
ROWS = [ONE, ABSENT, None, "no digest", DEAD, EMPTY, ONE.upper(), f"sha1://{RAW}"]
DATA = [b"one", None, None, None, None, b"", b"one", b"\xff\x00"]
KINDS = [None, "missing", "invalid", "invalid", "failed", None, None, None]


class Plates(Shelf):
    """A shelf of which one place cannot be reached."""

    def get(self, uri: str) -> bytes:
        if uri == DEAD:
            raise OSError(5, "the disk is tired")
        return super().get(uri)


@pytest.fixture
def plates() -> Plates:
    return Plates(HELD)


@pytest.fixture
def store(plates: Plates, skipped_pauses: SkippingClock) -> Sha1Composite:
    chain = Sha1Composite()
    chain.append_source(plates, name="plates")
    return chain


def get(store: Store, frame: Any, *args: Any, **options: Any) -> Any:
    """The blobs of a frame of any library, as a frame of that library."""
    if "pyarrow" in type(frame).__module__:
        return store.get_table(frame, *args, **options)
    return store.get_frame(frame, *args, **options)


def rows(found: Any) -> list[dict[str, Any]]:
    """The rows of a table or frame as plain values, whichever library has it."""
    if isinstance(found, pyarrow.Table):
        return list(found.to_pylist())
    if isinstance(found, polars.DataFrame):
        return found.to_dicts()
    return [
        {name: None if pandas.isna(value) else value for name, value in row.items()} for row in found.to_dict("records")
    ]


def check_mixed(found: Any) -> None:
    got = rows(found)
    assert [row["sha1"] for row in got] == ROWS
    assert [row["data"] for row in got] == DATA
    assert [row["kind"] for row in got] == KINDS
    assert [row["source"] for row in got] == [None if kind else "plates" for kind in KINDS]
    assert [(row["error"] or "None").partition(":")[0] for row in got] == [str(kind) for kind in KINDS]
    assert "the disk is tired" in got[4]["error"]


WHOLE = {
    "arrow": pyarrow.table({"n": range(8), "sha1": ROWS}),
    "arrow, large": pyarrow.table({"n": range(8), "sha1": pyarrow.array(ROWS, pyarrow.large_string())}),
    "arrow, encoded": pyarrow.table({"n": range(8), "sha1": pyarrow.array(ROWS).dictionary_encode()}),
    "arrow, chunked": pyarrow.table({"n": range(8), "sha1": pyarrow.chunked_array([ROWS[:3], [], ROWS[3:]])}),
    "pandas": pandas.DataFrame({"n": range(8), "sha1": ROWS}, index=list("aabbccdd")),
    "pandas, objects": pandas.DataFrame({"n": range(8), "sha1": pandas.Series(ROWS, dtype=object)}),
    "pandas, category": pandas.DataFrame({"n": range(8), "sha1": pandas.Categorical(ROWS)}),
    "pandas, of arrow": pandas.DataFrame(
        {"n": range(8), "sha1": pandas.Series(ROWS, dtype=pandas.ArrowDtype(pyarrow.string()))}
    ),
    "polars": polars.DataFrame({"n": range(8), "sha1": ROWS}),
    "polars, category": polars.DataFrame({"n": range(8), "sha1": polars.Series(ROWS, dtype=polars.Categorical)}),
}


@pytest.mark.parametrize("frame", WHOLE.values(), ids=WHOLE)
def test_each_row_has_its_blob_or_the_kind_of_its_error(frame: Any, store: Sha1Composite, plates: Plates) -> None:
    found = get(store, frame)
    assert type(found) is type(frame)
    plain = [{key: row[key] for key in ("n", "sha1")} for row in rows(found)]
    assert [row["n"] for row in plain] == list(range(8))
    check_mixed(found)
    assert sorted(plates.asked) == sorted([ONE, ABSENT, EMPTY, RAW])  # each once, in whatever case


def test_arrow_columns_keep_their_order_and_types(store: Sha1Composite) -> None:
    table = WHOLE["arrow, encoded"].replace_schema_metadata({"made": "by hand"})
    found = store.get_table(table, "sha1")
    assert found.schema.equals(pyarrow.schema([*table.schema, *ADDED], table.schema.metadata), check_metadata=True)
    assert found.select(table.column_names) == table


def test_pandas_keeps_index_attributes_and_other_columns(store: Sha1Composite) -> None:
    frame = pandas.DataFrame(
        {"sha1": ROWS, "n": pandas.array([1, None, *range(6)], "Int16")},
        index=pandas.MultiIndex.from_product([[3, 1], list("baab")], names=["shelf", "place"]),
    )
    frame.attrs["made"] = "by hand"
    before = frame.copy()
    found = store.get_frame(frame, column="sha1")
    pandas.testing.assert_frame_equal(frame, before)
    pandas.testing.assert_frame_equal(found[["sha1", "n"]], frame)
    assert found.attrs == {"made": "by hand"}
    assert found[found["data"].notna()].index.tolist() == [(3, "b"), (1, "a"), (1, "a"), (1, "b")]
    assert found[found["kind"] == "failed"].index.tolist() == [(1, "b")]
    labelled = store.get_frame(frame.set_axis([7, 8], axis=1), 7)
    assert labelled.columns.tolist() == [7, 8, *ADDED.names]


@pytest.mark.parametrize(
    "frame",
    [
        pyarrow.table({"sha1": pyarrow.array([], pyarrow.string())}),
        pandas.DataFrame({"sha1": []}),
        polars.DataFrame({"sha1": []}),
        polars.DataFrame({"sha1": []}, schema={"sha1": polars.String}),
        pandas.DataFrame({"sha1": [None]}),
        polars.DataFrame({"sha1": [None]}),
        pyarrow.table({"sha1": [None]}),
    ],
    ids=lambda frame: f"{type(frame).__module__}-{len(frame)}",
)
def test_columns_of_a_frame_without_blobs_have_their_types(frame: Any, store: Sha1Composite) -> None:
    found = get(store, frame)
    if isinstance(found, polars.DataFrame):
        binary, *texts = (found.schema[name] for name in ADDED.names)
        assert binary == polars.Binary and all(text == polars.String for text in texts)
    elif isinstance(found, pandas.DataFrame):
        assert [found[name].dtype for name in ADDED.names] == [pandas.ArrowDtype(field.type) for field in ADDED]
    else:
        assert pyarrow.schema([found.schema.field(name) for name in ADDED.names]) == ADDED
    assert len(found) == len(frame)
    assert [row["kind"] for row in rows(found)] == ["invalid"] * len(frame)


DIGEST = bytes.fromhex(ONE)


@pytest.mark.parametrize(
    "frame",
    [
        pyarrow.table({"sha1": [DIGEST]}),
        pyarrow.table({"sha1": pyarrow.array([DIGEST], pyarrow.binary(20))}),
        pyarrow.table({"sha1": pyarrow.array([DIGEST]).dictionary_encode()}),
        pandas.DataFrame({"sha1": [DIGEST]}),
        pandas.DataFrame({"sha1": pandas.Series([DIGEST], dtype=pandas.ArrowDtype(pyarrow.binary(20)))}),
        polars.DataFrame({"sha1": [DIGEST]}),
        polars.DataFrame({"sha1": [ONE.encode()]}),
    ],
    ids=["arrow", "arrow of 20 bytes", "arrow dictionary", "pandas", "pandas of arrow", "polars", "polars of text"],
)
def test_raw_digests_name_blobs(frame: Any, store: Sha1Composite) -> None:
    assert [row["data"] for row in rows(get(store, frame))] == [b"one"]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (pandas.Series([ONE], name="hash"), "hash"),
        (pandas.Series([ONE]), "sha1"),
        (polars.Series("hash", [ONE]), "hash"),
        (polars.Series([ONE]), "sha1"),
        (pyarrow.array([ONE]), "sha1"),
        (pyarrow.chunked_array([[ONE]]), "sha1"),
    ],
)
def test_a_series_becomes_a_frame(values: Any, name: str, store: Sha1Composite) -> None:
    for options, column in ({}, name), ({"column": "which"}, "which"):
        found = get(store, values, **options)
        assert list(rows(found)[0]) == [column, *ADDED.names]
        assert rows(found)[0]["data"] == b"one"
    if isinstance(values, pandas.Series):
        assert store.get_frame(values.set_axis(["here"])).index.tolist() == ["here"]


def test_get_table_takes_what_exports_arrow(store: Sha1Composite) -> None:
    given = [pyarrow.RecordBatch.from_pydict({"sha1": [ONE]}), pandas.DataFrame({"sha1": [ONE]}), pandas.Series([ONE])]
    if hasattr(pyarrow, "string_view"):  # an older Arrow cannot read the text that Polars exports
        given += [polars.DataFrame({"sha1": [ONE]}), polars.Series([ONE])]
    for made in given:
        found = store.get_table(made)
        assert isinstance(found, pyarrow.Table)
        assert found["data"].to_pylist() == [b"one"]
    indexed = store.get_table(pandas.DataFrame({"sha1": [ONE]}, index=[7]), "sha1")
    assert indexed["__index_level_0__"].to_pylist() == [7]


def test_new_columns_are_named_as_asked(store: Sha1Composite) -> None:
    names: dict[str, Any] = {"data_column": "blob", "source_column": "from", "error_column": "why", "kind_column": None}
    for frame in (WHOLE["arrow"], WHOLE["pandas"], WHOLE["polars"]):
        assert list(rows(get(store, frame, **names))[0]) == ["n", "sha1", "blob", "from", "why"]
    (batch,) = store.get_batches(WHOLE["arrow"], "sha1", **names)
    assert batch.schema.names == ["n", "sha1", "blob", "from", "why"]


@pytest.mark.parametrize(
    ("frame", "options", "error", "told"),
    [
        ({"hash": [ONE], "n": [1]}, {"column": "sha1"}, ValueError, "no column 'sha1'; there are 'hash', 'n'"),
        ({"a": [ONE], "b": [ONE]}, {}, ValueError, r"say which column holds the digests \(column=...\); .* 'a', 'b'"),
        ({"sha1": [ONE], "SHA-1": [ONE]}, {}, ValueError, "say which column holds the digests"),
        (
            {"sha1": [ONE], "data": [1]},
            {},
            ValueError,
            "already has a column 'data'; name .* data_column",
        ),
        (
            {"sha1": [ONE], "kind": [1]},
            {},
            ValueError,
            "already has a column 'kind'; name .* kind_column",
        ),
        ({"sha1": [1]}, {}, TypeError, "column 'sha1' has the type .*nt64, but it must hold digests: text or bytes"),
        ({"sha1": [ONE]}, {"data_column": "sha1"}, ValueError, "must all have different names"),
        ({"sha1": [ONE]}, {"kind_column": ""}, TypeError, "a column is named by a non-empty str"),
        ({"sha1": [ONE]}, {"column": ["sha1"]}, TypeError, r"column=\['sha1'\]: name one column"),
        ({"sha1": [ONE]}, {"errors": "ignore"}, ValueError, "errors='ignore': choose one of return, raise"),
        ({"sha1": [ONE]}, {"timeout": 0}, ValueError, "timeout=0: must be more than 0 seconds"),
        ({"sha1": [ABSENT]}, {"errors": "raise"}, NotFoundInStore, f"{ABSENT}: missing in"),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error(
    frame: dict[str, Any], options: dict[str, Any], error: type[Exception], told: str, store: Sha1Composite
) -> None:
    for made in (pyarrow.table(frame), pandas.DataFrame(frame), polars.DataFrame(frame)):
        with pytest.raises(error, match=told):
            get(store, made, **options)
    with pytest.raises(error, match=told):
        store.get_batches(pyarrow.table(frame), **options).read_all()


@pytest.mark.parametrize("call", ["get_frame", "get_table", "get_batches"])
@pytest.mark.parametrize(
    "value",
    [ONE, [ONE], {"sha1": [ONE]}, None, polars.LazyFrame({"sha1": [ONE]})],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_is_no_frame_is_an_error(call: str, value: Any, store: Sha1Composite) -> None:
    lazy = isinstance(value, polars.LazyFrame)
    with pytest.raises(TypeError, match=r"LazyFrame: .* before collect\(\)" if lazy else "expected .*, got builtins"):
        getattr(store, call)(value)


def test_a_frame_comes_back_as_one_of_its_own_library(store: Sha1Composite) -> None:
    frame, table = pandas.DataFrame({"sha1": [ONE]}), polars.DataFrame({"sha1": [ONE]})
    assert_type(store.get_frame(frame, "sha1", errors="raise", kind_column=None), pandas.DataFrame)
    assert_type(store.get_frame(frame["sha1"]), pandas.DataFrame)
    assert_type(store.get_frame(table, column="sha1", timeout=30), polars.DataFrame)

    class Named(pandas.DataFrame):
        """A frame of another library, made of one of pandas."""

    assert store.get_frame(Named(frame))["data"].tolist() == [b"one"]


def test_a_value_for_another_method_is_an_error_that_names_it(store: Sha1Composite) -> None:
    with pytest.raises(TypeError, match="get_table takes it"):
        store.get_frame(WHOLE["arrow"])
    for series in (pandas.Series([ONE]), polars.Series([ONE])):
        with pytest.raises(TypeError, match="get_frame takes it"):
            store.get_batches(series)


def test_two_columns_of_one_name_are_an_error(store: Sha1Composite) -> None:
    twice = [pandas.DataFrame([[ONE, ONE]], columns=["sha1", "sha1"]), pyarrow.table([[ONE], [ONE]], ["sha1", "sha1"])]
    for frame in twice:
        for options in ({}, {"column": "sha1"}):
            with pytest.raises(ValueError, match="2 columns are called 'sha1': rename all but one"):
                get(store, frame, **options)
    others = pandas.DataFrame([[ONE, 1, 2]], columns=["sha1", "n", "n"])
    assert store.get_frame(others).columns.tolist() == ["sha1", "n", "n", *ADDED.names]


def test_a_keyboard_interrupt_ends_the_lookups_at_once() -> None:
    code = """
import os, signal, threading
import pyarrow
from tests.stores import Shelf, blobs
store = Shelf(blobs(100))
batches = store.get_batches
for call in (store.get_table, lambda table: batches(table).read_all(), lambda table: list(batches(table))):
    store.gate, store.entered = threading.Event(), threading.Semaphore(0)
    threading.Thread(target=lambda: store.entered.acquire() and os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        call(pyarrow.table({"uri": list(store.held)}))
    except KeyboardInterrupt:
        print("interrupted")
    store.gate.set()
"""
    assert run(code).split() == ["interrupted"] * 3


# -- streams


def made(store: MadeStore, count: int) -> pyarrow.Table:
    return pyarrow.table({"n": range(count), "uri": [f"{number:040x}" for number in range(count)]})


@pytest.mark.parametrize(
    "shape",
    [
        lambda table: table,
        lambda table: table.to_batches(max_chunksize=7),
        lambda table: iter(table.to_batches(max_chunksize=7)),
        lambda table: pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=7)),
        pyarrow.dataset.dataset,
        lambda table: pyarrow.dataset.dataset(table).scanner(batch_size=9),
        lambda table: [table[:3], table[3:3], table[3:]],
    ],
    ids=["table", "list", "iterator", "reader", "dataset", "scanner", "tables"],
)
def test_a_stream_has_the_rows_of_the_table(shape: Any) -> None:
    store = MadeStore(100)
    table = made(store, 50)
    reader = store.get_batches(shape(table), "uri", batch_bytes=1000)
    assert isinstance(reader, pyarrow.RecordBatchReader)
    assert reader.schema == pyarrow.schema([*table.schema, *ADDED])
    batches = list(reader)
    assert max(batch.column("data").nbytes for batch in batches) < 2000
    assert pyarrow.Table.from_batches(batches) == store.get_table(table, "uri").combine_chunks()


def test_rows_of_a_stream_are_those_of_the_column(store: Sha1Composite) -> None:
    for size in (1, "64MiB"):
        for width in range(1, 9):
            batches = WHOLE["arrow"].to_batches(max_chunksize=width)
            check_mixed(store.get_batches(batches, "sha1", batch_bytes=size).read_all())


def test_a_stream_reads_ahead_no_further_than_lookups_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_ROWS", 10)
    store, read = MadeStore(1000), 0

    def batches(value: Any) -> Iterator[pyarrow.RecordBatch]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield pyarrow.RecordBatch.from_pydict(
                {"uri": pyarrow.array([value and value(number)] * 10, pyarrow.string())}
            )

    reader = store.get_batches(batches(str), max_bytes="100kB", batch_bytes=5000)
    for _ in range(50):
        next(reader)
    assert 50 <= read < 2000
    read = 0
    reader = store.get_batches(batches(None))  # nothing is looked up, and yet not all is read
    assert next(reader).column("kind").to_pylist() == ["invalid"] * 10
    assert read < 5


def test_lookups_of_the_next_batch_begin_before_the_last_answer_of_a_batch() -> None:
    store = Shelf(blobs(40))
    store.gate = threading.Event()
    batches = pyarrow.table({"uri": list(store.held)}).to_batches(max_chunksize=1)
    reader = store.get_batches(batches)
    threading.Thread(target=reader.read_all, daemon=True).start()
    for _ in range(10):
        assert store.entered.acquire(timeout=60)
    store.gate.set()


def test_a_blob_that_occurs_again_in_a_batch_is_looked_up_once() -> None:
    store = Shelf(blobs(3))
    one, two, three = store.held
    table = pyarrow.table({"uri": [one, two, one, three, two, one]})
    assert store.get_batches(table, batch_bytes=1, in_flight=1).read_all()["data"].to_pylist() == [
        store.held[uri] for uri in table["uri"].to_pylist()
    ]
    assert sorted(store.asked) == sorted(store.held)


def test_an_error_of_the_stream_comes_after_the_rows_before_it() -> None:
    def batches() -> Iterator[pyarrow.RecordBatch]:
        yield pyarrow.RecordBatch.from_pydict({"uri": ["a"]})
        raise PermissionError(13, "the disk is locked")

    reader = MadeStore(50).get_batches(batches())
    assert next(reader).num_rows == 1
    with pytest.raises(PermissionError, match="the disk is locked"):
        next(reader)


@pytest.mark.parametrize(
    ("batches", "error", "told"),
    [
        ([], ValueError, "there is no batch"),
        ([{"uri": ["a"]}], TypeError, "expected a RecordBatch or a table .*, got builtins.dict"),
        (
            [pyarrow.RecordBatch.from_pydict({"uri": ["a"]}), 7],
            TypeError,
            "expected a RecordBatch or a table of Arrow, got builtins.int",
        ),
        (
            [
                pyarrow.RecordBatch.from_pydict({"uri": ["a"]}),
                pyarrow.RecordBatch.from_pydict({"uri": ["a"], "n": [1]}),
            ],
            ValueError,
            "batch 1 has other columns than the first one: uri: string, n: int64",
        ),
        ([pyarrow.RecordBatch.from_pydict({"n": [1]})], TypeError, "column 'n' has the type int64"),
    ],
)
def test_a_stream_of_something_else_is_an_error(batches: list[Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        MadeStore(50).get_batches(batches).read_all()


def test_lookups_end_with_the_reader() -> None:
    store = Shelf(blobs(1000))
    closed = threading.Event()

    def batches() -> Iterator[pyarrow.RecordBatch]:
        try:
            for uri in store.held:
                yield pyarrow.RecordBatch.from_pydict({"uri": [uri]})
        finally:
            closed.set()

    reader = store.get_batches(batches(), in_flight=4)
    next(reader)
    del reader
    gc.collect()
    assert closed.wait(60)
    assert len(store.asked) < 100


@pytest.mark.soak  # of each kind of rows; tests/test_ray_batches.py has one such batch in every run
def test_columns_may_hold_more_than_two_gigabytes() -> None:
    large = bytes(70 << 20)
    store = OddStore({str(number): large for number in range(40)})  # each blob is a chunk, and all are one object
    column = store.get_table(pyarrow.array(list(store.answers)))["data"]
    assert column.nbytes > 2**31
    column.validate(full=True)
    assert column.type == pyarrow.large_binary()
    assert all(value.as_buffer().size == len(large) for value in column)
    batches = store.get_batches(pyarrow.table({"uri": list(store.answers)}))
    assert [batch.num_rows for batch in batches] == [1] * 40


# -- Parquet


@pytest.mark.parametrize("written", ["arrow", "pandas", "polars", "stream", "dataset"])
@pytest.mark.parametrize("read", ["arrow", "pandas", "polars"])
def test_parquet_keeps_rows_and_kinds(written: str, read: str, store: Sha1Composite, tmp_path: Path) -> None:
    path = tmp_path / "part-0.parquet"
    table: Any = WHOLE["arrow"]
    if written == "arrow":
        pyarrow.parquet.write_table(store.get_table(table), path)
    elif written == "pandas":
        store.get_frame(WHOLE["pandas"]).to_parquet(path)
    elif written == "polars":
        store.get_frame(WHOLE["polars"]).write_parquet(path)
    elif written == "stream":
        reader = store.get_batches(table.to_batches(max_chunksize=3))
        with pyarrow.parquet.ParquetWriter(path, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    else:  # read in a thread of Arrow
        pyarrow.dataset.write_dataset(store.get_batches(table), tmp_path, format="parquet")
    if read == "arrow":
        check_mixed(pyarrow.parquet.read_table(path))
    elif read == "polars":
        check_mixed(polars.read_parquet(path))
    else:
        frame = pandas.read_parquet(path, dtype_backend="pyarrow")
        check_mixed(frame)
        if written == "pandas":
            assert frame.index.tolist() == list("aabbccdd")
            assert pandas.read_parquet(path)["data"].dropna().tolist() == [data for data in DATA if data is not None]


# -- imports


def test_frames_import_no_other_library_than_their_own(tmp_path: Path) -> None:
    (tmp_path / ONE).write_bytes(b"one")
    code = f"""
from bitstore import *
store = Sha1Store(FileRaw(), {tmp_path.as_uri() + "/"!r})
"""
    assert loaded(code, ["pandas", "polars", "pyarrow"]) == []
    assert loaded(f"{code}\nimport pyarrow\nstore.get_table(pyarrow.array([{ONE!r}]))", ["polars"]) == []


def test_an_error_names_the_extra_that_has_pyarrow() -> None:
    run(f"""{WITHOUT_EXTRAS}
from bitstore import *
try:
    Sha1Store(FileRaw(), "file:///nowhere/").get_frame([])
except ImportError as error:
    assert "pip install 'epic-bitstore[frames]'" in str(error), error
else:
    raise AssertionError("no error")
""")
