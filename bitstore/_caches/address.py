"""Under which names the files of a key lie in a cache folder."""

from __future__ import annotations

import hashlib

from bitstore._caches.folder import Place
from bitstore._support.digests import ALGORITHMS, CHECKSUM

__all__ = ["HASHES", "address", "place_of", "target"]

# By the folder in which a file lies. A file beside its key's folder matches no digest but a checksum.
HASHES = {**ALGORITHMS, CHECKSUM.name: CHECKSUM}


def address(key: str, algorithm: str | None) -> tuple[str, str]:
    """The top folder and the digest under which `key` is filed."""
    if algorithm is not None and ALGORITHMS[algorithm].is_digest(key) and key == key.lower():
        return algorithm, key
    # Any text may be a key, also one that no file could be named by, or two that differ only in case.
    return "keys", hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def target(key: str, algorithm: str | None, data: bytes) -> Place:
    """Where `data` belongs if it is put under `key`."""
    top, digest = address(key, algorithm)
    if top != "keys" and HASHES[top].of(data) == digest:
        return Place((top, digest[:3]), digest)
    return Place((top, digest[:3], f"{digest}.d"), CHECKSUM.of(data))


def place_of(path: str) -> Place:
    """The place that a path below the root names."""
    *folders, name = path.split("/")
    return Place(tuple(folders), name)
