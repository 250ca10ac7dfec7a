"""The bytes of a blob that comes in parts."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

from bitstore._transport.native.choice import chosen
from bitstore.steps import Room

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Whole"]


class Whole:
    """A blob of `size` bytes, of which parts are put into their places, one behind the other.

    With the native transport parts may be received in their places, so that none is copied.
    """

    def __init__(self, size: int) -> None:
        self._buffer = io.BytesIO()  # gives its memory away as it is
        self._memory: bytes | None = None
        if (core := _native()) is not None:
            # The size is what a server says, and may be anything.
            with contextlib.suppress(MemoryError, OverflowError):
                self._memory = core.memory(size)

    @property
    def in_place(self) -> bool:
        """Whether its memory is there from the beginning."""
        return self._memory is not None

    def room(self, start: int) -> Room | None:
        """Where a transport may receive the part that begins at `start`."""
        return None if self._memory is None else Room(self._memory, start)

    def put(self, start: int, part: bytes | memoryview) -> memoryview | None:
        """Take the next part, which begins at `start`; returns it where it is now, if it stays there."""
        core = _native()
        if core is None or self._memory is None:
            self._buffer.write(part)
            return None
        if isinstance(part, memoryview):  # it was received in its place
            return part
        core.copy(self._memory, start, part)
        return memoryview(self._memory)[start : start + len(part)]

    def bytes(self) -> bytes:
        """All of it."""
        return self._buffer.getvalue() if self._memory is None else self._memory


@cache
def _native() -> ModuleType | None:
    """The native transport's module, where that transport is used."""
    # Debug allocators write to all that they give, however large a server says that the blob is.
    if not chosen() or sys.flags.dev_mode or os.environ.get("PYTHONMALLOC", "").endswith("debug"):
        return None
    from bitstore._transport.native import _core

    return _core
