"""An amount of money in one currency. There are no floats, and no two currencies are ever mixed."""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation
from functools import total_ordering
from typing import Any

__all__ = ["Money"]

_TEXT = re.compile(r"\s*([+-]?[0-9][0-9_]{0,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]{3})\s*", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII).fullmatch
# The precision of a thread's own context may be set to anything by its program.
_EXACT = Context(prec=100)


@total_ordering
class Money:
    """An amount of money: `Money("25 USD")`, `Money("0.0004", "USD")`, `Money(Decimal("1.5"), "EUR")`.

    It adds to, subtracts from and compares with money of its own currency, and is multiplied by whole numbers and
    Decimals. What would mix currencies raises ValueError, and a float raises TypeError: `0.1` is no amount of money.
    It is immutable, hashable and pickles.

    Parameters
    ----------
    amount
        A text with or without the currency, an int or a Decimal.
    currency
        Code of three letters (https://www.iso.org/iso-4217-currency-codes.html); None: `amount` names it.

    Raises
    ------
    TypeError
        `amount` is a float, or something else.
    ValueError
        The text is no amount of money, or the code is not of three letters.
    """

    __slots__ = ("amount", "currency")

    amount: Decimal
    currency: str

    def __init__(self, amount: Any, currency: str | None = None) -> None:
        if isinstance(amount, Money):
            if currency not in (None, amount.currency):
                raise ValueError(f"{amount} is no amount of {currency}")
            amount, currency = amount.amount, amount.currency
        elif isinstance(amount, str):
            amount, currency = _read(amount, currency)
        elif isinstance(amount, bool) or not isinstance(amount, (int, Decimal)):
            hint = ": write it as a text, because a float is not exact" if isinstance(amount, float) else ""
            raise TypeError(f"{amount!r} is no amount of money{hint} (right is Money('25 USD'))")
        if currency is None:
            raise ValueError(f"{amount} has no currency: write it as in '25 USD'")
        if _CURRENCY(currency.upper()) is None:
            raise ValueError(f"{currency!r} is no currency: it has a code of three letters, such as USD")
        decimal = Decimal(amount)
        if not decimal.is_finite():
            raise ValueError(f"{amount} is no amount of money")
        object.__setattr__(self, "amount", decimal)
        object.__setattr__(self, "currency", currency.upper())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Money cannot be changed: {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Money, (self.amount, self.currency)

    def __add__(self, other: object) -> Money:
        return self._with(other, "add", _EXACT.add)

    def __sub__(self, other: object) -> Money:
        return self._with(other, "subtract", _EXACT.subtract)

    def __mul__(self, factor: object) -> Money:
        if isinstance(factor, bool) or not isinstance(factor, (int, Decimal)):
            hint = ", which is not exact" if isinstance(factor, float) else ""
            raise TypeError(f"money is multiplied by an int or a Decimal, not by a {type(factor).__name__}{hint}")
        return Money(_EXACT.multiply(self.amount, Decimal(factor)), self.currency)

    __rmul__ = __mul__

    def __neg__(self) -> Money:
        return self * -1

    def __bool__(self) -> bool:
        return bool(self.amount)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        return (self.amount, self.currency) == (other.amount, other.currency)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        self._check(other, "compare")
        return self.amount < other.amount

    def __hash__(self) -> int:
        return hash((self.amount, self.currency))

    def _with(self, other: object, verb: str, do: Any) -> Money:
        if not isinstance(other, Money):
            raise TypeError(f"money and a {type(other).__name__} do not {verb}: write Money('{other} {self.currency}')")
        self._check(other, verb)
        return Money(do(self.amount, other.amount), self.currency)

    def _check(self, other: Money, verb: str) -> None:
        if other.currency != self.currency:
            raise ValueError(f"{self} and {other} do not {verb}: they are of two currencies")

    def rounded(self, digits: int = 4) -> str:
        """The amount with its currency, rounded for reading to `digits` that count, and to cents at the least."""
        amount = self.amount
        places = max(2, digits - 1 - amount.adjusted()) if amount else 2
        whole, _, part = f"{_EXACT.quantize(amount, Decimal(1).scaleb(-places)):,f}".partition(".")
        return f"{whole}.{part.rstrip('0').ljust(2, '0')} {self.currency}"

    def __str__(self) -> str:
        text = f"{self.amount:f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {self.currency}"

    def __repr__(self) -> str:
        return f"Money({str(self)!r})"


def _read(text: str, currency: str | None) -> tuple[Decimal, str]:
    match = _TEXT.fullmatch(text if currency is None else f"{text} {currency}")
    if match is None:
        raise ValueError(f"{text!r} is no amount of money: write it as in '25 USD' or '0.0004 USD'")
    try:
        return Decimal(match[1].replace("_", "")), match[2].upper()
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is no amount of money") from error
