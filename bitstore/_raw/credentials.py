"""What credentials of all services have in common: their errors, time limits for whatever gives them, pauses.

Credentials come from other libraries (boto3, google-auth), which ask services, run programs and read files. Each such
call blocks, so it runs in a thread that is waited for no longer than `CALL_LIMIT`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from bitstore._lookup.retry import Retry
from bitstore._support import clock
from bitstore.steps import Call, Sleep, Steps

__all__ = ["ANONYMOUS", "CONNECT_LIMIT", "READ_LIMIT", "Guarded", "Unusable", "brief", "obtained", "show"]

ANONYMOUS = "anonymous"
CONNECT_LIMIT = 5.0  # seconds for a connection to a service that gives credentials
READ_LIMIT = 8.0  # seconds for an answer of such a service, or between two parts of it
CALL_LIMIT = 20.0  # seconds that a lookup waits for a call of another library; the call itself goes on
REFUSED_FOR = 10.0  # seconds for which a refusal is remembered, so that it does not cost an attempt at every lookup
OUT_FOR = 1.0  # seconds for which an outage is remembered

T = TypeVar("T")


class Unusable(Exception):
    """With these credentials no request can be sent; the text says why."""

    def __init__(self, reason: str, *, outage: bool = False) -> None:
        super().__init__(reason)
        # What gives the credentials is out, overrun or silent: the same credentials may do later. False: there are
        # none, or they are refused, and asking again will not help.
        self.outage = outage


class Guarded(Generic[T]):
    """One blocking call that obtains credentials: bounded in time, made once at a time, not repeated in vain.

    Calls come one at a time: under the lock of the caller.
    """

    __slots__ = ("_again_at", "_refusal", "_renewed_at", "_running")

    def __init__(self) -> None:
        self._running: _Running[T] | None = None  # has not ended within its time
        self._refusal: Unusable | None = None  # how the last call ended, where it failed
        self._again_at = self._renewed_at = float("-inf")  # on the clock of pauses

    def ask(self, function: Callable[[], T]) -> T:
        """The result of `function`, which raises `Unusable` for what it cannot obtain.

        Raises
        ------
        Unusable
            What `function` raised, now or a short time ago. An outage also where it has not ended in time.
        """
        if self._refusal is not None and clock.monotonic() < self._again_at:
            raise _copy(self._refusal)
        running = self._running or _Running(function)
        self._running = running  # a later lookup waits for the same call, for as long as is left of its time
        if not running.ended.wait(max(0.0, running.started + CALL_LIMIT - time.monotonic())):
            raise Unusable(f"no credentials within {CALL_LIMIT:.0f} s: what gives them does not answer", outage=True)
        self._running = self._refusal = None
        if running.error is None:
            return running.result
        refusal = running.error if isinstance(running.error, Unusable) else Unusable(brief(running.error))
        self._again_at = clock.monotonic() + (OUT_FOR if refusal.outage else REFUSED_FOR)
        self._refusal = refusal
        raise _copy(refusal)

    def may_renew(self) -> bool:
        """Whether to obtain other credentials, because the service refuses these; False where that was just done."""
        now = clock.monotonic()
        if now - self._renewed_at < REFUSED_FOR:
            return False
        self._renewed_at = now
        return True


def _copy(refusal: Unusable) -> Unusable:
    """One exception raised in several threads would mix up their tracebacks, and one that stays would keep frames."""
    copy = Unusable(str(refusal), outage=refusal.outage)
    copy.__cause__ = refusal.__cause__
    return copy


class _Running(Generic[T]):
    """A call under way in a thread of its own."""

    result: T

    def __init__(self, function: Callable[[], T]) -> None:
        self.started = time.monotonic()
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self._function = function
        try:
            threading.Thread(target=self._work, name="bitstore-credentials", daemon=True).start()
        except RuntimeError:  # no thread can be had: better without a limit than not at all
            self._work()

    def _work(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # whatever it is, a lookup waits for it
            self.error = error
        self.ended.set()


def obtained(retry: Retry, function: Callable[..., T], *args: Any) -> Steps[T]:
    """The result of `function(*args)`, tried again as `retry` says while what gives the credentials is out."""
    started = clock.monotonic()
    attempt = 1
    while True:
        try:
            result: T = yield Call(function, *args)
            return result
        except Unusable as error:
            # An outage is remembered for a while: until that is over, another try would only meet it again.
            pause = OUT_FOR + retry.delay(attempt)
            late = clock.monotonic() - started + pause > retry.budget
            if not error.outage or attempt >= retry.attempts or late:
                raise
        attempt += 1
        yield Sleep(pause)


def show(credentials: Any) -> str:
    """Credentials as messages name them: their kind, never what they hold."""
    if credentials is None:
        return "default credentials"
    if credentials == ANONYMOUS:
        return repr(ANONYMOUS)
    return f"<{type(credentials).__name__}>"


def brief(error: BaseException) -> str:
    """The error of another library in a line, without the answer of a service, which may hold half of a secret."""
    text = str(error)
    if len(error.args) > 1 and isinstance(error.args[1], dict):  # google-auth adds the answer
        text = str(error.args[0])
    text = text.partition("\nb'")[0].partition('\nb"')[0]  # so does botocore where it cannot parse one
    return f"{type(error).__name__}: {text[:300]}"
