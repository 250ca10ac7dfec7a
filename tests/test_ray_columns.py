"""The new columns of a piece, and what an actor spares Python's garbage collector."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas
import pyarrow
import pytest

from bitstore import NotFoundInStore
from bitstore._frames.buffers import BufferPool
from bitstore._frames.columns import ColumnNames, Columns
from bitstore._frames.row_answer import RowAnswer
from ray_integration import FetchBlobs
from tests.ray_stores import MadeStore, OddStore

TYPES = {"data": pyarrow.large_binary(), "source": pyarrow.string(), "error": pyarrow.string()}


def columns(chunk_bytes: int) -> Columns:
    return Columns(ColumnNames(), chunk_bytes=chunk_bytes, buffers=BufferPool())


def types(taken: dict[str, pyarrow.ChunkedArray]) -> dict[str, pyarrow.DataType]:
    return {name: values.type for name, values in taken.items()}


def test_rows_keep_their_order_over_chunks() -> None:
    missing = RowAnswer.without_blob("missing", "0" * 40, NotFoundInStore("the store", "0" * 40))
    given = [RowAnswer(b"a" * 6, "s"), missing, RowAnswer(b"", "s"), RowAnswer(b"b" * 6, "t"), RowAnswer(b"c", "t")]
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
    assert taken["error"].to_pylist() == [answer.text for answer in given]


def test_a_kind_comes_on_top_if_it_has_a_name() -> None:
    table = pyarrow.table({"sha1": ["here", "gone", None]})
    store = OddStore({"here": b"x", "gone": None})
    (plain,) = FetchBlobs(store)(table)
    assert plain.column_names == ["sha1", *TYPES]
    (piece,) = FetchBlobs(store, kind_column="why")(table)
    assert piece.column("why").type == pyarrow.string()
    assert piece.column("why").to_pylist() == [None, "failed", "invalid"]
    assert piece.drop_columns(["why"]) == plain
    made = Columns(ColumnNames(kind="kind"), chunk_bytes=10, buffers=BufferPool())
    made.add(RowAnswer.without_blob("missing", "0" * 40, NotFoundInStore("the store", "0" * 40)))
    assert made.take()["kind"].to_pylist() == ["missing"]
    with pytest.raises(ValueError, match="already has a column 'sha2'; name the new one with kind_column="):
        list(FetchBlobs(store, kind_column="sha2")(table.append_column("sha2", table["sha1"])))


def test_columns_are_empty_after_take() -> None:
    made = columns(4)
    made.add(RowAnswer(b"abcdef", "s"))
    assert made.take()["data"].to_pylist() == [b"abcdef"]
    assert (made.rows, made.size) == (0, 0)
    assert made.take()["data"].to_pylist() == []


def test_columns_of_no_row_have_their_types() -> None:
    assert types(columns(100).take()) == TYPES


def test_a_chunk_ends_before_the_blob_that_has_no_room_in_it() -> None:
    made = columns(6)
    blobs = [b"abcdef", b"ab", b"", b"cdef", b"g", b"longer than a chunk", b"", b"h"]
    for blob in blobs:
        made.add(RowAnswer(blob, "s"))
    taken = made.take()["data"]
    assert [chunk.to_pylist() for chunk in taken.chunks] == [blobs[:1], blobs[1:4], blobs[4:5], blobs[5:7], blobs[7:]]


def address(column: pyarrow.ChunkedArray) -> int:
    """Where the bytes of its first chunk are."""
    return int(column.chunk(0).buffers()[2].address)


def test_memory_is_used_again_and_never_while_a_view_of_it_lives() -> None:
    made = columns(4 << 20)

    def piece(letter: bytes) -> pyarrow.ChunkedArray:
        for _ in range(4):
            made.add(RowAnswer(letter * (1 << 20), "s"))
        return made.take()["data"]

    # Held in each way in which memory can be held.
    column, blob = piece(b"a"), piece(b"b")[1].as_buffer()
    part, frame = piece(b"c").slice(2, 1), piece(b"d").to_pandas(types_mapper=pandas.ArrowDtype)
    free = piece(b"e")
    where = address(free)
    del free
    later = [piece(bytes([number])) for number in range(20)]
    assert where in map(address, later)
    assert [one.to_pylist() for one in later] == [[bytes([number]) * (1 << 20)] * 4 for number in range(20)]
    assert column.to_pylist() == [b"a" * (1 << 20)] * 4
    assert blob.to_pybytes() == b"b" * (1 << 20)
    assert part.to_pylist() == [b"c" * (1 << 20)]
    assert list(frame) == [b"d" * (1 << 20)] * 4


def test_a_buffer_is_lent_again_only_after_all_views_of_it_are_gone() -> None:
    buffers = BufferPool()
    buffer = buffers.take()
    buffers.give(buffer)
    assert buffers.take() is buffer
    buffers.give(buffer)
    shown = memoryview(buffer)[:10]
    assert buffers.take() is not buffer
    shown.release()
    assert buffers.take() is buffer


def test_a_small_piece_holds_no_large_buffer() -> None:
    buffers = BufferPool()
    buffer = buffers.take()
    buffer.extend(bytes(4 << 20))
    buffers.give(buffer)
    made = Columns(ColumnNames(), chunk_bytes=4 << 20, buffers=buffers)
    held = []
    for number in range(3):
        made.add(RowAnswer(bytes([number]) * 1000, "s"))
        held.append(made.take()["data"])
    assert buffers.take() is buffer
    assert [each.to_pylist() for each in held] == [[bytes([number]) * 1000] for number in range(3)]


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


@pytest.mark.parametrize("sizes", [(60,), (84,), (101,), (151,), (301,), (1, 300), (10, 500)])
def test_a_piece_of_large_blobs_has_ten_chunks_at_most(sizes: tuple[int, ...]) -> None:
    store = OddStore({f"blob {index}": bytes(sizes[index % len(sizes)]) for index in range(100)})
    pieces = list(FetchBlobs(store, block_bytes=1000)(pyarrow.table({"sha1": list(store.answers)})))
    assert max(piece.column("data").num_chunks for piece in pieces) <= 10


def test_two_threads_never_have_the_same_buffer() -> None:
    buffers, step = BufferPool(), threading.Barrier(8)

    def work(number: int) -> bool:
        alone = True
        for _ in range(50):
            buffer = buffers.take()
            buffer[:4] = mine = number.to_bytes(4, "big")
            with memoryview(buffer):
                buffers.give(buffer)
                step.wait(60)
                alone &= buffer[:4] == mine
            step.wait(60)
        return alone

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


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
def test_an_actor_spares_the_collector_what_was_there_before_its_batches(shared_ray: Any) -> None:
    import ray

    here = gc.get_freeze_count()
    actor: Any = ray.remote(num_cpus=0)(Frozen).remote()
    first, second, third = ray.get([actor.after_batch.remote() for _ in range(3)], timeout=120)
    assert first > 1000
    assert second > first  # what the first batch imported
    assert third <= second  # later garbage is collected
    # A process that is no actor belongs to the user.
    frozen = Frozen()
    assert max(frozen.after_batch() for _ in range(3)) <= here  # the tests themselves have frozen some, which may end
