"""Many digests, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bitstore._support.digests import Algorithm

__all__ = ["Distinct"]

_BUCKETS = 256
_SLACK = 1 << 16  # digests that may be held twice however few there are


class Distinct:
    """A set of digests in little memory: their raw bytes (20 of a SHA-1, 32 of a SHA-256), and no object for each.

    They lie end to end in 256 buckets by their first byte. Repetitions are dropped now and then, a bucket at a time, so
    that at most twice the distinct ones are held.

    Parameters
    ----------
    algorithm
        The algorithm of all digests.
    digests
        The first digests.
    """

    def __init__(self, algorithm: Algorithm, digests: Iterable[str] = ()) -> None:
        self._size = algorithm.length // 2
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self._held = 0  # digests in the buckets, with repetitions
        self._sorted = 0  # of these, when repetitions were dropped last
        for digest in digests:
            self.add(digest)

    def add(self, digest: str) -> None:
        """Take in a digest, in hexadecimal characters."""
        raw = bytes.fromhex(digest)
        self._buckets[raw[0]] += raw
        self._held += 1
        if self._held > 2 * self._sorted + _SLACK:
            self._sort()

    def remove(self, others: Distinct) -> None:
        """Drop the digests that `others` has too."""
        for number, bucket in enumerate(self._buckets):
            left = self._split(bucket) - self._split(others._buckets[number])
            self._buckets[number] = bytearray(b"".join(sorted(left)))
        self._count()

    def __len__(self) -> int:
        if self._held != self._sorted:
            self._sort()
        return self._held

    def __iter__(self) -> Iterator[str]:
        """All digests, in an order that depends on them alone.

        A digest of each bucket in turn: stores that spread their load by the first characters of keys, as S3 does,
        would have to bear a sorted list at one place.
        """
        if self._held != self._sorted:
            self._sort()
        size = self._size
        buckets = [bucket for bucket in self._buckets if bucket]
        start = 0
        while buckets:
            for bucket in buckets:
                yield bucket[start : start + size].hex()
            start += size
            buckets = [bucket for bucket in buckets if len(bucket) > start]

    def _sort(self) -> None:
        for number, bucket in enumerate(self._buckets):
            self._buckets[number] = bytearray(b"".join(sorted(self._split(bucket))))
        self._count()

    def _split(self, bucket: bytearray) -> set[bytes]:
        size, raw = self._size, bytes(bucket)
        return {raw[start : start + size] for start in range(0, len(raw), size)}

    def _count(self) -> None:
        self._held = self._sorted = sum(map(len, self._buckets)) // self._size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} digests)"
