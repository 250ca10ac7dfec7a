"""The bytes of a fuzzer, read as the values that a target needs. Every input means something; none is refused."""

from __future__ import annotations

__all__ = ["Reader", "as_text"]


def as_text(data: bytes) -> str:
    """`data` as a text that may hold anything a str can: half surrogates as well."""
    return data.decode("utf-8", "surrogateescape")


class Reader:
    """Takes values off the front of some bytes; when they are used up, it gives zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """A number from 0 to 255."""
        return self.take(1)[0] if self else 0

    def number(self, size: int) -> int:
        """A signed number of `size` bytes."""
        return int.from_bytes(self.take(size), "little", signed=True)

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or as many as there are."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def line(self) -> bytes:
        """What stands before the next newline."""
        end = self._data.find(b"\n", self._at)
        end = len(self._data) if end < 0 else end
        taken = self._data[self._at : end]
        self._at = end + 1
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
