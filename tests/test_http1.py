"""Answers of HTTP/1.1 as our own connections read them: as libcurl does, in whatever pieces they come."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import pytest

from bitstore._lookup.retry import TRANSIENT_CODES
from bitstore._transport.sockets.connection import Connection
from bitstore._transport.sockets.http1 import Answer, Unclear, read_head
from bitstore._transport.transports import perform
from bitstore.steps import Profile, Request, Response, TransferError
from tests.raw_server import RawServer
from tests.sockets import asking

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


# What our own connections take; of the others they say that they are for libcurl.
CLEAR = {*list(ANSWERS)[: list(ANSWERS).index("busy") + 1], "until the end", "1.0", "1.0 with length"}
CLEAR |= {"redirect to nowhere", "said to be closed", "too short", "too few chunks", "no head", "half a head"}


def heard(connection: Connection) -> Any:
    """The answer, or the error, that a connection comes to."""
    buffer = bytearray(100_000)
    try:
        while True:
            response = connection.hear(buffer, memoryview(buffer))
            if response is not None:
                return response
    except (TransferError, Unclear) as error:
        return error
    finally:
        connection.close()


@pytest.mark.parametrize("name", [*ANSWERS, *CLOSED])
def test_answers_over_our_sockets_equal_those_of_libcurl(name: str) -> None:
    answer = ANSWERS.get(name, CLOSED.get(name, b""))

    def serve(peer: socket.socket, _: bytes, __: int) -> bool:
        peer.sendall(answer)
        return name in ANSWERS

    expected: Any
    with RawServer(serve) as server:
        try:
            # libcurl needs the fields to know an empty answer without a length from one that was cut.
            expected = perform(Request(PROFILE, f"{server.url}/blob", want_headers=True))
        except TransferError as error:
            expected = error
    connection, far = asking(PROFILE)
    with far:
        far.sendall(answer)
        far.shutdown(socket.SHUT_WR)
        ours = heard(connection)
    assert isinstance(ours, Unclear) == (name not in CLEAR)
    if isinstance(ours, Response):
        told = {name: value for name, value in expected.headers.items() if name == "location"}
        assert ours == expected._replace(headers=told)
    elif isinstance(ours, TransferError):
        assert {ours.code, expected.code} <= TRANSIENT_CODES


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
    [("7", 7), ("0", 0), ("100000000", 21600), ("soon", 0), ("", 0), (formatdate(4e9, usegmt=True), 21600)],
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
