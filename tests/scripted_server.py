"""A real HTTP server on loopback whose answers a function gives."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Asked", "Reply", "ScriptedServer", "gcs_refusal", "s3_refusal"]

Reply: TypeAlias = "tuple[int, Mapping[str, str], bytes]"  # status, headers, body


class Asked(NamedTuple):
    """One request."""

    method: str
    target: str
    headers: dict[str, str]  # by lower-case name
    body: bytes
    nth: int  # requests before it


class ScriptedServer:
    """Answers each request as `answer` says, and keeps the requests in `seen`."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.answer = answer
        self.seen: list[Asked] = []
        server = self
        lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle_one_request()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with lock:
                    asked = Asked(self.command, self.path, headers, body, len(server.seen))
                    server.seen.append(asked)
                status, lines, data = server.answer(asked)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **lines}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815  (names that http.server calls)

            def log_message(self, *_: object) -> None: ...

        self._httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self._thread = threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._httpd.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.server_close()

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
