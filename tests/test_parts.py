"""Blobs that come in parts: put together and hashed on the way, whichever transport brings each part."""

from __future__ import annotations

import functools
import gc
import hashlib
import itertools
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore import AccessDenied, HTTPRaw, InvalidDataFound, Retry, S3Raw, Sha256Store, StoreNotAvailable
from bitstore._digests.store import DigestStore
from bitstore._lookup.asking import steps_of_get
from bitstore._lookup.run import run
from bitstore._lookup.task import Task
from bitstore._raw import parts
from bitstore.steps import Cancelled, Found, Room, Steps
from tests.certificates import issued, server_tls
from tests.raw_server import RawServer
from tests.servers import SeaweedS3
from tests.sockets import TRANSPORTS, only_by
from tests.waiting import wait_until

# Larger than what the native transport receives into memory of its own.
PART = 70_000
BLOB = random.Random(11).randbytes(1_000_003)
SHA256 = hashlib.sha256(BLOB).hexdigest()
ONCE = Retry(attempts=1)
_RANGE = re.compile(rb"\r\nRange: bytes=([0-9]+)-([0-9]+)\r\n").search
# What the server makes of a part, by its head and its body.
Sent = Callable[[bytes, bytes], bytes]


@pytest.fixture(autouse=True, params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The transport that is asked before libcurl; parts are small."""
    name: str = request.param
    only_by(name, monkeypatch)
    monkeypatch.setattr(parts, "PART_BYTES", PART)
    return name


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The types of the parts as they came."""
    types: list[type] = []
    add = parts._Parts.add

    def adding(self: Any, start: int, part: Any) -> None:
        types.append(type(part))
        add(self, start, part)

    monkeypatch.setattr(parts._Parts, "add", adding)
    return types


def plain(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def in_chunks(head: bytes, body: bytes) -> bytes:
    """In chunks of different sizes."""
    sizes = random.Random(len(body))
    text, at = [head, b"Transfer-Encoding: chunked\r\n\r\n"], 0
    while at < len(body):
        size = min(sizes.randrange(1, 9000), len(body) - at)
        text.append(b"%x\r\n%b\r\n" % (size, body[at : at + size]))
        at += size
    return b"".join([*text, b"0\r\n\r\n"])


def some_in_chunks(head: bytes, body: bytes) -> bytes:
    return (in_chunks if body[0] % 2 else plain)(head, body)


def serve(blob: bytes, sent: Sent = plain, total: int | None = None, tls: ssl.SSLContext | None = None) -> RawServer:
    """A server of one blob, or one which says that it has `total` bytes and gives only the first part."""

    def answer(peer: socket.socket, head: bytes, _: int) -> bool:
        match = _RANGE(head)
        start, end = (int(match[1]), int(match[2]) + 1) if match else (0, len(blob))
        body = blob[start:end]
        if start and total:
            peer.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            return True
        status = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\n" % (
            start, start + len(body) - 1, total or len(blob),
        )  # fmt: skip
        peer.sendall(sent((status if match else b"HTTP/1.1 200 OK\r\n") + b'ETag: "one"\r\n', body))
        return True

    return RawServer(answer, tls=tls)


def found_by(raw: Any, url: str, hash_with: str | None) -> Found:
    steps: Steps[Found] = steps_of_get(raw, url, hash_with)
    return run(steps)


@pytest.mark.parametrize("sent", [plain, in_chunks, some_in_chunks])
@pytest.mark.parametrize("hash_with", ["md5", "sha1", "sha256", None])
def test_a_blob_in_parts_is_whole_and_hashed_on_the_way(hash_with: str | None, sent: Sent) -> None:
    expected = hash_with and hashlib.new(hash_with, BLOB).hexdigest()
    with serve(BLOB, sent) as server:
        raw = HTTPRaw(range_threshold="100KB")
        for _ in range(3):
            found = found_by(raw, f"{server.url}/blob", hash_with)
            assert (type(found.data), found.data == BLOB, found.digest) == (bytes, True, expected)


def test_a_blob_in_parts_comes_by_tls(transport: str, received: list[type], tmp_path: Path) -> None:
    bundle, certificate = issued(tmp_path)
    with serve(BLOB, tls=server_tls(certificate)) as server:
        raw = HTTPRaw(range_threshold="100KB", ca_bundle=str(bundle))
        for _ in range(2):
            found = found_by(raw, f"{server.url}/blob", "sha1")
            assert found.data == BLOB and found.digest == hashlib.sha1(BLOB).hexdigest()
    assert (memoryview in received) == (transport == "native")


def test_a_blob_of_s3_in_parts_is_hashed_on_the_way(s3: SeaweedS3, shared_bucket: str) -> None:
    s3.put(shared_bucket, f"parts/{SHA256}", BLOB)
    raw = S3Raw(s3.admin.session, region="us-east-1", endpoint_url=s3.endpoint_url, range_threshold="100KB")
    for _ in range(3):
        found = found_by(raw, f"s3://{shared_bucket}/parts/{SHA256}", "sha256")
        assert found.data == BLOB and found.digest == SHA256


def test_parts_are_received_in_their_places_by_the_native_transport(transport: str, received: list[type]) -> None:
    with serve(BLOB) as server:
        raw = HTTPRaw(range_threshold="100KB")
        assert raw.get(f"{server.url}/blob") == BLOB
        received.clear()
        assert raw.get(f"{server.url}/blob") == BLOB
    count = -(-len(BLOB) // PART)
    # The first part says how large the blob is, and the last one is small.
    own = count - 2 if transport == "native" else 0
    assert Counter(received) == Counter({memoryview: own, bytes: count - own})


def test_parts_may_be_larger_than_the_threshold_above_which_there_are_parts() -> None:
    with serve(BLOB) as server:
        raw = HTTPRaw(range_threshold="10KB", retry=ONCE)
        assert [raw.get(f"{server.url}/blob") == BLOB for _ in range(2)] == [True, True]
        asked = [head for head in server.heads if _RANGE(head)]
    assert len(asked) == 2 * -(-len(BLOB) // PART)


@pytest.mark.parametrize("position", [0, PART - 1, PART, len(BLOB) // 2, len(BLOB) - 1])
def test_a_blob_in_parts_with_a_wrong_byte_is_refused(position: int) -> None:
    wrong = bytearray(BLOB)
    wrong[position] ^= 1
    with serve(bytes(wrong)) as server:
        store = Sha256Store(HTTPRaw(range_threshold="100KB"), f"{server.url}/", verify=True)
        for _ in range(2):
            with pytest.raises(InvalidDataFound, match=SHA256):
                store.get(SHA256)


@pytest.mark.parametrize("total", [10**13, 10**17])
def test_a_size_that_no_memory_holds_does_no_harm(total: int) -> None:
    with serve(BLOB, total=total) as server:
        raw = HTTPRaw(range_threshold="100KB", retry=ONCE)
        for _ in range(2):
            with pytest.raises(StoreNotAvailable, match="500"):
                raw.get(f"{server.url}/blob")


def test_a_blob_that_a_transport_has_hashed_is_hashed_no_more(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if transport != "native":
        pytest.skip("only the native transport hashes")
    small = BLOB[:50_000]
    name = hashlib.sha256(small).hexdigest()
    with serve(small) as server:
        store = Sha256Store(HTTPRaw(), f"{server.url}/", verify=True)
        assert store.get(name) == small

        def hash_again(*_: object) -> bytes:
            raise AssertionError("it was hashed on the way")

        monkeypatch.setattr(DigestStore, "_decoded", hash_again)
        assert store.get(name) == small


@pytest.mark.parametrize("form", [plain, in_chunks])
@pytest.mark.parametrize("size", [0, 60_000, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("where", ["whole", "part"])
def test_an_error_of_any_size_is_asked_for_as_often_as_it_is_counted(where: str, size: int, form: Sent) -> None:
    def answer(peer: socket.socket, head: bytes, _: int) -> bool:
        if b"/small" in head:
            peer.sendall(plain(b"HTTP/1.1 200 OK\r\n", b"small"))
        elif where == "part" and not _RANGE(head):
            peer.sendall(plain(b"HTTP/1.1 200 OK\r\n", bytes(500_000)))
        else:
            peer.sendall(form(b"HTTP/1.1 403 No\r\n", b"e" * size))
        return True

    with RawServer(answer) as server:
        raw = HTTPRaw(range_threshold="100KB")
        for name in ("small", "blob", "blob"):
            if name == "small":
                assert raw.get(f"{server.url}/small") == b"small"
                continue
            with pytest.raises(AccessDenied, match="403"):
                raw.get(f"{server.url}/{name}")
            [blob] = raw.get_many([f"{server.url}/{name}"])
            assert isinstance(blob.error, AccessDenied)
        assert len(server.heads) == raw.stats()["requests"]


def test_parts_in_any_order_make_the_blob(transport: str) -> None:
    for seed in range(50):
        chance = random.Random(seed)
        size = chance.choice([1, 2, 1000, 300_000])
        blob = chance.randbytes(size)
        cuts = sorted({0, size, *(chance.randrange(size) for _ in range(chance.randrange(12)))})
        pieces = list(itertools.pairwise(cuts))
        whole = parts._Parts(size, "sha1")
        chance.shuffle(pieces)
        for start, end in pieces:
            whole.add(start, _placed(whole.room(start), blob[start:end], chance))
            if chance.random() < 0.5:
                whole.hash()
        data, digest = whole.body()
        assert (type(data), data == blob, digest) == (bytes, True, hashlib.sha1(blob).hexdigest())


def _placed(room: Room | None, part: bytes, chance: random.Random) -> Any:
    """The part as a transport brings it: in its place, or as it is."""
    if room is None or chance.random() < 0.5:
        return part
    from bitstore._transport.native import _core

    _core.copy(room.memory, room.start, part)
    return room.filled(len(part))


class Decorated(HTTPRaw):
    """Its steps seem to have the parameters of others."""

    @functools.wraps(HTTPRaw.hashed_steps)
    def get_steps(self, uri: Any) -> Steps[Found]:  # type: ignore[override]
        return (yield from super().get_steps(uri))


class Computed(HTTPRaw):
    """Its steps are made by each use of the name."""

    @property
    def get_steps(self) -> Any:
        return functools.partial(HTTPRaw.get_steps, self)


class OwnGet(HTTPRaw):
    """Its `get` is meant, whatever it inherits."""

    def get(self, uri: Any) -> bytes:
        return super().get(uri)


class OwnHashed(HTTPRaw):
    """It has all methods itself."""

    def get_steps(self, uri: Any) -> Steps[Found]:
        raise AssertionError("the other method is there")

    def hashed_steps(self, uri: Any, algorithm: str) -> Steps[Found]:
        found = yield from super().hashed_steps(uri, algorithm)
        return found._replace(digest=None)


def patched() -> HTTPRaw:
    raw: Any = HTTPRaw()
    get_steps = raw.get_steps
    raw.get_steps = lambda uri: get_steps(uri)
    raw.hashed_steps = None
    return raw  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [Decorated, Computed, OwnGet, OwnHashed, patched])
def test_a_store_of_the_user_is_asked_by_the_method_that_is_meant(make: Callable[[], HTTPRaw]) -> None:
    name = hashlib.sha256(BLOB).hexdigest()
    with serve(BLOB) as server:
        store = Sha256Store(make(), f"{server.url}/", verify=True)
        for _ in range(2):
            assert store.get(name) == BLOB
            assert [blob.data for blob in store.get_many([name])] == [BLOB]


@pytest.mark.parametrize(("options", "variables"), [(["-X", "dev"], {}), ([], {"PYTHONMALLOC": "debug"})])
def test_debug_allocators_give_no_memory_before_the_bytes_come(options: list[str], variables: dict[str, str]) -> None:
    """They write to all of it at once, and its size is what a server says."""
    code = "from bitstore._transport.whole import Whole; print(Whole(10**10).room(0))"
    environment = {**os.environ, **variables}
    asked = subprocess.run(
        [sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert asked.stdout == "None\n"


@pytest.mark.parametrize("trouble", ["wrong bytes", "no time left"])
@pytest.mark.parametrize("way", ["get", "get_many"])
def test_a_lookup_that_fails_gives_back_the_memory_of_a_large_blob_at_once(way: str, trouble: str) -> None:
    """And not only when the collector of reference cycles comes by."""

    def look(store: Sha256Store) -> None:
        if way == "get_many":
            [blob] = store.get_many([SHA256], timeout=None if wrong else 0.3)
            assert isinstance(blob.error, InvalidDataFound if wrong else StoreNotAvailable)
        else:
            with pytest.raises(InvalidDataFound if wrong else Cancelled):
                run(store.get_steps(SHA256), timeout=None if wrong else 0.3)

    def held() -> list[Any]:
        kept = (parts._Parts, Found, Task)
        return [each for each in gc.get_objects() if isinstance(each, kept) and id(each) not in of_others]

    released = threading.Event()
    wrong = trouble == "wrong bytes"

    def stuck(head: bytes, body: bytes) -> bytes:
        assert wrong or b"bytes 700000-" not in head or released.wait(60)
        return plain(head, body)

    with serve(bytes(len(BLOB)), stuck) as server:
        store = Sha256Store(HTTPRaw(range_threshold="100KB"), f"{server.url}/", verify=True)
        of_others: set[int] = set()
        others = held()  # kept here, so that no id is used again
        of_others.update(map(id, others))
        gc.collect()
        gc.disable()
        try:
            look(store)
            wait_until(lambda: not held())
        finally:
            gc.enable()
            released.set()
