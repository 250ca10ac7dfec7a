"""Sending again what may succeed: transient statuses and broken connections, within a budget.

Back-off is exponential with full jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bitstore._support import clock
from bitstore._support.checks import ChecksOptions, check_seconds
from bitstore.steps import Request, Response, Sleep, Steps, TransferError

__all__ = ["LEAST_GAIN", "Rate", "Retry", "Tally", "gets_on", "send"]

if TYPE_CHECKING:
    pass

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

# libcurl codes after which the same request may succeed (https://curl.se/libcurl/c/libcurl-errors.html):
# could not resolve / connect, partial file, timeout, SSL connect, got nothing, send, receive, HTTP/2 stream.
TRANSIENT_CODES = frozenset({6, 7, 16, 18, 28, 35, 52, 55, 56, 92})

_NO_SUCH_HOST = 6
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch

# Bytes that make it worth all tries anew when a body was cut, or of a small blob this part of it: a server that gives
# a byte at each try, or always the same first ones, must not keep a lookup for ever.
LEAST_GAIN = 4096
_LEAST_PART = 16


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
        """The server asks for less (429, 503)."""


class Tally:
    """Counts of one store's transfers: requests sent, and how many of them were retries.

    Parameters
    ----------
    rate
        What each of them waits for, retries as well; None: nothing.
    """

    __slots__ = ("rate", "requests", "retries")

    def __init__(self, rate: Rate | None = None) -> None:
        self.rate = rate
        self.requests = 0
        self.retries = 0


def send(request: Request, retry: Retry, tally: Tally) -> Steps[Response]:
    """Send `request` until an answer comes that is not transient, or the budget is spent.

    A body that was cut is fetched on from where it was cut, if the server names its version (`ETag`), so that
    the two parts belong together; else from the start. As long as the tries get on, they go on.

    Returns the last answer, whatever its status.

    Raises
    ------
    TransferError
        The last attempt brought no whole answer.
    """
    if tally.rate is not None:
        yield from tally.rate.turn_steps()
    started = clock.monotonic()
    tally.requests += 1
    try:
        response: Response = yield request
    except TransferError as error:
        # Within this clause, which forgets the error at its end: see the end of _send_again.
        return (yield from _send_again(request, retry, tally, error, started))
    if response.status not in TRANSIENT_STATUSES:
        return response  # by far the most: nothing of what follows is made for them
    return (yield from _send_again(request, retry, tally, response, started))


def _send_again(
    request: Request, retry: Retry, tally: Tally, outcome: Response | TransferError, started: float
) -> Steps[Response]:
    attempt = 1
    cut = _Cut(request)
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
        elif outcome.status not in TRANSIENT_STATUSES:
            whole = cut.complete(outcome)
            if whole is not None or attempt >= retry.attempts:
                return outcome if whole is None else whole
            delay = 0.0
        else:
            if tally.rate is not None and outcome.status in (429, 503):
                tally.rate.slow_down()
            # The server's own word counts, spread a little so that a crowd does not come back as one.
            delay = outcome.retry_after * random.uniform(1.0, 1.1) or retry.delay(attempt)
            if attempt >= retry.attempts or clock.monotonic() - started + delay > retry.budget:
                return outcome
        yield Sleep(delay)
        if tally.rate is not None:
            asked = clock.monotonic()
            yield from tally.rate.turn_steps()
            started += clock.monotonic() - asked  # the server is not to blame for it
        tally.requests += 1
        tally.retries += 1
        attempt += 1
        try:
            outcome = yield cut.request
        except TransferError as error:
            outcome = error


def gets_on(gained: int, here: int, total: int | None) -> bool:
    """Whether a body that was cut again has come far enough since the tries last began to begin them anew.

    Parameters
    ----------
    gained
        Bytes that have come since then.
    here
        Bytes that have come in all.
    total
        Bytes of the whole as the server named them; None: it did not.
    """
    if total is None or here > total:
        return gained >= LEAST_GAIN
    return gained >= max(1, min(LEAST_GAIN, total // _LEAST_PART))


class _Cut:
    """What has arrived of a body that was cut, and the request for the rest of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.restarts = 0
        self._whole = request
        self._parts: list[bytes] = []
        self._arrived = 0
        self._furthest = 0  # bytes that had arrived when the tries last began anew
        self._total: int | None = None
        self._etag = ""

    def keep(self, error: TransferError) -> bool:
        """Keep the bytes that came before `error`. True: they are so many that the tries begin anew."""
        if self._whole.sink is not None:  # it keeps what came, and asks for the rest by itself
            return self._whole.sink.advanced()
        if error.status == 200 and not error.partial and not self._whole.want_headers:
            self.request = self._variant()  # its head may have been cut, which only who looks at it can tell
            return False
        if (
            self._whole.method != "GET"
            or not error.partial
            or any(line.startswith("Range:") for line in self._whole.headers)
        ):
            return False
        if error.status == 200:
            self._forget()
            self._etag = error.headers.get("etag", "")
            length = error.headers.get("content-length", "")
            self._total = int(length) if _LENGTH(length) else None
            if not self._etag or self._etag.startswith("W/"):
                # Headers are not collected unless needed: each costs a call into Python. From here on they are.
                self.request = self._variant()
                return False
        elif not (error.status == 206 and self._continues(error.headers)):
            return False
        self._parts.append(error.partial)
        self._arrived += len(error.partial)
        # With If-Match the server gives a part of this version of the blob or nothing:
        # https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
        self.request = self._variant(f"Range: bytes={self._arrived}-", f"If-Match: {self._etag}")
        further = gets_on(self._arrived - self._furthest, self._arrived, self._total)
        if further:
            self._furthest = self._arrived
        return further

    def complete(self, response: Response) -> Response | None:
        """The whole answer; None: the rest does not fit what had arrived, so all must be asked for again."""
        if not self._parts or response.status == 200:  # 200: all of it anew, although a part was asked for
            return response
        if response.status == 206 and self._continues(response.headers):
            return response._replace(status=200, body=b"".join([*self._parts, response.body]))
        if response.status in (206, 412, 416):
            self.restarts += 1
            self._forget()
            self.request = self._variant()
            return None
        return response

    def _forget(self) -> None:
        self._parts.clear()
        self._arrived = 0

    def _continues(self, headers: Mapping[str, str]) -> bool:
        start = f"bytes {self._arrived}-"
        return (
            bool(self._parts)
            and headers.get("etag") == self._etag
            and headers.get("content-range", "").startswith(start)
        )

    def _variant(self, *more: str) -> Request:
        whole = self._whole
        left = max(1, whole.max_bytes - self._arrived) if whole.max_bytes else whole.max_bytes
        return Request(whole.profile, whole.url, headers=(*whole.headers, *more), want_headers=True, max_bytes=left)
