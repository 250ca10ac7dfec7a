"""What a pool did, for people: as a text, as an HTML page, as JSON."""

from __future__ import annotations

import datetime
import html
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitstore._support.atomic import write_whole
from bitstore._support.sizes import rounded_size
from bitstore.outline import printable
from ray_integration._pool.counts import TIER_COUNTS, PoolCounts, shown_span, size_of
from ray_integration._pool.report_page import page

__all__ = ["PoolReport", "report_of"]


@dataclass(frozen=True, kw_only=True)
class PoolReport(PoolCounts):
    """What the node stores of a pool did since each was started. `str` of it is a text, notebooks show the page.

    Attributes
    ----------
    pool
        Name of the pool.
    private
        Whether no other job finds it. The counts of a shared pool are those of all jobs.
    version
        The version of bitstore.
    made
        When the counts were asked for: a time of UTC in the form of ISO 8601.
    nodes
        A dict for each node store that answered: the columns of `NodePool.stats(by="node")`, `worker`, `caches`
        (`tier`, `place`, `folder`, `bytes`, `max_size`) and `notes` (what the node lacks, in words).
    tiers
        A dict for each node store and tier: the columns of `NodePool.stats()`, and `worker`.
    unanswered
        Names of node stores that did not answer: what they counted is in no number here.
    lost
        Nodes that left, and node stores that were started again, while this pool followed the cluster. What they had
        counted until then is lost.
    """

    def html(self) -> str:
        """The report as a page that stands alone: it loads nothing and runs nothing."""
        return page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report to a file: a page, JSON or a text, as its name ends in `.html`, `.json` or `.txt`.

        Raises
        ------
        ValueError
            The name ends in none of them.
        OSError
            The file cannot be written; what was there before stays.
        """
        target = Path(path)
        kinds: dict[str, Callable[[], str]] = {
            ".html": self.html,
            ".json": lambda: json.dumps(self.as_dict()) + "\n",
            ".txt": lambda: f"{self}\n",
        }
        make = kinds.get(target.suffix.lower())
        if make is None:
            raise ValueError(f"{os.fspath(path)!r}: the name of a report ends in {', '.join(kinds)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, make().encode("utf-8", "replace"))

    def __str__(self) -> str:
        return "\n".join(map(printable, self._lines()))

    def _repr_html_(self) -> str:
        shown = html.escape(self.html())
        return f'<iframe sandbox srcdoc="{shown}" style="width:100%;height:640px;border:0" title="pool"></iframe>'

    def _lines(self) -> Iterator[str]:
        places = self.bytes_by_place
        kind = "private" if self.private else "shared"
        yield f"pool {self.pool} ({kind}, bitstore {self.version}): {self.whose()}"
        parts = ", ".join(f"{place.replace('_', ' ')} {rounded_size(count)}" for place, count in places.items())
        yield f"served: {rounded_size(self.served)}, from {parts}"
        if self.upstream_share is not None:
            yield f"bytes from upstream for each byte served: {self.upstream_share:.3f}"
        yield f"requests upstream: {self.requests:,}"
        moved = f"{rounded_size(self.total('hand_over_bytes'))} in {self.total('hand_over_seconds'):.1f} s of calls"
        yield f"handed to map actors: {moved}, {rounded_size(self.total('bytes_peer'))} of it on other nodes"
        yield "tiers, all node stores together:"
        for name, counts in self.by_tier.items():
            told = ", ".join(f"{what.replace('_', ' ')} {counts[what]:,}" for what in TIER_COUNTS if counts[what])
            yield f"  {name}: {told or 'not asked'}"
        yield "node stores:"
        for node in self.nodes:
            memory = f"memory {rounded_size(node['memory'])}, at most {rounded_size(node['memory_peak'])}"
            yield f"  {node['node']} {node['worker']}: {memory}, {node['calls']:,} calls, {shown_span(node['age'])} old"
            for cache in node["caches"]:
                where = f" in {cache['folder']}" if cache["folder"] else ""
                yield f"    {cache['tier']}: {size_of(cache['bytes'])} of {size_of(cache['max_size'])}{where}"
            for note in node["notes"]:
                yield f"    {note}"
        yield from self.gaps()


def report_of(
    pool: str,
    told: Mapping[str, Sequence[Any]],
    unanswered: Sequence[str],
    *,
    private: bool,
    version: str,
    lost: Sequence[str] = (),
) -> PoolReport:
    """The report.

    Parameters
    ----------
    pool
        Name of the pool.
    told
        What `NodeStore.usage` and `NodeStore.stats` returned, by the name of the node store.
    unanswered, private, version, lost
        As for `PoolReport`.
    """
    numbered = [(int(name.rpartition("-")[2]), answers) for name, answers in told.items()]
    numbered.sort(key=lambda each: (each[1][0]["node"], each[0]))
    return PoolReport(
        pool=pool,
        private=private,
        version=version,
        made=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        nodes=tuple({**usage, "worker": worker} for worker, (usage, _) in numbered),
        tiers=tuple({**row, "worker": worker} for worker, (_, rows) in numbered for row in rows),
        unanswered=tuple(unanswered),
        lost=tuple(lost),
    )
