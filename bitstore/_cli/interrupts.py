"""Ctrl-C and SIGTERM: they stop a run between two blobs, never within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered, the signals raise `KeyboardInterrupt`, but inside `shield` only at its end.

    Attributes
    ----------
    signal
        Number of the first signal that came; None: none did.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._shielded = False
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """Run the body to its end, whatever signal comes."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self.signal is not None:
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """From now on signals are only noted: what is left to do is short and must be done."""
        self._shielded = True

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        if not self._shielded:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell sets it for jobs in the background
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
