"""Nodes of which some read their disks slowly, and map actors that wait for whole batches, as `FetchBlobs` does.

Which node is asked for which digest of a batch is the real routing. A node answers its calls in the order in which they
come, as fast as its disk reads.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy

from benchmarks.simulation import digests, nodes, owners

__all__ = ["run"]

_RATE = 5_000.0  # rows a second that a node serves (`benchmarks.scale`)
_SLOWER = 10.0
_SAMPLES = 64  # different batches, which all actors take in turn
_BATCHES = 60  # for which there is time where no node is slow; the second half of the time counts


def run(count: int, slow: int, routing: str, batch: int) -> float:
    """Rows a second of the whole cluster, by those of one without slow nodes.

    Parameters
    ----------
    slow
        Nodes whose disks read at a tenth of the rate.
    routing
        "local": each node serves its own actor; "owner": the owners of a batch's digests do.
    batch
        Digests that an actor asks for together.
    """
    shares = _shares(count, batch) if routing == "owner" else None
    rate = _batches(count, slow, batch, shares) / _batches(count, 0, batch, shares)
    return round(rate, 4)


def _batches(count: int, slow: int, batch: int, shares: list[tuple[Any, Any]] | None) -> float:
    """Batches that all actors have got in the second half of the time."""
    per_row = numpy.full(count, 1 / _RATE)
    per_row[:slow] *= _SLOWER
    free_at = numpy.zeros(count)
    end = _BATCHES * batch / _RATE
    actors = [(0.0, number, 0) for number in range(count)]  # when each asks for its next batch, and how many it had
    had_all = 0
    while actors[0][0] < end:
        now, number, had = heapq.heappop(actors)
        had_all += now > end / 2
        asked, rows = ([number], batch) if shares is None else shares[(number + had) % _SAMPLES]
        free_at[asked] = numpy.maximum(free_at[asked], now) + rows * per_row[asked]
        heapq.heappush(actors, (float(free_at[asked].max()), number, had + 1))
    return had_all


def _shares(count: int, batch: int) -> list[tuple[Any, Any]]:
    """For each of some batches: the nodes that own digests of it, and how many."""
    found = owners(digests(_SAMPLES * batch), nodes(count)).reshape(_SAMPLES, batch)
    return [numpy.unique(row, return_counts=True) for row in found]
