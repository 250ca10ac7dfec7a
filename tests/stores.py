"""Stores for tests, written as a user would: nothing but `is_valid`, `get` and perhaps `put`."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from bitstore import NotFoundInStore, Sha1APISource, Store


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def blobs(count: int, size: int = 100, salt: str = "") -> dict[str, bytes]:
    """`count` different blobs by their SHA-1."""
    made = {}
    for number in range(count):
        data = f"{salt}{number}-".encode() * (size // 4 + 1)
        made[sha1(data[:size])] = data[:size]
    return made


class Shelf(Store):
    """A dict as a source."""

    def __init__(self, held: dict[str, bytes] | None = None) -> None:
        self.held = dict(held or {})
        self.asked: list[str] = []
        self.fail: Exception | None = None
        self.gate: threading.Event | None = None
        self.entered = threading.Semaphore(0)

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str) and not uri.startswith("not-for-shelves")

    def get(self, uri: str) -> bytes:
        self.asked.append(uri)
        self.entered.release()
        if self.gate is not None:
            assert self.gate.wait(60)
        if self.fail is not None:
            raise self.fail
        try:
            return self.held[uri]
        except KeyError:
            raise NotFoundInStore(self, uri) from None


class Box(Shelf):
    """A dict as a cache."""

    fail_put: Exception | None = None

    def put(self, uri: str, data: bytes) -> None:
        if self.fail_put is not None:
            raise self.fail_put
        self.held[uri] = data


class API(Sha1APISource):
    """A paid source that counts; like much old code it never calls `super().__init__()`."""

    def __init__(self, held: dict[str, bytes]) -> None:
        self.held = held
        self.calls: list[str] = []
        self.fail: Exception | None = None

    def api_get(self, digest: str) -> bytes | None:
        self.calls.append(digest)
        if self.fail is not None:
            raise self.fail
        return self.held.get(digest)
