"""What datasets and streams of blobs share: how a lookup becomes a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeAlias, get_args

from bitstore._lookup.batch import get_many
from bitstore._lookup.options import LookupOptions
from bitstore.blob import Blob
from bitstore.errors import DecodeFailed, StoreNotAvailable, described, portable
from bitstore.torch._keys import Keys

__all__ = ["SampleErrors", "Samples"]

SampleErrors: TypeAlias = Literal["raise", "return"]


class Samples:
    """The samples of digests. `BlobDataset` and `BlobStream` describe each parameter."""

    def __init__(
        self,
        store: Any,
        digests: Iterable[Any],
        *,
        targets: Any,
        decode: Callable[[bytes], Any] | None,
        errors: SampleErrors,
        options: LookupOptions,
    ) -> None:
        if isinstance(store, type) or not callable(getattr(store, "get", None)):
            raise TypeError(f"expected a store with 'is_valid' and 'get', got {store!r}")
        if decode is not None and not callable(decode):
            raise TypeError(f"decode={decode!r}: give a function that takes bytes")
        if errors not in get_args(SampleErrors):
            raise ValueError(f"errors={errors!r}: choose one of {', '.join(get_args(SampleErrors))}")
        self.store = store
        self.keys = Keys(store, digests)
        self.targets = _by_position(targets)
        if targets is not None and len(self.targets) != len(self.keys):
            raise ValueError(f"there are {len(self.keys)} digests and {len(self.targets)} targets")
        self.decode = decode
        self.errors: SampleErrors = errors
        self.options = options

    def at(self, positions: Iterable[int], *, ordered: bool) -> Iterator[tuple[int, Blob]]:
        """The number of each of `positions`, and the lookup of its digest. The positions are read as far as needed."""
        keys = self.keys
        for blob in get_many(
            self.store, (keys[position] for position in positions), self.options, ordered=ordered, errors="return"
        ):
            yield blob.index, blob

    def sample(self, position: int, blob: Blob) -> Any:
        """What a DataLoader gets for a position. Raises the error of a blob that is not there, if errors are raised."""
        error = blob.error
        found: Any = blob.data
        if error is None and not isinstance(found, (bytes, bytearray, memoryview)):
            error = StoreNotAvailable(str(blob.source), f"it returned {type(found).__name__}, not bytes")
        if error is None and self.decode is not None:
            try:
                found = self.decode(found)
            except Exception as failure:  # a user's function may raise anything
                error = DecodeFailed(str(blob.uri), described(failure))
                error.__cause__ = failure
        if error is not None:
            if self.errors == "raise":
                raise error
            found = portable("the store", error)
        return found if self.targets is None else (found, self.targets[position])


def _by_position(targets: Any) -> Any:
    """Targets that `[position]` takes apart: a column of pandas would go by its index."""
    for method in ("to_pylist", "to_numpy"):
        if callable(convert := getattr(targets, method, None)):
            return convert()
    return targets
