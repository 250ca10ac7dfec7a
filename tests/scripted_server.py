"""A real HTTP server on loopback whose answers a function gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request, Response, make_response

__all__ = ["Asked", "Reply", "ScriptedServer", "gcs_refusal", "s3_refusal"]

Reply: TypeAlias = "tuple[int, Mapping[str, str], bytes]"  # status, headers, body


class Asked(NamedTuple):
    """One request."""

    method: str
    target: str
    headers: dict[str, str]  # by lower-case name
    body: bytes
    nth: int  # requests before it


class ScriptedServer(FaultyServer):
    """Answers each request as `answer` says, and keeps the requests in `seen`."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Asked] = []

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        asked = Asked(request.method, request.target, request.headers, request.body, len(self.seen))
        self.seen.append(asked)
        status, headers, body = await asyncio.to_thread(self.answer, asked)  # which may wait
        return make_response(status, body, headers, method=request.method)

    def methods(self) -> list[str]:
        """The methods of all requests, in order."""
        return [asked.method for asked in self.seen]


def s3_refusal(status: int, code: str, message: str = "in words", more: str = "") -> Reply:
    """An error as S3 answers it."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return status, {"Content-Type": "application/xml"}, text.encode()


def gcs_refusal(status: int, reason: str, message: str) -> Reply:
    """An error as the JSON API of Google Cloud Storage answers it."""
    import json

    error = {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}
    return status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps({"error": error}).encode()
