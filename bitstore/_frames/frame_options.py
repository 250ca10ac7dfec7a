"""The options of all that adds blobs to tables."""

from __future__ import annotations

from typing import TypedDict

from bitstore._frames.row_answer import RowErrors

__all__ = ["FrameOptions"]


class FrameOptions(TypedDict, total=False):
    """The keywords of `get_frame`."""

    errors: RowErrors
    data_column: str
    source_column: str
    error_column: str
    kind_column: str | None
    timeout: float | None
    in_flight: int | None
    max_bytes: int | str
    patience: float
