"""The layout `fuse`: a binary fuse filter, about 18 bits a digest; "may be here" is wrong for one digest in 65,536.

T. M. Graf, D. Lemire: Binary Fuse Filters: Fast and Smaller Than Xor Filters (https://arxiv.org/abs/2201.01174); sizes
of segments and arrays as there. Digests are uniform, so their own bits stand for hash functions: the first eight bytes
say where a digest looks, the next eight which three of its slots and the 16 bits that these come to. The filter is made
in parts of about a million digests by their first bits, each small enough for the CPU's cache.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bitstore.index._file import BLOCK, IndexFile, SectionWriter
from bitstore.index._keys import require_numpy

if TYPE_CHECKING:
    from bitstore.index._keys import Pairs

__all__ = ["LAYOUT", "Fuse", "part_bits", "write_fuse"]

LAYOUT = 2
_PER_PART = 1 << 20  # digests
_MOST_SEGMENT = 1 << 18
_TRIES = 64  # seeds of one part; each succeeds in all but a few percent of all cases
_MASK = (1 << 64) - 1
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # odd, with well mixed bits: another try mixes the digest's bits
_ENTRY = 4  # numbers of the table for each part: first slot, slots of a segment, segments less two, seed


def part_bits(expected: int) -> int:
    """By how many of their first bits digests are divided into parts, if there are about `expected` of them."""
    return max(0, round(math.log2(max(1, expected) / _PER_PART)))


def write_fuse(out: SectionWriter, parts: Iterable[Pairs], expected: int) -> dict[str, Any]:
    """Write pairs in ascending order, of which `expected` come at most; returns what the description has to say."""
    numpy = require_numpy()
    bits = part_bits(expected)
    table = numpy.zeros(((1 << bits), _ENTRY), dtype="<u8")
    count = slots = 0
    for number, pairs in _by_part(parts, bits):
        filled, segment, segments, seed = _fill(pairs)
        out.write(filled)
        table[number] = slots, segment, segments, seed
        slots += len(filled)
        count += len(pairs)
    at = out.align()
    out.write(table)
    return {"count": count, "bits": bits, "slots": slots, "parts": at}


def _by_part(arrays: Iterable[Pairs], bits: int) -> Iterable[tuple[int, Pairs]]:
    """The digests of each part, without doubles; parts without digests are left out."""
    numpy = require_numpy()
    held: list[Pairs] = []
    number = 0
    for pairs in arrays:
        while len(pairs):
            # How many of these belong to the part whose number is `number`.
            stop = len(pairs) if not bits else _below(numpy, pairs["a"], (number + 1) << (64 - bits))
            if stop:
                held.append(pairs[:stop])
                pairs = pairs[stop:]
            if len(pairs):  # the part is complete
                if held:
                    yield number, _distinct(numpy, held)
                held = []
                number = int(pairs["a"][0]) >> (64 - bits)
    if held:
        yield number, _distinct(numpy, held)


def _below(numpy: Any, keys: Any, bound: int) -> int:
    return len(keys) if bound > _MASK else int(numpy.searchsorted(keys, numpy.uint64(bound)))


def _distinct(numpy: Any, held: list[Pairs]) -> Pairs:
    pairs: Pairs = numpy.concatenate(held)
    pairs = pairs[numpy.lexsort((pairs["b"], pairs["a"]))]
    fresh = numpy.ones(len(pairs), dtype=bool)
    fresh[1:] = pairs[1:] != pairs[:-1]
    distinct: Pairs = pairs[fresh]
    return distinct


def _sizes(count: int) -> tuple[int, int]:
    """Slots of a segment, and how many segments a digest's first slot may be in."""
    if count <= 1:
        return 4, 1
    segment = min(_MOST_SEGMENT, 1 << int(math.log(count) / math.log(3.33) + 2.25))
    factor = max(1.125, 0.875 + 0.25 * math.log(1_000_000) / math.log(count))
    return segment, max(1, -(-round(count * factor) // segment) - 2)


def _fill(pairs: Pairs) -> tuple[Any, int, int, int]:
    """The slots of one part."""
    numpy = require_numpy()
    segment, segments = _sizes(len(pairs))
    for seed in range(_TRIES):
        a, b = _mixed(numpy, pairs["a"], pairs["b"], seed)
        places = numpy.stack(_places(a, b, segment, segments))
        order = _peel(numpy, places, segment * (segments + 2))
        if order is not None:
            break
    else:  # the digests are no digests: such as thousands that differ in few bits
        raise ValueError("no filter can be made of these digests: they are not spread as digests are")
    slots = numpy.zeros(segment * (segments + 2), dtype="<u2")
    prints = (b >> numpy.uint64(48)).astype("<u2")
    # Backwards: the slot of each digest is free, and its other two have got what they will hold.
    for keys, mine in reversed(order):
        three = places[:, keys]
        slots[mine] = 0
        slots[mine] = prints[keys] ^ slots[three[0]] ^ slots[three[1]] ^ slots[three[2]]
    return slots, segment, segments, seed


def _peel(numpy: Any, places: Any, size: int) -> list[tuple[Any, Any]] | None:
    """Digests in rounds, each with a slot that no digest of a later round has; None: some digests share all slots.

    All digests that are alone in some slot go at once: whatever the other two slots of one are, none of them is the
    slot in which another of the same round is alone.
    """
    count = places.shape[1]
    degree = numpy.bincount(places.ravel(), minlength=size).astype(numpy.int32)
    mixed = numpy.zeros(size, dtype=numpy.int64)  # the numbers of all digests of a slot, by XOR
    every = numpy.arange(count, dtype=numpy.int64)
    for row in places:
        numpy.bitwise_xor.at(mixed, row, every)
    order = []
    left = count
    chosen = numpy.empty(max(count, size), dtype=numpy.int64)
    lonely = numpy.flatnonzero(degree == 1)
    while len(lonely):
        keys, which = _one_each(numpy, chosen, mixed[lonely])
        order.append((keys, lonely[which]))
        left -= len(keys)
        touched = places[:, keys]
        for row in touched:
            numpy.subtract.at(degree, row, 1)
            numpy.bitwise_xor.at(mixed, row, keys)
        near = touched.ravel()
        lonely, _ = _one_each(numpy, chosen, near[degree[near] == 1])
    return order if left == 0 else None


def _one_each(numpy: Any, chosen: Any, values: Any) -> tuple[Any, Any]:
    """Each of `values` once, and where it stood. Without sorting: `chosen` is scratch memory, indexed by value."""
    every = numpy.arange(len(values))
    chosen[values] = every
    which = numpy.flatnonzero(chosen[values] == every)
    return values[which], which


def _mixed(numpy: Any, a: Any, b: Any, seed: int) -> tuple[Any, Any]:
    if not seed:
        return a, b
    odd = [numpy.uint64(pow(number, seed, 1 << 64)) for number in _ODD]
    a, b = (a ^ b) * odd[0], (b ^ (a >> numpy.uint64(29))) * odd[1]
    return a ^ (a >> numpy.uint64(32)), b ^ (b >> numpy.uint64(32))


def _places(a: Any, b: Any, segment: int, segments: int) -> tuple[Any, Any, Any]:
    """The three slots of each digest, for arrays as for single numbers."""
    kind = type(a) if not hasattr(a, "dtype") else a.dtype.type
    # The low half of the first number: its upper bits are equal throughout a part.
    first = ((a & kind(0xFFFFFFFF)) * kind(segments * segment)) >> kind(32)
    second = (first + kind(segment)) ^ (b & kind(segment - 1))
    third = (first + kind(2 * segment)) ^ ((b >> kind(20)) & kind(segment - 1))
    if kind is int:
        return first, second, third
    return first.astype("i8"), second.astype("i8"), third.astype("i8")


class Fuse:
    """Looks into a file of this layout."""

    def __init__(self, file: IndexFile) -> None:
        told = file.description
        self.count: int = told["count"]
        self._bits: int = told["bits"]
        self._parts_at: int = told["parts"]
        entries = _ENTRY << self._bits
        if not (2 * told["slots"] <= self._parts_at and self._parts_at + 8 * entries == file.size):
            raise ValueError("its sections do not fit its description")
        self._file = file
        file.check(self._parts_at, file.size)
        self._slots = file.section(0, 2 * told["slots"], "H")
        with file.section(self._parts_at, file.size, "Q") as table:
            self._parts = table.tolist()
        for start, segment, segments, _ in zip(*[iter(self._parts)] * _ENTRY, strict=True):
            if start + segment * (segments + 2) * bool(segment) > told["slots"]:
                raise ValueError("its table of parts does not fit its slots")

    def may_hold(self, a: int, b: int) -> bool:
        """Whether a digest is there, or one that looks like it."""
        part = _ENTRY * (a >> (64 - self._bits)) if self._bits else 0
        start, segment, segments, seed = self._parts[part : part + _ENTRY]
        if not segment:
            return False
        if seed:
            odd = [pow(number, seed, 1 << 64) for number in _ODD]
            a, b = (a ^ b) * odd[0] & _MASK, (b ^ (a >> 29)) * odd[1] & _MASK
            a, b = a ^ (a >> 32), b ^ (b >> 32)
        found = b >> 48
        for place in _places(a, b, segment, segments):
            at = start + place
            if not self._file.known[2 * at // BLOCK]:
                self._file.check_block(2 * at // BLOCK)
            found ^= self._slots[at]
        return not found

    def may_hold_many(self, pairs: Pairs) -> Any:
        """Whether each of `pairs` is there, as an array of bool."""
        numpy = require_numpy()
        found = numpy.zeros(len(pairs), dtype=bool)
        slots = numpy.frombuffer(self._slots, dtype="<u2")
        known = numpy.frombuffer(self._file.known, dtype=numpy.uint8)
        tops = (
            (pairs["a"] >> numpy.uint64(64 - self._bits)).astype("i8") if self._bits else numpy.zeros(len(pairs), int)
        )
        order = numpy.argsort(tops, kind="stable")
        edges = numpy.searchsorted(tops[order], numpy.arange((1 << self._bits) + 1))
        for part in numpy.flatnonzero(edges[1:] > edges[:-1]).tolist():
            start, segment, segments, seed = self._parts[_ENTRY * part : _ENTRY * (part + 1)]
            if not segment:
                continue
            rows = order[edges[part] : edges[part + 1]]
            a, b = _mixed(numpy, pairs["a"][rows], pairs["b"][rows], seed)
            result = (b >> numpy.uint64(48)).astype("<u2")
            for places in _places(a, b, segment, segments):
                places += start
                blocks = 2 * places // BLOCK
                for block in numpy.unique(blocks[known[blocks] == 0]).tolist():
                    self._file.check_block(block)
                result ^= slots[places]
            found[rows] = result == 0
        return found

    def release(self) -> None:
        """Let go of the file's memory."""
        with contextlib.suppress(BufferError):
            self._slots.release()
