"""Servers that misbehave in ways that no library serves by itself: answers written byte by byte."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bitstore import GSRaw, HTTPRaw, Retry, S3Raw, Store, StoreNotAvailable
from tests.raw_server import Answerer, RawServer, said
from tests.sockets import TRANSPORTS, only_by

ONCE = Retry(attempts=1)
QUICK = Retry(attempts=3, first_delay=0.001, longest_delay=0.002)


@pytest.fixture(autouse=True, params=TRANSPORTS)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By libcurl, and over connections of our own."""
    only_by(request.param, monkeypatch)


def failure(store: Store, uri: str) -> str:
    """What a lookup fails with; one that would never end is ended, with another error."""
    [blob] = store.get_many([uri], timeout=60, patience=0)
    assert isinstance(blob.error, StoreNotAvailable), blob
    assert "no answer within" not in str(blob.error)
    return str(blob.error)


def same_bytes(peer: socket.socket, head: bytes, count: int) -> bool:
    peer.sendall(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 100000\r\n\r\n' + bytes(10_000))
    return False


def one_byte(peer: socket.socket, head: bytes, count: int) -> bool:
    match = re.search(rb"Range: bytes=(\d+)-", head)
    at = int(match[1]) if match else 0
    status = b"206 Partial Content\r\nContent-Range: bytes %d-999999/1000000" % at if at else b"200 OK"
    peer.sendall(b'HTTP/1.1 %b\r\nETag: "e"\r\nContent-Length: %d\r\n\r\nx' % (status, 1_000_000 - at))
    return False


@pytest.mark.parametrize("answer", [same_bytes, one_byte])
def test_a_blob_that_is_cut_at_each_try_is_a_failure(answer: Answerer, tmp_path: Path) -> None:
    """Each try brings bytes, and none brings the blob much nearer."""
    with RawServer(answer) as server:
        store = HTTPRaw(retry=QUICK)
        failure(store, f"{server.url}/blob")
        assert len(server.heads) <= 4
        with pytest.raises(StoreNotAvailable, match="curl error 18"):
            store.download(f"{server.url}/blob", tmp_path / "out", timeout=60)
        assert len(server.heads) <= 8


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "HTTP/1.1 200 OK\r\nX: "])
def test_a_server_that_trickles_is_given_up_like_a_silent_one(head: str) -> None:
    """Never silent for long, and never done either."""

    def trickle(peer: socket.socket, _: bytes, __: int) -> None:
        peer.sendall(head.encode())
        while not server.over.wait(0.2):
            peer.sendall(b"xx")

    with RawServer(trickle) as server:
        assert "too slow" in failure(HTTPRaw(stall_timeout=1, retry=ONCE), f"{server.url}/blob")


@pytest.mark.parametrize("way", ["get", "get_many", "download"])
def test_a_body_that_stalls_after_many_bytes_is_given_up(way: str, tmp_path: Path) -> None:
    """libcurl alone takes the mean of some seconds, so that it notices seconds too late."""

    def stall(peer: socket.socket, _: bytes, __: int) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(4_000_000))
        server.over.wait(60)

    with RawServer(stall) as server:
        store, url = HTTPRaw(stall_timeout=1, retry=ONCE), f"{server.url}/blob"
        ways: dict[str, Callable[[], object]] = {
            "get": lambda: store.get(url),
            "get_many": lambda: list(store.get_many([url], errors="raise")),
            "download": lambda: store.download(url, tmp_path / "out"),
        }
        with pytest.raises(StoreNotAvailable, match="too slow: less than 100 bytes a second for 1 seconds"):
            ways[way]()


# ---------------------------------------------------------------------- answers in unusual forms


HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + HELLO, True),
    ],
    ids=["length and chunks", "chunks and length", "1.0", "1.0 with length", "100", "103"],
)
def test_whole_answers_in_odd_forms_are_blobs(answer: bytes, stays: bool) -> None:
    with RawServer(said(answer, stays=stays)) as server:
        store = HTTPRaw(retry=ONCE)
        urls = [f"{server.url}/{number}" for number in range(5)]
        assert [store.get(url) for url in urls] == [b"hello"] * 5
        assert [blob.data for blob in store.get_many(urls)] == [b"hello"] * 5


def test_a_connection_closed_between_two_requests_is_replaced() -> None:
    """The server closes each connection when its second request comes: none of our tries is spent on that."""
    served: set[object] = set()

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        if peer.getpeername() in served:
            return False
        served.add(peer.getpeername())
        body = head.partition(b"\r\n\r\n")[2]
        while len(body) < (3 if head.startswith(b"PUT") else 0):
            body += peer.recv(100)
        peer.sendall(HELLO)
        return True

    with RawServer(serve) as server:
        store, url = HTTPRaw(retry=ONCE), f"{server.url}/blob"
        for _ in range(3):
            assert store.get(url) == b"hello"
            assert [blob.data for blob in store.get_many([url])] == [b"hello"]
            store.put(url, b"abc")
        assert store.stats() == {"requests": 9, "retries": 0}


@pytest.mark.parametrize("kind", ["s3", "signed s3", "gs", "http"])
def test_every_raw_store_reaches_servers_over_ipv6(kind: str) -> None:
    with RawServer(lambda peer, _, __: peer.sendall(HELLO), host="::1") as server:
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        kinds: dict[str, tuple[Store, str]] = {
            "s3": (S3Raw("anonymous", endpoint_url=server.url, region="us-east-1"), "s3://bucket/key"),
            "signed s3": (S3Raw(keys, endpoint_url=server.url, region="us-east-1"), "s3://bucket/key"),
            "gs": (GSRaw("anonymous", endpoint_url=server.url), "gs://bucket/key"),
            "http": (HTTPRaw(), f"{server.url}/key"),
        }
        store, uri = kinds[kind]
        assert store.get(uri) == b"hello"
        assert [blob.data for blob in store.get_many([uri])] == [b"hello"]
        assert all(f"\r\nHost: [::1]:{server.port}\r\n".encode() in head for head in server.heads)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://127.0.0.1/", "//user:pw@127.0.0.1:1/", "\\\\x", ""])
def test_redirects_to_forbidden_targets_are_failures(target: str) -> None:
    with RawServer(said(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())) as server:
        failure(HTTPRaw(headers={"X-Key": "sesame"}, retry=ONCE), f"{server.url}/blob")
        assert all(b"user" not in head and b"pw" not in head for head in server.heads)


def test_an_html_page_of_a_proxy_is_no_answer_of_the_store() -> None:
    """A 404 in HTML, whose answer to HEAD has no body that would tell whose it is."""

    def serve(peer: socket.socket, head: bytes, _: int) -> None:
        page = b"" if head.startswith(b"HEAD") else b"<html>no such page</html>"
        peer.sendall(b"HTTP/1.1 404 x\r\nContent-Type: text/html\r\nContent-Length: 25\r\n\r\n" + page)

    with RawServer(serve) as server:
        for store, uri in (
            (S3Raw("anonymous", endpoint_url=server.url, region="us-east-1", retry=ONCE), "s3://bucket/key"),
            (GSRaw("anonymous", endpoint_url=server.url, retry=ONCE), "gs://bucket/key"),
        ):
            for ask in (store.get, store.exists):
                with pytest.raises(StoreNotAvailable, match="404"):
                    ask(uri)


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_is_asked_once_and_gets_no_credentials(status: int) -> None:
    with RawServer(said(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status, stays=False)) as proxy:
        store = HTTPRaw(proxy=proxy.url, headers={"Authorization": "Bearer sesame"}, retry=QUICK)
        assert f"response {status}" in failure(store, "https://store.example/blob")
        assert len(proxy.heads) == 1 and b"sesame" not in proxy.heads[0]


FULL = """
import logging, os, resource, sys
logging.basicConfig()
from bitstore import HTTPRaw, Retry
store = HTTPRaw(retry=Retry(attempts=2, first_delay=0.001))
assert [blob.found for blob in store.get_many([sys.argv[1]])] == [True]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
fill = []
try:
    while True:
        fill.append(os.dup(0))
except OSError:
    pass
store = HTTPRaw(retry=Retry(attempts=2, first_delay=0.001))
[blob] = store.get_many([sys.argv[1].replace("127.0.0.1", "127.0.0.2")])
print(type(blob.error).__name__)
[os.close(each) for each in fill]
print(sum(blob.found for blob in store.get_many([sys.argv[1]] * 3)))
"""


def test_a_process_out_of_file_descriptors_reports_a_failure() -> None:
    with RawServer(lambda peer, _, __: peer.sendall(HELLO), host="0.0.0.0") as server:
        url = f"http://127.0.0.1:{server.port}/blob"
        done = subprocess.run([sys.executable, "-c", FULL, url], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["StoreNotAvailable", "3"], done.stderr
    assert done.stderr.count("Too many open files") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nA: b\r\n"]
)
def test_a_head_that_is_cut_is_no_empty_blob(head: bytes) -> None:
    with RawServer(said(head, stays=False)) as server:
        for retry in (ONCE, QUICK):
            store = HTTPRaw(retry=retry)
            with pytest.raises(StoreNotAvailable):
                store.get(f"{server.url}/blob")
            failure(store, f"{server.url}/blob")


@pytest.mark.parametrize(
    "answer", [b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Content-Length: 0\r\n\r\n"]
)
def test_an_empty_blob_is_found_in_every_form_of_answer(answer: bytes) -> None:
    with RawServer(said(b"HTTP/1.1 200 OK\r\n" + answer, stays=False)) as server:
        store = HTTPRaw(retry=QUICK)
        assert store.get(f"{server.url}/blob") == b""
        assert [blob.data for blob in store.get_many([f"{server.url}/blob"] * 3)] == [b""] * 3


def test_fields_after_the_chunks_do_not_spoil_a_download(tmp_path: Path) -> None:
    with RawServer(
        said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n")
    ) as server:
        HTTPRaw(retry=ONCE).download(f"{server.url}/blob", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"hello" and len(server.heads) == 1
