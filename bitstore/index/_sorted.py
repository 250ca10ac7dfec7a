"""The layout `sorted`: the first eight bytes of each digest in order, and where each part of them begins.

An answer "may be here" is wrong for one digest in 2**64 / count. Two such indexes merge into one.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bitstore.index._file import BLOCK, IndexFile, SectionWriter
from bitstore.index._keys import require_numpy

if TYPE_CHECKING:
    from bitstore.index._keys import Pairs

__all__ = ["LAYOUT", "Sorted", "write_sorted"]

LAYOUT = 1
_PER_PART = 16  # numbers between two entries of the table of parts, at least: few lines of memory for each lookup


def write_sorted(out: SectionWriter, parts: Iterable[Pairs], expected: int) -> dict[str, Any]:
    """Write pairs in ascending order, of which `expected` come at most; returns what the description has to say."""
    numpy = require_numpy()
    bits = max(0, (max(expected, 1) // _PER_PART).bit_length() - 1)
    ends = numpy.zeros((1 << bits) + 1, dtype=numpy.uint64)
    count = 0
    last = None
    for pairs in parts:
        keys = pairs["a"]
        fresh = numpy.ones(len(keys), dtype=bool)
        fresh[1:] = keys[1:] != keys[:-1]
        if len(keys):
            fresh[0] = last is None or keys[0] != last
            last = keys[-1]
        keys = keys[fresh]
        out.write(numpy.ascontiguousarray(keys, dtype="<u8"))
        count += len(keys)
        if bits:
            tops = (keys >> numpy.uint64(64 - bits)).astype(numpy.int64)
            ends[1:] += numpy.bincount(tops, minlength=1 << bits).astype(numpy.uint64)
        else:
            ends[1] += numpy.uint64(len(keys))
    at = out.align()
    out.write(numpy.cumsum(ends, dtype="<u8"))
    return {"count": count, "bits": bits, "parts": at}


class Sorted:
    """Looks into a file of this layout."""

    def __init__(self, file: IndexFile) -> None:
        told = file.description
        self.count: int = told["count"]
        self._bits: int = told["bits"]
        self._parts_at: int = told["parts"]
        entries = (1 << self._bits) + 1
        if not (8 * self.count <= self._parts_at and self._parts_at + 8 * entries == file.size):
            raise ValueError("its sections do not fit its description")
        self._file = file
        self._keys = file.section(0, 8 * self.count, "Q")
        self._parts = file.section(self._parts_at, file.size, "Q")

    def may_hold(self, a: int, b: int) -> bool:
        """Whether the number `a` is there."""
        part = a >> (64 - self._bits) if self._bits else 0
        at = self._parts_at + 8 * part
        self._file.check(at, at + 16)
        start, end = self._parts[part], self._parts[part + 1]
        if start == end:
            return False
        self._file.check(8 * start, 8 * end)
        at = bisect_left(self._keys, a, start, end)
        return at < end and self._keys[at] == a

    def may_hold_many(self, pairs: Pairs) -> Any:
        """Whether the number `a` of each of `pairs` is there, as an array of bool."""
        numpy = require_numpy()
        keys = numpy.frombuffer(self._keys, dtype="<u8")
        # In ascending order the search goes through memory once instead of to and fro.
        order = numpy.argsort(pairs["a"])
        wanted = pairs["a"][order]
        if not len(keys):
            return numpy.zeros(len(wanted), dtype=bool)
        at = numpy.minimum(self._places(numpy, keys, wanted), len(keys) - 1)
        found = numpy.empty(len(wanted), dtype=bool)
        found[order] = keys[at] == wanted
        return found

    def _places(self, numpy: Any, keys: Any, wanted: Any) -> Any:
        """Where each of `wanted` is, or would be: within its part of the table, by halves."""
        parts = numpy.frombuffer(self._parts, dtype="<u8").astype(numpy.int64) if self._bits < 12 else None
        tops = (wanted >> numpy.uint64(64 - self._bits)).astype(numpy.int64) if self._bits else wanted.astype("i8") * 0
        table = numpy.frombuffer(self._parts, dtype="<u8") if parts is None else parts
        self._check(numpy, self._parts_at // BLOCK + (self._parts_at % BLOCK + 8 * tops) // BLOCK)
        self._check(numpy, (self._parts_at + 8 * tops + 8) // BLOCK)
        low = table[tops].astype(numpy.int64)
        high = table[tops + 1].astype(numpy.int64)
        self._check_ranges(numpy, 8 * low, 8 * high)
        for _ in range(int((high - low).max()).bit_length() if len(low) else 0):
            middle = (low + high) >> 1
            below = keys[numpy.minimum(middle, len(keys) - 1)] < wanted
            below &= low < high
            low = numpy.where(below, middle + 1, low)
            high = numpy.where(below, high, middle)
        return low

    def _check_ranges(self, numpy: Any, start: Any, end: Any) -> None:
        first, last = start // BLOCK, numpy.maximum(end - 1, start) // BLOCK
        for step in range(int((last - first).max()) + 1 if len(first) else 0):
            self._check(numpy, numpy.minimum(first + step, last))

    def _check(self, numpy: Any, blocks: Any) -> None:
        known = numpy.frombuffer(self._file.known, dtype=numpy.uint8)
        blocks = numpy.minimum(blocks, len(known) - 1)
        for block in numpy.unique(blocks[known[blocks] == 0]).tolist():
            self._file.check_block(block)

    def all_keys(self) -> Any:
        """All numbers in ascending order, verified; for merging."""
        self._file.check(0, 8 * self.count)
        return require_numpy().frombuffer(self._keys, dtype="<u8")

    def release(self) -> None:
        """Let go of the file's memory."""
        with contextlib.suppress(BufferError):
            self._keys.release()
            self._parts.release()
