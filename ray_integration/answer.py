"""What a row is told: its blob, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitstore._support.redact import redact_url
from bitstore.blob import Blob
from bitstore.errors import InvalidURI, LookupFailed, NotFoundInStore, described

__all__ = ["Answer", "answer_of"]


@dataclass(slots=True)
class Answer:
    """What goes into the new columns of one row.

    Attributes
    ----------
    data, source
        The blob and where it was found; None unless found.
    error
        Why there is no blob; None if found.
    told
        The same as the text that the row gets; `FetchBlobs` documents its form.
    """

    data: bytes | None = None
    source: str | None = None
    error: Exception | None = None
    told: str | None = None

    @classmethod
    def without_blob(cls, kind: Literal["missing", "failed", "invalid"], error: Exception) -> Answer:
        """The answer to a row that gets no blob."""
        return cls(error=error, told=f"{kind}: {_text(error, kind)}")

    @property
    def size(self) -> int:
        """Bytes of the blob."""
        return len(self.data) if self.data is not None else 0


def answer_of(blob: Blob) -> Answer:
    """The answer that a lookup gave."""
    error, data = blob.error, blob.data
    if isinstance(error, NotFoundInStore):
        return Answer.without_blob("missing", error)
    if isinstance(error, InvalidURI):
        return Answer.without_blob("invalid", error)
    if error is not None:
        return Answer.without_blob("failed", error)
    source = str(blob.source)
    if type(data) is bytes:
        return Answer(data, source)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return Answer(bytes(data), source)
    wrong = TypeError(f"{source} returned {type(data).__name__} for '{redact_url(str(blob.uri))}', not bytes")
    return Answer.without_blob("failed", wrong)


def _text(error: Exception, kind: str) -> str:
    # Millions of rows may carry this: a composite is told by its name, not with all its tiers, in each of them.
    if type(error) is NotFoundInStore:
        store = error.store
        name = store if isinstance(store, str) else getattr(store, "label", type(store).__name__)
        return f"{name} does not contain '{redact_url(str(error.uri))}'"
    if isinstance(error, LookupFailed) and error.reason:
        return error.reason
    return described(error) if kind == "failed" else str(error)
