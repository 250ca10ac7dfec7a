"""Compressed blobs: a digest names the *expanded* bytes, the bucket holds the compressed ones."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

__all__ = ["CODECS", "BadCompression", "Codec", "TooLarge", "codec"]

_SLICE = 64 * 1024
_ZSTD_EXPANSION = 32 * 1024  # a block that repeats one byte: 4 bytes for 128 KiB (RFC 8878, 3.1.1.2)


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
        stream = zlib.decompressobj(self._window_bits)
        first = self._step(stream, data, limit, limit)
        if not stream.eof:
            raise BadCompression(f"cut {self._name}: the stream has no end")
        rest = stream.unused_data
        if not rest:
            return first
        if self._name != "gzip":
            raise BadCompression(f"{len(rest)} bytes after the end of the {self._name} stream")
        return b"".join([first, *self._members(rest, limit - len(first), limit)])

    def _members(self, data: bytes, left: int, limit: int) -> Iterator[bytes]:
        """What follows the first member: gzip writes further ones for concatenated files.

        Each is fed in slices, small ones first: every stream copies what it was given and did not use, so to give
        it all the rest would cost the square of the number of members, which may be millions of empty ones.
        """
        view = memoryview(data)
        at = 0
        while at < len(view):
            if view[at] == 0:  # tape-minded tools pad with zeros
                if any(bytes(view[at : at + _SLICE]).strip(b"\0") for at in range(at, len(view), _SLICE)):
                    raise BadCompression(f"not {self._name}: something follows the zeros after its end")
                return
            stream = zlib.decompressobj(self._window_bits)
            size = 512
            while not stream.eof:
                if at >= len(view):
                    raise BadCompression(f"cut {self._name}: the stream has no end")
                piece = self._step(stream, view[at : at + size], left, limit)
                at += min(size, len(view) - at) - len(stream.unused_data)
                left -= len(piece)
                size = min(2 * size, _SLICE)
                yield piece

    def _step(self, stream: Any, data: bytes | memoryview, left: int, limit: int) -> bytes:
        try:
            piece: bytes = stream.decompress(data, left + 1)
        except zlib.error as error:
            raise BadCompression(f"not {self._name}: {error}") from error
        if len(piece) > left:
            raise TooLarge(f"more than {limit} bytes when expanded")
        return piece


class _Zstandard:
    """Zstandard frames (RFC 8878)."""

    def compress(self, data: bytes) -> bytes:
        import zstandard

        return zstandard.ZstdCompressor().compress(data)

    def expand(self, data: bytes, limit: int) -> bytes:
        import zstandard

        view = memoryview(data)
        if not view:
            raise BadCompression("not zstd: no bytes")
        pieces: list[bytes] = []
        left = limit
        at = 0
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        while at < len(view):
            stream = decompressor.decompressobj()
            while not stream.eof:
                if at >= len(view):
                    raise BadCompression("cut zstd: the frame has no end")
                # Nothing bounds the output of one call but its input, of which each byte may give 32 KiB.
                piece_of_input = view[at : at + min(_SLICE, 64 + left // _ZSTD_EXPANSION)]
                try:
                    piece = stream.decompress(piece_of_input)
                except zstandard.ZstdError as error:
                    raise BadCompression(f"not zstd: {error}") from error
                at += len(piece_of_input) - len(stream.unused_data)
                left -= len(piece)
                if left < 0:
                    raise TooLarge(f"more than {limit} bytes when expanded")
                pieces.append(piece)
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
