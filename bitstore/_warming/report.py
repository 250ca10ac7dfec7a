"""What a warming says at its end."""

from __future__ import annotations

from dataclasses import dataclass

from bitstore._warming.outcome import Outcome
from bitstore._warming.tally import Tally

__all__ = ["Listed", "WarmReport"]


@dataclass(kw_only=True)
class Listed(Tally):
    """The counts while a list is read, before anything is asked for.

    Attributes
    ----------
    given
        Entries that were read.
    expected
        About how many there are; None: unknown.
    """

    given: int = 0
    expected: int | None = None

    @property
    def asked(self) -> int:
        """How many entries were read."""
        return self.given

    @property
    def total(self) -> int | None:
        """About how many entries there are; None: unknown."""
        return self.expected


@dataclass(kw_only=True)
class WarmReport(Tally):
    """The counts of a warming; `str` of it is a text for people.

    Attributes
    ----------
    target
        What was filled.
    dry_run
        Nothing was filled: `found` counts what would be fetched, and `by_tier` tells from where.
    given, distinct
        Digests in the list, and different ones among them.
    settled, known_missing
        Distinct digests that the ledger knows as found, and as missing. They are not asked for.
    indexed
        Distinct digests that the indexes of the caches have. They are not asked for, where indexes are trusted.
    warm
        In a dry run: digests that the caches hold already.
    ledger
        The path of the ledger; None: there is none.
    since
        Which part of the list was read, in words; None: all of it.
    complete
        Whether all was asked.

    The other counts are those of every run: `found`, `missing`, `failed`, `invalid`, `by_tier`, `bytes`, `seconds`,
    `stopped` (why not all was asked), `causes` (why the failed ones failed).
    """

    target: str
    dry_run: bool = False
    given: int = 0
    distinct: int = 0
    settled: int = 0
    known_missing: int = 0
    indexed: int = 0
    warm: int = 0
    ledger: str | None = None
    since: str | None = None
    complete: bool = False

    @property
    def done(self) -> int:
        """How many of the distinct digests are dealt with, earlier or in this run."""
        return self.settled + self.known_missing + self.indexed + self.asked + self.warm

    @property
    def total(self) -> int:
        """How many distinct digests there are."""
        return self.distinct

    @property
    def first_error(self) -> str | None:
        """Why the first of the failed ones failed."""
        return self.causes.first()

    @property
    def exit_code(self) -> int:
        """0: all is warm; 1: some are missing, or were no digests; 2: some failed, or not all was asked."""
        if self.failed or not self.complete:
            return 2
        return 1 if self.missing or self.known_missing or self.invalid else 0

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        if outcome.kind == "warm":
            self.warm += 1
            self.causes.answered()
        else:
            super().count(outcome)

    def __str__(self) -> str:
        lines = [f"{self.given:,} entries, {self.distinct:,} different digests"]
        if self.since is not None:
            lines.append(f"  {self.since}")
        if known := self.settled + self.known_missing:
            missing = f" ({self.known_missing:,} as missing)" if self.known_missing else ""
            lines.append(f"  {known:,} of them known by the ledger{missing}, and not asked for again")
        tiers = [f"  {name}: {count:,}" for name, count in sorted(self.by_tier.items(), key=lambda item: -item[1])]
        if self.indexed:
            lines.append(f"  {self.indexed:,} of them in the indexes of the caches, and not asked for")
        if self.dry_run:
            lines += [f"already warm: {self.warm:,}", f"would be fetched: {self.found:,}", *tiers]
        else:
            moved = f"{self.bytes / 1e6:,.1f} MB in {self.seconds:.1f} s, {self.rate}"
            lines += [f"warm now: {self.found:,} ({moved}), from", *tiers]
        lines += [f"missing: {self.missing:,}", f"failed: {self.failed:,}", *self.causes.lines()]
        lines.append(f"not a digest: {self.invalid:,}")
        if self.stopped is not None:
            lines.append(f"stopped because: {self.stopped}")
        if self.ledger is not None and not self.dry_run:
            lines.append(f"ledger: {self.ledger}")
        if (advice := self.advice) is not None:
            lines.append(advice)
        return "\n".join(lines)

    @property
    def advice(self) -> str | None:
        """How to go on, where there is something left."""
        if self.dry_run or not (self.failed or not self.complete):
            return None
        if self.ledger is None:
            return "The same again resumes from what the caches hold by now (a ledger would save asking them)."
        return "The same again, with this ledger, resumes from here: what it knows as found is not asked for again."
