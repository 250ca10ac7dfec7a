"""The digests of a warming, sent to node stores in rounds, and sent again where a node store is lost."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bitstore._support.once import warn_once
from bitstore._warming.outcome import Kind, Outcome, failed
from ray_integration._node.keeping import KeepOrder
from ray_integration._pool.keeper import PoolError
from ray_integration._pool.members import Members

__all__ = ["WarmCalls"]

logger = logging.getLogger("bitstore")

_CALL = 512  # digests in one call at most; some two calls of each node store are under way
_SILENCE = 15.0  # seconds without an outcome after which a node store is asked whether it is alive
_RECOVERY = 60.0  # seconds for which a node store is waited for while its node is there
_TRIES = 6  # calls that are made for a digest before it is given up
_WORST_FIRST: tuple[Kind, ...] = ("failed", "missing", "found", "warm")


@dataclass(eq=False)
class _Call:
    """A call of `NodeStore.keep` under way.

    Attributes
    ----------
    member
        The node store.
    copying
        Whether the digests have been answered by their owners, and are copied to this node.
    open
        What it has not answered.
    heard
        When it gave its last sign of life.
    """

    member: str
    copying: bool
    open: set[str]
    heard: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Copying:
    """A digest that its owner has, and that others are to have too: the outcome so far, and how many are to answer."""

    outcome: Outcome
    left: int


class WarmCalls:
    """Asks each digest's owner to keep it, and for `target="local"` then all other node stores.

    An owner is asked before the others so that a paid source is called once: what it returned is in a shared cache
    when the others ask. Node stores that leave are made up for: by the next owner, or, as copies, not at all.

    Parameters
    ----------
    members
        The node stores. For one thread.
    order
        What they are to do.
    """

    def __init__(self, members: Members, order: KeepOrder) -> None:
        self._members = members
        self._order = order
        self._copies = order if order.how == "dry" else replace(order, how="copy")
        self._everywhere = order.target == "local"
        self._calls: dict[Any, _Call] = {}
        self._copying: dict[str, _Copying] = {}
        self._to_copy: dict[str, list[str]] = {}
        self._tries: Counter[tuple[str, str | None]] = Counter()
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
            room = _CALL * (2 if self._everywhere else max(1, len(self._members.names())))
            while not exhausted and self._owned + len(self._copying) <= room:
                taken = list(itertools.islice(left, room))
                exhausted = len(taken) < room
                self._send_to_owners(taken)
            self._send_copies()
            ready, self._ready = self._ready, []
            yield from ready
            if not (ready or self._calls or self._to_copy) and exhausted:
                return
            self._receive()

    # -- sending

    def _send_to_owners(self, digests: list[str]) -> None:
        if not digests:
            return
        names = self._members.names()
        if not names:
            self._members.wait_for_any(_RECOVERY)
            names = self._members.names()
        if not names:
            raise PoolError(f"no node store has answered for {_RECOVERY:.0f} s")
        for name, positions in self._members.split(digests, names).items():
            for start in range(0, len(positions), _CALL):
                part = [digests[position] for position in positions[start : start + _CALL]]
                self._owned += len(part)
                self._call(name, part, copying=False)

    def _send_copies(self) -> None:
        """Send what waits to be copied to those who have no such call under way."""
        if not self._to_copy:
            return
        busy = {call.member for call in self._calls.values() if call.copying}
        names = set(self._members.names())
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
        keep = self._members.handle(name).keep.options(num_returns="streaming")
        self._calls[keep.remote(digests, self._copies if copying else self._order)] = _Call(name, copying, set(digests))

    # -- receiving

    def _receive(self) -> None:
        """Wait for outcomes, or for some other news of the calls under way."""
        import ray

        if not self._calls:
            return
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=_SILENCE)
        for pieces in ready:
            self._take(pieces)
        now = time.monotonic()
        for pieces, call in list(self._calls.items()):
            if now - call.heard > _SILENCE:
                if self._members.is_alive(call.member):
                    call.heard = time.monotonic()  # it waits for what is slow
                else:
                    self._end(pieces, TimeoutError("no sign of life"))

    def _take(self, pieces: Any) -> None:
        import ray

        call = self._calls[pieces]
        try:
            outcomes: list[Outcome] = ray.get(next(pieces), timeout=_RECOVERY)
        except StopIteration:
            self._end(pieces, None)
            return
        except ray.exceptions.RayError as failure:
            self._end(pieces, failure)
            return
        call.heard = time.monotonic()
        names = self._members.names() if self._everywhere and not call.copying else []
        others = [name for name in names if name != call.member]
        for outcome in outcomes:
            if outcome.digest in call.open:
                call.open.discard(outcome.digest)
                self._answered(call, outcome, others)

    def _answered(self, call: _Call, outcome: Outcome, others: Sequence[str] = ()) -> None:
        digest = outcome.digest
        if call.copying:
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

    def _end(self, pieces: Any, error: Exception | None) -> None:
        """A call is over: all answered, or not. What is open is sent again, to whoever owns it now."""
        import ray

        call = self._calls.pop(pieces)
        again = sorted(call.open)
        if error is not None:
            cause = ("node store", call.member, type(error))
            text = "node store %s: %s: %s"
            warn_once(logger, cause, text, call.member, type(error).__name__, str(error).split("\n")[0])
            if not isinstance(error, ray.exceptions.RayTaskError):
                # While its node is there, so is its disk, with what is warm there: so it is waited for.
                self._members.recover([call.member], _RECOVERY)
        place = call.member if call.copying else None
        tried: list[str] = []
        for digest in again:
            self._tries[digest, place] += 1
            if self._tries[digest, place] < _TRIES:
                tried.append(digest)
            else:
                told = "no outcome" if error is None else f"{type(error).__name__}: {str(error).splitlines()[0]}"
                self._answered(call, failed(digest, f"node store {call.member} did not keep it ({told})"))
        if call.copying:
            if tried:
                self._to_copy.setdefault(call.member, [])[:0] = tried
            return
        self._owned -= len(tried)
        self._send_to_owners(tried)


def _worse(kind: Kind, than: Kind) -> bool:
    return _WORST_FIRST.index(kind) < _WORST_FIRST.index(than)
