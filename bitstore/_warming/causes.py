"""Why lookups fail: each cause counted once, however many digests it meets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Cause", "Causes"]

_KINDS = 1000  # causes that are told apart; others are counted together
_LONGEST = 500  # characters of a cause's text
_SHOWN = 5  # causes in a summary
_OTHER = "other causes"

# What differs between two failures of one kind: keys, paths, request ids, times, amounts.
_PATH = re.compile(r"\b(\w+://[^/\s'\"]*)/[^\s'\"]*")
_MISSING = re.compile(r" \(missing in [^()]*\)$")
_TOKEN = re.compile(r"(?=[\w+/=-]*[0-9])[\w+/=-]{16,}")
_TIME = re.compile(r"[0-9]+(?:[.:][0-9]+)+")
_AMOUNT = re.compile(r"\b[0-9][0-9,]*(?= (?:m?s|bytes?|of)\b)|(?:(?<=\bof )|(?<=\bgot ))[0-9][0-9,]*\b")
# What a tier that is left alone says around the error that it is left alone for.
_NAME = r"(?:[^()]|\([^()]*\))+"
_REPEATED = re.compile(rf"left alone for now, after repeated failures: (.*?) \({_NAME} is not available\)(?=;|$)")


class Cause(NamedTuple):
    """One cause of failures."""

    # Failures so far.
    failures: int
    # The error of the first of them.
    error: str
    # The digest of the first of them.
    digest: str


@dataclass
class Causes:
    """The causes of a run's failures, and how many failures of one cause have come in a row."""

    # By the error without what differs between two failures of one kind.
    _by_kind: dict[str, Cause] = field(default_factory=dict)
    _last: str | None = None
    # Failures of one cause since the last answer of another kind.
    row: int = 0
    # What a budget has said, after which no lookup that costs anything is worth beginning; None: nothing.
    used_up: str | None = None

    def add(self, digest: str, error: str, used_up: str | None = None) -> None:
        """Count a failure."""
        self.used_up = self.used_up or used_up
        kind = _kind(error)
        self.row = self.row + 1 if kind == self._last else 1
        self._last = kind
        if kind not in self._by_kind and len(self._by_kind) >= _KINDS:
            kind, error = _OTHER, _OTHER
        known = self._by_kind.get(kind)
        if known is None:
            self._by_kind[kind] = Cause(1, error if len(error) <= _LONGEST else f"{error[: _LONGEST - 3]}...", digest)
        else:
            self._by_kind[kind] = known._replace(failures=known.failures + 1)

    def answered(self) -> None:
        """End the row: a lookup has brought a blob, or the answer that there is none."""
        self.row, self._last = 0, None

    def stop(self, most: int | None) -> str | None:
        """Why a run ends that allows `most` failures of one cause in a row; None: it goes on."""
        if self.used_up is not None:
            return self.used_up
        if not most or self.row < most:
            return None
        cause = self._by_kind.get(self._last or "", Cause(0, _OTHER, ""))
        return f"{self.row:,} lookups in a row failed for one cause: {cause.error} (max_failures={most})"

    def first(self) -> str | None:
        """The error of the first failure; None: there was no failure."""
        return next((cause.error for cause in self._by_kind.values()), None)

    def __iter__(self) -> Iterator[Cause]:
        """The causes, the most frequent first."""
        return iter(sorted(self._by_kind.values(), key=lambda cause: -cause.failures))

    def lines(self) -> list[str]:
        """The most frequent causes as lines of a summary: count, error, first digest."""
        causes = list(self)
        lines = [f"  {cause.failures:,} x {cause.error} (the first: {cause.digest})" for cause in causes[:_SHOWN]]
        if rest := causes[_SHOWN:]:
            lines.append(f"  {sum(cause.failures for cause in rest):,} of {len(rest):,} other causes")
        return lines


def _kind(error: str) -> str:
    text = _PATH.sub(r"\1/<key>", _REPEATED.sub(r"\1", _MISSING.sub("", error)))
    return _AMOUNT.sub("#", _TIME.sub("#", _TOKEN.sub("<token>", text)))
