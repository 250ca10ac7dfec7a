"""Which Arrow columns of a dataset may hold digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitstore._digests.columns import holds_digests

if TYPE_CHECKING:
    import pyarrow

__all__ = ["check_digest_type", "no_digests"]


def check_digest_type(column: str, dtype: pyarrow.DataType) -> None:
    """Raise TypeError unless a column of this type can hold digests, or Python objects (an extension type of Ray)."""
    import pyarrow

    if not (isinstance(dtype, pyarrow.BaseExtensionType) or holds_digests(dtype)):
        raise no_digests(column, dtype)


def no_digests(column: str, dtype: object) -> TypeError:
    """The error for a column whose type cannot hold digests."""
    return TypeError(f"column '{column}' has the type {dtype}, but it must hold digests: text or bytes")
