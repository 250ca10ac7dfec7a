"""What one tier says about where a blob is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Location"]


@dataclass(frozen=True, kw_only=True)
class Location:
    """What one tier says about a blob, without the bytes: one answer of `Store.locate`.

    Attributes
    ----------
    tier
        Name of the tier; of a composite within a composite `outer > inner`.
    state
        `"held"`: something lies under the key (its bytes are not looked at); `"missing"`: the tier says that it does
        not hold the blob; `"failed"`: it could not say; `"not asked"`: it costs money or quota, or takes no such key.
    url
        Where the blob lies, without passwords and signatures; None unless held, or without an address.
    size
        Bytes as they are stored (compressed, where they are); None: unknown.
    etag
        The ETag, as the service names it; None: it names none.
    encoding
        The `Content-Encoding` of the object; None: it has none.
    compression
        The codec in which the tier expands what it holds; None: it expands nothing.
    why
        Why a tier failed or was not asked, or how it knows an absence for which it was not asked just now, in words;
        None: it was asked, and answered.
    error
        The exception of a tier that failed; None: it did not fail.
    """

    tier: str
    state: Literal["held", "missing", "failed", "not asked"]
    url: str | None = None
    size: int | None = None
    etag: str | None = None
    encoding: str | None = None
    compression: str | None = None
    why: str | None = None
    error: Exception | None = None

    @property
    def held(self) -> bool:
        """The tier holds the blob."""
        return self.state == "held"

    def as_dict(self) -> dict[str, Any]:
        """The values by name as plain values, without the exception, of which `why` is the text."""
        return {name: value for name, value in vars(self).items() if name != "error"}
