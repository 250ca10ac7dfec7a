"""The floor of a blocking `get`: one socket that asks, receives and hashes, and does nothing else.

Nothing is signed, no answer is interpreted, and there is one connection.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    parts = urlsplit(job["url"])
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(name: str) -> int:
        connection.sendall(f"GET /{job['bucket']}/{name} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = connection.recv(64 * 1024)
        body = answer.index(b"\r\n\r\n") + 4
        while len(answer) < body + job["size"]:
            more = connection.recv(64 * 1024)
            if not more:
                raise RuntimeError(f"{name}: {len(answer) - body} bytes came")
            answer += more
        if hashlib.sha1(memoryview(answer)[body:], usedforsecurity=False).hexdigest() != name:
            raise RuntimeError(f"{name}: damaged")
        return len(answer) - body

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        sizes = [get(name) for name in names]
        return {"blobs": len(sizes), "bytes": sum(sizes)}

    return fetch
