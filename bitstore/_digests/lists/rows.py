"""What the readers of all list formats share: a row, a value that cannot be read, and an error of the whole list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from bitstore.errors import BitstoreError

__all__ = ["LONGEST", "ListError", "Refused", "Row", "Rows"]

LONGEST = 65536  # characters of a line; a file that is no list may be one endless line


class ListError(BitstoreError, ValueError):
    """A list of digests cannot be read."""


class Refused(NamedTuple):
    """Stands for the value of a row that has the wrong form."""

    # What is wrong, for people.
    reason: str


class Row(NamedTuple):
    """One line, record or table row of a list, before it is known which algorithm the list has."""

    # Number of the line or row, from 1.
    number: int
    # What the row holds, for people.
    text: str
    # What `Algorithm.read` takes, or `Refused`.
    value: Any


Rows: TypeAlias = Iterator[Row]
