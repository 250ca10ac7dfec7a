"""A node that leaves gives what is on its disk to the nodes that own it from then on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from bitstore._support.sizes import rounded_size
from bitstore.errors import described
from ray_integration._peers.hand_out import Held
from ray_integration._peers.mates import Mates
from ray_integration._peers.rendezvous import place, split

__all__ = ["Leaving"]

logger = logging.getLogger("bitstore")

_OFFER = 4096  # digests that are offered together
_CALL_BYTES = 8 << 20  # bytes of blobs in one call, or one blob if that is larger
_AT_ONCE = 4  # such calls under way
_ANSWER = 15.0  # seconds that a node store may take for an answer
_AGAIN = 5.0  # seconds after which is given what lookups have put on the disk in the meantime
_PASSES = 12  # looks at the disk, at most


class Leaving:
    """Gives away the blobs of a node's disks, in a thread of its own. Only what the others lack is sent.

    Parameters
    ----------
    me
        Name of this node store.
    held
        The disks of the node.
    """

    def __init__(self, me: str, held: Held) -> None:
        self._me = me
        self._held = held
        self._lock = threading.Lock()
        self._begun = False
        self.blobs = self.bytes = self.lost = 0  # given, and those that no node store has taken

    def begin(self, staying: Sequence[str]) -> None:
        """Begin to give blobs to the node stores that stay; nothing if that was begun before."""
        names = [name for name in staying if name != self._me]
        with self._lock:
            if self._begun or not names:
                return
            self._begun = True
        threading.Thread(target=self._run, args=(names,), name="bitstore-leaving", daemon=True).start()

    def _run(self, staying: list[str]) -> None:
        try:
            since = 0.0
            for _ in range(_PASSES):
                begun = time.time()
                before = self.blobs
                self._give_all(staying, since)
                if since and self.blobs == before:
                    break
                since = begun - _AGAIN  # clocks of file systems are coarse
                threading.Event().wait(_AGAIN)
        except Exception as error:  # what is not given is fetched again
            logger.warning("this node leaves, and could not hand over its blobs: %s", described(error))
        logger.info("this node leaves: %d blobs (%s) were given to other nodes, %d could not be", self.blobs,
                    rounded_size(self.bytes), self.lost)  # fmt: skip

    def _give_all(self, staying: list[str], since: float) -> None:
        digests = chain.from_iterable(self._held.digests(since))
        mates = Mates()
        places = {place(name): name for name in staying}
        while portion := list(islice(digests, _OFFER)):
            parts = {
                places[at]: [portion[index] for index in indexes] for at, indexes in split(portion, places).items()
            }
            self._give(mates, parts)

    def _give(self, mates: Mates, parts: Mapping[str, list[str]]) -> None:
        calls = {name: mates.call(name, "lacking", digests) for name, digests in parts.items()}
        lacking = self._answers(mates, {name: call for name, call in calls.items() if call is not None})
        self.lost += sum(len(digests) for name, digests in parts.items() if name not in lacking)
        for some in _some(self._loads(lacking), _AT_ONCE):
            sent = [(name, load, mates.call(name, "take", load)) for name, load in some]
            for name, load, call in sent:
                kept = self._answers(mates, {name: call}).get(name, 0) if call is not None else 0
                self.blobs += kept
                self.bytes += sum(map(len, load.values())) if kept == len(load) else 0
                self.lost += len(load) - kept

    def _loads(self, lacking: Mapping[str, list[str]]) -> Iterator[tuple[str, dict[str, bytes]]]:
        """The blobs that each node store lacks, as many as go into a call."""
        for name, digests in lacking.items():
            load: dict[str, bytes] = {}
            size = 0
            for digest in digests:
                if (data := self._held.get(digest)) is None:
                    continue
                if load and size + len(data) > _CALL_BYTES:
                    yield name, load
                    load, size = {}, 0
                load[digest] = data
                size += len(data)
            if load:
                yield name, load

    def _answers(self, mates: Mates, calls: Mapping[str, Any]) -> dict[str, Any]:
        """What node stores have answered, by their names; those that did not answer are left alone for a while."""
        import ray

        answers: dict[str, Any] = {}
        answered, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=_ANSWER) if calls else ([], [])
        for name, call in calls.items():
            try:
                answers[name] = ray.get(call) if call in answered else None
            except ray.exceptions.RayError:
                answers[name] = None
            if answers[name] is None:
                mates.lose(name)
        return {name: answer for name, answer in answers.items() if answer is not None}


def _some(loads: Iterator[Any], count: int) -> Iterator[list[Any]]:
    """So many at a time."""
    while some := list(islice(loads, count)):
        yield some
