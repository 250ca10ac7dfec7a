"""The answer of a batch lookup."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from bitstore._support.redact import redact, redact_url, text_of
from bitstore.errors import NotFoundInStore, portable

__all__ = ["Blob"]

_COLUMNS = ("index", "uri", "data", "source", "error")


class Blob(Mapping[str, Any]):
    """What became of one input of `get_many`.

    A blob is also a mapping of these names to plain values, its error to a text: so `dict(blob)` is a row of a table,
    and `pandas.DataFrame(store.get_many(uris))` a table that can be written to Parquet.

    Parameters
    ----------
    index
        Position of the input, from 0.
    uri
        The input, as the caller wrote it.
    data
        The bytes; None unless found. What a user's own store returned instead of bytes passes as it is.
    source
        Name of the store or tier that had it; None unless found.
    error
        None if found; a `NotFoundInStore` if the blob is missing; any other error if we do not know.
    """

    __slots__ = _COLUMNS
    __match_args__ = ("index", "uri", "data", "source", "error")

    index: int
    uri: Any
    data: bytes | None
    source: str | None
    error: Exception | None

    def __init__(
        self,
        index: int,
        uri: Any,
        data: bytes | None = None,
        source: str | None = None,
        error: Exception | None = None,
    ) -> None:
        self.index = index
        self.uri = uri
        self.data = data
        self.source = source
        self.error = error

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

    def as_dict(self) -> dict[str, Any]:
        """The values by name, the error as a text that begins with its class."""
        return dict(self)

    def as_json(self) -> str:
        """The values as a JSON object: bytes in base64 (RFC 4648), what else JSON does not know as text."""
        return json.dumps(dict(self), default=_json_value)

    def __getitem__(self, name: str) -> Any:
        if name not in _COLUMNS:
            raise KeyError(name)
        value = getattr(self, name)
        return f"{type(value).__name__}: {redact(text_of(value))}" if name == "error" and value is not None else value

    def __iter__(self) -> Iterator[str]:
        return iter(_COLUMNS)

    def __len__(self) -> int:
        return len(_COLUMNS)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Blob):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _COLUMNS)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        error = None if self.error is None else portable(self.source or "the store", self.error)
        return Blob, (self.index, self.uri, self.data, self.source, error)

    def __repr__(self) -> str:
        data: Any = self.data
        what = f"{len(data)} bytes from {self.source}" if isinstance(data, bytes) else redact(repr(self.error))
        try:
            uri = repr(self.uri)
        except Exception:  # an object of the caller
            uri = object.__repr__(self.uri)
        return f"Blob({self.index}, {redact_url(uri)}, {what})"


def _json_value(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    return text_of(value)
