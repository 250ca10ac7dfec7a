"""Sources that cost money or quota per call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._limits.absences import Absences
from bitstore._limits.calls import Limit, call_again_steps
from bitstore._limits.till import Till
from bitstore._lookup.run import run
from bitstore._money.money import Money
from bitstore._money.price import Price
from bitstore._support.fingerprint import set_or_drop
from bitstore._support.spans import format_span
from bitstore.errors import InvalidDataFound, NotFoundInStore, TooManyRequests
from bitstore.outline import Outline
from bitstore.steps import Call, Found, Steps
from bitstore.store import Store

__all__ = ["DigestAPISource"]


class DigestAPISource(DigestFormatMixin, VerifyDigestMixin, Store, ABC):
    """A source that costs money or quota per call. Subclasses implement `api_get`.

    Parameters
    ----------
    verify
        Check that the bytes match their digest.
    limit
        How many calls the API allows: a `CallLimit`, or on a Ray cluster a `ray_integration.ClusterLimit`.
    remember_missing
        Seconds for which a digest is not asked for again that the API said it lacks, in the same process; None: it is
        asked each time. Only such definite answers are remembered, the last 100,000 of them.
    price
        What the API asks for each call: money (`"0.002 USD"`) or a `Price`; None: unknown.

    Raises
    ------
    TypeError, ValueError
        `limit` is no limit, or `price` is no price.
    """

    paid = True
    # Class attributes, because subclasses may not call `__init__`.
    verify: bool = False
    limit: Limit | None = None
    _absences: Absences | None = None
    _price: Price | None = None
    _till: Till | None = None  # what calls are paid with; None: they are counted against no budget

    def __init__(
        self,
        verify: bool = False,
        *,
        limit: Limit | None = None,
        remember_missing: float | None = None,
        price: Price | Money | str | None = None,
    ) -> None:
        self.verify = verify
        if limit is not None and not hasattr(limit, "call_steps"):
            raise TypeError(f"limit={limit!r}: expected a CallLimit or a ClusterLimit")
        self.limit = limit
        self.remember_missing = remember_missing
        if price is not None:
            self.price = price

    @property
    def price(self) -> Price | None:
        """What the API asks for each call; None: unknown. It may be set to money, or to a `Price`."""
        return self._price

    @price.setter
    def price(self, price: Price | Money | str | None) -> None:
        set_or_drop(self, "_price", None if price is None else Price.of(price))
        if self._till is not None:
            self.pay_from(self._till.budget, self._till.name)

    def pay_from(self, budget: Any, name: str) -> None:
        """Count all calls against `budget` (a `Budget`; None: against none), as those of the tier `name`."""
        set_or_drop(self, "_till", None if budget is None else budget.till(name, self._price, paid=True))

    @property
    def remember_missing(self) -> float | None:
        """As given. Setting it forgets what was remembered."""
        return None if self._absences is None else self._absences.seconds

    @remember_missing.setter
    def remember_missing(self, seconds: float | None) -> None:
        self._absences = None if seconds is None else Absences(seconds)

    @abstractmethod
    def api_get(self, digest: str, /) -> Any:
        """The bytes of the lower-case `digest`; None (or `NotFoundInStore`) if the API says that it lacks them.

        Any exception means that we do not know. `TooManyRequests` says besides that the API asks for a pause: it is
        made, and then this is called again, a few times.
        """

    def get(self, digest: str) -> bytes:
        """What `api_get` returns for the digest. Raises `NotFoundInStore` where that is None."""
        self._check_valid(digest)
        data: bytes = run(self.get_steps(digest)).data
        return data

    def outline(self) -> Outline:
        """Its limit, and for how long absences are remembered."""
        facts: dict[str, Any] = {"paid": True, "verify": bool(self.verify)}
        facts |= {} if self._price is None else {"price": str(self._price)}
        facts |= {} if self.limit is None else {"limit": repr(self.limit)}
        facts |= {} if self.remember_missing is None else {"remembers missing, s": self.remember_missing}
        return replace(super().outline(), facts=facts)

    def get_steps(self, digest: str) -> Steps[Found]:
        digest = self._text(digest)
        key = digest.lower()
        absences = self._absences
        if absences is not None and key in absences:
            raise NotFoundInStore(self, digest, why=f"said so, remembered for {format_span(absences.seconds)}")
        try:
            data = yield from self._call_steps(key)
        except InvalidDataFound:
            raise
        except NotFoundInStore:  # their own words for None
            if absences is not None:
                absences.add(key)
            raise
        if data is None:
            if absences is not None:
                absences.add(key)
            raise NotFoundInStore(self, digest)
        if self.verify:
            data = self._verify_data(data, digest)
        return Found(data, self.label)

    def _call_steps(self, key: str) -> Steps[Any]:
        call: Callable[[str], Any] = self.api_get
        if self._till is not None:
            call = partial(self._till.paying, self.label, call)
        if self.limit is not None:
            return (yield from self.limit.call_steps(self.label, call, key))
        try:
            return (yield Call(call, key))
        except TooManyRequests as error:
            return (yield from call_again_steps(error, self.label, call, key))
