"""What a person sees while a run goes on: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from bitstore._warming.tally import Tally

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Progress"]

logger = logging.getLogger("bitstore")

_BAR_PAUSE = 0.5  # seconds between two looks of the bar
_LINE_PAUSE = 10.0  # seconds between two lines
_LONGEST = 20  # characters of a tier's name in a bar
_BEAT = 1.0  # seconds between two looks while no answer comes


class Progress:
    """Shows how far a run has come. Lines come also while no answer does, from a thread.

    Parameters
    ----------
    name
        What the run is called in its lines, such as `fetch`.
    tally
        What is counted; it is read, not changed.
    shown
        False: show nothing.
    say
        Where lines go if there is no terminal, or no tqdm; None: to the log, at level INFO.
    unit
        What is counted.
    clock
        Seconds, from any start.
    """

    def __init__(
        self,
        name: str,
        tally: Tally,
        *,
        shown: bool = True,
        say: Callable[[str], None] | None = None,
        unit: Literal["blobs", "entries"] = "blobs",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._tally = tally
        self._shown = shown
        self._say: Callable[[str], None] = say or (lambda line: logger.info("%s", line))
        self._unit = unit
        self._clock = clock
        self._bar: Any = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._begun = self._looked = clock()

    def look(self) -> None:
        """Show what has changed, if it was not shown just now."""
        pause = _LINE_PAUSE if self._bar is None else _BAR_PAUSE
        if not self._shown or self._clock() - self._looked < pause:
            return
        with self._lock:
            now = self._clock()
            if now - self._looked < pause:
                return
            self._looked = now
            self._show(now)

    @property
    def is_open(self) -> bool:
        """Whether a bar is on the terminal."""
        return self._bar is not None

    def say(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is None:
            self._say(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def line(self, now: float) -> str:
        """How far it has come, in words."""
        tally = self._tally
        done, total = tally.done, tally.total
        rate = tally.asked / max(now - self._begun, 1e-9)
        words = [f"{done:,}", f"{rate:,.0f} {self._unit}/s", *self._details(now)]
        if total and total >= done:
            words[0] += f" of {total:,} ({100 * done // total} %)"
            if rate:
                words.append(f"{_duration((total - done) / rate)} left")
        return f"{self._name}: " + ", ".join(words)

    def _details(self, now: float) -> list[str]:
        tally = self._tally
        if self._unit != "blobs":
            return []
        rate = f"{tally.bytes / 1e6 / max(now - self._begun, 1e-9):,.1f} MB/s"
        hits = list(tally.by_tier.items())
        lacks = [f"{name}: {count:,}" for name in ("missing", "failed") if (count := getattr(tally, name))]
        if self._bar is None:
            return [rate, *(f"{name}: {count:,}" for name, count in hits), *lacks]
        # What does not fit into the terminal's line is cut off at its end.
        return [rate, *reversed(lacks), *(f"{_brief(name)}: {count:,}" for name, count in hits)]

    def _show(self, now: float) -> None:
        if self._bar is None:
            self._say(self.line(now))
            return
        self._bar.set_postfix_str(", ".join(self._details(now)), refresh=False)
        self._bar.update(self._tally.done - self._bar.n)

    def _watch(self) -> None:
        while not self._over.wait(_BEAT):
            self.look()

    def __enter__(self) -> Self:
        self._begun = self._looked = self._clock()
        if self._shown:
            self._bar = self._new_bar()
            self._thread = threading.Thread(target=self._watch, name="bitstore-progress", daemon=True)
            self._thread.start()
        return self

    def _new_bar(self) -> Any:
        if sys.stderr is None or not sys.stderr.isatty():
            return None
        try:
            from tqdm import tqdm
        except ImportError:  # a bar is a comfort, not a need
            return None
        # The rate and the time left are those of the digests that are asked for.
        return tqdm(
            total=self._tally.total, initial=self._tally.done, unit=f" {self._unit}", file=sys.stderr,
            dynamic_ncols=True, mininterval=_BAR_PAUSE, leave=self._unit == "blobs",
        )  # fmt: skip

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._bar is not None:
            self._show(self._clock())
            self._bar.close()
            self._bar = None


def _brief(name: str) -> str:
    """The name of a tier without its scheme, and with its middle left out where it is long."""
    name = name.partition("://")[2] or name
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[1 - _LONGEST // 2 :]}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
