"""What each tier of a composite did, in numbers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

__all__ = ["TierStats"]


@dataclass
class TierStats:
    """Counts of one tier since the composite was made (or unpickled, or forked into this process).

    Attributes
    ----------
    hits, misses, failures
        Lookups that the tier answered with bytes, with "not here", and not at all.
    invalid
        Bytes that did not match their digest (each also counted as a miss of a cache or a failure of a source).
    skipped
        Lookups in which a paid tier was not asked because an earlier tier's failure left the answer open.
    bytes
        Bytes of the hits.
    writes, write_failures
        Blobs kept in this cache, and those that it could not keep.
    requests, retries
        HTTP requests that the tier's raw store has sent, and how many of them were sent again after a failure.
        Tiers that share one raw store show the same numbers.
    breaker
        `"closed"`: the tier is asked; `"open"`: it is left alone after repeated failures; `"half-open"`: the
        next lookup tries it again.
    """

    name: str
    hits: int = 0
    misses: int = 0
    failures: int = 0
    invalid: int = 0
    skipped: int = 0
    bytes: int = 0
    writes: int = 0
    write_failures: int = 0
    requests: int = 0
    retries: int = 0
    breaker: str = "closed"
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def hit(self, size: int) -> None:
        """Count a hit of `size` bytes."""
        with self._lock:
            self.hits += 1
            self.bytes += size

    def count(self, what: str) -> None:
        """Add one to the count called `what`."""
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)

    def as_dict(self) -> dict[str, int | str]:
        """The counts by name."""
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}
