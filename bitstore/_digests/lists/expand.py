"""Compressed lists: gzip, zstd, xz and bzip2, known by their first bytes, expanded piece by piece in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

__all__ = ["PIECE", "BadStream", "expanded", "with_head"]

PIECE = 64 * 1024  # bytes that are read or expanded at a time
_WINDOW = 1 << 27  # bytes that a stream may ask the decoder to hold; the highest preset of xz needs half of it
_ZSTD_INPUT = 256  # bytes given to zstd at a time: nothing else bounds its output, which is up to 32 KiB a byte


class BadStream(ValueError):
    """A compressed file is damaged, has no end, or is followed by something else."""


class _Decoder(Protocol):
    """One compressed stream, in the form of `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """Gzip (RFC 1952)."""

    needs_input = True

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        self.needs_input = len(piece) < max_length
        return piece


class _Zstd:
    """Zstandard (RFC 8878), skippable frames among others."""

    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._waiting = b""

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data + self._waiting

    def decompress(self, data: bytes, max_length: int) -> bytes:
        waiting = self._waiting + data
        pieces: list[bytes] = []
        size = at = 0
        while at < len(waiting) and size < max_length and not self._stream.eof:
            pieces.append(self._stream.decompress(waiting[at : at + _ZSTD_INPUT]))
            size += len(pieces[-1])
            at += _ZSTD_INPUT
        self._waiting = waiting[at:]
        self.needs_input = not self._waiting
        return b"".join(pieces)


def _xz() -> _Decoder:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW)


def _bzip2() -> _Decoder:
    import bz2

    return bz2.BZ2Decompressor()


def _decoder(head: bytes) -> tuple[str, Callable[[], _Decoder]] | None:
    if head.startswith(b"\x1f\x8b"):
        return "gzip", _Gzip
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd", _Zstd
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz", _xz
    return ("bzip2", _bzip2) if head.startswith(b"BZh") and head[3:4].isdigit() else None


def expanded(pieces: Iterator[bytes]) -> tuple[Iterator[bytes], bool]:
    """The bytes of a file, expanded if they are compressed, and whether they were.

    Reading the pieces raises `BadStream`, or OSError where the file cannot be read.
    """
    head, pieces = with_head(pieces, 6)
    found = _decoder(head)
    return (pieces, False) if found is None else (_streams(pieces, *found), True)


def with_head(pieces: Iterator[bytes], least: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, at least so many if there are; and all pieces, with these."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= least:
            break
    return head, _chained(head, pieces)


def _chained(head: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from pieces


def _streams(pieces: Iterator[bytes], name: str, make: Callable[[], _Decoder]) -> Iterator[bytes]:
    """What the streams of a file hold, of which most files have one, and concatenated ones more."""
    data = next(pieces, b"")
    try:
        while data:
            decoder = make()
            while not decoder.eof:
                if not data and decoder.needs_input and not (data := next(pieces, b"")):
                    raise BadStream(f"the {name} file is cut, its end is missing")
                piece = decoder.decompress(data, PIECE)
                data = b""
                if piece:
                    yield piece
            data = decoder.unused_data
            while not data.strip(b"\0"):  # files are padded with zeros, by tapes and by xz itself
                if not (data := next(pieces, b"")):
                    return
            data = data.lstrip(b"\0")
            if len(data) < 6:
                data += next(pieces, b"")
            following = _decoder(data)
            if following is None or following[0] != name:
                raise BadStream(f"something follows the end of the {name} file")
    except Exception as error:  # zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError of bz2, ImportError
        if isinstance(error, BadStream):
            raise
        raise BadStream(f"{name}: {error}") from error
