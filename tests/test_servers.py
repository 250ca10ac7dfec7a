"""The test servers do what the other tests rely on."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pwd
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.servers import (
    Answer,
    Close,
    Corrupt,
    CountedAPI,
    Cut,
    Delay,
    Empty,
    FakeGCS,
    FaultProxy,
    Hang,
    Hold,
    Identity,
    MakeProxy,
    MotoServer,
    Reset,
    ResetAfter,
    SeaweedS3,
    Stall,
    s3_error,
)
from tests.servers.process import ProgramServer, ServerError, free_ports

BODY = hashlib.sha256(b"body").digest() * 8192  # 256 KiB


# --- Plain clients: what they see is what was on the wire ----------------------------------------------------------


def get(url: str, path: str, *, timeout: float = 20.0) -> tuple[int, bytes, dict[str, str]]:
    """One GET on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


class Raw:
    """One connection, read byte by byte."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)

    def ask(self, path: str) -> None:
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def read_all(self) -> bytes:
        """Until the orderly end of the connection."""
        data = b""
        while piece := self.socket.recv(65536):
            data += piece
        return data

    def read_until_reset(self) -> bytes:
        data = b""
        while True:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                return data
            assert piece, "an orderly end instead of a reset"
            data += piece

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, f"the connection ended after {len(data)} of {count} bytes"
            data += piece
        return data

    def is_silent(self) -> bool:
        """Whether neither a byte nor an end has come (yet)."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(20)
        return False

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def split(message: bytes) -> tuple[bytes, bytes]:
    head, _, body = message.partition(b"\r\n\r\n")
    return head.lower(), body


# --- Object stores --------------------------------------------------------------------------------------------------


def error_code(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_the_s3_server_keeps_objects_and_checks_signatures(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "a b/ü?#%+", BODY)
    client = s3.client()
    assert client.get_object(Bucket=bucket, Key="a b/ü?#%+")["Body"].read() == BODY
    assert error_code(lambda: client.get_object(Bucket=bucket, Key="nope")) == "NoSuchKey"
    assert error_code(lambda: client.get_object(Bucket="no-such-bucket", Key="k")) == "NoSuchBucket"

    wrong = s3.client(Identity("wrong", access_key=s3.access_key))
    assert error_code(lambda: wrong.get_object(Bucket=bucket, Key="k")) == "SignatureDoesNotMatch"
    unknown = s3.client(Identity("unknown"))
    assert error_code(lambda: unknown.get_object(Bucket=bucket, Key="k")) == "InvalidAccessKeyId"


def test_the_s3_server_grants_its_users_only_their_rights(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "k", b"data")
    reader, getter = s3.client(s3.reader), s3.client(s3.getter)
    for client in (reader, getter):
        assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"data"
        assert error_code(lambda client=client: client.put_object(Bucket=bucket, Key="k", Body=b"")) == "AccessDenied"  # type: ignore[misc]
    assert reader.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    assert error_code(lambda: getter.list_objects_v2(Bucket=bucket)) == "AccessDenied"


def test_the_s3_server_lets_anyone_read_public_buckets_only(s3: SeaweedS3, bucket: str, public_bucket: str) -> None:
    for name in (bucket, public_bucket):
        s3.put(name, "k", b"data")
    assert get(s3.endpoint_url, f"/{bucket}/k")[0] == 403
    assert get(s3.endpoint_url, f"/{public_bucket}/k")[:2] == (200, b"data")
    assert get(s3.endpoint_url, f"/{public_bucket}/nope")[0] == 404


def test_the_s3_server_honours_if_none_match(s3: SeaweedS3, bucket: str) -> None:
    client = s3.client()
    client.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    again = error_code(lambda: client.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*"))
    assert again == "PreconditionFailed"
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_the_default_session_means_the_s3_server(aws_env: SeaweedS3, bucket: str) -> None:
    import boto3

    aws_env.put(bucket, "k", b"data")
    assert boto3.Session().client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"data"


def test_the_gcs_server_keeps_objects(gcs: FakeGCS, gcs_bucket: str) -> None:
    gcs.put(gcs_bucket, "a b/ü?#%+", BODY)
    assert gcs.client().bucket(gcs_bucket).blob("a b/ü?#%+").download_as_bytes() == BODY
    assert get(gcs.url, f"/storage/v1/b/{gcs_bucket}/o/nope?alt=media")[0] == 404
    gcs.put(gcs_bucket, "plain", b"data")
    assert get(gcs.url, f"/{gcs_bucket}/plain")[:2] == (200, b"data")


def test_the_default_client_means_the_gcs_server(gcs_env: FakeGCS, gcs_bucket: str) -> None:
    import google.cloud.storage as storage

    gcs_env.put(gcs_bucket, "k", b"data")
    with contextlib.closing(storage.Client()) as client:
        assert client.bucket(gcs_bucket).blob("k").download_as_bytes() == b"data"


def test_moto_accepts_any_credentials(moto: MotoServer) -> None:
    name = moto.create_bucket()
    moto.client(Identity("anyone")).put_object(Bucket=name, Key="k", Body=b"data")
    assert moto.client().get_object(Bucket=name, Key="k")["Body"].read() == b"data"


def test_moto_with_auth_checks_keys_and_policies(moto_auth: MotoServer) -> None:
    name = moto_auth.create_bucket()
    moto_auth.client().put_object(Bucket=name, Key="k", Body=b"data")
    reader = moto_auth.add_user(
        "reader", {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}/*"}
    )
    assert moto_auth.client(reader).get_object(Bucket=name, Key="k")["Body"].read() == b"data"
    assert error_code(lambda: moto_auth.client(reader).put_object(Bucket=name, Key="k", Body=b"")) == "AccessDenied"
    wrong = moto_auth.client(Identity("wrong", access_key=moto_auth.admin.access_key))
    assert error_code(lambda: wrong.get_object(Bucket=name, Key="k")) == "SignatureDoesNotMatch"
    unknown = moto_auth.client(Identity("unknown"))
    assert error_code(lambda: unknown.get_object(Bucket=name, Key="k")) == "InvalidAccessKeyId"


# --- Programs: they start, they fail with their log, and they never outlive their owner -----------------------------


class Program(ProgramServer):
    """A shell script as a server."""

    name = "program"
    start_seconds = 20.0

    def __init__(self, script: str, *, ready: bool = True) -> None:
        super().__init__()
        self.script = script
        self.ready = ready
        self.starts = 0

    def _command(self) -> list[str]:
        self.starts += 1
        return ["sh", "-c", self.script]

    def _is_ready(self) -> bool:
        return self.ready and (self.folder / "up").exists()


def test_a_program_that_ends_early_is_tried_again_and_shows_its_log() -> None:
    program = Program("echo the reason; exit 3", ready=False)
    with pytest.raises(ServerError, match=r"(?s)ended with code 3.*the reason"):
        program.start()
    assert program.starts == Program.attempts
    assert program.folder == Path()


def test_a_program_that_never_becomes_ready_shows_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "start_seconds", 0.2)
    monkeypatch.setattr(Program, "attempts", 1)
    with pytest.raises(ServerError, match=r"(?s)not ready.*still thinking"):
        Program("echo still thinking; sleep 600", ready=False).start()


def test_stop_kills_what_the_program_started_and_removes_its_folder() -> None:
    with Program("sleep 600 & echo $! > child; touch up; wait") as program:
        folder = program.folder
        child = int((folder / "child").read_text())
        assert is_alive(child)
    wait_until_dead(child)
    assert not folder.exists()


@pytest.mark.parametrize("starter", ["main thread", "thread that ends"])
def test_a_program_dies_with_its_owner(starter: str, tmp_path: Path) -> None:
    owner = textwrap.dedent(
        """
        import os, sys, threading
        from tests.test_servers import Program
        program = Program("sleep 600 & echo $! > child; touch up; wait")
        if sys.argv[1] == "main thread":
            program.start()
        else:
            thread = threading.Thread(target=program.start)
            thread.start()
            thread.join()
        print(program.pid, (program.folder / "child").read_text().strip(), program.folder, flush=True)
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "600"])  # a child of the owner that stays does not keep the server
        sys.stdin.read()
        """
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", owner, starter],
        cwd=root,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        pids = [int(pid) for pid in line[:2]]
        try:
            assert all(is_alive(pid) for pid in pids), "the server ended with the thread that started it"
            os.kill(process.pid, signal.SIGKILL)
            for pid in pids:
                wait_until_dead(pid)
            assert not Path(os.fsdecode(line[2])).exists()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False  # it went between the two looks


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def test_two_servers_of_a_kind_do_not_clash(s3: SeaweedS3, bucket: str) -> None:
    with SeaweedS3() as other:
        assert error_code(lambda: other.client().head_bucket(Bucket=bucket)) == "404"
        assert error_code(lambda: other.client(s3.admin).list_buckets()) == "InvalidAccessKeyId"
        ports = [port + 10_000 for port in other._ports]
    assert not [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]


def test_free_ports_skips_ports_in_use() -> None:
    (port,) = free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.servers.process._PORTS", range(port, port + 1))
            with pytest.raises(ServerError, match="free ports"):
                free_ports(1)


def test_no_personal_configuration_reaches_the_tests() -> None:
    assert not [name for name in os.environ if name.upper().startswith("AWS_ACCESS")]
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"
    assert os.environ["NO_GCE_CHECK"] == "true"
    assert os.environ["GCE_METADATA_HOST"] == "127.0.0.1:9"
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert not home.exists() or not Path.home().samefile(home)


# --- The proxy -------------------------------------------------------------------------------------------------------


@pytest.fixture
def blobs(api: CountedAPI) -> CountedAPI:
    api.blobs = {"one": BODY, "two": b"2" * 1000, "empty": b""}
    return api


@pytest.fixture
def proxy(blobs: CountedAPI, fault_proxy: MakeProxy) -> Iterator[FaultProxy]:
    return fault_proxy(blobs.url)  # type: ignore[return-value]


def test_signatures_hold_through_the_proxy(s3: SeaweedS3, bucket: str, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    client = s3.client(endpoint_url=proxy.url)
    client.put_object(Bucket=bucket, Key="a b/ü", Body=BODY)  # boto3 asks `Expect: 100-continue` first
    assert client.get_object(Bucket=bucket, Key="a b/ü")["Body"].read() == BODY
    client.head_object(Bucket=bucket, Key="a b/ü")
    wrong = s3.client(Identity("wrong", access_key=s3.access_key), endpoint_url=proxy.url)
    assert error_code(lambda: wrong.get_object(Bucket=bucket, Key="k")) == "SignatureDoesNotMatch"
    path = f"/{bucket}/a%20b/%C3%BC"
    assert proxy.counts["GET", path] == proxy.counts["PUT", path] == proxy.counts["HEAD", path] == 1
    assert all(request.headers["host"] == proxy.host for request in proxy.requests)
    assert [r.headers["expect"] for r in proxy.requests if r.method == "PUT"] == ["100-continue"]


def test_requests_to_gcs_pass_the_proxy_unchanged(gcs: FakeGCS, gcs_bucket: str, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(gcs.url)
    blob = gcs.client(url=proxy.url).bucket(gcs_bucket).blob("a b/ü?#")
    blob.upload_from_string(BODY)
    assert blob.download_as_bytes() == BODY
    proxy.rules.add(Answer(401, b"{}"), method="GET", times=1)
    assert get(proxy.url, f"/storage/v1/b/{gcs_bucket}/o/nope?alt=media")[0] == 401
    assert get(proxy.url, f"/storage/v1/b/{gcs_bucket}/o/nope?alt=media")[0] == 404


def test_the_proxy_keeps_connections_on_both_sides(proxy: FaultProxy, blobs: CountedAPI) -> None:
    with contextlib.closing(http.client.HTTPConnection(proxy.host, timeout=20)) as connection:
        for name in ("one", "two", "empty", "missing", "two"):
            connection.request("GET", f"/blob/{name}")
            before = connection.sock
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (
                (404, b'{"error": "not found"}') if name == "missing" else (200, blobs.blobs[name])
            )
            assert connection.sock is before
        connection.request("HEAD", "/blob/one")
        answer = connection.getresponse()
        assert (answer.getheader("Content-Length"), answer.read()) == (str(len(BODY)), b"")
    assert proxy.counts == blobs.counts
    assert blobs.connections == 1


def test_the_proxy_replaces_a_connection_that_the_server_closed(proxy: FaultProxy, blobs: CountedAPI) -> None:
    with contextlib.closing(http.client.HTTPConnection(proxy.host, timeout=20)) as connection:
        for _ in range(2):
            connection.request("GET", "/blob/two")
            assert connection.getresponse().read() == blobs.blobs["two"]
            blobs.down()
            blobs.up()


@pytest.mark.parametrize("reply", [b"\r\nwhole", b"Transfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n2\r\nle\r\n0\r\n\r\n"])
def test_bodies_without_a_length_pass_the_proxy(reply: bytes, fault_proxy: MakeProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + reply)

        thread = threading.Thread(target=serve)
        thread.start()
        proxy = fault_proxy(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert get(proxy.url, "/x")[:2] == (200, b"whole")
        thread.join()


def test_the_proxy_answers_expect_100_continue(proxy: FaultProxy) -> None:
    with Raw(proxy.url) as raw:
        raw.socket.sendall(b"PUT /blob/two HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert raw.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.socket.sendall(b"data")
        raw.read(12)
    assert proxy.requests[0].body == b"data"


def test_rules_match_by_method_path_skip_and_times(proxy: FaultProxy, blobs: CountedAPI) -> None:
    rule = proxy.rules.add(
        Answer(503, b"busy", {"Retry-After": "7"}), method="GET", path=r"/blob/two\?x=1$", skip=1, times=2
    )
    seen = [get(proxy.url, path)[0] for path in ("/blob/two", *["/blob/two?x=1"] * 4)]
    assert seen == [200, 200, 503, 503, 200]
    assert rule.hits == 2
    assert proxy.counts["GET", "/blob/two"] == 5
    assert blobs.calls["two"] == 3
    proxy.rules.add(Answer(429))
    proxy.rules.add(Answer(500))
    assert get(proxy.url, "/blob/one")[0] == 429  # the first that fits
    proxy.clear()
    assert get(proxy.url, "/blob/one")[:2] == (200, BODY)
    assert proxy.counts == {("GET", "/blob/one"): 1}


def test_answers_of_rules_carry_headers_and_s3_errors(proxy: FaultProxy) -> None:
    proxy.rules.add(Answer(503, b"busy", {"Retry-After": "7"}), times=1)
    proxy.rules.add(
        s3_error(301, "PermanentRedirect", extra="<Region>eu-west-1</Region>", x_amz_bucket_region="eu-west-1")
    )
    status, body, headers = get(proxy.url, "/blob/one")
    assert (status, body, headers["retry-after"]) == (503, b"busy", "7")
    status, body, headers = get(proxy.url, "/blob/one")
    assert (status, headers["x-amz-bucket-region"]) == (301, "eu-west-1")
    assert b"<Code>PermanentRedirect</Code>" in body


def test_a_rule_delays_or_holds_a_request(proxy: FaultProxy, blobs: CountedAPI) -> None:
    proxy.rules.add(Delay(0.2), times=1)
    begin = time.monotonic()
    assert get(proxy.url, "/blob/two")[1] == blobs.blobs["two"]
    assert time.monotonic() - begin >= 0.2

    hold = Hold()
    rule = proxy.rules.add(hold, path="two")
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(get, proxy.url, "/blob/two") for _ in range(12)]
        rule.wait_hits(12)
        assert get(proxy.url, "/blob/one")[1] == BODY  # others go by
        assert not any(answer.done() for answer in answers)
        hold.release()
        assert all(answer.result()[1] == blobs.blobs["two"] for answer in answers)
    other = proxy.rules.add(Hold(), path="one")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, proxy.url, "/blob/one")
        other.wait_hits()
        proxy.rules.clear()  # no test can release it any more
        assert answer.result()[1] == BODY
    with pytest.raises(TimeoutError):
        rule.wait_hits(13, timeout=0.01)


def test_a_rule_lets_a_request_hang(proxy: FaultProxy, blobs: CountedAPI) -> None:
    rule = proxy.rules.add(Hang(), times=1)
    with Raw(proxy.url) as raw:
        raw.ask("/blob/two")
        rule.wait_hits()
        assert get(proxy.url, "/blob/two")[0] == 200
        assert raw.is_silent()
    assert blobs.calls["two"] == 1


def test_a_rule_resets_or_closes_a_connection_before_headers(proxy: FaultProxy, blobs: CountedAPI) -> None:
    proxy.rules.add(Reset(), times=1)
    proxy.rules.add(Close(), times=1)
    with Raw(proxy.url) as raw:
        raw.ask("/blob/two")
        assert raw.read_until_reset() == b""
    with Raw(proxy.url) as raw:
        raw.ask("/blob/two")
        assert raw.read_all() == b""
    assert blobs.calls["two"] == 0


@pytest.mark.parametrize("count", [0, 1, 100_000, len(BODY) - 1])
def test_a_rule_ends_a_body_early(proxy: FaultProxy, count: int) -> None:
    proxy.rules.add(Cut(count), times=1)
    proxy.rules.add(ResetAfter(count), times=1)
    with Raw(proxy.url) as raw:
        raw.ask("/blob/one")
        head, body = split(raw.read_all())
        assert f"content-length: {len(BODY)}".encode() in head
        assert body == BODY[:count]
    with Raw(proxy.url) as raw:
        raw.ask("/blob/one")
        head, body = split(raw.read_until_reset())
        assert f"content-length: {len(BODY)}".encode() in head
        assert body == BODY[:count]


def test_a_rule_lets_a_body_stall(proxy: FaultProxy) -> None:
    rule = proxy.rules.add(Stall(1000), times=1)
    with Raw(proxy.url) as raw:
        raw.ask("/blob/one")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += raw.read(1)
        assert raw.read(1000) == BODY[:1000]
        rule.wait_hits()
        assert get(proxy.url, "/blob/one")[1] == BODY
        assert raw.is_silent()


@pytest.mark.parametrize("at", [0, 70_000, len(BODY) - 1])
def test_a_rule_changes_one_byte_of_a_body(proxy: FaultProxy, at: int) -> None:
    proxy.rules.add(Corrupt(at), times=1)
    _, body, headers = get(proxy.url, "/blob/one")
    assert headers["content-length"] == str(len(body)) == str(len(BODY))
    assert [i for i in range(len(BODY)) if body[i] != BODY[i]] == [at]


def test_a_rule_answers_with_an_empty_body(proxy: FaultProxy) -> None:
    proxy.rules.add(Empty(), times=1)
    status, body, headers = get(proxy.url, "/blob/one")
    assert (status, body, headers["content-length"]) == (200, b"", "0")


def test_a_proxy_that_is_down_refuses_and_serves_again_when_up(proxy: FaultProxy) -> None:
    with Raw(proxy.url) as raw:
        raw.ask("/blob/two")
        raw.read(100)
        proxy.down()
        raw.read_until_reset()
    with pytest.raises(ConnectionRefusedError):
        get(proxy.url, "/blob/two")
    proxy.up()
    assert get(proxy.url, "/blob/two")[0] == 200


def test_the_proxy_ends_while_requests_hang(blobs: CountedAPI) -> None:
    with FaultProxy(blobs.url) as proxy, Raw(proxy.url) as hanging, Raw(proxy.url) as held:
        rules = [proxy.rules.add(action, times=1) for action in (Hang(), Hold())]
        hanging.ask("/blob/two")
        rules[0].wait_hits()
        held.ask("/blob/two")
        rules[1].wait_hits()
    assert not [thread for thread in threading.enumerate() if thread.name == "FaultProxy"]


def test_many_clients_at_once_get_their_own_answers(proxy: FaultProxy, blobs: CountedAPI) -> None:
    blobs.blobs = {f"{i:04}": hashlib.sha256(str(i).encode()).digest() * (i % 50) for i in range(1000)}

    def fetch(names: list[str]) -> dict[str, bytes]:
        found = {}
        with contextlib.closing(http.client.HTTPConnection(proxy.host, timeout=60)) as connection:
            for name in names:
                connection.request("GET", f"/blob/{name}")
                found[name] = connection.getresponse().read()
        return found

    names = list(blobs.blobs)
    with ThreadPoolExecutor(16) as pool:
        found = {k: v for part in pool.map(fetch, [names[i::16] for i in range(16)]) for k, v in part.items()}
    assert found == blobs.blobs
    assert set(blobs.calls.values()) == {1}
    assert len(proxy.requests) == 1000


# --- The counted API -------------------------------------------------------------------------------------------------


def test_the_counted_api_counts_failed_calls_too(blobs: CountedAPI) -> None:
    blobs.rules.add(Answer(429, headers={"Retry-After": "1"}), path="two", times=1)
    assert [get(blobs.url, f"/blob/{name}")[0] for name in ("two", "two", "one", "lack")] == [429, 200, 200, 404]
    assert blobs.calls == {"two": 2, "one": 1, "lack": 1}
    assert get(blobs.blob_url("two").removesuffix("/blob/two"), "/blob/two")[1] == blobs.blobs["two"]
