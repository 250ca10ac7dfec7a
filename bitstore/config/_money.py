"""Tables of a configuration file about money: what a source asks, and what may be spent."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import msgspec

from bitstore._limits.budget import Budget
from bitstore._money.classes import CLASSES
from bitstore._money.price import Price
from bitstore.config._tier import SIZE, Context, Table, about

__all__ = ["MONEY", "PRICE", "BudgetTable", "PriceTable", "budget_of", "price_of"]

MONEY = r"^\s*[0-9][0-9_]*(\.[0-9]+)?\s*[A-Za-z]{3}\s*$"
"""What an amount of money looks like, for the schema."""

PRICE = (
    "What the source asks: money for each call (`0.002 USD`), a storage class "
    f"({', '.join(f'`{name}`' for name in CLASSES)}), `free`, or a table. A budget counts by it."
)
"""What the key `price` of a tier means."""


class PriceTable(Table, kw_only=True):
    """What a source asks: see `Price`."""

    what: ClassVar[str] = "a price table"

    like: Annotated[str | None, about("A storage class, whose prices hold where no other key says more.")] = None
    per_call: Annotated[
        str | None, about("Money for one call of an API source, or one request to a server.", pattern=MONEY)
    ] = None
    per_1000_reads: Annotated[str | None, about("Money for 1,000 GET and HEAD.", pattern=MONEY)] = None
    per_1000_writes: Annotated[str | None, about("Money for 1,000 PUT, POST and LIST.", pattern=MONEY)] = None
    per_gb: Annotated[str | None, about("Money for 2**30 bytes read from their class.", pattern=MONEY)] = None
    egress_per_gb: Annotated[
        str | None, about("Money for 2**30 bytes that leave the service; `0 USD`: they stay.", pattern=MONEY)
    ] = None
    misses_billed: Annotated[bool | None, about("Whether a request for an object that is not there is billed.")] = None

    def price(self) -> Price:
        """The price that the table describes. Raises ValueError where there is none."""
        values = {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}
        like = values.pop("like", "free")
        price = Price.of(like, "like")
        return replace(price, **values) if values else price


def price_of(value: str | PriceTable | None) -> Price | None:
    """The price that the key `price` means. Raises ValueError where it means none."""
    return None if value is None else value.price() if isinstance(value, PriceTable) else Price.of(value)


class BudgetTable(Table, kw_only=True):
    """What may be spent: see `Budget`."""

    what: ClassVar[str] = "a budget table"

    most: Annotated[str | None, about("The most money, such as `25 USD`.", pattern=MONEY)] = None
    calls: Annotated[int | None, about("The most calls of paid sources.", minimum=0)] = None
    requests: Annotated[int | None, about("The most HTTP requests.", minimum=0)] = None
    bytes: Annotated[int | str | None, about("The most bytes that these bring.", pattern=SIZE)] = None
    name: Annotated[str, about("Name of the budget; equal names in one state file count together.")] = "budget"
    state: Annotated[
        str | None, about("Path of a file in which all processes of this machine count together.", minLength=1)
    ] = None

    def budget(self, context: Context) -> Budget:
        """The budget that the table describes."""
        options: dict[str, Any] = msgspec.structs.asdict(self)
        options["state"] = None if self.state is None else context.path(self.state, "state")
        return Budget(**options)


def budget_of(value: str | BudgetTable | None, context: Context) -> Budget | None:
    """The budget that the key `budget` means. Raises ValueError where it means none."""
    return None if value is None else value.budget(context) if isinstance(value, BudgetTable) else Budget(value)
