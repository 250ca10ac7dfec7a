"""A pretend API that is paid per call: it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request, Response, make_response

__all__ = ["CountedAPI"]

_PREFIX = "/blob/"


class CountedAPI(FaultyServer):
    """Serves `GET /blob/<digest>` from a dict, 404 for what it lacks. Rules make it fail, hold, or limit its rate.

    Parameters
    ----------
    blobs
        Bytes by digest; `blobs` may be changed later.
    """

    def __init__(self, blobs: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.blobs = dict(blobs or {})

    @property
    def calls(self) -> Counter[str]:
        """Number of calls by digest, also of those that failed."""
        found: Counter[str] = Counter()
        for (_, path), count in self.counts.items():
            if path.startswith(_PREFIX):
                found[path.removeprefix(_PREFIX)] += count
        return found

    def blob_url(self, digest: str) -> str:
        """Where `digest` is served."""
        return f"{self.url}{_PREFIX}{digest}"

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        data = self.blobs.get(request.path.removeprefix(_PREFIX)) if request.path.startswith(_PREFIX) else None
        if data is None:
            return make_response(
                404, b'{"error": "not found"}', {"Content-Type": "application/json"}, method=request.method
            )
        return make_response(200, data, {"Content-Type": "application/octet-stream"}, method=request.method)
