"""The file in which processes leave what they have learned of sources for later ones.

It is JSON. A process reads it once, and when it ends adds what it has counted itself. Of two processes that end at the
same moment, one may be forgotten: these are statistics. The file is whole at any time.
"""

from __future__ import annotations

import atexit
import json
import logging
import stat
import threading
from pathlib import Path
from typing import Any, Final

from bitstore._support.atomic import write_whole
from bitstore._support.once import warn_once
from bitstore._support.per_process import PerProcess
from bitstore._tiers.learned import Learned, SourceCounts, read
from bitstore.errors import described

__all__ = ["kept_in"]

logger = logging.getLogger("bitstore")

_FORMAT: Final = "bitstore learned order 1"
_MOST_BYTES: Final = 64 << 20


class _Kept:
    """What one process learns for files."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # By the absolute path: composites that name the same file learn together.
        self.files: dict[str, Learned] = {}


_kept: PerProcess[_Kept] = PerProcess()


def kept_in(path: str) -> Learned:
    """What this process learns, beginning with what is in the file at `path`; it goes there when the process ends."""
    place = str(Path(path).absolute())
    kept = _kept.get() or _kept.set_once(_Kept())
    with kept.lock:
        if place not in kept.files:
            learned = kept.files[place] = Learned()
            try:
                learned.hear([_cohorts(Path(place))], "file")
            except (OSError, ValueError) as error:
                _warn(place, "is not used, and will not be written", error)
                learned.is_saved = False
        return kept.files[place]


def _cohorts(path: Path) -> Any:
    """What is in the file; nothing where there is none. ValueError: it is not such a file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe may wait for ever
            raise ValueError("it is no file")
        if status.st_size > _MOST_BYTES:
            raise ValueError("it is too large for a learned order")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except RecursionError:
        raise ValueError("it is no learned order") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError("it is no learned order of this version")
    read(content.get("cohorts"))
    return content["cohorts"]


@atexit.register
def _save_all() -> None:
    kept = _kept.get()
    while kept is not None and kept.files:
        place, learned = kept.files.popitem()
        own = learned.export()
        if learned.is_saved and own:
            try:
                _save(Path(place), own)
            except (OSError, ValueError) as error:
                _warn(place, "could not be written", error)


def _save(path: Path, own: dict[str, dict[str, dict[str, int | float]]]) -> None:
    whole = Learned()
    whole.hear([_cohorts(path), own], "both")
    told: dict[str, dict[str, dict[str, int | float]]] = {}
    for name in whole.names():
        cohort = whole.cohort(name)
        table: dict[str, SourceCounts] = {source: cohort.both(source) for source in cohort.sources()}
        most = max((counts.lookups for counts in table.values()), default=0)
        for counts in table.values():
            counts.scale(min(1.0, Learned.FULL / max(1, most)))
        told[name] = {source: counts.as_dict() for source, counts in table.items()}
    write_whole(path, json.dumps({"format": _FORMAT, "cohorts": told}, indent=1).encode())


def _warn(place: str, what: str, error: Exception) -> None:
    text = "the learned order %s %s: %s"
    warn_once(logger, ("learned order", place, type(error)), text, place, what, described(error))
