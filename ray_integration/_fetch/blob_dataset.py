"""A dataset with blobs that counts its rows, tells its schema and takes a few rows without fetching the others.

Importing this module imports `ray.data`, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

from ray.data import ActorPoolStrategy, Dataset, Schema

from ray_integration._fetch.batch_udf import FetchBlobs
from ray_integration._fetch.carried import carried_class, carried_function
from ray_integration._fetch.placement import TOKEN_CPUS

__all__ = ["with_blobs"]


# Methods of Dataset by what they do to rows.
_COLUMNS = ("drop_columns", "select_columns", "rename_columns")
_FUNCTION_OF_ROW = ("map", "add_column", "with_column", "with_columns")
_FUNCTION = ("map_batches", "flat_map")  # may drop and add rows
_FEWER_ROWS = ("limit", "random_sample", "filter")
_SAME_ROWS = ("repartition", "sort", "random_shuffle", "randomize_block_order")
# What is done before a step as well as after it: steps by method.
_LIMITED_BEFORE = ("fetch_blobs", *_COLUMNS, "map", "add_column", "repartition")
_DONE_BEFORE = {
    "limit": _LIMITED_BEFORE,
    **dict.fromkeys(("random_sample", "random_shuffle", "randomize_block_order"), ("fetch_blobs", *_COLUMNS)),
}


class _Step(NamedTuple):
    """The call that made a dataset of the one before: a method of Dataset, or `fetch_blobs`."""

    before: Dataset
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]

    def apply(self, ds: Dataset) -> Dataset:
        """What the call makes of another dataset."""
        made: Dataset
        if self.name == "fetch_blobs":
            made = with_blobs(ds, **self.options)
        else:
            made = getattr(ds, self.name)(*self.args, **self.options)
        return made

    @property
    def parts(self) -> list[Dataset]:
        """The datasets whose rows these are."""
        return [self.before, *self.args] if self.name == "union" else [self.before]


class _BlobDataset(Dataset):
    """What `fetch_blobs` returns, and what the methods named above make of it.

    A look (`limit`, `count`, `schema` and what Ray bases on them) goes back through the steps to the rows without
    blobs, as far as each step permits. Ray itself pushes a limit through few steps, executes all steps to find out the
    schema, and again to count the rows.
    """

    _step: _Step | None = None  # None in the copies that Ray makes, which are ordinary

    def count(self) -> int:
        """The number of rows, as `Dataset.count`; no blob is fetched unless a step may drop or add rows."""
        if (step := self._step) is None or not _is_counted_without_blobs(self):
            return int(super().count())
        rows = sum(int(ds.count()) for ds in step.parts)
        return min(rows, _limit_of(step)) if step.name == "limit" else rows

    def schema(self, fetch_if_missing: bool = True) -> Schema | None:
        """The columns, as `Dataset.schema`; no blob is fetched, or that of one row for a function that needs one."""
        known: Schema | None = super().schema(fetch_if_missing=fetch_if_missing and self._step is None)
        if known is None and self._step is not None and fetch_if_missing:
            known = Dataset.schema(_one_row(self)) or super().schema()
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": super().__getstate__(), "step": self._step}  # type: ignore[no-untyped-call]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state["dataset"])  # type: ignore[no-untyped-call]
        self._step = state["step"]


def _noted(name: str) -> Callable[..., Dataset]:
    """The method `name` of Dataset; what it returns knows how it was made."""
    method: Callable[..., Dataset] = getattr(Dataset, name)

    @wraps(method)
    def call(self: _BlobDataset, *args: Any, **options: Any) -> Dataset:
        step, this = self._step, _Step(self, name, args, options)
        if step is not None and step.name in _DONE_BEFORE.get(name, ()):
            return step.apply(this.apply(step.before))
        if step is not None and name == "limit" and (first := _first_rows(step, _limit_of(this))) is not None:
            return first
        made = method(self, *args, **options)
        return made if step is None or made is self else _made_by(this, made)

    return call


for _name in (*_COLUMNS, *_FUNCTION_OF_ROW, *_FUNCTION, *_FEWER_ROWS, *_SAME_ROWS, "union"):
    if hasattr(Dataset, _name):  # not every Ray has `with_columns`
        setattr(_BlobDataset, _name, _noted(_name))


def _made_by(step: _Step, made: Any) -> Dataset:
    made.__class__ = _BlobDataset
    made._step = step
    dataset: Dataset = made
    return dataset


def _step_of(ds: Dataset) -> _Step | None:
    return ds._step if isinstance(ds, _BlobDataset) else None


def _limit_of(step: _Step) -> int:
    return int(step.args[0] if step.args else step.options["limit"])


def _is_counted_without_blobs(ds: Dataset) -> bool:
    step = _step_of(ds)
    if step is None:
        return True
    keeps = step.name == "limit" or step.name not in (*_FUNCTION, *_FEWER_ROWS)
    return keeps and all(map(_is_counted_without_blobs, step.parts))


def _first_rows(step: _Step, limit: int) -> Dataset | None:
    """The first rows of a union, or of what is sorted by columns that were there before the blobs; else None."""
    if step.name == "union" and all(map(_is_counted_without_blobs, step.parts)):
        first, *others = step.parts
        shown = [first.limit(limit)]
        for ds in others:
            limit -= shown[-1].count()
            if limit <= 0:
                break
            shown.append(ds.limit(limit))
        return shown[0].union(*shown[1:]) if shown[1:] else shown[0]
    last = _step_of(step.before)
    if step.name == "sort" and last is not None and last.name in ("fetch_blobs", "drop_columns", "select_columns"):
        key = step.args[0] if step.args else step.options["key"]
        if set([key] if isinstance(key, str) else key) <= set(last.before.columns() or ()):
            return step.apply(last.apply(step.apply(last.before).limit(limit)))
    return None


def _one_row(ds: Dataset) -> Dataset:
    """At most one row with the columns of `ds`; without its blob unless a function needs it."""
    step = _step_of(ds)
    if step is None:
        return ds.limit(1)
    if step.name in (*_FUNCTION_OF_ROW, *_FUNCTION):
        return step.apply(step.before.limit(1))
    one = _one_row(step.before)
    if step.name == "fetch_blobs":
        fetch = FetchBlobs(**{**step.options["fetch"], "pool": None, "routing": None})
        look = carried_function(fetch.without_lookups, "without_lookups")
        return one.map_batches(look, batch_format=step.options["batch_format"], num_cpus=0)
    return step.apply(one) if step.name in _COLUMNS else one


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
    bundled = rows.map_batches(
        _bundler(fetch["column"], decodes=batch_format == "numpy" or (batch_format == "pandas" and _pandas_decodes())),
        batch_size=batch_size,
        batch_format=None,
        num_cpus=asked["num_cpus"] if asked["num_cpus"] <= TOKEN_CPUS else 0,  # never for CPUs that actors hold
        udf_modifying_row_count=False,
    )
    least, most = actors
    kind, arguments = carried_class(FetchBlobs, {**fetch, "batch_rows": batch_size})
    blobs: Any = bundled.map_batches(
        kind,
        fn_constructor_kwargs=arguments,
        compute=ActorPoolStrategy(min_size=least, max_size=most, initial_size=least),
        **asked,
        batch_size=None,
        batch_format=batch_format,
        udf_modifying_row_count=False,
    )
    options = {"fetch": fetch, "batch_size": batch_size, "batch_format": batch_format, "actors": actors, "asked": asked}
    return _made_by(_Step(rows, "fetch_blobs", (), options), blobs)


def _pandas_decodes() -> bool:
    """Whether this pandas holds text as Python's; since 3 it holds what Arrow does."""
    import pandas

    return int(pandas.__version__.partition(".")[0]) < 3


def _bundler(column: str, *, decodes: bool) -> Callable[[Any], Any]:
    """A function that needs nothing of this library, and returns the batch that it is given.

    But with digests as bytes where Ray, which `decodes` text for the next step, could not: text that is not UTF-8.
    """

    def bundle(batch: Any) -> Any:
        import pyarrow

        if decodes and isinstance(batch, pyarrow.Table) and column in batch.column_names:
            values = batch.column(column)
            try:
                values.validate(full=True)
            except pyarrow.ArrowInvalid:
                index = batch.column_names.index(column)
                return batch.set_column(index, column, values.cast(pyarrow.large_binary()))
        return batch

    return bundle
