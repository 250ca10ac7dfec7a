"""What the caches of one machine share: their keys are texts, and their values bytes."""

from __future__ import annotations

from typing import Any

from bitstore._support.checks import ChecksOptions
from bitstore._support.per_process import KeepsPerProcess
from bitstore._support.sizes import parse_size
from bitstore.store import Store

__all__ = ["LocalCache"]


class LocalCache(ChecksOptions, KeepsPerProcess, Store):
    """Base of `DiskCache` and `MemoryCache`."""

    URI_HINT = "any non-empty text"

    bytes_only = True

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a non-empty text."""
        return isinstance(uri, str) and bool(uri)

    def _check_valid(self, uri: Any) -> None:
        # Not by `is_valid`, which is also false for a cache without a folder: no fault of the key.
        if not (isinstance(uri, str) and uri):
            super()._check_valid(uri)

    def _checked(self, uri: Any, data: bytes) -> bytes:
        """The bytes that are put under `uri`. Raises InvalidURI for a bad key, TypeError for what is not bytes."""
        self._check_valid(uri)
        if not isinstance(data, bytes):
            raise TypeError(f"{type(self).__name__} holds bytes only, not {type(data).__name__} (for '{uri}')")
        # A subclass may say anything about itself, such as its length.
        return data if type(data) is bytes else bytes(memoryview(data))

    @staticmethod
    def _positive_size(size: int | str) -> int:
        """The bytes of `max_size`. Raises ValueError for what is not a size, and for 0."""
        parsed = parse_size(size, name="max_size")
        if not parsed:
            raise ValueError(
                "max_size 0 leaves no room for a single blob: give at least 1 byte, or leave the cache out"
            )
        return parsed
