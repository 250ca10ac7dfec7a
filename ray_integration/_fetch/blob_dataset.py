"""A dataset with blobs that counts its rows, tells its schema and takes a few rows without fetching the others.

Importing this module imports `ray.data`, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ray.data import ActorPoolStrategy, Dataset, Schema

from ray_integration._fetch.batch_udf import FetchBlobs
from ray_integration._fetch.placement import TOKEN_CPUS

__all__ = ["with_blobs"]


class _BlobDataset(Dataset):
    """What `fetch_blobs` returns. Every transformation but `limit` makes an ordinary Dataset of it.

    Ray itself pushes a limit through a map only where its `batch_size` is not larger, executes the map to find out its
    schema, and again to count its rows.
    """

    _rows: Dataset | None = None  # the rows without blobs; None in the copies that Ray makes, which are ordinary
    _options: dict[str, Any]  # the arguments of `with_blobs`

    def limit(self, limit: int) -> Dataset:
        """The first rows, as `Dataset.limit`; only their blobs are fetched."""
        return super().limit(limit) if self._rows is None else with_blobs(self._rows.limit(limit), **self._options)

    def count(self) -> int:
        """The number of rows, as `Dataset.count`; no blob is fetched."""
        return int(super().count() if self._rows is None else self._rows.count())

    def schema(self, fetch_if_missing: bool = True) -> Schema | None:
        """The columns, as `Dataset.schema`; no blob is fetched."""
        known: Schema | None = super().schema(fetch_if_missing=fetch_if_missing and self._rows is None)
        if known is None and self._rows is not None and fetch_if_missing:
            known = self._one_row().schema()
        return known

    def _one_row(self) -> Dataset:
        """At most one row, with columns for a blob and without the blob."""
        rows = self._rows
        if rows is None:
            return self.limit(1)
        fetch = FetchBlobs(**{**self._options["fetch"], "pool": None, "routing": None})
        one = rows._one_row() if isinstance(rows, _BlobDataset) else rows.limit(1)
        return one.map_batches(fetch.without_lookups, batch_format=self._options["batch_format"], num_cpus=0)

    def __getstate__(self) -> dict[str, Any]:
        dataset = super().__getstate__()  # type: ignore[no-untyped-call]
        return {"dataset": dataset, "rows": self._rows, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state["dataset"])  # type: ignore[no-untyped-call]
        self._rows, self._options = state["rows"], state["options"]


def with_blobs(
    rows: Dataset,
    *,
    fetch: dict[str, Any],
    batch_size: int | None,
    batch_format: str,
    actors: tuple[int, int],
    asked: dict[str, Any],
) -> Dataset:
    """`rows` with their blobs.

    Parameters
    ----------
    rows
        The dataset.
    fetch
        Arguments of `FetchBlobs`.
    batch_size, batch_format
        As for `fetch_blobs`.
    actors
        Least and most.
    asked
        What each actor asks Ray for: `num_cpus`, and `memory` and `resources` if any.
    """
    # Small blocks are put together by a step of its own, because a limit passes no step that needs more rows. Ray runs
    # it inside of the actors, unless a limit stands between.
    bundle: Callable[[Any], Any] = partial(_bundle, column=fetch["column"], numpy=batch_format == "numpy")
    bundled = rows.map_batches(
        bundle,
        batch_size=batch_size,
        batch_format=None,
        num_cpus=asked["num_cpus"] if asked["num_cpus"] <= TOKEN_CPUS else 0,  # never for CPUs that actors hold
        udf_modifying_row_count=False,
    )
    least, most = actors
    blobs: Any = bundled.map_batches(
        FetchBlobs,
        fn_constructor_kwargs={**fetch, "batch_rows": batch_size},
        compute=ActorPoolStrategy(min_size=least, max_size=most, initial_size=least),
        **asked,
        batch_size=None,
        batch_format=batch_format,
        udf_modifying_row_count=False,
    )
    options = {"fetch": fetch, "batch_size": batch_size, "batch_format": batch_format, "actors": actors, "asked": asked}
    blobs.__class__ = _BlobDataset
    blobs._rows, blobs._options = rows, options
    made: Dataset = blobs
    return made


def _bundle(batch: Any, column: str, numpy: bool) -> Any:
    """The batch itself, but with digests as bytes where Ray could not convert them to NumPy: text that is not UTF-8."""
    import pyarrow

    if numpy and isinstance(batch, pyarrow.Table) and column in batch.column_names:
        values = batch.column(column)
        try:
            values.validate(full=True)
        except pyarrow.ArrowInvalid:
            index = batch.column_names.index(column)
            return batch.set_column(index, column, values.cast(pyarrow.large_binary()))
    return batch
