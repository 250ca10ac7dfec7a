"""Where spending is counted against its caps: in this process, or in a file that the processes of a machine share."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from bitstore._limits.state import Row, StateFile
from bitstore._money.amount import NOTHING, Amount

__all__ = ["Caps", "FilePurse", "MemoryPurse", "Purse", "Spending"]


@dataclass(frozen=True)
class Caps:
    """What may be spent in all, ever; None: there is no cap of this kind."""

    # In the parts in which money is counted.
    units: int | None = None
    # Calls of paid sources.
    calls: int | None = None
    # HTTP requests.
    requests: int | None = None
    # Bytes of bodies of answers.
    bytes: int | None = None

    KINDS: ClassVar = ("units", "calls", "requests", "bytes")

    def values(self) -> tuple[int | None, ...]:
        """The caps in the order of an `Amount`."""
        return self.units, self.calls, self.requests, self.bytes

    def allow(self, amount: Amount) -> bool:
        """Whether so much may be spent in all."""
        return not any(cap is not None and value > cap for cap, value in zip(self.values(), amount, strict=True))

    def cover(self, lease: Amount, need: Amount) -> bool:
        """Whether `lease` has enough for `need`, of what there are caps for."""
        triples = zip(self.values(), lease, need, strict=True)
        return not any(cap is not None and asked > held for cap, held, asked in triples)

    def left(self, spent: Amount) -> Caps:
        """What of each may still be spent, at least 0."""
        pairs = zip(self.values(), spent, strict=True)
        return Caps(*(None if cap is None else max(0, cap - value) for cap, value in pairs))


_MARKS = 1000  # processes whose last message is known
_SMALL_PART = 16  # what is granted ahead is at most this part of what is left, because a kill loses it


class Spending:
    """What each source has been granted. Not for several threads at once.

    Parameters
    ----------
    currency
        Code of the currency in which money is counted; None: no money has been counted yet.
    """

    def __init__(self, currency: str | None = None) -> None:
        self.currency = currency
        self.sources: dict[str, Amount] = {}
        # By process: the number of the last message with which it gave something back, where such may come twice.
        self.marks: dict[str, int] = {}

    @property
    def total(self) -> Amount:
        """What all sources have been granted."""
        total = NOTHING
        for amount in self.sources.values():
            total = total.plus(amount)
        return total

    def take(self, caps: Caps, source: str, need: Amount, ahead: Amount) -> Amount | None:
        """Grant `need`, and `ahead` besides where that is a small part of what is left; None: there is no room."""
        total = self.total.plus(need)
        if not caps.allow(total):
            return None
        granted = need.plus(ahead) if caps.allow(total.plus(ahead.times(_SMALL_PART))) else need
        self.sources[source] = self.sources.get(source, NOTHING).plus(granted)
        return granted

    def give_back(self, source: str, amount: Amount) -> None:
        """Take `amount`, which was granted and not spent, from what `source` has."""
        self.sources[source] = self.sources.get(source, NOTHING).minus(amount)

    def in_currency(self, currency: str | None) -> None:
        """Count money in this currency; None: in any. Raises ValueError where another is counted already."""
        if currency is None:
            return
        if self.currency not in (None, currency):
            raise ValueError(f"it counts money in {self.currency}, and this process pays in {currency}")
        self.currency = currency

    def as_dict(self) -> dict[str, Any]:
        """What is known, for JSON."""
        marks = dict(list(self.marks.items())[-_MARKS:])
        return {"currency": self.currency, "sources": self.sources, "marks": marks}

    @classmethod
    def from_dict(cls, kept: Any) -> Spending:
        """What `as_dict` returned. ValueError for anything else: spending that cannot be read is not nothing."""
        try:
            currency = kept["currency"]
            self = cls(None if currency is None else str(currency))
            self.marks = {str(process): int(number) for process, number in kept.get("marks", {}).items()}
            self.sources = {str(name): Amount(*map(int, amount)) for name, amount in kept["sources"].items()}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"not what a budget has spent: {type(error).__name__}: {error}") from error
        return self


class Purse(Protocol):
    """Counts what sources spend. For any number of threads; each method may raise `AccountError`, and may block."""

    # Whether other processes take from it, so that a process takes some more than it needs at once.
    shared: bool

    def take(self, caps: Caps, source: str, need: Amount, ahead: Amount) -> Amount | None:
        """Grant `need`, and perhaps `ahead` besides; None: `caps` have no room."""

    def give_back(self, source: str, amount: Amount) -> None:
        """Take back what was granted and not spent."""

    def spending(self) -> Spending:
        """What each source has been granted until now."""


class MemoryPurse:
    """Counts in this process."""

    shared = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spending = Spending()

    def take(self, caps: Caps, source: str, need: Amount, ahead: Amount) -> Amount | None:
        """See `Purse`."""
        with self._lock:
            return self._spending.take(caps, source, need, ahead)

    def give_back(self, source: str, amount: Amount) -> None:
        """See `Purse`."""
        with self._lock:
            self._spending.give_back(source, amount)

    def spending(self) -> Spending:
        """See `Purse`."""
        with self._lock:
            copy = Spending(self._spending.currency)
            copy.sources = dict(self._spending.sources)
            return copy


class FilePurse:
    """Counts in an SQLite file (`StateFile`).

    What is granted is in the file before it is spent, so no more is spent than the caps allow, whichever process is
    killed and when. What a killed process had been granted and did not spend counts as spent.

    Parameters
    ----------
    path
        The file; it is made, with its folder, when it is not there.
    name
        Name of the budget in the file.
    currency
        Tells the currency that money is counted in by now; None: no price is known yet.
    known
        Whether the file has known the budget before; so it has, too, once this has granted anything. A file that does
        not know it then has lost it, and nothing more is granted.
    """

    shared = True

    def __init__(
        self, path: str | os.PathLike[str], name: str, currency: Callable[[], str | None], *, known: bool = False
    ) -> None:
        self._file = StateFile(path, "budget", "spending")
        self._name = name
        self._currency = currency
        self._known = known

    def take(self, caps: Caps, source: str, need: Amount, ahead: Amount) -> Amount | None:
        """See `Purse`."""
        with self._file.row(self._name) as row:
            spending = self._read(row)
            spending.in_currency(self._currency())
            granted = spending.take(caps, source, need, ahead)
            if granted is not None:
                row.text = json.dumps(spending.as_dict())
        self._known = self._known or granted is not None
        return granted

    def give_back(self, source: str, amount: Amount, mark: tuple[str, int] | None = None) -> None:
        """See `Purse`; `mark`: a process, and a number that grows with each of its messages: none counts twice."""
        with self._file.row(self._name) as row:
            spending = self._read(row)
            if mark is not None:
                process, number = mark
                if spending.marks.get(process, -1) >= number:
                    return
                spending.marks.pop(process, None)  # it comes to the end, as the last one that was heard of
                spending.marks[process] = number
            # Only what the file knows to be granted: another may have been put in its place.
            had = spending.sources.get(source, NOTHING)
            spending.give_back(source, Amount(*map(min, amount, had)))
            row.text = json.dumps(spending.as_dict())

    def spending(self) -> Spending:
        """See `Purse`."""
        with self._file.row(self._name) as row:
            return self._read(row)

    def _read(self, row: Row) -> Spending:
        if row.text is not None:
            return Spending.from_dict(json.loads(row.text))
        if self._known:
            raise ValueError("what it has spent is lost, because its file is gone: give the budget another name")
        return Spending()
