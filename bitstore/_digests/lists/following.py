"""A list that grows: what was added since it was read last, and whether it is still that list."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from bitstore._digests.lists.expand import PIECE, expanded
from bitstore._digests.lists.lines import ends_with_nul

__all__ = ["Following", "Mark"]

_LINE_END = re.compile(b"\r\n|\r|\n")
_LONGEST = 1 << 20  # bytes of a line whose end has not come, before it is taken as it is


class Mark(NamedTuple):
    """How far a list was read."""

    # Bytes of the expanded list, from its beginning to the end of the last whole line; of Parquet all of the file.
    offset: int
    # SHA-256 of these bytes, in hexadecimal characters.
    fingerprint: str
    # Lines in these bytes.
    lines: int
    # Name of the algorithm of the digests.
    algorithm: str
    # Column or key that holds the digests; None: the list is no table.
    column: str | None
    # Of CSV its beginning up to the end of its header; else "".
    header: str


class Following:
    """Reads what a list holds behind a mark. For one list, once.

    All bytes before the mark are hashed again, so that a list of another content is noticed wherever it differs. A line
    at the end that has no line break may still be being written: it is read where it holds a whole digest, and in any
    case read again the next time.

    Parameters
    ----------
    mark
        How far the list was read; None: it was not.

    Attributes
    ----------
    changed
        Whether the list does not begin with what was read. Then it is read from its beginning.
    left
        Bytes behind the mark; None: unknown, as the list is compressed.
    length
        Hexadecimal characters of a digest; None: not known yet.
    header_lines
        Lines of the list up to its header, once that is known; 0: it has none.
    """

    def __init__(self, mark: Mark | None) -> None:
        self.mark = mark
        self.changed = False
        self.left: int | None = None
        self.length: int | None = None
        self.header_lines = 0
        self._begin = b""  # first lines, up to the header if there is one; of a list that was read before its header
        self._state: Any = hashlib.sha256()
        self._offset = self._lines = 0
        self._waiting = b""  # a line whose end has not come
        self._nul = False  # whether NUL ends lines
        self._is_csv = False  # whether quotes may go over lines
        self._quotes = 0  # in the whole lines so far

    @property
    def skipped(self) -> int:
        """Lines before the first one that is read, less those of the header, which are read again."""
        mark = self.mark
        return 0 if mark is None or self.changed else mark.lines - len(_LINE_END.findall(mark.header.encode()))

    def is_same(self, stream: BinaryIO) -> bool:
        """Whether a file that does not grow, such as of Parquet, is what the mark says. Raises OSError."""
        while piece := stream.read(PIECE):
            self._state.update(piece)
            self._offset += len(piece)
        self.changed = self.mark is not None and self.mark[:2] != (self._offset, self._state.hexdigest())
        return self.mark is not None and not self.changed

    def pieces(self, stream: BinaryIO) -> Iterator[bytes]:
        """The expanded list behind the mark, below its header, in whole lines; it closes `stream` at its end.

        Reading raises `BadStream` or OSError.
        """
        with stream:
            yield from self._pieces(stream)

    def _pieces(self, stream: BinaryIO) -> Iterator[bytes]:
        pieces, packed = expanded(_read(stream))
        rest = b""
        if self.mark is not None:
            found = self._behind(pieces, self.mark)
            self.changed = found is None
            if found is None:
                stream.seek(0)
                pieces, packed = expanded(_read(stream))
                self._state = hashlib.sha256()
            else:
                rest = found
                self._offset, self._lines = self.mark.offset, self.mark.lines
                self._begin = self.mark.header.encode("utf-8", "surrogateescape")
                if self._begin:
                    yield self._begin
        if not packed:
            self.left = max(0, os.fstat(stream.fileno()).st_size - self._offset)
        yield from self._whole_lines(rest, pieces)

    def made(self, algorithm: str, column: str | None) -> Mark:
        """The mark behind all that was read, once it was read to its end."""
        ends = [match.end() for match in _LINE_END.finditer(self._begin)][: self.header_lines]
        header = self._begin[: ends[-1]] if ends else b""
        text = header.decode("utf-8", "surrogateescape")
        return Mark(self._offset, self._state.hexdigest(), self._lines, algorithm, column, text)

    def _behind(self, pieces: Iterator[bytes], mark: Mark) -> bytes | None:
        """What stands behind the mark in the piece where it is; None: the list is another one."""
        left = mark.offset
        for piece in pieces:
            self._state.update(piece[:left])
            if len(piece) >= left:
                return piece[left:] if self._state.hexdigest() == mark.fingerprint else None
            left -= len(piece)
        return None if left or self._state.hexdigest() != mark.fingerprint else b""

    def _whole_lines(self, rest: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        self._is_csv = bool(self._begin)
        first = self._offset == 0
        for piece in _with(rest, pieces):
            data = self._waiting + piece
            if first:
                self._nul, first = ends_with_nul(data), False
                self._is_csv = not self._nul and self._begins_with_header(data)
            end = self._end(data)
            self._waiting = data[end:]
            if end:
                yield data[:end]
                self._note(data[:end])
        if self._has_digest(self._waiting) and not self._is_within_quotes(self._waiting):
            yield self._waiting

    def _end(self, data: bytes) -> int:
        """Where the last whole line ends; of CSV the last whole row, whose quotes may go over lines."""
        ends = (b"\0",) if self._nul else (b"\n", b"\r")
        end = len(data)
        while end := max(data.rfind(mark, 0, end) for mark in ends) + 1:
            if not self._is_within_quotes(data, end):
                return end
            end -= 1
        return len(data) if len(data) > _LONGEST else 0

    def _is_within_quotes(self, data: bytes, end: int | None = None) -> bool:
        return self._is_csv and (self._quotes + data.count(b'"', 0, end)) % 2 == 1

    def _begins_with_header(self, data: bytes) -> bool:
        """Whether the first line that is no comment may be a header of CSV: it holds no digest, and is no JSON."""
        lines = (line.strip(b"\xef\xbb\xbf \t") for line in _LINE_END.split(data))
        first = next((line for line in lines if line and not line.startswith(b"#")), b"")
        return not first.startswith((b"{", b"[")) and not self._has_digest(first)

    def _note(self, data: bytes) -> None:
        if not self._offset:
            self._begin = data
        self._state.update(data)
        self._offset += len(data)
        self._quotes += data.count(b'"')
        self._lines += data.count(b"\0") if self._nul else len(_LINE_END.findall(data))

    def _has_digest(self, line: bytes) -> bool:
        lengths = "32|40|64" if self.length is None else str(self.length)
        digest = "|".join(f"[0-9a-fA-F]{{{length}}}" for length in lengths.split("|"))
        return re.search(f"(?<![0-9a-fA-F])(?:{digest})(?![0-9a-fA-F])".encode(), line) is not None


def _read(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(PIECE):
        yield piece


def _with(rest: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if rest:
        yield rest
    yield from pieces
