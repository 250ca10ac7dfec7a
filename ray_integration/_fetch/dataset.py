"""`fetch_blobs`: a dataset of digests becomes one of blobs.

Ray is imported inside functions: `ray.data` alone costs seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from bitstore._frames.digest_column import check_digest_type
from bitstore._tiers.chain import costs
from ray_integration._cluster import resources_of_nodes
from ray_integration._fetch.batch_udf import FetchBlobs
from ray_integration._fetch.options import FetchOptions, shows_options_of
from ray_integration._fetch.placement import check_placement, default_actors, default_cpus
from ray_integration._pool.keeper import check_no_client
from ray_integration._pool.pool import NodePool
from ray_integration._portable import check_portable

if TYPE_CHECKING:
    from ray.data import Dataset
    from typing_extensions import Unpack

__all__ = ["fetch_blobs"]

BatchFormat: TypeAlias = Literal["pyarrow", "pandas", "numpy"]


@shows_options_of(FetchBlobs)
def fetch_blobs(
    ds: Dataset,
    store: Any,
    column: str = "sha1",
    *,
    batch_size: int | None = 4096,
    batch_format: BatchFormat = "pyarrow",
    actors: int | tuple[int, int] | None = None,
    num_cpus: float | None = None,
    memory: float | None = None,
    resources: dict[str, float] | None = None,
    placement_timeout: float | None = 45.0,
    **options: Unpack[FetchOptions],
) -> Dataset:
    """The dataset with the blobs of its digests: `FetchBlobs`, set up.

    Nothing is fetched before the dataset that this returns is consumed; its `limit` and `take` fetch only the blobs of
    those rows, its `count` and `schema` none. The same holds after `drop_columns`, `select_columns`, `rename_columns`,
    `add_column`, `with_column`, `map`, `repartition`, `union`, and `sort` by columns of `ds`, except that the schema of
    what a function makes costs the blob of one row. `random_sample`, `random_shuffle` and `randomize_block_order` are
    done before the fetch. More is fetched where Ray has to run a step to know its rows: for `limit` and `count` after
    `filter`, `flat_map` and `map_batches` (all blobs up to the last row that is needed, a batch of `batch_size` at a
    time and several ahead; filter by other columns before the fetch), by a loop over rows or batches that is left
    early (likewise), and by `size_bytes` (all).

    Ray keeps the order of the rows only if
    `ray.data.DataContext.get_current().execution_options.preserve_order` is set.

    Parameters
    ----------
    ds
        The dataset.
    store
        Any store that pickles: it travels to the actors as its configuration, and each makes its own connections.
    column, errors, data_column, source_column, error_column, kind_column
        As for `FetchBlobs`.
    timeout, in_flight, max_bytes, patience, block_bytes, decode, decoded_type
        As for `FetchBlobs`.
    batch_size
        Rows that are looked up together. Small input blocks are put together to reach it; None: a block at a time.
    batch_format
        In which form rows pass through: `"pyarrow"` keeps every type and null as it is; `"pandas"` and `"numpy"` do to
        the other columns what Ray's conversion does (an int column with nulls becomes float). For stores that make
        little difference; there is seldom a reason to change it.
    actors
        Processes that fetch: a number, or `(least, most)` for a pool that grows with its work. None: one a node, more
        on nodes with 16 CPUs and up. Each has many lookups under way, so few are enough.
    num_cpus
        CPUs that each actor asks Ray for. None: none at all, so that no placement of them can starve the tasks that
        read the input (a very small fraction where a node without CPUs is to be spared). With a number of your own,
        leave a whole CPU free on some node.
    memory, resources
        Bytes of memory, and custom resources, that each actor asks for.
    pool, routing
        As for `FetchBlobs`, except that `"local"` and `"owner"` need no pool: without one, a private pool is made here
        that lasts as long as the dataset. Without either, a store with a paid source is used by `"local"`, because
        actors that know nothing of each other may pay twice for the same; by any other the actors fetch directly: a
        process more on each node pays off only where several actors, jobs or passes share what it holds.
    placement_timeout
        Seconds that this waits until the cluster has room for the actors and, unless the dataset is in memory already,
        for a task of one CPU that reads it. Ray itself would wait for ever, in silence. None: do not look; for
        clusters that are busy with long tasks, or take minutes to grow.

    Raises
    ------
    TypeError
        `ds` is no dataset; the store or the decode function does not pickle (the error names the attribute that does
        not); the column is known not to be text.
    ValueError
        The dataset is known to lack the column, or to have one of a new column's name; an option that makes no sense.
        What is not known before the dataset runs is found at the first batch.
    CannotBePlaced
        The cluster has no room; the error names the resource.
    PoolError
        Ray is reached by Ray Client (`ray://`), over which Ray Data does not work; or no node store can be started.
    """
    if unknown := options.keys() - FetchOptions.__annotations__.keys():
        raise TypeError(f"fetch_blobs() got an unexpected keyword argument '{min(unknown)}'")
    from ray.data import Dataset
    from ray.data.dataset import MaterializedDataset

    from ray_integration._fetch.blob_dataset import with_blobs

    if not isinstance(ds, Dataset):
        raise TypeError(f"expected a ray.data.Dataset, got {type(ds).__module__}.{type(ds).__qualname__}")
    if batch_format not in get_args(BatchFormat):
        raise ValueError(f"batch_format={batch_format!r}: choose one of {', '.join(get_args(BatchFormat))}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    check_no_client()
    nodes = resources_of_nodes("CPU")
    least, most = actors if isinstance(actors, tuple) else (actors or default_actors(nodes),) * 2
    if actors == 0 or not 1 <= least <= most:
        raise ValueError(f"actors={actors!r}: give a number from 1, or (least, most)")
    pool, routing = options.get("pool"), options.get("routing")
    if routing is None and pool is None and costs(store):
        routing = "local"
    makes_pool = routing in ("local", "owner") and pool is None
    # Here already, so that a bad option is an error in the driver.
    here: FetchOptions = {**options, "routing": None if makes_pool else routing}
    fetch = FetchBlobs(store, column, **here)
    check_portable(store)
    if fetch.decode is not None:
        if batch_format == "numpy":
            fetch.decode.check_numpy()
        fetch.decode.pack()  # here, so that all processes get one function, of one source
    _check_schema(ds, fetch)
    cpus = default_cpus(nodes, most) if num_cpus is None else num_cpus
    # Without what is None: Ray 2.55 fails on `resources=None` where a map comes before.
    asked: dict[str, Any] = {"num_cpus": cpus}
    asked |= {key: value for key, value in (("memory", memory), ("resources", resources)) if value is not None}
    if placement_timeout is not None:
        check_placement(
            least,
            {"CPU": cpus, "memory": memory or 0, **(resources or {})},
            reads=not isinstance(ds, MaterializedDataset),
            limit=placement_timeout,
        )
    if makes_pool:
        pool = NodePool(store, private=True)
    given = {**options, "store": store, "column": column, "pool": pool, "routing": routing, "decode": fetch.decode}
    return with_blobs(
        ds, fetch=given, batch_size=batch_size, batch_format=batch_format, actors=(least, most), asked=asked
    )


def _check_schema(ds: Dataset, fetch: FetchBlobs) -> None:
    """Find a wrong column before anything runs, where the schema is known without running anything."""
    import pyarrow

    schema = ds.schema(fetch_if_missing=False)
    if schema is None:
        return
    fetch.check_columns(schema.names)
    dtype = dict(zip(schema.names, schema.types, strict=True))[fetch.column]
    if isinstance(dtype, pyarrow.DataType):
        check_digest_type(fetch.column, dtype)
