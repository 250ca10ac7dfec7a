"""The lookups of a batch, sent to node stores: grouped, watched, and sent again where one is lost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from typing import Any, Literal

from bitstore._frames.row_answer import RowAnswer, answer_of
from bitstore._support.once import warn_once
from bitstore._tiers.views import free_part
from bitstore.errors import StoreNotAvailable
from bitstore.store import Store
from ray_integration._fetch.hot_blobs import HotBlobs
from ray_integration._fetch.own_disks import OwnDisks
from ray_integration._node.decoding import Decode, decoded
from ray_integration._node.node_store import needs_paid
from ray_integration._node.own_disk import OwnDisk
from ray_integration._node.pieces import Piece
from ray_integration._node.usable import usable_part
from ray_integration._pool.members import Members
from ray_integration._pool.node_calls import NodeCall, NodeCalls, brief

__all__ = ["Router"]

logger = logging.getLogger("bitstore")

_FIRST = 32  # lookups under way before anything is known of the blobs' sizes
_CALL = 4096  # digests in one call at most
_GROUP = 64  # digests that are sought on the node's own disk before it is decided whether to go on there
_IN_PLACE_BYTES = 64 << 20  # bytes of blobs that wait for their turn in the object store; more wait in copies
_FREE_TRIES = 3  # node stores that are asked before the caller fetches by itself
_PAID_TRIES = 6  # calls to owners before a row is given up


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
    decode
        What answers hold in place of blobs.
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
        decode: Decode | None,
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
        self.decode = decode
        self.function = None if decode is None else decode.load_checked()
        # What the blobs so far say of the size of those to come; kept from batch to batch.
        self.answered = 0
        self.bytes = 0
        self.disks = OwnDisks(members, self.store)
        self.hot = HotBlobs(members)

    def answers(self, digests: Sequence[str]) -> Generator[RowAnswer, None, None]:
        """One answer for each of the digests (all different, in canonical form), in their order."""
        return _Batch(self, digests).in_order()


class _Batch(NodeCalls[int]):
    """The lookups of one batch, by their positions in it. The special calls are those that may cost money."""

    def __init__(self, router: Router, digests: Sequence[str]) -> None:
        super().__init__(router.members, most=_CALL)
        self._router = router
        self._digests = digests
        self._unpaid: dict[NodeCall[int], list[int]] = {}  # positions that only a paid source may answer
        self._answers: dict[int, RowAnswer] = {}
        self._held = 0  # bytes of the answers that wait for their turn
        self._tries: Counter[int] = Counter()
        self._begun = 0  # positions that were sent at least once
        self._taken = 0  # positions whose answers the consumer has

    def in_order(self) -> Generator[RowAnswer, None, None]:
        try:
            for position in range(len(self._digests)):
                while position not in self._answers:
                    self._begin()
                    if position not in self._answers:
                        self.receive()
                answer = self._answers.pop(position)
                self._held -= answer.size
                self._taken += 1
                yield answer
                del answer
        finally:
            self._router.disks.report()

    # -- sending

    def _begin(self) -> None:
        """Send lookups that were not begun, as far as the bound on bytes allows."""
        limit = self._limit()
        room = limit - (self._begun - self._taken)
        if room < max(1, limit // 2) and self._begun > self._taken:
            return  # in portions: a call costs as much as a hundred lookups
        router = self._router
        room = router.disks.bounded(room, router.bytes / router.answered if router.answered else 0.0)
        begin = range(self._begun, min(len(self._digests), self._begun + max(1, room)))
        self._begun = begin.stop
        before = router.disks.hits
        self._send(list(begin), pays=router.free is None or (router.owned and router.has_paid), spread=router.owned)
        if begin:
            router.disks.share = (router.disks.hits - before) / len(begin)

    def _limit(self) -> int:
        """How many positions may be begun and not taken."""
        router = self._router
        mean = router.bytes / router.answered if router.answered else 0.0
        most = 2 * router.answered + _FIRST
        if mean < 1:
            return most
        return max(1, min(most, int((router.max_bytes - self._held) / mean) + len(self._answers)))

    def _send(self, positions: list[int], *, pays: bool, spread: bool = False) -> None:
        """Send positions to those that look them up; with `spread` hot blobs may be left to this node's own."""
        if not positions:
            return
        if pays:
            names = self.owners(patient=True)
        else:
            names = self.members.names() if self._router.owned else self.members.nearest()
        if not names:
            self._look_up_here(positions)
            return
        nearest = self._router.hot.nearest(names) if spread else None
        if nearest is not None:
            positions, hot = self._router.hot.parted(self._digests, positions)
            self._send_hot(hot, nearest, names)
        own: list[tuple[str, OwnDisk, list[int]]] = []
        for name, part in self.grouped(positions, self._digests_at(positions), names):
            if (disk := self._router.disks.of(name)) is None:
                self._call(name, part, pays, spread=0 if nearest is None or self.members.is_here(name) else len(names))
            else:
                own.append((name, disk, part))  # last, because the others work meanwhile
        for name, disk, part in own:
            if left := self._read_here(disk, part):
                self._call(name, left, pays)

    def _send_hot(self, positions: list[int], nearest: str, names: Collection[str]) -> None:
        """Ask this node's own node store, which takes hot blobs from those above it in the tree of each."""
        disk = self._router.disks.of(nearest)
        left = positions if disk is None else self._read_here(disk, positions)
        if left:
            ways = self._router.hot.ways(self._digests_at(left), nearest, sorted(names))
            self._call(nearest, left, pays=False, ways=ways)

    def _read_here(self, disk: OwnDisk, positions: list[int]) -> list[int]:
        """Answer what this node's disk has; returns the positions for its node store.

        A blob that is not there costs a look at the disk, here and again in the node store. So the rest is left to the
        node store where few of a group are there; and where those read so far fill the memory for them.
        """
        router = self._router
        left: list[int] = []
        found = 0
        for number, position in enumerate(positions, 1):
            data = disk.read(self._digests[position])
            if data is None:
                left.append(position)
            else:
                found += 1
                router.disks.hits += 1
                answer = RowAnswer(data, disk.tier)
                if router.decode is not None:
                    answer = decoded(router.function, router.decode.form, answer, self._digests[position])
                self._answer(position, answer)
            few = number % _GROUP == 0 and found * 8 < _GROUP
            if few or self._held > router.max_bytes:
                return left + positions[number:]
            if number % _GROUP == 0:
                found = 0
        return left

    def _call(self, name: str, positions: list[int], pays: bool, **hot: Any) -> None:
        router = self._router
        fetch = self.members.handle(name).fetch.options(num_returns="streaming")
        pieces = fetch.remote(
            self._digests_at(positions),
            ask_paid=pays,
            timeout=router.timeout,
            in_flight=router.in_flight,
            patience=router.patience,
            with_errors=router.with_errors,
            caller=self.members.here(),
            leaving=self.members.leaving,
            decode=router.decode,
            **hot,
        )
        self.under_way[pieces] = NodeCall(name, positions, pays)

    def _digests_at(self, positions: list[int]) -> list[str]:
        return [self._digests[position] for position in positions]

    # -- receiving

    def _take(self, call: NodeCall[int], piece: Piece) -> None:
        copied = self._held > _IN_PLACE_BYTES
        for index, data, source in piece.blobs():
            self._answer(call.keys[index], RowAnswer(bytes(data) if copied else data, source))
        for index, text, error in piece.others:
            self._answer(call.keys[index], RowAnswer(error=error, text=text))
        call.open.difference_update([call.keys[index] for index in piece.found])
        call.open.difference_update([call.keys[index] for index, _, _ in piece.others])
        unpaid = [call.keys[index] for index in piece.unpaid]
        self._unpaid.setdefault(call, []).extend(unpaid)
        call.open.difference_update(unpaid)
        if piece.hot:
            hot = [call.keys[index] for index in piece.hot]
            self._router.hot.note(self._digests_at(hot))
            call.open.difference_update(hot)
            self._send(hot, pays=call.special, spread=True)

    def _waits_for(self, call: NodeCall[int]) -> bool:
        # A paid lookup may be in progress there, or done and kept: no other node store may be asked before.
        return call.special and bool(call.open)

    def _settle(self, call: NodeCall[int], error: Exception | None) -> None:
        unpaid = self._unpaid.pop(call, [])
        most = _PAID_TRIES if call.special else _FREE_TRIES
        self._tries.update(call.open)
        tired = [position for position in sorted(call.open) if self._tries[position] >= most]
        again = [position for position in sorted(call.open) if self._tries[position] < most]
        if call.special:
            for position in tired:
                self._give_up(position, error)
            self._send(again + unpaid, pays=True)
            return
        self._send(again, pays=False)
        self._look_up_here(tired)
        for position in unpaid:  # answered, as far as it goes: the owner gets its own tries
            self._tries.pop(position, None)
        self._send(unpaid, pays=True)

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
            self._digests_at(positions),
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
                    answer = answer_of(blob)
                    if router.decode is not None:
                        answer = decoded(router.function, router.decode.form, answer, blob.uri)
                    self._answer(positions[blob.index], answer)
        if unpaid and self.members.names(patient=True):
            self._send(unpaid, pays=True)
            return
        for position in unpaid:
            self._give_up(position, None)

    def _give_up(self, position: int, error: Exception | None) -> None:
        reason = "no node store answers, and only one of them may ask the paid source"
        if error is not None:
            reason += f" ({brief(error)})"
        failure = StoreNotAvailable("the pool", reason)
        self._answer(position, RowAnswer.without_blob("failed", self._digests[position], failure))
