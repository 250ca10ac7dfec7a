"""The digests of a dataset, in little memory that worker processes share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bitstore._support.digests import ALGORITHMS
from bitstore.errors import InvalidURI

__all__ = ["Keys"]


class Keys:
    """Digests by position.

    A list of text would be copied into each worker process that is forked, page by page, because Python counts its
    references in the objects themselves. The bytes of digests are one object.

    Parameters
    ----------
    store
        The store that is asked.
    keys
        What names the blobs: text or bytes, also as a column of pandas or Arrow.
    """

    def __init__(self, store: Any, keys: Iterable[Any]) -> None:
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"digests={keys[:40]!r}: give a list of digests")
        algorithm = getattr(store, "algorithm", None)
        known = ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
        self._size = 0 if known is None else known.length // 2  # bytes of a digest
        packed = bytearray()
        # What is no digest, by position: its lookup says what is wrong with it. All, where the store takes other keys.
        self._others: dict[int, Any] = {}
        self._length = 0
        dtype: Any = getattr(keys, "dtype", None)
        # NumPy leaves out the zeros at the end of bytes, and a raw digest may end in zeros.
        width = dtype.itemsize if getattr(dtype, "kind", "") == "S" else 0
        for position, key in enumerate(keys):
            plain = key.as_py() if hasattr(key, "as_py") else key.ljust(width, b"\0") if width else key
            try:
                digest = bytes.fromhex(store.canonical(plain)) if self._size else b""
            except (InvalidURI, TypeError, ValueError):
                digest = b""
            if len(digest) != self._size or not digest:
                self._others[position] = plain
                digest = bytes(self._size)
            packed += digest
            self._length += 1
        self._packed = bytes(packed)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Any:
        if position in self._others:
            return self._others[position]
        start = position * self._size
        return self._packed[start : start + self._size].hex()
