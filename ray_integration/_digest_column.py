"""Which column of a dataset has the digests, and which Arrow types may hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bitstore._digests.columns import holds_digests

if TYPE_CHECKING:
    import pyarrow

__all__ = ["check_column", "check_digest_type", "no_digests", "quoted"]


def check_column(column: str, names: Sequence[str]) -> None:
    """Raise ValueError unless exactly one of the columns with these names is called `column`."""
    count = list(names).count(column)
    if not count:
        raise ValueError(f"there is no column '{column}'; the dataset has {quoted(names)}")
    if count > 1:
        raise ValueError(f"{count} columns are called '{column}': rename all but one; there are {quoted(names)}")


def quoted(names: Sequence[str]) -> str:
    """The names of columns, for a message."""
    return ", ".join(f"'{name}'" for name in names) or "no columns"


def check_digest_type(column: str, dtype: pyarrow.DataType) -> None:
    """Raise TypeError unless a column of this type can hold digests, or Python objects (an extension type of Ray)."""
    import pyarrow

    if not (isinstance(dtype, pyarrow.BaseExtensionType) or holds_digests(dtype)):
        raise no_digests(column, dtype)


def no_digests(column: str, dtype: object) -> TypeError:
    """The error for a column whose type cannot hold digests."""
    return TypeError(f"column '{column}' has the type {dtype}, but it must hold digests: text or bytes")
