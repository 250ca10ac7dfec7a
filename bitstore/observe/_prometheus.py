"""Counts in the text format of Prometheus, version 0.0.4.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore.observe._answer import Answer
from bitstore.observe._names import BOUNDS, BREAKER, BREAKER_TEXT, COUNTERS, LATENCY, LATENCY_TEXT, PREFIX, TIER

__all__ = ["LatencyHistogram", "exposition"]

_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*").fullmatch
_TAKEN = (TIER, "le")


def exposition(rows: Iterable[Mapping[str, int | str]], labels: Mapping[str, str]) -> str:
    """The counts of tiers (`TierStats.as_dict`) as text, each with `labels` besides the name of its tier."""
    rows = list(rows)
    check_labels(labels)
    lines = []
    for name, text in COUNTERS.items():
        lines += _head(f"{name}_total", "counter", text)
        lines += [_sample(f"{name}_total", {TIER: row["name"], **labels}, row[name]) for row in rows]
    lines += _head(BREAKER, "gauge", BREAKER_TEXT)
    lines += [_sample(BREAKER, {TIER: row["name"], **labels}, int(row["breaker"] != "closed")) for row in rows]
    return "\n".join(lines) + "\n"


class _Counts:
    """What one process has counted."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # By the name of a tier: how many answers fell into each class of `BOUNDS` and above, and their seconds.
        self.tiers: dict[str, tuple[list[int], list[float]]] = {}


class LatencyHistogram(KeepsPerProcess):
    """Keeps how long tiers take to answer: `store.on_answer = LatencyHistogram()`.

    It counts in each process for itself, and pickles without what it has counted.
    """

    def __init__(self) -> None:
        self._live: PerProcess[_Counts] = PerProcess()

    def __call__(self, answer: Answer) -> None:
        """Count an answer; a tier that was not asked has none."""
        if answer.kind == "skipped":
            return
        kept = self._counts()
        with kept.lock:
            counts, seconds = kept.tiers.setdefault(answer.tier, ([0] * (len(BOUNDS) + 1), [0.0]))
            counts[bisect_left(BOUNDS, answer.seconds)] += 1
            seconds[0] += answer.seconds

    def prometheus(self, **labels: str) -> str:
        """The histogram as text for Prometheus, to be appended to that of the counts (`Stats.prometheus`).

        Parameters
        ----------
        **labels
            Further labels of each sample.
        """
        check_labels(labels)
        lines = _head(LATENCY, "histogram", LATENCY_TEXT)
        kept = self._counts()
        with kept.lock:
            tiers = {name: (list(counts), seconds[0]) for name, (counts, seconds) in kept.tiers.items()}
        for name, (counts, seconds) in tiers.items():
            total = 0
            for bound, count in zip((*map(repr, BOUNDS), "+Inf"), counts, strict=True):
                total += count
                lines.append(_sample(f"{LATENCY}_bucket", {TIER: name, **labels, "le": bound}, total))
            lines.append(_sample(f"{LATENCY}_sum", {TIER: name, **labels}, seconds))
            lines.append(_sample(f"{LATENCY}_count", {TIER: name, **labels}, total))
        return "\n".join(lines) + "\n"

    def _counts(self) -> _Counts:
        return self._live.get() or self._live.set_once(_Counts())


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise ValueError for a label that Prometheus does not take, or that has another meaning here."""
    for name in labels:
        if not _LABEL(name) or name in _TAKEN:
            raise ValueError(f"{name!r} is no label: it is letters, digits and _, and neither {TIER!r} nor 'le'")


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} {kind}"]


def _sample(name: str, labels: Mapping[str, object], value: object) -> str:
    shown = ",".join(f'{label}="{_escaped(str(text))}"' for label, text in labels.items())
    return f"{PREFIX}_{name}{{{shown}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
