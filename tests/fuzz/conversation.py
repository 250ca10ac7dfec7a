"""A server that is made of a fuzzer's bytes: it answers the steps of a lookup, with no socket between."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from bitstore._transport.libcurl.heads import fields
from bitstore.steps import Call, Request, Response, Sleep, Steps, Together, TransferError
from tests.fuzz.reader import Reader

__all__ = ["MOST", "Talk"]

MOST = 300  # requests of one lookup: with 4 tries each, and every remedy once, there are far fewer

_STATUSES = (200, 206, 404, 403, 400, 301, 307, 503, 416, 412, 401, 409, 500, 204, 304, 410)
_CODES = (18, 28, 56, 63, 23, 7)


class Talk:
    """Answers steps from `reader`: each answer is a status, header lines up to an empty one, and a body.

    Attributes
    ----------
    said
        The statuses so far; 0 for an answer that broke off.
    bodies
        The bodies of all answers of 200 or 206, one after another.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.said: list[int] = []
        self.bodies: list[bytes] = []

    def hold(self, steps: Steps[Any]) -> Any:
        """Perform `steps` to their end; returns or raises what they do."""
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            answer, error = None, None
            try:
                answer = self._answer(step)
            except TransferError as cut:
                error = cut
            except Exception as other:
                if not isinstance(step, (Call, Together)):
                    raise
                error = other

    def _answer(self, step: Any) -> Any:
        if isinstance(step, Request):
            return self._respond(step)
        if isinstance(step, Call):
            return step.function(*step.args)
        if isinstance(step, Together):
            return [self.hold(part) for part in step.parts]
        assert isinstance(step, Sleep) and step.seconds < 100, step
        return None

    def _respond(self, request: Request) -> Response:
        assert len(self.said) < MOST, "a lookup that never ends"
        # What goes to libcurl must not be able to break out of its place.
        for text in (request.url, request.method, *request.headers, *request.profile.headers):
            assert text.isprintable() or not any(character in text for character in "\r\n\0"), text
        assert request.url.isascii() and " " not in request.url, request.url
        reader = self._reader
        kind = reader.byte()
        lines = []
        while line := reader.line():
            lines.append(line)
        headers = fields(lines)
        body = reader.take(reader.byte() * (1 if kind < 200 else 300))
        if kind >= 240:
            self.said.append(0)
            status = 200 if kind % 2 else 206
            raise TransferError(_CODES[kind % len(_CODES)], "cut", status, headers, body)
        status = _STATUSES[kind % len(_STATUSES)]
        self.said.append(status)
        if status in (200, 206):
            self.bodies.append(body)
        if 300 <= status < 400:
            # libcurl makes it absolute, and what is no printable ASCII is percent-encoded.
            named = quote(headers.get("location", "").encode("latin-1"), safe="".join(map(chr, range(0x21, 0x7F))))
            headers = {**headers, "location": named}
        return Response(status, body, headers, float(kind % 3))
