"""No example: the web server that examples ask, so that they run anywhere and bother no real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, TypeAlias

Answer: TypeAlias = tuple[int, bytes, dict[str, str]]  # status, body, headers


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024  # connections that may wait to be accepted


@contextmanager
def service(answer: Callable[[str, str, bytes], Answer]) -> Iterator[str]:
    """A web server as long as the block runs: its address.

    Parameters
    ----------
    answer
        What is answered to a request: called with its method, path and body, in a thread for each connection.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body, headers = answer(self.command, self.path, sent)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
