"""Arrow columns of digests: which types can hold them, and their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

__all__ = ["column_values", "holds_digests"]

# Names of the types, because older releases of Arrow lack some of them.
_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary", "null")


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
