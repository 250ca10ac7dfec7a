"""What a store asks a service during a lookup, and what it hears: the requests within the steps of the lookup."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from bitstore._lookup.run import run
from bitstore._support.redact import redact_url
from bitstore.errors import InvalidDataFound, NotFoundInStore
from bitstore.steps import Cancelled, Request, Response, Steps, Together

__all__ = ["Exchange", "Heard", "overheard"]

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """One request, and what came of it."""

    method: str
    url: str  # without signatures and passwords
    seconds: float  # until the answer was whole, or the failure known
    response: Response | None  # None: no whole answer came
    error: BaseException | None  # why not
    skew: float | None  # seconds by which the clock of the service is ahead of ours, by its Date header

    @property
    def status(self) -> int:
        """The HTTP status; 0: no answer came."""
        return 0 if self.response is None else self.response.status


@dataclass
class Heard:
    """What one question came to."""

    exchanges: list[Exchange]
    result: Any = None  # what the question returned
    error: BaseException | None = None  # what it raised instead

    @property
    def last(self) -> Exchange | None:
        """The last request, other than a HEAD that followed it, whose answer says no more; None: none was sent."""
        asked = [each for each in self.exchanges if each.method != "HEAD"] or self.exchanges
        return asked[-1] if asked else None

    @property
    def status(self) -> int:
        """The HTTP status of the last answer; 0: there was none."""
        return 0 if self.last is None else self.last.status

    @property
    def says_missing(self) -> bool:
        """Whether the answer is that there is no such blob."""
        return isinstance(self.error, NotFoundInStore) and not isinstance(self.error, InvalidDataFound)


def overheard(ask: Callable[[], Steps[Any]], *, timeout: float) -> Heard:
    """What a question comes to, with all of its requests.

    Parameters
    ----------
    ask
        Makes the steps of the question.
    timeout
        Seconds for all of it. When they are over, its error is a `TimeoutError`.
    """
    heard = Heard([])
    try:
        heard.result = run(_listening(ask(), heard.exchanges), timeout=timeout)
    except Cancelled:
        heard.error = TimeoutError(f"no answer within {timeout:g} s")
    except (Exception, SystemExit) as error:  # whatever a store raises is what the check is about
        heard.error = error
    return heard


def _listening(steps: Steps[T], exchanges: list[Exchange]) -> Steps[T]:
    """`steps`, whose requests are noted in `exchanges`."""
    try:
        step: Any = steps.send(None)
        while True:
            if isinstance(step, Together):
                step = Together([_listening(part, exchanges) for part in step.parts])
            request = step if isinstance(step, Request) else None
            if request is not None:
                request.want_headers, request.plain = True, False  # for the Date header
            started, now = time.monotonic(), time.time()
            try:
                answer = yield step
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:
                if request is not None:
                    seconds = time.monotonic() - started
                    exchanges.append(Exchange(request.method, redact_url(request.url), seconds, None, error, None))
                step = steps.throw(error)
            else:
                if request is not None:
                    seconds = time.monotonic() - started
                    skew = _skew(answer, now + seconds / 2)
                    exchanges.append(Exchange(request.method, redact_url(request.url), seconds, answer, None, skew))
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _skew(response: Response, now: float) -> float | None:
    try:
        date = parsedate_to_datetime(response.headers["date"]).timestamp()
    except (LookupError, ValueError, TypeError):  # no date, or an invalid one
        return None
    # The header has whole seconds, cut off: within the second that it names, the clocks agree.
    return 0.0 if 0 <= now - date < 1 else date - now if date > now else date + 1 - now
