"""What keeps a pool complete: it makes the node stores of nodes that are there, and notices those that go."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from bitstore import __version__
from bitstore._support.once import warn_once
from bitstore.errors import BitstoreError, described
from ray_integration._cluster import CONTROL, LACKS, NAMESPACE, alive_nodes, leaving_nodes
from ray_integration._node.node_store import Description, NodeStore
from ray_integration._node.versions import VersionMismatch
from ray_integration._peers.mates import PEERS
from ray_integration._pool.exchange import PERIOD, exchange
from ray_integration._pool.members import Address

__all__ = ["Keeper", "PoolError", "check_no_client"]

logger = logging.getLogger("bitstore")

_PERIOD = 2.0  # seconds between two looks at the cluster
_AGAIN = 30.0  # seconds after which a node store that could not start is tried again
_THREADS = 64  # calls that a node store serves at once; each mostly waits for transfers
_PEER_THREADS = 4  # calls of other node stores that a node store serves at once; each reads its disk


# Ray reports what a process could not import only as text.
_LACKS = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


class PoolError(BitstoreError, RuntimeError):
    """A pool cannot be made, or cannot be used."""


def check_no_client() -> None:
    """Raise PoolError if this process is connected by Ray Client, which has no part of what Ray Data and pools use."""
    from ray.util.client import ray as client

    is_connected: Callable[[], bool] = client.is_connected
    if is_connected():
        raise PoolError(
            "this process is connected by Ray Client (ray://), over which neither Ray Data nor node pools work: run it "
            "on the cluster, by ray job submit or on one of its nodes with ray.init(address='auto')"
        )


class Keeper:
    """Makes and follows the node stores of one pool.

    Any number of keepers (of several jobs) may do so for the same pool: the first makes an actor, and the others find
    it by its name.
    """

    def __init__(self, address: Address, config: bytes, code: Mapping[str, str], *, private: bool) -> None:
        self.stopped = threading.Event()
        self.ready: dict[str, Description] = {}
        self.refused: dict[str, BaseException] = {}
        self.lost: list[str] = []  # what ended with all that it had counted, in words
        self._address = address
        self._config = config
        self._code = code
        self._private = private
        self._lock = threading.Lock()
        self._nodes: dict[str, str] = {}
        self._handles: dict[str, Any] = {}  # a private actor lives as long as its handle here
        self._pending: dict[str, Any] = {}
        self._again_at: dict[str, float] = {}
        self._parted: set[str] = set()  # node stores that were told to hand over what they have
        # When the node stores exchange what they have learned, on the clock of `time.monotonic`; inf: never.
        self._exchange_at = 0.0

    def start(self, limit: float) -> None:
        """Wait until each node has its node stores, or is known not to get them; then follow the cluster.

        Raises
        ------
        PoolError
            No node store could be started within `limit` seconds.
        VersionMismatch
            A node runs another version.
        """
        import ray

        deadline = time.monotonic() + limit
        self.look()
        while self._pending and time.monotonic() < deadline:
            ray.wait(list(self._pending.values()), num_returns=1, timeout=1.0)
            self.look()
        for error in self.refused.values():
            if isinstance(error, VersionMismatch):
                raise error
        if not self.ready:
            told = [f"{name}: {error}" for name, error in self.refused.items()] or [f"none answered in {limit:.0f} s"]
            raise PoolError(f"no node store could be started on {len(self._nodes)} nodes: {'; '.join(told[:3])}")
        job = ray.get_runtime_context().get_job_id()
        # The thread holds no reference to the keeper, so that it ends when the pool is dropped.
        threading.Thread(
            target=_follow, args=(weakref.ref(self), self.stopped, job), name="bitstore-pool", daemon=True
        ).start()

    def look(self) -> None:
        """Compare the cluster with what is known of it, once."""
        import ray

        with self._lock:
            if self.stopped.is_set():
                return
            nodes = alive_nodes()
            for node in nodes.keys() - self._nodes.keys():
                logger.info("pool %s: node %s is there", self._address.pool, nodes[node])
            for node in self._nodes.keys() - nodes.keys():
                logger.warning("pool %s: node %s is gone", self._address.pool, self._nodes[node])
                self.lost.append(f"node {self._nodes[node]}, which left")
            self._nodes = nodes
            wanted = self._address.names(list(nodes))
            leaving = leaving_nodes()
            for known in (self._handles, self._pending, self.ready, self.refused, self._again_at):
                for name in known.keys() - wanted.keys():
                    known.pop(name)
            named = {
                entry["name"]
                for entry in ray.util.list_named_actors(all_namespaces=True)
                if entry["namespace"] == NAMESPACE
            }
            # What is made now comes after them: it may take what was theirs from their disks.
            older = [name for name in wanted if name in named]
            now = time.monotonic()
            for name, node in wanted.items():
                known_dead = name in self.ready and name not in named
                if name in self._pending or (name in self.ready and not known_dead):
                    continue
                if name in self.refused and now < self._again_at[name]:
                    continue
                if node in leaving and not known_dead and name not in named:
                    continue  # Ray starts nothing there any more
                if known_dead:
                    logger.warning("pool %s: the node store of node %s ended; another is made", self._address.pool,
                                   nodes[node])  # fmt: skip
                    self.ready.pop(name)
                    self.lost.append(f"a node store of {nodes[node]} that ended")
                self._handles[name] = handle = self._make(name, node, older)
                self._pending[name] = handle.describe.options(concurrency_group=CONTROL).remote()
            self._settle()
            self._part({name for name, node in wanted.items() if node in leaving})

    def _part(self, leaving: set[str]) -> None:
        """Let node stores of nodes that leave hand over what they have, once."""
        staying = [name for name in self.ready if name not in leaving]
        self._parted &= leaving
        for name in leaving & self.ready.keys() - self._parted:
            if staying:
                self._parted.add(name)
                logger.info("pool %s: node store %s leaves, and hands over its blobs", self._address.pool, name)
                self._handles[name].hand_over.options(concurrency_group=CONTROL).remote(staying)

    def end(self, *, kill: bool) -> None:
        """Stop following; with `kill`, end the node stores, for all jobs that use them."""
        import ray

        self.stopped.set()
        with self._lock:  # a look that is under way may still be making some
            handles = list(self._handles.values())
            self._handles.clear()
            self._pending.clear()
            if kill and ray.is_initialized():
                for handle in handles:
                    ray.kill(handle)

    def exchange(self) -> None:
        """Let the node stores tell each other what they have learned of sources, now and then."""
        now = time.monotonic()
        handles = self.handles()
        if len(handles) > 1 and now >= self._exchange_at:
            self._exchange_at = now + PERIOD if exchange(handles) else math.inf

    def handles(self) -> dict[str, Any]:
        """The actors that answer, by name."""
        with self._lock:
            return {name: self._handles[name] for name in self.ready}

    def _make(self, name: str, node: str, older: list[str]) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor: Callable[[type], Any] = ray.remote(concurrency_groups={CONTROL: 2, PEERS: _PEER_THREADS})  # type: ignore[call-overload]
        return (
            actor(NodeStore)
            .options(
                name=name,
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime=None if self._private else "detached",
                num_cpus=0,  # what asks for CPUs may wait for ever for actors that wait for it
                max_concurrency=_THREADS,
                max_restarts=-1,
                max_task_retries=0,  # a call that was cut has sent pieces already: its caller asks for the rest
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote(self._config, __version__, self._code, older)
        )

    def _settle(self) -> None:
        """Take the answers of those that have been made."""
        import ray

        for name, ref in list(self._pending.items()):
            if not ray.wait([ref], timeout=0)[0]:
                continue
            del self._pending[name]
            try:
                found: Description = ray.get(ref, timeout=10)
            except Exception as error:  # it could not be set up, or its node went: reported, and tried again later
                self._refuse(name, error)
                continue
            self.refused.pop(name, None)
            self.ready[name] = found
            for note in found.notes:
                logger.warning("pool %s: node %s %s", self._address.pool, self._nodes[found.node_id], note)

    def _refuse(self, name: str, error: Exception) -> None:
        import ray

        handle = self._handles.pop(name, None)
        cause: BaseException = error
        if isinstance(error, ray.exceptions.RayTaskError):
            cause = error.cause
            ray.kill(handle)  # so that no other keeper finds it
        elif isinstance(error, ray.exceptions.RayActorError) and (lacks := _LACKS.search(str(error))):
            cause = PoolError(LACKS % lacks[1])
        if name not in self.refused:
            logger.error("pool %s: node store %s could not start: %s", self._address.pool, name, cause)
        self.refused[name] = cause
        self._again_at[name] = time.monotonic() + _AGAIN


def _follow(keeper: weakref.ref[Keeper], stopped: threading.Event, job: str) -> None:
    import ray

    # Ray has no event for nodes that join or leave, so the cluster is looked at again and again.
    while not stopped.wait(_PERIOD):
        here = keeper()
        # Asked first, because most calls would start a Ray of their own where it has been shut down.
        if here is None or not ray.is_initialized() or ray.get_runtime_context().get_job_id() != job:
            return
        try:
            here.look()
            here.exchange()
        except Exception as error:  # the head may be out of reach for a while
            warn_once(logger, ("no cluster", type(error)), "the cluster cannot be looked at: %s", described(error))
        del here
