"""A look at a dataset with blobs (its rows, its schema, their number) asks a paid source for no more than is shown."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import MemoryCache, Sha1Composite
from ray_integration import FetchBlobs, fetch_blobs
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

    def read(self) -> Any:
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


LOOKS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "take": (lambda ds: ds.take(1), 1),
    "take_batch": (lambda ds: ds.take_batch(5), 5),
    "limit": (lambda ds: ds.limit(7).materialize(), 7),
    "limit after a map": (lambda ds: ds.map(upper).limit(7).materialize(), 7),
    "limit after columns": (lambda ds: ds.select_columns(["sha1", "data"]).take(2), 2),
    "count": (lambda ds: ds.count(), 0),
    "count and schema of a limit": (lambda ds: (ds.limit(7).count(), ds.limit(7).schema()), 0),
    "schema": (lambda ds: ds.schema(), 0),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_calls_only_for_what_it_shows(calls: Calls, look: str) -> None:
    act, most = LOOKS[look]
    act(calls.fetch())
    assert calls.made == most


def test_a_look_through_two_fetches_calls_only_for_what_it_shows(calls: Calls, tmp_path: Path) -> None:
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


def test_looks_at_rows_in_memory_and_over_node_stores_call_only_for_what_they_show(calls: Calls) -> None:
    ds = calls.fetch(ray.data.from_items([{"sha1": digest} for digest in DIGESTS]), routing="owner")
    assert ds.count() == 2000
    assert ds.schema().names == ["sha1", "data", "source", "error"]
    assert calls.made == 0
    assert [row["data"] for row in ds.take(7)] == [digest.encode() for digest in DIGESTS[:7]]
    assert calls.made == 7


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "numpy"])
def test_the_schema_without_lookups_is_that_of_the_rows(calls: Calls, batch_format: str) -> None:
    ds = calls.fetch(calls.read().limit(3), batch_format=batch_format)
    before = ds.schema()
    assert calls.made == 0
    after = ds.materialize().schema()
    assert (before.names, before.types) == (after.names, after.types)
    assert ds.schema(fetch_if_missing=False) is None


def test_a_dataset_that_was_pickled_looks_as_cheaply(calls: Calls) -> None:
    dumps: Callable[[Any], bytes] = ray.cloudpickle.dumps
    ds = pickle.loads(dumps(calls.fetch()))
    assert (ds.count(), len(ds.take(2)), calls.made) == (2000, 2, 2)


def test_the_schema_of_an_unknown_column_is_an_error(calls: Calls) -> None:
    with pytest.raises(Exception, match="no column 'sha256'"):
        calls.fetch(calls.read().map(upper), column="sha256").schema()


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
