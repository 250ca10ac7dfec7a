"""S3Raw against real servers: keys, credentials, configuration, writes, processes. Faults: test_raw_s3_faults.py."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import boto3
import pytest

from bitstore._raw.s3 import ANONYMOUS, S3Raw
from bitstore._raw.s3_credentials import Identity as S3Identity
from bitstore._raw.s3_credentials import Where
from bitstore._raw.s3_routes import Route
from bitstore._raw.s3_signing import Signer
from bitstore._transport.transports import perform
from bitstore.errors import AccessDenied, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Profile, Request
from tests.servers import Identity, MakeProxy, MotoServer, SeaweedS3

BAD = {"aws_access_key_id": "AKNOBODYKNOWSME", "aws_secret_access_key": "not-the-secret-of-anybody"}


def raw(server: SeaweedS3 | MotoServer, who: Identity | None = None, **options: Any) -> S3Raw:
    options.setdefault("endpoint_url", server.endpoint_url)
    return S3Raw((who or server.admin).session, region="us-east-1", **options)


@pytest.mark.parametrize("key", ["a/../b", "./x", "x/.", "../up", "a/./b", "..", "a/../b c%"])
def test_dot_segments_are_signed_and_sent_unchanged(moto: MotoServer, fault_proxy: MakeProxy, key: str) -> None:
    # The server's own view of such keys differs by server: what counts is what is sent, and that it verifies.
    proxy = fault_proxy(moto.endpoint_url)
    store = S3Raw(moto.admin.session, endpoint_url=proxy.url, region="us-east-1")
    bucket = moto.create_bucket()
    with pytest.raises((NotFoundInStore, StoreNotAvailable)):
        store.get(f"s3://{bucket}/{key}")
    sent = proxy.requests[-1]
    assert sent.path == f"/{bucket}/{key}".replace(" ", "%20").replace("c%", "c%25")
    assert sent.headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={moto.admin.access_key}/")
    assert len(sent.head.split(b"\r\nAuthorization:")) == 2


def test_signatures_verify_and_wrong_ones_do_not(s3: SeaweedS3, bucket: str) -> None:
    store = raw(s3)
    s3.put(bucket, "some key", b"data")
    assert store.get(f"s3://{bucket}/some key") == b"data"
    route = store._state().remembered[bucket]
    keys = route.keys
    assert keys is not None

    def ask(method: str, body: bytes | None, headers: tuple[str, ...], secret_key: str) -> int:
        signer = Signer(
            access_key=keys.access_key, secret_key=secret_key, token=None, region=route.region, headers=(), skew=0
        )
        request = Request(
            Profile(signer=signer), f"{route.prefix}some%20key", method=method, body=body, headers=headers
        )
        return perform(request).status

    right = keys.secret_key
    assert ask("GET", None, (), right) == 200
    assert ask("GET", None, ("Range: bytes=1-2",), right) == 206
    assert ask("PUT", b"new", ("Content-Type: text/plain", "A-Name:   spaces  within "), right) == 200
    assert store.get(f"s3://{bucket}/some key") == b"new"
    assert ask("GET", None, (), "wrong") == 403
    assert ask("PUT", b"new", (), "wrong") == 403


def test_objects_like_bytes_are_written(s3: SeaweedS3, bucket: str) -> None:
    store, uri = raw(s3), f"s3://{bucket}/k"
    store.put(uri, bytearray(b"one"))  # type: ignore[arg-type]
    assert store.get(uri) == b"one"
    store.put(uri, memoryview(b"two"))  # type: ignore[arg-type]
    assert store.get(uri) == b"two"


def test_invalid_options_of_s3_raw_are_refused() -> None:
    with pytest.raises(TypeError):
        cast("Any", S3Raw)(None, None)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"endpoint_url": "localhost:9000"}, "endpoint_url"),
        ({"endpoint_url": "http://user:secret@h"}, r"\*\*\*@h"),
    ]
    for options, text in wrong:
        with pytest.raises(ValueError, match=text):
            S3Raw(**options)


# ---------------------------------------------------------------------- credentials


def test_a_wrong_secret_or_an_unknown_key_is_access_denied(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "k", b"x")
    secret = "this-is-not-the-right-secret"
    wrong = S3Raw(
        {"aws_access_key_id": s3.access_key, "aws_secret_access_key": secret},
        endpoint_url=s3.endpoint_url,
        forbidden_is_missing=True,
    )
    with pytest.raises(AccessDenied, match="SignatureDoesNotMatch") as caught:
        wrong.get(f"s3://{bucket}/k")
    assert secret not in repr(caught.value) + str(caught.value) + repr(wrong)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
        S3Raw(BAD, endpoint_url=s3.endpoint_url, forbidden_is_missing=True).get(f"s3://{bucket}/k")
    with pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
        S3Raw(BAD, endpoint_url=s3.endpoint_url).exists(f"s3://{bucket}/k")
    with pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
        S3Raw(BAD, endpoint_url=s3.endpoint_url).put(f"s3://{bucket}/k", b"x")


def test_a_403_is_access_denied_unless_forbidden_is_missing(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "k", b"x")
    uri = f"s3://{bucket}/k"
    nobody = S3Raw(ANONYMOUS, endpoint_url=s3.endpoint_url)
    for operation in (nobody.get, nobody.exists):
        with pytest.raises(AccessDenied, match="forbidden_is_missing=True"):
            operation(uri)
    lenient = S3Raw(ANONYMOUS, endpoint_url=s3.endpoint_url, forbidden_is_missing=True)
    with pytest.raises(NotFoundInStore):
        lenient.get(uri)
    assert not lenient.exists(uri)
    with pytest.raises(AccessDenied):
        lenient.put(uri, b"y")  # a refused write is never a success
    with pytest.raises(AccessDenied):
        raw(s3, s3.reader).put(uri, b"y")
    assert raw(s3).get(uri) == b"x"


def test_public_buckets_need_no_credentials(s3: SeaweedS3, public_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put(public_bucket, "k", b"open")
    assert S3Raw(ANONYMOUS, endpoint_url=s3.endpoint_url).get(f"s3://{public_bucket}/k") == b"open"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint_url)
    assert S3Raw.anonymous().get(f"s3://{public_bucket}/k") == b"open"
    assert S3Raw.anonymous().credentials == [ANONYMOUS]


def test_a_list_of_credentials_is_tried_in_order(s3: SeaweedS3, bucket: str, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    s3.put(bucket, "k", b"x")
    uri = f"s3://{bucket}/k"
    entries: list[Any] = [{"profile_name": "no-such-profile"}, BAD, ANONYMOUS, s3.reader.session, s3.admin.session]
    store = S3Raw(entries, endpoint_url=proxy.url, region="us-east-1")
    assert store.get(uri) == b"x"
    keys = [
        r.headers.get("authorization", "none").partition("Credential=")[2].partition("/")[0] for r in proxy.requests
    ]
    assert keys == [BAD["aws_access_key_id"], "", s3.reader.access_key]
    proxy.clear()
    assert store.get(uri) == b"x"
    assert store.exists(uri)
    assert len(proxy.requests) == 2  # it is remembered
    with pytest.raises(NotFoundInStore):
        store.get(f"s3://{bucket}/none")
    proxy.clear()
    store.put(uri, b"y")  # which the reader may not: the next one may
    assert len(proxy.requests) == 4
    assert store.get(uri) == b"y"
    other = s3.create_bucket(public=True)
    s3.put(other, "k", b"z")
    assert store.get(f"s3://{other}/k") == b"z"
    assert store._state().remembered[other].index == 2
    assert store._state().remembered[bucket].index == 4

    refused = S3Raw([BAD, ANONYMOUS], endpoint_url=s3.endpoint_url, forbidden_is_missing=True)
    with pytest.raises(AccessDenied, match=r"InvalidAccessKeyId.*anonymous.*AccessDenied"):
        refused.get(uri)


def test_unusable_credentials_are_access_denied_with_the_reason(s3: SeaweedS3, bucket: str) -> None:
    uri = f"s3://{bucket}/k"
    cases: list[tuple[Any, str]] = [
        ([], "list of credentials is empty"),
        ({"profile_name": "no-such-profile"}, "no-such-profile"),
        ({"nonsense": 1}, "nonsense"),
        ({"aws_access_key_id": "only-this"}, "secret access key is empty"),
        ("anonymus", "credentials are None, 'anonymous' or a dict"),
        (None, r"no credentials .*S3Raw\.anonymous\(\)"),
        ([None, {"profile_name": "nope"}], "nope"),
    ]
    for credentials, text in cases:
        store = S3Raw(credentials, endpoint_url=s3.endpoint_url)
        for operation in (store.get, store.exists, lambda uri, store=store: store.put(uri, b"x")):
            with pytest.raises(StoreNotAvailable, match=text) as caught:
                operation(uri)
            assert not isinstance(caught.value, NotFoundInStore)


def test_credentials_set_later_hold_from_the_next_request(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "k", b"x")
    store = S3Raw([], endpoint_url=s3.endpoint_url)
    with pytest.raises(StoreNotAvailable):
        store.get(f"s3://{bucket}/k")
    store.credentials = s3.admin.session
    assert store.credentials == [s3.admin.session]
    assert store.get(f"s3://{bucket}/k") == b"x"


def test_the_environment_gives_keys_region_and_address(aws_env: SeaweedS3, bucket: str) -> None:
    store = S3Raw()
    assert repr(store) == "S3Raw()"
    store.put(f"s3://{bucket}/k", b"x")
    assert store.get(f"s3://{bucket}/k") == b"x"


def test_a_profile_in_the_configuration_files_is_used(
    s3: SeaweedS3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put(bucket, "k", b"x")
    (tmp_path / "config").write_text(
        "[profile work]\nregion = eu-west-3\nservices = here\n"
        f"[services here]\ns3 =\n  endpoint_url = {s3.endpoint_url}\n"
    )
    (tmp_path / "credentials").write_text(
        f"[work]\naws_access_key_id = {s3.reader.access_key}\naws_secret_access_key = {s3.reader.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    named = S3Raw({"profile_name": "work"})
    assert named.get(f"s3://{bucket}/k") == b"x"
    assert named._state().remembered[bucket].region == "eu-west-3"
    assert repr(named) == "S3Raw({'profile_name': 'work'})"
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert S3Raw().get(f"s3://{bucket}/k") == b"x"


def test_the_environment_gives_the_region_of_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    def region(**options: Any) -> str:
        return S3Identity({**BAD}, Where(None, None, None)).service.region

    assert region() == "us-east-1"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert region() == "eu-central-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert region() == "ap-south-1"  # what boto3 itself goes by


@pytest.mark.parametrize(
    ("bucket", "style", "endpoint_url", "region", "learned", "prefix"),
    [
        ("good-name", None, None, "eu-west-1", None, "https://good-name.s3.eu-west-1.amazonaws.com/"),
        ("good-name", None, None, None, None, "https://good-name.s3.us-east-1.amazonaws.com/"),
        ("good-name", None, None, "eu-west-1", "us-west-2", "https://good-name.s3.us-west-2.amazonaws.com/"),
        ("good-name", "path", None, "eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/good-name/"),
        ("with.dots", None, None, "eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/with.dots/"),
        ("Upper_case", None, None, "eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/Upper_case/"),
        ("good-name", None, None, "cn-north-1", None, "https://good-name.s3.cn-north-1.amazonaws.com.cn/"),
        ("good-name", None, "http://host:9000", None, None, "http://host:9000/good-name/"),
        ("good-name", "virtual", "http://host:9000", None, None, "http://good-name.host:9000/"),
        ("with.dots", "virtual", "http://host:9000", None, None, "http://with.dots.host:9000/"),
        ("good-name", None, "http://host:9000/base", None, "eu-west-1", "http://host:9000/base/good-name/"),
    ],
)
def test_the_address_of_a_bucket_follows_endpoint_region_and_style(
    bucket: str, style: str | None, endpoint_url: str | None, region: str | None, learned: str | None, prefix: str
) -> None:
    identity = S3Identity({**BAD}, Where(endpoint_url, region, style))
    assert Route(bucket, 0, identity, learned or identity.service.region).prefix == prefix
    if region != "cn-north-1":  # without boto3's data on partitions
        anonymous = S3Identity(ANONYMOUS, Where(endpoint_url, region, style))
        assert Route(bucket, 0, anonymous, learned or anonymous.service.region).prefix == prefix


def test_virtual_addressing_puts_the_bucket_in_the_host_name(moto: MotoServer) -> None:
    bucket = moto.create_bucket()
    moto.client().put_object(Bucket=bucket, Key="a b", Body=b"x")
    url = moto.endpoint_url.replace("127.0.0.1", "s3.localhost")
    store = raw(moto, endpoint_url=url, addressing_style="virtual")
    assert store.get(f"s3://{bucket}/a b") == b"x"
    assert store._state().remembered[bucket].prefix.startswith(f"http://{bucket}.s3.localhost:")


def test_session_tokens_and_requester_pays_are_sent(moto: MotoServer, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(moto.endpoint_url)
    bucket = moto.create_bucket()
    token = "a-session-token/with+odd=="
    store = S3Raw(
        {**moto.admin.session, "aws_session_token": token},
        endpoint_url=proxy.url,
        region="us-east-1",
        requester_pays=True,
    )
    store.put(f"s3://{bucket}/k", b"x")
    assert store.get(f"s3://{bucket}/k") == b"x"
    with pytest.raises((NotFoundInStore, StoreNotAvailable)):
        store.get(f"s3://{bucket}/a/../k")
    assert len(proxy.requests) == 3
    for request in proxy.requests:
        assert request.headers["x-amz-security-token"] == token
        assert request.headers["x-amz-request-payer"] == "requester"
        signed = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        assert {"host", "x-amz-date", "x-amz-security-token", "x-amz-request-payer"} <= set(signed)
    assert token not in repr(store)


# ---------------------------------------------------------------------- writes


def test_a_write_sends_its_checksum_and_options(moto: MotoServer, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(moto.endpoint_url)
    bucket = moto.create_bucket()
    plain = S3Raw(moto.admin.session, endpoint_url=proxy.url, region="us-east-1")
    plain.put(f"s3://{bucket}/k", b"x")
    sent = proxy.requests[-1].headers
    # sha256 of b"x"
    assert sent["x-amz-content-sha256"] == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert sent["content-type"] == "application/octet-stream"
    assert not {"x-amz-acl", "x-amz-storage-class", "if-none-match"} & set(sent)
    rich = S3Raw(
        moto.admin.session,
        endpoint_url=proxy.url,
        region="us-east-1",
        acl="bucket-owner-full-control",
        storage_class="STANDARD_IA",
        server_side_encryption="aws:kms",
        kms_key_id="alias/mine",
    )
    rich.put(f"s3://{bucket}/k2", b"x")
    sent = proxy.requests[-1].headers
    assert sent["x-amz-acl"] == "bucket-owner-full-control"
    assert sent["x-amz-storage-class"] == "STANDARD_IA"
    assert sent["x-amz-server-side-encryption"] == "aws:kms"
    assert sent["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/mine"
    assert moto.client().head_object(Bucket=bucket, Key="k2")["StorageClass"] == "STANDARD_IA"


def test_the_service_refuses_a_wrong_checksum(s3: SeaweedS3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitstore._raw.s3._sha256", lambda body: bytes(32))
    with pytest.raises(StoreNotAvailable, match="BadDigest"):
        raw(s3).put(f"s3://{bucket}/k", b"x")
    assert not raw(s3).exists(f"s3://{bucket}/k")


# ---------------------------------------------------------------------- a caller's own client


def test_errors_of_a_client_of_the_caller_are_ours_with_a_cause(s3: SeaweedS3, bucket: str) -> None:
    uri = f"s3://{bucket}/k"
    stranger = S3Raw(client=s3.client(Identity("nobody")))
    with pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
        stranger.get(uri)
    with pytest.raises(AccessDenied):
        stranger.exists(uri)
    dead = S3Raw(client=s3.client(endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(StoreNotAvailable, match="EndpointConnectionError") as caught:
        dead.get(uri)
    assert caught.value.__cause__ is not None


# ---------------------------------------------------------------------- processes and threads


def test_a_pickle_holds_no_secret_found_in_the_environment(aws_env: SeaweedS3, bucket: str) -> None:
    aws_env.put(bucket, "k", b"x")
    store = S3Raw()
    assert store.get(f"s3://{bucket}/k") == b"x"
    assert aws_env.secret_key.encode() not in pickle.dumps(store)
    assert aws_env.access_key.encode() not in pickle.dumps(store)


def test_a_fork_while_a_thread_holds_the_lock_leaves_the_child_working(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "k", b"x")
    store, uri = raw(s3), f"s3://{bucket}/k"
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._state()._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = multiprocessing.get_context("fork").Process(target=store.get, args=(uri,))
    try:
        child.start()
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
        done.set()
        thread.join()


def test_threads_share_one_session(s3: SeaweedS3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put(bucket, "k", b"x")
    keys = f"[work]\naws_access_key_id = {s3.reader.access_key}\naws_secret_access_key = {s3.reader.secret_key}\n"
    (tmp_path / "credentials").write_text(keys)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    made: list[object] = []
    real = boto3.Session

    def counted(*args: Any, **options: Any) -> Any:
        made.append(1)
        return real(*args, **options)

    monkeypatch.setattr(boto3, "Session", counted)
    store, barrier = S3Raw({"profile_name": "work"}, endpoint_url=s3.endpoint_url), threading.Barrier(16)

    def get() -> bytes:
        barrier.wait(60)
        return store.get(f"s3://{bucket}/k")

    with ThreadPoolExecutor(16) as pool:
        assert [f.result() for f in [pool.submit(get) for _ in range(16)]] == [b"x"] * 16
    assert len(made) == 1


def test_refreshable_credentials_are_refreshed_once_for_all(
    s3: SeaweedS3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A credential process whose keys expire: the first are not known to the server, the later ones are.
    s3.put(bucket, "k", b"x")
    count = tmp_path / "count"
    script = tmp_path / "keys.py"
    script.write_text(
        "import datetime, json, sys\n"
        f"open({str(count)!r}, 'a').write('.')\n"
        "soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)\n"
        f"print(json.dumps(dict(Version=1, AccessKeyId={s3.access_key!r}, SecretAccessKey={s3.secret_key!r},"
        " Expiration=soon.isoformat())))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile p]\ncredential_process = {sys.executable} {script}\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store, uri = S3Raw({"profile_name": "p"}, endpoint_url=s3.endpoint_url), f"s3://{bucket}/k"
    assert store.get(uri) == b"x"
    asked = len(count.read_text())
    assert store.get(uri) == b"x"
    assert len(count.read_text()) == asked  # within the minute
    store._state().remembered[bucket].fresh_until = 0
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(store.get, [uri] * 8)) == [b"x"] * 8
    assert len(count.read_text()) == asked + 1  # five minutes left is too few for botocore: one refresh for all


def test_a_proxy_in_the_environment_is_used(s3: SeaweedS3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put(bucket, "k", b"x")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(StoreNotAvailable, match="9"):
        raw(s3).get(f"s3://{bucket}/k")
    assert raw(s3, proxy="").get(f"s3://{bucket}/k") == b"x"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert raw(s3).get(f"s3://{bucket}/k") == b"x"
