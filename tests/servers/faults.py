"""What a server can be told to do wrong: actions, and the rules that say when."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "Action",
    "Answer",
    "Close",
    "Corrupt",
    "Cut",
    "Delay",
    "Empty",
    "Hang",
    "Hold",
    "Reset",
    "ResetAfter",
    "Rule",
    "Rules",
    "Stall",
    "json_error",
    "s3_error",
]


class Action:
    """One thing that may happen to a request."""


@dataclass(frozen=True)
class Delay(Action):
    """Go on as usual after `seconds`."""

    seconds: float


class Hold(Action):
    """Go on as usual when the test calls `release`: a slow server without a clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._waiting: set[asyncio.Future[None]] = set()

    def release(self) -> None:
        """Let every request that waits here, now or later, go on."""
        with self._lock:
            self._open = True
            for future in self._waiting:
                future.get_loop().call_soon_threadsafe(_finish, future)

    async def wait(self) -> None:
        """Until `release`; the server's side."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._open:
                return
            self._waiting.add(future)
        try:
            await future
        finally:
            with self._lock:
                self._waiting.discard(future)

    def __repr__(self) -> str:
        return "Hold()"


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():  # its connection may have ended meanwhile
        future.set_result(None)


@dataclass(frozen=True)
class Hang(Action):
    """Take the request and never say a word; the connection stays open."""


@dataclass(frozen=True)
class Reset(Action):
    """Reset the connection (RST) before any header."""


@dataclass(frozen=True)
class Close(Action):
    """Close the connection (FIN) before any header."""


@dataclass(frozen=True)
class ResetAfter(Action):
    """Right headers, `count` bytes of the body, then a reset."""

    count: int


@dataclass(frozen=True)
class Cut(Action):
    """Right headers (the full Content-Length), `count` bytes of the body, then an orderly close."""

    count: int


@dataclass(frozen=True)
class Stall(Action):
    """Right headers, `count` bytes of the body, then silence; the connection stays open."""

    count: int


@dataclass(frozen=True)
class Corrupt(Action):
    """Flip all bits of the body's byte number `at` (from 0); all else is right."""

    at: int = 0


@dataclass(frozen=True)
class Empty(Action):
    """200 with an empty body."""


@dataclass(frozen=True)
class Answer(Action):
    """This answer instead of the server's own. Content-Length is added."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def json_error(status: int, message: str, reason: str) -> Answer:
    """An error of the JSON API of Google Cloud Storage."""
    error = {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}
    return Answer(status, json.dumps({"error": error}).encode(), {"Content-Type": "application/json"})


def s3_error(status: int, code: str, message: str = "told to", /, *, extra: str = "", **headers: str) -> Answer:
    """The answer of an S3 service for an error: `extra` is XML inside `<Error>`, `headers` use `_` for `-`."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>'
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body.encode(), {"Content-Type": "application/xml", **named})


class Rule:
    """Does `action` to matching requests: not to the first `skip`, then to `times` of them (None: to all)."""

    def __init__(self, action: Action, method: str, path: str, times: int | None, skip: int) -> None:
        self.action = action
        self._method = re.compile(method)
        self._path = re.compile(path)
        self._times = times
        self._skip = skip
        self._hits = 0
        self._changed = threading.Condition()

    @property
    def hits(self) -> int:
        """How many requests it was done to."""
        with self._changed:
            return self._hits

    def wait_hits(self, count: int = 1, *, timeout: float = 30.0) -> None:
        """Wait until the action was done, or has begun, for `count` requests. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._hits >= count, timeout):
                raise TimeoutError(f"{self!r}: {self._hits} of {count} requests after {timeout:g} s")

    def take(self, method: str, target: str) -> bool:
        """Whether this request is the rule's; counts it."""
        if not (self._method.fullmatch(method) and self._path.search(target)):
            return False
        with self._changed:
            if self._skip:
                self._skip -= 1
                return False
            if self._times is not None and self._hits >= self._times:
                return False
            self._hits += 1
            self._changed.notify_all()
            return True

    def __repr__(self) -> str:
        return f"Rule({self.action!r}, method={self._method.pattern!r}, path={self._path.pattern!r})"


class Rules:
    """Rules in the order in which they were added: the first that takes a request decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: tuple[Rule, ...] = ()

    def add(
        self, action: Action, *, method: str = ".*", path: str = "", times: int | None = None, skip: int = 0
    ) -> Rule:
        """Add a rule.

        Parameters
        ----------
        action
            What to do.
        method
            A regular expression that the whole method matches.
        path
            A regular expression found somewhere in the request's target (path and query, as sent, quoted).
        times
            To how many requests; None: to all of them.
        skip
            How many matching requests go by before that.
        """
        rule = Rule(action, method, path, times, skip)
        with self._lock:
            self._rules = (*self._rules, rule)
        return rule

    def clear(self) -> None:
        """Forget all rules; requests that are held go on."""
        with self._lock:
            rules, self._rules = self._rules, ()
        for rule in rules:
            if isinstance(rule.action, Hold):
                rule.action.release()

    def take(self, method: str, target: str) -> Rule | None:
        """The rule that this request falls under."""
        return next((rule for rule in self._rules if rule.take(method, target)), None)
