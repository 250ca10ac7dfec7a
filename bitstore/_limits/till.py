"""What one source pays with: each call and request of it is set aside before it is made, and settled afterwards."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bitstore._limits.cashier import Cashier
from bitstore._limits.line import Line
from bitstore._limits.purses import Caps
from bitstore._limits.state import AccountError
from bitstore._money.amount import NOTHING, Amount
from bitstore._money.price import GIB, Price
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore.errors import BudgetReached, StoreNotAvailable
from bitstore.steps import ERROR_BYTES, TOO_LARGE, Call, Request, Response, Sink, Steps, TransferError, Wait

__all__ = ["Payer", "Till"]

# Bytes that may have left the server when a body is given up: what sockets and networks hold.
_ON_ITS_WAY = 1 << 20
# Bytes that are set aside at a time for a body that goes to a file.
_SLICE = 8 << 20
# The most bytes of a body in memory, where the store has no limit of its own.
_MOST = 4 * GIB
# Codes of libcurl for requests that no server has got: no such host, no connection, no TLS, no transport takes it.
_NEVER_SENT = frozenset({5, 6, 7, 35, 43})


class Payer(Protocol):
    """Whose money it is: a `Budget`."""

    @property
    def name(self) -> str:
        """Name of the budget in errors."""

    @property
    def by_size(self) -> bool:
        """Whether the bytes of answers have a cap."""

    def cashier(self) -> Cashier:
        """What sets aside and settles in this process."""

    def refusal(self, store: object, need: Amount, left: Caps) -> BudgetReached:
        """The error of a call or request that may cost `need`, where no more than `left` is left."""


class Till(KeepsPerProcess):
    """What one source pays with. Pickles as its configuration.

    Parameters
    ----------
    budget
        Whose money it is.
    name
        Name of the source, for the receipt.
    price
        What the source asks.
    """

    part_of_store = False

    def __init__(self, budget: Payer, name: str, price: Price) -> None:
        self.budget = budget
        self.name = name
        self.price = price
        self._call = price.call()
        # Whether what a request may cost depends on the size of its answer.
        self._by_size = budget.by_size or price.bytes_units(GIB) > 0
        self._lines: PerProcess[Line] = PerProcess()

    # ------------------------------------------------------------------ calls of paid sources

    def paying(self, store: object, function: Callable[..., Any], *args: Any) -> Any:
        """What `function(*args)` returns, after its call is paid for, whatever becomes of it. May block.

        Raises
        ------
        BudgetReached
            The budget does not allow the call.
        StoreNotAvailable
            The call cannot be counted.
        """
        left = self._grant(self._call, under_way=0)
        if left is not None:
            raise self.budget.refusal(store, self._call, left)
        return function(*args)

    # ------------------------------------------------------------------ requests

    def exchange(self, request: Request) -> Steps[Response]:
        """The answer to `request`, which is sent once, after the most that it may cost is set aside.

        Raises
        ------
        BudgetReached
            The budget does not allow the request, or not an answer as large as this one.
        StoreNotAvailable
            The request cannot be counted.
        TransferError
            No whole answer came.
        """
        cashier, bound = self.budget.cashier(), self._bound(request)
        held, most = yield from self._set_aside(request, bound)
        sink = None if request.sink is None else _PaidSink(request.sink, self)
        sent = request if sink is None and most == bound else _changed(request, most, sink)
        spent = held  # what a request that is given up comes to is unknown
        try:
            response: Response = yield sent
            free = response.status == 404 and not self.price.misses_billed
            size = len(response.body) + (0 if sink is None else sink.taken)
            spent = NOTHING._replace(requests=1, bytes=size) if free else self._cost(request, size)
        except TransferError as error:
            size = len(error.partial) + (0 if sink is None else sink.taken)
            if self._by_size and error.status in (200, 206):
                size = min(size + _ON_ITS_WAY, held.bytes + (0 if sink is None else sink.held.bytes))
            spent = NOTHING._replace(requests=1) if error.code in _NEVER_SENT else self._cost(request, size)
            if sink is not None and sink.refused is not None:
                raise sink.refused from error
            if error.code == TOO_LARGE and most is not None and most != bound:
                need = self._cost(request, most + 1 if bound is None else bound)
                raise self.budget.refusal(self.name, need, cashier.left_beside(held)) from error
            raise
        finally:
            cashier.settled(self.name, held if sink is None else held.plus(sink.held), spent)
        if cashier.idle:
            yield Call(self._give_back, cashier)
        return response

    def _bound(self, request: Request) -> int | None:
        """The most bytes that an answer brings; None: any number."""
        if request.method == "HEAD":
            return 0
        if request.method != "GET" or request.sink is not None:  # for a file, bytes are set aside as they come
            return ERROR_BYTES
        limit = request.profile.max_bytes if request.max_bytes is None else request.max_bytes
        return max(limit, ERROR_BYTES) if limit else None

    def _cost(self, request: Request, size: int) -> Amount:
        writes = request.method not in ("GET", "HEAD") or _lists(request.url)
        return self.price.write(size) if writes else self.price.read(size)

    def _set_aside(self, request: Request, bound: int | None) -> Steps[tuple[Amount, int | None]]:
        """What is set aside, and the most bytes that the answer may have for it; None: any number.

        It is less than the most that the request may cost where no more is left while no other request is under way.
        """
        size = bound
        if self._by_size:
            size = _MOST if bound is None else bound
        need = self._cost(request, (size or 0) if self._by_size else 0)
        if self.budget.cashier().at_once(self.name, need):
            return need, size
        line = self._lines.get() or self._lines.set_once(Line())
        place = line.enter()
        claim = _Claim()
        try:
            if not place.first:
                yield Wait(place)
            if self.budget.cashier().at_once(self.name, need):
                return need, size
            held: tuple[Amount, int | None] = yield Call(self._wait_for, claim, request, need, size)
            return held
        except BaseException:  # also GeneratorExit: the thread of the call goes on when the lookup has given up
            self._free(claim.give_up())
            raise
        finally:
            place.leave()

    def _wait_for(self, claim: _Claim, request: Request, need: Amount, size: int | None) -> tuple[Amount, int | None]:
        while True:
            left = self._grant(need, under_way=1)
            if left is None:
                self._free(claim.keep(need))
                return need, size
            smaller = self._affordable(left, request) if self._by_size and size else 0
            if smaller < ERROR_BYTES:
                raise self.budget.refusal(self.name, need, left)
            size = min(smaller, size or 0)
            need = self._cost(request, size)

    def _free(self, held: Amount | None) -> None:
        if held is not None:
            self.budget.cashier().settled(self.name, held, NOTHING)

    def _affordable(self, left: Caps, request: Request) -> int:
        """How many bytes an answer may have for what is left."""
        fixed = self._cost(request, 0)
        sizes = [] if left.bytes is None else [left.bytes]
        if left.units is not None and (per_gib := self._cost(request, GIB).units - fixed.units):
            sizes.append(max(0, left.units - fixed.units) * GIB // per_gib)
        return min(sizes, default=0) if left.allow(fixed) else 0

    def more(self, size: int) -> Amount | BudgetReached:
        """Set aside what `size` further bytes of an answer may cost, or more; what is refused is an error."""
        if not self._by_size:
            return Amount(bytes=max(size, _SLICE))
        need = Amount(self.price.bytes_units(size), bytes=size)
        slice_ = Amount(self.price.bytes_units(_SLICE), bytes=_SLICE)
        if size < _SLICE and self._grant(slice_, under_way=0, wait=False) is None:
            return slice_
        left = self._grant(need, under_way=0, wait=False)
        return need if left is None else self.budget.refusal(self.name, need, left)

    def _give_back(self, cashier: Cashier) -> None:
        with contextlib.suppress(AccountError):  # it counts as spent
            cashier.give_back()

    def _grant(self, need: Amount, *, under_way: int, wait: bool = True) -> Caps | None:
        try:
            return self.budget.cashier().grant(self.name, need, under_way=under_way, wait=wait)
        except AccountError as error:
            raise StoreNotAvailable(self.name, f"budget {self.budget.name!r}: {error}") from error


class _Claim:
    """What a thread sets aside for a lookup that may give up meanwhile: it is freed once, by the later of the two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Amount | None = None
        self._given_up = False

    def keep(self, amount: Amount) -> Amount | None:
        """Keep what is set aside. Returns what is to be freed: all of it, where the lookup has given up."""
        with self._lock:
            self._held = amount
            return amount if self._given_up else None

    def give_up(self) -> Amount | None:
        """The lookup has given up. Returns what is to be freed: what is set aside by now."""
        with self._lock:
            self._given_up = True
            return self._held


class _PaidSink:
    """A sink that takes no more than what is paid for."""

    def __init__(self, sink: Sink, till: Till) -> None:
        self._sink = sink
        self._till = till
        self.taken = 0  # bytes of this answer
        self.held = NOTHING  # what is set aside for them
        self.refused: BudgetReached | None = None

    def headers(self) -> tuple[str, ...]:
        """See `Sink`."""
        return self._sink.headers()

    def begin(self, status: int, headers: Mapping[str, str]) -> bool:
        """See `Sink`."""
        return self._sink.begin(status, headers)

    def write(self, chunk: bytes) -> bool:
        """See `Sink`."""
        self.taken += len(chunk)
        if self.taken > self.held.bytes:
            try:
                more = self._till.more(len(chunk))
            except StoreNotAvailable as error:
                more = BudgetReached(self._till.name, str(error.reason))
            if isinstance(more, BudgetReached):
                self.refused = more
                return False
            self.held = self.held.plus(more)
        return self._sink.write(chunk)

    def advanced(self) -> bool:
        """See `Sink`."""
        return self._sink.advanced()


def _changed(request: Request, most: int | None, sink: Sink | None) -> Request:
    return Request(
        request.profile,
        request.url,
        method=request.method,
        body=request.body,
        headers=request.headers,
        want_headers=request.want_headers,
        max_bytes=request.max_bytes if sink is not None or most is None else most,
        sink=request.sink if sink is None else sink,
        hash_with=request.hash_with,
    )


def _lists(url: str) -> bool:
    """Whether a GET of `url` lists a bucket, which costs as much as a write."""
    path, _, query = url.partition("?")
    return "list-type=2" in query or (path.endswith("/o") and "maxResults=" in query)
