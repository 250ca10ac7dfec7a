"""What the sources of an index add up to while they are read, also from several threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime

__all__ = ["Reading"]


@dataclass(kw_only=True)
class Reading:
    """The counts of a build.

    Attributes
    ----------
    digests
        Digests that were read, doubles among them.
    others
        Keys or entries that are no digests.
    covers_up_to
        The earliest moment from which a source may have got what was not read; None: nothing was read yet.
    total
        About how many entries there are; None: unknown.
    """

    digests: int = 0
    others: int = 0
    covers_up_to: datetime | None = None
    total: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, digests: int, others: int) -> None:
        """Count what was read."""
        with self._lock:
            self.digests += digests
            self.others += others

    def covers(self, moment: datetime) -> None:
        """Note up to which moment one more source is covered."""
        self.covers_up_to = moment if self.covers_up_to is None else min(self.covers_up_to, moment)
