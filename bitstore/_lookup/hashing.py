"""A blob that is hashed as it comes, and kept nowhere."""

from __future__ import annotations

import os
from typing import Any

from bitstore._lookup.partial import Partial
from bitstore._support.digests import algorithm as digest_algorithm

__all__ = ["Hashing"]

_PIECE = 1 << 20
_HEAD = 16  # bytes


class Hashing(Partial):
    """Takes the bytes of one blob in place of a file, and knows their digest afterwards.

    Parameters
    ----------
    algorithm
        Name of the algorithm of the digest.
    """

    def __init__(self, algorithm: str) -> None:
        super().__init__(os.devnull)
        self._algorithm = digest_algorithm(algorithm)
        self._state = self._algorithm.new()
        self._head = b""

    def restart(self) -> None:
        """Forget all bytes."""
        self._origin = None
        self._state = self._algorithm.new()
        self.size = 0
        self.checked = None

    def expect(self, url: str) -> None:
        """What follows comes from `url`; nothing is kept of what came before."""
        self._url = url
        self._stale = False
        self._furthest = 0
        self.restart()

    def fill(self, data: Any) -> None:
        """Take the whole blob. TypeError unless it is bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"only bytes can be hashed, not {type(data).__name__}")
        self.restart()
        self._append(data)

    def copy(self, source: int) -> None:
        """Take what is in the open file `source`, from its beginning. OSError if that cannot be read."""
        self.restart()
        os.lseek(source, 0, os.SEEK_SET)
        while piece := os.read(source, _PIECE):
            self._append(piece)

    def digest(self, algorithm: str) -> str:
        """The digest of the bytes. ValueError for another algorithm than that of the constructor."""
        if algorithm != self._algorithm.name:
            raise ValueError(f"the bytes were hashed with {self._algorithm.name}, not {algorithm}")
        digest: str = self._state.hexdigest()
        return digest

    def head(self, count: int = _HEAD) -> bytes:
        """No bytes: then `whole` is not asked for."""
        return b""

    @property
    def beginning(self) -> bytes:
        """The first bytes, by which a coding is known; also after `restart`."""
        return self._head

    def whole(self) -> bytes:
        """The bytes are not kept."""
        raise NotImplementedError("the bytes of the blob were hashed, and not kept")

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        if self.size < _HEAD:
            self._head = self._head[: self.size] + bytes(data[: _HEAD - self.size])
        self._state.update(data)
        self.size += len(data)
