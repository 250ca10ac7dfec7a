"""What a check found: plain values, and the text that people read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bitstore._doctor.policies import shown
from bitstore.outline import printable

__all__ = ["CheckAnswer", "CheckFault", "CheckReport", "SampleCheck", "TierCheck"]


@dataclass(frozen=True)
class CheckFault:
    """Something wrong with a tier, and what to do about it.

    Attributes
    ----------
    kind
        Its name, such as `"no-bucket"`: docs/check.md lists all of them.
    severity
        `"fault"`: lookups fail, or blobs that are there are not found; `"hint"`: they work, and could do better.
    text
        What was seen.
    advice
        What to do.
    policy
        The least rights to ask for: a policy of AWS, or a role of Google Cloud; None: it is not about rights.
    """

    kind: str
    text: str
    advice: str
    severity: Literal["fault", "hint"] = "fault"
    policy: dict[str, Any] | None = None


@dataclass(frozen=True)
class CheckAnswer:
    """How the service answers one kind of question, and what that means for lookups.

    Attributes
    ----------
    question
        Such as `"get of a missing blob"`.
    answer
        Status and code, such as `"404 NoSuchKey"`, or what else came.
    means
        `"missing"`, `"found"`, `"failed"`, `"refused"` or `"done"`.
    """

    question: str
    answer: str
    means: str


@dataclass(frozen=True)
class SampleCheck:
    """Whether a tier has a sample digest.

    Attributes
    ----------
    digest
        The digest.
    state
        `"found"`, `"missing"`, `"failed"`, or `"not asked"` (a paid tier).
    url
        Where the tier looks for it; None: it has no addresses.
    why
        The error of a failure.
    """

    digest: str
    state: Literal["found", "missing", "failed", "not asked"]
    url: str | None = None
    why: str | None = None


@dataclass
class TierCheck:
    """What a check found out about one tier.

    Attributes
    ----------
    name, kind, role
        As in `Store.outline`.
    asked
        False: a paid tier, which is not asked unless `paid=True`.
    reached
        Whether the service answered at all; None: not known.
    answers
        What its answers mean with these rights.
    may_list, may_read, may_write
        Whether it may; None: not tried, or there was nothing to try it with.
    latency
        Seconds until the quickest whole answer; None: there was none.
    clock_skew
        Seconds by which the clock of the service is ahead of this machine's; None: it names no time.
    samples
        The sample digests.
    notes
        What else is worth knowing.
    faults
        What is wrong.
    """

    name: str
    kind: str
    role: str | None = None
    asked: bool = True
    reached: bool | None = None
    answers: list[CheckAnswer] = field(default_factory=list)
    may_list: bool | None = None
    may_read: bool | None = None
    may_write: bool | None = None
    latency: float | None = None
    clock_skew: float | None = None
    samples: list[SampleCheck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[CheckFault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; hints are not counted."""
        return not any(fault.severity == "fault" for fault in self.faults)

    def as_dict(self) -> dict[str, Any]:
        """All values as plain ones, such as JSON has, with `ok`."""
        return {**asdict(self), "ok": self.ok}

    def lines(self) -> Iterator[str]:
        """The text that people read; what services say may hold what a terminal would obey, which is escaped."""
        return map(printable, self._lines())

    def _lines(self) -> Iterator[str]:
        state = "good" if self.ok else "not good"
        role = "" if self.role is None else f"{self.role} "
        yield f"{role}{self.name} ({self.kind}): {state if self.asked else 'not asked'}"
        told = [f"{name} {_yes(may)}" for name, may in self._rights() if may is not None]
        if self.latency is not None:
            told.append(f"answers within {self.latency * 1000:.{0 if self.latency > 0.01 else 1}f} ms")
        if self.clock_skew is not None:
            off = abs(self.clock_skew)
            told.append("the clocks agree" if off < 2 else f"the clocks differ by {off:.0f} s")
        if told:
            yield f"    {', '.join(told)}"
        for answer in self.answers:
            yield f"    {answer.question}: {answer.answer} ({answer.means})"
        for sample in self.samples:
            where = f" at {sample.url}" if sample.url else ""
            yield f"    {sample.digest}: {sample.state}{where}{f': {sample.why}' if sample.why else ''}"
        for note in self.notes:
            yield f"    {note}"
        for fault in self.faults:
            yield f"  {fault.severity.upper()} {fault.kind}: {fault.text}"
            yield f"      {fault.advice}"
            if fault.policy is not None:
                yield from (f"      {line}" for line in shown(fault.policy))

    def _rights(self) -> tuple[tuple[str, bool | None], ...]:
        return ("list", self.may_list), ("read", self.may_read), ("write", self.may_write)


@dataclass
class CheckReport:
    """What a check found: `print(report)` shows it.

    Attributes
    ----------
    tiers
        Each tier, in the order in which lookups ask them.
    """

    tiers: list[TierCheck]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with any tier; hints are not counted."""
        return all(tier.ok for tier in self.tiers)

    @property
    def faults(self) -> list[CheckFault]:
        """The faults and hints of all tiers."""
        return [fault for tier in self.tiers for fault in tier.faults]

    @property
    def missing(self) -> list[str]:
        """The sample digests that every tier says it lacks, but for paid ones that were not asked."""
        said: dict[str, set[str]] = {}
        for tier in self.tiers:
            for sample in tier.samples:
                said.setdefault(sample.digest, set()).add(sample.state)
        return [digest for digest, states in said.items() if states - {"not asked"} == {"missing"}]

    def as_dict(self) -> dict[str, Any]:
        """All values as plain ones, such as JSON has."""
        return {"ok": self.ok, "missing": self.missing, "tiers": [tier.as_dict() for tier in self.tiers]}

    def __str__(self) -> str:
        texts = []
        for number, tier in enumerate(self.tiers, start=1):
            first, *rest = tier.lines()
            texts += [f"{number}. {first}", *rest]
        return "\n".join([*texts, self.summary()])

    def summary(self) -> str:
        """The last line: how many tiers are good, faults, hints and sample digests that are missing."""
        good = sum(tier.ok and tier.asked for tier in self.tiers)
        left = sum(not tier.asked for tier in self.tiers)
        faults = sum(fault.severity == "fault" for fault in self.faults)
        hints = len(self.faults) - faults
        told = [f"{good} of {_counted(len(self.tiers), 'tier')} good"]
        told += [f"{left} not asked"] if left else []
        told += [_counted(faults, "fault")] if faults else []
        told += [_counted(hints, "hint")] if hints else []
        told += [f"{_counted(len(self.missing), 'sample')} in no tier that was asked"] if self.missing else []
        return ", ".join(told)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _yes(may: bool) -> str:
    return "yes" if may else "no"
