"""A random order of any number of positions that takes no memory."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["Order"]

_ROUNDS = 6


class Order:
    """A permutation of `range(length)`, fixed by a seed.

    It is a Feistel network over the next power of four, walked until it leads back into the range (format-preserving
    encryption by cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). So each process of a
    training finds its own positions without the list of all of them.

    Parameters
    ----------
    length
        How many positions.
    seed
        Any text.
    """

    def __init__(self, length: int, seed: str) -> None:
        self._length = length
        self._half = max(1, (max(1, length - 1).bit_length() + 1) // 2)  # bits
        self._mask = (1 << self._half) - 1
        keys = blake2b(seed.encode(), digest_size=8 * _ROUNDS).digest()
        self._keys = [int.from_bytes(keys[start : start + 8], "little") for start in range(0, len(keys), 8)]

    def __getitem__(self, place: int) -> int:
        """The position that comes at a place."""
        half, mask = self._half, self._mask
        while True:
            left, right = place >> half, place & mask
            for key in self._keys:
                # A multiplication spreads the low bits, and the shift takes what has come from all of them.
                mixed = ((right ^ key) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) ^ (key >> 7)
                mixed = (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
                left, right = right, left ^ (mixed >> 32 & mask)
            place = left << half | right
            if place < self._length:
                return place
