"""What node stores counted, put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bitstore._support.sizes import rounded_size
from bitstore._tiers.stats import TierStats
from ray_integration._node.places import PLACES

__all__ = ["TIER_COUNTS", "PoolCounts", "counted", "shown_span", "size_of"]

TIER_COUNTS = tuple(name for name, value in asdict(TierStats("")).items() if isinstance(value, int))


@dataclass(frozen=True, kw_only=True)
class PoolCounts:
    """The counts of a pool; `PoolReport` says what each attribute is."""

    pool: str
    private: bool
    version: str
    made: str
    nodes: tuple[Mapping[str, Any], ...]
    tiers: tuple[Mapping[str, Any], ...]
    unanswered: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """Requests to what is upstream: all that is not on the nodes."""
        return sum(int(node["requests"]) for node in self.nodes)

    @property
    def bytes_by_place(self) -> dict[str, int]:
        """Bytes of the blobs that lookups found: `upstream`, on `other_disks`, on a `disk`, in `memory`."""
        return {place: self.total(f"bytes_{place}") for place in PLACES}

    @property
    def served(self) -> int:
        """Bytes of all blobs that lookups found."""
        return sum(self.bytes_by_place.values())

    @property
    def upstream_share(self) -> float | None:
        """Bytes from upstream for each byte served; None: nothing was served."""
        return self.bytes_by_place["upstream"] / self.served if self.served else None

    @property
    def by_tier(self) -> dict[str, dict[str, int]]:
        """The counts of each tier (see `TierStats`), of all node stores together."""
        totals: dict[str, dict[str, int]] = {}
        for row in self.tiers:
            total = totals.setdefault(str(row["name"]), dict.fromkeys(TIER_COUNTS, 0))
            for name in TIER_COUNTS:
                total[name] += int(row[name])
        return totals

    @property
    def failures(self) -> int:
        """Lookups that a tier did not answer."""
        return sum(int(row["failures"]) for row in self.tiers)

    @property
    def complete(self) -> bool:
        """Whether the counts are those of all node stores that this pool had."""
        return not self.unanswered and not self.lost

    def total(self, column: str) -> Any:
        """The sum of a column of `nodes`."""
        return sum(node[column] for node in self.nodes)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, such as JSON has."""
        sums = {name: getattr(self, name) for name in ("requests", "bytes_by_place", "upstream_share", "by_tier")}
        return {**asdict(self), **sums, "complete": self.complete}

    def whose(self) -> str:
        """How many node stores there are, in words."""
        nodes = len({node["node_id"] for node in self.nodes})
        return f"{counted(len(self.nodes), 'node store')} on {counted(nodes, 'node')}"

    def gaps(self) -> Iterator[str]:
        """What is in no number here, in words."""
        if self.unanswered:
            yield f"no answer from {', '.join(self.unanswered)}: what they counted is not in here"
        if self.lost:
            yield f"lost is what was counted by {', '.join(self.lost)}"


def counted(count: int, noun: str) -> str:
    """So many of them, in words."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_of(count: int | None) -> str:
    """A size in words; None: it is unknown."""
    return "unknown" if count is None else rounded_size(count)


def shown_span(seconds: float | None) -> str:
    """A span in its largest unit, rounded down; `-`: there is none."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
