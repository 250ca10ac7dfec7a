"""Compressed blobs: a digest names the *expanded* bytes, the bucket holds the compressed ones."""

from __future__ import annotations

import gzip
import zlib
from typing import Protocol

__all__ = ["CODECS", "BadCompression", "Codec", "TooLarge", "codec"]


class BadCompression(ValueError):
    """The bytes are not what the codec writes."""


class TooLarge(ValueError):
    """The expanded bytes would exceed the limit."""


class Codec(Protocol):
    """A way to compress and expand."""

    def compress(self, data: bytes) -> bytes:
        """The compressed form of `data`; the same input gives the same output."""

    def expand(self, data: bytes, limit: int) -> bytes:
        """The original of `data`, never holding more than about `limit` bytes of it.

        Raises
        ------
        BadCompression
            `data` is damaged, cut, or followed by something else.
        TooLarge
            The original has more than `limit` bytes.
        """


class _Deflate:
    """Gzip (RFC 1952, also several members one after another) and zlib (RFC 1950)."""

    def __init__(self, name: str, window_bits: int) -> None:
        self._name = name
        self._window_bits = window_bits

    def compress(self, data: bytes) -> bytes:
        return gzip.compress(data, mtime=0) if self._name == "gzip" else zlib.compress(data)

    def expand(self, data: bytes, limit: int) -> bytes:
        pieces: list[bytes] = []
        left = limit
        while True:
            stream = zlib.decompressobj(self._window_bits)
            try:
                piece = stream.decompress(data, left + 1)
            except zlib.error as error:
                raise BadCompression(f"not {self._name}: {error}") from error
            left -= len(piece)
            if left < 0:
                raise TooLarge(f"more than {limit} bytes when expanded")
            pieces.append(piece)
            if not stream.eof:
                raise BadCompression(f"cut {self._name}: the stream has no end")
            data = stream.unused_data
            # gzip writes further members for concatenated files, and tape-minded tools pad with zeros
            if self._name != "gzip" or not data.strip(b"\0"):
                break
        if data and self._name != "gzip":
            raise BadCompression(f"{len(data)} bytes after the end of the {self._name} stream")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Zstandard:
    """Zstandard frames (RFC 8878)."""

    def compress(self, data: bytes) -> bytes:
        import zstandard

        return zstandard.ZstdCompressor().compress(data)

    def expand(self, data: bytes, limit: int) -> bytes:
        import zstandard

        pieces: list[bytes] = []
        left = limit
        while data:
            stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
            try:
                # A frame may expand a thousandfold, so it is fed in slices and the sum watched.
                for start in range(0, len(data), 4096):
                    piece = stream.decompress(data[start : start + 4096])
                    left -= len(piece)
                    if left < 0:
                        raise TooLarge(f"more than {limit} bytes when expanded")
                    pieces.append(piece)
                    if stream.eof:
                        data = stream.unused_data + data[start + 4096 :]
                        break
                else:
                    raise BadCompression("cut zstd: the frame has no end")
            except zstandard.ZstdError as error:
                raise BadCompression(f"not zstd: {error}") from error
        if not pieces:
            raise BadCompression("not zstd: no bytes")
        return b"".join(pieces)


CODECS: dict[str, Codec] = {"gzip": _Deflate("gzip", 31), "zlib": _Deflate("zlib", 15), "zstd": _Zstandard()}


def codec(name: str | None) -> Codec | None:
    """The codec called `name`: `"gzip"`, `"zlib"`, `"zstd"`; None for None. ValueError for anything else."""
    if name is None:
        return None
    try:
        return CODECS[name]
    except (KeyError, TypeError):
        raise ValueError(f"unknown compression {name!r}: choose one of {', '.join(CODECS)}, or None") from None
