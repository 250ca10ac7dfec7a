"""Sending again what may succeed: transient statuses and broken connections, within a budget.

Back-off is exponential with full jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from bitstore.transfer.request import Request, Response, TransferError
from bitstore.transfer.steps import Sleep, Steps

__all__ = ["Retry", "Tally", "send"]

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

# libcurl codes after which the same request may succeed (https://curl.se/libcurl/c/libcurl-errors.html):
# could not resolve / connect, partial file, timeout, SSL connect, got nothing, send, receive, HTTP/2 stream.
TRANSIENT_CODES = frozenset({6, 7, 16, 18, 28, 35, 52, 55, 56, 92})


@dataclass(frozen=True, slots=True)
class Retry:
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

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th try (from 1)."""
        ceiling: float = min(self.longest_delay, self.first_delay * 2 ** (attempt - 1))
        return random.uniform(0, ceiling)


class Tally:
    """Counts of one store's transfers: requests sent, and how many of them were retries."""

    __slots__ = ("requests", "retries")

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0


def send(request: Request, retry: Retry, tally: Tally) -> Steps[Response]:
    """Send `request` until an answer comes that is not transient, or the budget is spent.

    Returns the last answer, whatever its status.

    Raises
    ------
    TransferError
        The last attempt brought no whole answer.
    """
    attempt = 1
    started = time.monotonic()
    while True:
        tally.requests += 1
        delay = 0.0
        try:
            response: Response = yield request
        except TransferError as error:
            if error.code not in TRANSIENT_CODES or attempt >= retry.attempts:
                raise
            delay = retry.delay(attempt)
            if time.monotonic() - started + delay > retry.budget:
                raise
        else:
            if response.status not in TRANSIENT_STATUSES or attempt >= retry.attempts:
                return response
            # The server's own word counts, spread a little so that a crowd does not come back as one.
            delay = response.retry_after * random.uniform(1.0, 1.1) or retry.delay(attempt)
            if time.monotonic() - started + delay > retry.budget:
                return response
        tally.retries += 1
        attempt += 1
        yield Sleep(delay)
