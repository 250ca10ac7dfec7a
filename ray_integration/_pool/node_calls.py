"""Calls to node stores under way: grouped by owner, watched, and ended where a node store is lost."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from bitstore._support.once import warn_once
from ray_integration._node.decoding import DecodeNotLoaded
from ray_integration._node.node_store import NotSetUp
from ray_integration._node.versions import VersionMismatch
from ray_integration._pool.members import Members

__all__ = ["RECOVERY", "NodeCall", "NodeCalls", "brief"]

logger = logging.getLogger("bitstore")

RECOVERY = 60.0  # seconds for which a node store is waited for while its node is there
_SILENCE = 15.0  # seconds without a piece after which a node store is asked for a sign of life

Key = TypeVar("Key", int, str)


@dataclass(eq=False)
class NodeCall(Generic[Key]):
    """A call of a method of a node store, which answers in pieces."""

    # Name of the node store.
    member: str
    # What was sent, in the order in which it was sent: positions or digests.
    keys: list[Key]
    # Lookups: whether the call may cost money. Warming: whether blobs are copied that their owner has.
    special: bool
    # Those of the keys that have no answer yet.
    open: set[Key] = field(init=False)
    # When the last piece or sign of life came, by the monotonic clock.
    heard: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.open = set(self.keys)


class NodeCalls(ABC, Generic[Key]):
    """The calls of one thread.

    A call that ends, for whatever reason, is settled once by `_settle`, which may send again what is open.

    Parameters
    ----------
    members
        The node stores.
    most
        Digests in one call at most.
    """

    def __init__(self, members: Members, *, most: int) -> None:
        self.members = members
        self.most = most
        self.under_way: dict[Any, NodeCall[Key]] = {}  # by the stream of pieces

    @abstractmethod
    def _take(self, call: NodeCall[Key], piece: Any) -> None:
        """Take in a piece, and remove from `call.open` what it answers."""

    @abstractmethod
    def _waits_for(self, call: NodeCall[Key]) -> bool:
        """Whether the node store of a lost call is waited for while its node is there."""

    @abstractmethod
    def _settle(self, call: NodeCall[Key], error: Exception | None) -> None:
        """Send again, or give up, what a call left open that is over. The error is None where it ran to its end."""

    def owners(self, *, patient: bool) -> list[str]:
        """The node stores that answer (see `Members.names`), waited for where there is none at first."""
        names = self.members.names(patient=patient)
        if not names:
            self.members.wait_for_any(RECOVERY)
            names = self.members.names(patient=patient)
        return names

    def grouped(
        self, keys: Sequence[Key], digests: Sequence[str], names: Collection[str]
    ) -> Iterator[tuple[str, list[Key]]]:
        """The keys (each of the digest at its place) by owner among `names`, as many at a time as go into a call."""
        for name, indexes in self.members.split(digests, names).items():
            for start in range(0, len(indexes), self.most):
                yield name, [keys[index] for index in indexes[start : start + self.most]]

    def receive(self) -> None:
        """Wait for a piece, or for some other news of the calls under way."""
        import ray

        if not self.under_way:
            return
        ready, _ = ray.wait(list(self.under_way), num_returns=1, timeout=_SILENCE)
        for pieces in ready:
            self._next_piece(pieces)
        self._look_after_the_silent()

    def _next_piece(self, pieces: Any) -> None:
        import ray

        call = self.under_way[pieces]
        try:
            piece = ray.get(next(pieces), timeout=RECOVERY)
        except StopIteration:
            self._end([pieces], None)
        except ray.exceptions.RayError as failure:
            self._end([pieces], failure)
        else:
            call.heard = time.monotonic()
            self.members.heard(call.member)
            self._take(call, piece)

    def _look_after_the_silent(self) -> None:
        now = time.monotonic()
        silent = {pieces: call for pieces, call in self.under_way.items() if now - call.heard > _SILENCE}
        if not silent:
            return
        # All at once: to wait for one after the other would cost the time limit for each.
        alive = self.members.alive({call.member for call in silent.values()})
        for call in silent.values():
            if call.member in alive:
                call.heard = time.monotonic()  # it waits for what is slow
        lost = [pieces for pieces, call in silent.items() if call.member not in alive]
        self._end(lost, TimeoutError("no sign of life"))

    def _end(self, ended: list[Any], error: Exception | None) -> None:
        import ray

        calls = [self.under_way.pop(pieces) for pieces in ended]
        if error is not None:
            for member in {call.member for call in calls}:
                warn_once(logger, ("node store", member, type(error)), "node store %s: %s", member, brief(error))
            if not isinstance(error, ray.exceptions.RayTaskError):
                self._pass_over(calls)
            elif isinstance(error.cause, (VersionMismatch, DecodeNotLoaded)):
                raise error.cause  # each row would come to the same
            elif isinstance(error.cause, NotSetUp):
                for member in {call.member for call in calls}:
                    self.members.give_up(member)  # no lookup is in progress there for which to wait
            # Any other error that a method raised says nothing against its node store.
        for call in calls:
            self._settle(call, error)

    def _pass_over(self, lost: list[NodeCall[Key]]) -> None:
        """Make sure that later calls go to node stores that answer."""
        waited_for = {call.member for call in lost if self._waits_for(call)}
        for member in {call.member for call in lost} - waited_for:
            self.members.lose(member)
        self.members.recover(waited_for, RECOVERY)


def brief(error: Exception) -> str:
    """The kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
