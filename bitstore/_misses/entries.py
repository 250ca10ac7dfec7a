"""What a ledger of misses records."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

__all__ = ["COLUMNS", "EVERY", "Entry", "Miss", "MissSource", "SourceName", "day_of", "moment"]

EVERY = b""  # the digest of a void that means all of its source


class SourceName(NamedTuple):
    """What tells the sources of a ledger apart."""

    # The name that its user has chosen.
    name: str
    # The algorithm of its digests.
    algorithm: str


class Entry(NamedTuple):
    """A record of one source: a miss, or a void where there is no reason."""

    source: SourceName
    # The raw digest; `EVERY`: all of the source.
    digest: bytes
    # A miss: when the question began. A void: misses up to then do not count. Microseconds since 1970.
    at: int
    # How it is known; None: the record is a void.
    reason: str | None


class Miss(NamedTuple):
    """A miss that a ledger knows.

    Attributes
    ----------
    source
        Name of the source.
    algorithm, digest
        The blob that it lacks.
    at
        When the source was asked (UTC).
    reason
        How it is known, such as `"answered get"`.
    expired
        Its lifetime is over: a lookup asks the source again.
    """

    source: str
    algorithm: str
    digest: str
    at: datetime
    reason: str
    expired: bool

    def as_dict(self) -> dict[str, Any]:
        """The values by name; the time as text (ISO 8601)."""
        return {**self._asdict(), "at": self.at.isoformat()}


COLUMNS = tuple(Miss.__annotations__)
"""Names of what a miss consists of."""


class MissSource(NamedTuple):
    """What a ledger knows of one source.

    Attributes
    ----------
    name, algorithm
        What tells it from others.
    place
        What kind of source it is, and where.
    lifetime
        Seconds for which its misses count, as the last store that used the ledger has it.
    misses
        How many misses are known.
    expired
        How many of them do not count any longer.
    first, last
        When the source was asked for the oldest and for the newest of them (UTC); None: there are none.
    """

    name: str
    algorithm: str
    place: str
    lifetime: float
    misses: int
    expired: int
    first: datetime | None
    last: datetime | None


def moment(at: int) -> datetime:
    """A time in microseconds since 1970 as a time in UTC."""
    try:
        return datetime.fromtimestamp(at / 1_000_000, timezone.utc)
    except (OverflowError, ValueError, OSError):  # a clock that was far off, or damage
        return datetime.fromtimestamp(0, timezone.utc)


def day_of(at: int) -> str:
    """The day (UTC) of a time in microseconds since 1970."""
    return moment(at).date().isoformat()
