"""What a person sees while a run goes on: a bar, and each kind of warning once."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Once", "Progress"]

_PAUSE = 0.2  # seconds between two looks of the bar


class Progress:
    """A progress bar on a terminal; warnings of the library above it.

    Parameters
    ----------
    total
        How many there will be; None: unknown.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._handler = Once(self.say)
        self._bar: Any = None
        self._bytes = 0
        self._started = self._shown = time.monotonic()

    def advance(self, size: int = 0) -> None:
        """One more is done, of `size` bytes."""
        if self._bar is None:
            return
        self._bytes += size
        now = time.monotonic()
        if now - self._shown > _PAUSE:
            self._shown = now
            rate = self._bytes / 1e6 / max(now - self._started, 1e-9)
            self._bar.set_postfix_str(f"{rate:.1f} MB/s", refresh=False)
        self._bar.update()

    def say(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.write(line, file=sys.stderr)

    def __enter__(self) -> Self:
        logging.getLogger("bitstore").addHandler(self._handler)
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:  # a bar is a comfort, not a need
                return self
            self._bar = tqdm(total=self._total, unit=" blobs", file=sys.stderr, dynamic_ncols=True, mininterval=_PAUSE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        logging.getLogger("bitstore").removeHandler(self._handler)
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Once(logging.Handler):
    """Shows the first warning of each kind: one broken bucket must not fill the screen.

    Parameters
    ----------
    say
        What shows a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, if it is the first of its kind."""
        kind = str(record.msg)  # the text before its arguments are filled in
        if kind not in self._seen:
            self._seen.add(kind)
            self._say(f"{record.levelname.lower()}: {record.getMessage()}")
