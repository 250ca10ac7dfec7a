"""The new columns of a piece, and what an actor spares Python's garbage collector."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import Any

import pyarrow
import pytest

from bitstore import NotFoundInStore
from ray_integration import FetchBlobs
from ray_integration.answer import Answer
from ray_integration.columns import Columns
from tests.ray_stores import MadeStore

TYPES = {"data": pyarrow.large_binary(), "source": pyarrow.string(), "error": pyarrow.string()}


def columns(chunk_bytes: int) -> Columns:
    return Columns("data", "source", "error", chunk_bytes=chunk_bytes)


def types(taken: dict[str, pyarrow.ChunkedArray]) -> dict[str, pyarrow.DataType]:
    return {name: values.type for name, values in taken.items()}


def test_rows_keep_their_order_over_chunks() -> None:
    missing = Answer.without_blob("missing", NotFoundInStore("the store", "0" * 40))
    given = [Answer(b"a" * 6, "s"), missing, Answer(b"", "s"), Answer(b"b" * 6, "t"), Answer(b"c", "t")]
    made = columns(10)
    for answer in given:
        made.add(answer)
    assert (made.rows, made.size) == (5, 13)
    taken = made.take()
    assert types(taken) == TYPES
    assert [values.num_chunks for values in taken.values()] == [2, 2, 2]
    taken["data"].validate(full=True)
    assert taken["data"].null_count == 1
    assert taken["data"].to_pylist() == [answer.data for answer in given]
    assert taken["source"].to_pylist() == [answer.source for answer in given]
    assert taken["error"].to_pylist() == [answer.told for answer in given]


def test_what_is_taken_is_gone() -> None:
    made = columns(4)
    made.add(Answer(b"abcdef", "s"))
    assert made.take()["data"].to_pylist() == [b"abcdef"]
    assert (made.rows, made.size) == (0, 0)
    assert made.take()["data"].to_pylist() == []


def test_columns_of_no_row_have_their_types() -> None:
    assert types(columns(100).take()) == TYPES


def test_a_chunk_ends_on_its_last_byte_and_none_is_empty() -> None:
    made = columns(6)
    for _ in range(2):
        made.add(Answer(b"abcdef", "s"))
    assert [len(chunk) for chunk in made.take()["data"].chunks] == [1, 1]


@pytest.mark.parametrize("size", [1000, 16_384, 300_000])
def test_a_piece_has_ten_chunks_at_most(size: int) -> None:
    block = 1_200_000
    fetch = FetchBlobs(MadeStore(size), block_bytes=block)
    rows = 5 * block // size
    digests = [f"{number:040x}" for number in range(rows)]
    pieces = list(fetch(pyarrow.table({"sha1": digests})))
    assert [digest for piece in pieces for digest in piece.column("sha1").to_pylist()] == digests
    assert len(pieces) > 2
    for piece in pieces:
        assert piece.nbytes < 2 * block
        assert 1 <= piece.column("data").num_chunks <= 10


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    import ray

    ray.init(
        address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING,
        object_store_memory=100 << 20,
    )  # fmt: skip
    try:
        yield ray
    finally:
        ray.shutdown()


class Frozen:
    """Tells after each batch how many objects the collector leaves alone."""

    def __init__(self) -> None:
        self._fetch = FetchBlobs(MadeStore(50))

    def after_batch(self) -> int:
        for _ in self._fetch(pyarrow.table({"sha1": ["0" * 40]})):
            pass
        return gc.get_freeze_count()


@pytest.mark.ray
@pytest.mark.timeout(150)
def test_an_actor_spares_the_collector_what_was_there_before_its_second_batch(ray: Any) -> None:
    here = gc.get_freeze_count()
    actor = ray.remote(num_cpus=0)(Frozen).remote()
    first, second, third = ray.get([actor.after_batch.remote() for _ in range(3)], timeout=120)
    assert first == 0
    assert second > 1000
    assert third <= second  # once: later garbage is collected
    # Another process than an actor is somebody else's.
    frozen = Frozen()
    assert [frozen.after_batch() for _ in range(3)] == [here] * 3
