"""The digests of a warming, sent to node stores in rounds, and sent again where a node store is lost."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bitstore._warming.outcome import Kind, Outcome, failed
from ray_integration._node.keeping import KeepOrder
from ray_integration._pool.keeper import PoolError
from ray_integration._pool.members import Members
from ray_integration._pool.node_calls import RECOVERY, NodeCall, NodeCalls, brief

__all__ = ["WarmCalls"]

_CALL = 512  # digests in one call at most; some two calls of each node store are under way
_TRIES = 6  # calls that are made for a digest before it is given up
_WORST_FIRST: tuple[Kind, ...] = ("failed", "missing", "found", "warm")


@dataclass(eq=False)
class _Copying:
    """A digest that its owner has, and that the other node stores are to have too."""

    # The worst so far.
    outcome: Outcome
    # How many node stores have not answered yet.
    left: int


class WarmCalls(NodeCalls[str]):
    """Asks each digest's owner to keep it, and for `target="local"` then all other node stores.

    An owner is asked before the others so that a paid source is called once: what it returned is in a shared cache
    when the others ask. The next owner makes up for a node store that leaves; its copies are not made.
    The special calls are those that copy.

    Parameters
    ----------
    members
        The node stores. For one thread.
    order
        What they are to do.
    """

    def __init__(self, members: Members, order: KeepOrder) -> None:
        super().__init__(members, most=_CALL)
        self._order = order
        self._copies = order if order.how == "dry" else replace(order, how="copy")
        self._everywhere = order.target == "local"
        self._copying: dict[str, _Copying] = {}
        self._to_copy: dict[str, list[str]] = {}  # digests that wait to be copied, by node store
        self._tries: Counter[tuple[str, str | None]] = Counter()  # by digest and, for copies, node store
        self._owned = 0  # digests that are with their owners
        self._ready: list[Outcome] = []

    def outcomes(self, digests: Iterator[str]) -> Iterator[Outcome]:
        """One outcome for each of the digests (all different), as they come. Holds a bounded number of them.

        Raises `PoolError` when there is no node store left.
        """
        left = iter(digests)
        exhausted = False
        while True:
            # What goes to all of them is bounded for each, what goes to owners for all together.
            room = _CALL * (2 if self._everywhere else max(1, len(self.members.names())))
            while not exhausted and self._owned + len(self._copying) <= room:
                taken = list(itertools.islice(left, room))
                exhausted = len(taken) < room
                self._send_to_owners(taken)
            self._send_copies()
            ready, self._ready = self._ready, []
            yield from ready
            if not (ready or self.under_way or self._to_copy) and exhausted:
                return
            self.receive()

    # -- sending

    def _send_to_owners(self, digests: list[str]) -> None:
        if not digests:
            return
        names = self.owners(patient=False)
        if not names:
            raise PoolError(f"no node store has answered for {RECOVERY:.0f} s")
        for name, part in self.grouped(digests, digests, names):
            self._owned += len(part)
            self._call(name, part, copying=False)

    def _send_copies(self) -> None:
        """Send what waits to be copied to the node stores that have no such call under way."""
        if not self._to_copy:
            return
        busy = {call.member for call in self.under_way.values() if call.special}
        names = set(self.members.names())
        for name in self._to_copy.keys() - busy:
            waiting = self._to_copy.pop(name)
            if name not in names:  # it has left, and its disk with it
                for digest in waiting:
                    self._copied(digest, name, None)
                continue
            part, rest = waiting[:_CALL], waiting[_CALL:]
            if rest:
                self._to_copy[name] = rest
            self._call(name, part, copying=True)

    def _call(self, name: str, digests: list[str], *, copying: bool) -> None:
        keep = self.members.handle(name).keep.options(num_returns="streaming")
        pieces = keep.remote(digests, self._copies if copying else self._order)
        self.under_way[pieces] = NodeCall(name, digests, copying)

    # -- receiving

    def _take(self, call: NodeCall[str], outcomes: list[Outcome]) -> None:
        names = self.members.names() if self._everywhere and not call.special else []
        others = [name for name in names if name != call.member]
        for outcome in outcomes:
            if outcome.digest in call.open:
                call.open.discard(outcome.digest)
                self._answered(call, outcome, others)

    def _waits_for(self, call: NodeCall[str]) -> bool:
        return True  # while its node is there, so is its disk, with what is warm there

    def _settle(self, call: NodeCall[str], error: Exception | None) -> None:
        again: list[str] = []
        for digest in sorted(call.open):
            attempt = (digest, call.member if call.special else None)
            self._tries[attempt] += 1
            if self._tries[attempt] < _TRIES:
                again.append(digest)
            else:
                reason = "no outcome" if error is None else brief(error)
                self._answered(call, failed(digest, f"node store {call.member} did not keep it ({reason})"))
        if not call.special:
            self._owned -= len(again)
            self._send_to_owners(again)
        elif again:
            self._to_copy.setdefault(call.member, [])[:0] = again

    def _answered(self, call: NodeCall[str], outcome: Outcome, others: Sequence[str] = ()) -> None:
        digest = outcome.digest
        if call.special:
            self._copied(digest, call.member, outcome)
            return
        self._owned -= 1
        self._tries.pop((digest, None), None)
        if not others or outcome.kind not in ("found", "warm"):
            self._ready.append(outcome)
            return
        self._copying[digest] = _Copying(outcome, len(others))
        for name in others:
            self._to_copy.setdefault(name, []).append(digest)

    def _copied(self, digest: str, member: str, outcome: Outcome | None) -> None:
        """A node store has answered, or (None) has left."""
        state = self._copying[digest]
        state.left -= 1
        self._tries.pop((digest, member), None)
        if outcome is not None and _worse(outcome.kind, state.outcome.kind):
            state.outcome = outcome
        if not state.left:
            del self._copying[digest]
            self._ready.append(state.outcome)


def _worse(kind: Kind, than: Kind) -> bool:
    return _WORST_FIRST.index(kind) < _WORST_FIRST.index(than)
