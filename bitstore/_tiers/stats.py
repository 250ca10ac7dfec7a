"""What each tier of a composite did, in numbers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from bitstore.observe._prometheus import exposition
from bitstore.steps import RequestCounts

if TYPE_CHECKING:
    import pandas

__all__ = ["Stats", "TierCounts", "TierStats"]


@dataclass
class TierStats:
    """Counts of one tier since the composite was made (or unpickled, or forked into this process).

    The numbers are those of the moment at which `Composite.stats` was called.

    Attributes
    ----------
    name
        Name of the tier.
    hits, misses, failures
        Lookups that the tier answered with bytes, with "not here", and not at all.
    invalid
        Bytes that did not match their digest (each also counted as a miss of a cache or a failure of a source).
    skipped
        Lookups in which a paid tier was not asked, because an earlier tier's failure left the answer open or because
        no cache could keep what it returns.
    denied
        Lookups for which the tier was not asked, because its membership index denied the blob.
    bytes
        Bytes of the hits.
    writes, write_failures
        Blobs kept in this cache, and those that it could not keep.
    conflicts
        Write failures of blobs that the cache had just called missing, although something is there that cannot be
        read, such as an archived object.
    remembered
        Those of the misses for which the source was not asked, because a ledger of misses knew them
        (`RemembersMisses`); neither a request nor paid for.
    hedged, hedges_won
        Lookups that asked this source because one before it was slow (`Composite.hedge`), and how many of them it
        answered with the blob before that one did.
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
    denied: int = 0
    bytes: int = 0
    writes: int = 0
    write_failures: int = 0
    conflicts: int = 0
    remembered: int = 0
    hedged: int = 0
    hedges_won: int = 0
    requests: int = 0
    retries: int = 0
    breaker: str = "closed"

    def as_dict(self) -> dict[str, int | str]:
        """The counts by name, for a row of a table: `pandas.DataFrame(map(TierStats.as_dict, stats.values()))`."""
        return asdict(self)

    def as_json(self) -> str:
        """The counts as a JSON object."""
        return json.dumps(asdict(self))


class Stats(dict[str, TierStats]):
    """The counts of all tiers of a composite, by their names, in the order in which lookups ask them."""

    def __init__(self, tiers: Mapping[str, TierStats] | None = None) -> None:
        super().__init__(tiers or {})

    def as_dict(self) -> dict[str, dict[str, int | str]]:
        """The counts as plain values."""
        return {name: stats.as_dict() for name, stats in self.items()}

    def as_json(self) -> str:
        """The counts as a JSON object, with an object for each tier."""
        return json.dumps(self.as_dict())

    def as_frame(self) -> pandas.DataFrame:
        """The counts as a table of pandas: a row for each tier, which is the index. The types do not depend on rows."""
        import pandas

        kinds = {name: "int64" if isinstance(value, int) else "object" for name, value in asdict(TierStats("")).items()}
        rows = [stats.as_dict() for stats in self.values()]
        table = pandas.DataFrame(rows, columns=list(kinds)).astype(kinds)
        return table.rename(columns={"name": "tier"}).set_index("tier")

    def prometheus(self, **labels: str) -> str:
        """The counts as text for Prometheus (content type `text/plain; version=0.0.4`).

        Parameters
        ----------
        **labels
            Further labels of each sample, such as `store="web"`. The label `tier` is always there.

        Raises
        ------
        ValueError
            A label that Prometheus does not take, or that has another meaning here.
        """
        return exposition(self.as_dict().values(), labels)


class TierCounts:
    """The counts of one tier, as lookups in many threads add to them."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._stats = TierStats(name)

    def hit(self, size: int) -> None:
        """Count a hit of `size` bytes."""
        with self._lock:
            self._stats.hits += 1
            self._stats.bytes += size

    def count(self, what: str) -> None:
        """Add one to the count called `what`."""
        with self._lock:
            setattr(self._stats, what, getattr(self._stats, what) + 1)

    def add(self, **counts: int) -> None:
        """Add to the counts of these names."""
        with self._lock:
            for what, more in counts.items():
                setattr(self._stats, what, getattr(self._stats, what) + more)

    def now(self, breaker: str, sent: RequestCounts | None) -> TierStats:
        """A copy of the counts, with the state of the tier's breaker and the requests of its store."""
        with self._lock:
            stats = replace(self._stats, breaker=breaker)
        if sent is not None:
            stats.requests, stats.retries = sent.requests, sent.retries
            stats.remembered = getattr(sent, "remembered", 0)
        return stats
