"""`FetchBlobs`: what `map_batches` calls with each batch of digests. It works without Ray, too."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, get_args

from bitstore._frames.batches import Batch, open_batch
from bitstore._frames.buffers import BufferPool
from bitstore._frames.columns import ColumnNames, Columns
from bitstore._frames.digest_column import check_column, check_name
from bitstore._frames.row_answer import RowAnswer, RowErrors
from bitstore._frames.rows import answers, lookups, pieces, row_keys
from bitstore._lookup.options import LookupOptions
from bitstore._support.fingerprint import fingerprint
from bitstore._support.sizes import parse_size
from ray_integration._fetch.options import Routing
from ray_integration._fetch.router import Router
from ray_integration._node.decoding import Decode, decoded
from ray_integration._node.forms import DecodedType
from ray_integration._node.gc_freeze import freeze_after_imports
from ray_integration._node.metrics import TierMetrics
from ray_integration._pool.pool import NodePool

__all__ = ["FetchBlobs"]


class FetchBlobs:
    """Adds to each batch the blobs of its digests: a callable class for `ray.data.Dataset.map_batches`.

    All columns of the batch stay as they are, rows keep their order, and three columns come on top:

    `data` (large_binary)
        The blob; null unless found.
    `source` (string)
        Name of the store or tier that had it; null unless found.
    `error` (string)
        Null if found, and never else. It begins with one of three words and a colon:
        `missing:` every store that could hold the blob said that it does not; `failed:` the lookup failed, whether
        the blob exists is unknown, asking again later may help; `invalid:` the row names no
        blob (null, a number, malformed). The key follows, then the reason.

    Their types are always these, also in a block in which nothing was found. A batch may be a pyarrow table, a pandas
    frame or a dict of NumPy arrays (any `batch_format`); what is yielded has the same form, except that the new
    columns are Arrow arrays (in pandas: columns of an `ArrowDtype`).

    A batch comes back in several pieces of about `block_bytes` of blobs, so that the blobs of a batch may exceed 2 GB,
    and memory. A blob that occurs in several rows of a batch is asked for once (also if it is written in upper and in
    lower case) and held from its first row to its last.

    Parameters
    ----------
    store
        Any store: a composite, a single store, one that you wrote.
    column
        The column of digests (of URLs, for a store that is addressed by URL): text or bytes, also as a dictionary or
        view. Raw digests of the right length are digests too.
    errors
        `"return"`: a row without a blob says why in its error column; `"raise"`: the first such row stops the job with
        its error.
    data_column, source_column, error_column
        Names for the new columns.
    kind_column
        Name for one more new column (string): `missing`, `failed` or `invalid`, as the error begins; null if found.
        None: no such column.
    timeout
        Seconds that a lookup may take, waiting for its turn included; after that its row is `failed:`. None: as long as
        the store's own limits allow; a store without such limits may then hang the job.
    in_flight
        How many lookups may be under way at once; None: chosen by the library.
    max_bytes
        About how many bytes of blobs to hold besides those of the piece in the making (a number, or `"256MB"`).
    patience
        Seconds from the beginning of an outage for which lookups wait for a tier that is unreachable, or left alone
        after repeated failures (see `get_many`); after that their rows are `failed:`. 0: what fails has failed.
    block_bytes
        A piece ends when it has more bytes of blobs than this. None has more than half as much again, except that a
        blob larger than that makes a piece of its own. The memory of pieces that are gone serves for the next
        ones.
    batch_rows
        Rows of a batch that are looked up together; the next ones begin after them. None: all.
    pool
        A `NodePool` of this store, whose node stores do the lookups. None: they are done here.
    routing
        Which of them is asked. `"local"`: that of the node where the batch is, except that paid sources are asked only
        by a digest's owner; least traffic, and caches that all nodes share do the sharing. `"owner"`: each digest's
        owner, so that each digest is fetched once in the cluster, and the nodes' disks add up to one cache; worth the
        traffic between nodes where what is upstream is slow or costs. `"direct"`: none, so without a pool. None:
        `"local"` with a pool, else `"direct"`.
    decode
        A function that takes a blob's bytes; what it returns takes their place in the data column. It runs where the
        blob is: in a node store, in a map actor that reads its own node's disk, or in the map actor with `"direct"`. So
        images travel as the arrays that a model takes, and caches keep the blobs as they came. What it raises makes
        its row `failed:`, and is never an absence; so does None. It runs once for each different blob of a batch, and
        in several threads of one process at once. It pickles by Ray's pickle, which takes lambdas.
    decoded_type
        What the data column then holds. None: bytes. `(dtype, shape)`, such as `("uint8", (224, 224, 3))`: arrays that
        are all alike, as a column of Ray's tensors; batches of NumPy and of PyTorch are views of its memory. Rows
        without a blob are null, which Ray shows in such batches as zeros, or NaN for floats: use `errors="raise"`, or
        filter by the error column. Without `decode`: the blobs are such arrays, as `numpy.ndarray.tobytes` stores them.
        An Arrow type, such as `pyarrow.float32()` or a struct: values that `pyarrow.scalar` takes.

    Raises
    ------
    ValueError, TypeError
        When it is made: an option that makes no sense. When it is called: a batch without the column, or whose column
        holds neither text nor bytes, or which has a column of a new one's name already; a decode function that does not
        pickle.
    VersionMismatch, DecodeNotLoaded
        When it is called: the modules of the decode function have another source where it would run, or cannot be
        imported there.

    Examples
    --------
    >>> ds.map_batches(
    ...     FetchBlobs,
    ...     fn_constructor_kwargs={"store": store, "column": "sha1"},
    ...     compute=ray.data.ActorPoolStrategy(size=2),
    ...     num_cpus=0,
    ...     batch_size=4096,
    ...     batch_format="pyarrow",
    ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        store: Any,
        column: str = "sha1",
        *,
        errors: RowErrors = "return",
        data_column: str = "data",
        source_column: str = "source",
        error_column: str = "error",
        kind_column: str | None = None,
        timeout: float | None = 600.0,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
        block_bytes: int | str = "128MiB",
        batch_rows: int | None = None,
        pool: NodePool | None = None,
        routing: Routing | None = None,
        decode: Callable[[bytes], Any] | Decode | None = None,
        decoded_type: DecodedType = None,
    ) -> None:
        if isinstance(store, type) or not callable(getattr(store, "get", None)):
            raise TypeError(f"expected a store with 'is_valid' and 'get', got {store!r}")
        if errors not in get_args(RowErrors):
            raise ValueError(f"errors={errors!r}: choose one of {', '.join(get_args(RowErrors))}")
        names = ColumnNames(data_column, source_column, error_column, kind_column)
        check_name(column)
        names.check(column)
        held = parse_size(max_bytes, name="max_bytes")
        options = LookupOptions(timeout=timeout, in_flight=in_flight, max_bytes=held, patience=patience)
        if batch_rows is not None and batch_rows < 1:
            raise ValueError(f"batch_rows={batch_rows}: must be at least 1")
        if routing is None:
            routing = "direct" if pool is None else "local"
        if routing not in get_args(Routing):
            raise ValueError(f"routing={routing!r}: choose one of {', '.join(get_args(Routing))}")
        if (routing == "direct") != (pool is None):
            wrong = "asks no node stores: leave the pool out" if pool is not None else "needs pool=NodePool(store)"
            raise ValueError(f"routing={routing!r} {wrong}")
        if pool is not None and pool.fingerprint != fingerprint(store):
            raise ValueError(f"{pool!r} was made for another store than {store!r}")
        self.store = store
        self.column = column
        self.errors: RowErrors = errors
        self.data_column = data_column
        self.source_column = source_column
        self.error_column = error_column
        self.kind_column = kind_column
        self.timeout = timeout
        self.in_flight = in_flight
        self.max_bytes = held
        self.patience = patience
        self.block_bytes = parse_size(block_bytes, name="block_bytes")
        self.batch_rows = batch_rows
        self.pool = pool
        self.routing: Routing = routing
        # None: rows get the blobs as they are. A `Decode` is what `fetch_blobs` makes of the function, in the driver.
        self.decode: Decode | None = None
        if isinstance(decode, Decode):
            self.decode = decode
        elif decode is not None or decoded_type is not None:
            self.decode = Decode(decode, decoded_type)
        self._names = names
        self._options = options
        self._router: Router | None = None
        self._metrics: TierMetrics | None = None
        self._buffers = BufferPool()

    def __call__(self, batch: Any) -> Iterator[Any]:
        """Yield the rows of `batch` with their blobs, in pieces of the same format."""
        rows = self._open(batch)
        most = self.batch_rows or rows.rows
        for start in range(0, max(1, rows.rows), max(1, most)):
            freeze_after_imports()
            yield from self._pieces(rows, start, min(rows.rows, start + most))

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise ValueError unless a dataset with these columns has the column of digests and room for the new ones."""
        check_column(self.column, names)
        self._names.check_room(names)

    def without_lookups(self, batch: Any) -> Any:
        """The rows of `batch` with new columns of the right types, all null: what a schema is read from.

        An empty block without columns gets none: with the new ones alone it would pass for the schema of all blocks.
        """
        rows = self._open(batch)
        if not rows.names:
            return batch
        columns = self._columns()
        for _ in range(rows.rows):
            columns.add(RowAnswer())
        return rows.part(0, rows.rows, columns.take())

    def _open(self, batch: Any) -> Batch:
        rows = open_batch(batch)
        if self.decode is not None and isinstance(batch, Mapping):
            self.decode.check_numpy()
        if rows.names:  # Ray's own empty blocks may have no columns at all
            self.check_columns(rows.names)
        return rows

    def _pieces(self, rows: Batch, start: int, end: int) -> Iterator[Any]:
        """Rows `start` to `end` with their blobs."""
        columns = self._columns()
        values = rows.values(self.column)[start:end] if end > start else []
        with closing(self._answers(values)) as incoming:
            yield from pieces(rows, start, end, incoming, columns, self.block_bytes, self._report)

    def _columns(self) -> Columns:
        # A piece has nine chunks at most, as any two in a row hold more than a fifth of it: Ray copies the chunks of a
        # block that has more than ten into one.
        chunk = max(1, self.block_bytes * 3 // 10)
        form = None if self.decode is None else self.decode.form
        return Columns(self._names, chunk_bytes=chunk, buffers=self._buffers, form=form)

    def _report(self) -> None:
        if self._metrics is not None:
            self._metrics.report()

    def _answers(self, values: list[Any]) -> Generator[RowAnswer, None, None]:
        """One answer a row, in their order; each blob is looked up at its first row and let go at its last."""
        keys, texts = row_keys(self.store, self.column, values)
        with closing(self._lookups(texts)) as found:
            if len(texts) == len(keys) and self.errors == "return":  # a blob for each row, as in most batches
                yield from found
            else:
                yield from answers(keys, found.__next__, raises=self.errors == "raise")

    def _lookups(self, texts: dict[Any, str]) -> Generator[RowAnswer, None, None]:
        """One answer for each of `texts` (by what is the same for all spellings of each), in their order."""
        if self.pool is not None:
            if self._router is None:
                self._router = Router(
                    self.pool.members(),
                    self.store,
                    routing="owner" if self.routing == "owner" else "local",
                    timeout=self.timeout,
                    in_flight=self.in_flight,
                    max_bytes=self.max_bytes,
                    patience=self.patience,
                    with_errors=self.errors == "raise",
                    decode=self.decode,
                )
            # All spellings of a digest have one owner.
            yield from self._router.answers([key if isinstance(key, str) else text for key, text in texts.items()])
            return
        if self._metrics is None:
            self._metrics = TierMetrics.where_ray_runs(self.store)
        found = lookups(self.store, texts.values(), self._options)
        if (decode := self.decode) is None:
            yield from found
            return
        function = decode.load_checked()
        with closing(found):
            for digest in texts.values():
                yield decoded(function, decode.form, next(found), digest)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_router": None, "_metrics": None, "_buffers": BufferPool()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r}, column={self.column!r}, errors={self.errors!r})"
