"""An HTTP server in a thread of the test's own process that misbehaves exactly as its rules say."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from tests.servers.faults import Answer, Close, Corrupt, Cut, Delay, Empty, Hang, Hold, Reset, ResetAfter, Rules, Stall
from tests.servers.wire import LIMIT, Request, Response, make_response, read_request

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FaultyServer"]


class FaultyServer(ABC):
    """Serves HTTP/1.1 with keep-alive on a free loopback port, records what it is asked, and applies `rules`.

    Attributes
    ----------
    rules
        What goes wrong, and when; may be changed at any time from any thread.
    connections
        How many connections it took.
    """

    def __init__(self) -> None:
        self.rules = Rules()
        self.port = 0
        self.connections = 0
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        """The right answer. `OSError` and `EOFError` close the client's connection."""

    # --- What a test uses -------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        """Its Host: address and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """All requests so far (also those that a rule spoilt), in the order in which they were complete."""
        with self._lock:
            return list(self._requests)

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Number of requests by method and path (without query, quoted as sent)."""
        with self._lock:
            return Counter(self._counts)

    def clear(self) -> None:
        """Forget the rules and the records."""
        self.rules.clear()
        with self._lock:
            self._requests.clear()
            self._counts.clear()

    def down(self) -> None:
        """Stop listening (a new connection is refused) and reset the open ones."""
        self._run(self._stop())

    def up(self) -> None:
        """Listen again, on the same port."""
        self._run(self._start())

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.rules.clear()
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- The connections --------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LIMIT, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        # `drain` then waits until the kernel has everything: "after N bytes" is meant exactly.
        writer.transport.set_write_buffer_limits(high=0)
        upstream = Upstream()
        try:
            while (request := await read_request(reader, writer)) is not None:
                if not await self._exchange(request, reader, writer, upstream):
                    break
        except asyncio.CancelledError:
            _reset(writer)  # `down` means it; the task ends here, so that no caller waits for it in vain
        except (OSError, EOFError):
            pass  # one side has gone: no report is possible
        finally:
            self._tasks.discard(task)
            upstream.close()
            writer.close()

    async def _exchange(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream
    ) -> bool:
        """Answer one request; whether the connection stays."""
        with self._lock:
            self._requests.append(request)
            self._counts[request.method, request.path] += 1
        rule = self.rules.take(request.method, request.target)
        action = None if rule is None else rule.action
        if isinstance(action, Delay):
            await asyncio.sleep(action.seconds)
        elif isinstance(action, Hold):
            await action.wait()
        elif isinstance(action, Hang):
            await _silence(reader)
            return False
        elif isinstance(action, Reset):
            _reset(writer)
            return False
        elif isinstance(action, Close):
            return False

        if isinstance(action, Answer):
            response = make_response(action.status, action.body, action.headers, method=request.method)
        elif isinstance(action, Empty):
            response = make_response(200, b"", {}, method=request.method)
        else:
            response = await self._respond(request, upstream)

        body = response.body
        if isinstance(action, Corrupt):
            body = _corrupted(body, action.at)
        elif isinstance(action, (Cut, ResetAfter, Stall)):
            body = _first(body, action.count)
        # One write for the head and the first piece: half the packets of small answers.
        pending = response.head
        async for piece in body:
            writer.write(pending + piece if pending else piece)
            pending = b""
            await writer.drain()
        if pending:
            writer.write(pending)
            await writer.drain()

        if isinstance(action, ResetAfter):
            await _delivered(writer)
            _reset(writer)
        elif isinstance(action, Stall):
            await _silence(reader)
        return response.keep_alive and not isinstance(action, (Cut, ResetAfter, Stall))


class Upstream:
    """The connection to the server behind, one for each client's connection, kept alive like it."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    def close(self) -> None:
        """Drop the connection; the next use makes a new one."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def _silence(reader: asyncio.StreamReader) -> None:
    """Until the client goes away."""
    while await reader.read(LIMIT):
        pass


async def _first(body: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    left = count
    async for piece in body:
        if len(piece) >= left:
            yield piece[:left]
            return
        left -= len(piece)
        yield piece


async def _corrupted(body: AsyncIterator[bytes], at: int) -> AsyncIterator[bytes]:
    start = 0
    async for piece in body:
        offset = at - start
        start += len(piece)
        if 0 <= offset < len(piece):
            yield piece[:offset] + bytes([piece[offset] ^ 0xFF]) + piece[offset + 1 :]
        else:
            yield piece


async def _delivered(writer: asyncio.StreamWriter) -> None:
    """Until the peer's kernel has all bytes: a reset throws away what is still on its way."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        while struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
            await asyncio.sleep(0.001)  # the kernel has no event for an empty send queue


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
