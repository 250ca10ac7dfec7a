"""A small web service of blobs: `GET /blob/<sha1>` from the first tier that has it, thousands at once in one process.

    python examples/web_service.py bitstore.toml 8080

asyncio's own server keeps this short; in a framework the handler is the same `await store.aget(digest)`.
"""

from __future__ import annotations

import asyncio
import sys

from bitstore import BitstoreError, InvalidURI, NotFoundInStore, Store
from bitstore.config import load


async def answer(store: Store, path: str) -> tuple[str, bytes]:
    """Status and body of one request. Only what every tier lacks is a 404: an outage is a 503, to be tried again."""
    try:
        return "200 OK", await store.aget(path.removeprefix("/blob/"), timeout=30)
    except InvalidURI as error:
        return "400 Bad Request", str(error).encode()
    except NotFoundInStore as error:
        return "404 Not Found", str(error).encode()
    except BitstoreError as error:
        return "503 Service Unavailable", str(error).encode()


async def serve(store: Store, port: int) -> None:
    """Answer requests until the task is cancelled."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readline():
                while (await reader.readline()).strip():  # headers
                    pass
                status, body = await answer(store, request.split()[1].decode("ascii", "replace"))
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (ConnectionError, IndexError):
            pass  # the client is gone, or does not speak HTTP
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    print(f"serving on {server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(serve(load(sys.argv[1]), int(sys.argv[2])))
