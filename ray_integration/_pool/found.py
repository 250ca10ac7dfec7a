"""A pool of some job, as another process found it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bitstore._support.sizes import rounded_size
from bitstore.outline import printable
from ray_integration._pool.counts import counted, shown_span, size_of

__all__ = ["FoundPool"]


@dataclass(frozen=True, kw_only=True)
class FoundPool:
    """A pool of some job.

    Attributes
    ----------
    name
        Its name.
    private
        Whether it belongs to one job, with which it ends.
    version
        The version of bitstore; None: unknown.
    store
        Fingerprint of the store; None: a private pool whose name does not say.
    code
        What stands for the source of the store's own code; None: it has none, or that is unknown.
    nodes
        What `NodeStore.usage` says of each node store, and `worker`.
    unanswered
        Nodes whose node stores did not answer, by name or the beginning of their id.
    stale
        Why nothing new will use it, in words; empty: it is as good as any.
    """

    name: str
    private: bool
    version: str | None
    store: str | None
    code: str | None
    nodes: tuple[Mapping[str, Any], ...]
    unanswered: tuple[str, ...]
    stale: tuple[str, ...] = ()

    @property
    def started(self) -> float | None:
        """When its first node store was started, in seconds since 1970; None: none has answered."""
        return min((node["started"] for node in self.nodes), default=None)

    @property
    def age(self) -> float | None:
        """Seconds since its first node store was started; None: none has answered."""
        return max((node["age"] for node in self.nodes), default=None)

    @property
    def unused(self) -> float | None:
        """Seconds for which no call was under way anywhere; None: unknown, because a node store did not answer."""
        if self.unanswered or not self.nodes:
            return None
        return float(min(node["age"] if node["idle"] is None else node["idle"] for node in self.nodes))

    @property
    def under_way(self) -> int:
        """Calls that are under way now."""
        return sum(node["under_way"] for node in self.nodes)

    @property
    def memory(self) -> int:
        """Bytes of memory of its node stores together."""
        return sum(node["memory"] for node in self.nodes)

    def summary(self) -> str:
        """Its name, size and use in one line."""
        return f"{self.name} ({counted(len(self.nodes) + len(self.unanswered), 'node store')}, {self._used()})"

    def __str__(self) -> str:
        return "\n".join(map(printable, self._lines()))

    def _lines(self) -> Iterator[str]:
        yield self.name
        kind = "private" if self.private else "shared"
        code = f", code {self.code}" if self.code else ""
        stores = counted(len(self.nodes), "node store")
        age = f"{shown_span(self.age)} old, {self._used()}, memory {rounded_size(self.memory)}"
        yield f"  {kind}, bitstore {self.version or 'unknown'}{code}, {stores}, {age}"
        for reason in self.stale:
            yield f"  stale: {reason}"
        for node in self.nodes:
            memory = f"memory {rounded_size(node['memory'])}, at most {rounded_size(node['memory_peak'])}"
            version = f"bitstore {node['version']}, Python {node['python']}"
            calls = f"{shown_span(node['age'])} old, {counted(node['calls'], 'call')}"
            yield f"  {node['node']} {node['worker']}: {version}, {memory}, {calls}"
            for cache in node["caches"]:
                where = f" in {cache['folder']}" if cache["folder"] else ""
                yield f"    {cache['tier']}: {size_of(cache['bytes'])} of {size_of(cache['max_size'])}{where}"
            for note in node["notes"]:
                yield f"    {note}"
        for node_name in self.unanswered:
            yield f"  {node_name}: its node store does not answer"

    def _used(self) -> str:
        if self.under_way:
            return f"{counted(self.under_way, 'call')} under way"
        return "use unknown" if self.unused is None else f"unused for {shown_span(self.unused)}"
