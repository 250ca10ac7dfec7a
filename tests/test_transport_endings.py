"""Transports at their ends: a process that exits or forks, a thread that ends, Ctrl-C, in the middle of transfers."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore import HTTPRaw, LookupTimedOut, Retry, Sha1Store, StoreNotAvailable
from bitstore.steps import NO_HEADERS
from tests.certificates import issued, server_tls
from tests.raw_server import RawServer
from tests.soak_report import record
from tests.sockets import OWN, TRANSPORTS, only_by, open_sockets, own_connections
from tests.stores import composed
from tests.waiting import wait_until

ONCE = Retry(attempts=1)
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
PIECE = bytes(1 << 20)


def answer(peer: socket.socket, body: bytes, status: bytes = b"200 OK") -> None:
    peer.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)


def serve(peer: socket.socket, head: bytes, _: int) -> bool:
    """What the path says, of 16 KB if it says nothing."""
    path = head.split()[1]
    if path.startswith(b"/large"):
        peer.sendall(LARGE)
        while True:
            peer.sendall(PIECE)
    if path.startswith(b"/hang"):
        HANGING.release()
        peer.recv(1)
        return False
    answer(peer, path.ljust(16384, b"."))
    return True


HANGING = threading.Semaphore(0)  # one for each request that hangs


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return issued(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(serve) as running:
        yield running


@pytest.fixture
def tls_server(authority: tuple[Path, Path]) -> Iterator[RawServer]:
    with RawServer(serve, tls=server_tls(authority[1])) as running:
        yield running


BEGIN = """
import os, signal, sys, threading
import pytest
from bitstore import HTTPRaw
from tests.sockets import only_by

name, url, bundle = sys.argv[1:4]
only_by(name, pytest.MonkeyPatch())
store = HTTPRaw(ca_bundle=bundle, stall_timeout=60)
first = store.get(f"{url}/first"), [blob.data for blob in store.get_many([f"{url}/first"])]
assert first[0][:6] == first[1][0][:6] == b"/first"
"""
ENDINGS = {
    "in a batch": """
answers = store.get_many([*(f"{url}/{n}" for n in range(3000)), *(f"{url}/large/{n}" for n in range(8))])
for _ in range(20):
    next(answers)
""",
    "in a batch of large blobs": """
answers = store.get_many([f"{url}/1", *(f"{url}/large/{n}" for n in range(8))])
next(answers)
""",
    "in the get of a thread": """
for n in range(4):
    threading.Thread(target=store.get, args=(f"{url}/large/{n}",), daemon=True).start()
    store.get(f"{url}/{n}")
""",
    "in many gets": """
def forever():
    while True:
        store.get(f"{url}/some")
for n in range(4):
    threading.Thread(target=forever, daemon=True).start()
for n in range(20):
    store.get(f"{url}/{n}")
""",
    "in a forked child": """
answers = store.get_many([*(f"{url}/{n}" for n in range(1000)), f"{url}/large/1", f"{url}/large/2"])
found = [next(answers) for _ in range(20)]
child = os.fork()
found = [blob.data for blob in store.get_many([f"{url}/{n}" for n in range(5)], ordered=True)]
assert [data[:2] for data in found] == [b"/%d" % n for n in range(5)]
assert store.get(f"{url}/7")[:2] == b"/7"
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(next(answers).found for _ in range(980))
""",
}


def run(script: str, name: str, server: RawServer, authority: tuple[Path, Path]) -> Any:
    command = [sys.executable, "-X", "faulthandler", "-c", BEGIN + script, name, server.url, str(authority[0])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("way", ["server", "tls_server"])
@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_may_exit_in_the_middle_of_transfers(
    ending: str, name: str, way: str, authority: tuple[Path, Path], request: pytest.FixtureRequest
) -> None:
    with run(ENDINGS[ending], name, request.getfixturevalue(way), authority) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


INTERRUPTED = """
try:
    store.get(f"{url}/hang") if sys.argv[4] == "hang" else store.get(f"{url}/large")
except KeyboardInterrupt:
    print("interrupted")
assert store.get(f"{url}/7")[:2] == b"/7"
"""


@pytest.mark.parametrize("way", ["server", "tls_server"])
@pytest.mark.parametrize("name", TRANSPORTS)
def test_ctrl_c_ends_the_get_of_a_server_that_hangs(
    name: str, way: str, authority: tuple[Path, Path], request: pytest.FixtureRequest
) -> None:
    """Long before the silence of a minute is noticed; and the store is as good as before."""
    server: RawServer = request.getfixturevalue(way)
    script = INTERRUPTED.replace("sys.argv[4]", "'hang'")
    with run(script, name, server, authority) as process:
        try:
            assert HANGING.acquire(timeout=30)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


@pytest.mark.parametrize("name", TRANSPORTS)
def test_get_raises_what_a_signal_handler_raises(name: str, server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    only_by(name, monkeypatch)

    def alarm(*_: object) -> None:
        raise TimeoutError("time is up")

    def send() -> None:
        assert HANGING.acquire(timeout=30)
        os.kill(os.getpid(), signal.SIGALRM)

    store = HTTPRaw(retry=ONCE)
    store.get(f"{server.url}/first")
    before = signal.signal(signal.SIGALRM, alarm)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(TimeoutError, match="time is up"):
            store.get(f"{server.url}/hang")
    finally:
        sender.join()
        signal.signal(signal.SIGALRM, before)
    assert store.get(f"{server.url}/7").startswith(b"/7")


@pytest.mark.parametrize("path", ["hang", "large"])
@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_get_ends_when_its_time_is_over(
    name: str, path: str, server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_by(name, monkeypatch)
    raw = HTTPRaw(retry=ONCE, range_threshold=None)
    raw.get(f"{server.url}/first")
    with pytest.raises(LookupTimedOut):
        composed(Sha1Store(raw, f"{server.url}/{path}/")).get(40 * "0", timeout=0.3)
    assert raw.get(f"{server.url}/7").startswith(b"/7")


@pytest.mark.parametrize("name", OWN)
def test_a_batch_of_a_thread_that_ends_leaves_no_request_behind(
    name: str, server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_by(name, monkeypatch)
    store = HTTPRaw(retry=ONCE)
    store.get(f"{server.url}/first")
    list(store.get_many([f"{server.url}/first"]))

    def ask() -> None:
        answers = store.get_many([f"{server.url}/1", *(f"{server.url}/large/{n}" for n in range(30))])
        next(answers)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    gc.collect()
    wait_until(lambda: own_connections() <= 2 and open_sockets(server.port) <= 4)


def mixed(peer: socket.socket, head: bytes, _: int) -> bool:
    """All that can come of a request, in turn."""
    number = int(head.split()[1][1:])
    kind = number % 50
    if kind == 1:
        answer(peer, b"gone", b"404 Not Found")
    elif kind == 2:
        peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    elif kind == 3:
        answer(peer, bytes(70_000))
    elif kind == 4:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(70_000))
        return False
    elif kind == 5:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        return False
    elif kind == 6:
        answer(peer, bytes(2_000_000))  # which is more than the store takes
    else:
        answer(peer, b"." * 1000)
    return True


def resident() -> int:
    """Bytes of memory of this process that are in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])]
)
@pytest.mark.parametrize("name", OWN)
def test_many_blobs_leave_no_reference_and_no_memory_behind(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_by(name, monkeypatch)
    told = []
    with RawServer(mixed) as server:
        store = HTTPRaw(retry=ONCE, max_blob_size="1MB")
        for _ in range(5):
            uris = (f"{server.url}/{number}" for number in range(count // 5))
            found = sum(blob.found for blob in store.get_many(uris, patience=0, in_flight=16))
            assert found == count // 5 - 3 * count // 250
            server.heads.clear()
            server._open.clear()
            server._threads.clear()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            counts = [sys.getrefcount(each) for each in (NO_HEADERS, b"", b"hello", ())]
            told.append((resident(), len(gc.get_objects()), counts, open_sockets(server.port)))
    sizes, objects, references, _ = zip(*told, strict=True)
    assert sizes[-1] - sizes[1] < 32_000_000, told  # tests before this one may have left something to be freed
    assert objects[-1] - objects[1] < 1000, told
    assert all(abs(last - second) < 100 for second, last in zip(references[1], references[-1], strict=True)), told
    if count > 100_000:
        record("blobs and memory", transport=name, blobs=count, growth_bytes=sizes[-1] - sizes[1])


@pytest.mark.parametrize("name", TRANSPORTS)
def test_tls_sessions_are_resumed(name: str, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """By each new connection but the first one of its kind, which the server counts."""
    only_by(name, monkeypatch)
    resumed: list[bool] = []

    def once(peer: socket.socket, head: bytes, count: int) -> bool:
        assert isinstance(peer, ssl.SSLSocket)
        resumed.append(bool(peer.session_reused))
        answer(peer, b"hello")
        return False

    with RawServer(once, tls=server_tls(authority[1])) as server:
        store = HTTPRaw(retry=ONCE, ca_bundle=authority[0])
        for number in range(6):
            assert [blob.data for blob in store.get_many([f"{server.url}/{number}"])] == [b"hello"]
    assert resumed[2:] == [name != "sockets"] * 4, resumed


SIZES = [*itertools.chain.from_iterable((n - 300, n - 100, n - 60, n - 40, n - 1, n, n + 1) for n in (65536, 1 << 20))]


@pytest.mark.parametrize("way", ["server", "tls_server"])
@pytest.mark.parametrize("name", OWN)
def test_bodies_of_every_size_come_whole(
    name: str, way: str, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Around those at which other memory is used, in one piece and in several, and behind one another."""
    only_by(name, monkeypatch)
    data = os.urandom(1 << 21)
    tls = server_tls(authority[1]) if way == "tls_server" else None

    def sized(peer: socket.socket, head: bytes, count: int) -> None:
        size = int(head.split()[1][1:])
        if count % 2:
            answer(peer, data[:size])
            return
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % size)
        peer.sendall(b"\r\n" + data[:1])
        peer.sendall(data[1:size])

    sizes = sorted({*SIZES, *range(65536 - 50, 65536 - 30)})
    with RawServer(sized, tls=tls) as server:
        store = HTTPRaw(retry=ONCE, ca_bundle=authority[0], range_threshold=None)
        uris = [f"{server.url}/{size}" for size in sizes]
        for _ in range(2):
            for size, blob in zip(sizes, store.get_many(uris, ordered=True), strict=True):
                assert blob.data == data[:size], size
            assert all(store.get(uri) == data[:size] for uri, size in zip(uris, sizes, strict=True))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("length", [10**9, 10**15, 10**17, 10**18])
def test_memory_is_taken_for_what_comes_and_not_for_what_is_announced(
    length: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_by(name, monkeypatch)

    def cut(peer: socket.socket, head: bytes, _: int) -> bool:
        if b"/first" in head:
            answer(peer, b"hello")
            return True
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(200_000))
        return False

    with RawServer(cut) as server:
        store = HTTPRaw(retry=ONCE, max_blob_size=None, range_threshold=None)
        assert [blob.found for blob in store.get_many([f"{server.url}/first"])] == [True]
        before = resident()
        answers = list(store.get_many([f"{server.url}/{number}" for number in range(20)], patience=0))
        assert all(isinstance(blob.error, StoreNotAvailable) for blob in answers)
        assert resident() - before < 100_000_000
