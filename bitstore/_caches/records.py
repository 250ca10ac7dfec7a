"""The records of a ledger file, and what a process has read of them.

Records are 32 bytes: a kind, three numbers, a checksum. Writes can be cut short (a full disk, a limit
on file sizes), so a reader that meets a bad checksum goes on byte by byte to the next good record; as
that depends on nothing but the bytes, all readers still agree.

=====  ====================  ===========  ======  =============================================
kind   a                     b            c       meaning
=====  ====================  ===========  ======  =============================================
START  total                 grown        epoch   first record of a generation
DELTA  bytes, if positive    -            -       reserved: the file may appear from now on
DELTA  bytes, if negative    -            epoch   released: the file is gone
COUNT  bytes found           grown        epoch   a process has looked at what is really there
END    -                     -            -       whatever follows is void; see next generation
=====  ====================  ===========  ======  =============================================

The second record of a generation is a DELTA of 0 bytes, whose *b* is random: it tells this file from any other of the
same number.
"""

from __future__ import annotations

import os
import struct
import zlib

__all__ = ["COUNT", "DELTA", "END", "SIZE", "START", "View", "is_start", "pack"]

_RECORD = struct.Struct("<IIqqq")
_BODY = struct.Struct("<Iqqq")  # without the checksum
SIZE = _RECORD.size
START, DELTA, COUNT, END = 0x62737431, 0x62737432, 0x62737433, 0x62737434


class View:
    """What this process has read of one generation."""

    __slots__ = ("ended", "epoch", "generation", "grown", "offset", "skipped", "spoiled", "start", "total")

    def __init__(self, generation: int, start: bytes) -> None:
        _, _, self.total, self.grown, self.epoch = _RECORD.unpack_from(start)
        self.generation = generation
        self.start = start
        self.offset = SIZE
        self.ended = False
        self.spoiled = False
        self.skipped = 0  # bytes in a row that began no good record: kept here, as junk may come in several pieces

    def advance(self, fd: int, end: int, *, own: int) -> int | None:
        """Read to `end`. Returns the lowest total from the record that ends at `own` on, None if there is none."""
        lowest: int | None = None
        data = b"" if self.ended else _read(fd, self.offset, end)
        at = 0
        last, own = len(data) - SIZE, own - self.offset
        total, grown = self.total, self.grown  # local, as a process reads the records of all others here
        while at <= last:
            check, kind, a, b, c = _RECORD.unpack_from(data, at)
            if zlib.crc32(data[at + 4 : at + SIZE]) != check:
                # Less than a record is a write cut short. More is a file that lost its bytes (a power cut): what they
                # said is unknown, so everybody stops here, and the next generation begins with a count.
                at += 1
                self.skipped += 1
                if self.skipped >= SIZE:
                    self.ended = self.spoiled = True
                    break
                continue
            at += SIZE
            self.skipped = 0
            if kind == DELTA:
                if a >= 0:
                    total += a
                    grown += a
                elif c == self.epoch:
                    total += a
            elif kind == COUNT and c == self.epoch:
                total = a + grown - b
                self.epoch += 1
            elif kind == END:
                self.ended = True
                break
            if at >= own and (lowest is None or total < lowest):
                lowest = total
        self.total, self.grown = total, grown
        self.offset += at
        return lowest


def pack(kind: int, a: int, b: int, c: int) -> bytes:
    """A record, with its checksum."""
    body = _BODY.pack(kind, a, b, c)
    return zlib.crc32(body).to_bytes(4, "little") + body


def is_start(data: bytes) -> bool:
    """Whether these bytes are the first record of a generation."""
    return len(data) == SIZE and _RECORD.unpack(data)[:2] == (zlib.crc32(data[4:]), START)


def _read(fd: int, start: int, end: int) -> bytes:
    data = os.pread(fd, end - start, start) if end > start else b""
    while len(data) < end - start and (more := os.pread(fd, end - start - len(data), start + len(data))):
        data += more
    return data
