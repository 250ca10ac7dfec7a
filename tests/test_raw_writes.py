"""Writes to services that lack a feature, and writes whose name is taken; heads that tell of archives."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import pytest

from bitstore import (
    DiskCache,
    GSRaw,
    HTTPRaw,
    InvalidURI,
    LookupFailed,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1APISource,
    Sha1Cache,
    Sha1Store,
    StoreNotAvailable,
)
from bitstore._lookup.run import run
from bitstore._support.digests import ALGORITHMS
from bitstore._warming.run import Warming, fill_here, numbered
from bitstore.steps import Write
from tests.scripted_server import Asked, Reply, ScriptedServer, s3_refusal
from tests.stores import as_cache, composed

KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secretsecretsecret"}
ONCE = Retry(attempts=1)
DATA = b"blob"
DIGEST = hashlib.sha1(DATA).hexdigest()
ABSENT = Write(only_if_absent=True)


class API(Sha1APISource):
    """A paid source that has every blob."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def api_get(self, digest: str) -> bytes:
        self.calls += 1
        return DATA


def refusing(header: str, reply: Reply) -> Any:
    """A service that keeps objects, and refuses writes with `header`."""
    kept: dict[str, bytes] = {}

    def answer(asked: Asked) -> Reply:
        if asked.method == "PUT":
            if any(name.startswith(header) for name in asked.headers):
                return reply
            kept[asked.target] = asked.body
            return 200, {"ETag": '"x"'}, b""
        return (200, {}, kept[asked.target]) if asked.target in kept else s3_refusal(404, "NoSuchKey")

    return answer


REFUSALS = [
    ("x-amz-checksum-", s3_refusal(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received")),
    ("x-amz-checksum-", s3_refusal(501, "NotImplemented", "not implemented", "<Header>x-amz-checksum-sha256</Header>")),
    (
        "if-none-match",
        s3_refusal(501, "NotImplemented", "A header you provided implies functionality"),
    ),
    ("if-none-match", (501, {}, b"")),
    ("if-none-match", s3_refusal(400, "NotImplemented", "A header you provided implies functionality")),
    ("x-amz-storage-class", s3_refusal(400, "InvalidStorageClass", "The storage class you specified is not valid")),
    ("x-amz-acl", s3_refusal(400, "AccessControlListNotSupported", "The bucket does not allow ACLs")),
    ("x-amz-acl", s3_refusal(501, "NotImplemented", "not implemented")),
]


@pytest.mark.parametrize(("header", "reply"), REFUSALS)
def test_a_refused_feature_is_left_out_remembered_and_logged_once(
    header: str, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer(refusing(header, reply)) as server:
        store = S3Raw(KEYS, endpoint_url=server.url, region="r", acl="private", storage_class="STANDARD", retry=ONCE)
        run(store.put_steps("s3://b/one", DATA, ABSENT))
        tries = len(server.seen)
        assert tries >= 2
        run(store.put_steps("s3://b/two", DATA, ABSENT))
        assert len(server.seen) == tries + 1
        assert store.get("s3://b/two") == DATA
        sent = server.seen[tries].headers
        assert sent["x-amz-content-sha256"] == hashlib.sha256(DATA).hexdigest()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum(header.rstrip("-") in text for text in told) == 1


def test_encryption_is_never_left_out() -> None:
    refuses = refusing("x-amz-server-side-encryption", s3_refusal(501, "NotImplemented"))
    with ScriptedServer(refuses) as server:
        store = S3Raw(KEYS, endpoint_url=server.url, region="r", server_side_encryption="AES256", retry=ONCE)
        with pytest.raises(StoreNotAvailable, match="501"):
            store.put("s3://b/k", DATA)
        assert all("x-amz-server-side-encryption" in asked.headers for asked in server.seen)


def test_a_damaged_body_is_not_taken_for_a_refusal_of_checksums() -> None:
    with ScriptedServer(lambda asked: s3_refusal(400, "BadDigest", "x-amz-checksum-sha256 does not match")) as server:
        with pytest.raises(StoreNotAvailable, match="BadDigest"):
            S3Raw(KEYS, endpoint_url=server.url, region="r", retry=ONCE).put("s3://b/k", DATA)
        assert len(server.seen) == 1


def test_web_servers_may_refuse_conditions_of_writes() -> None:
    with ScriptedServer(refusing("if-none-match", (501, {}, b""))) as server:
        store = HTTPRaw(retry=ONCE)
        run(store.put_steps(f"{server.url}/k", DATA, ABSENT))
        assert store.get(f"{server.url}/k") == DATA


@pytest.mark.parametrize(
    ("option", "variable", "sent"),
    [
        (None, None, True),
        (None, "when_required", False),
        (None, "WHEN_REQUIRED", False),
        ("when_required", None, False),
        ("when_supported", "when_required", True),
    ],
)
def test_checksums_are_sent_as_the_configuration_says(
    option: Any, variable: str | None, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", variable)
    with ScriptedServer(lambda asked: (200, {}, b"")) as server:
        store = S3Raw(KEYS, endpoint_url=server.url, region="r", request_checksum_calculation=option)
        store.put("s3://b/k", DATA)
        assert ("x-amz-checksum-sha256" in server.seen[0].headers) == sent


# ---------------------------------------------------------------------- names that are taken


def taken(readable: Reply) -> Any:
    """A service where the name is taken: it answers reads with `readable`."""

    def answer(asked: Asked) -> Reply:
        if asked.method in ("PUT", "POST"):
            conditional = asked.headers.get("if-none-match") == "*" or "ifGenerationMatch=0" in asked.target
            return s3_refusal(412, "PreconditionFailed") if conditional else (200, {}, b"")
        return readable

    return answer


def stores(server: ScriptedServer) -> list[tuple[Any, str]]:
    return [
        (S3Raw(KEYS, endpoint_url=server.url, region="r", retry=ONCE, forbidden_is_missing=True), "s3://b/k"),
        (GSRaw("anonymous", endpoint_url=server.url, retry=ONCE, forbidden_is_missing=True), "gs://b/k"),
        (HTTPRaw(retry=ONCE, forbidden_is_missing=True), f"{server.url}/k"),
    ]


def test_a_taken_name_is_a_success_where_the_blob_can_be_read() -> None:
    with ScriptedServer(taken((200, {}, b'{"generation": "1"}'))) as server:
        for store, uri in stores(server):
            run(store.put_steps(uri, DATA, ABSENT))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_taken_name_without_a_readable_blob_is_a_conflict(kind: int) -> None:
    text = b"x does not have storage.objects.get access" if kind == 1 else b"Access Denied"
    reply = s3_refusal(403, "AccessDenied", "Access Denied") if kind == 0 else (403, {}, text)
    with ScriptedServer(taken(reply)) as server:
        store, uri = stores(server)[kind]
        with pytest.raises(NotFoundInStore):
            store.get(uri)
        with pytest.raises(StoreNotAvailable, match=r"the name is taken .*412.* cannot be read .*403"):
            run(store.put_steps(uri, DATA, ABSENT))


def test_a_conflict_of_a_cache_is_counted_and_logged_by_a_composite(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedServer(taken(s3_refusal(403, "AccessDenied", "Access Denied"))) as server:
        store = composed(as_cache(Sha1Cache(stores(server)[0][0], "s3://b/"), "cache"), API())
        assert store.get(DIGEST) == DATA
        stats = store.stats()["cache"]
        assert (stats.writes, stats.write_failures, stats.conflicts) == (0, 1, 1)
        with pytest.raises(LookupFailed, match=r"no cache can keep .*the name is taken"):
            store.get(DIGEST)  # it is not paid for again
    assert "the name is taken" in caplog.text


# ---------------------------------------------------------------------- archives, and buckets of other kinds


@pytest.mark.parametrize(
    ("headers", "archived"),
    [
        ({"x-amz-storage-class": "GLACIER"}, True),
        ({"x-amz-storage-class": "DEEP_ARCHIVE", "x-amz-restore": 'ongoing-request="true"'}, True),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING", "x-amz-archive-status": "ARCHIVE_ACCESS"}, True),
        ({"x-amz-storage-class": "GLACIER", "x-amz-restore": 'ongoing-request="false", expiry-date="x"'}, False),
        ({"x-amz-storage-class": "GLACIER_IR"}, False),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING"}, False),
    ],
)
def test_exists_of_an_archived_object_is_a_failure(headers: dict[str, str], archived: bool) -> None:
    with ScriptedServer(lambda asked: (200, {"ETag": '"e"', **headers}, b"")) as server:
        store = S3Raw(KEYS, endpoint_url=server.url, region="r", retry=ONCE)
        if not archived:
            assert store.exists("s3://b/k")
            return
        for operation in (store.exists, lambda uri: run(store.version_steps(uri))):
            with pytest.raises(StoreNotAvailable, match="archived: restore it first") as caught:
                operation("s3://b/k")
            assert caught.value.definite


@pytest.mark.parametrize("bucket", ["name--usw2-az1--x-s3", "name-abc--ol-s3", "name.mrap"])
def test_buckets_that_the_regional_address_cannot_serve_are_refused_by_name(bucket: str) -> None:
    store = S3Raw(KEYS, region="us-west-2", endpoint_url="https://s3.us-west-2.amazonaws.com", retry=ONCE)
    for operation in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
        with pytest.raises(StoreNotAvailable, match=f"'{bucket}' is .*, which the address https://.* cannot serve"):
            operation(f"s3://{bucket}/k")


def test_an_access_point_arn_is_refused_with_the_right_form() -> None:
    with pytest.raises(InvalidURI, match="by its alias"):
        S3Raw("anonymous").get("s3://arn:aws:s3:us-east-1:123456789012:accesspoint/name/k")


# ---------------------------------------------------------------------- a slip in a bucket's name


@pytest.mark.parametrize("kind", ["S3", "GCS"])
def test_a_misspelt_bucket_name_never_becomes_a_paid_call(kind: str) -> None:
    text = s3_refusal(404, "NoSuchBucket") if kind == "S3" else (404, {}, b"The specified bucket does not exist.")
    with ScriptedServer(lambda asked: text) as server:
        raw, uri = stores(server)[0 if kind == "S3" else 1]
        api = API()
        store = composed(
            as_cache(Sha1Cache(raw, uri.replace("/b/k", "/cache-slip/"))),
            Sha1Store(raw, uri.replace("/b/k", "/slip/")),
            api,
        )
        rows = list(store.get_many([f"{n:040x}" for n in range(50)]))
        assert api.calls == 0
        assert all("there is no bucket" in str(row.error) for row in rows)
        assert all("left alone" not in str(row.error) for row in rows)
        assert not any(row.error.retry_in for row in rows)  # type: ignore[union-attr]


def test_a_dry_run_of_warming_notices_a_missing_bucket(tmp_path: Any) -> None:
    with ScriptedServer(lambda asked: s3_refusal(404, "NoSuchBucket")) as server:
        store = composed(as_cache(DiskCache(tmp_path)), Sha1Store(stores(server)[0][0], "s3://slip/"))
        sha1 = ALGORITHMS["sha1"]
        warming = Warming(algorithm=sha1, target="here", store_id="this", dry_run=True, show=False)
        report = warming.run(numbered([DIGEST], sha1), fill_here(store, dry_run=True, timeout=60, in_flight=None))
        assert (report.missing, report.failed) == (0, 1)


@pytest.mark.parametrize("status", [425, 509, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 598, 599])
def test_error_statuses_of_edge_proxies_are_retried(status: int) -> None:
    def answer(asked: Asked) -> Reply:
        return (status, {}, b"<html>error</html>") if asked.nth == 0 else (200, {}, DATA)

    with ScriptedServer(answer) as server:
        assert HTTPRaw(retry=Retry(attempts=2, first_delay=0)).get(f"{server.url}/k") == DATA


# ---------------------------------------------------------------------- messages


def test_error_messages_begin_with_the_key_that_was_asked() -> None:
    for reply, text in ((s3_refusal(403, "AccessDenied"), "403"), (s3_refusal(400, "InvalidRequest"), "400")):
        with ScriptedServer(lambda asked, reply=reply: reply) as server:  # type: ignore[misc]
            for store, uri in stores(server):
                store.forbidden_is_missing = False
                for operation in (store.get, store.exists):
                    with pytest.raises(StoreNotAvailable) as caught:
                        operation(uri)
                    assert str(caught.value).startswith(f"{uri}: {text}")
                    assert str(caught.value).endswith(f"({store!r} is not available)")


def test_a_prefix_without_its_slash_is_pointed_out_once(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedServer(lambda asked: s3_refusal(404, "NoSuchKey")) as server:
        raw = stores(server)[0][0]
        for prefix, told in (("s3://b/files", 1), ("s3://b/files/", 0), ("s3://b/sha1-", 0)):
            caplog.clear()
            for _ in range(2):
                store = Sha1Store(raw, prefix)
                with pytest.raises(NotFoundInStore):
                    store.get(DIGEST)
                assert not store.exists(DIGEST)
            texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
            assert len(texts) == told
            assert all(f"s3://b/files{DIGEST}" in text and "'s3://b/files/'" in text for text in texts)
