"""A web server that keeps what is PUT."""

from __future__ import annotations

from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request, Response, make_response

__all__ = ["WebFolder"]


class WebFolder(FaultyServer):
    """It keeps the condition `If-None-Match: *`, and names no versions (no ETag). `files` are by path, quoted."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        if request.method == "PUT":
            if request.headers.get("if-none-match") == "*" and request.target in self.files:
                return make_response(412, b"", {}, method="PUT")
            self.files[request.target] = request.body
            return make_response(201, b"", {}, method="PUT")
        data = self.files.get(request.target)
        return make_response(404 if data is None else 200, data or b"", {}, method=request.method)
