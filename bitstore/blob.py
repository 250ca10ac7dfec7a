"""The answer of a batch lookup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bitstore._support.redact import redact, redact_url
from bitstore.errors import NotFoundInStore

__all__ = ["Blob"]


@dataclass(slots=True)
class Blob:
    """What became of one input of `get_many`.

    Attributes
    ----------
    index
        Position of the input, from 0.
    uri
        The input, as the caller wrote it.
    data
        The bytes; None unless found.
    source
        Name of the store or tier that had it; None unless found.
    error
        None if found; a `NotFoundInStore` if the blob is missing; any other error if we do not know.
    """

    index: int
    uri: Any
    data: Any = None
    source: str | None = None
    error: Exception | None = None

    @property
    def found(self) -> bool:
        """The blob is here, in `data`."""
        return self.error is None

    @property
    def missing(self) -> bool:
        """Every store that could hold it said that it does not."""
        return isinstance(self.error, NotFoundInStore)

    @property
    def failed(self) -> bool:
        """The lookup failed: whether the blob exists is unknown."""
        return self.error is not None and not isinstance(self.error, NotFoundInStore)

    def _shown(self) -> str:
        try:
            return repr(self.uri)
        except Exception:  # an object of the caller
            return object.__repr__(self.uri)

    def __repr__(self) -> str:
        what = (
            f"{len(self.data)} bytes from {self.source}" if isinstance(self.data, bytes) else redact(repr(self.error))
        )
        return f"Blob({self.index}, {redact_url(self._shown())}, {what})"
