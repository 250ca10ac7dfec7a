"""What a source asks for its answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, ClassVar

from bitstore._money.amount import Amount, units_of
from bitstore._money.classes import CLASSES, DATED
from bitstore._money.money import Money

__all__ = ["FREE", "GIB", "Price"]

GIB = 1024**3  # what services bill as a "GB": https://cloud.google.com/storage/pricing says so, and the examples of S3


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Price:
    """What a source asks for its answers. Amounts may be given as texts: `Price(per_call="0.002 USD")`.

    Attributes
    ----------
    per_call
        Money for one call of a paid source, whatever it answers; of a store of a bucket or server, for one request.
    per_1000_reads
        Money for 1,000 requests that read: GET and HEAD.
    per_1000_writes
        Money for 1,000 requests that write or list: PUT, POST, LIST.
    per_gb
        Money for 2**30 bytes that are read from their storage class (retrieval).
    egress_per_gb
        Money for 2**30 bytes that leave the service (egress). "0 USD": they stay in its region.
    misses_billed
        Whether a request costs the same when its object is not there. Amazon S3 bills those, Google does not.
    source
        Where the price is published; "": it is the user's own.
    dated
        When it was noted; None: it is the user's own. Prices of Amazon's classes are not confirmed by `source`: see
        `of`.

    Raises
    ------
    TypeError, ValueError
        An amount that is no money, is negative, or is of another currency than the others.
    """

    part_of_store: ClassVar[bool] = False

    per_call: Money | None
    per_1000_reads: Money | None
    per_1000_writes: Money | None
    per_gb: Money | None
    egress_per_gb: Money | None
    misses_billed: bool
    source: str
    dated: date | None

    def __init__(
        self,
        *,
        per_call: Money | str | None = None,
        per_1000_reads: Money | str | None = None,
        per_1000_writes: Money | str | None = None,
        per_gb: Money | str | None = None,
        egress_per_gb: Money | str | None = None,
        misses_billed: bool = True,
        source: str = "",
        dated: date | None = None,
    ) -> None:
        put = partial(object.__setattr__, self)
        put("per_call", _price("per_call", per_call))
        put("per_1000_reads", _price("per_1000_reads", per_1000_reads))
        put("per_1000_writes", _price("per_1000_writes", per_1000_writes))
        put("per_gb", _price("per_gb", per_gb))
        put("egress_per_gb", _price("egress_per_gb", egress_per_gb))
        put("misses_billed", misses_billed)
        put("source", source)
        put("dated", dated)
        currencies = {money.currency for name in _AMOUNTS if (money := getattr(self, name)) is not None}
        if len(currencies) > 1:
            raise ValueError(f"a price is in one currency, and this one is in {' and '.join(sorted(currencies))}")

    @classmethod
    def of(cls, value: Any, name: str = "price") -> Price:
        """`value` as a price: a `Price`, money for each call (`"0.002 USD"`), or the name of a storage class.

        The names (`"s3-standard"`, `"gs-nearline"`, ...) are those of `CLASSES`. `"free"`: nothing.

        Prices of classes are list prices as noted on 2026-11-27. Google's were checked with a copy of
        https://cloud.google.com/storage/pricing. Amazon's are not confirmed by https://aws.amazon.com/s3/pricing/, they
        only agree with what other projects have: compare them before you rely on them.

        Raises
        ------
        TypeError, ValueError
            `value` is none of these.
        """
        if isinstance(value, Price):
            return value
        if isinstance(value, str) and not value.strip()[:1].isdigit():
            return cls._of_class(value.strip().lower(), name)
        try:
            return cls(per_call=Money(value))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None

    @classmethod
    def _of_class(cls, value: str, name: str) -> Price:
        if value == "free":
            return FREE
        found = CLASSES.get(value)
        if found is None:
            raise ValueError(f"{name}={value!r}: give money, as in '0.002 USD', 'free', or one of {', '.join(CLASSES)}")
        return cls(
            per_1000_reads=Money(found.reads, "USD"),
            per_1000_writes=Money(found.writes, "USD"),
            per_gb=Money(found.per_gb, "USD"),
            egress_per_gb=Money(found.egress, "USD"),
            misses_billed=found.misses,
            source=found.source,
            dated=DATED,
        )

    @property
    def currency(self) -> str | None:
        """The currency of all amounts; None: there is no amount."""
        return next((money.currency for name in _AMOUNTS if (money := getattr(self, name)) is not None), None)

    def read(self, size: int) -> Amount:
        """One GET or HEAD whose answer has `size` bytes."""
        return Amount(self._request(self.per_1000_reads) + self.bytes_units(size), 0, 1, size)

    def write(self, size: int) -> Amount:
        """One PUT, POST or LIST whose answer has `size` bytes."""
        egress = -(-size * units_of(self.egress_per_gb) // GIB)
        return Amount(self._request(self.per_1000_writes) + egress, 0, 1, size)

    def call(self) -> Amount:
        """One call of a paid source."""
        return Amount(units_of(self.per_call), 1)

    def bytes_units(self, size: int) -> int:
        """What `size` bytes cost, in the parts that are counted, rounded up."""
        return -(-size * (units_of(self.per_gb) + units_of(self.egress_per_gb)) // GIB)

    def _request(self, per_1000: Money | None) -> int:
        return units_of(self.per_call) - (-units_of(per_1000) // 1000)

    def __repr__(self) -> str:
        shown = [f"{name}={str(money)!r}" for name in _AMOUNTS if (money := getattr(self, name)) is not None]
        shown += [] if self.misses_billed else ["misses_billed=False"]
        return f"Price({', '.join(shown)})"

    def __str__(self) -> str:
        parts = [f"{money} {what}" for name, what in _AMOUNTS.items() if (money := getattr(self, name)) is not None]
        return ", ".join(parts) or "free"


def _price(name: str, value: Money | str | None) -> Money | None:
    if value is None:
        return None
    try:
        money = Money(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if money.amount < 0:
        raise ValueError(f"{name}={str(money)!r}: a price is not negative")
    return money


_AMOUNTS = {
    "per_call": "a call",
    "per_1000_reads": "for 1,000 reads",
    "per_1000_writes": "for 1,000 writes or listings",
    "per_gb": "for each GB read",
    "egress_per_gb": "for each GB out",
}

FREE = Price()
