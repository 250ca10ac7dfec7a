"""The bytes of a file as what is sent with a write."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

__all__ = ["FileBody"]

_PIECE = 1 << 20  # bytes


class FileBody:
    """The bytes of a file as a body: read as they are sent, never held whole, and hashed once before that.

    Parameters
    ----------
    path
        A regular file.
    head, tail
        Bytes that are sent before and after those of the file.

    Attributes
    ----------
    size
        Bytes of the file when it was hashed.
    hashes
        The file's digests (of the bytes between `head` and `tail`), raw, by algorithm: `"md5"`, `"sha1"`, `"sha256"`.

    Raises
    ------
    OSError
        The file cannot be read.
    """

    __slots__ = ("hashes", "head", "path", "size", "tail")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.head = self.tail = b""
        states = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256")}
        self.size = 0
        with self.path.open("rb") as file:
            while piece := file.read(_PIECE):
                self.size += len(piece)
                for state in states.values():
                    state.update(piece)
        self.hashes = {name: state.digest() for name, state in states.items()}

    def between(self, head: bytes, tail: bytes) -> FileBody:
        """The same bytes of the file, sent between `head` and `tail`."""
        other = FileBody.__new__(FileBody)
        other.path, other.size, other.hashes = self.path, self.size, self.hashes
        other.head, other.tail = head, tail
        return other

    def __len__(self) -> int:
        """Bytes that are sent."""
        return len(self.head) + self.size + len(self.tail)

    def whole(self) -> bytes:
        """All bytes that are sent, in memory. Raises `OSError`, also where the file was changed since it was hashed."""
        data = self.path.read_bytes()
        if hashlib.sha256(data).digest() != self.hashes["sha256"]:
            raise self.changed()
        return b"".join([self.head, data, self.tail])

    def changed(self) -> OSError:
        """The error of a file that has other bytes than when it was hashed."""
        return OSError(f"{self.path} was changed while it was stored")

    def open(self) -> BodyReader:
        """A reader at the first byte. Raises `OSError`."""
        return BodyReader(self)

    def __repr__(self) -> str:
        return f"FileBody({str(self.path)!r}, {self.size} bytes)"


class BodyReader:
    """Reads what a `FileBody` sends. The file is open until `close`, or until the reader is freed.

    The last bytes are given away only if all are those that were hashed: a file that was changed is never sent whole.
    """

    __slots__ = ("_body", "_file", "_left", "_state")

    def __init__(self, body: FileBody) -> None:
        self._body = body
        self._file = body.path.open("rb", buffering=0)
        self._left: list[io.BytesIO] = []
        self._state = hashlib.sha256()
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first byte."""
        self._file.seek(0)
        self._state = hashlib.sha256()
        self._left = [io.BytesIO(self._body.head), io.BytesIO(self._body.tail)]

    def read(self, most: int) -> bytes:
        """Up to `most` of the next bytes; none: all were read. A file that grew is read to the size it had.

        Raises
        ------
        OSError
            The file cannot be read, or has other bytes than when it was hashed.
        """
        head, tail = self._left
        if data := head.read(most):
            return data
        left = self._body.size - self._file.tell()
        if left <= 0:
            return tail.read(most)
        data = self._file.read(min(most, left))
        self._state.update(data)
        if not data or (len(data) == left and self._state.digest() != self._body.hashes["sha256"]):
            raise self._body.changed()
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()
