"""Warming on a cluster: caches are filled before a job, so that the job finds its blobs there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bitstore._frames.digest_column import check_column, check_digest_type, column_values
from bitstore._lookup.options import LookupOptions
from bitstore._support.digests import Algorithm
from bitstore._support.fingerprint import fingerprint
from bitstore._tiers.composite import Composite
from bitstore._warming.indexed import Indexes
from bitstore._warming.outcome import Outcome
from bitstore._warming.parts import Target, check_target
from bitstore._warming.report import WarmReport
from bitstore._warming.run import Entries, Fill, Warming, numbered
from bitstore._warming.since import Since
from ray_integration._node.keeping import KeepOrder
from ray_integration._pool.pool import NodePool, PoolError
from ray_integration._portable import check_portable
from ray_integration._warm.keep_calls import WarmCalls

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["fill_on_ray", "warm"]

ClusterTarget: TypeAlias = Literal["shared", "owner", "local"]

_READ_ROWS = 65536


def warm(
    hashes: Iterable[str] | str | os.PathLike[str] | Dataset,
    store: Composite,
    *,
    target: ClusterTarget = "shared",
    ledger: str | os.PathLike[str] | None = None,
    retry_missing: bool = False,
    since_last: str | os.PathLike[str] | None = None,
    trust_index: bool = False,
    progress: bool = True,
    dry_run: bool = False,
    column: str | None = None,
    pool: NodePool | None = None,
    timeout: float | None = 600.0,
    in_flight: int | None = None,
    max_failures: int | None = None,
) -> WarmReport:
    """Fill the caches of a cluster, each digest once.

    The list is read and made distinct first. The driver holds some 0.3 GB of digests at most. It sorts more
    on its disk, in the ledger's folder or that of temporary files: up to 60 bytes for a SHA-1, 96 for a SHA-256. Blobs
    never travel to the driver: node stores get digests and answer with what became of them. Each of them holds some
    128 MB of blobs at a time, or one blob if that is larger.

    Digests that are missing or fail are counted in the report and noted in the ledger; they raise nothing. A node that
    leaves is made up for: its digests go to their next owners. Nodes that join get digests that are sent later.

    Parameters
    ----------
    hashes
        Any iterable of digests; the path of a text or Parquet file; or a Dataset.
    store
        A composite of digests.
    target
        `"shared"`: every cache that all nodes see alike (all but `DiskCache` and `MemoryCache`). What they have, and
        what stands in a source that none of them keeps, is only asked for and not moved. `"owner"`: the nodes' disks
        together: each blob on the disk of its owner, where jobs with `routing="owner"` look for it as long as the nodes
        are the same. `"local"`: the disk of every node. A paid source is called once for each digest, whatever the
        target.
    ledger
        A folder in which the outcome of each digest is noted (see `bitstore._warming.Ledger`). What it knows as found
        or missing is not asked for again. It knows digests and not nodes: where nodes were replaced, or a cache was
        emptied, begin a new one.
    retry_missing
        Ask again for what the ledger knows as missing.
    since_last
        A file that notes how far the list was dealt with: only what was added since the last run is read, and what
        failed in it. The first run makes it; a run that does not come to its end leaves it as it is. A list that was
        written again or rotated is read from its beginning. It goes with the path of a list.
    trust_index
        Do not ask for what the membership index of each filled cache has. The index is read by the driver; it says what
        was there when it was made, so it fits caches from which nothing is deleted.
    progress
        Show a bar, or without a terminal log a line now and then.
    dry_run
        Only find out what would be done: nothing is paid for and no blob moves, but each tier is asked whether it has
        what the caches above it lack.
    column
        Of a Dataset or Parquet file; None: the one called like the store's algorithm (of a file, also `digest` or
        `hash`).
    pool
        The node stores to use; None: ones of its own, which end with it. What they keep on disks stays.
    timeout
        Seconds that one lookup may take.
    in_flight
        Lookups under way in each call of a node store; None: chosen by the library.
    max_failures
        Failures of one cause in a row, from all nodes together, after which the warming stops; None: it never stops
        for failures. `WarmReport.stopped` says why it stopped.

    Returns
    -------
    WarmReport
        The counts; `print` it.

    Raises
    ------
    PoolError
        Ray is not running, or no node store can be started.
    TypeError
        The store is no composite of digests, or does not pickle.
    ValueError
        The store has no cache of the kind that is to be filled, or would pay in vain; the pool is another store's; an
        index of a cache cannot be trusted; the list cannot be read (`ListError`) or lacks the column; the ledger or
        `since_last` is another warming's (`LedgerError`, `SinceError`).

    Examples
    --------
    >>> print(warm("hashes.parquet", store, target="owner", ledger="warm-ledger"))  # doctest: +SKIP
    """
    import ray

    if target not in ("shared", "owner", "local"):
        raise ValueError(f"target={target!r}: choose one of 'shared', 'owner', 'local'")
    LookupOptions(timeout=timeout, in_flight=in_flight)  # checks them
    algorithm = check_target(store, target)
    check_portable(store)
    if pool is not None and pool.fingerprint != fingerprint(store):
        raise ValueError(f"{pool!r} was made for another store than {store!r}")
    if not ray.is_initialized():
        raise PoolError("Ray is not running: call ray.init() before caches are warmed")
    store_id = fingerprint(store, paid=False)
    since: Since | None = None
    if since_last is None:
        entries = _entries(hashes, column, algorithm)
    else:
        if not isinstance(hashes, (str, os.PathLike)):
            raise TypeError(f"since_last={since_last!r} goes with the path of a list, not with {type(hashes).__name__}")
        entries = since = Since(since_last, hashes, target=target)
        since.bind(store_id)
        since.open(column=column, algorithm=algorithm.name)
    warming = Warming(
        algorithm=algorithm,
        target=target,
        store_id=store_id,
        indexes=Indexes(store, target) if trust_index else None,
        since=since,
        ledger=ledger,
        retry_missing=retry_missing,
        dry_run=dry_run,
        max_failures=max_failures,
        show=progress,
    )
    with NodePool(store, private=True) if pool is None else nullcontext(pool) as used:
        return warming.run(entries, fill_on_ray(used, target, dry_run=dry_run, timeout=timeout, in_flight=in_flight))


def fill_on_ray(pool: NodePool, target: Target, *, dry_run: bool, timeout: float | None, in_flight: int | None) -> Fill:
    """What fills the caches that `target` means by the node stores of `pool`."""
    order = KeepOrder(target, "dry" if dry_run else "fill", timeout, in_flight)

    def fill(digests: Iterator[str]) -> Iterator[Outcome]:
        yield from WarmCalls(pool.members(), order).outcomes(digests)

    return fill


def _entries(hashes: Any, column: str | None, algorithm: Algorithm) -> Entries:
    if isinstance(hashes, (str, os.PathLike)):
        from bitstore._digests.hash_list import HashList

        return HashList(os.fspath(hashes), column=column, algorithm=algorithm.name)
    if _is_dataset(hashes):
        return _rows(hashes, column or algorithm.name, algorithm)
    if column is not None:
        raise ValueError(f"column={column!r} goes with a Dataset or a Parquet file, not with {type(hashes).__name__}")
    if not isinstance(hashes, Iterable):
        raise TypeError(f"expected digests, a path or a Dataset, got {type(hashes).__name__}")
    return numbered(hashes, algorithm)


def _is_dataset(hashes: Any) -> bool:
    import sys

    # A dataset exists only where the module is imported, and importing it takes seconds.
    module = sys.modules.get("ray.data")
    return module is not None and isinstance(hashes, module.Dataset)


def _rows(ds: Dataset, column: str, algorithm: Algorithm) -> Entries:
    schema = ds.schema()
    if schema is not None:
        check_column(column, schema.names)
    batches = ds.select_columns([column]).iter_batches(batch_size=_READ_ROWS, batch_format="pyarrow")
    return numbered(_texts(batches, column), algorithm)


def _texts(batches: Iterable[Any], column: str) -> Iterator[Any]:
    for batch in batches:
        values = batch.column(column)
        check_digest_type(column, values.type)
        yield from column_values(values)
