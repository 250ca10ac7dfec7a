"""The counts of many node stores as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bitstore._tiers.stats import TierStats

if TYPE_CHECKING:
    import pandas

__all__ = ["COUNTS", "stats_table", "usage_table"]

_INDEX = ["node", "worker", "tier"]
COUNTS = (
    "requests", "bytes_upstream", "bytes_other_disks", "bytes_disk", "bytes_memory", "bytes_peer", "hand_over_bytes",
    "hand_over_seconds", "memory", "memory_peak", "calls", "under_way", "age", "idle",
)  # fmt: skip
"""What `NodeStore.usage` says in numbers, in the order of the columns."""
_SECONDS = ("hand_over_seconds", "age", "idle")


def stats_table(
    tables: Mapping[str, Sequence[Mapping[str, int | str]]], unanswered: Sequence[str] = ()
) -> pandas.DataFrame:
    """A row for each node store and tier, in the order of nodes, workers and tiers.

    Parameters
    ----------
    tables
        What `NodeStore.stats` returned, by the name of the node store, which ends in the number of its worker.
    unanswered
        Names of node stores that returned nothing.
    """
    import pandas

    rows = [
        {**row, "worker": int(name.rpartition("-")[2]), "tier": row["name"]} for name in tables for row in tables[name]
    ]
    counts = [name for name in TierStats("").as_dict() if name != "name"]
    # Without rows, too, the columns are these, and counts are numbers.
    frame = pandas.DataFrame(rows, columns=[*_INDEX, *counts, "place", "node_id"])
    frame = frame.astype({name: "int64" for name in counts if name != "breaker"} | {"worker": "int64"})
    frame = frame.sort_values(["node", "worker"], kind="stable").set_index(_INDEX)
    frame.attrs["unanswered"] = list(unanswered)
    return frame


def usage_table(tables: Mapping[str, Mapping[str, Any]], unanswered: Sequence[str] = ()) -> pandas.DataFrame:
    """A row for each node store, in the order of nodes and workers.

    Parameters
    ----------
    tables
        What `NodeStore.usage` returned, by the name of the node store, which ends in the number of its worker.
    unanswered
        Names of node stores that returned nothing.
    """
    import pandas

    rows = [{**row, "worker": int(name.rpartition("-")[2])} for name, row in tables.items()]
    frame = pandas.DataFrame(rows, columns=["node", "worker", *COUNTS, "node_id"])
    frame = frame.astype({name: "float64" if name in _SECONDS else "int64" for name in ("worker", *COUNTS)})
    frame = frame.sort_values(["node", "worker"], kind="stable").set_index(["node", "worker"])
    frame.attrs["unanswered"] = list(unanswered)
    return frame
