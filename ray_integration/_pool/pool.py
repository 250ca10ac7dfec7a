"""A pool: one node store for each node of a cluster, found by name."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from bitstore import __version__
from bitstore._support.fingerprint import fingerprint
from ray_integration._node.node_store import Description
from ray_integration._node.versions import VersionMismatch, check_code
from ray_integration._own_code import own_code, stamp_of
from ray_integration._pool.asking import ask_all
from ray_integration._pool.keeper import Keeper, PoolError, check_no_client
from ray_integration._pool.members import Address, Members
from ray_integration._pool.report import PoolReport, report_of
from ray_integration._pool.stats_table import stats_table, usage_table
from ray_integration._portable import check_portable

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Self

__all__ = ["NodePool", "PoolError"]

_START = 60.0  # seconds for the first node stores to start


class NodePool:
    """A process on each node that holds a store, and so its disk cache, for all actors of the node.

    The node stores ask Ray for no CPUs. They are restarted when they crash, and the pool follows the cluster: a node
    that joins gets its node store within seconds, one that goes is forgotten.

    A shared pool (the default) is found by a name that stands for the store's configuration (without what is secret in
    it), for the source of the store's own code, and for the version of bitstore: all jobs of a cluster that mean the
    same store share it, others never do. It outlives the job that made it, until `shutdown`. The environment is that of
    the job that came first. A private pool is its job's own, and ends with it.

    A store's own code is the modules of its classes, and what these import of yours. A node on which one of them has
    another source gets no node store. So a pool never answers with two versions of it, also after a node joined on
    which it is newer.

    Credentials that the store does not name, and the folder and size of `DiskCache()`, are those of each node's own
    environment (`AWS_PROFILE`, `BITSTORE_CACHE_DIR`, `BITSTORE_CACHE_SIZE`, roles, ...).

    It pickles as its name: actors to which it is sent use the same node stores.

    Parameters
    ----------
    store
        Any store that pickles.
    workers_per_node
        Node stores on each node, for machines on which one process cannot keep up with the network. They share the
        disk cache; each digest is always asked for from the same one.
    private
        Make a pool that no other job finds.

    Raises
    ------
    PoolError
        Ray is not running, or is reached by Ray Client (`ray://`); no node store can be started (the error says why).
    VersionMismatch
        A node runs another version of bitstore, or of the store's own code.
    TypeError
        The store does not pickle; the error names the attribute that does not.
    ValueError
        `workers_per_node` is less than 1.
    """

    def __init__(self, store: Any, *, workers_per_node: int = 1, private: bool = False) -> None:
        import ray

        if workers_per_node < 1:
            raise ValueError(f"workers_per_node={workers_per_node}: must be at least 1")
        if not ray.is_initialized():
            raise PoolError("Ray is not running: call ray.init() before a pool is made")
        check_no_client()
        check_portable(store)
        self.fingerprint = fingerprint(store)
        self.version = __version__
        self.private = private
        self._code = own_code(store)
        shared = [self.fingerprint, stamp_of(self._code), __version__, str(workers_per_node)]
        own = f"private-{uuid.uuid4().hex}" if private else "-".join(filter(None, shared))
        self.address = Address(f"bitstore-{own}", workers_per_node)
        dumps: Callable[[Any], bytes] = ray.cloudpickle.dumps
        self._keeper: Keeper | None = Keeper(self.address, dumps(store), self._code, private=private)
        # With the last reference to a pool its thread stops, and with the handles go private actors.
        weakref.finalize(self, self._keeper.stopped.set)
        try:
            self._keeper.start(_START)
        except BaseException:
            self._keeper.end(kill=private)
            raise

    def members(self) -> Members:
        """The node stores, as the calling process sees them.

        Raises
        ------
        VersionMismatch
            This process has another version of the store's own code than the one that made the pool.
        """
        check_code("this process", self._code)
        return Members(self.address)

    def nodes(self) -> list[Description]:
        """What the node stores that are there say of themselves."""
        keeper = self._held()
        keeper.look()
        return list(keeper.ready.values())

    def stats(self, *, by: Literal["tier", "node"] = "tier") -> pandas.DataFrame:
        """What the node stores did since they were started, as a table.

        Node stores that do not answer within some seconds are left out, and named in a warning and in
        `attrs["unanswered"]`.

        Parameters
        ----------
        by
            `"tier"`: a row for each node store and tier, with the counts of the tier. `"node"`: a row for each node
            store, with what it asked of others and handed over, and its memory.

        Returns
        -------
        pandas.DataFrame
            By tier: the index is `node` (the beginning of its id, and its host), `worker` (which of the node's node
            stores) and `tier`; columns are the counts of `TierStats`, `breaker`, the `place` of the tier's blobs
            (`upstream`, `other_disks`, `disk` or `memory`), and the whole `node_id`.

            By node: the index is `node` and `worker`. Columns are `requests` (to what is upstream), `bytes_upstream`,
            `bytes_other_disks` (of other nodes), `bytes_disk` and `bytes_memory` (of the blobs that lookups found
            there), `bytes_peer` (those that went to processes of other nodes), `hand_over_bytes` and
            `hand_over_seconds` (what went to map actors by Ray's object store, and how long that took), `memory` and
            `memory_peak` (bytes of the process alone), `calls`, `under_way` (calls now), `age` and `idle` (seconds
            since its start and its last use; NaN: never used), and `node_id`.

        Raises
        ------
        ValueError
            `by` is neither.
        PoolError
            The pool is closed, or was sent to another process.

        Examples
        --------
        >>> pool.stats().groupby("tier").sum(numeric_only=True)  # doctest: +SKIP
        >>> pool.stats().groupby("node")["hits"].sum()  # doctest: +SKIP
        >>> pool.stats(by="node")[["bytes_upstream", "bytes_disk", "memory"]]  # doctest: +SKIP
        """
        if by not in ("tier", "node"):
            raise ValueError(f"by={by!r}: choose one of 'tier', 'node'")
        question = "stats" if by == "tier" else "usage"
        told, unanswered = ask_all(self.address.pool, self._held().handles(), question)
        answers = {name: answer for name, (answer,) in told.items()}
        return (stats_table if by == "tier" else usage_table)(answers, unanswered)

    def report(self) -> PoolReport:
        """What the node stores did, for people: `print` it, or `save` it as a page. Ask before the pool is closed.

        Node stores that do not answer within some seconds are named in a warning and in the report.

        Raises
        ------
        PoolError
            The pool is closed, or was sent to another process.

        Examples
        --------
        >>> pool.report().save("pool.html")  # doctest: +SKIP
        """
        keeper = self._held()
        told, unanswered = ask_all(self.address.pool, keeper.handles(), "usage", "stats")
        before = dict(keeper.ready)
        restarted = [
            f"a node store of {usage['node']} that crashed"
            for name, (usage, _) in told.items()
            if name in before and before[name].pid != usage["pid"]
        ]
        return report_of(
            self.address.pool,
            told,
            unanswered,
            private=self.private,
            version=self.version,
            lost=[*keeper.lost, *restarted],
        )

    def close(self) -> None:
        """Stop following the cluster. The node stores of a shared pool stay, those of a private one end."""
        self._end(kill=self.private)

    def shutdown(self) -> None:
        """End the node stores, of a shared pool for all jobs that use it. Their disk caches stay."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.end(kill=kill)

    def _held(self) -> Keeper:
        if self._keeper is None:
            raise PoolError("this pool is closed, or was sent to another process: ask where it was made")
        return self._keeper

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_keeper"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["version"] != __version__:
            raise VersionMismatch("this process", __version__, state["version"])
        self.__dict__.update(state)
        self._keeper = None

    def __repr__(self) -> str:
        kind = "private" if self.private else "shared"
        return f"{type(self).__name__}({kind}, {self.address.pool!r}, workers_per_node={self.address.workers})"
