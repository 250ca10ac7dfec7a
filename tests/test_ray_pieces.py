"""Pieces of the answers of node stores: bounded, complete, and in memory that is used again."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from bitstore._frames.buffers import BufferPool
from bitstore._frames.row_answer import RowAnswer
from bitstore._frames.rows import answers
from ray_integration._node import pieces
from ray_integration._node.pieces import Packer, Piece


def packed(blobs: list[bytes], buffers: BufferPool) -> Iterator[Piece]:
    packer = Packer(buffers)
    for position, data in enumerate(blobs):
        if not packer.has_room(len(data)):
            yield packer.take()
        packer.add(position, data, "disk")
    yield packer.take()


SIZES: dict[str, list[int]] = {
    "none": [],
    "empty": [0, 0],
    "small": [1, 0, 7] * 1000,
    "as many as a piece takes": [1] * 1024,
    "middling": [1_000_000] * 40,
    "large, and around it": [5, 17 << 20, 0, 16 << 20, 1, (16 << 20) + 1],
}


@pytest.mark.parametrize("what", SIZES)
def test_pieces_hold_all_blobs_within_their_bounds(what: str) -> None:
    blobs = [bytes([number % 251]) * size for number, size in enumerate(SIZES[what])]
    seen: list[tuple[int, bytes, str]] = []
    for piece in packed(blobs, BufferPool()):
        assert len(piece.found) <= pieces._PIECE_ROWS
        assert len(piece.data) <= pieces._PIECE_BYTES or len(piece.found) == 1
        buffers: list[pickle.PickleBuffer] = []
        sent = pickle.dumps(piece, protocol=5, buffer_callback=buffers.append)
        assert len(sent) < 500 + 30 * len(piece.found), "the blobs do not travel within the pickle"
        seen += [(at, bytes(data), source) for at, data, source in pickle.loads(sent, buffers=buffers).blobs()]
    assert seen == [(at, data, "disk") for at, data in enumerate(blobs)]


def test_the_memory_of_a_piece_is_used_again_only_when_the_piece_is_gone() -> None:
    pool = BufferPool()
    held = list(packed([bytes([number]) * 1_000_000 for number in range(50)], pool))
    assert [bytes(data)[:1] for piece in held for _, data, _ in piece.blobs()] == [bytes([n]) for n in range(50)]
    places = {piece.data.ctypes.data for piece in held}
    assert len(places) == len(held) == 4
    del held
    (first, *_) = packed([b"x"], pool)
    assert first.data.ctypes.data in places


def test_rows_without_a_blob_and_unpaid_ones_are_in_the_piece() -> None:
    packer = Packer(BufferPool())
    packer.add_other((3, "missing: x", None))
    packer.unpaid.append(4)
    piece = packer.take()
    assert (piece.found, piece.others, piece.unpaid) == ([], [(3, "missing: x", None)], [4])
    after = packer.take()
    assert (after.found, after.others, after.unpaid) == ([], [], [])


def test_a_blob_that_occurs_in_later_rows_keeps_no_piece() -> None:
    view = memoryview(b"all of the piece")[:3]
    rows = answers(["a", "b", "a"], iter([RowAnswer(view, "disk"), RowAnswer(view, "disk")]).__next__, raises=False)
    next(rows)
    assert type(list(rows)[-1].data) is bytes
