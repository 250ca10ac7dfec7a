"""What a node store has to do with the other node stores of its pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from bitstore._digests.composite import DigestComposite
from bitstore._lookup.asking import scope_of
from bitstore._support.digests import algorithm
from bitstore._tiers.chain import Chain, costs
from bitstore._tiers.views import insert_cache, is_under_way, without
from ray_integration._peers.asker import Asker
from ray_integration._peers.hand_out import HandOut, Held
from ray_integration._peers.hot import Hot
from ray_integration._peers.leaving import Leaving
from ray_integration._peers.peer_tier import PeerTier
from ray_integration._peers.questions import Question, Questions

__all__ = ["PEER_TIER", "Peers"]

PEER_TIER = "peers"  # name of the tier that stands for the disks of other nodes

_LEAVING = 60.0  # seconds for which a node store that leaves is asked after a caller has said so
_REPLY_BYTES = 16 << 20  # an answer ends with the blob with which it exceeds this


class Peers:
    """Takes blobs from other nodes' disks, and gives them those of its own.

    To answer, a node store reads its disk and looks at what it has in progress. It asks no other and waits for nothing,
    so calls between node stores cannot wait for each other in a circle.

    The store has one tier more from the first time on that there is another to ask, or that asks.

    Parameters
    ----------
    store, free
        The store of the node, and the part of it that costs nothing.
    me
        Name of the node store.
    older
        Names of the node stores that were there before it.
    """

    def __init__(self, store: Any, free: Any | None, me: str, older: Sequence[str]) -> None:
        self._parts: tuple[Any, ...] = (store,) if free is None or free is store else (store, free)
        self._lock = threading.Lock()
        self._held = Held(store)
        # Without a disk cache there is nothing to take or give, and what is named by no digest cannot be checked.
        self.can_share = bool(self._held.tiers) and isinstance(store, DigestComposite)
        self._shares = False
        self._near: Any = None  # the part of the store that is on this node, and the disks of other nodes
        self._hot = Hot()
        self._leaving: dict[str, float] = {}  # until when each is taken to be there, by the monotonic clock
        self._ways: dict[str, Sequence[str]] = {}
        self._kind = algorithm(store.algorithm if self.can_share else "sha1")
        self._goodbye = Leaving(me, self._held)
        self._questions = Questions(me, self._is_under_way)
        self._asker = Asker(me, older, self._questions, self._held, self._kind, pays=costs(store))
        if self._asker.older:
            self._share()

    def heed(self, leaving: Sequence[str]) -> None:
        """Take note of the node stores that leave."""
        if not self.can_share or not (leaving or self._asker.leaving):
            return
        # Callers do not see it at the same time: one that does not know yet changes nothing.
        now = time.monotonic()
        known = {name: until for name, until in self._leaving.items() if until > now}
        self._leaving = known | dict.fromkeys(leaving, now + _LEAVING)
        self._asker.leaving = tuple(self._leaving)
        self._share()

    def hot_among(self, digests: Sequence[str], nodes: int) -> list[int]:
        """The positions of `digests` that most of so many nodes ask for, and are to take from each other."""
        return self._hot.among(digests, nodes) if self.can_share else []

    def near(self, ways: Mapping[str, Sequence[str]]) -> Any | None:
        """The store that looks up hot blobs on the disks of nodes alone; None: there is none.

        Parameters
        ----------
        ways
            For each digest the node stores from which this one takes it.
        """
        if not self.can_share:
            return None
        self._share()
        self._ways.update(ways)
        return self._near

    def forget(self, ways: Iterable[str]) -> None:
        """The lookups for which `near` was called are over."""
        for digest in ways:
            self._ways.pop(digest, None)

    def hand_out(
        self, digests: Sequence[str], *, to: str, yours: Collection[str], ways: Mapping[str, Sequence[str]]
    ) -> HandOut:
        """What this node's disks have of `digests`.

        Parameters
        ----------
        digests
            Each different, in canonical form.
        to
            Name of the node store that asks.
        yours
            Those of which it has noted that this node store fetches them.
        ways
            For hot ones: from which node stores this one takes them, if it lacks them.
        """
        answer = HandOut({}, [], {}, [])
        if not self.can_share:
            return answer
        self._share()
        size = 0
        absent: list[str] = []
        for number, digest in enumerate(digests):
            if size > _REPLY_BYTES:
                answer.left.extend(digests[number:])
                break
            data = self._held.get(digest)
            if data is None:
                state = self._questions.answer(digest, to, yours=digest in yours, way=ways.get(digest, ()))
                if state != "no":
                    answer.busy.append(digest)
                    if isinstance(state, Question):
                        self._asker.ask(state)
                    continue
                data = self._held.get(digest)  # a lookup may have ended since the first look
            if data is None:
                absent.append(digest)
                continue
            self._questions.forget(digest)
            answer.found[digest] = data
            size += len(data)
        if self._asker.older:
            for digest, (chain, _) in zip(absent, self._asker.chains(absent), strict=True):
                if others := [name for name in chain if name != to]:
                    answer.elsewhere[digest] = others
        return answer

    def hand_over(self, staying: Sequence[str]) -> None:
        """Begin to give what is on this node's disks to the node stores that stay, because the node leaves."""
        if self.can_share:
            self._goodbye.begin(staying)

    def lacking(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` that this node's disks lack."""
        return [digest for digest in digests if not self._held.has(digest)] if self.can_share else []

    def take(self, blobs: Mapping[str, bytes]) -> int:
        """Keep blobs on this node's disk; how many were kept. Bytes that do not match their digest are not."""
        if not self.can_share:
            return 0
        return sum(self._kind.of(data) == digest and self._held.put(digest, data) for digest, data in blobs.items())

    def _share(self) -> None:
        """Let lookups ask other node stores from now on."""
        with self._lock:
            if self._shares or not self.can_share:
                return
            tier = PeerTier(self._begin)
            self._near = without(self._parts[0], _is_elsewhere)
            self._parts = (*self._parts, self._near)
            for part in self._parts:
                insert_cache(part, self._held.tiers[-1], tier, PEER_TIER)
            self._shares = True

    def _begin(self, digest: str) -> Question | None:
        question, is_new = self._questions.begin(digest, self._ways.pop(digest, ()), others=self._asker.has_others())
        if question is not None and is_new:
            self._asker.ask(question)
        return question

    def _is_under_way(self, digest: str) -> bool:
        return any(is_under_way(part, digest) for part in self._parts)


def _is_elsewhere(store: Any) -> bool:
    """Whether what `store` has is neither on this node nor in its processes."""
    return not isinstance(store, Chain) and scope_of(store) == "shared"
