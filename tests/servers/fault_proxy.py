"""A proxy in front of any HTTP server, which does to chosen requests what networks and services do now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import LIMIT, Request, Response, read_response

__all__ = ["FaultProxy", "MakeProxy"]


class FaultProxy(FaultyServer):
    """Passes requests on to `target`, unchanged byte for byte (so that signatures hold), except where a rule says else.

    Parameters
    ----------
    target
        URL of the server behind, `http://host:port`.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        parts = urlsplit(target)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"expected http://host:port, got {target!r}")
        self.target = (parts.hostname, parts.port)

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        kept = upstream.reader is not None
        try:
            return await self._ask(request, upstream)
        except (OSError, EOFError):
            upstream.close()
            if not kept:
                raise
            # The server closed a connection that was kept alive, as it may: that is not the client's trouble.
            return await self._ask(request, upstream)

    async def _ask(self, request: Request, upstream: Upstream) -> Response:
        if upstream.reader is None or upstream.writer is None:
            upstream.reader, upstream.writer = await asyncio.open_connection(*self.target, limit=LIMIT)
        upstream.writer.write(request.head + request.body)
        await upstream.writer.drain()
        return await read_response(upstream.reader, request.method)


MakeProxy: TypeAlias = Callable[[str], FaultProxy]  # of a server's URL: the fixture `fault_proxy`
