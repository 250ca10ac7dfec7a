"""The report of a pool as an HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bitstore._pages.frame import Tile, document, figure, section
from bitstore._pages.plots import Bar, bars
from bitstore._support.sizes import rounded_size
from ray_integration._pool.counts import PoolCounts, shown_span, size_of

__all__ = ["page"]

_MOST = 12  # node stores that have a bar of their own
_ROWS = 100  # rows of a table with one for each node store
_TIER_COUNTS = (
    "hits", "misses", "failures", "invalid", "skipped", "denied", "writes", "write_failures", "requests", "retries",
)  # fmt: skip
_FOOT = (
    "Sizes are powers of 1000. Upstream is all that is not on the nodes. Tiers that share a raw store show the "
    "requests and retries of all of them."
)


def page(report: PoolCounts) -> str:
    """The page."""
    if report.failures:
        state, look = "with failures", "bad"
    elif not report.complete:
        state, look = "not all counts", "warn"
    else:
        state, look = "all answered", "good"
    kind = "private" if report.private else "shared by all jobs that mean the same store"
    return document(
        title="bitstore pool",
        state=state,
        look=look,
        when=report.made.replace("T", " ").replace("+00:00", " UTC"),
        call=f"{report.pool}: {kind}, {report.whose()}",
        told=[line[0].upper() + line[1:] for line in report.gaps()] + _notes(report),
        tiles=_tiles(report),
        plots=_plots(report),
        sections=_sections(report),
        foot=f"bitstore {report.version}. {_FOOT}",
    )


def _notes(report: PoolCounts) -> list[str]:
    return [f"{node['node']} {note}" for node in report.nodes for note in node["notes"]][:_MOST]


def _tiles(report: PoolCounts) -> Iterator[Tile]:
    share = report.upstream_share
    yield "served", rounded_size(report.served), ""
    yield "from upstream for each byte served", "-" if share is None else f"{share:.3f}", ""
    yield "requests upstream", f"{report.requests:,}", ""
    yield "lookups that a tier did not answer", f"{report.failures:,}", "bad" if report.failures else ""
    yield "handed to map actors", rounded_size(report.total("hand_over_bytes")), ""
    yield "of it went to other nodes", rounded_size(report.total("bytes_peer")), ""
    yield "that calls waited for the hand-over", f"{report.total('hand_over_seconds'):,.1f} s", ""
    peaks = [node["memory_peak"] for node in report.nodes]
    yield "most memory of a node store", rounded_size(max(peaks, default=0)), ""
    yield "age of the oldest", shown_span(max((node["age"] for node in report.nodes), default=None)), ""


def _plots(report: PoolCounts) -> Iterator[str]:
    places = [Bar(place.replace("_", " "), count) for place, count in report.bytes_by_place.items() if count]
    yield figure("places", "Bytes by place", bars("Bytes by place", places, "nothing was found"))
    hits = [Bar(name, counts["hits"]) for name, counts in report.by_tier.items()]
    yield figure("tiers", "Hits per tier", bars("Hits per tier", hits, "there are no tiers"))
    for name, title, value in (
        ("memory", "Memory of node stores at most, MB", _millions("memory_peak")),
        ("upstream", "MB from upstream", _millions("bytes_upstream")),
        ("handed", "Hand-over, ms of calls", lambda node: round(1e3 * node["hand_over_seconds"])),
        ("requests", "Requests upstream", lambda node: int(node["requests"])),
    ):
        yield figure(name, title, bars(title, _largest(report, value), "no node store has answered"))


def _millions(column: str) -> Callable[[Mapping[str, Any]], int]:
    return lambda node: round(node[column] / 1e6)


def _largest(report: PoolCounts, value: Callable[[Mapping[str, Any]], int]) -> list[Bar]:
    """A bar for each of the node stores with the most, the largest first; one bar for the others."""
    found = sorted((Bar(f"{node['node']} {node['worker']}", value(node)) for node in report.nodes), key=_by_value)
    rest = found[_MOST:]
    return found[:_MOST] + ([Bar(f"the largest of {len(rest):,} others", rest[0].value)] if rest else [])


def _by_value(bar: Bar) -> tuple[int, str]:
    return -bar.value, bar.name


def _sections(report: PoolCounts) -> Iterator[str]:
    tiers = [
        [name, *(f"{counts[what]:,}" for what in _TIER_COUNTS), rounded_size(counts["bytes"])]
        for name, counts in report.by_tier.items()
    ]
    head = ["tier", *(what.replace("write_failures", "not written") for what in _TIER_COUNTS), "size"]
    yield section("What each tier did, all node stores together", head, tiers, words=1)
    nodes = [
        [
            f"{node['node']} {node['worker']}",
            f"{node['calls']:,}",
            f"{node['requests']:,}",
            *(rounded_size(node[f"bytes_{place}"]) for place in ("upstream", "other_disks", "disk", "memory", "peer")),
            f"{node['hand_over_seconds']:.1f} s",
            rounded_size(node["memory"]),
            rounded_size(node["memory_peak"]),
            shown_span(node["age"]),
            shown_span(node["idle"]),
        ]
        for node in report.nodes
    ]
    head = [
        "node store", "calls", "requests", "upstream", "other disks", "disk", "memory", "to peers", "hand-over",
        "process", "at most", "age", "unused",
    ]  # fmt: skip
    yield section(_headed("Node stores", nodes), head, nodes[:_ROWS], words=1)
    caches = [
        [node["node"], cache["tier"], cache["folder"] or "memory", size_of(cache["bytes"]), size_of(cache["max_size"])]
        for node in report.nodes
        for cache in node["caches"]
        if node["worker"] == 0 or cache["place"] == "memory"  # the node stores of a node share its disk
    ]
    if caches:
        head = ["node", "tier", "folder", "holds", "at most"]
        yield section(_headed("Caches of the nodes", caches), head, caches[:_ROWS], words=3)


def _headed(title: str, rows: list[Any]) -> str:
    more = len(rows) - _ROWS
    return title if more <= 0 else f"{title}: the first {_ROWS} of {len(rows):,} (text and JSON have all)"
