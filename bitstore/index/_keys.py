"""Digests as numbers: the first eight bytes order an index, the next eight tell digests with equal first ones apart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from bitstore._support.digests import Algorithm

if TYPE_CHECKING:
    import numpy

    Pairs = numpy.ndarray[Any, numpy.dtype[numpy.void]]

__all__ = ["PAIR", "numbers", "pairs_of", "pairs_of_many", "require_numpy"]

PAIR = [("a", "<u8"), ("b", "<u8")]  # the columns of an array of pairs
_PORTION = 65536  # digests


def require_numpy() -> Any:
    """The module `numpy`. ImportError that says what to install."""
    try:
        import numpy
    except ImportError as error:
        raise ImportError(
            "building a membership index and asking it in batches need NumPy: pip install 'epic-bitstore[index]'"
        ) from error
    return numpy


def numbers(digest: bytes) -> tuple[int, int]:
    """The two numbers of a raw digest."""
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")


def pairs_of(raw: Any, size: int) -> Pairs:
    """The pairs of raw digests that stand one after the other, `size` bytes each."""
    numpy = require_numpy()
    rows = numpy.frombuffer(raw, dtype=numpy.uint8).reshape(-1, size)
    whole = numpy.ascontiguousarray(rows[:, :16]).view(">u8")
    pairs: Pairs = numpy.empty(len(rows), dtype=PAIR)
    pairs["a"], pairs["b"] = whole[:, 0], whole[:, 1]
    return pairs


def pairs_of_many(digests: Iterable[Any], algorithm: Algorithm) -> Iterator[Pairs]:
    """The pairs of digests in any of the forms that stores take, in portions.

    Raises
    ------
    ValueError
        One of them is no digest of `algorithm`; the text names it.
    """
    size = algorithm.length // 2
    left = iter(digests)
    while portion := list(islice(left, _PORTION)):
        yield pairs_of(_raw(portion, algorithm, size), size)


def _raw(portion: list[Any], algorithm: Algorithm, size: int) -> bytes:
    kinds = set(map(type, portion))
    lengths = set(map(len, portion)) if kinds in ({bytes}, {str}) else set()
    if kinds == {bytes} and lengths == {size}:
        return b"".join(portion)
    if kinds == {str} and lengths == {algorithm.length}:
        with contextlib.suppress(ValueError):
            raw = bytes.fromhex("".join(portion))
            if len(raw) == size * len(portion):  # else there are blanks among them, which fromhex passes over
                return raw
    texts = []
    for each in portion:
        digest = algorithm.parse(each)
        if digest is None:
            raise ValueError(f"{each!r} is no digest of {algorithm.name}")
        texts.append(digest)
    return bytes.fromhex("".join(texts))
