"""Connections of our own, between a store and servers: what is asked, trusted, kept and closed.

How answers are read is tested in test_http1, certificates in test_certificates, the choice of a transport in
test_scheduler.
"""

from __future__ import annotations

import gc
import os
import queue
import random
import re
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bitstore import GSRaw, HTTPRaw, Retry, S3Raw, Store, StoreNotAvailable
from bitstore._lookup.loop import Loop
from bitstore._lookup.loops import loop
from bitstore._lookup.task import Task
from bitstore._transport.pace import Pace
from bitstore._transport.sockets.channel import Unreachable
from bitstore._transport.sockets.origin import Origin
from bitstore.steps import Profile, Request, Response, Steps, TransferError
from tests.certificates import issued, server_tls
from tests.raw_server import RawServer, said
from tests.sockets import OWN, asking, only_by, open_sockets, own_connections

ONCE = Retry(attempts=1)
of_python = pytest.mark.parametrize("kind", ["sockets"], indirect=True)  # tests of how these are made
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True, params=OWN)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each transport that makes connections of our own, also where few exchanges are under way."""
    only_by(request.param, monkeypatch)
    return str(request.param)


def fetched(store: Store, uris: list[str], **options: Any) -> list[Any]:
    """What `get_many` says of each: bytes, or the type of the error."""
    blobs = store.get_many(uris, ordered=True, patience=0, **options)
    return [blob.data if blob.found else type(blob.error) for blob in blobs]


# ---------------------------------------------------------------------- what is asked


KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_session_token": "t"}


@pytest.mark.parametrize("source", ["s3", "signed s3", "requester pays", "gs", "http", "http with headers"])
def test_requests_over_our_sockets_equal_those_of_libcurl(source: str) -> None:
    with RawServer(said(HELLO)) as server:
        s3: dict[str, Any] = {"endpoint_url": server.url, "region": "us-east-1"}
        kinds: dict[str, tuple[Store, str]] = {
            "s3": (S3Raw("anonymous", **s3), "s3://bucket/a b/+%ü"),
            "signed s3": (S3Raw(KEYS, **s3), "s3://bucket/a b/+%ü"),
            "requester pays": (S3Raw(KEYS, **s3, requester_pays=True), "s3://bucket/key"),
            "gs": (GSRaw("anonymous", endpoint_url=server.url), "gs://bucket/a b/+%ü"),
            "http": (HTTPRaw(), f"{server.url}/a%20b?c=d&e=%2F"),
            "http with headers": (HTTPRaw(headers={"Accept": "x/y", "X-Key": "sesame"}), f"{server.url}/key"),
        }
        store, uri = kinds[source]
        assert fetched(store, [uri]) == fetched(store, [uri]) == [b"hello"]
        assert own_connections() == 1 and server.connections == 2

        def lines(head: bytes) -> list[bytes]:
            return sorted(line for line in head.split(b"\r\n") if not re.match(b"(?i)authorization:|x-amz-date:", line))

        assert lines(server.heads[0]) == lines(server.heads[1])
        assert (b"Authorization: AWS4" in server.heads[1]) == (b"Authorization: AWS4" in server.heads[0])


@pytest.mark.parametrize("path", ["", "?a=b", "?a=/b"])
def test_urls_without_a_path_are_left_to_libcurl(path: str) -> None:
    with RawServer(said(HELLO)) as server:
        store = HTTPRaw(retry=ONCE)
        assert [fetched(store, [server.url + path]) for _ in range(3)] == [[b"hello"]] * 3
        assert len(set(server.heads)) == 1 and f"Host: 127.0.0.1:{server.port}\r\n".encode() in server.heads[0]


@of_python
@pytest.mark.parametrize(
    ("prefix", "host"),
    [
        ("http://a:80", "a"),
        ("https://a:443", "a"),
        ("http://a:443", "a:443"),
        ("https://a:80", "a:80"),
        ("http://[::1]:80", "[::1]"),
        ("http://a:8080", "a:8080"),
    ],
)
def test_the_default_port_is_left_out_of_the_host_header(prefix: str, host: str) -> None:
    """As libcurl has it: else the two ask the same server in two ways."""
    profile = Profile()
    message = Origin(profile, prefix).message(Request(profile, f"{prefix}/key"))
    assert message is not None and message.startswith(f"GET /key HTTP/1.1\r\nHost: {host}\r\n".encode())


@of_python
@pytest.mark.parametrize(
    ("profile", "prefix", "usable"),
    [
        (Profile(), "http://a", True),
        (Profile(headers=("X-Key: sesame",)), "http://[::1]:8080", True),
        (Profile(total_timeout=30.0), "http://a", False),
        (Profile(headers=("Connection: close",)), "http://a", False),
        (Profile(headers=("TE: trailers",)), "http://a", False),
        (Profile(headers=("X-Odd:value",)), "http://a", False),
        (Profile(proxy="http://127.0.0.1:1"), "http://a", False),
        (Profile(ca_bundle="/nowhere/bundle.pem"), "https://a", False),
        (Profile(), "http://user:password@a", False),
        (Profile(), "http://\u00fc", False),
        (Profile(), "http://1a.2b", True),
        *((Profile(), f"http://{host}", False) for host in ("127.1", "0x7f000001", "127.0.0.1.", "127.0.0.01", "1")),
        *((Profile(), f"http://[{host}]", False) for host in ("::A", "0::1")),
    ],
    ids=str,
)
def test_an_address_that_needs_interpretation_is_left_to_libcurl(profile: Profile, prefix: str, usable: bool) -> None:
    assert Origin(profile, prefix).usable == usable


@of_python
@pytest.mark.parametrize("path", ["/a b", "/a#b", "/\u00fc", "/a\r\nX: y"])
def test_a_path_that_needs_interpretation_is_left_to_libcurl(path: str) -> None:
    profile = Profile()
    assert Origin(profile, "http://a").message(Request(profile, f"http://a{path}")) is None


def test_a_proxy_is_never_bypassed(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(said(HELLO)) as proxy, RawServer(said(HELLO)) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        for store in (HTTPRaw(retry=ONCE), HTTPRaw(retry=ONCE, proxy=proxy.url)):
            for _ in range(3):
                assert fetched(store, [f"{server.url}/key"]) == [b"hello"]
        assert server.heads == [] and len(proxy.heads) == 6


# ---------------------------------------------------------------------- what is kept


def test_one_connection_carries_many_requests() -> None:
    with RawServer(said(HELLO)) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/first"])
        urls = [f"{server.url}/{number}" for number in range(300)]
        assert fetched(store, urls) == [b"hello"] * 300
        assert 1 <= own_connections() <= 128
        assert server.connections <= 200 and len(server.heads) == 301
        assert store.stats() == {"requests": 301, "retries": 0}


def test_blobs_that_come_in_pieces_keep_their_connection() -> None:
    """The kernel may tell once more of an answer that was taken already: that is no reason to give a connection up."""
    body = random.Random(1).randbytes(400_000)

    def serve(peer: socket.socket, _: bytes, __: int) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 50_000):
            peer.sendall(body[start : start + 50_000])

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE)
        for _ in range(100):
            assert fetched(store, [f"{server.url}/{number}" for number in range(2)]) == [body] * 2
        assert len(server.heads) == 200 and server.connections <= 4 and own_connections() <= 2


@of_python
def test_connections_idle_for_long_are_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(said(HELLO)) as server:
        store, url = HTTPRaw(retry=ONCE), f"{server.url}/key"
        fetched(store, [url])
        assert fetched(store, [url]) == fetched(store, [url]) == [b"hello"]
        assert server.connections == 2
        monkeypatch.setattr("bitstore._transport.sockets.origin._LONGEST_IDLE", 0.0)
        assert fetched(store, [url]) == [b"hello"]
        assert server.connections == 3 and own_connections() == 1
        monkeypatch.setattr("bitstore._transport.sockets.origin._STALE_SECONDS", 0.0)
        assert fetched(store, [url]) == [b"hello"]  # by libcurl, which looks up the address again
        assert own_connections() == 0


def test_an_unclear_answer_hands_this_and_later_requests_to_libcurl() -> None:
    """It comes in a form that libcurl reads, and our own connections do not."""

    def serve(peer: socket.socket, head: bytes, _: int) -> None:
        peer.sendall(HELLO if b"/first" in head else b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO)

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/first"])
        assert fetched(store, [f"{server.url}/{number}" for number in range(5)]) == [b"hello"] * 5
        heads = len(server.heads)
        assert fetched(store, [f"{server.url}/more"]) == [b"hello"]
        assert len(server.heads) == heads + 1 and own_connections() == 0


def test_a_second_answer_is_never_taken_for_the_next_request() -> None:
    """A server, or a proxy before it, that answers twice: at once, or later, when the connection is idle."""
    wrong = HELLO.replace(b"hello", b"wrong")
    late: list[socket.socket] = []

    def serve(peer: socket.socket, head: bytes, _: int) -> None:
        late.append(peer)
        peer.sendall(HELLO + (wrong if b"/twice" in head else b""))

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/first"])
        for _ in range(3):
            assert fetched(store, [f"{server.url}/twice"]) == [b"hello"]
            assert own_connections() == 0
        for _ in range(3):
            assert fetched(store, [f"{server.url}/later"]) == [b"hello"]
            assert own_connections() == 1
            late[-1].sendall(wrong)  # which is there when this returns: it is the same machine
            assert fetched(store, [f"{server.url}/next"]) == [b"hello"]


def test_bytes_that_came_while_idle_are_never_the_next_answer() -> None:
    """The transfer thread was busy with something else, and has not heard of it."""
    peers: list[socket.socket] = []

    def serve(peer: socket.socket, _: bytes, __: int) -> None:
        peers.append(peer)
        peer.sendall(HELLO)

    def steps() -> Steps[Response]:
        for _ in range(3):
            yield Request(profile, f"{server.url}/key")
        peers[-1].sendall(HELLO.replace(b"hello", b"wrong"))
        response: Response = yield Request(profile, f"{server.url}/next")
        return response

    profile = Profile()
    over = threading.Event()
    with RawServer(serve) as server:
        task = Task(steps(), lambda _: over.set())
        loop().submit([task])
        assert over.wait(30) and task.result.body == b"hello" and server.connections == 3


def test_a_connection_closed_with_its_answer_is_not_used_again() -> None:
    """The kernel reported both at once, and a server that has half closed a connection is silent from then on."""

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        peer.sendall(HELLO)
        if b"/first" not in head:
            peer.shutdown(socket.SHUT_WR)
            server.over.wait(30)
        return b"/first" in head

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE, stall_timeout=3)
        fetched(store, [f"{server.url}/first"])
        assert fetched(store, [f"{server.url}/{number}" for number in range(100)]) == [b"hello"] * 100


def test_closed_connections_are_replaced_without_using_up_a_try() -> None:
    served: set[object] = set()

    def serve(peer: socket.socket, _: bytes, __: int) -> bool:
        if peer.getpeername() in served:
            return False  # at the second request, without a word
        served.add(peer.getpeername())
        peer.sendall(HELLO)
        return True

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/first"])
        assert fetched(store, [f"{server.url}/{number}" for number in range(100)]) == [b"hello"] * 100
        assert store.stats() == {"requests": 101, "retries": 0}


def test_a_request_at_which_the_server_hangs_up_is_not_sent_over_every_connection() -> None:
    together = threading.Barrier(8)

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        if b"/poison" in head:
            return False
        if b"/first" not in head:
            together.wait(30)
        peer.sendall(HELLO)
        return True

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/first"])
        assert fetched(store, [f"{server.url}/{number}" for number in range(8)]) == [b"hello"] * 8
        assert own_connections() == 8
        assert fetched(store, [f"{server.url}/poison"]) == [StoreNotAvailable]
        assert sum(b"/poison" in head for head in server.heads) == 2


def test_a_lookup_that_is_given_up_closes_its_connection() -> None:
    asked = threading.Event()

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        if b"/slow" not in head:
            peer.sendall(HELLO)
            return True
        asked.set()
        server.over.wait(30)
        return False

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/first"])
        [blob] = store.get_many([f"{server.url}/slow"], timeout=0.3)
        assert "no answer within 0.3 s" in str(blob.error)
        assert own_connections() == 0
        asked.clear()
        answers = store.get_many([f"{server.url}/quick", f"{server.url}/slow"])
        assert next(answers).data == b"hello" and asked.wait(30)
        assert own_connections() == 2
        answers.close()  # type: ignore[attr-defined]
        assert own_connections() == 1 and not loop().scheduler.active


@of_python
def test_a_server_that_sends_without_end_holds_up_no_other_lookup() -> None:
    """Others have their turn in between, and time limits are kept."""
    connection, far = asking(Profile())
    buffer = bytearray(16)
    with far:
        assert connection.hear(buffer, memoryview(buffer)) is None  # connected: now it asks
        far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(99_999))
        turns = 0
        while connection.hear(buffer, memoryview(buffer)) is None and connection.more:
            turns += 1
        assert turns > 50
        far.sendall(b"!")
        assert connection.hear(buffer, memoryview(buffer)) == Response(200, bytes(99_999) + b"!", {}, 0.0)
        assert not connection.more
    connection.close()


@of_python
def test_a_closed_connection_yields_no_more_answers() -> None:
    connection, far = asking(Profile())
    buffer = bytearray(16)
    with far:
        far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(9999))
        while not connection.more:
            assert connection.hear(buffer, memoryview(buffer)) is None
    connection.close()  # as for a lookup that has no time left
    assert not connection.more  # else the thread would look at it in each turn, and never sleep again


@of_python
def test_time_limits_of_connecting_and_answering_are_kept() -> None:
    """They are told apart; a trickle is no progress, and enough bytes are, up to the end of the answer."""
    connection, far = asking(Profile(connect_timeout=5, stall_timeout=3))
    buffer = bytearray(1000)
    with far:
        connection.watch(100.0)
        connection.watch(104.0)
        connection.hear(buffer, memoryview(buffer))  # connected: now it asks
        connection.watch(104.5)
        connection.watch(107.0)
        far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 300)
        connection.hear(buffer, memoryview(buffer))
        connection.watch(107.4)
        far.sendall(b"x" * 200)
        connection.hear(buffer, memoryview(buffer))
        connection.watch(110.3)
        with pytest.raises(TransferError, match="too slow") as caught:
            connection.watch(110.5)
        assert (caught.value.status, len(caught.value.partial)) == (200, 500)
    connection.close()


@of_python
def test_a_connection_not_made_in_time_is_given_up() -> None:
    connection, far = asking(Profile(connect_timeout=5, stall_timeout=1))
    with far:
        connection.watch(100.0)
        connection.watch(104.9)
        with pytest.raises(Unreachable):
            connection.watch(105.0)
    connection.close()


@of_python
def test_an_answer_that_comes_together_with_the_connection_is_taken() -> None:
    """The kernel tells of it together with the connection, and of nothing more."""
    connection, far = asking(Profile())
    buffer = bytearray(1000)
    with far:
        far.sendall(HELLO)
        assert connection.hear(buffer, memoryview(buffer)) == Response(200, b"hello", {}, 0.0)
    connection.close()


def test_a_server_that_comes_back_is_used_again() -> None:
    with RawServer(said(HELLO)) as server:
        store, url = HTTPRaw(retry=ONCE), f"{server.url}/key"
        fetched(store, [url])
        assert fetched(store, [url]) == [b"hello"]
    [blob] = store.get_many([url], patience=0)
    assert isinstance(blob.error, StoreNotAvailable) and "curl error 7" in str(blob.error), blob.error
    listener = socket.create_server(("127.0.0.1", server.port))
    with listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].sendall(HELLO))
        thread.start()
        assert fetched(store, [url]) == [b"hello"]
        thread.join()


def test_connections_are_closed_with_their_store() -> None:
    closed = threading.Event()

    def serve(peer: socket.socket, _: bytes, __: int) -> bool:
        peer.sendall(HELLO)
        if server.connections == 2 and peer.recv(1, socket.MSG_PEEK) == b"":
            closed.set()
        return True

    with RawServer(serve) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/key"])
        fetched(store, [f"{server.url}/key"])
        assert own_connections() == 1
        del store
        gc.collect()
        assert closed.wait(30) and own_connections() == 0


def test_the_bound_of_connections_holds_for_all_servers_together() -> None:
    """The bound holds for all servers together; an idle connection is closed where there is none to spare."""
    driver = Loop(Pace(least=2, first=8, most=8))

    def whole(url: str) -> Steps[Response]:
        response: Response = yield Request(profile, url)
        return response

    profile = Profile()
    done: list[Task] = []
    over = threading.Event()

    def deliver(tasks: list[Task]) -> None:
        done.extend(tasks)
        if len(done) == expected:
            over.set()

    expected = 0
    with RawServer(said(HELLO)) as one, RawServer(said(HELLO)) as two, RawServer(said(HELLO)) as three:
        for server in (one, two, three, one, two, three, three, one):
            for number in (1, 40):
                over.clear()
                expected += number
                driver.submit([Task(whole(f"{server.url}/{each}"), deliver) for each in range(number)])
                assert over.wait(30)
            assert own_connections(driver) <= 8
            assert sum(open_sockets(each.port) for each in (one, two, three)) <= 8 + 1  # it may have one more in hand
        assert all(task.error is None and task.result.body == b"hello" for task in done)


def test_a_forked_child_makes_its_own_connections() -> None:
    with RawServer(said(HELLO)) as server:
        store, url = HTTPRaw(retry=ONCE), f"{server.url}/key"
        fetched(store, [url])
        fetched(store, [url] * 3)
        before = server.connections
        assert own_connections() == 1
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if [fetched(store, [url]) for _ in range(3)] == [[b"hello"]] * 3 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.connections == before + 2
        assert fetched(store, [url]) == [b"hello"]
        assert server.connections == before + 2  # the parent's is as good as ever


# ---------------------------------------------------------------------- TLS


def echo(peer: socket.socket, head: bytes, _: int) -> None:
    body = head.split()[1] * 10_000
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_https_requests_use_our_own_tls_connections(tmp_path: Path) -> None:
    bundle, mine = issued(tmp_path)
    with RawServer(echo, tls=server_tls(mine)) as server:
        store = HTTPRaw(retry=ONCE, ca_bundle=bundle)
        assert fetched(store, [f"{server.url}/first"]) == [b"/first" * 10_000]
        names = [f"/{number}" for number in range(50)]
        assert fetched(store, [server.url + name for name in names]) == [name.encode() * 10_000 for name in names]
        assert own_connections()


@pytest.mark.parametrize("other", ["theirs", "elsewhere"])
def test_a_server_with_another_certificate_is_refused(other: str, tmp_path: Path) -> None:
    """A server in the place of one that was reached before is asked for its certificate again."""
    trusted, mine = issued(tmp_path)
    (tmp_path / other).mkdir()
    authority, theirs = issued(tmp_path / other, "127.0.0.2" if other == "elsewhere" else "127.0.0.1")
    bundle = tmp_path / "both.pem"  # the one for another address is trusted, as such
    bundle.write_bytes(trusted.read_bytes() + (authority.read_bytes() if other == "elsewhere" else b""))
    with RawServer(echo, tls=server_tls(mine)) as server:
        store, url = HTTPRaw(retry=ONCE, ca_bundle=bundle), f"{server.url}/key"
        fetched(store, [url])
        assert fetched(store, [url]) == [b"/key" * 10_000] and own_connections() == 1
    with RawServer(echo, tls=server_tls(theirs), port=server.port) as other_server:
        for _ in range(2):
            [blob] = store.get_many([url], patience=0)
            assert isinstance(blob.error, StoreNotAvailable) and "ertificate" in str(blob.error), blob.error
        assert other_server.connections >= 2 and other_server.heads == []


@pytest.mark.parametrize("says_goodbye", [False, True])
def test_a_body_without_length_is_whole_only_after_a_tls_close_notify(
    says_goodbye: bool, kind: str, tmp_path: Path
) -> None:
    """A body until the end of the connection may have been cut on the way, unless TLS says it is the end."""

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        peer.sendall(HELLO if b"/first" in head else b"HTTP/1.1 200 OK\r\n\r\nhello")
        if b"/first" not in head and says_goodbye:
            assert isinstance(peer, ssl.SSLSocket)
            peer.unwrap()
        return b"/first" in head

    bundle, mine = issued(tmp_path)
    with RawServer(serve, tls=server_tls(mine)) as server:
        store = HTTPRaw(retry=ONCE, ca_bundle=bundle)
        fetched(store, [f"{server.url}/first"])
        before = server.connections
        assert fetched(store, [f"{server.url}/blob"]) == [b"hello" if says_goodbye else StoreNotAvailable]
        assert server.connections == before + 1 and len(server.heads) == (2 if kind == "sockets" else 3)


def test_a_second_answer_in_its_own_tls_record_is_never_the_next_answer(tmp_path: Path) -> None:
    """It was there with the first one, in the kernel, of which a record is read at a time."""

    def serve(peer: socket.socket, head: bytes, _: int) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.sendall(HELLO)
        if b"/twice" in head:
            peer.sendall(HELLO.replace(b"hello", b"wrong"))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    bundle, mine = issued(tmp_path)
    with RawServer(serve, tls=server_tls(mine)) as server:
        store = HTTPRaw(retry=ONCE, ca_bundle=bundle)
        fetched(store, [f"{server.url}/first"])
        for _ in range(20):
            assert fetched(store, [f"{server.url}/twice"]) == [b"hello"]
            assert fetched(store, [f"{server.url}/next"]) == [b"hello"]


def test_a_deleted_certificate_bundle_fails_lookups_and_ends_no_thread(tmp_path: Path) -> None:
    bundle, mine = issued(tmp_path)

    def serve(peer: socket.socket, head: bytes, count: int) -> None:
        bundle.unlink(missing_ok=True)
        echo(peer, head, count)

    with RawServer(serve, tls=server_tls(mine)) as server:
        store = HTTPRaw(retry=ONCE, ca_bundle=bundle)
        for _ in range(2):
            assert fetched(store, [f"{server.url}/key"]) == [b"/key" * 10_000]


@of_python
def test_a_socket_that_cannot_be_watched_fails_its_lookup_and_ends_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit on them, of all processes of a user."""

    def refuse(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with RawServer(said(HELLO)) as server:
        store = HTTPRaw(retry=ONCE)
        fetched(store, [f"{server.url}/key"])
        monkeypatch.setattr(loop()._poller, "add", refuse)
        assert fetched(store, [f"{server.url}/key"]) == [b"hello"]  # over libcurl's connection
        assert own_connections() == 0


def test_a_request_that_cannot_be_signed_fails_alone() -> None:
    class Moody:
        works = True

        def lines(self, method: str, url: str, headers: Sequence[str]) -> list[str]:
            if not self.works and url.endswith("/bad"):
                raise RuntimeError("no key")
            return ["X-Signed: yes"]

    def whole(url: str) -> Steps[Response]:
        response: Response = yield Request(profile, url)
        return response

    signer = Moody()
    profile = Profile(signer=signer)
    with RawServer(said(HELLO)) as server:
        for names in (["first"], ["second"], ["bad", "good"]):
            answers: queue.SimpleQueue[list[Task]] = queue.SimpleQueue()
            tasks = [Task(whole(f"{server.url}/{name}"), answers.put) for name in names]
            loop().submit(tasks)
            while not all(task.finished for task in tasks):
                answers.get(timeout=30)
            signer.works = names == ["first"]
        assert isinstance(tasks[0].error, TransferError) and "no key" in str(tasks[0].error)
        assert tasks[1].error is None and tasks[1].result.body == b"hello"
        assert own_connections() == 1


def test_a_tls_handshake_that_never_comes_is_given_up(tmp_path: Path) -> None:
    """A server that was reached before, and by now takes connections without a word: neither way waits for long."""
    bundle, mine = issued(tmp_path)
    with RawServer(echo, tls=server_tls(mine)) as server:
        store = HTTPRaw(retry=ONCE, ca_bundle=bundle, connect_timeout=1)
        assert fetched(store, [f"{server.url}/key"]) == [b"/key" * 10_000]
    with RawServer(lambda *_: server.over.wait(60), port=server.port) as silent:
        [blob] = store.get_many([f"{server.url}/key"], timeout=60, patience=0)
        assert isinstance(blob.error, StoreNotAvailable) and "no answer within" not in str(blob.error), blob.error
        assert silent.connections == 2  # ours, and libcurl's, which tells what is the matter
