"""What a person sees while a warming goes on: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bitstore._warming.report import WarmReport

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WarmProgress"]

logger = logging.getLogger("bitstore")

_PAUSE = 0.5  # seconds between two looks of the bar
_LINE_PAUSE = 10.0  # and between two lines


class WarmProgress:
    """Shows how far a report has come.

    Parameters
    ----------
    report
        What is counted; it is read, not changed.
    shown
        False: show nothing.
    say
        Where lines go if there is no terminal, or no tqdm; None: to the log, at level INFO.
    """

    def __init__(self, report: WarmReport, *, shown: bool = True, say: Callable[[str], None] | None = None) -> None:
        self._report = report
        self._shown = shown
        self._say: Callable[[str], None] = say or (lambda line: logger.info("%s", line))
        self._bar: Any = None
        self._started = self._looked = time.monotonic()

    def look(self) -> None:
        """Show what has changed, if it was not shown just now."""
        now = time.monotonic()
        if not self._shown or now - self._looked < (_LINE_PAUSE if self._bar is None else _PAUSE):
            return
        self._looked = now
        self._show(now)

    def say(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is None:
            self._say(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def line(self, now: float) -> str:
        """How far it has come, in words."""
        report = self._report
        asked, left = report.done - report.settled - report.known_missing, report.distinct - report.done
        rate = asked / max(now - self._started, 1e-9)
        share = 100 * report.done // max(1, report.distinct)
        told = [f"{report.done:,} of {report.distinct:,} ({share} %)", f"{rate:,.0f} blobs/s", *self._details(now)]
        if rate:
            told.append(f"{_clock(left / rate)} left")
        return "warm: " + ", ".join(told)

    def _details(self, now: float) -> list[str]:
        report = self._report
        told = [f"{report.bytes / 1e6 / max(now - self._started, 1e-9):,.1f} MB/s"]
        told += [f"{name}: {count:,}" for name, count in report.by_tier.items()]
        return told + [f"{name}: {count:,}" for name in ("missing", "failed") if (count := getattr(report, name))]

    def _show(self, now: float) -> None:
        if self._bar is None:
            self._say(self.line(now))
            return
        self._bar.set_postfix_str(", ".join(self._details(now)), refresh=False)
        self._bar.update(self._report.done - self._bar.n)

    def __enter__(self) -> Self:
        self._started = self._looked = time.monotonic()
        if self._shown and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:  # a bar is a comfort, not a need
                return self
            # The rate and the time left are of what is asked for, not of what the ledger knows.
            self._bar = tqdm(
                total=self._report.distinct, initial=self._report.done, unit=" blobs", file=sys.stderr,
                dynamic_ncols=True, mininterval=_PAUSE,
            )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._show(time.monotonic())
            self._bar.close()
            self._bar = None


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
