"""What gives credentials may be out, overrun, silent, broken or refuse: each is reported as what it is, and in time."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bitstore import AccessDenied, GSRaw, Retry, S3Raw, Sha1Composite, Sha1Store, StoreNotAvailable
from bitstore._raw import credentials, gs_credentials, s3_credentials
from tests.clock import SkippingClock
from tests.servers import Answer, Close, CountedAPI, Hang, Rules, s3_error

QUICK = Retry(first_delay=0.0)
LATER = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
JSON = {"Content-Type": "application/json"}
STS = (
    "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>A</AccessKeyId>"
    f"<SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken><Expiration>{LATER}</Expiration>"
    "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
)
GIVEN = {
    "container": Answer(
        200, json.dumps({"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": LATER}).encode(), JSON
    ),
    "STS": Answer(200, STS.encode(), {"Content-Type": "text/xml"}),
    "GCS": Answer(200, json.dumps({"access_token": "token", "expires_in": 3600}).encode(), JSON),
}


def sts_error(status: int, code: str) -> Answer:
    text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
    return Answer(status, text.encode(), {"Content-Type": "text/xml"})


class World:
    """A service that gives credentials (`giver`), and a bucket that takes them."""

    def __init__(self, giver: CountedAPI, bucket: CountedAPI) -> None:
        self.giver, self.bucket = giver, bucket
        self.config: dict[str, str] = {}
        bucket.rules.add(Answer(200, b"x"))

    @property
    def rules(self) -> Rules:
        return self.giver.rules

    @property
    def asked(self) -> int:
        return sum(self.giver.counts.values())

    def store(self, kind: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **options: Any) -> Any:
        options = {"retry": QUICK, "endpoint_url": self.bucket.url, **options}
        if kind == "GCS":
            user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
            user["token_uri"] = f"{self.giver.url}/token"
            file = folder / "adc.json"
            file.write_text(json.dumps(user))
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
            # google-auth has a fixed address for the tokens of users, which no setting moves.
            monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", user["token_uri"])
            return GSRaw(**options)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        if kind == "container":
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{self.giver.url}/credentials")
        else:
            file = folder / "jwt"
            file.write_text("jwt.jwt.jwt")
            monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
            monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", self.giver.url)
        return S3Raw(**options)


def uri(kind: str) -> str:
    return "gs://bucket/k" if kind == "GCS" else "s3://bucket/k"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # The pauses of other libraries between their own tries, and ours.
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    monkeypatch.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(credentials, "OUT_FOR", 0.0)
    with CountedAPI() as giver, CountedAPI() as bucket:
        yield World(giver, bucket)


TROUBLES = [
    pytest.param(Answer(429, b'{"message": "Too many requests"}'), id="429"),
    pytest.param(Answer(500), id="500"),
    pytest.param(Answer(502, b"<html>"), id="502"),
    pytest.param(Answer(503, b"{}"), id="503"),
    pytest.param(Close(), id="closes"),
]


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("trouble", TROUBLES)
class TestOutages:
    def test_a_short_outage_of_a_credential_service_is_waited_for(
        self, kind: str, trouble: Any, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        world.rules.add(trouble, times=3)
        world.rules.add(GIVEN[kind])
        assert world.store(kind, monkeypatch, tmp_path).get(uri(kind)) == b"x"

    def test_a_long_outage_of_a_credential_service_is_no_refusal_and_is_not_remembered(
        self, kind: str, trouble: Any, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        store = world.store(kind, monkeypatch, tmp_path, retry=Retry(attempts=1), forbidden_is_missing=True)
        world.rules.add(trouble)
        for ask in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
            with pytest.raises(StoreNotAvailable) as caught:
                ask(uri(kind))
            assert not isinstance(caught.value, AccessDenied) and caught.value.unreachable
        world.rules.clear()
        world.rules.add(GIVEN[kind])
        assert store.get(uri(kind)) == b"x"


@pytest.mark.parametrize("code", ["Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError"])
def test_throttling_by_sts_is_retried(code: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world.rules.add(sts_error(400, code), times=2)
    world.rules.add(GIVEN["STS"])
    assert world.store("STS", monkeypatch, tmp_path).get("s3://bucket/k") == b"x"


REFUSALS = {
    "container": Answer(403, b'{"message": "no"}'),
    "STS": sts_error(403, "AccessDenied"),
    "GCS": Answer(400, b'{"error": "invalid_grant", "error_description": "Token has been revoked."}', JSON),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_a_refusal_of_a_credential_service_is_reported_at_once(
    kind: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.rules.add(REFUSALS[kind])
    store = world.store(kind, monkeypatch, tmp_path)
    with pytest.raises(AccessDenied):
        store.get(uri(kind))
    asked = world.asked
    assert asked == (3 if kind == "container" else 1)  # botocore's own tries
    with pytest.raises(AccessDenied):
        store.get(uri(kind))
    assert world.asked == asked  # remembered for a while


@pytest.mark.parametrize("kind", GIVEN)
def test_a_credential_service_that_hangs_is_given_up(
    kind: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (s3_credentials, gs_credentials):
        monkeypatch.setattr(module, "READ_LIMIT", 0.1)
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.TIMEOUT_SECONDS", 0.1)
    world.rules.add(Hang(), times=3)
    world.rules.add(GIVEN[kind])
    store = world.store(kind, monkeypatch, tmp_path, retry=Retry(attempts=1))
    with pytest.raises(StoreNotAvailable) as caught:
        store.get(uri(kind))
    assert not isinstance(caught.value, AccessDenied) and caught.value.unreachable
    store.retry = QUICK
    assert store.get(uri(kind)) == b"x"


@pytest.mark.parametrize("kind", GIVEN)
def test_batches_wait_for_credentials(kind: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As when many workers start at once, and the service throttles."""
    SkippingClock(monkeypatch)
    world.rules.add(Answer(429), times=9)
    world.rules.add(GIVEN[kind])
    blobs = {hashlib.sha1(b"%d" % number).hexdigest(): b"%d" % number for number in range(40)}
    world.bucket.rules.clear()
    for digest, data in blobs.items():
        world.bucket.rules.add(Answer(200, data), path=digest)
    store = Sha1Composite()
    raw = world.store(kind, monkeypatch, tmp_path, retry=Retry(attempts=2, first_delay=0.0))
    store.append_source(Sha1Store(raw, uri(kind).removesuffix("k"), verify=True))
    assert {blob.uri: blob.data for blob in store.get_many(blobs, patience=60)} == blobs


def test_credentials_further_down_the_list_serve_during_an_outage(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.rules.add(Answer(503))
    store = world.store("container", monkeypatch, tmp_path, retry=Retry(attempts=1), forbidden_is_missing=True)
    store.credentials = [None, "anonymous"]
    assert store.get("s3://bucket/k") == b"x"
    world.bucket.rules.clear()
    world.bucket.rules.add(s3_error(403, "AccessDenied"))
    with pytest.raises(StoreNotAvailable, match="503") as caught:  # the first of the list may be let in
        store.get("s3://other/k")
    assert not isinstance(caught.value, AccessDenied) and caught.value.unreachable


def test_keys_that_expire_in_an_outage_are_a_failure_not_a_refusal(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bucket refuses the keys, and their service cannot give others: no verdict on them."""
    world.rules.add(GIVEN["container"], times=1)
    world.rules.add(Answer(503))
    world.bucket.rules.clear()
    world.bucket.rules.add(s3_error(400, "ExpiredToken"))
    store = world.store("container", monkeypatch, tmp_path, retry=Retry(attempts=1))
    with pytest.raises(StoreNotAvailable, match="ExpiredToken") as caught:
        store.get("s3://bucket/k")
    assert not isinstance(caught.value, AccessDenied) and caught.value.unreachable


def test_a_credential_process_that_hangs_runs_once_and_its_keys_are_used(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It runs once, however many ask, and what it prints in the end is used."""
    go, runs, script = tmp_path / "go", tmp_path / "runs", tmp_path / "keys.py"
    script.write_text(
        f"import json, pathlib, time\nopen({str(runs)!r}, 'a').write('.')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
        "print(json.dumps(dict(Version=1, AccessKeyId='A', SecretAccessKey='S')))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile p]\nregion = us-east-1\ncredential_process = {sys.executable} {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setattr(credentials, "CALL_LIMIT", 0.2)
    store = S3Raw({"profile_name": "p"}, endpoint_url=world.bucket.url, retry=Retry(attempts=1))
    for _ in range(3):
        with pytest.raises(StoreNotAvailable, match="does not answer") as caught:
            store.get("s3://bucket/k")
        assert not isinstance(caught.value, AccessDenied) and caught.value.unreachable
    monkeypatch.setattr(credentials, "CALL_LIMIT", 60.0)
    go.touch()
    assert store.get("s3://bucket/k") == b"x"
    assert runs.read_text() == "."


SECRET = "PLANTEDsecret0123456789"
HALF = {
    "STS": Answer(200, f"<Credentials><SecretAccessKey>{SECRET}</SecretAccessKey><SessionTok".encode()),
    "GCS": Answer(200, json.dumps({"id_token": SECRET, "expires_in": 3600}).encode(), JSON),
    "container": Answer(200, f'{{"AccessKeyId": "A", "SecretAccessKey": "{SECRET}", "Tok'.encode()),
}


@pytest.mark.parametrize("kind", HALF)
def test_half_an_answer_of_a_credential_service_shows_no_secret(
    kind: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.rules.add(HALF[kind])
    with pytest.raises(StoreNotAvailable) as caught:
        world.store(kind, monkeypatch, tmp_path, retry=Retry(attempts=1)).get(uri(kind))
    assert SECRET not in f"{caught.value} {caught.value!r}"
