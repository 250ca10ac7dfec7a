"""Native connections at their edges: forks, what is left to libcurl, time limits, broken pipes."""

from __future__ import annotations

import gc
import hashlib
import os
import queue
import random
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bitstore import HTTPRaw, Retry
from bitstore._lookup.loop import Loop
from bitstore._lookup.loops import loop
from bitstore._lookup.task import Task
from bitstore._transport import transports
from bitstore._transport.budget import SocketBudget
from bitstore._transport.pace import Pace
from bitstore._transport.poller import Poller
from bitstore._transport.transport import Exchange, Performed
from bitstore.steps import TIMED_OUT, Profile, Request, Response, Steps, TransferError
from tests.certificates import issued, server_tls
from tests.raw_server import RawServer, said
from tests.sockets import TRANSPORTS, only_by
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif("native" not in TRANSPORTS, reason="the native transport is not built")
ONCE = Retry(attempts=1)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    only_by("native", monkeypatch)


def asked_of(server: RawServer) -> tuple[Any, Any]:
    """A group, and the origin `server`; whatever is no whole answer comes to None."""
    from bitstore._transport.native._core import Group, Origin

    group = Group(Response, {}, lambda *_: None)
    origin = Origin(None, "", 30.0, 30.0, 0)
    origin.reached("127.0.0.1", server.port, 60.0)
    return group, origin


def asked(server: RawServer) -> tuple[Any, Any]:
    """A group that has an answer of `server`, and its origin."""
    group, origin = asked_of(server)
    group.begin("exchange", origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, 0)
    assert [exchange for exchange, _ in group.perform(30.0)] == ["exchange"]
    return group, origin


def test_a_connection_that_a_forked_child_still_holds_is_not_heard_of_once_it_is_closed() -> None:
    """Its memory is free by then; the kernel drops what it watches only where the last copy of a socket is closed."""
    peers: list[socket.socket] = []

    def serve(peer: socket.socket, _: bytes, __: int) -> None:
        peers.append(peer)
        peer.sendall(HELLO)

    with RawServer(serve) as server:
        group, origin = asked(server)
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            os.close(write_end)
            os.read(read_end, 1)
            os._exit(0)
        try:
            del origin
            assert group.connections == 0
            peers[0].shutdown(socket.SHUT_RDWR)
            assert select.select([group.fileno()], [], [], 0) == ([], [], [])
        finally:
            os.close(write_end)
            os.close(read_end)
            os.waitpid(child, 0)


ODD_PATHS = ["", "no-slash", "/a b", "/a#b", "/a\tb", "/a\nb", "/a\0b", "/a\x7f", "/\u00fc", "/\ud800", 7, None]


def test_paths_that_cannot_be_sent_as_they_are_begin_no_request() -> None:
    from bitstore._transport.native._core import Sheet

    sheet = Sheet(b"\n\nhost:a", b"text\n", b" HTTP/1.1\r\nHost: a\r\nAuthorization: ", b"\r\n\r\n", bytes(32))
    with RawServer(lambda peer, head, _: peer.sendall(HELLO) is None) as server:
        group, origin = asked(server)
        for path in ODD_PATHS:
            with pytest.raises((ValueError, TypeError)):
                group.begin("odd", origin, path, sheet, 0)
        texts = ["/first", *ODD_PATHS, "/last?a=b&c"]
        numbers = group.begin_together([*range(len(texts))], origin, texts, sheet, 0)
        assert [number is None for number in numbers] == [False, *[True] * len(ODD_PATHS), False]
        assert group.queued == 2
        group.abandon(numbers[0])
        assert [exchange for exchange, _ in group.perform(30.0)] == [len(texts) - 1]
        assert server.heads[-1].startswith(b"GET /last?a=b&c HTTP/1.1\r\n")


def test_requests_that_begin_together_are_checked_before_any_begins() -> None:
    with RawServer(said(HELLO)) as server:
        group, origin = asked(server)
        text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        for texts, sheet, algorithm in (([text], None, 0), ([text] * 2, 7, 0), ([text] * 2, None, 5)):
            with pytest.raises((ValueError, TypeError)):
                group.begin_together([1, 2], origin, texts, sheet, algorithm)
        with pytest.raises(TypeError):
            group.begin_together((1, 2), origin, [text] * 2, None, 0)
        assert group.queued == 0 and group.begin_together([], origin, [], None, 0) == []


TEXT = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PART_SIZE = 100_000
LARGE = random.Random(4).randbytes(PART_SIZE)


def part_head(status: int = 206, size: int = PART_SIZE) -> bytes:
    return b"HTTP/1.1 %d Answer\r\nContent-Length: %d\r\n\r\n" % (status, size)


# An answer; where its body is asked for, in memory of three times its size; and whether it goes there.
PLACES = [
    (part_head() + LARGE, 0, True),
    (part_head() + LARGE, 77, True),
    (part_head() + LARGE, 2 * PART_SIZE, True),
    (part_head() + LARGE, 2 * PART_SIZE + 1, False),
    (part_head() + LARGE, 3 * PART_SIZE, False),
    (part_head(200) + LARGE, 0, False),
    (part_head(size=5) + b"hello", 0, False),
    (part_head(size=0), 0, False),
    (part_head() + LARGE[:-1], 0, False),
    (b"HTTP/1.1 206 Part\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0, False),
]


@pytest.mark.parametrize(("answer", "start", "in_place"), PLACES)
def test_a_part_is_received_into_the_memory_of_its_request_where_it_fits(
    answer: bytes, start: int, in_place: bool
) -> None:
    from bitstore._transport.native import _core

    came: list[tuple[Any, ...]] = []

    def interpret(*outcome: Any) -> Any:
        came.append(outcome)
        return outcome

    empty = bytes(3 * PART_SIZE)
    memory = _core.memory(len(empty))
    _core.copy(memory, 0, empty)
    with RawServer(said(answer, stays=False)) as server:
        group = _core.Group(Response, {}, interpret)
        origin = _core.Origin(None, "", 30.0, 30.0, 0)
        origin.reached("127.0.0.1", server.port, 60.0)
        group.begin("exchange", origin, TEXT, None, 0, -1, False, memory, start)
        assert len(group.perform(30.0)) == 1
    [(_, _, status, body, head, _)] = came
    assert head == answer[: answer.index(b"\r\n\r\n") + 4] and status == int(answer[9:12])
    if in_place:
        assert body is memory and memory == empty[:start] + LARGE + empty[start + PART_SIZE :]
        return
    sent = answer[len(head) :]
    assert type(body) is bytes and body is not memory and body == (b"hello" if b"chunked" in head else sent)


def test_memory_for_a_part_is_looked_at_before_anything_is_received() -> None:
    from bitstore._transport.native import _core

    with RawServer(said(HELLO)) as server:
        group, origin = asked(server)
        memory = _core.memory(10)
        for given, start, error in (
            (memory, -1, ValueError),
            (memory, 11, ValueError),
            (bytearray(10), 0, TypeError),
            ("text", 0, TypeError),
        ):
            with pytest.raises(error):
                group.begin("odd", origin, TEXT, None, 0, -1, False, given, start)
        assert group.queued == 0
        for start, data in ((-1, b"a"), (11, b""), (10, b"a"), (0, bytes(11)), (sys.maxsize, b"a"), (1, bytes(10))):
            with pytest.raises(ValueError, match="memory has 10"):
                _core.copy(memory, start, data)
        _core.copy(memory, 0, b"0123456789")
        _core.copy(memory, 10, b"")
        _core.copy(memory, 4, b"four")
        assert memory == b"0123four89"
        for size in (-1, sys.maxsize):
            with pytest.raises((MemoryError, OverflowError, SystemError)):
                _core.memory(size)


def test_a_limit_of_a_request_is_heeded_in_place_of_that_of_its_origin() -> None:
    from bitstore._transport.native._core import Group, Origin

    with RawServer(said(HELLO)) as server:
        group = Group(Response, {}, lambda _, outcome, *__: outcome)
        origin = Origin(None, "", 30.0, 30.0, 4)
        origin.reached("127.0.0.1", server.port, 60.0)
        outcomes = []
        for most in (-1, 0, 4, 5):
            group.begin(most, origin, TEXT, None, 0, most)
            [(_, outcome)] = group.perform(30.0)
            outcomes.append(outcome if isinstance(outcome, int) else outcome.body)
    assert outcomes == [4, b"hello", 4, b"hello"]  # 4: `TOO_LARGE` of src/job.h


def test_requests_that_are_not_alike_come_from_where_each_of_them_leads() -> None:
    """Of several profiles, origins, digests and methods, and with what only libcurl sends."""

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        body = b"%s on %d of two: %s" % (head.split()[1], peer.getsockname()[1], str(b"X-Of: two" in head).encode())
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return True

    with RawServer(serve) as one, RawServer(serve) as two:
        profiles = Profile(), Profile(headers=("X-Of: two",))

        def requests(label: str) -> list[Request]:
            made = []
            for number, server in enumerate((one, two) * 12):
                url = f"{server.url}/{label}/{number}"
                profile, hash_with = profiles[number % 3 == 0], ("sha1", "sha256", None)[number % 5 % 3]
                made.append(Request(profile, url, hash_with=hash_with))
            made[6] = Request(profiles[1], f"{one.url}/{label}/6", want_headers=True, hash_with="sha1")
            made[7] = Request(profiles[0], f"{two.url}/{label}/7#hidden")
            return made

        for label in ("first", "second", "third"):  # libcurl shows where the servers are
            asked_for = requests(label)
            ended: queue.SimpleQueue[list[Task]] = queue.SimpleQueue()
            tasks = [Task(_whole(request), ended.put) for request in asked_for]
            loop().submit(tasks)
            left = len(tasks)
            while left:
                left -= len(ended.get(timeout=30))
            for number, (request, task) in enumerate(zip(asked_for, tasks, strict=True)):
                port, of_two = (one, two)[number % 2].port, request.profile is profiles[1]
                assert task.result.body == f"/{label}/{number} on {port} of two: {of_two}".encode()
                assert ("content-length" in task.result.headers) == request.want_headers
                if task.result.digest is not None:
                    assert request.hash_with is not None
                    assert task.result.digest == hashlib.new(request.hash_with, task.result.body).hexdigest()


def _whole(request: Request) -> Steps[Response]:
    response: Response = yield request
    return response


SIZES = [0, 1, 63, 64, 5000, 16384, 65000, 65535, 65536, 131_072, 131_073, 300_000, 1_000_000, 3_000_001]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512", "sha1 and sha256"])
def test_bodies_of_all_sizes_that_come_at_once_have_the_digests_of_hashlib(algorithm: str) -> None:
    """Small ones are hashed together at the end of a turn, large ones part by part; every tenth ends too early."""
    names = ("", "md5", "sha1", "sha256", "sha512")
    bodies = [random.Random(number).randbytes(SIZES[number % len(SIZES)]) for number in range(70)]

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        number = int(head.split()[1][1:])
        body, dice = bodies[number], random.Random(number)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        if cut(number):
            peer.sendall(body[: len(body) // 2])
            return False
        start = 0
        while start < len(body):
            end = start + dice.choice([1000, 64 * 1024, 400_000])
            peer.sendall(body[start:end])
            start = end
        return True

    def cut(number: int) -> bool:
        return number % 10 == 9 and len(bodies[number]) > 1

    with RawServer(serve) as server:
        group, origin = asked_of(server)
        wanted = {}
        for number in range(len(bodies)):
            wanted[number] = algorithm.split(" and ")[number % 2 if " and " in algorithm else 0]
            group.begin(number, origin, f"GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n", None, names.index(wanted[number]))
        ended: dict[int, Any] = {}
        while len(ended) < len(bodies):
            if not group.busy():
                select.select([group.fileno()], [], [], 30)
            ended.update(group.turn(30, 30, 64, 0.001))
        for number, answer in ended.items():
            if cut(number):
                assert answer is None
            else:
                digest = hashlib.new(wanted[number], bodies[number]).hexdigest()
                assert (answer.status, answer.digest) == (200, digest)
                assert answer.body == bodies[number]


def test_a_request_taken_ahead_is_sent_when_another_has_ended_and_not_before() -> None:
    from bitstore._transport.native.transport import Native

    poller = Poller()
    native = Native(poller, SocketBudget(64))
    may_answer = threading.Semaphore(1)

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        may_answer.acquire()
        peer.sendall(HELLO)
        return True

    def turn(room: int) -> list[Any]:
        heard = poller.wait(min(native.patience(room), 30))
        return [outcome for _, outcome in native.turn(heard, time.monotonic(), room)]

    with RawServer(serve) as server:
        profile = Profile()
        requests = [Request(profile, f"{server.url}/{number}") for number in range(3)]
        assert native.ahead == 0  # it may decline them all
        for request in requests:
            native.learn(request, "127.0.0.1", server.port)
            assert native.begin(Exchange("owner", request, None))
        assert native.ahead > 0
        assert turn(-3) == [] and native.patience(-3) > 0 and not server.heads  # another transport has all places
        assert native.patience(-2) == 0.0  # one of them is free again
        answers = turn(-2)
        while not answers:
            answers = turn(-2)
        wait_until(lambda: len(server.heads) == 2)  # sent in the turn that had the first answer
        may_answer.release(2)
        while len(answers) < 3:
            answers += turn(len(answers) - 2)
        assert [answer.body for answer in answers] == [b"hello"] * 3 and server.connections == 1


def test_answers_left_to_libcurl_are_asked_for_no_more_at_once_than_the_pace_allows() -> None:
    most = under_way = 0
    lock, gathered = threading.Lock(), threading.Barrier(8)
    gathering = {b"/%d" % number for number in range(8)}  # the first eight, which are there together

    def serve(peer: socket.socket, head: bytes, _: int) -> bool:
        nonlocal most, under_way
        path = head.split()[1]
        with lock:
            under_way += 1
            most = max(most, under_way)
            waits = path in gathering
            gathering.discard(path)
        if waits:
            gathered.wait(30)
        time.sleep(0.005)  # as long as an answer takes
        with lock:
            under_way -= 1
        first = path == b"/first"
        peer.sendall(HELLO if first else b"HTTP/1.1 200 OK\r\n\r\nhello")  # the body ends with the connection
        return first

    profile, done = Profile(), queue.SimpleQueue[list[Task]]()
    transfers = Loop(Pace(first=8, most=8), lambda poller, _: transports.new_transports(poller, SocketBudget(64)))

    def steps(name: str) -> Steps[Response]:
        response: Response = yield Request(profile, f"{server.url}/{name}")
        return response

    with RawServer(serve) as server:
        for names in (["first"], [f"{number}" for number in range(100)]):
            tasks = [Task(steps(name), done.put) for name in names]
            transfers.submit(tasks)
            ended = 0
            while ended < len(tasks):
                ended += len(done.get(timeout=30))
    assert [task.result.body for task in tasks] == [b"hello"] * 100
    assert 1 + 100 < len(server.heads) <= 1 + 2 * 100  # some were asked for twice
    assert most == 8


def test_a_server_that_calling_threads_leave_to_libcurl_is_asked_once_for_each_blob() -> None:
    with RawServer(said(b"HTTP/1.1 200 OK\r\n\r\nhello", stays=False)) as server:  # the body ends with the connection
        store = HTTPRaw(retry=ONCE)
        assert [store.get(f"{server.url}/{number}") for number in range(5)] == [b"hello"] * 5
        assert len(server.heads) == 5 + 1  # the second one showed it


def test_addresses_that_calling_threads_know_are_bounded_and_end_with_their_profile() -> None:
    from bitstore._transport.native.transport import Native, _Blocking, _blocking

    def known(profile: Profile) -> list[int]:
        blocking: _Blocking = _blocking()
        requests = [Request(profile, f"http://{number}.example/") for number in range(1000)]
        return [number for number, request in enumerate(requests) if blocking.where(request)]

    profile = Profile()
    for number in range(1000):
        Native.reached(Request(profile, f"http://{number}.example/"), "127.0.0.1", 9)
    assert known(profile) == list(range(1000 - 256, 1000))
    gc.collect()  # profiles of earlier tests may end at any time
    entries = len(_blocking()._known)
    del profile
    gc.collect()
    assert len(_blocking()._known) == entries - 1


def test_a_request_that_is_declined_late_has_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    class Late:
        @staticmethod
        def perform(_: Request, timeout: float | None) -> None:
            given.append(timeout)
            time.sleep(timeout or 0.0)

    class Next:
        @staticmethod
        def perform(_: Request, timeout: float | None) -> Performed:
            given.append(timeout)
            return Performed(Response(200, b"", {}, 0.0))

    monkeypatch.setattr(transports, "_KINDS", (Late, Next))
    request = Request(Profile(), "http://127.0.0.1:9/")
    with pytest.raises(TransferError, match=r"no answer within 0.01 seconds") as caught:
        transports.perform(request, 0.01)
    assert caught.value.code == TIMED_OUT and given == [0.01]
    assert transports.perform(request).status == 200 and given == [0.01, None, None]


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 0),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
    ],
)
def test_a_connection_on_which_a_body_may_follow_that_does_not_belong_is_closed(answer: bytes, kept: int) -> None:
    with RawServer(said(answer)) as server:
        group, origin = asked(server)
        assert group.connections == kept
        del origin


HANGING_UP = """
import signal, sys
from bitstore import HTTPRaw, Retry, StoreNotAvailable
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
store = HTTPRaw(retry=Retry(attempts=1), ca_bundle=sys.argv[2])
def said(ask):
    try:
        return ask()
    except StoreNotAvailable:
        return None
print([said(lambda: store.get(sys.argv[1])) for _ in range(3)])
print([[blob.found for blob in store.get_many([sys.argv[3]], patience=0)] for _ in range(3)])
"""


def test_a_server_that_hangs_up_ends_no_process_that_has_the_usual_action_of_sigpipe(tmp_path: Path) -> None:
    """Within the handshake: what is sent next finds a broken pipe."""
    bundle, mine = issued(tmp_path)
    tls = server_tls(mine)

    def serve(listener: socket.socket) -> None:
        for number in range(100):
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                if number == 0:  # the first request of an origin is libcurl's
                    with tls.wrap_socket(peer, server_side=True) as wrapped:
                        wrapped.recv(65536)
                        wrapped.sendall(HELLO)
                    continue
                heard, says = ssl.MemoryBIO(), ssl.MemoryBIO()
                heard.write(peer.recv(65536))
                with pytest.raises(ssl.SSLWantReadError):
                    tls.wrap_bio(heard, says, server_side=True).do_handshake()
                peer.sendall(says.read())

    def url(listener: socket.socket) -> str:
        return f"https://127.0.0.1:{listener.getsockname()[1]}/key"

    # One server for each kind of thread, as how often a request is sent again differs from run to run.
    with socket.create_server(("127.0.0.1", 0)) as singles, socket.create_server(("127.0.0.1", 0)) as batches:
        servers = [threading.Thread(target=serve, args=(listener,)) for listener in (singles, batches)]
        for server in servers:
            server.start()
        command = [sys.executable, "-c", HANGING_UP, url(singles), str(bundle), url(batches)]
        environment = {**os.environ, "BITSTORE_NATIVE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        for listener, server in zip((singles, batches), servers, strict=True):
            listener.shutdown(socket.SHUT_RDWR)
            server.join()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[b'hello', None, None]", "[[True], [False], [False]]"]
