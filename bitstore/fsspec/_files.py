"""Open files as fsspec's own ones are: with their size."""

from __future__ import annotations

import io
import os
from typing import Any

__all__ = ["sized"]

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


def sized(file: Any) -> Any:
    """The file with an attribute `size`, at its beginning. A file of a user's store stays as it is."""
    if not isinstance(file, (io.BufferedReader, io.BytesIO)):
        return file
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return SizedReader(file.detach() if isinstance(file, io.BufferedReader) else file, size)
