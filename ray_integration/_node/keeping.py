"""What a node store does for a warming: it fills caches, and answers with what became of each digest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bitstore._warming.keeping import keep, keep_dry
from bitstore._warming.outcome import Outcome, failed
from bitstore._warming.parts import Target, filled, lean_part
from ray_integration._node.usable import is_usable, shared_part

__all__ = ["KeepOrder", "keep_on_node"]

_PIECE_ROWS = 512
_PIECE_SECONDS = 1.0  # outcomes wait no longer, so that a ledger keeps up with slow sources


@dataclass(frozen=True)
class KeepOrder:
    """What a node store is to do with digests."""

    # Which caches it fills.
    target: Target
    # "fill": as the digests' owner, which may pay; "copy": after the owner, from what is free; "dry": nothing is
    # fetched or kept, and the outcomes say what would be.
    how: Literal["fill", "copy", "dry"]
    # As for `get_many`.
    timeout: float | None
    in_flight: int | None


def keep_on_node(
    store: Any, free: Any | None, digests: Sequence[str], order: KeepOrder, *, node: str
) -> Iterator[list[Outcome]]:
    """The outcomes of `digests`, some at a time.

    Parameters
    ----------
    store, free
        The node's store, and the part of it that costs nothing.
    digests
        Each different.
    order
        What to do.
    node
        Id of this node.
    """
    if not any(map(is_usable, filled(store, order.target).values())):
        # A node store works without a cache folder that it cannot use; for a warming that is no success.
        yield [failed(digest, f"node {node[:8]} has no cache that can be filled") for digest in digests]
        return
    piece: list[Outcome] = []
    since = time.monotonic()
    for outcome in _outcomes(store, free, digests, order, node):
        piece.append(outcome)
        if len(piece) >= _PIECE_ROWS or time.monotonic() - since > _PIECE_SECONDS:
            yield piece
            piece, since = [], time.monotonic()
    yield piece


def _outcomes(store: Any, free: Any | None, digests: Sequence[str], order: KeepOrder, node: str) -> Iterator[Outcome]:
    target, timeout, in_flight = order.target, order.timeout, order.in_flight
    if order.how == "dry":
        part: Any = shared_part(store) if target == "shared" else store
        yield from keep_dry(part, digests, target=target, timeout=timeout, in_flight=in_flight)
    elif order.how == "copy":
        whole: Any = free  # a cache costs nothing, so some part of the store is free
        for outcome in keep(whole, digests, target=target, timeout=timeout, in_flight=in_flight):
            # Its owner has it: missing here means only that it costs money here again.
            yield failed(outcome.digest, _NOT_SHARED.format(node[:8])) if outcome.kind == "missing" else outcome
    elif target == "shared":
        unpaid: list[str] = []
        part = shared_part(free)
        if part is None:
            unpaid = list(digests)
        else:
            for outcome in keep(lean_part(part), digests, target=target, timeout=timeout, in_flight=in_flight):
                if outcome.kind == "found" or free is store:
                    yield outcome
                else:
                    unpaid.append(outcome.digest)
        # By the whole store: lookups that other jobs have under way are shared, and nothing is paid for twice.
        yield from keep(store, unpaid, target=target, timeout=timeout, in_flight=in_flight)
    else:
        yield from keep(store, digests, target=target, timeout=timeout, in_flight=in_flight)


_NOT_SHARED = "node {} cannot have it without paying: no cache that it shares with the owner's node holds it"
