"""GSRaw against a real server, and through a proxy for what that server does not do (it checks no credentials)."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import RefreshError, TransportError

from bitstore._lookup.asking import steps_of_put
from bitstore._lookup.retry import Retry
from bitstore._lookup.run import run
from bitstore._raw.gs import ANONYMOUS, GSRaw
from bitstore.errors import AccessDenied, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Write
from tests.clock import SkippingClock
from tests.servers import Answer, Cut, FakeGCS, FaultProxy, MakeProxy, Reset
from tests.servers.faults import json_error
from tests.stores import outcome

QUICK = Retry(attempts=3, first_delay=0.001, longest_delay=0.002)


class Tokens(Credentials):
    """Credentials of a user's own: token-1, token-2, ... each good for an hour."""

    def __init__(self, *, seconds: float = 3600) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = seconds
        self.refreshes = 0
        self.fails = False
        self.meeting: threading.Barrier | None = None

    def refresh(self, request: Any) -> None:
        if self.fails:
            raise OSError("the token service is down")
        if self.meeting is not None:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.meeting.wait(0.5)  # it breaks, unless a second thread comes in here meanwhile
        self.refreshes += 1
        self.token = f"token-{self.refreshes}"
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        self.expiry = now + datetime.timedelta(seconds=self.seconds)


class Case:
    """A bucket with one blob, behind a proxy."""

    def __init__(self, gcs: FakeGCS, proxy: FaultProxy) -> None:
        self.gcs = gcs
        self.proxy = proxy
        self.bucket = gcs.create_bucket()
        self.uri = f"gs://{self.bucket}/k"
        self.data = bytes(range(256)) * 40
        gcs.put(self.bucket, "k", self.data)

    def store(self, credentials: Any = ANONYMOUS, **options: Any) -> GSRaw:
        return GSRaw(credentials, endpoint_url=self.proxy.url, **{"retry": QUICK, **options})

    def tokens(self) -> list[str]:
        return [r.headers.get("authorization", "none").removeprefix("Bearer ") for r in self.proxy.requests]


@pytest.fixture
def case(gcs: FakeGCS, fault_proxy: MakeProxy) -> Case:
    return Case(gcs, fault_proxy(gcs.url))


def test_a_key_of_dots_reaches_gcs_unchanged(gcs: FakeGCS, gcs_bucket: str) -> None:
    store, uri = GSRaw(ANONYMOUS, endpoint_url=gcs.url), f"gs://{gcs_bucket}/.."
    assert not store.exists(uri)
    store.put(uri, b"x")
    assert [blob.name for blob in gcs.client().list_blobs(gcs_bucket)] == [".."]
    assert store.get(uri) == b"x" and store.exists(uri)


def test_a_put_into_a_missing_bucket_is_a_failure(gcs: FakeGCS) -> None:
    with pytest.raises(StoreNotAvailable, match="404"):
        GSRaw(ANONYMOUS, endpoint_url=gcs.url).put("gs://no-such-bucket/k", b"x")


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (json_error(404, "No such object: b/k", "notFound"), True),
        (Answer(404, b'{"message": "of somebody else"}'), False),
        (Answer(404, b'{"error": "of somebody else"}'), False),
        (json_error(400, "User project specified in the request is invalid.", "invalid"), False),
        (json_error(429, "slow down", "rateLimitExceeded"), False),
        (Answer(302, b"", {"Location": "http://127.0.0.1:9/"}), False),
        (Reset(), False),
        (Cut(0), False),
    ],
)
def test_an_error_answer_is_an_absence_or_a_failure_by_its_meaning(case: Case, answer: Any, missing: bool) -> None:
    store = case.store(forbidden_is_missing=True)
    case.proxy.rules.add(answer)
    error = outcome(lambda: store.get(case.uri))
    assert isinstance(error, NotFoundInStore if missing else StoreNotAvailable)
    assert not isinstance(error, AccessDenied)
    if missing:
        assert not store.exists(case.uri)
    else:
        assert isinstance(outcome(lambda: store.exists(case.uri)), StoreNotAvailable)
        assert isinstance(outcome(lambda: store.put(f"{case.uri}2", b"x")), StoreNotAvailable)
    case.proxy.rules.clear()
    assert store.get(case.uri) == case.data


RATES = [json_error(403, "slow down", reason) for reason in ("rateLimitExceeded", "userRateLimitExceeded")]


@pytest.mark.parametrize("refusal", RATES, ids=["all", "one user"])
def test_a_403_that_asks_for_less_is_tried_again_and_bounds_the_rate(case: Case, refusal: Any) -> None:
    store = case.store()
    case.proxy.rules.add(refusal, times=2)
    assert store.get(case.uri) == case.data
    assert store.counts().retries == 2
    [eased] = store.counts().eased.values()
    case.proxy.rules.add(refusal)
    eased.per_second = 1e6
    error = outcome(lambda: store.get(case.uri))
    assert isinstance(error, StoreNotAvailable) and error.overrun


@pytest.mark.parametrize("fault", [json_error(503, "backend error", "backendError"), Reset(), Cut(0)])
def test_transient_faults_are_tried_again(case: Case, fault: Any) -> None:
    store = case.store()
    case.proxy.rules.add(fault, times=2)
    assert store.get(case.uri) == case.data
    assert store._tally.retries == 2


def test_a_403_is_access_denied_unless_forbidden_is_missing(case: Case) -> None:
    denied = json_error(403, "nobody does not have storage.objects.get access (or it may not exist)", "forbidden")
    case.proxy.rules.add(denied)
    error = outcome(lambda: case.store(Tokens()).get(case.uri))
    assert isinstance(error, AccessDenied)
    assert "forbidden_is_missing=True" in str(error)
    lenient = case.store(Tokens(), forbidden_is_missing=True)
    assert isinstance(outcome(lambda: lenient.get(case.uri)), NotFoundInStore)
    assert not lenient.exists(case.uri)
    assert isinstance(outcome(lambda: lenient.put(case.uri, b"x")), AccessDenied)
    case.proxy.clear()
    # 401 is about the token and says nothing about the blob, except where none is sent.
    case.proxy.rules.add(json_error(401, "Invalid Credentials", "authError"))
    assert isinstance(outcome(lambda: lenient.get(case.uri)), AccessDenied)
    assert isinstance(outcome(lambda: case.store().get(case.uri)), AccessDenied)
    assert isinstance(outcome(lambda: case.store(forbidden_is_missing=True).get(case.uri)), AccessDenied)
    case.proxy.clear()
    case.proxy.rules.add(json_error(401, "Anonymous caller does not have storage.objects.get access.", "required"))
    assert isinstance(outcome(lambda: case.store(forbidden_is_missing=True).get(case.uri)), NotFoundInStore)


# ---------------------------------------------------------------------- tokens


def test_each_request_carries_the_bearer_token(case: Case) -> None:
    credentials = Tokens()
    store = case.store(credentials, user_project="who-pays")
    for _ in range(3):
        assert store.get(case.uri) == case.data
    store.put(case.uri, b"x")
    assert store.exists(case.uri)
    assert case.tokens() == ["token-1"] * 5
    assert all("userProject=who-pays" in request.query for request in case.proxy.requests)
    assert "token-1" not in repr(store) + repr(store.__dict__)


def test_threads_share_one_refresh_of_a_token(case: Case) -> None:
    credentials = Tokens()
    credentials.meeting = threading.Barrier(2)
    store, barrier = case.store(credentials), threading.Barrier(16)

    def get() -> bytes:
        barrier.wait(60)
        return store.get(case.uri)

    with ThreadPoolExecutor(16) as pool:
        assert {f.result() for f in [pool.submit(get) for _ in range(16)]} == {case.data}
    assert credentials.refreshes == 1
    assert credentials.meeting.broken


def test_a_token_is_refreshed_before_it_expires(case: Case) -> None:
    credentials = Tokens(seconds=100)  # less than the minutes that google-auth wants to be left
    store = case.store(credentials)
    assert store.get(case.uri) == case.data
    store._state().token.fresh_until = 0
    assert store.get(case.uri) == case.data
    assert case.tokens() == ["token-1", "token-2"]
    # The token service is down, and the old token still good for a while: go on with it.
    credentials.fails = True
    store._state().token.fresh_until = 0
    assert store.get(case.uri) == case.data
    assert case.tokens()[-1] == "token-2"
    credentials.expiry = datetime.datetime(2020, 1, 1)
    store._state().token.fresh_until = 0
    error = outcome(lambda: store.get(case.uri))
    assert isinstance(error, StoreNotAvailable) and not isinstance(error, AccessDenied)  # it may be up again soon
    assert "the token service is down" in str(error)


@pytest.mark.parametrize(
    ("raised", "refused"),
    [
        (RefreshError("invalid_grant: Account not found"), True),  # type: ignore[no-untyped-call]
        (RefreshError("slow down", retryable=True), False),  # type: ignore[no-untyped-call]
        (TransportError("connection refused"), False),  # type: ignore[no-untyped-call]
        (OSError("no route"), False),
    ],
    ids=["invalid_grant", "retryable", "transport", "os"],
)
def test_a_token_that_cannot_be_had_is_reported_by_its_cause(
    case: Case, raised: Exception, refused: bool, skipped_pauses: SkippingClock
) -> None:
    """What is wrong with the credentials is a refusal; what is wrong with the way to the token service an outage."""
    credentials = Tokens()
    credentials.refresh = lambda request: (_ for _ in ()).throw(raised)  # type: ignore[method-assign]
    store = case.store(credentials)
    for _ in range(2):  # the second time it is told from memory
        error = outcome(lambda: store.get(case.uri))
        assert isinstance(error, StoreNotAvailable) and str(raised) in str(error)
        assert isinstance(error, AccessDenied) == refused

    client = SimpleNamespace(bucket=lambda *_, **__: (_ for _ in ()).throw(raised))
    error = outcome(lambda: GSRaw(client=client).get(case.uri))
    assert isinstance(error, StoreNotAvailable) and isinstance(error, AccessDenied) == refused


def test_a_refused_token_is_renewed_once(case: Case) -> None:
    credentials = Tokens()
    store = case.store(credentials)
    assert store.get(case.uri) == case.data
    case.proxy.rules.add(json_error(401, "Invalid Credentials", "authError"), times=1)
    assert store.get(case.uri) == case.data
    assert case.tokens() == ["token-1", "token-1", "token-2"]
    case.proxy.rules.add(json_error(401, "Invalid Credentials for token-2", "authError"))
    for _ in range(5):
        error = outcome(lambda: store.get(case.uri))
        assert isinstance(error, AccessDenied)
        assert "token-2" not in str(error)
    assert credentials.refreshes == 2  # not once per lookup


def test_unusable_credentials_are_access_denied_with_the_reason(gcs: FakeGCS) -> None:
    cases: list[tuple[Any, str]] = [
        ({"nonsense": "yes"}, "<dict>"),
        ({"type": "service_account", "private_key": "-----BEGIN", "client_email": "x", "token_uri": "y"}, "<dict>"),
        ({"type": "authorized_user"}, "<dict>"),
        ("anonymus", "credentials are None, 'anonymous'"),
        (object(), "credentials are None, 'anonymous'"),
        (AnonymousCredentials(), "no access token"),  # type: ignore[no-untyped-call]
        (None, r"GSRaw\.anonymous\(\)"),
    ]
    for credentials, text in cases:
        store = GSRaw(credentials, endpoint_url=gcs.url)
        for operation in (store.get, store.exists, lambda uri, store=store: store.put(uri, b"x")):
            with pytest.raises(AccessDenied, match=text):  # asking again will not help
                operation("gs://bucket/k")
    store = GSRaw({"nonsense": "yes"}, endpoint_url=gcs.url)
    store.credentials = ANONYMOUS
    assert not store.exists("gs://bucket/k")


def test_service_accounts_and_default_credentials_are_used(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault_proxy: MakeProxy
) -> None:
    # A key file of our own, and a token service that is a proxy which always answers.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    service = fault_proxy(case.gcs.url)
    token = {"access_token": "from-the-service", "expires_in": 3600, "token_type": "Bearer"}
    service.rules.add(Answer(200, json.dumps(token).encode(), {"Content-Type": "application/json"}), path="/token")
    info = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "robot@example.com",
        "token_uri": f"{service.url}/token",
    }
    assert case.store(info).get(case.uri) == case.data
    file = tmp_path / "key.json"
    file.write_text(json.dumps(info))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert case.store(None).get(case.uri) == case.data
    assert case.tokens() == ["from-the-service"] * 2
    assert service.counts["POST", "/token"] == 2
    store = case.store(info)
    assert "robot" not in repr(store)
    assert pem not in repr(outcome(lambda: store.get("gs://no-such-bucket/k")))


def test_the_emulator_variable_is_honoured(gcs_env: FakeGCS, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gcs_env.put(gcs_bucket, "k", b"x")
    for address in (gcs_env.url, gcs_env.url.removeprefix("http://"), gcs_env.url + "/"):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        for store in (GSRaw(), GSRaw.anonymous()):
            assert store.get(f"gs://{gcs_bucket}/k") == b"x"
    assert repr(GSRaw()) == "GSRaw()"


# ---------------------------------------------------------------------- writes


def test_a_write_carries_the_md5_hash_of_its_bytes(case: Case) -> None:
    """The service then refuses what was damaged on its way; the emulator does not look."""
    for size in (0, 10, 2_000_000):
        body = bytes(range(250)) * (size // 250)
        case.store().put(case.uri, body)
        digest = base64.b64encode(hashlib.md5(body).digest())
        assert b'"md5Hash": "%b"' % digest in case.proxy.requests[-1].body


def test_a_write_refuses_a_version_that_is_no_generation(gcs: FakeGCS, gcs_bucket: str) -> None:
    store = GSRaw(ANONYMOUS, endpoint_url=gcs.url)
    with pytest.raises(ValueError, match="generation"):
        run(steps_of_put(store, f"gs://{gcs_bucket}/k", b"x", Write(replacing='"etag"')))


def test_compressed_objects_arrive_expanded_by_the_service(case: Case) -> None:
    case.store().get(case.uri)
    # The service expands unless told that compression is understood; what it stores and what it sends differ then.
    assert "accept-encoding" not in case.proxy.requests[-1].headers


# ---------------------------------------------------------------------- a caller's own client, processes
