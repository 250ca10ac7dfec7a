"""Content codings of the transport, told apart from the blob's own: what matches the digest is the blob.

A server may compress a body that was not asked for compressed, hold it compressed and send it so, or expand it on the
way (https://cloud.google.com/storage/docs/transcoding). Headers do not tell which of them the digest names.
"""

from __future__ import annotations

from collections.abc import Iterator

from bitstore._digests.compression import CODECS, BadCompression, TooLarge

__all__ = ["looks_coded", "other_forms"]

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}  # RFC 1952, RFC 8878
_ZLIB_HEADS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # of the usual window, RFC 1950 ("deflate")
_LEVELS = 2  # codings on top of each other


def looks_coded(head: bytes) -> bool:
    """Whether bytes begin like a body that a server has compressed with gzip, the coding that all of them know."""
    return head.startswith(b"\x1f\x8b")


def other_forms(received: bytes, data: bytes, limit: int) -> Iterator[bytes]:
    """What a blob may be instead of `data`, which was made of what was received: that itself, or `data` expanded."""
    if received is not data:
        yield received
    for _ in range(_LEVELS):
        name = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
        if name is None and data.startswith(_ZLIB_HEADS):
            name = "zlib"
        if name is None:
            return
        try:
            data = CODECS[name].expand(data, limit)
        except (BadCompression, TooLarge, ImportError):
            return
        yield data
