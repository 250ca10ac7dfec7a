"""What was learned of sources, by cohort: how many lookups came to each, and what came of that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Final

__all__ = ["MOST_COHORTS", "Learned", "SourceCounts"]

MOST_COHORTS: Final = 256
_FULL: Final = 4096  # lookups of a cohort after which all its counts are halved, so that what has changed is noticed


@dataclass
class SourceCounts:
    """What is known of one source in one cohort."""

    # Lookups that came to the sources among which it is ordered, whether one before it had the blob or not.
    lookups: int = 0
    # Lookups among them that came to the source itself.
    reached: int = 0
    # Lookups among those that asked it: an index, or what is remembered, spared the others.
    asked: int = 0
    # Lookups among those that it answered with the blob.
    hits: int = 0
    # Lookups that asked it before all others, and how many of them it answered with the blob.
    first: int = 0
    first_hits: int = 0
    # Answers without the blob that were timed, and their seconds.
    vain: int = 0
    seconds: float = 0.0

    def add(self, other: SourceCounts) -> None:
        """Add the counts of another process."""
        for name in _NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def scale(self, share: float) -> None:
        """Keep this share of each count."""
        for name in _NAMES:
            value = getattr(self, name) * share
            setattr(self, name, value if name == "seconds" else int(value))

    def as_dict(self) -> dict[str, int | float]:
        """The counts by name."""
        return asdict(self)

    @classmethod
    def of(cls, values: Any) -> SourceCounts:
        """The counts that `as_dict` returned. ValueError: they are no counts."""
        if not isinstance(values, Mapping) or values.keys() != set(_NAMES):
            raise ValueError("expected the counts of a source")
        numbers = {name: values[name] for name in _NAMES}
        for name, value in numbers.items():
            kinds = (int, float) if name == "seconds" else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < 1e15:
                raise ValueError(f"{name} = {value!r}: expected a count")
        return cls(**numbers)


_NAMES = tuple(each.name for each in fields(SourceCounts))

Table = dict[str, SourceCounts]  # by the name of the source


@dataclass
class CohortCounts:
    """What is known of the sources in one cohort."""

    own: Table = field(default_factory=dict)
    # What other processes have told: in a file, and on a cluster.
    heard: dict[str, Table] = field(default_factory=dict)
    # Grows when `heard` changes, so that orders are made again.
    version: int = 0

    def source(self, name: str) -> SourceCounts:
        """The counts of this process, to be added to."""
        return self.own.setdefault(name, SourceCounts())

    def both(self, name: str) -> SourceCounts:
        """The counts of all processes that are known here."""
        total = SourceCounts()
        for table in self.tables():
            if name in table:
                total.add(table[name])
        return total

    def sources(self) -> set[str]:
        """Names of all sources of which something is known."""
        return {name for table in self.tables() for name in table}

    def tables(self) -> tuple[Table, ...]:
        """The counts of this process and of others."""
        return (self.own, *self.heard.values())

    def fade(self) -> None:
        """Halve the counts of this process where they are many."""
        if any(counts.lookups >= _FULL for counts in self.own.values()):
            for counts in self.own.values():
                counts.scale(0.5)


class Learned:
    """The counts of all cohorts. Views of a composite share them."""

    FULL: ClassVar[int] = _FULL
    # Whether a file gets the counts when the process ends, where one is named.
    is_saved = True

    def __init__(self) -> None:
        # Guards the counts.
        self.lock = threading.Lock()
        self._cohorts: OrderedDict[str, CohortCounts] = OrderedDict()

    def cohort(self, name: str) -> CohortCounts:
        """The counts of a cohort, which is now the most recently used one."""
        with self.lock:
            found = self._cohorts.setdefault(name, CohortCounts())
            self._cohorts.move_to_end(name)
            if len(self._cohorts) > MOST_COHORTS:
                self._cohorts.popitem(last=False)
            return found

    def names(self) -> list[str]:
        """Names of the cohorts of which something is known."""
        with self.lock:
            return [
                name
                for name, cohort in self._cohorts.items()
                if any(counts.lookups or counts.first for table in cohort.tables() for counts in table.values())
            ]

    def export(self) -> dict[str, dict[str, dict[str, int | float]]]:
        """What this process has counted, by cohort and source."""
        with self.lock:
            return {
                name: {source: counts.as_dict() for source, counts in cohort.own.items()}
                for name, cohort in self._cohorts.items()
                if any(counts.lookups or counts.first for counts in cohort.own.values())
            }

    def hear(self, told: Iterable[Any], by: str) -> None:
        """Take what other processes have exported, in place of what came the same way (`by`) before.

        Raises ValueError where it is no such.
        """
        total: dict[str, Table] = {}
        for each in told:
            for name, table in read(each).items():
                sums = total.setdefault(name, {})
                for source, counts in table.items():
                    sums.setdefault(source, SourceCounts()).add(counts)
        with self.lock:
            known = [*total.keys() - self._cohorts.keys()]
        for name in known[:MOST_COHORTS]:
            self.cohort(name)
        with self.lock:
            for name, cohort in self._cohorts.items():
                heard = total.get(name, {})
                if heard != cohort.heard.get(by, {}):
                    cohort.heard[by] = heard
                    cohort.version += 1


def read(exported: Any) -> dict[str, Table]:
    """The counts in what `Learned.export` returned. ValueError: it is no such."""
    if not isinstance(exported, Mapping):
        raise ValueError("expected the counts of cohorts")
    found: dict[str, Table] = {}
    for name, table in exported.items():
        if not isinstance(name, str) or not isinstance(table, Mapping):
            raise ValueError(f"cohort {name!r}: expected the counts of sources")
        found[name] = {str(source): SourceCounts.of(values) for source, values in table.items()}
    return found
