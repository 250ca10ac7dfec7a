"""`BlobStream`: blobs one after the other, as a DataLoader of PyTorch takes them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any

from bitstore._lookup.options import LookupOptions
from bitstore.torch._order import Order
from bitstore.torch._samples import SampleErrors, Samples

if TYPE_CHECKING:
    from torch.utils.data import IterableDataset
    from typing_extensions import Self

    class _Base(IterableDataset[Any]):  # type: ignore[misc,unused-ignore]
        pass
else:  # see `_kind_for_torch`
    _Base = object

__all__ = ["BlobStream"]


class BlobStream(_Base):
    """Blobs one after the other: an iterable dataset for `torch.utils.data.DataLoader`, with or without workers.

    Hundreds of lookups are under way ahead of the training, across the bounds of batches, which makes it faster than a
    `BlobDataset` where blobs come from afar. Workers of a DataLoader, and the processes of a distributed training, each
    take a part of the digests; together they take each once.

    Where PyTorch is installed, a stream is a `torch.utils.data.IterableDataset`.

    Parameters
    ----------
    store, digests, targets, decode, errors
        As for `BlobDataset`.
    shuffle
        A seed for a random order, another one in each epoch. None: the order of `digests`. It is an order of all
        digests, not of a buffer, and takes no memory.
    shard
        `(rank, world_size)`: which part of the digests this process takes. None: that of `torch.distributed`, where it
        has been initialized by the time the stream is made; else all.
    equal
        Leave out the last few digests of the order where they cannot be shared equally, so that all ranks take the
        same number of samples.
    ordered
        Give the samples in their order. False: as they come, which is faster where some take long.
    timeout, in_flight, max_bytes, patience
        As for `BlobDataset`.

    Raises
    ------
    TypeError, ValueError
        When it is made: an option that makes no sense.
    BitstoreError
        When it is read, as for `BlobDataset`.

    Notes
    -----
    Each reading is an epoch of its own order. Workers that end with their epoch (`persistent_workers=False`, the
    default) begin with the epoch of the stream that they were made from: call `set_epoch` before each.
    """

    _plain: type[Any] | None = None  # the class without PyTorch's base, of one that has it

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """A stream that PyTorch tells from a dataset by position, where there is a PyTorch."""
        kind: Any = cls
        made: Self = object.__new__(_kind_for_torch(kind))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self._plain or type(self),), self.__dict__

    def __init__(
        self,
        store: Any,
        digests: Iterable[Any],
        *,
        targets: Any = None,
        decode: Callable[[bytes], Any] | None = None,
        errors: SampleErrors = "raise",
        shuffle: int | None = None,
        shard: tuple[int, int] | None = None,
        equal: bool = False,
        ordered: bool = True,
        timeout: float | None = 600.0,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
    ) -> None:
        options = LookupOptions(timeout=timeout, in_flight=in_flight, max_bytes=max_bytes, patience=patience)
        self._samples = Samples(store, digests, targets=targets, decode=decode, errors=errors, options=options)
        self._shard = _rank() if shard is None else shard
        rank, size = self._shard
        if not 0 <= rank < size:
            raise ValueError(f"shard={shard!r}: give (rank, world_size), with a rank from 0 to world_size - 1")
        self._shuffle = shuffle
        self._equal = equal
        self._ordered = ordered
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next reading is: epochs of one number have one order."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self._read(epoch)

    def _read(self, epoch: int) -> Iterator[Any]:
        samples = self._samples
        length = len(samples.keys)
        rank, size = self._shard
        worker, workers = _worker()
        # A rank takes every so many of the order, and a worker every so many of these.
        end = length - length % size if self._equal else length
        places = range(rank + worker * size, end, size * workers)
        order = range(length) if self._shuffle is None else Order(length, f"{self._shuffle} {epoch}")
        with closing(samples.at((order[place] for place in places), ordered=self._ordered)) as found:  # type: ignore[type-var]
            for number, blob in found:
                yield samples.sample(order[places[number]], blob)

    def __repr__(self) -> str:
        return f"BlobStream({self._samples.store!r}, {len(self._samples.keys)} digests)"


def _blank(kind: type[BlobStream]) -> BlobStream:
    return kind.__new__(kind)


@cache
def _kind_for_torch(kind: type[Any]) -> type[Any]:
    """The class with PyTorch's base, without which a DataLoader asks for positions; itself if there is no PyTorch."""
    try:
        from torch.utils.data import IterableDataset
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return kind
    return types.new_class(kind.__name__, (kind, IterableDataset), exec_body=lambda body: body.update(_plain=kind))


def _rank() -> tuple[int, int]:
    """Which process of a distributed training this is, and of how many."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _worker() -> tuple[int, int]:
    """Which worker of a DataLoader this is, and of how many."""
    torch: Any = sys.modules.get("torch")
    info = None if torch is None else torch.utils.data.get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
