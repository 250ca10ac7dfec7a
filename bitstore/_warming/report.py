"""What a warming says at its end."""

from __future__ import annotations

from dataclasses import dataclass, field

from bitstore._warming.outcome import Outcome

__all__ = ["WarmReport"]


@dataclass
class WarmReport:
    """The counts of a warming; `str` of it is a text for people.

    Attributes
    ----------
    target
        What was filled.
    dry_run
        Nothing was: `found` counts what would be fetched, and `by_tier` tells from where.
    given, distinct
        Digests in the list, and different ones among them.
    settled, known_missing
        Of the distinct ones: known by the ledger as found, and as missing, so not asked for.
    found, missing, failed
        Of the others: the caches hold it now; no store has it; it could not be looked up or kept.
    warm
        In a dry run: the caches hold it already.
    invalid
        Entries of the list that were no digests.
    by_tier
        Where the found ones were found.
    bytes
        Of the blobs that had to be moved.
    seconds
        From start to end.
    ledger
        Its path, if there is one.
    complete
        Whether all was asked.
    stopped
        Why not, where it was not an interruption.
    first_error
        Why the first of the failed ones failed.
    """

    target: str
    dry_run: bool = False
    given: int = 0
    distinct: int = 0
    settled: int = 0
    known_missing: int = 0
    found: int = 0
    missing: int = 0
    failed: int = 0
    warm: int = 0
    invalid: int = 0
    by_tier: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    ledger: str | None = None
    complete: bool = False
    stopped: str | None = None
    first_error: str | None = None

    @property
    def done(self) -> int:
        """How many of the distinct digests are dealt with, earlier or in this run."""
        return self.settled + self.known_missing + self.found + self.missing + self.failed + self.warm

    @property
    def exit_code(self) -> int:
        """0: all is warm; 1: some are missing, or were no digests; 2: some failed, or not all was asked."""
        if self.failed or not self.complete:
            return 2
        return 1 if self.missing or self.known_missing or self.invalid else 0

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        setattr(self, outcome.kind, getattr(self, outcome.kind) + 1)
        if outcome.kind == "found":
            self.by_tier[outcome.tier or ""] = self.by_tier.get(outcome.tier or "", 0) + 1
            self.bytes += outcome.size or 0
        elif outcome.kind == "failed" and self.first_error is None:
            self.first_error = outcome.error

    def __str__(self) -> str:
        lines = [f"{self.given:,} entries, {self.distinct:,} different digests"]
        if known := self.settled + self.known_missing:
            missing = f" ({self.known_missing:,} as missing)" if self.known_missing else ""
            lines.append(f"  {known:,} of them known by the ledger{missing}, and not asked for again")
        tiers = [f"  {name}: {count:,}" for name, count in sorted(self.by_tier.items(), key=lambda item: -item[1])]
        if self.dry_run:
            lines += [f"already warm: {self.warm:,}", f"would be fetched: {self.found:,}", *tiers]
        else:
            rate = f"{self.found / max(self.seconds, 1e-9):,.0f} blobs/s"
            moved = f"{self.bytes / 1e6:,.1f} MB in {self.seconds:.1f} s, {rate}"
            lines += [f"warm now: {self.found:,} ({moved}), from", *tiers]
        lines.append(f"missing: {self.missing:,}")
        lines.append(f"failed: {self.failed:,}" + (f" (the first: {self.first_error})" if self.first_error else ""))
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
            return "The same again goes on from what the caches hold by now (a ledger would save asking them)."
        return "The same again, with this ledger, goes on from here: what it knows as found is not asked for again."
