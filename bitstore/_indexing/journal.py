"""What a listing has brought so far, in a file from which it resumes."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Journal"]

_RECORD = struct.Struct("<IIIIQ")  # CRC-32 of what follows, bytes of digests, bytes of the cursor, flags, other keys
_LAST = 1  # flag: the part is listed to its end
_PIECE = 1 << 24  # bytes


class Journal:
    """The pages of one part of a listing, appended one by one. A page that a killed process left cut is dropped.

    Parameters
    ----------
    path
        The file; it is made if there is none.

    Attributes
    ----------
    cursor
        What the last page ended with; None: there is no page.
    done
        Whether the part is listed to its end.
    digest_bytes, others
        Bytes of digests, and keys that are no digests, in all pages.

    Raises
    ------
    OSError
        The file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cursor: str | None = None
        self.done = False
        self.digest_bytes = 0
        self.others = 0
        self._file = open(path, "r+b" if path.exists() else "x+b", buffering=0)  # noqa: SIM115
        end = 0
        for _, end in self._pages():  # noqa: B007
            pass
        self._file.truncate(end)
        self._file.seek(end)

    def append(self, digests: bytes, others: int, cursor: str, *, last: bool) -> None:
        """Add a page. Raises `OSError`."""
        text = cursor.encode("utf-8", "surrogatepass")
        body = struct.pack("<IIIQ", len(digests), len(text), _LAST if last else 0, others) + text + digests
        left = memoryview(struct.pack("<I", zlib.crc32(body)) + body)
        while left:
            left = left[self._file.write(left) :]
        self._note(len(digests), others, cursor, last)

    def pieces(self) -> Iterator[bytes]:
        """The raw digests of all pages, one after the other."""
        held = bytearray()
        for digests, _ in self._pages(noted=False):
            held += digests
            if len(held) >= _PIECE:
                yield bytes(held)
                held.clear()
        if held:
            yield bytes(held)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _note(self, size: int, others: int, cursor: str, last: bool) -> None:
        self.digest_bytes += size
        self.others += others
        self.cursor = cursor
        self.done = last

    def _pages(self, *, noted: bool = True) -> Iterator[tuple[bytes, int]]:
        """The digests of each whole page, and where in the file it ends."""
        with open(self.path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            end = 0
            while len(head := file.read(_RECORD.size)) == _RECORD.size:
                crc, size, told, flags, others = _RECORD.unpack(head)
                end += _RECORD.size + told + size
                if end > length:
                    return
                body = file.read(told + size)
                if zlib.crc32(body, zlib.crc32(head[4:])) != crc:
                    return
                if noted:
                    self._note(size, others, body[:told].decode("utf-8", "surrogatepass"), bool(flags & _LAST))
                yield body[told:], end
