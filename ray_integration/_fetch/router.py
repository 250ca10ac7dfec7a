"""The lookups of a batch, sent to node stores: grouped, watched, and sent again where one is lost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from bitstore._support.once import warn_once
from bitstore._tiers.views import free_part
from bitstore.errors import StoreNotAvailable
from bitstore.store import Store
from ray_integration._node.node_store import Piece, needs_paid
from ray_integration._node.row_answer import RowAnswer, answer_of
from ray_integration._node.usable import usable_part
from ray_integration._pool.members import Members

__all__ = ["Router"]

logger = logging.getLogger("bitstore")

_FIRST = 32  # lookups under way before anything is known of the blobs' sizes
_CALL = 1024  # digests in one call at most
_SILENCE = 15.0  # seconds without a piece after which a node store is asked whether it is alive
_RECOVERY = 60.0  # seconds for which a paid lookup waits for its owner
_FREE_TRIES = 3  # node stores that are asked before the caller fetches by itself
_PAID_TRIES = 6  # calls to owners before a row is given up


@dataclass(eq=False)
class _Call:
    """A call of `NodeStore.fetch` under way.

    Attributes
    ----------
    member
        The node store.
    positions
        The positions in the batch of the digests that it was sent.
    pays
        Whether it may cost money: then its answer must not be sought elsewhere while its owner lives.
    open
        Those of the positions that it has not answered.
    unpaid
        Those that only a paid source may answer.
    heard
        When it gave its last sign of life.
    """

    member: str
    positions: list[int]
    pays: bool
    open: set[int]
    unpaid: list[int] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)


class Router:
    """Sends the lookups of one process to the node stores of a pool.

    Node stores never call each other: the grouping is done here, and what a node store may not do (pay) comes back to
    be sent to its owner.

    Parameters
    ----------
    members
        The node stores.
    store
        The store that they hold: what no node store answers is looked up in it directly, except for money.
    routing
        `"local"`: first ask the node's own store, for what is free; `"owner"`: each digest's owner.
    timeout, in_flight, max_bytes, patience
        As for `FetchBlobs`.
    with_errors
        Answers carry the errors themselves besides their texts.
    """

    def __init__(
        self,
        members: Members,
        store: Any,
        *,
        routing: Literal["local", "owner"],
        timeout: float | None,
        in_flight: int | None,
        max_bytes: int,
        patience: float,
        with_errors: bool,
    ) -> None:
        self.members = members
        self.store, notes = usable_part(store)
        for note in notes:
            warn_once(logger, ("unusable", note), "this process %s", note)
        self.free = free_part(self.store)
        self.has_paid = self.free is not self.store
        self.owned = routing == "owner"
        self.timeout = timeout
        self.in_flight = in_flight
        self.max_bytes = max_bytes
        self.patience = patience
        self.with_errors = with_errors
        # What the blobs so far say of the size of those to come; kept from batch to batch.
        self.answered = 0
        self.bytes = 0

    def answers(self, digests: Sequence[str]) -> Generator[RowAnswer, None, None]:
        """One answer for each of the digests (all different, in canonical form), in their order."""
        return _Batch(self, digests).in_order()


class _Batch:
    """The lookups of one batch."""

    def __init__(self, router: Router, digests: Sequence[str]) -> None:
        self._router = router
        self._members = router.members
        self._digests = digests
        self._calls: dict[Any, _Call] = {}
        self._answers: dict[int, RowAnswer] = {}
        self._held = 0  # bytes of the answers that wait for their turn
        self._tries: Counter[int] = Counter()
        self._begun = 0  # positions that were sent at least once
        self._taken = 0  # positions whose answers the consumer has

    def in_order(self) -> Generator[RowAnswer, None, None]:
        for position in range(len(self._digests)):
            while position not in self._answers:
                self._begin()
                self._receive()
            answer = self._answers.pop(position)
            self._held -= answer.size
            self._taken += 1
            yield answer
            del answer

    # -- sending

    def _begin(self) -> None:
        """Send lookups that were not begun, as far as the bound on bytes lets us."""
        limit = self._limit()
        room = limit - (self._begun - self._taken)
        if room < max(1, limit // 2) and self._begun > self._taken:
            return  # in portions: a call costs as much as a hundred lookups
        begin = range(self._begun, min(len(self._digests), self._begun + max(1, room)))
        self._begun = begin.stop
        router = self._router
        if router.free is None or (router.owned and router.has_paid):
            self._send(list(begin), pays=True)
        else:
            self._send(list(begin), pays=False)

    def _limit(self) -> int:
        """How many positions may be begun and not taken."""
        router = self._router
        mean = router.bytes / router.answered if router.answered else 0.0
        most = 2 * router.answered + _FIRST
        if mean < 1:
            return most
        return max(1, min(most, int((router.max_bytes - self._held) / mean) + len(self._answers)))

    def _send(self, positions: list[int], *, pays: bool) -> None:
        if not positions:
            return
        local = not (pays or self._router.owned)
        names = self._members.nearest() if local else self._members.names(patient=pays)
        if not names and pays:
            self._members.wait_for_any(_RECOVERY)
            names = self._members.names(patient=True)
        if not names:
            self._look_up_here(positions)
            return
        for name, indexes in self._members.split([self._digests[position] for position in positions], names).items():
            for start in range(0, len(indexes), _CALL):
                self._call(name, [positions[index] for index in indexes[start : start + _CALL]], pays)

    def _call(self, name: str, positions: list[int], pays: bool) -> None:
        router = self._router
        fetch = self._members.handle(name).fetch.options(num_returns="streaming")
        pieces = fetch.remote(
            [self._digests[position] for position in positions],
            ask_paid=pays,
            timeout=router.timeout,
            in_flight=router.in_flight,
            patience=router.patience,
            with_errors=router.with_errors,
        )
        self._calls[pieces] = _Call(name, positions, pays, set(positions))

    # -- receiving

    def _receive(self) -> None:
        """Wait for a piece, or for some other news of the calls under way."""
        import ray

        if not self._calls:
            return
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=_SILENCE)
        for pieces in ready:
            self._take(pieces)
        self._look_after_the_silent()

    def _look_after_the_silent(self) -> None:
        now = time.monotonic()
        silent = [(pieces, call) for pieces, call in self._calls.items() if now - call.heard > _SILENCE]
        if not silent:
            return
        # All at once: to wait for one after the other would cost the time limit for each.
        alive = self._members.alive({call.member for _, call in silent})
        for _, call in silent:
            if call.member in alive:
                call.heard = time.monotonic()  # it waits for what is slow
        lost = [(pieces, call) for pieces, call in silent if call.member not in alive]
        for pieces, _ in lost:
            del self._calls[pieces]
        error = TimeoutError("no sign of life")
        self._pass_over([call for _, call in lost], error)
        for _, call in lost:
            self._settle(call, error)

    def _take(self, pieces: Any) -> None:
        import ray

        call = self._calls[pieces]
        try:
            piece: Piece = ray.get(next(pieces), timeout=_RECOVERY)
        except StopIteration:
            self._end(pieces, None)
            return
        except ray.exceptions.RayError as failure:
            self._end(pieces, failure)
            return
        call.heard = time.monotonic()
        self._members.heard(call.member)
        for index, data, source, text, error in piece.rows:
            self._answer(call.positions[index], RowAnswer(data, source, error, text))
            call.open.discard(call.positions[index])
        for index in piece.unpaid:
            call.unpaid.append(call.positions[index])
            call.open.discard(call.positions[index])

    def _end(self, pieces: Any, error: Exception | None) -> None:
        """A call is over: all answered, or not."""
        import ray

        call = self._calls.pop(pieces)
        # An error that its code raised says nothing against the node store.
        if isinstance(error, ray.exceptions.RayTaskError):
            _warn(call, error)
        elif error is not None:
            self._pass_over([call], error)
        self._settle(call, error)

    def _pass_over(self, calls: list[_Call], error: Exception) -> None:
        """These calls are lost: see to it that what is sent from now on goes to those who answer."""
        for call in calls:
            _warn(call, error)
        # A paid lookup may be in progress there, or done and kept: it is asked again before anybody else is.
        waited_for = {call.member for call in calls if call.pays and call.open}
        for member in {call.member for call in calls} - waited_for:
            self._members.lose(member)
        self._members.recover(waited_for, _RECOVERY)

    def _settle(self, call: _Call, error: Exception | None) -> None:
        """Send again what a call that is over left open, to whoever owns it now."""
        again = sorted(call.open)
        self._tries.update(again)
        if call.pays:
            for position in [position for position in again if self._tries[position] >= _PAID_TRIES]:
                again.remove(position)
                self._give_up(position, error)
            self._send(again + call.unpaid, pays=True)
            return
        tired = [position for position in again if self._tries[position] >= _FREE_TRIES]
        self._send([position for position in again if self._tries[position] < _FREE_TRIES], pays=False)
        self._look_up_here(tired)
        for position in call.unpaid:  # answered, as far as it goes: the owner gets its own tries
            self._tries.pop(position, None)
        self._send(call.unpaid, pays=True)

    def _answer(self, position: int, answer: RowAnswer) -> None:
        self._answers[position] = answer
        self._held += answer.size
        self._router.bytes += answer.size
        self._router.answered += 1

    # -- without node stores

    def _look_up_here(self, positions: list[int]) -> None:
        """Look up in this process what is free; give up what only an owner may pay for."""
        router = self._router
        if not positions:
            return
        if router.free is None:
            for position in positions:
                self._give_up(position, None)
            return
        blobs: Any = Store.get_many(
            router.free,
            [self._digests[position] for position in positions],
            errors="return",
            timeout=router.timeout,
            in_flight=router.in_flight,
            max_bytes=router.max_bytes,
            patience=router.patience,
        )
        unpaid: list[int] = []
        with closing(blobs):
            for blob in blobs:
                if router.has_paid and needs_paid(router.store, blob):
                    unpaid.append(positions[blob.index])
                else:
                    self._answer(positions[blob.index], answer_of(blob))
        if unpaid and self._members.names(patient=True):
            self._send(unpaid, pays=True)
            return
        for position in unpaid:
            self._give_up(position, None)

    def _give_up(self, position: int, error: Exception | None) -> None:
        reason = "no node store answers, and only one of them may ask the paid source"
        if error is not None:
            reason += f" ({type(error).__name__}: {str(error).splitlines()[0]})"
        self._answer(
            position, RowAnswer.without_blob("failed", self._digests[position], StoreNotAvailable("the pool", reason))
        )


def _warn(call: _Call, error: Exception) -> None:
    cause = ("node store", call.member, type(error))
    text = "node store %s: %s: %s"
    warn_once(logger, cause, text, call.member, type(error).__name__, str(error).split("\n")[0])
