"""What the reports of all runs count: blobs found, missing and failed, and from where they came."""

from __future__ import annotations

from dataclasses import dataclass, field

from bitstore._warming.causes import Causes
from bitstore._warming.outcome import Outcome
from bitstore._warming.timeline import Timeline

__all__ = ["Tally"]


@dataclass(kw_only=True)
class Tally:
    """The counts of a run.

    Attributes
    ----------
    found, missing, failed
        Digests that some tier had, that no store has, and that could not be looked up or kept.
    invalid
        Entries of the list that were no digests.
    by_tier
        How many blobs each tier had.
    bytes
        Of the blobs that were moved.
    seconds
        From start to end.
    stopped
        Why not all was asked, where that was not an interruption.
    causes
        Why the failed ones failed.
    sizes
        How many of the blobs that were moved have a size of so many bits: 11 stands for 1024 to 2047 bytes.
    timeline
        How the counts grew.
    """

    found: int = 0
    missing: int = 0
    failed: int = 0
    invalid: int = 0
    by_tier: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    causes: Causes = field(default_factory=Causes, repr=False)
    sizes: dict[int, int] = field(default_factory=dict, repr=False)
    timeline: Timeline = field(default_factory=Timeline, repr=False, compare=False)

    @property
    def asked(self) -> int:
        """How many digests were asked for in this run."""
        return self.found + self.missing + self.failed

    @property
    def done(self) -> int:
        """How many entries are dealt with."""
        return self.asked

    @property
    def total(self) -> int | None:
        """How many entries there are to deal with; None: unknown."""
        return None

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        if outcome.kind == "found":
            self.count_found(outcome.tier or "", outcome.size)
        elif outcome.kind == "missing":
            self.count_missing()
        elif outcome.kind == "failed":
            self.count_failed(outcome.digest, outcome.error or "", outcome.used_up)
        else:
            self.invalid += 1

    def count_found(self, tier: str, size: int | None) -> None:
        """Count a blob that `tier` had, of `size` bytes; None: it did not have to be moved."""
        self.found += 1
        if size is not None:
            self.bytes += size
            bits = size.bit_length()
            self.sizes[bits] = self.sizes.get(bits, 0) + 1
        self.by_tier[tier] = self.by_tier.get(tier, 0) + 1
        self.causes.answered()
        self.timeline.look(self.asked, self.bytes)

    def count_missing(self) -> None:
        """Count a digest that no store has."""
        self.missing += 1
        self.causes.answered()
        self.timeline.look(self.asked, self.bytes)

    def count_failed(self, digest: str, error: str, used_up: str | None = None) -> None:
        """Count a digest that could not be looked up; `used_up`: what a budget has said."""
        self.failed += 1
        self.causes.add(digest, error, used_up)
        self.timeline.look(self.asked, self.bytes)

    @property
    def rate(self) -> str:
        """Blobs and bytes a second, in words."""
        seconds = max(self.seconds, 1e-9)
        return f"{self.found / seconds:,.0f} blobs/s, {self.bytes / 1e6 / seconds:,.1f} MB/s"
