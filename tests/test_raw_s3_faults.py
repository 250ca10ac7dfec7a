"""What S3Raw makes of answers that go wrong, through a proxy that makes them go wrong."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest

from bitstore._lookup.asking import steps_of_put
from bitstore._lookup.retry import Retry
from bitstore._lookup.run import run
from bitstore._raw import s3_credentials
from bitstore._raw.s3 import ANONYMOUS, S3Raw
from bitstore.errors import AccessDenied, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Write
from tests.servers import Answer, Close, Corrupt, Cut, Empty, FaultProxy, MakeProxy, Reset, SeaweedS3, s3_error
from tests.stores import outcome

QUICK = Retry(attempts=3, first_delay=0.001, longest_delay=0.002)


class Case:
    """A blob of its own in a bucket that all tests share, behind a proxy."""

    def __init__(self, s3: SeaweedS3, proxy: FaultProxy, bucket: str) -> None:
        self.s3 = s3
        self.proxy = proxy
        self.bucket = bucket
        self.key = secrets.token_hex(8)
        self.uri = f"s3://{bucket}/{self.key}"
        self.data = bytes(range(256)) * 40
        s3.put(self.bucket, self.key, self.data)

    def store(self, credentials: Any = None, **options: Any) -> S3Raw:
        options = {"endpoint_url": self.proxy.url, "region": "us-east-1", "retry": QUICK, **options}
        return S3Raw(credentials or self.s3.admin.session, **options)

    def regions(self) -> list[str]:
        found = [re.search(r"/([a-z0-9-]+)/s3/aws4", r.headers.get("authorization", "")) for r in self.proxy.requests]
        return [match[1] if match else "" for match in found]


@pytest.fixture
def case(s3: SeaweedS3, fault_proxy: MakeProxy, shared_bucket: str) -> Case:
    return Case(s3, fault_proxy(s3.endpoint_url), shared_bucket)


# ---------------------------------------------------------------------- missing or failed


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (400, "NoSuchKey")])
def test_an_error_code_that_means_missing_is_an_absence(case: Case, status: int, code: str) -> None:
    case.proxy.rules.add(s3_error(status, code))
    for store in (case.store(), case.store([ANONYMOUS, case.s3.admin.session])):
        assert isinstance(outcome(lambda store=store: store.get(case.uri)), NotFoundInStore)  # type: ignore[misc]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b"<html><h1>404 Not Found</h1> from a proxy</html>"),
        Answer(404),
        Answer(404, b"NoSuchKey"),
        s3_error(404, "SomethingElse"),
        s3_error(400, "InvalidRequest"),
        s3_error(405, "MethodNotAllowed"),
        s3_error(416, "InvalidRange"),
        s3_error(501, "NotImplemented"),
        Answer(304),
        Answer(302, b"", {"Location": "http://127.0.0.1:9/login"}),
        Answer(418, b"\x00\xff" * 5000),
        s3_error(500, "InternalError"),
        s3_error(503, "SlowDown"),
        Close(),
        Reset(),
        Cut(0),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_an_answer_that_is_no_absence_is_a_failure(case: Case, answer: Any, known: bool) -> None:
    store = case.store(forbidden_is_missing=True)
    if known:
        assert store.get(case.uri) == case.data
    case.proxy.rules.add(answer)
    error = outcome(lambda: store.get(case.uri))
    assert isinstance(error, StoreNotAvailable)
    assert not isinstance(error, (NotFoundInStore, AccessDenied))
    assert case.uri in str(error)
    assert len(str(error)) < 800
    if isinstance(answer, Answer):
        assert str(answer.status) in str(error)
        code = re.search(rb"<Code>(.*)</Code>", answer.body)
        assert code is None or f"{code[1].decode()}: told to" in str(error)
    case.proxy.rules.clear()
    assert store.get(case.uri) == case.data


def test_the_body_of_any_200_is_data(case: Case) -> None:
    store = case.store()
    body = s3_error(200, "NoSuchKey").body
    case.proxy.rules.add(Answer(200, body), times=1)
    assert store.get(case.uri) == body
    case.proxy.rules.add(Empty(), times=1)
    assert store.get(case.uri) == b""
    case.proxy.rules.add(Corrupt(), times=1)
    assert store.get(case.uri) != case.data  # which the digest store above will notice


@pytest.mark.parametrize("fault", [s3_error(503, "SlowDown"), s3_error(500, "InternalError"), Reset(), Cut(5000)])
def test_transient_faults_are_tried_again(case: Case, fault: Any) -> None:
    store = case.store()
    case.proxy.rules.add(fault, times=2)
    assert store.get(case.uri) == case.data
    assert len(case.proxy.requests) == 3
    assert store._tally.retries == 2
    case.proxy.rules.clear()
    case.proxy.rules.add(fault, times=1, method="PUT")
    run(steps_of_put(store, case.uri, b"new", Write(replacing=run(store.version_steps(case.uri)))))
    assert store.get(case.uri) == b"new"


def test_a_request_timeout_with_status_400_is_tried_again(case: Case) -> None:
    case.proxy.rules.add(s3_error(400, "RequestTimeout"), times=1)
    assert case.store().get(case.uri) == case.data
    case.proxy.rules.add(s3_error(400, "RequestTimeout"))
    assert "RequestTimeout" in str(outcome(lambda: case.store().get(case.uri)))


@pytest.mark.parametrize("status", [400, 403, 404])
def test_answers_that_cannot_improve_are_not_retried(case: Case, status: int) -> None:
    store = case.store()
    assert store.get(case.uri) == case.data
    case.proxy.clear()
    case.proxy.rules.add(s3_error(status, "AccessDenied"))
    outcome(lambda: store.get(case.uri))
    assert len(case.proxy.requests) == 1


# ---------------------------------------------------------------------- forbidden


def test_forbidden_is_missing_covers_only_access_denied(case: Case) -> None:
    rule = case.proxy.rules.add(s3_error(403, "AccessDenied", "Access Denied"))
    strict, lenient = case.store(), case.store(forbidden_is_missing=True)
    assert isinstance(outcome(lambda: strict.get(case.uri)), AccessDenied)
    assert isinstance(outcome(lambda: lenient.get(case.uri)), NotFoundInStore)
    assert not lenient.exists(case.uri)
    assert rule.hits > 0
    others = (
        s3_error(403, "InvalidAccessKeyId"),
        s3_error(403, "SignatureDoesNotMatch"),
        s3_error(403, "ExpiredToken"),
        s3_error(403, "RequestTimeTooSkewed"),
        s3_error(401, "AccessDenied"),
        Answer(403, b"<html>the proxy says no</html>"),
    )
    for answer in others:
        case.proxy.rules.clear()
        case.proxy.rules.add(answer)
        for operation in (lenient.get, lenient.exists):
            error = outcome(lambda operation=operation: operation(case.uri))  # type: ignore[misc]
            assert isinstance(error, StoreNotAvailable), answer
            assert not isinstance(error, NotFoundInStore)


def test_a_clock_that_is_off_is_named_and_asked_about_once(case: Case) -> None:
    case.proxy.rules.add(s3_error(403, "RequestTimeTooSkewed"))
    store = case.store([case.s3.admin.session, ANONYMOUS], forbidden_is_missing=True)
    error = outcome(lambda: store.get(case.uri))
    assert "the clock of this machine is off" in str(error)
    # Other credentials have the same clock; the answer to the question for the time names none here.
    assert [request.method for request in case.proxy.requests] == ["GET", "HEAD"]


def test_secrets_echoed_by_a_service_are_redacted(case: Case) -> None:
    token = "the-session-token-itself"
    store = case.store({**case.s3.admin.session, "aws_session_token": token})
    case.proxy.rules.add(s3_error(400, "InvalidRequest", f"{case.s3.secret_key} and {token}"))
    error = outcome(lambda: store.get(case.uri))
    assert "*** and ***" in str(error)
    assert token not in repr(error)


# ---------------------------------------------------------------------- expired credentials


@pytest.fixture
def identities(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    made: list[object] = []
    real = s3_credentials.Identity

    def counted(*args: Any, **options: Any) -> Any:
        made.append(1)
        return real(*args, **options)

    monkeypatch.setattr(s3_credentials, "Identity", counted)
    return made


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ExpiredToken"), (403, "ExpiredTokenException"), (400, "InvalidToken")]
)
@pytest.mark.parametrize("operation", ["get", "put", "exists"])
def test_expired_credentials_are_rebuilt_once(
    case: Case, identities: list[object], status: int, code: str, operation: str
) -> None:
    store = case.store()
    assert store.get(case.uri) == case.data
    times = 2 if operation == "exists" else 1  # the answer to a HEAD has no code, so it is asked by GET
    case.proxy.rules.add(s3_error(status, code), times=times)
    if operation == "put":
        store.put(case.uri, case.data)
    elif operation == "exists":
        assert store.exists(case.uri)
    assert store.get(case.uri) == case.data
    assert len(identities) == 2


def test_credentials_that_stay_expired_are_rebuilt_only_once(case: Case, identities: list[object]) -> None:
    case.proxy.rules.add(s3_error(400, "ExpiredToken"))
    store = case.store()
    for _ in range(5):
        error = outcome(lambda: store.get(case.uri))
        assert isinstance(error, AccessDenied)
        assert "ExpiredToken" in str(error)
    assert len(identities) == 2  # not once per lookup
    with_other = case.store([case.s3.admin.session, ANONYMOUS])
    outcome(lambda: with_other.get(case.uri))
    assert "authorization" not in case.proxy.requests[-1].headers


# ---------------------------------------------------------------------- regions


def test_a_region_named_in_the_body_is_used_and_remembered(case: Case) -> None:
    case.proxy.rules.add(
        s3_error(400, "AuthorizationHeaderMalformed", extra="<Region>eu-west-1</Region>"), times=1, method="GET"
    )
    store = case.store()
    assert store.get(case.uri) == case.data
    assert case.regions() == ["us-east-1", "eu-west-1"]
    assert store.get(case.uri) == case.data
    store.put(case.uri, b"x")
    assert case.regions()[2:] == ["eu-west-1", "eu-west-1"]  # learned


@pytest.mark.parametrize("operation", ["get", "put", "exists"])
def test_a_region_named_in_a_header_is_used_and_remembered(case: Case, operation: str) -> None:
    target = f"/{case.bucket}/{case.key}"
    case.proxy.rules.add(s3_error(301, "PermanentRedirect"), times=2 if operation == "exists" else 1, path=target)
    case.proxy.rules.add(
        s3_error(301, "PermanentRedirect", x_amz_bucket_region="ap-south-1"), method="HEAD", path=f"/{case.bucket}$"
    )
    store = case.store()
    if operation == "put":
        store.put(case.uri, b"x")
        assert case.s3.client().get_object(Bucket=case.bucket, Key=case.key)["Body"].read() == b"x"
    elif operation == "get":
        assert store.get(case.uri) == case.data
    else:
        assert store.exists(case.uri)
    assert case.regions()[-1] == "ap-south-1"
    assert case.regions()[0] == "us-east-1"


def test_regions_that_redirect_in_circles_are_a_failure(case: Case) -> None:
    for region in ("eu-west-1", "us-east-1") * 10:
        case.proxy.rules.add(s3_error(301, "PermanentRedirect", extra=f"<Region>{region}</Region>"), times=1)
    assert "PermanentRedirect" in str(outcome(lambda: case.store().get(case.uri)))
    assert case.regions() == ["us-east-1", "eu-west-1"]


def test_a_region_that_is_wrong_or_invalid_is_a_failure(case: Case) -> None:
    store = case.store()
    case.proxy.rules.add(s3_error(301, "PermanentRedirect", extra="<Region>eu-west-1</Region>"))
    error = outcome(lambda: store.get(case.uri))
    assert "PermanentRedirect" in str(error)
    assert len(case.proxy.requests) == 2
    case.proxy.clear()
    case.proxy.rules.add(s3_error(301, "PermanentRedirect", extra="<Region>evil.example/x</Region>"))
    error = outcome(lambda: store.get(case.uri))
    assert len(case.proxy.requests) == 1
    case.proxy.clear()
    case.proxy.rules.add(s3_error(301, "PermanentRedirect"))
    assert "PermanentRedirect" in str(outcome(lambda: case.store().get(case.uri)))


# ---------------------------------------------------------------------- conditional writes


def test_a_write_conflict_is_tried_twice(case: Case) -> None:
    store = case.store()
    case.proxy.rules.add(s3_error(409, "ConditionalRequestConflict"), times=1, method="PUT")
    run(steps_of_put(store, f"{case.uri}-new", b"x", Write(only_if_absent=True)))
    assert store.get(f"{case.uri}-new") == b"x"
    case.proxy.rules.add(s3_error(409, "ConditionalRequestConflict"), method="PUT")
    run(steps_of_put(store, f"{case.uri}-new", b"y", Write(only_if_absent=True)))
    assert "ConditionalRequestConflict" in str(outcome(lambda: store.put(f"{case.uri}-new", b"z")))


@pytest.mark.parametrize("answer", [s3_error(412, "PreconditionFailed"), s3_error(404, "NoSuchBucket"), Reset()])
def test_a_write_that_failed_raises_an_error(case: Case, answer: Any) -> None:
    case.proxy.rules.add(answer)
    error = outcome(lambda: case.store().put(case.uri, b"x"))
    assert isinstance(error, StoreNotAvailable)
    assert f"PUT {case.uri}" in str(error)


def test_a_dead_server_is_a_failure_until_it_is_back(case: Case) -> None:
    store = case.store()
    assert store.get(case.uri) == case.data
    case.proxy.down()
    for operation in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
        error = outcome(lambda operation=operation: operation(case.uri))  # type: ignore[misc]
        assert isinstance(error, StoreNotAvailable)
        assert "curl error" in str(error)
        assert error.__cause__ is not None
    case.proxy.up()
    assert store.get(case.uri) == case.data
