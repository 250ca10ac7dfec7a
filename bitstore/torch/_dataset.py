"""`BlobDataset`: blobs by position, as a DataLoader of PyTorch takes them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from bitstore._lookup.options import LookupOptions
from bitstore.torch._samples import SampleErrors, Samples

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    class _Base(Dataset[Any]):  # type: ignore[misc,unused-ignore]
        pass
else:  # a DataLoader asks for no base class
    _Base = object

__all__ = ["BlobDataset"]


class BlobDataset(_Base):
    """Blobs by position: a map-style dataset for `torch.utils.data.DataLoader`, with or without workers.

    The loader asks for a whole batch at once, so each batch is one `get_many`, and a blob that is in it twice is
    fetched once. The dataset pickles as its configuration: worker processes, forked or spawned, make their own
    connections. A disk cache is shared by all of them, so the second epoch asks nothing upstream.

    Parameters
    ----------
    store
        Any store.
    digests
        What names the blobs, in the order of the samples: digests as text or bytes, URLs for a store of URLs. They are
        held as bytes, 20 for each SHA-1, and not copied into forked workers.
    targets
        A target for each digest (a list, an array, a column): a sample is then `(blob, target)`.
    decode
        Makes a sample of a blob's bytes, in the worker. For spawned workers it has to pickle. None: the bytes.
    errors
        `"raise"`: a blob that is missing or failed raises its error. `"return"`: the error takes the place of the blob,
        for a `collate_fn` that sorts them out.
    timeout
        Seconds that one lookup may take; None: as long as the store's own limits allow.
    in_flight, max_bytes, patience
        As for `Store.get_many`.

    Raises
    ------
    TypeError, ValueError
        When it is made: an option that makes no sense.
    IndexError
        When it is asked: a position out of range.
    BitstoreError
        When it is asked, with `errors="raise"`: `NotFoundInStore`, or why it is not known whether the blob exists;
        `DecodeFailed` if it cannot be decoded. In a worker, PyTorch makes it a `RuntimeError` of the same text.

    Examples
    --------
    >>> loader = DataLoader(BlobDataset(store, digests), batch_size=64, shuffle=True, num_workers=4)  # doctest: +SKIP
    """

    def __init__(
        self,
        store: Any,
        digests: Iterable[Any],
        *,
        targets: Any = None,
        decode: Callable[[bytes], Any] | None = None,
        errors: SampleErrors = "raise",
        timeout: float | None = 600.0,
        in_flight: int | None = None,
        max_bytes: int | str = "256MB",
        patience: float = 60.0,
    ) -> None:
        options = LookupOptions(timeout=timeout, in_flight=in_flight, max_bytes=max_bytes, patience=patience)
        self._samples = Samples(store, digests, targets=targets, decode=decode, errors=errors, options=options)

    def __len__(self) -> int:
        return len(self._samples.keys)

    def __getitem__(self, index: int) -> Any:
        """The sample at a position; from the end if it is negative."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples at these positions, looked up together: what a DataLoader calls for a batch."""
        samples = self._samples
        length = len(self)
        positions = []
        for index in indices:
            position = operator.index(index)
            if not -length <= position < length:
                raise IndexError(f"position {position} of {length} samples")
            positions.append(position % length)
        distinct = list(dict.fromkeys(positions))
        with closing(samples.at(distinct, ordered=False)) as found:  # type: ignore[type-var]
            blobs = {distinct[number]: blob for number, blob in found}
        return [samples.sample(position, blobs[position]) for position in positions]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._samples.store!r}, {len(self)} digests)"
