"""What a case found: rows of a table, and verdicts on what was claimed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contestant import Contestant
from benchmarks.envs import HERE
from benchmarks.rounds import cpu_ratio, rate_ratio

__all__ = ["Result", "Verdict", "machine", "rows"]


@dataclass(frozen=True)
class Verdict:
    """A claim, its target and what was measured.

    Attributes
    ----------
    text
        What is measured.
    measured
        None: it could not be measured; `text` says why.
    least, most
        The target: one of them, or both.
    """

    text: str
    measured: float | None
    least: float | None = None
    most: float | None = None

    @property
    def word(self) -> str:
        """`pass`, `miss` or `not measured`."""
        if self.measured is None:
            return "not measured"
        low = self.least is not None and self.measured < self.least
        high = self.most is not None and self.measured > self.most
        return "miss" if low or high else "pass"

    @property
    def target(self) -> str:
        """The target in words."""
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        return " and ".join(bounds + ([f"at most {self.most:g}"] if self.most is not None else []))


@dataclass
class Result:
    """What a case found.

    Attributes
    ----------
    claim
        Its number in the list of claims.
    columns, table
        A table: its head, and its rows with a name first.
    raw
        All figures of all turns, for the JSON file.
    """

    name: str
    claim: int
    title: str
    columns: tuple[str, ...] = ()
    table: list[tuple[str, ...]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, contestants: list[Contestant], reference: Contestant | None, *, bytes_each: int = 0) -> None:
        """Take in the rounds of `contestants`; ratios are of `reference` to each."""
        self.columns = ("contestant", "blobs/s", "CPU µs per blob", "ours is so many times as fast", "at this CPU")
        if bytes_each:
            self.columns = ("contestant", "MB/s", "CPU µs per MB", "ours is so many times as fast", "at this CPU")
        self.table += rows(contestants, reference, scale=bytes_each / 1e6 if bytes_each else 1.0)
        for each in contestants:
            self.raw[each.name] = [turn.told for turn in each.turns]
            self.versions.update(each.versions)

    def left_out(self, contestants: list[Contestant]) -> None:
        """Note which contestant could not take part, and why (paths and addresses are left out)."""
        for each in contestants:
            if each.failure is not None:
                why = re.sub(r"\S*/\S*", "...", each.failure)
                self.notes.append(f"{each.name} could not take part: {why}")


def rows(contestants: list[Contestant], reference: Contestant | None, *, scale: float) -> list[tuple[str, ...]]:
    """One row each: rate, CPU, and how the reference compares, by medians over the rounds."""
    told: list[tuple[str, ...]] = []
    for each in sorted(contestants, key=lambda each: -each.rate):
        compared = ("", "")
        if reference is not None and reference.turns and each is not reference:
            compared = (f"{rate_ratio(reference, each):.2f}x", f"{cpu_ratio(reference, each):.2f}x")
        told.append((each.name, f"{each.rate * scale:,.0f}", f"{each.cpu / scale:,.1f}", *compared))
    return told


def machine() -> dict[str, Any]:
    """What the figures depend on: no name of the machine, no path."""
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    if (info := Path("/proc/cpuinfo")).exists() and (match := re.search(r"model name\s*: (.+)", info.read_text())):
        facts["processor"] = match[1]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9)
    if (commit := _git("rev-parse", "--short", "HEAD")) is not None:
        facts["commit"] = commit + (" with changes" if _git("status", "--porcelain", "--", "bitstore") else "")
    if hasattr(os, "getloadavg"):
        facts["load_at_start"] = round(os.getloadavg()[0], 1)
    return facts


def _git(*command: str) -> str | None:
    """What git says about this checkout; None where there is no git, or no checkout."""
    try:
        done = subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
