"""The node stores of a pool, as one process of the cluster sees them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bitstore._support.once import warn_once
from bitstore.errors import described
from ray_integration._cluster import CONTROL, NAMESPACE, alive_nodes, leaving_nodes
from ray_integration._peers.rendezvous import split, successors

__all__ = ["Address", "Members"]

logger = logging.getLogger("bitstore")

_REFRESH = 2.0  # seconds for which the list of nodes is good, at least
# Seconds for which the list is good, for each node in it: every process asks the one head of the cluster for a list as
# long as the cluster is large. Without this, 1000 processes would ask for half a million entries a second.
_REFRESH_PER_NODE = 0.04
# Seconds for which a node store that did not answer is passed over; doubled with each further loss, up to the most.
_LEFT_ALONE = 10.0
_LEFT_ALONE_MOST = 320.0
_ANSWER = 15.0  # seconds that a node store may take for a sign of life


@dataclass(frozen=True)
class Address:
    """How to find the node stores of a pool."""

    pool: str  # what the names of its actors begin with
    workers: int  # node stores on each node

    def names(self, nodes: list[str]) -> dict[str, str]:
        """The node of each node store on these nodes, by the name of the node store."""
        return {f"{self.pool}-{node}-{worker}": node for node in nodes for worker in range(self.workers)}


class Members:
    """Which node stores are there, and which answer. For one thread."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._nodes: dict[str, str] = {}
        # Node stores of nodes that leave: they own nothing more, and give what is on their disks.
        self.leaving: tuple[str, ...] = ()
        self._handles: dict[str, Any] = {}
        self._sought: set[str] = set()  # names for which no actor was found since the list of nodes was read
        self._lost: dict[str, float] = {}  # the time until which a node store that did not answer is passed over
        self._given_up: set[str] = set()  # lost node stores that were waited for in vain
        self._strikes: Counter[str] = Counter()  # losses since the last answer
        self._probes: dict[str, Any] = {}  # signs of life under way
        self._good_until = 0.0

    def names(self, *, patient: bool = False) -> list[str]:
        """The node stores that are there and, as far as is known, answer.

        With `patient` also those that may soon answer again: a digest that costs money anywhere else is sought there.
        """
        self._refresh()
        staying = [name for name in self._nodes if name not in self.leaving] if self.leaving else self._nodes
        return self._answering(staying or self._nodes, self._given_up if patient else self._lost)

    def nearest(self) -> list[str]:
        """The node stores of this process's node; one of another node, always the same, where this node has none."""
        here = self.here()
        self._refresh()
        # Only these are looked for: on a thousand nodes, finding all from everywhere would be a million questions.
        own = self._answering([name for name, node in self._nodes.items() if node == here], self._lost)
        return own or successors(here, self.names())[:1]

    def split(self, digests: Sequence[str], names: Collection[str]) -> dict[str, list[int]]:
        """The positions in `digests` that each of these node stores owns.

        By their places alone (node and worker), and not by their pool's name: what a job has put on the disk of a
        digest's owner, the next job seeks there, also if each has a pool of its own.
        """
        places = {name.removeprefix(self._address.pool): name for name in names}
        return {places[place]: positions for place, positions in split(digests, places).items()}

    def is_here(self, name: str) -> bool:
        """Whether a node store is one of this process's node."""
        return self._nodes.get(name) == self.here()

    def here(self) -> str:
        """Id of this process's node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def is_known(self, name: str) -> bool:
        """Whether there is a `handle`."""
        return name in self._handles

    def handle(self, name: str) -> Any:
        """The actor."""
        return self._handles[name]

    def lose(self, name: str) -> None:
        """Pass over a node store that did not answer; its digests go to the next.

        For some seconds at least, and then until it gives a sign of life: so one that hangs costs its callers the wait
        for it once, not with each batch.
        """
        now = time.monotonic()
        if self._lost.get(name, 0.0) <= now:  # else it is another call that was lost in the same moment
            self._strikes[name] += 1
            self._lost[name] = now + min(_LEFT_ALONE * 2 ** (self._strikes[name] - 1), _LEFT_ALONE_MOST)
            self._probes.pop(name, None)
        self._good_until = 0.0

    def give_up(self, name: str) -> None:
        """Pass over a node store as `lose` does, also for digests that cost money anywhere else."""
        self._given_up.add(name)
        self.lose(name)

    def heard(self, name: str) -> None:
        """A node store has answered."""
        self._strikes.pop(name, None)

    def alive(self, names: Iterable[str]) -> set[str]:
        """Those that give a sign of life, for which this waits some seconds."""
        import ray

        calls = {self._ping(name): name for name in names if name in self._handles}
        answered, _ = ray.wait(list(calls), num_returns=len(calls), timeout=_ANSWER) if calls else ([], [])
        return {calls[call] for call in answered if _succeeded(call)}

    def recover(self, names: Iterable[str], limit: float) -> None:
        """Wait until node stores answer again, or their nodes are gone; at most `limit` seconds.

        Afterwards the owners of digests may be sought again: others own the digests of a node that is gone, and of a
        node store that did not come back in time.
        """
        deadline = time.monotonic() + limit
        pause = threading.Event()  # never set: Ray has no event for the restart of an actor
        # What was waited for in vain is not waited for again before it has given a sign of life.
        waited_for = set(names) - self._given_up
        while waited_for and time.monotonic() < deadline:
            self._good_until = 0.0
            self._refresh()
            waited_for &= self._nodes.keys()
            self._find(waited_for)
            for name in self.alive(waited_for):
                waited_for.discard(name)
                self._lost.pop(name, None)
            for name in waited_for:
                self._handles.pop(name, None)  # another may have been made under the same name
            if waited_for:
                pause.wait(0.5)
        for name in waited_for:
            self.give_up(name)

    def wait_for_any(self, limit: float) -> None:
        """Wait until there is any node store that may answer; at most `limit` seconds."""
        deadline = time.monotonic() + limit
        pause = threading.Event()  # never set: Ray has no event for it
        while not self.names() and time.monotonic() < deadline:
            pause.wait(0.5)
            self._good_until = 0.0

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._good_until:
            return
        self._good_until = now + _REFRESH
        try:
            nodes = list(alive_nodes())
            leaving = leaving_nodes()
        except Exception as error:  # the head is out of reach: the nodes of before may still be there
            warn_once(
                logger, ("no list of nodes", type(error)), "the list of nodes cannot be had: %s", described(error)
            )
            return
        # Not all at once: processes that were started together would ask together for ever.
        self._good_until = now + max(_REFRESH, _REFRESH_PER_NODE * len(nodes) * random.uniform(0.8, 1.2))
        self._nodes = self._address.names(nodes)
        self.leaving = tuple(self._address.names([node for node in nodes if node in leaving])) if leaving else ()
        self._handles = {name: handle for name, handle in self._handles.items() if name in self._nodes}
        self._sought.clear()

    def _answering(self, names: Iterable[str], but: Collection[str]) -> list[str]:
        names = list(names)
        self._find(names)
        return [name for name in names if name in self._handles and (name not in but or self._is_back(name))]

    def _is_back(self, name: str) -> bool:
        """Whether a node store that was lost answers again, as far as is known without waiting."""
        import ray

        if time.monotonic() < self._lost[name]:
            return False
        probe = self._probes.get(name)
        if probe is None:
            self._probes[name] = self._ping(name)
            return False
        if not ray.wait([probe], timeout=0)[0]:
            return False
        del self._probes[name]
        if not _succeeded(probe):
            self._handles.pop(name)  # another may have been made under the same name
            return False
        del self._lost[name]
        self._given_up.discard(name)
        return True

    def _ping(self, name: str) -> Any:
        return self._handles[name].ping.options(concurrency_group=CONTROL).remote()

    def _find(self, names: Iterable[str]) -> None:
        import ray

        for name in names:
            if name not in self._handles and name not in self._sought:
                self._sought.add(name)
                try:
                    self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
                except (ValueError, ray.exceptions.RayError):
                    continue  # not made yet; after the next look at the nodes we look again


def _succeeded(call: Any) -> bool:
    import ray

    try:
        ray.get(call, timeout=_ANSWER)
    except ray.exceptions.RayError:
        return False
    return True
