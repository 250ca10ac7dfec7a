"""A look at a dataset with blobs (its rows, its schema, their number) asks a paid source for no more than is shown."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data
from ray.data import Dataset
from ray.data.expressions import col

from bitstore import MemoryCache, Sha1Composite
from ray_integration import FetchBlobs, NodePool, fetch_blobs
from tests.ray_stores import NotedAPI

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150), pytest.mark.usefixtures("shared_ray")]

DIGESTS = [hashlib.sha1(str(number).encode()).hexdigest() for number in range(2000)]


class Calls:
    """A store with a paid source whose calls are counted, and datasets of 2,000 digests."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "calls"
        self.store = Sha1Composite()
        self.store.append_cache(MemoryCache("10MB"))
        self.store.append_source(NotedAPI(self.log))
        self.list = folder / "hashes.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"sha1": DIGESTS}), self.list)

    def read(self, digests: list[str] | None = None) -> Any:
        """The dataset of the digests; of others, if they are given."""
        if digests is not None:
            pyarrow.parquet.write_table(pyarrow.table({"sha1": digests}), self.list)
        return ray.data.read_parquet(str(self.list))

    def fetch(self, rows: Any = None, **options: Any) -> Any:
        return fetch_blobs(self.read() if rows is None else rows, self.store, **{"routing": "direct", **options})

    @property
    def made(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


def upper(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "upper": row["sha1"].upper()}


def marked(batch: Any) -> Any:
    return batch.append_column("mark", pyarrow.array([True] * len(batch)))


def sized(batch: Any) -> Any:
    return pyarrow.array([len(blob.as_py()) for blob in batch["data"]])


def has_blob(row: dict[str, Any]) -> bool:
    return len(row["data"]) > 0


def with_size(ds: Any) -> Any:
    return ds.add_column("size", sized, batch_format="pyarrow")


LOOKS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "take": (lambda ds: ds.take(1), 1),
    "take_batch": (lambda ds: ds.take_batch(5), 5),
    "show": (lambda ds: ds.show(3), 3),
    "limit": (lambda ds: ds.limit(7).materialize(), 7),
    "count": (lambda ds: ds.count(), 0),
    "count and schema of a limit": (lambda ds: (ds.limit(7).count(), ds.limit(7).schema()), 0),
    "schema": (lambda ds: ds.schema(), 0),
    "columns": (lambda ds: ds.drop_columns(["data"]).columns(), 0),
    "what the plan tells": (lambda ds: (repr(ds.drop_columns(["data"])), ds.input_files(), ds.stats()), 0),
    "schema after a function": (lambda ds: ds.map(upper).drop_columns(["data"]).schema(), 1),
    "schema after a function of batches": (lambda ds: ds.map_batches(marked, batch_format="pyarrow").schema(), 1),
    "schema after a filter": (lambda ds: ds.filter(has_blob).schema(), 0),
    "take of a sample": (lambda ds: ds.random_sample(0.5).take(2), 2),
    "all of a sample": (lambda ds: len(ds.random_sample(0.0).take_all()), 0),
    "take of a union": (lambda ds: ds.limit(2).union(ds).take(3), 3),
    "count of a union": (lambda ds: ds.limit(5).union(ds.limit(5)).count(), 0),
    "schema of a union": (lambda ds: ds.union(ds).schema(), 0),
}

# After each of these 2 blobs are fetched for 2 rows, and none to count all.
STEPS: dict[str, Callable[[Any], Any]] = {
    "select_columns": lambda ds: ds.select_columns(["sha1", "data"]),
    "drop_columns": lambda ds: ds.drop_columns(["data", "source"]),
    "rename_columns of all": lambda ds: ds.rename_columns(["a", "b", "c", "d"]),
    "add_column": with_size,
    "with_column": lambda ds: ds.with_column("copy", col("sha1")),
    "map": lambda ds: ds.map(upper),
    "several": lambda ds: with_size(ds).map(upper).drop_columns(["data"]).rename_columns({"upper": "text"}),
    "repartition": lambda ds: ds.repartition(3),
    "sort after drop_columns": lambda ds: ds.drop_columns(["data"]).sort(["sha1"]),
    "random_shuffle": lambda ds: ds.drop_columns(["error"]).random_shuffle(),
    "randomize_block_order": lambda ds: ds.randomize_block_order(),
}


# Before 2.54 Ray took the sample from as many rows as were asked for.
LIMITS_PASS_SAMPLES = inspect.signature(Dataset.map_batches).parameters["udf_modifying_row_count"].default is False
# Of the long suite, as the slow steps below.
SLOW_LOOKS = ("take_batch", "show", "all of a sample", "count of a union", "schema of a union")


@pytest.mark.parametrize(
    "look", [pytest.param(look, marks=pytest.mark.soak if look in SLOW_LOOKS else ()) for look in LOOKS]
)
def test_a_look_at_a_dataset_calls_only_for_the_rows_it_shows(calls: Calls, look: str) -> None:
    act, most = LOOKS[look]
    act(calls.fetch())
    if look == "take of a sample" and LIMITS_PASS_SAMPLES:
        assert calls.made <= most
    else:
        assert calls.made == most


# Steps that Ray takes long for on two cores, and those of which `several` consists.
SLOW = (
    "with_column", "rename_columns of all", "sort after drop_columns", "random_shuffle", "randomize_block_order",
    "add_column", "map", "drop_columns",
)  # fmt: skip


@pytest.mark.parametrize("step", [pytest.param(step, marks=pytest.mark.soak if step in SLOW else ()) for step in STEPS])
def test_a_look_after_a_step_calls_only_for_the_rows_it_shows(calls: Calls, step: str) -> None:
    ds = STEPS[step](calls.fetch())
    assert (ds.count(), calls.made) == (2000, 0)
    rows = ds.take(2)
    assert (len(rows), calls.made) == (2, 2)
    assert list(rows[0]) == ds.schema().names


def test_a_sort_shows_its_first_rows_and_refuses_an_unknown_column(calls: Calls) -> None:
    rows = calls.fetch().sort("sha1", descending=True).take(3)
    assert [row["data"].decode() for row in rows] == sorted(DIGESTS, reverse=True)[:3]
    assert calls.made == 3
    with pytest.raises(Exception, match="no such column"):
        calls.fetch().drop_columns(["sha1"]).sort("sha1").take(3)


def test_a_look_through_two_fetches_calls_only_for_the_rows_it_shows(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Calls(tmp_path / "other")
    both = other.fetch(
        calls.fetch(), data_column="data2", source_column="source2", error_column="error2"
    )  # fmt: skip
    assert both.schema().names == ["sha1", "data", "source", "error", "data2", "source2", "error2"]
    assert both.count() == 2000
    assert (calls.made, other.made) == (0, 0)
    assert len(both.take(3)) == 3
    assert (calls.made, other.made) == (3, 3)


def test_looks_at_rows_in_memory_and_over_node_stores_call_only_for_the_rows_they_show(calls: Calls) -> None:
    ds = calls.fetch(ray.data.from_items([{"sha1": digest} for digest in DIGESTS]), routing="owner")
    assert ds.count() == 2000
    assert ds.schema().names == ["sha1", "data", "source", "error"]
    assert calls.made == 0
    assert [row["data"] for row in ds.take(7)] == [digest.encode() for digest in DIGESTS[:7]]
    assert calls.made == 7


ROUTED: list[dict[str, Any]] = [{"routing": None}, {"routing": "owner"}]  # None: "local", because of the paid source


@pytest.mark.parametrize("options", ROUTED, ids=["default", "owner"])
def test_looks_by_way_of_node_stores_call_only_for_the_rows_they_show(calls: Calls, options: dict[str, Any]) -> None:
    ds = calls.fetch(**options)
    assert ds.count() == 2000
    assert ds.schema().names == ["sha1", "data", "source", "error"]
    assert calls.made == 0
    assert [row["data"] for row in ds.limit(3).take_all()] == [digest.encode() for digest in DIGESTS[:3]]
    assert calls.made == 3
    assert [row["data"] for row in ds.take(7)] == [digest.encode() for digest in DIGESTS[:7]]
    assert calls.made == 7  # the node store has the first three


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("routing", ["local", "owner"])
def test_every_look_by_way_of_node_stores_calls_only_for_the_rows_it_shows(calls: Calls, routing: str) -> None:
    took: dict[str, int] = {}
    with NodePool(calls.store, private=True) as pool:

        def fresh(number: int) -> Any:
            digests = [hashlib.sha1(f"{number} {row}".encode()).hexdigest() for row in range(2000)]
            return calls.fetch(calls.read(digests), pool=pool, routing=routing)

        for number, (name, (act, _)) in enumerate(LOOKS.items()):
            before = calls.made
            act(fresh(number))
            took[name] = calls.made - before
        for number, (name, step) in enumerate(STEPS.items(), len(LOOKS)):
            before = calls.made
            ds = step(fresh(number))
            assert (ds.count(), calls.made - before, len(ds.take(2))) == (2000, 0, 2), name
            took[name] = calls.made - before
    assert {name: took[name] for name in LOOKS if took[name] > LOOKS[name][1]} == {}
    assert {name: took[name] for name in STEPS if took[name] > 2} == {}


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", pytest.param("numpy", marks=pytest.mark.soak)])
def test_the_schema_without_lookups_is_that_of_the_rows(calls: Calls, batch_format: str) -> None:
    ds = calls.fetch(calls.read().limit(3), batch_format=batch_format)
    before = ds.schema()
    assert calls.made == 0
    after = ds.materialize().schema()
    assert (before.names, before.types) == (after.names, after.types)
    assert ds.schema(fetch_if_missing=False) is None


def test_a_look_at_a_pickled_dataset_calls_only_for_the_rows_it_shows(calls: Calls) -> None:
    dumps: Callable[[Any], bytes] = ray.cloudpickle.dumps
    ds = pickle.loads(dumps(calls.fetch()))
    assert (ds.count(), len(ds.take(2)), calls.made) == (2000, 2, 2)


def test_the_schema_of_an_unknown_column_is_an_error(calls: Calls) -> None:
    with pytest.raises(Exception, match="no column 'sha256'"):
        calls.fetch(calls.read().map(upper), column="sha256").schema()


@pytest.mark.parametrize("empty", [pyarrow.table({}), pandas.DataFrame(), {}], ids=["pyarrow", "pandas", "numpy"])
def test_an_empty_block_without_columns_tells_no_schema(empty: Any) -> None:
    assert list(FetchBlobs(Sha1Composite()).without_lookups(empty)) == []


class NotedBatches(FetchBlobs):
    """Notes how many rows are looked up together."""

    def _lookups(self, texts: dict[Any, str]) -> Any:
        with Path(self.store.log).open("a") as file:
            file.write(f"{len(texts)}\n")
        return super()._lookups(texts)


def test_small_blocks_are_looked_up_together_and_large_ones_in_parts(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ray_integration._fetch.blob_dataset.FetchBlobs", NotedBatches)
    small = ray.data.from_items([{"sha1": digest} for digest in DIGESTS], override_num_blocks=100)
    for number, rows in enumerate([small, calls.read()]):
        log = tmp_path / str(number)
        assert fetch_blobs(rows, Quiet(log), batch_size=500).materialize().count() == 2000
        assert list(map(int, log.read_text().split())) == [500] * 4


class Quiet:
    """Makes each blob from its digest. Its log is for others."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str)

    def get(self, uri: str) -> bytes:
        return uri.encode()
