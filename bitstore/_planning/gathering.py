"""Requests for blobs that are parts of larger objects: of those that lie near each other, one brings many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bitstore._planning.interval import Interval

__all__ = ["Gathered", "Place", "gathered"]

_BLOCK = 1 << 20  # bytes that are read at once where several lookups want parts of them
_MOST = 8 * _BLOCK  # bytes of one request for several parts


class Place(NamedTuple):
    """Where a blob lies, as a table of this machine says."""

    # The raw store that reads it; None: no request does, as it is on this machine.
    store: Any
    url: str
    # Bytes of the object, from `start` up to `end`; None: to its end.
    start: int
    end: int | None


class Gathered(NamedTuple):
    """What it takes to read all blobs of some places."""

    blobs: int
    requests: Interval
    # Bytes that come; None: there is a whole object, whose size no table says.
    bytes: Interval | None


def gathered(places: Sequence[Place], gap: int, room: int) -> Gathered:
    """What it takes to read the blobs at `places`.

    The least is what a batch takes that asks for all of them at once, or goes through the objects in order: parts that
    are no more than `gap` bytes apart come by one request. The most is a request for each blob, or a block of 1 MiB
    where blocks are kept (`room` bytes of them). Expected is the least where all blocks that are touched fit into
    `room`: each is read once then, or twice; else so much more as of the blocks are not there when they are wanted.
    """
    there = [place for place in places if place.store is not None]
    parts = sorted({(place.url, place.start, place.end) for place in there if place.end is not None})
    wholes = {place.url for place in there if place.end is None}
    spans: list[tuple[str, int, int]] = []
    blocks: set[tuple[str, int]] = set()
    for url, start, end in parts:
        blocks.update((url, number) for number in range(start // _BLOCK, max(start, end - 1) // _BLOCK + 1))
        if spans and spans[-1][0] == url and start <= spans[-1][2] + gap and end - spans[-1][1] <= _MOST:
            spans[-1] = url, spans[-1][1], max(spans[-1][2], end)
        else:
            spans.append((url, start, end))
    least = sum(end - start for _, start, end in spans)
    alone = sum(end - start for _, start, end in parts)
    kept = min(1.0, room / (len(blocks) * _BLOCK)) if blocks else 1.0
    requests = kept * len(spans) + (1 - kept) * len(parts)
    most_bytes = max(least, alone if not room else sum(max(end - start, _BLOCK) for _, start, end in parts))
    size = Interval(min(alone, least), kept * least + (1 - kept) * alone, most_bytes)
    return Gathered(
        len(places),
        Interval(len(spans) + len(wholes), requests + len(wholes), len(parts) + len(wholes)),
        None if wholes else size,
    )
