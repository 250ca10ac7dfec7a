"""The answer to one row: its blob, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bitstore._support.digests import as_text
from bitstore._support.redact import redact_url
from bitstore.blob import Blob
from bitstore.errors import InvalidDataFound, InvalidURI, LookupFailed, NotFoundInStore, StoreNotAvailable, described

__all__ = ["RowAnswer", "RowErrors", "answer_of", "kind_of"]

# What is done with a row that gets no blob: it says why, or its error is raised.
RowErrors: TypeAlias = Literal["return", "raise"]

_LONGEST_KEY = 200  # characters of a key in an error's text


@dataclass(slots=True)
class RowAnswer:
    """What goes into the new columns of one row."""

    # The blob (from a node store: a part of the piece in which it came), and the name of the store or tier that had it;
    # None unless found.
    data: bytes | memoryview | None = None
    source: str | None = None
    # Why there is no blob, as an error and as the text of the row's error column; None if found.
    error: Exception | None = None
    text: str | None = None

    @classmethod
    def without_blob(cls, kind: Literal["missing", "failed", "invalid"], key: Any, error: Exception) -> RowAnswer:
        """The answer to a row that gets no blob: `<kind>: <key>: <reason>`."""
        shown = as_text(key)
        shown = redact_url(repr(key) if shown is None else shown)[:_LONGEST_KEY]
        reason = _reason(kind, error)
        text = f"{kind}: {reason}" if reason.startswith(shown) else f"{kind}: {shown}: {reason}"
        # A column of text holds no lone surrogates.
        return cls(error=error, text=text.encode("utf-8", "backslashreplace").decode())

    @property
    def size(self) -> int:
        """Bytes of the blob."""
        return len(self.data) if self.data is not None else 0


def answer_of(blob: Blob) -> RowAnswer:
    """The answer that a lookup gave."""
    error, data = blob.error, blob.data
    if error is not None:
        kind: Literal["missing", "invalid", "failed"] = "failed"
        if isinstance(error, NotFoundInStore):
            kind = "missing"
        elif isinstance(error, InvalidURI):
            kind = "invalid"
        return RowAnswer.without_blob(kind, blob.uri, error)
    source = str(blob.source)
    if type(data) is bytes:
        return RowAnswer(data, source)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return RowAnswer(bytes(data), source)
    wrong = StoreNotAvailable(source, f"it returned {type(data).__name__}, not bytes")
    return RowAnswer.without_blob("failed", blob.uri, wrong)


def kind_of(text: str | None) -> str | None:
    """The word that the text of a row's error begins with: `missing`, `failed` or `invalid`; None without an error."""
    return None if text is None else text.partition(":")[0]


def _reason(kind: str, error: Exception) -> str:
    # Millions of rows may carry this text, so a composite stands in it by its name, without all its tiers.
    if type(error) in (NotFoundInStore, InvalidDataFound):
        store: Any = getattr(error, "store", None)
        name = store if isinstance(store, str) else getattr(store, "label", type(store).__name__)
        invalid = error.reason if isinstance(error, InvalidDataFound) else None
        return f"missing in {name}" if invalid is None else f"invalid data: {invalid} (in {name})"
    if isinstance(error, LookupFailed) and error.reason:
        return error.reason
    return str(error) if kind == "invalid" else described(error)
