"""A hard cap on what lookups cost: in money, calls, requests or bytes."""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from bitstore._limits.cashier import Cashier
from bitstore._limits.purses import Caps, FilePurse, MemoryPurse, Purse, Spending
from bitstore._limits.state import AccountError
from bitstore._limits.till import Till
from bitstore._money.amount import Amount, money_of, units_of
from bitstore._money.money import Money
from bitstore._money.price import Price
from bitstore._support.fixed import Fixed
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._support.sizes import format_size, parse_size, rounded_size
from bitstore.errors import BudgetReached, StoreNotAvailable
from bitstore.steps import ERROR_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Budget", "Spent"]


class Spent(NamedTuple):
    """What was spent.

    Attributes
    ----------
    money
        None: nothing that was asked has a price.
    calls
        Calls of paid sources.
    requests
        HTTP requests, tries included.
    bytes
        Bytes of the bodies of answers.
    """

    money: Money | None
    calls: int
    requests: int
    bytes: int

    def __str__(self) -> str:
        parts = [] if self.money is None else [self.money.rounded()]
        parts += [f"{self.calls:,} calls"] if self.calls else []
        parts += [f"{self.requests:,} requests", rounded_size(self.bytes)] if self.requests else []
        return ", ".join(parts) or "nothing"


class Budget(KeepsPerProcess):
    """A hard cap on what lookups cost: `store.budget = Budget("25 USD")`. It is never passed.

    Before a call or a request is made, the most that it may cost is set aside; where that does not fit, nothing is
    sent, and the lookup fails with `BudgetReached`: a failure, never an absence. When the answer has come, what it did
    not cost is free again. So the cap holds whatever is killed and when; what was set aside for a request that was cut
    short counts as spent. To go on, give a larger budget: what was fetched is not paid for again.

    The budget knows what is spent only from the prices of the sources (`price=`). Paid sources without a price are
    refused where there is a cap in money. A budget without any cap counts only: its `receipt` tells what was spent.

    Parameters
    ----------
    most
        The most money, such as `"25 USD"`; None: no cap in money.
    calls
        The most calls of paid sources (`Sha1APISource`); None: no cap.
    requests
        The most HTTP requests to buckets and servers, tries included; None: no cap.
    bytes
        The most bytes that the answers to these bring, as a number or a size such as `"200GB"`; None: no cap. What
        API sources transfer by themselves is not known here.
    name
        Name of the budget in errors. In one state file, equal names count together.
    state
        Path of a file (SQLite) in which all processes of this machine that name it count together, and beyond their
        end: it is the receipt. If it is deleted, counting begins again; a process that has spent by it is refused.
        None: each process counts for itself.

    Raises
    ------
    TypeError, ValueError
        A cap that is no amount, or is negative; an empty name.
    """

    most = Fixed["Money | None"]()
    calls = Fixed["int | None"]()
    requests = Fixed["int | None"]()
    bytes = Fixed["int | None"]()
    name = Fixed[str]()
    state = Fixed["str | None"]()

    # A resumed run may have another budget: it is no part of what a store is (`fingerprint`).
    part_of_store = False

    def __init__(
        self,
        most: Money | str | None = None,
        *,
        calls: int | None = None,
        requests: int | None = None,
        bytes: int | str | None = None,
        name: str = "budget",
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        money = None if most is None else Money(most)
        if money is not None and money.amount < 0:
            raise ValueError(f"a budget of {money} is negative")
        for kind, count in (("calls", calls), ("requests", requests)):
            if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
                raise TypeError(f"{kind}={count!r}: expected a whole number")
            if count is not None and count < 0:
                raise ValueError(f"{kind}={count}: must be at least 0")
        if not name.strip():
            raise ValueError(f"name={name!r}: a budget needs a name")
        self.most = money
        self.calls = calls
        self.requests = requests
        self.bytes = None if bytes is None else parse_size(bytes, name="bytes")
        if self.bytes is not None and 0 < self.bytes < ERROR_BYTES:
            raise ValueError(f"bytes={bytes!r}: must be 0 or at least {ERROR_BYTES}, which any answer may have")
        self.name = name
        self.state = None if state is None else os.fspath(state)
        self._caps = Caps(None if money is None else units_of(money), calls, requests, self.bytes)
        # Code of the currency of all prices; None: no price is known yet.
        self._currency = None if money is None else money.currency
        self._live: PerProcess[Cashier] = PerProcess()
        self._check()

    def _check(self) -> None:
        """Raise where the options do not fit this kind of budget."""

    def _new_purse(self) -> Purse:
        """Where this process counts."""
        return MemoryPurse() if self.state is None else FilePurse(self.state, self.name, lambda: self.currency)

    # ------------------------------------------------------------------ what was spent

    @property
    def spent(self) -> Spent:
        """What was spent by all that count together, with what is set aside at this moment.

        Raises
        ------
        StoreNotAvailable
            It cannot be read.
        """
        spending = self._spending()
        return self._as_spent(spending.total, spending)

    def receipt(self) -> dict[str, Spent]:
        """What was spent at each source, by the names of the tiers, with what is set aside at this moment.

        Raises
        ------
        StoreNotAvailable
            It cannot be read.
        """
        spending = self._spending()
        return {name: self._as_spent(amount, spending) for name, amount in spending.sources.items()}

    def settle(self) -> None:
        """Give back what this process has been granted and does not need now. Raises `StoreNotAvailable`."""
        live = self._live.get()
        if live is not None:
            self._guarded(live.give_back)

    def _spending(self) -> Spending:
        self.settle()
        spending: Spending = self._guarded(self.cashier().purse.spending)
        return spending

    def _as_spent(self, amount: Amount, spending: Spending) -> Spent:
        currency = self._currency or spending.currency
        money = None if currency is None else money_of(amount.units, currency)
        return Spent(money, amount.calls, amount.requests, amount.bytes)

    # ------------------------------------------------------------------ paying

    @property
    def currency(self) -> str | None:
        """Code of the currency of all prices; None: no price is known yet."""
        return self._currency

    @property
    def by_size(self) -> bool:
        """Whether the bytes of answers have a cap."""
        return self.bytes is not None

    def till(self, name: str, price: Price | None, *, paid: bool) -> Till:
        """What one source pays with.

        Parameters
        ----------
        name
            Name of the source, for the receipt.
        price
            What the source asks; None: nothing is known.
        paid
            Whether the source is known to cost money or quota.

        Raises
        ------
        ValueError
            A paid source has no price, and there is a cap in money; or the price is in another currency.
        """
        unknown = price is None or (price.per_call is None and price.currency is not None)
        if unknown and paid and self.most is not None:
            raise ValueError(
                f"{name} costs money and has no price, so a budget of {self.most} cannot hold: give it one, as in "
                "price='0.002 USD' (or '0 USD', if it costs only quota)"
            )
        price = price or Price()
        currency = price.currency
        if currency is not None:
            if self._currency not in (None, currency):
                raise ValueError(
                    f"{name} asks for {currency}, and the {self.name!r} budget is in {self._currency}: give it a price "
                    f"in {self._currency}"
                )
            self._currency = currency
        return Till(self, name, price)

    def cashier(self) -> Cashier:
        """What sets aside and settles in this process."""
        live = self._live.get()
        if live is None:
            live = self._live.set_once(Cashier(self._new_purse(), self._caps))
            if live.purse.shared:
                atexit.register(self._settle_at_exit)
        return live

    def refusal(self, store: object, need: Amount, left: Caps) -> BudgetReached:
        """The error of a call or request that may cost `need`, where no more than `left` is left."""
        short = [
            kind
            for kind, value, rest in zip(Caps.KINDS, need, left.values(), strict=True)
            if rest is not None and value > rest
        ]
        told = " and ".join(self._in_words(kind, getattr(self._caps, kind)) for kind in short)
        rest = " and ".join(self._in_words(kind, getattr(left, kind)) for kind in short)
        asks = " and ".join(self._in_words(kind, getattr(need, kind)) for kind in short)
        what = "call" if need.calls else "request"
        reason = f"the budget of {told or self} is used up: {rest} is left, and the next {what} may cost {asks}"
        if self.name != "budget":
            reason = f"budget {self.name!r}: {reason}"
        return BudgetReached(store, reason)

    def _in_words(self, kind: str, value: int) -> str:
        if kind == "units":
            return str(money_of(value, self._currency or "XXX"))
        return rounded_size(value) if kind == "bytes" else f"{value:,} {kind}"

    def _settle_at_exit(self) -> None:
        with contextlib.suppress(StoreNotAvailable):  # it counts as spent
            self.settle()

    def _guarded(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except AccountError as error:
            raise StoreNotAvailable(f"budget {self.name!r}", str(error)) from error

    def __str__(self) -> str:
        parts = [] if self.most is None else [str(self.most)]
        parts += [f"{count:,} {kind}" for kind in ("calls", "requests") if (count := getattr(self, kind)) is not None]
        parts += [] if self.bytes is None else [format_size(self.bytes)]
        return " and ".join(parts) or "no cap"

    def __repr__(self) -> str:
        options = [] if self.most is None else [repr(str(self.most))]
        options += [
            f"{kind}={value!r}" for kind in ("calls", "requests", "bytes") if (value := getattr(self, kind)) is not None
        ]
        options += [] if self.name == "budget" else [f"name={self.name!r}"]
        options += [] if self.state is None else [f"state={self.state!r}"]
        return f"{type(self).__name__}({', '.join(options)})"
