"""Answers of HTTP/1.1 as our own connections read them: as libcurl does, in whatever pieces they come."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import socket
from collections.abc import Iterator
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import pytest

from bitstore._lookup.retry import TRANSIENT_CODES
from bitstore._transport.sockets.http1 import Answer, Unclear, read_head
from bitstore._transport.sockets.transport import Sockets
from bitstore._transport.transport import Declined
from bitstore._transport.transports import perform
from bitstore.steps import Profile, Request, Response, TransferError
from tests.asker import Asker
from tests.fuzz.mutate import mutants
from tests.raw_server import RawServer
from tests.soak_report import record
from tests.sockets import OWN, only_by

PROFILE = Profile(proxy="")
URL = "http://127.0.0.1:1/blob"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

ANSWERS = {
    "length": HELLO,
    "in small letters": b"HTTP/1.1 200\r\ncontent-length:5\r\nconnection: Keep-Alive\r\n\r\nhello",
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "chunks": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x="y"\r\nlo\r\n0\r\n\r\n',
    "capital chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
    "chunks of line ends": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:chunked\r\n\r\n4\r\n\r\n\r\n\r\n1\r\n\r\r\n0\r\n\r\n",
    "no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
    "missing, in chunks": b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n",
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "busy": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n",
    "redirect to nowhere": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "redirect to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nhello",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length:3\r\nTransfer-Encoding:chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "line feeds": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "line feeds, and more in the body": b"HTTP/1.1 200 OK\nContent-Length: 12\n\nab\r\n\r\ncdefgh",
    "a line feed before the body": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: y\n\nab\r\n\r\ncdefgh",
    "two lengths, by a line feed": b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
    "a length by a line feed": b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 5\r\n\r\nhello",
    "a carriage return": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\r\n\r\nhello",
    "no text": b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 5\r\n\r\nhello",
    "a line feed in a chunk's line": (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x="\ny"\r\nhello\r\n0\r\n\r\n'
    ),
    "a blank before a chunk's size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n"),
    "a carriage return after the chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r+0\r\n\r\n"
    ),
    "no field": b"HTTP/1.1 200 OK\r\nContent-\r\nContent-Length: 5\r\n\r\nhello",
    "an empty line too early": b"HTTP/1.1 200 OK\r\nContent-Len\r\n\r\ngth: 5\r\n\r\nhello",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + HELLO,
    "folded": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 5\r\n\r\nhello",
}
CLOSED = {
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "1.0 with length": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "said to be closed": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "too short": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
    "too few chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "no head": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "no number": b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
    "less than nothing": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
}


SPLICES = [
    b"Content-Length: 3\r\n", b"content-length:\t5\r\n", b"Content-Length : 5\r\n", b"Content-Length: +5\r\n",
    b"\r\n\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: 0x5\r\n", b"Content-Length: 5 \t\r\n",
    b"Content-Length:\r\n", b"\n\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"TRANSFER-ENCODING:\tChUnKeD \r\n", b"Connection: close\r\n", b" \r\n", b"Connection: keep-alive, close\r\n",
    b"HTTP/1.0 ", b"HTTP/1.2 ", b"HTTP/2 200\r\n", b"204", b"304", b"206", b"99", b"1000", b"Location: /a\r\n",
    b"Retry-After: 9\r\n", b"Trailer: x\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"000000000000000000005",
    b"ffffffffffffffff\r\n", b"7fffffffffffffff\r\n", b";a=b", b"\r", b"\t", b"\x0b", b"\x0c", b"\x85", b"\xa0",
]  # fmt: skip


# What our own connections take; of the others they say that they are for libcurl.
CLEAR = {*list(ANSWERS)[: list(ANSWERS).index("busy") + 1], "1.0 with length"}
CLEAR |= {"redirect to nowhere", "said to be closed", "too short", "too few chunks", "no head", "half a head"}
UNTIL_CLOSE = {"until the end", "1.0"}  # which only the Python sockets take


class Reference:
    """What libcurl makes of answers: a server that says what it was last told, and ends the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.stays = False
        self._server = RawServer(self._serve)
        self._stack = contextlib.ExitStack()

    def _serve(self, peer: socket.socket, _: bytes, __: int) -> bool:
        peer.sendall(self.answer)
        return self.stays

    def __enter__(self) -> Reference:
        self._stack.enter_context(self._server)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def outcome(self, answer: bytes, *, stays: bool = False) -> Response | TransferError:
        """Response or error."""
        self.answer, self.stays = answer, stays
        try:
            # libcurl needs the fields to know an empty answer without a length from one that was cut.
            return perform(Request(PROFILE, f"{self._server.url}/blob", want_headers=True))
        except TransferError as error:
            return error


@pytest.fixture(autouse=True)
def _libcurl(monkeypatch: pytest.MonkeyPatch) -> None:
    """libcurl alone is the reference."""
    only_by("libcurl", monkeypatch)


@pytest.fixture
def reference() -> Iterator[Reference]:
    with Reference() as running:
        yield running


@pytest.fixture(params=OWN)
def asker(request: pytest.FixtureRequest) -> Iterator[Asker]:
    asker = Asker(request.param, PROFILE)
    yield asker
    asker.close()


def differs(answer: bytes, ours: Any, expected: Response | TransferError) -> bool:
    """Whether an outcome is another one than libcurl's, and not left to libcurl."""
    if isinstance(ours, Declined):
        return False
    if isinstance(ours, TransferError):
        # libcurl takes an error by its status alone, even if its head is cut.
        fails = isinstance(expected, TransferError) or b"\r\n\r\n" not in answer
        return not (fails and ours.code in TRANSIENT_CODES)
    if not isinstance(expected, Response) or (ours.status, ours.body) != (expected.status, expected.body):
        return True
    places = [re.sub(r"//127.0.0.1:\d+", "", each.headers.get("location", "")) for each in (ours, expected)]
    return (300 <= ours.status < 400 and places[0] != places[1]) or (
        ours.status in (429, 503) and abs(ours.retry_after - expected.retry_after) > 2
    )


@pytest.mark.parametrize("name", [*ANSWERS, *CLOSED])
def test_answers_over_our_sockets_equal_those_of_libcurl(name: str, asker: Asker, reference: Reference) -> None:
    answer = ANSWERS.get(name, CLOSED.get(name, b""))
    expected = reference.outcome(answer, stays=name in ANSWERS)
    ours = asker.answered([answer])
    taken = name in CLEAR or (name in UNTIL_CLOSE and isinstance(asker.own, Sockets))
    assert isinstance(ours, Declined) == (not taken), ours
    assert not differs(answer, ours, expected), (ours, expected)


def test_answers_that_end_early_are_as_for_libcurl(asker: Asker, reference: Reference) -> None:
    """Whichever byte is the last one to come."""
    for answer in (HELLO, ANSWERS["capital chunks"], ANSWERS["missing"], ANSWERS["nothing"]):
        for end in range(len(answer)):
            ours, expected = asker.answered([answer[:end]]), reference.outcome(answer[:end])
            assert not differs(answer[:end], ours, expected), (answer[:end], ours, expected)


@pytest.mark.parametrize("name", [*ANSWERS, *CLOSED])
def test_an_answer_over_a_socket_reads_the_same_in_whatever_pieces_it_comes(name: str, asker: Asker) -> None:
    answer = ANSWERS.get(name, CLOSED.get(name, b""))

    def outcome(cuts: list[int]) -> Any:
        ended = asker.answered(answer[start:end] for start, end in pairwise([0, *cuts, len(answer)]))
        return ended if isinstance(ended, Response) else type(ended)

    expected = outcome([])
    assert all(outcome([cut]) == expected for cut in range(1, len(answer)))
    assert outcome(list(range(1, len(answer)))) == expected


@pytest.mark.parametrize("count", [1500, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])])
def test_changed_answers_are_read_as_by_libcurl_or_left_to_it(count: int) -> None:
    """Each in turn by all transports, in one piece and in several."""
    chance = random.Random(count)
    taken = dict.fromkeys(OWN, 0)
    askers = {name: Asker(name, PROFILE) for name in OWN}
    clear = [answer for name, answer in ANSWERS.items() if name in CLEAR]
    changed = mutants([*ANSWERS.values(), *CLOSED.values(), *clear * 4, *SPLICES], count)
    for _ in range(count // 500):
        with Reference() as reference:
            for answer in itertools.islice(changed, 500):
                expected = reference.outcome(answer)
                cuts = sorted(chance.choices(range(len(answer) + 1), k=chance.choice((0, 0, 1, 3))))
                pieces = [answer[start:end] for start, end in pairwise([0, *cuts, len(answer)])]
                for name, asker in askers.items():
                    ours = asker.answered(pieces)
                    if differs(answer, ours, expected):  # again on a fresh connection, without what came before
                        with Reference() as fresh:
                            expected = fresh.outcome(answer)
                    assert not differs(answer, ours, expected), (name, pieces, ours, expected)
                    taken[name] += isinstance(ours, Response)
    for asker in askers.values():
        asker.close()
    assert all(number > count // 50 for number in taken.values()), taken
    if count > 1500:
        record("changed answers", answers=count, **{f"{name}_took": number for name, number in taken.items()})


def whole(answer: bytes, pieces: Iterator[bytes]) -> Any:
    taken = Answer(Request(Profile(), URL))
    for piece in pieces:
        if (response := taken.take(piece)) is not None:
            return response, taken.last
    return taken.closed(), taken.last


LOCATIONS = [
    "b//c",
    "b",
    "../b",
    "?b",
    "//127.0.0.1:1/b",
    "///b",
    "/b//c",
    "/b/../c",
    "/b?c=../d",
    "/b c",
    "/b?c d",
    "/%62#c",
]
ABSOLUTE = [
    "s3://a_bucket/b//c",
    "ftp://a.b/c",
    "http://a.b",
    "http://a.b/",
    "http://A.b/c",
    "https://a.b/c//d",
    "http://a.b/c/./d",
    "http://a.b:80/c",
    "http:c",
]


@pytest.mark.parametrize("location", [*LOCATIONS, *ABSOLUTE])
def test_redirects_are_resolved_as_by_libcurl(location: str) -> None:
    """In whatever way they are written: a `//` belongs to the key of a blob."""
    answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    with RawServer(lambda peer, _, __: peer.sendall(answer)) as server:
        request = Request(PROFILE, f"{server.url}/x//y/z")
        expected = perform(request)
        try:
            assert Answer(request).take(answer) == expected
        except Unclear:  # it is for libcurl
            assert location not in ("/b//c", "http://a.b/", "https://a.b/c//d", "s3://a_bucket/b//c")


@pytest.mark.parametrize("name", [*ANSWERS, *CLOSED])
def test_an_answer_reads_the_same_in_whatever_pieces_it_comes(name: str) -> None:
    answer = ANSWERS.get(name, CLOSED.get(name, b""))

    def outcome(cuts: list[int]) -> Any:
        ends = [0, *cuts, len(answer)]
        try:
            return whole(answer, (answer[start:end] for start, end in pairwise(ends)))
        except (Unclear, TransferError) as error:
            return type(error)

    expected = outcome([])
    assert all(outcome([cut]) == expected for cut in range(len(answer)))
    assert outcome(list(range(1, len(answer)))) == expected
    generator = random.Random(name)
    for _ in range(100):
        assert outcome(sorted(generator.choices(range(len(answer) + 1), k=4))) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("7 8", 7),
        ("9" * 99, 0),
        ("100000000", 21600),
        ("soon", 0),
        ("", 0),
        (formatdate(4e9, usegmt=True), 21600),
    ],
)
def test_retry_after_is_read_as_seconds(value: str, seconds: float) -> None:
    head = f"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: {value}\r\n".encode()
    assert read_head(head, Request(Profile(), URL))[4] == seconds


def test_a_second_answer_makes_a_connection_useless() -> None:
    """Nothing asked for it, so it is never the answer to the next request."""
    for answer in (HELLO, ANSWERS["chunks"]):
        taken = Answer(Request(PROFILE, URL))
        assert taken.take(answer + HELLO.replace(b"hello", b"wrong")) is not None and taken.last


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3E8\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(501),
    ],
)
def test_a_body_above_the_limit_is_refused(answer: bytes) -> None:
    with pytest.raises(TransferError, match="larger"):
        Answer(Request(Profile(max_bytes=500), URL)).take(answer)
