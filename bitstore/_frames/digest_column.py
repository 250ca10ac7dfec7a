"""Which column of a table has the digests, which Arrow types may hold them, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bitstore._support.digests import ALGORITHMS

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "check_column",
    "check_digest_type",
    "check_name",
    "column_values",
    "guessed_column",
    "holds_digests",
    "no_digests",
    "plain_name",
    "quoted",
]

# Names of the types, because older releases of Arrow lack some of them.
_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary", "null")


def check_column(column: Any, names: Sequence[Any]) -> None:
    """Raise ValueError unless exactly one of the columns with these names is called `column`."""
    count = list(names).count(column)
    if not count:
        raise ValueError(f"there is no column '{column}'; there are {quoted(names)}")
    if count > 1:
        raise ValueError(f"{count} columns are called '{column}': rename all but one; there are {quoted(names)}")


def check_name(name: Any) -> None:
    """Raise TypeError unless `name` can be the name of a column."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"a column is named by a non-empty str, not by {name!r}")


def quoted(names: Sequence[Any]) -> str:
    """The names of columns, for a message."""
    return ", ".join(f"'{name}'" for name in names) or "no columns"


def guessed_column(names: Sequence[Any], algorithm: str | None) -> list[str]:
    """The columns that by their name hold digests.

    Parameters
    ----------
    names
        All columns of the table.
    algorithm
        Name of the algorithm, if it is known.

    Returns
    -------
    list
        Those called like the algorithm (any of them, if it is not known), or else those called `digest` and `hash`.
        Upper case, blanks and dashes make no difference.
    """
    for guesses in ([algorithm] if algorithm else [*ALGORITHMS], ["digest", "hash"]):
        found = [name for name in names if isinstance(name, str) and plain_name(name) in guesses]
        if found:
            return found
    return []


def plain_name(name: str) -> str:
    """The name of a column without what people write in different ways: case, blanks, dashes, underscores."""
    return "".join(name.lower().replace("-", "").replace("_", "").split())


def check_digest_type(column: Any, dtype: pyarrow.DataType) -> None:
    """Raise TypeError unless a column of this type can hold digests, or Python objects (an extension type of Ray)."""
    import pyarrow

    if not (isinstance(dtype, pyarrow.BaseExtensionType) or holds_digests(dtype)):
        raise no_digests(column, dtype)


def no_digests(column: Any, dtype: object) -> TypeError:
    """The error for a column whose type cannot hold digests."""
    return TypeError(f"column '{column}' has the type {dtype}, but it must hold digests: text or bytes")


def holds_digests(dtype: pyarrow.DataType) -> bool:
    """Whether a column of this type may hold digests: text or bytes, also dictionary-encoded, or nothing but nulls."""
    from pyarrow import types

    if types.is_dictionary(dtype) or getattr(types, "is_run_end_encoded", types.is_dictionary)(dtype):
        dtype = dtype.value_type
    return any(getattr(types, f"is_{name}", types.is_null)(dtype) for name in _TYPES)


def column_values(column: pyarrow.Array | pyarrow.ChunkedArray) -> list[Any]:
    """The values of a column that `holds_digests`: str, bytes or None. Text that is not UTF-8 comes as bytes."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        import pyarrow

        texts: list[Any] = column.cast(pyarrow.large_binary()).to_pylist()
        return [None if text is None else _decoded(text) for text in texts]


def _decoded(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text
