"""Sending again what may succeed: transient statuses and broken connections, within a budget.

Back-off is exponential with full jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bitstore._lookup.cut import Cut
from bitstore._lookup.eased import AdaptiveRate
from bitstore._support import clock
from bitstore._support.checks import ChecksOptions, check_seconds
from bitstore.steps import Request, Response, Sleep, Steps, TransferError

__all__ = ["ASK_FOR_LESS", "OUTAGES", "Pays", "Rate", "Retry", "TransferCounts", "send"]

# The service is out, or asks for less. Beside the registered statuses those of proxies at the edge of networks:
# https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/ (52x, 530),
# bandwidth and overload of hosting services (509, 529), and time-outs of proxies (598, 599).
OUTAGES = frozenset({429, 502, 503, 504, 509, *range(520, 528), 529, 530, 598, 599})
TRANSIENT_STATUSES = OUTAGES | {408, 425, 500}
ASK_FOR_LESS = frozenset({429, 503, 509, 529})

# libcurl codes after which the same request may succeed (https://curl.se/libcurl/c/libcurl-errors.html):
# could not resolve / connect, partial file, timeout, SSL connect, got nothing, send, receive, HTTP/2 stream.
TRANSIENT_CODES = frozenset({6, 7, 16, 18, 28, 35, 52, 55, 56, 92})

_NO_SUCH_HOST = 6


@dataclass(frozen=True, slots=True)
class Retry(ChecksOptions):
    """How often and how long to try.

    Attributes
    ----------
    attempts
        How many times a request may be sent in all; 1: never again.
    first_delay, longest_delay
        Seconds: the upper bound of the first pause, and of any.
    budget
        Seconds after which no further attempt is begun; a `Retry-After` beyond it ends the tries at once.
    """

    attempts: int = 4
    first_delay: float = 0.1
    longest_delay: float = 5.0
    budget: float = 30.0

    def __post_init__(self) -> None:
        attempts: Any = self.attempts
        if not isinstance(attempts, int) or attempts < 1:
            raise ValueError(f"attempts is a number of tries of at least 1, not {attempts!r}")
        for name in ("first_delay", "longest_delay", "budget"):
            check_seconds(name, getattr(self, name), or_zero=True)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th try (from 1)."""
        ceiling: float = min(self.longest_delay, self.first_delay * 2 ** (attempt - 1))
        return random.uniform(0, ceiling)


class Rate(Protocol):
    """How often requests may be sent, as `bitstore._limits.rates.RateLimit`."""

    def turn_steps(self) -> Steps[None]:
        """Wait until a request may go."""

    def slow_down(self) -> None:
        """The server asks for fewer requests."""


class Pays(Protocol):
    """What requests are paid with, as `bitstore._limits.till.Till`."""

    def exchange(self, request: Request) -> Steps[Response]:
        """The answer to `request`, sent once. Raises `BudgetReached` where it may cost too much."""


class TransferCounts:
    """Counts of one store's transfers: requests sent, and how many of them were retries.

    Parameters
    ----------
    rate
        What each of them waits for, retries as well; None: nothing.
    till
        What each of them is paid with, retries as well; None: they are not counted against any budget.
    is_refusal
        Whether an answer asks for fewer requests. A 403 of which it says so is tried again.
    """

    __slots__ = ("eased", "is_refusal", "rate", "requests", "retries", "till")

    def __init__(
        self,
        rate: Rate | None = None,
        till: Pays | None = None,
        is_refusal: Callable[[Response], bool] = lambda answer: answer.status in ASK_FOR_LESS,
    ) -> None:
        self.rate = rate
        self.till = till
        self.is_refusal = is_refusal
        self.requests = 0
        self.retries = 0
        self.eased: dict[str, AdaptiveRate] = {}  # by origin (`https://host`): those that refuse some requests

    def easing(self, url: str) -> AdaptiveRate | None:
        """What requests to `url` wait for, because their origin has refused some; None: for nothing."""
        origin = _origin(url)
        eased = self.eased.get(origin)
        if eased is not None and eased.is_over:
            self.eased.pop(origin, None)
            return None
        return eased

    @property
    def is_eased(self) -> bool:
        """Whether an origin refuses so many requests that they are bounded."""
        return any(each.per_second is not None for each in list(self.eased.values()))

    def refused(self, url: str) -> None:
        """The answer to a request was a refusal."""
        if self.rate is not None:
            self.rate.slow_down()
        elif (eased := self.easing(url)) is not None:
            eased.count(refused=True)
        else:
            self.eased.setdefault(_origin(url), AdaptiveRate()).count(refused=True)

    def answered(self, url: str) -> None:
        """A request was not refused."""
        if self.eased and (eased := self.easing(url)) is not None:
            eased.count(refused=False)

    def turn_steps(self, url: str) -> Steps[None]:
        """Wait until a request may go."""
        if self.rate is not None:
            yield from self.rate.turn_steps()
        elif (eased := self.easing(url)) is not None:
            yield from eased.turn_steps()


def _origin(url: str) -> str:
    return url[: url.find("/", len("https://"))]


def send(request: Request, retry: Retry, tally: TransferCounts) -> Steps[Response]:
    """Send `request` until an answer comes that is not transient, or the budget is spent.

    A body that was cut is fetched on from where it was cut, if the server names its version (`ETag`), so that
    the two parts belong together; else from the start. As long as the tries get on, they go on.

    Returns the last answer, whatever its status.

    Raises
    ------
    TransferError
        The last attempt brought no whole answer.
    """
    if tally.rate is not None or tally.eased:
        yield from tally.turn_steps(request.url)
    started = clock.monotonic()
    tally.requests += 1
    try:
        response: Response = (yield request) if tally.till is None else (yield from tally.till.exchange(request))
    except TransferError as error:
        # Within this clause, which forgets the error at its end: see the end of _send_again.
        return (yield from _send_again(request, retry, tally, error, started))
    if response.status not in TRANSIENT_STATUSES and not (response.status == 403 and tally.is_refusal(response)):
        if tally.eased:
            tally.answered(request.url)
        return response  # by far the most: nothing of what follows is made for them
    return (yield from _send_again(request, retry, tally, response, started))


def _send_again(
    request: Request, retry: Retry, tally: TransferCounts, outcome: Response | TransferError, started: float
) -> Steps[Response]:
    if request.sent_at is not None:
        started = request.sent_at
    attempt = 1
    cut = Cut(request)
    while True:
        if isinstance(outcome, TransferError):
            transient = outcome.code in TRANSIENT_CODES
            if transient and cut.keep(outcome):
                attempt, started = 1 + cut.restarts, clock.monotonic()
            delay = retry.delay(attempt)
            # A name that does not resolve is mostly a wrong one, and to ask for it may take seconds each time.
            attempts = min(2, retry.attempts) if outcome.code == _NO_SUCH_HOST else retry.attempts
            if not transient or attempt >= attempts or clock.monotonic() - started + delay > retry.budget:
                try:
                    raise outcome
                finally:
                    # The error refers to this frame, and must not be referred to from it: such a cycle would keep
                    # what had come of a large blob in memory until the collector finds it.
                    del outcome
        elif outcome.status not in TRANSIENT_STATUSES and not (outcome.status == 403 and tally.is_refusal(outcome)):
            tally.answered(request.url)
            whole = cut.complete(outcome)
            if whole is not None or attempt >= retry.attempts:
                return outcome if whole is None else whole
            delay = 0.0
        else:
            if tally.is_refusal(outcome):
                tally.refused(request.url)
            # The server's own word counts, spread a little so that a crowd does not come back as one.
            delay = outcome.retry_after * random.uniform(1.0, 1.1) or retry.delay(attempt)
            if attempt >= retry.attempts or clock.monotonic() - started + delay > retry.budget:
                return outcome
        yield Sleep(delay)
        if tally.rate is not None or tally.eased:
            asked = clock.monotonic()
            yield from tally.turn_steps(request.url)
            started += clock.monotonic() - asked  # the server is not to blame for it
        tally.requests += 1
        tally.retries += 1
        attempt += 1
        try:
            outcome = (yield cut.request) if tally.till is None else (yield from tally.till.exchange(cut.request))
        except TransferError as error:
            outcome = error
