"""A group of native connections, and the origins that they lead to."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from weakref import ref

from bitstore._transport.certificates import authorities
from bitstore._transport.libcurl.heads import fields
from bitstore._transport.messages import Messages
from bitstore._transport.native._core import Group, Origin, Sheet, Trust
from bitstore._transport.origins import Origins
from bitstore._transport.progress import too_slow
from bitstore._transport.sockets.http1 import Unclear, read_head
from bitstore._transport.transport import Declined, Exchange
from bitstore.steps import NO_HEADERS, TIMED_OUT, TOO_LARGE, Profile, Request, Response, TransferError

__all__ = ["STALE_SECONDS", "Connections"]

STALE_SECONDS = 60.0  # as libcurl keeps the addresses of a name
_BARRED_SECONDS = 60.0
_ALGORITHMS = {None: 0, "md5": 1, "sha1": 2, "sha256": 3, "sha512": 4}

_CUT = 18  # CURLE_PARTIAL_FILE
_NO_ANSWER = 52  # CURLE_GOT_NOTHING
_NOT_RECEIVED = 56  # CURLE_RECV_ERROR

# `enum outcome` of src/group.h
_ANSWERED, _DECLINED, _UNREACHABLE, _UNCLEAR, _TOO_LARGE, _CUT_OFF, _BROKEN, _STALLED = range(8)


class _Way:
    """An origin, and how requests to it are written."""

    __slots__ = ("_host", "_moment", "_sheet", "_signer", "messages", "origin", "text", "usable")

    def __init__(self, profile: Profile, prefix: str) -> None:
        self.messages = messages = Messages(profile, prefix)
        self.usable = messages.usable
        self._host = prefix[prefix.index("//") + 2 :]
        self._signer = profile.signer if hasattr(profile.signer, "moment") else None
        # Makes what `Group.begin` is given of a request; None: it cannot be written.
        self.text: Callable[[Request], str | None] = messages.of if self._signer is None else messages.path
        self._moment: object = None
        self._sheet: Sheet | None = None
        trust = None
        if self.usable and messages.server_name is not None:
            try:
                trust = _trust(authorities(profile))
            except OSError:  # the file has gone: libcurl may remember what was in it
                self.usable = False
        self.origin = Origin(
            trust,
            messages.server_name or "",
            profile.connect_timeout,
            profile.stall_timeout,
            min(profile.max_bytes or 0, 1 << 62),
        )

    def sheet(self) -> Sheet | None:
        """What requests of this second have in common; None: nothing is signed here."""
        if self._signer is None:
            return None
        moment = self._signer.moment()
        if moment is not self._moment:
            self._sheet = Sheet(
                f"\n\nhost:{self._host}{moment.canonical}".encode(),
                moment.text.encode(),
                f"{self.messages.start}{moment.authorization}".encode(),
                "".join(f"\r\n{line}" for line in (*moment.lines, "", "")).encode(),
                moment.key,
            )
            self._moment = moment
        return self._sheet


class Connections:
    """The connections of one thread at a time."""

    def __init__(self) -> None:
        self.group = Group(Response, NO_HEADERS, _outcome)
        self._latest: tuple[Any, str, _Way] | None = None  # reference to the profile, prefix, way
        self._profile_ended = partial(_forget_latest, ref(self))
        self._ways: Origins[str, _Way] = Origins()
        self.known: object = None  # the entry of the user's own table from which it has learned last

    def begin(self, exchange: Exchange, request: Request) -> int | None:
        """Take a GET into memory; returns its number in the group, or None: it is declined."""
        way = self._way(request)
        if way is None or not way.usable:
            return None
        algorithm = _ALGORITHMS.get(request.hash_with, 0)
        try:
            text = way.text(request) if request.plain else way.messages.of(request)
            if text is None:
                return None
            if request.plain:
                return self.group.begin(exchange, way.origin, text, way.sheet(), algorithm)
            most = -1 if request.max_bytes is None else request.max_bytes
            room = request.room or (None, 0)
            return self.group.begin(exchange, way.origin, text, None, algorithm, most, request.want_headers, *room)
        except Exception:  # libcurl meets the same error, and reports it to this lookup alone
            return None

    def begin_together(self, exchanges: list[Exchange]) -> None:
        """Take the plain GETs among `exchanges` that are alike with the first: these get their number as `carrier`."""
        first = exchanges[0].request
        try:
            way = self._way(first)
            if way is None or not way.usable:
                return
            profile, prefix, algorithm = first.profile, f"{first.origin}/", first.hash_with
            alike = [
                exchange
                for exchange in exchanges
                if (request := exchange.request).profile is profile
                and request.plain
                and request.hash_with == algorithm
                and request.url.startswith(prefix)
            ]
            texts = [way.text(exchange.request) for exchange in alike]
            numbers = self.group.begin_together(alike, way.origin, texts, way.sheet(), _ALGORITHMS.get(algorithm, 0))
        except Exception:  # the trouble of one of them, which meets it again when they are begun one by one
            return
        for exchange, number in zip(alike, numbers, strict=True):
            exchange.carrier = number

    def _way(self, request: Request) -> _Way | None:
        if not request.into_memory:
            return None
        latest = self._latest
        if latest is not None and latest[0]() is request.profile and request.url.startswith(latest[1]):
            return latest[2]
        ways = self._ways.get(request.profile)
        way = None if ways is None else ways.get(request.origin)
        if way is not None:
            self._latest = ref(request.profile, self._profile_ended), f"{request.origin}/", way
        return way

    def learn(self, request: Request, address: str, port: int, seconds: float = STALE_SECONDS) -> None:
        """Remember for some seconds where the server of a GET was reached."""
        prefix = request.origin
        if not prefix or not request.into_memory:
            return
        way = self._ways.get(request.profile, {}).get(prefix)
        if way is None:
            try:
                way = _Way(request.profile, prefix)
            except Exception:  # it cannot be signed: libcurl meets the same error, and reports it
                return
            self._ways.keep(request.profile, prefix, way)
        way.origin.reached(address, port, seconds)


def _forget_latest(connections: ref[Connections], _: object) -> None:
    """Let go of the way that was used last: its connections end with their profile."""
    found = connections()
    if found is not None:
        found._latest = None


@cache
def _trust(bundle: str) -> Trust:
    folder = Path(bundle).is_dir()
    return Trust(None if folder else bundle, bundle if folder else None)


def _outcome(
    exchange: Exchange, outcome: int, status: int, body: bytes | None, head: bytes | None, error: int
) -> Response | Declined | TransferError:
    """What came of a request, unless it is a whole answer with a status below 300."""
    request = exchange.request
    told = fields(head.split(b"\r\n")) if head is not None and request.want_headers else NO_HEADERS
    if outcome == _ANSWERED and head is not None and body is not None:
        try:
            status, size, _, headers, retry_after = read_head(head[:-2], request)
        except Unclear:
            return Declined(math.inf)
        if request.room is not None and body is request.room.memory:
            body = request.room.filled(size)
        return Response(status, body, {**told, **headers}, retry_after)
    if outcome == _DECLINED:
        return Declined()
    if outcome == _UNREACHABLE:
        return Declined(_BARRED_SECONDS)
    if outcome == _UNCLEAR:
        return Declined(math.inf)
    if outcome == _TOO_LARGE:
        return TransferError(TOO_LARGE, "the body is larger than was asked for", status, told)
    if outcome == _STALLED:
        return TransferError(TIMED_OUT, too_slow(request.profile.stall_timeout), status, told, body or b"")
    if outcome == _CUT_OFF:
        code = _CUT if status else _NO_ANSWER
        return TransferError(code, "the connection was closed too early", status, told, body or b"")
    assert outcome == _BROKEN
    message = f"receiving failed: {os.strerror(error) if error else 'TLS failed'}"
    return TransferError(_NOT_RECEIVED, message, status, told, body or b"")
