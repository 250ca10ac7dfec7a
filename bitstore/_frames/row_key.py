"""What a row asks for: the value of its column of digests as a key, or the error of that row."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from bitstore._frames.row_answer import RowAnswer
from bitstore._support.digests import is_null
from bitstore.errors import InvalidURI

__all__ = ["row_key"]


def row_key(store: Any, column: str, value: Any) -> Any:
    """What rows that ask for the same blob share.

    Parameters
    ----------
    store
        The store that is asked.
    column
        Name of the column, for errors.
    value
        What the row has in that column.

    Returns
    -------
    Hashable
        The digest or URL in its canonical form; a `RowAnswer` where the row names no blob.
    """
    if is_null(value):
        return RowAnswer.without_blob("invalid", "null", ValueError(f"column '{column}' has no digest here"))
    if not isinstance(value, str) and not isinstance(getattr(store, "algorithm", None), str):
        if not isinstance(value, bytes):  # only stores of digests know raw bytes
            wrong = TypeError(f"column '{column}' must hold text here, not {type(value).__name__}")
            return RowAnswer.without_blob("invalid", value, wrong)
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return RowAnswer.without_blob("invalid", value, ValueError(f"column '{column}' is not UTF-8 here"))
    canonical = getattr(store, "canonical", None)
    if canonical is None:
        return value
    try:
        key = canonical(value)
    except (InvalidURI, TypeError, ValueError) as error:
        return RowAnswer.without_blob("invalid", value, error)
    except Exception as error:  # a user's own store may fail in any way, and fails this row only
        return RowAnswer.without_blob("failed", value, error)
    return key if type(key) is str or isinstance(key, Hashable) else value
