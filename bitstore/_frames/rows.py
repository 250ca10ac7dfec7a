"""From the column of digests to the rows with their blobs: each blob is looked up once, and rows keep their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

from bitstore._frames.batches import Batch
from bitstore._frames.columns import Columns
from bitstore._frames.row_answer import RowAnswer, answer_of
from bitstore._frames.row_key import row_key
from bitstore._lookup.batch import get_many
from bitstore._lookup.options import LookupOptions

__all__ = ["answers", "lookups", "pieces", "row_keys"]


def row_keys(store: Any, column: Any, values: list[Any]) -> tuple[list[Any], dict[Any, Any]]:
    """What rows ask for.

    Parameters
    ----------
    store
        The store that is asked.
    column
        Name of the column of digests, for errors.
    values
        What the rows have in that column.

    Returns
    -------
    list
        The key of each row, as `row_key` makes it.
    dict
        What is to be looked up, by key, in the order of the first rows that ask for it.
    """
    keys = [row_key(store, column, value) for value in values]
    first: dict[Any, Any] = {}
    for key, value in zip(keys, values, strict=True):
        if not isinstance(key, RowAnswer):
            first.setdefault(key, value if isinstance(value, str) else key)
    return keys, first


def lookups(store: Any, texts: Iterable[Any], options: LookupOptions) -> Generator[RowAnswer, None, None]:
    """One answer for each of `texts`, in their order."""
    # Not store.get_many: a user's own store may lack it, or have one of its own that takes something else.
    blobs: Any = get_many(store, texts, options, ordered=True, errors="return")
    with closing(blobs):
        for blob in blobs:
            answer = answer_of(blob)
            del blob
            yield answer
            del answer


def answers(keys: list[Any], take: Callable[[], RowAnswer], *, raises: bool) -> Iterator[RowAnswer]:
    """One answer a row, in their order; each blob is taken at its first row and let go at its last.

    Parameters
    ----------
    keys
        The keys of the rows, from `row_keys`.
    take
        Returns the answer to the next of the different keys, in the order in which they first occur.
    raises
        Raise the error of the first row that has one.
    """
    uses = Counter(key for key in keys if not isinstance(key, RowAnswer))
    held: dict[Any, RowAnswer] = {}
    for key in keys:
        if isinstance(key, RowAnswer):
            answer = key
        else:
            answer = held.pop(key) if key in held else take()
            uses[key] -= 1
            if uses[key]:
                if isinstance(answer.data, memoryview):  # it would keep all of its piece
                    answer.data = bytes(answer.data)
                held[key] = answer
        if answer.error is not None and raises:
            raise answer.error
        yield answer
        del answer


def pieces(
    rows: Batch,
    start: int,
    end: int,
    incoming: Iterable[RowAnswer],
    columns: Columns,
    piece_bytes: int,
    before: Callable[[], object] = bool,
) -> Iterator[Any]:
    """Rows with their blobs, in the format of `rows`.

    Parameters
    ----------
    rows
        The rows without blobs.
    start, end
        The first row, and the one after the last.
    incoming
        The answers to these rows.
    columns
        Makes the new columns.
    piece_bytes
        A piece ends when it has more bytes of blobs than this. None has half as much again or more, except that a
        larger blob makes a piece of its own.
    before
        Called before each piece is yielded.
    """
    # Ray makes a block of what it has got as soon as that exceeds its target size (128 MiB), and cuts it if it is
    # half as much again or more. A piece in between thus becomes a block as it is, without being copied together.
    most = piece_bytes + piece_bytes // 2 - 1
    for answer in incoming:
        if columns.size and (columns.size > piece_bytes or columns.size + answer.size > most):
            stop = start + columns.rows
            before()
            # Nothing here may keep a piece alive while Ray works on it: no variable has it.
            yield rows.part(start, stop, columns.take())
            start = stop
        columns.add(answer)
        del answer
    before()
    yield rows.part(start, end, columns.take())
