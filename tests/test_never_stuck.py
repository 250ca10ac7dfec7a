"""Limits of time, clocks, credentials, proxies, certificates: against servers and sockets that show the fault.

What is tested elsewhere: retries, resumption and redirects (test_transfer, test_send, test_raw_http), regions, expired
credentials, 403 (test_raw_s3_faults), the breaker and outages (test_breaker, test_batch), headers of writes
(test_raw_s3), tokens of Google (test_raw_gs), ranges of large blobs (test_large_blobs).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    Composite,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidURI,
    MemoryCache,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1Store,
    StoreNotAvailable,
)
from bitstore._lookup.asking import steps_of_put
from bitstore._lookup.run import run
from bitstore._raw.s3_signing import Signer
from bitstore.steps import Write
from tests.certificates import issued, server_tls
from tests.raw_server import RawServer
from tests.servers import Answer, CountedAPI, Hang, MakeProxy, SeaweedS3, Stall, s3_error
from tests.servers.http import FaultyServer
from tests.sockets import open_sockets
from tests.stores import as_cache, as_source, blobs, composed
from tests.waiting import lookup_threads, wait_until

ONCE = Retry(attempts=1)
QUICK = Retry(attempts=3, first_delay=0.001, longest_delay=0.002)
DATA = b"some bytes"
SHA1 = hashlib.sha1(DATA).hexdigest()


@pytest.fixture(scope="module")
def shared_bucket(s3: SeaweedS3) -> str:
    bucket = s3.create_bucket()
    s3.put(bucket, f"k/{SHA1}", DATA)
    return bucket


def uri(bucket: str) -> str:
    return f"s3://{bucket}/k/{SHA1}"


def raw(s3: SeaweedS3, **options: Any) -> S3Raw:
    options = {"endpoint_url": s3.endpoint_url, "region": "us-east-1", "retry": QUICK, **options}
    return S3Raw(s3.admin.session, **options)


def sockets(server: FaultyServer) -> int:
    """How many connections to `server` this process has open as a client."""
    return open_sockets(server.port)


def answered(store: Any, what: Any) -> str:
    """What a lookup fails with; one that would never end is ended, with another error."""
    [blob] = store.get_many([what], timeout=60, patience=0)
    assert isinstance(blob.error, StoreNotAvailable), blob
    return str(blob.error)


# ---------------------------------------------------------------------- time


class TestTimeouts:
    def test_a_host_that_accepts_no_connection_is_given_up(self) -> None:
        """A host that swallows connection requests: its queue of connections is full."""
        with socket.socket() as server, contextlib.ExitStack() as stack:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            for _ in range(3):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(server.getsockname())
            told = answered(
                HTTPRaw(connect_timeout=0.4, retry=ONCE), f"http://127.0.0.1:{server.getsockname()[1]}/blob"
            )
        waited = re.search(r"timed out after (\d+) ms|(\d+) milliseconds", told)
        assert waited and int(waited[1] or waited[2]) < 4000, told

    @pytest.mark.parametrize("fault", [Hang(), Stall(3)], ids=["first byte", "between bytes"])
    def test_a_silent_server_is_given_up_and_asked_again(self, api: CountedAPI, fault: Any) -> None:
        api.blobs = {SHA1: DATA}
        api.rules.add(fault, times=1)
        raw = HTTPRaw(stall_timeout=1, retry=QUICK)
        [blob] = raw.get_many([api.blob_url(SHA1)], timeout=60)
        assert blob.data == DATA and raw.stats() == {"requests": 2, "retries": 1}

    def test_a_server_that_never_finishes_is_given_up_at_the_total_timeout(self) -> None:
        """A server that is never silent and never done: a header, and then a byte now and again, for ever."""

        def drip(peer: socket.socket, _: bytes, __: int) -> None:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not server.over.wait(0.05):
                peer.sendall(b"x")

        with RawServer(drip) as server:
            told = answered(HTTPRaw(stall_timeout=2, total_timeout=0.3, retry=ONCE), f"{server.url}/blob")
        assert "timed out" in told and "no answer within" not in told

    def test_invalid_time_limits_are_refused_by_name(self) -> None:
        for options in ({"total_timeout": 0}, {"connect_timeout": 0}, {"stall_timeout": -1}, {"range_threshold": 0}):
            with pytest.raises(ValueError, match=next(iter(options))):
                S3Raw(**options)  # type: ignore[arg-type]

    def test_a_host_that_does_not_exist_fails_after_two_tries(self) -> None:
        store = HTTPRaw()
        # A label of more than 63 characters is no name: the resolver says so without asking a server.
        assert "resolve" in answered(store, f"http://{'x' * 70}.example/blob").lower()
        assert store.stats()["requests"] <= 2


# ---------------------------------------------------------------------- stopping


SCRIPT = """
import os, signal, socket, sys, threading, contextlib
from bitstore import HTTPRaw, Sha1Composite, Sha1Store
from tests.sockets import open_sockets

store = Sha1Composite()
store.append_source(Sha1Store(HTTPRaw(), sys.argv[1]))
try:
    for blob in store.get_many("%040x" % n for n in range(1000)):
        print("?", blob, flush=True)
except KeyboardInterrupt:
    threads = [each for each in threading.enumerate() if each.name.startswith("bitstore")]
    print(open_sockets(), len(store._live().flights), flush=True)
    for each in threads:
        each.join(10)
    print(sum(each.is_alive() for each in threads), flush=True)
"""


class TestStopping:
    def test_closing_a_batch_leaves_no_connection_and_no_thread(self, api: CountedAPI) -> None:
        rule = api.rules.add(Hang(), skip=1)
        store = composed(Sha1Store(HTTPRaw(), api.blob_url("")))
        api.blobs = blobs(30)
        answers = store.get_many(api.blobs, in_flight=30)
        assert next(answers).found
        rule.wait_hits(8)
        assert sockets(api) >= 8
        answers.close()  # type: ignore[attr-defined]
        assert sockets(api) <= 1  # the one whose exchange was over is kept
        assert len(store._live().flights) == 0
        wait_until(lambda: lookup_threads() == [])

    def test_closing_a_batch_of_large_blobs_ends_all_transfer_threads(self, api: CountedAPI) -> None:
        rule = api.rules.add(Hang(), skip=16)
        store = composed(Sha1Store(HTTPRaw(), api.blob_url("")))
        api.blobs = blobs(40, size=3_000_000)
        answers = store.get_many(api.blobs, in_flight=8)
        assert [next(answers).found for _ in range(16)] == [True] * 16
        rule.wait_hits(6)
        assert [each.name for each in threading.enumerate()].count("bitstore-transfer") >= 2
        answers.close()  # type: ignore[attr-defined]
        assert len(store._live().flights) == 0
        wait_until(lambda: lookup_threads() == [])

    def test_ctrl_c_leaves_no_connection_and_no_thread(self, api: CountedAPI) -> None:
        rule = api.rules.add(Hang())
        command = [sys.executable, "-c", SCRIPT, api.blob_url("")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                rule.wait_hits(8)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
        assert out.split() == ["0", "0", "0"], err


# ---------------------------------------------------------------------- what is counted


def test_retries_are_counted_in_the_statistics(s3: SeaweedS3, shared_bucket: str, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    proxy.rules.add(s3_error(503, "SlowDown"), times=2)
    bucket = raw(s3, endpoint_url=proxy.url)
    store = composed(
        as_cache(MemoryCache(), "memory"), as_source(Sha1Store(bucket, f"s3://{shared_bucket}/k/"), "bucket")
    )
    assert store.get(SHA1) == DATA
    told = store.stats()
    assert (told["bucket"].requests, told["bucket"].retries) == (3, 2)
    assert (told["memory"].requests, told["memory"].retries) == (0, 0)
    assert told["bucket"].as_dict()["retries"] == 2
    assert bucket.stats() == {"requests": 3, "retries": 2}


# ---------------------------------------------------------------------- a clock that is off


class TestClock:
    def test_requests_refused_for_their_time_take_that_of_the_server(self, s3: SeaweedS3, shared_bucket: str) -> None:
        """Signatures of two hours ago, which the server refuses: its own time is asked for, and used from then on."""
        store = raw(s3)
        assert store.get(uri(shared_bucket)) == DATA
        route = store._state().remembered[shared_bucket]
        store._state().corrected(route, -7200.0)
        assert store.get(uri(shared_bucket)) == DATA
        assert isinstance(route.profile.signer, Signer)
        assert abs(route.profile.signer.skew) < 600
        assert store.get(uri(shared_bucket)) == DATA
        store.put(f"s3://{shared_bucket}/written", DATA)
        assert store.get(f"s3://{shared_bucket}/written") == DATA
        assert store.exists(uri(shared_bucket)) and not store.exists(uri(shared_bucket) + "x")

    def test_signatures_carry_the_servers_time(self, s3: SeaweedS3, shared_bucket: str, fault_proxy: MakeProxy) -> None:
        proxy = fault_proxy(s3.endpoint_url)
        proxy.rules.add(s3_error(403, "RequestTimeTooSkewed"), method="GET")
        proxy.rules.add(Answer(403, b"", {"Date": formatdate(time.time() + 7200, usegmt=True)}), method="HEAD")
        store = raw(s3, endpoint_url=proxy.url)
        with pytest.raises(StoreNotAvailable, match="the clock of this machine is off"):
            store.get(uri(shared_bucket))
        asked = [request for request in proxy.requests if request.method == "GET"]
        assert len(asked) == 2  # mended once
        first, second = (
            datetime.datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ") for request in asked
        )
        assert 7100 < (second - first).total_seconds() < 7300
        # What was learned holds for other buckets and other kinds of requests.
        with pytest.raises(StoreNotAvailable):
            store.put("s3://another-bucket/k", DATA)
        third = datetime.datetime.strptime(proxy.requests[-1].headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        assert 7100 < (third - first).total_seconds() < 7600
        # And for keys and regions that nothing was signed with before.
        proxy.rules.clear()
        proxy.rules.add(Answer(404, b"", {"x-amz-bucket-region": "eu-west-1"}), method="HEAD")
        proxy.rules.add(s3_error(301, "PermanentRedirect", extra="<Region>eu-west-1</Region>"), times=1)
        with pytest.raises(StoreNotAvailable):
            store.get(uri(shared_bucket))
        last = proxy.requests[-1].headers
        fourth = datetime.datetime.strptime(last["x-amz-date"], "%Y%m%dT%H%M%SZ")
        assert "/eu-west-1/" in last["authorization"] and 7100 < (fourth - first).total_seconds() < 7600

    def test_a_batch_refused_for_its_time_succeeds_with_the_time_of_the_server(
        self, s3: SeaweedS3, shared_bucket: str, fault_proxy: MakeProxy
    ) -> None:
        proxy = fault_proxy(s3.endpoint_url)
        proxy.rules.add(s3_error(403, "RequestTimeTooSkewed"), method="GET", times=5)
        store = raw(s3, endpoint_url=proxy.url)
        answers = list(store.get_many([uri(shared_bucket)] + [f"s3://{shared_bucket}/none{n}" for n in range(20)]))
        assert sum(blob.found for blob in answers) == 1 and sum(blob.missing for blob in answers) == 20


# ---------------------------------------------------------------------- credentials that expire


class Keys:
    """A credential process: a program that gives keys which expire, and counts how often it is asked."""

    def __init__(self, s3: SeaweedS3, folder: Path, lifetime: str) -> None:
        self._count = folder / "count"
        script = folder / "keys.py"
        script.write_text(
            "import datetime, json\n"
            f"open({str(self._count)!r}, 'a').write('.')\n"
            f"end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta({lifetime})\n"
            f"print(json.dumps(dict(Version=1, AccessKeyId={s3.access_key!r}, SecretAccessKey={s3.secret_key!r},"
            " Expiration=end.isoformat())))\n"
        )
        self.config = folder / "config"
        self.config.write_text(f"[profile p]\ncredential_process = {sys.executable} {script}\nregion = us-east-1\n")

    @property
    def asked(self) -> int:
        return len(self._count.read_text())


@pytest.mark.parametrize("lifetime", ["hours=1", "seconds=60"])
def test_threads_and_batches_share_one_refresh(
    s3: SeaweedS3, shared_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lifetime: str
) -> None:
    keys = Keys(s3, tmp_path, lifetime)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(keys.config))
    store = S3Raw({"profile_name": "p"}, endpoint_url=s3.endpoint_url)
    names = [uri(shared_bucket), *(f"s3://{shared_bucket}/none{n}" for n in range(40))]

    def burst() -> None:
        with ThreadPoolExecutor(16) as pool:
            many = pool.submit(lambda: [blob.found for blob in store.get_many(names)])
            assert list(pool.map(store.get, names[:1] * 16)) == [DATA] * 16
            assert sum(many.result()) == 1

    burst()
    first = keys.asked
    assert first <= 2  # botocore asks once more where what it got has less than ten minutes left
    route = store._state().remembered[shared_bucket]
    left = route.fresh_until - time.monotonic()
    assert left <= (60 if lifetime == "hours=1" else 30)  # looked at again well before they expire
    route.fresh_until = 0.0
    burst()
    assert keys.asked - first == (0 if lifetime == "hours=1" else 1)


# ---------------------------------------------------------------------- proxies and certificates


def tunnel(only: str | None = None) -> RawServer:
    """An HTTP proxy: passes on requests for `http:` URLs, and tunnels (CONNECT) for `https:`.

    With `only`, an address such as "127.0.0.1:1234", all requests for `http:` URLs go there, whatever their host is.
    """

    def serve(client: socket.socket, head: bytes, _: int) -> bool:
        method, target, *_rest = head.decode().split()
        if method == "CONNECT":
            host, port = target.split(":")
        else:
            match = re.match(r"http://([^/]+)(/.*)", target)
            assert match
            host, port = (only or match[1]).split(":")
            head = head.replace(target.encode(), match[2].encode(), 1)
        with socket.create_connection((host, int(port))) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                server.sendall(head)
            threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
            _pass_on(server, client)
        return False

    return RawServer(serve)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def test_an_endpoint_may_name_the_usual_port(s3: SeaweedS3, shared_bucket: str) -> None:
    """libcurl leaves that port out of the `Host` that it sends: so must the signature, which the server checks."""
    with tunnel(only=s3.endpoint_url.removeprefix("http://")) as proxy:
        store = raw(s3, proxy=proxy.url, endpoint_url="http://s3.example:80")
        assert store.get(uri(shared_bucket)) == DATA
        assert proxy.heads[0].startswith(f"GET http://s3.example/{shared_bucket}/".encode())
        assert [blob.data for blob in raw(s3, proxy=proxy.url).get_many([uri(shared_bucket)])] == [DATA]
        assert len(proxy.heads) >= 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate authority of our own, and a server's certificate with its key."""
    return issued(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(authority: tuple[Path, Path]) -> Iterator[str]:
    def serve(peer: socket.socket, head: bytes, _: int) -> None:
        found, target = head.split()[1].partition(b"/redirect-to/")[1:]
        status, field, body = (b"302 x", b"Location: " + target, b"") if found else (b"200 OK", b"X: y", DATA)
        peer.sendall(b"HTTP/1.1 %b\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (status, field, len(body), body))

    with RawServer(serve, tls=server_tls(authority[1])) as server:
        yield server.url


def test_stores_trust_only_certificates_of_their_bundle(
    tls: str, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"endpoint_url": tls, "retry": ONCE}
    bundle = str(authority[0])
    for raw_store, name in (
        (lambda **more: S3Raw("anonymous", region="us-east-1", **options, **more), "s3://bucket/key"),
        (lambda **more: GSRaw("anonymous", **options, **more), "gs://bucket/key"),
        (lambda **more: HTTPRaw(retry=ONCE, **more), f"{tls}/key"),
    ):
        assert raw_store(ca_bundle=bundle).get(name) == DATA
        with pytest.raises(StoreNotAvailable, match=r"(?i)certificate"):
            raw_store().get(name)
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    assert S3Raw("anonymous", region="us-east-1", **options).get("s3://bucket/key") == DATA
    with pytest.raises(ValueError, match="there is no file"):
        S3Raw(ca_bundle="/nowhere/bundle.pem")


def test_a_redirect_never_leaves_https(tls: str, authority: tuple[Path, Path], api: CountedAPI) -> None:
    """Also not on a detour: what was asked for by https must not be read, or changed, on the way."""
    api.blobs = {SHA1: DATA}
    store = HTTPRaw(ca_bundle=authority[0], headers={"Authorization": "Bearer sesame"})
    plain = api.blob_url(SHA1)
    assert store.get(f"{tls}/redirect-to/{tls}/key") == DATA
    for target in (plain, plain.replace("http:", "HTTP:"), f"{tls}/redirect-to/{plain}"):
        assert "from https to http" in answered(store, f"{tls}/redirect-to/{target}")
    assert api.requests == []
    api.rules.add(Answer(302, b"", {"Location": f"{tls}/redirect-to/{plain}"}))
    assert "from https to http" in answered(store, plain)
    assert len(api.requests) == 1


def test_https_requests_go_through_a_proxy_by_connect(
    tls: str, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tunnel() as proxy:
        store = HTTPRaw(ca_bundle=authority[0], proxy=proxy.url)
        assert store.get(f"{tls}/key") == DATA
        monkeypatch.setenv("https_proxy", proxy.url)
        assert HTTPRaw(ca_bundle=authority[0]).get(f"{tls}/key") == DATA
        asked = f"CONNECT {tls.removeprefix('https://')} HTTP/1.1\r\n".encode()
        assert len(proxy.heads) == 2 and all(head.startswith(asked) for head in proxy.heads)


# ---------------------------------------------------------------------- writes


def test_one_of_many_conditional_writers_wins(s3: SeaweedS3, shared_bucket: str) -> None:
    """`If-None-Match: *` for the writes of caches: the first stays, and no writer fails."""
    name, store = f"s3://{shared_bucket}/{secrets.token_hex(8)}", raw(s3)

    def write(number: int) -> None:
        run(steps_of_put(store, name, b"%d" % number, Write(only_if_absent=True)))

    write(0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(1, 9)))
    assert store.get(name) == b"0"


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "make",
    [
        lambda: S3Raw(endpoint="x"),  # type: ignore[call-arg]
        lambda: GSRaw(forbidden_missing=True),  # type: ignore[call-arg]
        lambda: HTTPRaw(stall_time=1),  # type: ignore[call-arg]
        lambda: FileRaw(roots="/"),  # type: ignore[call-arg]
        lambda: Sha1Store(FileRaw(), "file:///x/", verfy=True),  # type: ignore[call-arg]
        lambda: Sha1Composite(call_uncertain=True),  # type: ignore[call-arg]
        lambda: Composite(algorithm="sha1"),  # type: ignore[call-arg]
    ],
)
def test_unknown_options_name_the_known_ones(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"has no option '\w+'.*; it has: \w+"):
        make()


@pytest.mark.parametrize("bad", ["\n", "\r", "\0", "\r\nX-Evil: 1"])
def test_line_breaks_in_options_and_keys_never_reach_a_request(bad: str) -> None:
    for make in (
        lambda: HTTPRaw(headers={"X-Mine": f"a{bad}b"}),
        lambda: HTTPRaw(headers={f"X{bad}": "a"}),
        lambda: S3Raw(storage_class=f"A{bad}"),
        lambda: S3Raw(acl=f"A{bad}"),
        lambda: S3Raw(kms_key_id=f"A{bad}"),
        lambda: S3Raw(region=f"a{bad}"),
        lambda: S3Raw(endpoint_url=f"http://127.0.0.1:9/{bad}"),
        lambda: GSRaw(user_project=f"A{bad}"),
    ):
        with pytest.raises(ValueError, match=r"control characters|header|must look like"):
            make()
    for store, name in (
        (S3Raw("anonymous"), f"s3://bucket/k{bad}"),
        (GSRaw("anonymous"), f"gs://bucket/k{bad}"),
        (HTTPRaw(), f"http://127.0.0.1:9/k{bad}"),
        (FileRaw(), f"file:///k{bad}"),
        (Sha1Store(HTTPRaw(), "http://127.0.0.1:9/"), SHA1[:-1] + bad),
    ):
        with pytest.raises(InvalidURI):
            store.get(name)


LONE = """
import sys
from pathlib import Path
from bitstore import HTTPRaw
try:
    if sys.argv[1] == "get":
        HTTPRaw().get(sys.argv[2])
    else:
        HTTPRaw().download(sys.argv[2], sys.argv[3])
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("what", ["get", "download"])
def test_ctrl_c_ends_a_lone_transfer(api: CountedAPI, tmp_path: Path, what: str) -> None:
    """Also while not a byte comes; without it, the silence would be waited for first, and the next try begun."""
    rule = api.rules.add(Hang())
    command = [sys.executable, "-c", LONE, what, api.blob_url(SHA1), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            rule.wait_hits()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)  # below the 15 seconds of silence
        finally:
            process.kill()
    assert out == "interrupted\n" and err == ""


def test_an_exception_of_a_signal_handler_ends_a_transfer_and_is_raised(api: CountedAPI) -> None:
    """An alarm, say. It is no failure of the store."""
    rule = api.rules.add(Hang())

    def alarm(*_: object) -> None:
        raise TimeoutError("time is up")

    def send() -> None:
        rule.wait_hits()
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, alarm)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(TimeoutError, match="time is up"):
            HTTPRaw(retry=ONCE).get(api.blob_url(SHA1))
    finally:
        sender.join()
        signal.signal(signal.SIGALRM, before)
