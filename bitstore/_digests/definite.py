"""Which absences are definite, so that they may be remembered; and how many lookups were spared by that."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from bitstore.errors import NotFoundInStore
from bitstore.steps import RequestCounts

__all__ = ["Remembered", "absence_in", "leniency"]


class _Counts(NamedTuple):
    """Requests of a source, and how many lookups were answered in their place."""

    requests: int
    retries: int
    remembered: int


class Remembered:
    """How many lookups of one process were answered by what is remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self) -> None:
        """Count a lookup."""
        with self._lock:
            self._count += 1

    def beside(self, sent: RequestCounts | None) -> RequestCounts:
        """The count beside those of the source; None: it keeps none."""
        requests, retries = (0, 0) if sent is None else (sent.requests, sent.retries)
        return _Counts(requests, retries, self._count)


def absence_in(store: Any, digest: Any) -> NotFoundInStore:
    """A store has said that it holds nothing. One that has an index may not have asked."""
    return NotFoundInStore(store, digest, why="" if getattr(store, "index", None) is None else "not in its index")


def leniency(store: Any) -> str | None:
    """The option by which `store`, or a store below it, takes for an absence what is none; None: it has none."""
    if getattr(store, "forbidden_is_missing", False) is True:
        return "forbidden_is_missing=True"
    for name in ("missing_bucket", "missing_folder"):
        if getattr(store, name, None) == "missing":
            return f"{name}='missing'"
    below = getattr(store, "base_store", None)
    return None if below is None else leniency(below)
