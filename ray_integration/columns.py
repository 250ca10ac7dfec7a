"""The new columns of a piece of a batch, in the making."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

    from ray_integration.answer import Answer

__all__ = ["Columns"]


class Columns:
    """Collects answers, and makes Arrow columns of them.

    Parameters
    ----------
    data, source, error
        The columns' names.
    chunk_bytes
        Bytes of blobs after which a chunk of the columns is made.

    Attributes
    ----------
    rows, size
        How many answers were added, and the bytes of their blobs.
    """

    def __init__(self, data: str, source: str, error: str, *, chunk_bytes: int) -> None:
        self._names = (data, source, error)
        self._chunk_bytes = chunk_bytes
        self._clear()

    def _clear(self) -> None:
        self.rows = self.size = self._loose = 0
        self._answers: list[Answer] = []
        self._chunks: list[tuple[pyarrow.Array, ...]] = []

    def add(self, answer: Answer) -> None:
        """Take in the answer of the next row."""
        self._answers.append(answer)
        self.rows += 1
        size = answer.size
        self.size += size
        self._loose += size
        # Now and then, and not all in the end: memory that the kernel has to hand out anew costs more than filling it,
        # and the blobs to come get that of the blobs that were copied.
        if self._loose >= self._chunk_bytes:
            self._pack()

    def take(self) -> dict[str, pyarrow.ChunkedArray]:
        """The columns. Afterwards there are none, so that their bytes are here once."""
        import pyarrow

        if self._answers or not self._chunks:
            self._pack()
        arrays = zip(*self._chunks, strict=True)
        columns = {name: pyarrow.chunked_array(list(chunks)) for name, chunks in zip(self._names, arrays, strict=True)}
        self._clear()
        return columns

    def _pack(self) -> None:
        import pyarrow

        answers = self._answers
        self._chunks.append(
            (
                _large_binary([answer.data for answer in answers]),
                pyarrow.array([answer.source for answer in answers], pyarrow.string()),
                pyarrow.array([answer.told for answer in answers], pyarrow.string()),
            )
        )
        answers.clear()
        self._loose = 0


def _large_binary(blobs: list[bytes | None]) -> pyarrow.Array:
    """The same as `pyarrow.array(blobs, pyarrow.large_binary())`.

    That one lets its buffer grow as it goes, and so takes memory anew, and copies, several times over: for blobs of
    16 KB at ten times the cost.
    """
    import pyarrow

    held = [blob or b"" for blob in blobs]
    ends = array("q", [0])
    ends.extend(accumulate(map(len, held)))
    # An array of truths has its bits in the very form in which others tell what is not null.
    present = pyarrow.array([blob is not None for blob in blobs]).buffers()[1] if None in blobs else None
    buffers = [present, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(held))]
    return pyarrow.Array.from_buffers(pyarrow.large_binary(), len(blobs), buffers)
