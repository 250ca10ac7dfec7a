"""A fast store of a third party: its lookups share one thread with thousands of others.

Runs anywhere: `python examples/fast_store.py`.

The store itself is the class `ShelfStore`; what follows it is a server for this example, and the trial of the store.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from bitstore import Composite, MemoryCache, NotFoundInStore, SteppedStore, StoreNotAvailable
from bitstore.steps import FileSink, Found, Profile, Request, Response, Sleep, Steps, TransferError, Write
from bitstore.testing import check_store


class ShelfStore(SteppedStore):
    """Blobs of a shelf server, as `shelf://name`."""

    URI_HINT = "shelf://name"
    scope = "shared"  # all nodes of a cluster see the same blobs

    def __init__(self, address: str) -> None:
        self.address = address
        self.profile = Profile(stall_timeout=5.0)  # connections are kept per profile

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str) and uri.startswith("shelf://") and uri != "shelf://"

    def _ask(self, uri: str, **how: Any) -> Steps[Response]:
        url = f"{self.address}/{uri.removeprefix('shelf://').encode().hex()}"
        for pause in (0.1, 0.5, None):
            try:
                response: Response = yield Request(self.profile, url, want_headers=True, **how)
            except TransferError as error:
                raise StoreNotAvailable(self, str(error)) from error
            if response.status != 503 or pause is None:
                break
            yield Sleep(pause)
        if response.status == 404:
            raise NotFoundInStore(self, uri)
        if response.status not in (200, 204, 206, 412):
            raise StoreNotAvailable(self, f"HTTP {response.status}")
        return response

    def get_steps(self, uri: str) -> Steps[Found]:
        response = yield from self._ask(uri)
        return Found(response.body, self.label)

    def exists_steps(self, uri: str) -> Steps[bool]:
        return (yield from self.version_steps(uri)) is not None

    def put_steps(self, uri: str, data: bytes, write: Write) -> Steps[None]:
        condition = ("If-None-Match: *",) if write.only_if_absent else ()
        condition = (f"If-Match: {write.replacing}",) if write.replacing else condition
        yield from self._ask(uri, method="PUT", body=bytes(data), headers=condition)

    def version_steps(self, uri: str) -> Steps[str | None]:
        try:
            return (yield from self._ask(uri, method="HEAD")).headers["etag"]
        except NotFoundInStore:
            return None

    def download_steps(self, uri: str, file: FileSink) -> Steps[Found]:
        file.expect(uri)
        response = yield from self._ask(uri, sink=file)
        file.check()
        file.ended(response.status, response.headers)
        return Found(file, self.label)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    blobs: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        blob = self.blobs.get(self.path)
        self.answer(404 if blob is None else 200, blob or b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        wanted = self.headers["If-Match"]
        refused = (self.headers["If-None-Match"] and self.path in self.blobs) or (wanted and wanted != self.etag())
        if not refused:
            self.blobs[self.path] = data
        self.answer(412 if refused else 204)

    def etag(self) -> str:
        return f'"{hash(self.blobs.get(self.path, b"")):x}"'

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", self.etag())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 1024  # connections that may wait to be accepted


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = ShelfStore(f"http://127.0.0.1:{server.server_port}")
check_store(lambda: ShelfStore(store.address), "shelf://", unreachable=lambda: ShelfStore("http://127.0.0.1:9"))

chain = Composite()
chain.append_cache(MemoryCache())
chain.append_source(store)
names = [f"shelf://{number}" for number in range(1000)]
for name in names[:900]:
    store.put(name, name.encode())
answers = list(chain.get_many(names))
print(sum(blob.found for blob in answers), "found,", sum(blob.missing for blob in answers), "missing")
assert chain.tiers[0].store.exists(names[7]) and not chain.exists(names[-1])
server.shutdown()
