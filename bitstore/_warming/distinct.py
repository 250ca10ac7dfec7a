"""Many digests, each once, in bounded memory: what does not fit is sorted on the disk."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from typing import IO, Any

from bitstore._support.digests import Algorithm
from bitstore.errors import BitstoreError

__all__ = ["Distinct", "SpillError"]

_HELD = 1 << 26  # bytes of digests that wait in memory before they are sorted
_PARTS = 256  # by one byte: so many parts of the digests are sorted one after the other
_PORTION = 4096  # digests that are joined before they are taken in


class SpillError(BitstoreError):
    """The folder for digests that do not fit into memory cannot be used, such as for want of room."""


class Distinct:
    """A set of digests: their raw bytes (20 of a SHA-1, 32 of a SHA-256), and no object for each.

    Up to `held` bytes lie in memory. More are sorted there and put aside into a temporary file without a name, as one
    sorted run after the other. The runs come together part by part: a part is the digests with one first byte. A part
    that would itself be too large is taken apart by the next byte. NumPy sorts where it is installed, and else Python.

    Parameters
    ----------
    algorithm
        The algorithm of all digests.
    digests
        The first digests, in hexadecimal characters.
    folder
        Where digests are put aside. None: the folder for temporary files of this machine.
    held
        Bytes of digests in memory before they are put aside. Sorting takes some four times as much.
    at
        The byte of a digest, from 0, by which the parts are made. All bytes before it are equal in all digests.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        digests: Iterable[str] = (),
        *,
        folder: str | os.PathLike[str] | None = None,
        held: int = _HELD,
        at: int = 0,
    ) -> None:
        self._algorithm = algorithm
        self._size = algorithm.length // 2
        self._folder = folder
        self._most = max(held, self._size)
        self._at = at
        self._held = bytearray()  # digests that were not put aside
        self._ordered = 0  # length of `_held` when it was sorted and freed of repetitions last
        self._aside: IO[bytes] | None = None  # the runs, one after the other
        # For each run: where in the file each part begins, in bytes, and where the last part ends.
        self._runs: list[list[int]] = []
        left = iter(digests)
        while portion := list(itertools.islice(left, _PORTION)):
            self.add_raw(bytes.fromhex("".join(portion)))

    def add(self, digest: str) -> None:
        """Take in a digest, in hexadecimal characters. Raises `SpillError`."""
        self.add_raw(bytes.fromhex(digest))

    def add_raw(self, raw: bytes) -> None:
        """Take in raw digests that stand one after the other. Raises `SpillError`."""
        self._held += raw
        if len(self._held) >= self._most:
            self._order()
            if len(self._held) > self._most // 2:  # else repetitions were most of it
                self._put_aside([bytes(self._held)])
                self._held.clear()
                self._ordered = 0

    def remove(self, *others: Distinct) -> list[int]:
        """Drop the digests that `others` have too; for each of these, how many it dropped. Raises `SpillError`.

        What the first of them dropped does not count for the second.
        """
        counts = [0] * len(others)
        if not self._runs and not any(other._runs for other in others):
            self._order()
            self._held = bytearray(self._rid(self._held, [other._held for other in others], counts))
            self._ordered = len(self._held)
            return counts
        self._put_all_aside()
        before, runs, self._aside, self._runs = self._aside, self._runs, None, []
        try:
            self._put_aside(self._rest(before, runs, others, counts))
        finally:
            if before is not None:
                with contextlib.suppress(OSError):
                    before.close()
        return counts

    def __len__(self) -> int:
        """How many different digests there are. Raises `SpillError`."""
        if not self._is_settled():
            self.remove()
        return (len(self._held) + sum(run[-1] - run[0] for run in self._runs)) // self._size

    def __iter__(self) -> Iterator[str]:
        """All digests, in an order that depends on them alone. Raises `SpillError`.

        A digest of each part in turn: stores that spread their load by the first characters of keys, as S3 does, would
        have to bear a sorted list at one place.
        """
        if not self._is_settled():
            self.remove()
        (edges,) = self._runs or [self._edges(self._held)]
        spans = [(start, end) for start, end in itertools.pairwise(edges) if start < end]
        step = max(1, self._most // 16 // _PARTS // self._size) * self._size
        while spans:
            texts = [self._read(self._aside, start, min(end, start + step)).hex() for start, end in spans]
            length = self._algorithm.length
            for place in range(0, 2 * step, length):
                found = [text[place : place + length] for text in texts if place < len(text)]
                if not found:
                    break
                yield from found
            spans = [(start + step, end) for start, end in spans if start + step < end]

    def close(self) -> None:
        """Let go of all digests, and of what they take on the disk."""
        self._held.clear()
        self._ordered = 0
        self._runs = []
        if self._aside is not None:
            with contextlib.suppress(OSError):  # of what could not be written before
                self._aside.close()
            self._aside = None

    # ------------------------------------------------------------------ in memory

    def _is_settled(self) -> bool:
        """Whether no digest is there twice."""
        in_memory = not self._runs and self._ordered == len(self._held)
        return in_memory or (len(self._runs) == 1 and not self._held)

    def _order(self) -> None:
        if self._ordered != len(self._held):
            self._held = bytearray(_unique(self._held, self._size))
            self._ordered = len(self._held)

    def _rid(self, digests: bytes | bytearray, others: list[bytes | bytearray], counts: list[int]) -> bytes:
        """Sorted digests without those of `others`, which are in any order."""
        left = bytes(digests)
        for number, other in enumerate(others):
            before = len(left)
            left = _without(left, other, self._size)
            counts[number] += (before - len(left)) // self._size
        return left

    def _edges(self, run: bytes | bytearray, base: int = 0) -> list[int]:
        """Where each part of a sorted run begins, and where the last one ends; `base` is where the run begins."""
        size, at = self._size, self._at
        rows = range(len(run) // size)
        starts = [bisect_left(rows, byte, key=lambda row: run[row * size + at]) for byte in range(_PARTS)]
        return [base + size * start for start in (*starts, len(rows))]

    # ------------------------------------------------------------------ on the disk

    def _put_all_aside(self) -> None:
        self._order()
        if self._held:
            self._put_aside([bytes(self._held)])
            self._held.clear()
            self._ordered = 0

    def _put_aside(self, pieces: Iterable[bytes]) -> None:
        """Write a sorted run that comes in pieces."""
        edges: list[int] = []
        with self._reported():
            if self._aside is None:
                self._aside = tempfile.TemporaryFile(dir=self._folder, prefix=".bitstore-", suffix=".tmp")  # noqa: SIM115
            end = start = self._aside.seek(0, os.SEEK_END)
        parts = [0] * _PARTS  # bytes of each
        for piece in pieces:
            for byte, (begin, behind) in enumerate(itertools.pairwise(self._edges(piece))):
                parts[byte] += behind - begin
            with self._reported():
                self._aside.write(piece)
            end += len(piece)
        with self._reported():
            self._aside.flush()
        edges = [start, *itertools.accumulate(parts, initial=start)][1:]
        assert edges[-1] == end
        self._runs.append(edges)

    def _rest(
        self, aside: IO[bytes] | None, runs: list[list[int]], others: tuple[Distinct, ...], counts: list[int]
    ) -> Iterator[bytes]:
        """The digests of all runs in `aside` without repetitions and without those of `others`, sorted, in pieces."""
        for other in others:
            if other._runs:
                other._put_all_aside()
            else:
                other._order()
        for byte in range(_PARTS):
            mine = [(run[byte], run[byte + 1]) for run in runs]
            theirs = [other._spans(byte) for other in others]
            total = max(sum(end - start for start, end in spans) for spans in (mine, *theirs))
            if total > 2 * self._most and self._at + 1 < self._size:
                yield from self._taken_apart(aside, mine, others, theirs, counts)
                continue
            digests = _unique(b"".join([self._read(aside, *span) for span in mine]), self._size)
            read = [
                b"".join([other._read(other._aside, *span) for span in spans])
                for other, spans in zip(others, theirs, strict=True)
            ]
            yield self._rid(digests, list(read), counts)

    def _taken_apart(
        self,
        aside: IO[bytes] | None,
        mine: list[tuple[int, int]],
        others: tuple[Distinct, ...],
        theirs: list[list[tuple[int, int]]],
        counts: list[int],
    ) -> Iterator[bytes]:
        """One part that is too large for memory, by the next byte."""
        with contextlib.ExitStack() as stack:
            inner = [
                stack.enter_context(contextlib.closing(self._inner(source, source_file, spans)))
                for source, source_file, spans in [
                    (self, aside, mine),
                    *((other, other._aside, spans) for other, spans in zip(others, theirs, strict=True)),
                ]
            ]
            first, *rest = inner
            for number, count in enumerate(first.remove(*rest)):
                counts[number] += count
            yield from first._pieces()

    def _inner(self, source: Distinct, file: IO[bytes] | None, spans: list[tuple[int, int]]) -> Distinct:
        found = Distinct(self._algorithm, folder=self._folder, held=self._most, at=self._at + 1)
        step = max(1, self._most // 4 // self._size) * self._size
        for start, end in spans:
            for place in range(start, end, step):
                found.add_raw(source._read(file, place, min(end, place + step)))
        return found

    def _pieces(self) -> Iterator[bytes]:
        """All digests sorted, once they are settled."""
        (edges,) = self._runs or [[0, len(self._held)]]
        step = max(1, self._most // 4 // self._size) * self._size
        for place in range(edges[0], edges[-1], step):
            yield self._read(self._aside, place, min(edges[-1], place + step))

    def _spans(self, byte: int) -> list[tuple[int, int]]:
        return [(run[byte], run[byte + 1]) for run in self._runs or [self._edges(self._held)]]

    def _read(self, aside: IO[bytes] | None, start: int, end: int) -> bytes:
        """Bytes of the file; where nothing was put aside, of what is held."""
        if aside is None:
            return bytes(self._held[start:end])
        with self._reported():
            aside.seek(start)
            data = aside.read(end - start)
        if len(data) != end - start:
            raise SpillError(f"digests that were put aside into {self._place} are not there any more")
        return data

    @property
    def _place(self) -> str:
        return os.fspath(self._folder) if self._folder is not None else tempfile.gettempdir()

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpillError(
                f"digests that do not fit into memory cannot be put aside into {self._place}: "
                f"{error.strerror or error} (they take up to {3 * self._size} bytes each; TMPDIR names another folder)"
            ) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} digests)"


@cache
def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def _unique(raw: bytes | bytearray, size: int) -> bytes:
    """Raw digests sorted, each once."""
    numpy = _numpy()
    if numpy is None or not raw:
        data = bytes(raw)
        return b"".join(sorted({data[start : start + size] for start in range(0, len(data), size)}))
    # As bytes of one length: NumPy compares them as memcmp does. Its `unique` takes eight times as long.
    rows = numpy.sort(numpy.frombuffer(raw, dtype=f"S{size}"))
    fresh = numpy.ones(len(rows), dtype=bool)
    fresh[1:] = rows[1:] != rows[:-1]
    found: bytes = rows[fresh].tobytes()
    return found


def _without(digests: bytes, others: bytes | bytearray, size: int) -> bytes:
    """Sorted different `digests` without `others`, which are in any order."""
    if not digests or not others:
        return digests
    numpy = _numpy()
    if numpy is None:
        data = bytes(others)
        known = {data[start : start + size] for start in range(0, len(data), size)}
        rows = (digests[start : start + size] for start in range(0, len(digests), size))
        return b"".join([row for row in rows if row not in known])
    mine, theirs = (numpy.frombuffer(each, dtype=f"S{size}") for each in (digests, others))
    theirs = numpy.sort(theirs)
    at = numpy.minimum(numpy.searchsorted(theirs, mine), len(theirs) - 1)
    left: bytes = mine[theirs[at] != mine].tobytes()
    return left
