"""What is counted of a run: money, calls, requests and bytes, each in whole numbers."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from typing import NamedTuple

from bitstore._money.money import Money

__all__ = ["NOTHING", "Amount", "money_of", "units_of"]

_PLACES = 18  # digits behind the point of the smallest part of a currency that is counted
_UP = Context(prec=200, rounding=ROUND_CEILING)
_LAST = Decimal(1)


class Amount(NamedTuple):
    """Money, calls, requests and bytes."""

    # In parts of 10**-18 of the currency, so that all sums are exact.
    units: int = 0
    # Calls of paid sources.
    calls: int = 0
    # HTTP requests, tries included.
    requests: int = 0
    # Bytes of the bodies of answers to HTTP requests.
    bytes: int = 0

    def plus(self, other: Amount) -> Amount:
        """The sum."""
        return Amount(
            self.units + other.units,
            self.calls + other.calls,
            self.requests + other.requests,
            self.bytes + other.bytes,
        )

    def minus(self, other: Amount) -> Amount:
        """The difference."""
        return Amount(
            self.units - other.units,
            self.calls - other.calls,
            self.requests - other.requests,
            self.bytes - other.bytes,
        )

    def times(self, factor: float) -> Amount:
        """So many times as much, rounded down."""
        return Amount(*(int(value * factor) for value in self))


NOTHING = Amount()


def units_of(money: Money | None) -> int:
    """Money in the parts that are counted, rounded up; None: 0."""
    if money is None:
        return 0
    return int(_UP.quantize(money.amount.scaleb(_PLACES, _UP), _LAST))


def money_of(units: int, currency: str) -> Money:
    """The money of so many parts."""
    return Money(Decimal(units).scaleb(-_PLACES, _UP).normalize(_UP), currency)
