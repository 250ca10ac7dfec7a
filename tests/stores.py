"""Stores for tests, written as a user would: nothing but `is_valid`, `get` and perhaps `put`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pytest

from bitstore import Composite, NotFoundInStore, Sha1APISource, Sha1Composite, Store, StoreNotAvailable
from bitstore._tiers.question import Question

C = TypeVar("C", bound=Composite)


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

    def __init__(
        self, held: dict[str, bytes] | None = None, *, fail: Exception | None = None, gated: bool = False
    ) -> None:
        self.held = dict(held or {})
        self.asked: list[str] = []
        self.fail = fail
        self.gate: Any = threading.Event() if gated else None
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

    def __init__(self, held: dict[str, bytes] | None = None, *, fail_put: Exception | None = None, **how: Any) -> None:
        super().__init__(held, **how)
        self.fail_put = fail_put

    def put(self, uri: str, data: bytes) -> None:
        if self.fail_put is not None:
            raise self.fail_put
        self.held[uri] = data


def down(error: Exception | None = None) -> Shelf:
    return Shelf(fail=error or OSError("down"))


def full(error: Exception | None = None) -> Box:
    return Box(fail_put=error or OSError("no room"))


class API(Sha1APISource):
    """A paid source that counts; like much old code it never calls `super().__init__()`."""

    def __init__(self, held: dict[str, bytes], *, fail: Exception | None = None) -> None:
        self.held = held
        self.calls: list[str] = []
        self.fail = fail

    def api_get(self, digest: str) -> bytes | None:
        self.calls.append(digest)
        if self.fail is not None:
            raise self.fail
        return self.held.get(digest)


class Tier(NamedTuple):
    append: str
    store: Any
    options: dict[str, Any]


def as_cache(store: Any, name: str | None = None, **options: Any) -> Tier:
    return Tier("append_cache", store, {"name": name, **options})


def as_source(store: Any, name: str | None = None, **options: Any) -> Tier:
    return Tier("append_source", store, {"name": name, **options})


def with_tiers(composite: C, *tiers: Any) -> C:
    """The composite with tiers appended in this order. A plain store is a source without a name of its own."""
    for tier in tiers:
        append, store, options = tier if isinstance(tier, Tier) else as_source(tier)
        getattr(composite, append)(store, **options)
    return composite


def composed(*tiers: Any, **options: Any) -> Sha1Composite:
    """A composite of tiers in this order; `options` are its own."""
    return with_tiers(Sha1Composite(**options), *tiers)


def outcome(operation: Callable[[], Any]) -> Exception:
    """The error of a lookup or a write: an absence or a failure."""
    with pytest.raises((NotFoundInStore, StoreNotAvailable)) as caught:
        operation()
    return caught.value


def asked_by_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tiers that composites ask by their steps from now on, and not on the express lane; it grows."""
    names: list[str] = []

    class Noted(Question):
        def __init__(self, tier: Any, *args: Any) -> None:
            names.append(tier.name)
            super().__init__(tier, *args)

    monkeypatch.setattr("bitstore._tiers.composite.Question", Noted)
    return names
