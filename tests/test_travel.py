"""Statistics and answers travel: they pickle, copy, and become dicts, frames, Parquet and JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from bitstore import Blob, NotFoundInStore, Sha1Composite, TierStats
from tests.stores import Box, Shelf, as_cache, as_source, blobs, composed

HELD = blobs(3)
ABSENT = "0" * 40


def composite() -> Sha1Composite:
    return composed(as_cache(Box(), "box"), as_source(Shelf(HELD), "shelf"))


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.fixture
def stats() -> TierStats:
    store = composite()
    list(store.get_many([*HELD, ABSENT]))
    return store.stats()["shelf"]


COPIES = pytest.mark.parametrize("copied", [pickled, copy.copy, copy.deepcopy])


@COPIES
def test_statistics_pickle_copy_and_become_dicts(stats: TierStats, copied: Callable[[Any], Any]) -> None:
    assert copied(stats) == stats and stats.hits == 3 and stats.misses == 1
    assert dataclasses.asdict(stats) == stats.as_dict() == json.loads(stats.as_json())


def test_statistics_do_not_change_after_they_were_taken() -> None:
    store = composite()
    before = store.stats()["shelf"]
    store.get(next(iter(HELD)))
    assert before.hits == 0 and store.stats()["shelf"].hits == 1


def test_statistics_become_rows_of_a_frame(stats: TierStats, tmp_path: Path) -> None:
    tables = [pandas.DataFrame([stats]), pandas.DataFrame([stats.as_dict()])]
    for table in tables:
        assert table.loc[0, "hits"] == 3 and table.loc[0, "name"] == "shelf"
        table.to_parquet(tmp_path / "stats.parquet")


@COPIES
def test_answers_pickle_and_copy_with_their_values(copied: Callable[[Any], Any]) -> None:
    for blob in composite().get_many([*HELD, ABSENT, "nonsense"]):
        other = copied(blob)
        assert (other.index, other.uri, other.data, other.source) == (blob.index, blob.uri, blob.data, blob.source)
        assert type(other.error) is type(blob.error) and str(other.error) == str(blob.error)
        assert other.found == blob.found and repr(other) == repr(blob)


def test_an_answer_with_an_error_that_does_not_pickle_can_be_pickled() -> None:
    class Locked(Exception):
        def __init__(self) -> None:
            super().__init__("its text")
            self.lock = threading.Lock()

    other = pickled(Blob(0, "x", error=Locked()))
    assert other.failed and "its text" in str(other.error)


def test_answers_become_a_frame_and_a_parquet_file(tmp_path: Path) -> None:
    asked = [*HELD, ABSENT, "nonsense"]
    answers: Any
    for answers in (composite().get_many(asked), list(composite().get_many(asked))):
        frame = pandas.DataFrame(answers)
        # pandas before 3 puts the columns of mappings in alphabetical order.
        assert sorted(frame.columns) == ["data", "error", "index", "source", "uri"]
        frame.to_parquet(tmp_path / "blobs.parquet")
        back: Any = pandas.read_parquet(tmp_path / "blobs.parquet").set_index("uri")
        assert {uri: back.loc[uri, "data"] for uri in HELD} == HELD
        assert back.loc[list(HELD), "error"].isna().all()
        assert back.loc[ABSENT, "error"].startswith(f"NotFoundInStore: {ABSENT}: missing")
        assert back.loc["nonsense", "error"].startswith("InvalidURI: ")


def test_an_answer_becomes_a_row_of_a_table() -> None:
    blob = Blob(3, "x", b"\x00\xff", "bucket")
    assert (
        dict(blob) == blob.as_dict() == {"index": 3, "uri": "x", "data": b"\x00\xff", "source": "bucket", "error": None}
    )
    assert json.loads(blob.as_json())["data"] == "AP8="
    failed = Blob(0, "x", error=OSError("https://host/?key=secret"))
    assert json.loads(failed.as_json())["error"] == "OSError: https://host/?***"
    assert blob == Blob(3, "x", b"\x00\xff", "bucket") != failed
    match blob:
        case Blob(3, "x", data, _, None):
            assert data == b"\x00\xff"
        case _:
            raise AssertionError("a blob matches its fields in order")
    with pytest.raises(KeyError):
        blob["found"]
    assert Blob(0, ABSENT, error=NotFoundInStore("x", ABSENT)).missing
