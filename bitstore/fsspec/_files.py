"""Open files as fsspec's own ones are: with their size."""

from __future__ import annotations

import io
import os
from typing import Any

__all__ = ["part", "sized", "switch"]

_BUFFER = 1024 * 1024  # bytes that a read asks for at least


class SizedReader(io.BufferedReader):
    """A binary file that tells its size, which callers of fsspec ask for.

    Attributes
    ----------
    size
        Bytes.
    """

    def __init__(self, raw: Any, size: int) -> None:
        super().__init__(raw, _BUFFER)
        self.size = size


def switch(name: str, value: Any, *, or_none: bool = False) -> Any:
    """An option that is on or off, also as a text of a configuration of fsspec. ValueError for anything else."""
    if isinstance(value, bool) or (or_none and value is None):
        return value
    on = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
    if on is None:
        raise ValueError(f"{name} is True or False, not {value!r}")
    return on


def part(file: Any, start: int | None, end: int | None) -> bytes:
    """The bytes of the file from `start` up to `end`; negative ones count from its end."""
    first, last, _ = slice(start, end).indices(file.seek(0, os.SEEK_END))
    file.seek(first)
    data: bytes = file.read(max(0, last - first))
    return data


def sized(file: Any) -> Any:
    """The file with an attribute `size`, at its beginning. A file of a user's store stays as it is."""
    if not isinstance(file, (io.BufferedReader, io.BytesIO)):
        return file
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return SizedReader(file.detach() if isinstance(file, io.BufferedReader) else file, size)
