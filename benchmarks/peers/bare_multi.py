"""The floor: a libcurl multi loop that signs, fetches and hashes, and does nothing else.

No retries, no error mapping, no tiers, no bound on memory, no hand-over to a consumer.
"""

from __future__ import annotations

import hashlib
import importlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

DISTRIBUTIONS = ("pycurl",)


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    pycurl: Any = importlib.import_module("pycurl")
    prefix, verify, chunk_bytes = f"{job['url']}/{job['bucket']}/", job.get("verify", True), 512 * 1024
    events = select.epoll()

    def open_socket(purpose: int, address: Any) -> socket.socket:
        made = socket.socket(address[0], address[1], address[2])
        made.setblocking(False)
        events.register(made.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        return made

    def handle() -> Any:
        curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.BUFFERSIZE, chunk_bytes)
        curl.setopt(pycurl.AWS_SIGV4, "aws:amz:us-east-1:s3")
        curl.setopt(pycurl.USERPWD, "bench:bench")
        curl.setopt(pycurl.HTTPHEADER, ["x-amz-content-sha256: UNSIGNED-PAYLOAD"])
        curl.setopt(pycurl.OPENSOCKETFUNCTION, open_socket)
        curl.chunks = []
        curl.setopt(pycurl.WRITEFUNCTION, curl.chunks.append)
        return curl

    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, job["transfers"] + 8)
    idle = [handle() for _ in range(job["transfers"])]

    def end(curl: Any) -> int:
        if curl.getinfo(pycurl.RESPONSE_CODE) != 200:
            raise RuntimeError(f"{curl.name}: {curl.getinfo(pycurl.RESPONSE_CODE)}")
        data = curl.chunks[0] if len(curl.chunks) == 1 else b"".join(curl.chunks)
        curl.chunks.clear()
        if verify and hashlib.sha1(data).hexdigest() != curl.name:
            raise RuntimeError(f"{curl.name}: damaged")
        return len(data)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        def begin(curl: Any) -> bool:
            name = next(names, None)
            if name is None:
                idle.append(curl)
                return False
            curl.name = name
            curl.setopt(pycurl.URL, prefix + name)
            multi.add_handle(curl)
            return True

        blobs = size = 0
        active = sum([begin(idle.pop()) for _ in range(job["transfers"])])
        while active:
            multi.perform()
            queued = 1
            while queued:
                queued, succeeded, failed = multi.info_read()
                if failed:
                    raise RuntimeError(failed[0][2])
                for curl in succeeded:
                    multi.remove_handle(curl)
                    size += end(curl)
                    blobs += 1
                    if not begin(curl):
                        active -= 1
            if active and (pause := multi.timeout()):
                events.poll(pause / 1000 if pause > 0 else 1.0)
        return {"blobs": blobs, "bytes": size}

    return fetch
