"""The file of a membership index: a head that says what it is, sections, and a checksum of each block of them.

All numbers are little-endian. The head takes a multiple of 4,096 bytes, so that the sections are aligned in memory:

    0   8  `BITINDEX`
    8   2  version of the format: 1
    10  2  layout: 1 sorted, 2 fuse
    12  4  bytes of the head
    16  8  bytes of the sections
    24  4  bytes of a block
    28  4  bytes of the description
    32  4  CRC-32 of the checksums
    36  4  CRC-32 of the head, in which this field is 0
    40     the description: a JSON object in UTF-8

Behind the sections stand the CRC-32 of each block of them, 4 bytes each. Head, checksums and the length of the file
are verified when it is opened; a block when it is first read: that is how a file of gigabytes opens in milliseconds
and never answers from a damaged part.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, Literal

from bitstore.errors import BitstoreError

__all__ = ["DamagedIndex", "IndexFile", "SectionWriter"]

MAGIC = b"BITINDEX"
VERSION = 1
BLOCK = 1 << 16  # bytes
_ALIGN = 4096
_HEAD = struct.Struct("<8sHHIQIIII")
_ROOM = 16 * 1024  # bytes that the description may take
_MOST_DESCRIPTION = 1 << 20  # bytes


class DamagedIndex(BitstoreError, ValueError):
    """A file is no membership index, or is cut or damaged: it says nothing about any blob.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}", str(path), reason)
        self.path = str(path)
        self.reason = reason


class SectionWriter:
    """Writes the sections of a new file, then its checksums and its head.

    Parameters
    ----------
    file
        An empty file, open for writing and seeking.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._head = _aligned(_HEAD.size + _ROOM)
        self._file.seek(self._head)
        self._sums: list[int] = []
        self._open = bytearray()  # the block that is not full yet
        self.size = 0  # bytes of the sections so far

    def write(self, data: Any) -> None:
        """Append the bytes of a buffer to the present section."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        self._file.write(view)
        if self._open:
            missing = BLOCK - len(self._open)
            self._open += view[:missing]
            view = view[missing:]
            if len(self._open) < BLOCK:
                return
            self._sums.append(zlib.crc32(self._open))
            self._open.clear()
        whole = len(view) - len(view) % BLOCK
        self._sums += [zlib.crc32(view[at : at + BLOCK]) for at in range(0, whole, BLOCK)]
        self._open += view[whole:]

    def align(self) -> int:
        """Fill up to the next multiple of 8 bytes; returns where the next section begins."""
        self.write(bytes(-self.size % 8))
        return self.size

    def finish(self, layout: int, description: Mapping[str, Any], magic: bytes = MAGIC) -> None:
        """Write checksums and head, which begins with `magic`. ValueError: the description takes too much room."""
        if self._open:
            self._sums.append(zlib.crc32(self._open))
        sums = struct.pack(f"<{len(self._sums)}I", *self._sums)
        self._file.write(sums)
        text = json.dumps(description, ensure_ascii=False).encode()
        if _HEAD.size + len(text) > self._head:
            raise ValueError(f"the description of the index is too long: {len(text)} bytes")
        fields = (magic, VERSION, layout, self._head, self.size, BLOCK, len(text), zlib.crc32(sums))
        head = (_HEAD.pack(*fields, 0) + text).ljust(self._head, b"\0")
        self._file.seek(0)
        self._file.write(_HEAD.pack(*fields, zlib.crc32(head)) + head[_HEAD.size :])
        self._file.flush()
        os.fsync(self._file.fileno())


class IndexFile:
    """The opened file, mapped into memory: processes that open it share one copy of its pages.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    layout
        The number of the layout.
    description
        What the file says of itself.

    Raises
    ------
    DamagedIndex
        It is no index of a known version, or cut, or its head or its checksums are damaged.
    OSError
        It cannot be read.
    """

    magic: ClassVar[bytes] = MAGIC
    what: ClassVar[str] = "membership index"  # what messages call the file
    error: ClassVar[type[DamagedIndex]] = DamagedIndex

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if sys.byteorder != "little":  # sections are read as they lie in memory: other numbers would deny every digest
            raise self._damaged("its numbers are little-endian, and this machine's are not")
        with open(self.path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            head = self._read_head(file.read(_HEAD.size), length)
            self.layout, self._start, self.size, block, described, sums_crc = head
            file.seek(0)
            self.description = self._read_description(file.read(self._start), described)
            if block != BLOCK:
                raise self._damaged(f"its blocks have {block} bytes, and must have {BLOCK}")
            self._map = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
        self.view = memoryview(self._map)[self._start : self._start + self.size]
        sums = self._map[self._start + self.size :]
        if zlib.crc32(sums) != sums_crc:
            raise self._damaged("its checksums are damaged")
        self._sums = memoryview(sums).cast("I")
        # A byte per block: 1 once it was found to be whole. Threads that look at the same time do the same work twice.
        self.known = bytearray(len(self._sums))

    def _read_head(self, raw: bytes, length: int) -> tuple[int, int, int, int, int, int]:
        if not raw.startswith(self.magic):
            raise self._damaged(f"it is no {self.what} of bitstore")
        if len(raw) < _HEAD.size:
            raise self._damaged(f"it is cut: it has {length} bytes")
        _, version, layout, start, size, block, described, sums_crc, _ = _HEAD.unpack(raw)
        if version != VERSION:
            raise self._damaged(f"it has version {version} of the format; this release of bitstore reads {VERSION}")
        # Lengths before anything is read or made by them: a damaged one may be any number.
        if block == 0 or described > _MOST_DESCRIPTION or not _HEAD.size + described <= start <= 2 * _MOST_DESCRIPTION:
            raise self._damaged("its head is damaged")
        expected = start + size + 4 * -(-size // block)
        if expected != length:
            raise self._damaged(f"it is cut or damaged: it has {length} bytes, and its head says {expected}")
        return layout, start, size, block, described, sums_crc

    def _read_description(self, head: bytes, described: int) -> dict[str, Any]:
        crc = struct.unpack_from("<I", head, _HEAD.size - 4)[0]
        if zlib.crc32(head[: _HEAD.size - 4] + bytes(4) + head[_HEAD.size :]) != crc:
            raise self._damaged("its head is damaged")
        found: dict[str, Any] = json.loads(head[_HEAD.size : _HEAD.size + described])
        return found

    def _damaged(self, reason: str) -> DamagedIndex:
        return self.error(self.path, reason)

    def section(self, start: int, end: int, code: Literal["H", "I", "Q"]) -> memoryview[int]:
        """Bytes `start` to `end` of the sections as numbers with this code of `struct`."""
        return self.view[start:end].cast(code)

    def check(self, start: int, end: int) -> None:
        """Verify the blocks that hold bytes `start` to `end` of the sections. Raises `DamagedIndex`."""
        for block in range(start // BLOCK, -(-end // BLOCK)):
            if not self.known[block]:
                self.check_block(block)

    def check_block(self, block: int) -> None:
        """Verify one block. Raises `DamagedIndex`."""
        if zlib.crc32(self.view[block * BLOCK : (block + 1) * BLOCK]) != self._sums[block]:
            raise self._damaged(f"it is damaged at byte {self._start + block * BLOCK}, or within the next {BLOCK}")
        self.known[block] = 1

    def close(self) -> None:
        """Give the memory back, or leave that to the collector while something still refers to it, such as an error."""
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
