"""Where a blob is, by each tier's own word and without its bytes; and which of many blobs are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bitstore._lookup.asking import canonical_of, label_of, steps_of_describe, steps_of_exists
from bitstore._lookup.options import check_timeout
from bitstore._lookup.run import run
from bitstore._support.redact import redact
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable, reason_of
from bitstore.location import Location
from bitstore.steps import Cancelled, Found, Steps, Together

__all__ = ["Presence", "all_of", "locate", "steps_of_location"]

_PAID = "it costs money or quota (paid=True asks it)"


def locate(store: Any, uri: Any, *, paid: bool, timeout: float | None) -> list[Location]:
    """What each tier of `store` says about the blob of `uri`, as `Store.locate` does."""
    check_timeout(timeout)
    key = canonical_of(store)(uri)
    return run(steps_of_all(store, key, paid=paid), timeout=timeout)


def steps_of_all(store: Any, key: Any, *, paid: bool) -> Steps[list[Location]]:
    """What each tier of `store` says, as steps; a store without tiers is its own tier."""
    if hasattr(store, "locate_steps"):
        steps: Steps[list[Location]] = store.locate_steps(key, paid)
        return steps
    name = label_of(store)
    return all_of({name: steps_of_location(store, name, key, paid=paid)})


def all_of(parts: Mapping[str, Steps[list[Location]]]) -> Steps[list[Location]]:
    """All answers, asked for at once. A tier that has none when the time is up has failed; the others' answers stay."""
    answers: dict[str, list[Location]] = {}

    def ask(name: str, steps: Steps[list[Location]]) -> Steps[None]:
        answers[name] = yield from steps

    if parts:
        try:
            yield Together([ask(name, steps) for name, steps in parts.items()])
        except Cancelled:
            late = StoreNotAvailable("the tier", "no answer within the time limit")
            for name in parts:
                answers.setdefault(name, [_failed(name, late)])
    return [location for name in parts for location in answers[name]]


def steps_of_location(store: Any, name: str, key: Any, *, paid: bool) -> Steps[list[Location]]:
    """What the tier called `name` says; of a composite, what each of its tiers says."""
    try:
        if not store.is_valid(key):
            return [Location(tier=name, state="not asked", why="it takes no such key")]
        if hasattr(store, "locate_steps"):
            found: list[Location] = yield from store.locate_steps(key, paid)
            return [replace(each, tier=f"{name} > {each.tier}") for each in found]
        if not paid and _is_paid(store):
            return [Location(tier=name, state="not asked", why=_PAID)]
        stored = yield from steps_of_describe(store, key)
    except InvalidDataFound as error:  # there is something, and not the blob
        return [_failed(name, error)]
    except NotFoundInStore as error:
        return [Location(tier=name, state="missing", why=error.why or None)]
    except Exception as error:  # whatever a user's store raises means that we do not know
        return [_failed(name, error)]
    if stored is None:
        return [Location(tier=name, state="missing")]
    url, size, etag, encoding, compression = stored
    return [
        Location(tier=name, state="held", url=url, size=size, etag=etag, encoding=encoding, compression=compression)
    ]


def _is_paid(store: Any) -> bool:
    below = getattr(store, "base_store", None)
    return bool(getattr(store, "paid", False)) or (below is not None and _is_paid(below))


def _failed(name: str, error: Exception) -> Location:
    return Location(tier=name, state="failed", why=redact(reason_of(error)), error=error)


class Presence:
    """A store as a batch asks it whether blobs are there: what it finds has no data.

    Parameters
    ----------
    store
        The store.
    paid
        Whether what costs money or quota may be asked.
    """

    def __init__(self, store: Any, *, paid: bool) -> None:
        self._store = store
        self._paid = paid
        self.label = label_of(store)
        self.canonical = canonical_of(store)

    def __str__(self) -> str:
        return str(self._store)

    def is_valid(self, uri: Any) -> bool:
        """Whether the store takes `uri`."""
        return bool(self._store.is_valid(uri))

    def get_steps(self, uri: Any) -> Steps[Found]:
        """Steps that end in the name of the store or tier that holds `uri`."""
        store, key = self._store, self.canonical(uri)
        holder: str | None
        if hasattr(store, "holder_steps"):
            holder = yield from store.holder_steps(key, self._paid)
        elif _is_paid(store) and not self._paid:
            raise StoreNotAvailable(store, _PAID)
        else:
            holder = self.label if (yield from steps_of_exists(store, key)) else None
        if holder is None:
            raise NotFoundInStore(store, uri)
        return Found(None, holder)
