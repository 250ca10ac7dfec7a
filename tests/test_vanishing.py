"""Containers that vanish in the middle of a run, servers that refuse everything, and endpoints that may be a slip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bitstore import AccessDenied, FileRaw, GSRaw, HTTPRaw, NotFoundInStore, Retry, S3Raw, StoreNotAvailable
from tests.scripted_server import Asked, Reply, ScriptedServer, gcs_refusal, s3_refusal
from tests.test_answers import gcs_client, s3_client

ONCE = Retry(attempts=1)
KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
WAYS = ["S3", "S3 client", "GCS", "GCS client", "HTTP"]


def asked_by(way: str, url: str) -> tuple[Any, str]:
    """A store that asks the server at `url`, and the URL of one of its blobs."""
    if way == "S3":
        return S3Raw(KEYS, endpoint_url=url, region="r", retry=ONCE), "s3://b/k"
    if way == "S3 client":
        return S3Raw(client=s3_client(url)), "s3://b/k"
    if way == "GCS":
        return GSRaw("anonymous", endpoint_url=url, retry=ONCE), "gs://b/k"
    if way == "GCS client":
        return GSRaw(client=gcs_client(url)), "gs://b/k"
    return HTTPRaw(retry=ONCE), f"{url}/b/k"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda asked: (200, {}, b"blob")) as running:
        yield running


@pytest.mark.parametrize("way", WAYS)
def test_a_bucket_that_vanishes_is_a_failure_at_once(way: str, server: ScriptedServer) -> None:
    store, uri = asked_by(way, server.url)
    google = way.startswith("GCS")
    absent = gcs_refusal(404, "notFound", "No such object: b/k") if google else s3_refusal(404, "NoSuchKey")
    text = "The specified bucket does not exist."
    gone = gcs_refusal(404, "notFound", text) if google else s3_refusal(404, "NoSuchBucket")
    server.answer = lambda asked: absent
    assert not store.exists(uri)
    with pytest.raises(NotFoundInStore):
        store.get(uri)
    assert not store.exists(uri)
    server.answer = lambda asked: gone
    for operation in (store.exists, store.get):
        with pytest.raises(StoreNotAvailable, match="there is no bucket"):
            operation(uri)


@pytest.mark.parametrize("way", ["S3", "S3 client", "HTTP"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_416_means_an_empty_blob_only_after_a_plain_request(way: str, empty: bool, server: ScriptedServer) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return 405, {}, b""
        return (200, {}, b"") if empty and "range" not in asked.headers else s3_refusal(416, "InvalidRange")

    server.answer = answer
    store, uri = asked_by(way, server.url)
    if empty:
        assert store.exists(uri)
        assert store.get(uri) == b""
        return
    for operation in (store.exists, store.get):
        with pytest.raises(StoreNotAvailable, match="416"):
            operation(uri)


def raising(error: Exception) -> Any:
    """A client whose every use raises `error`."""

    def fail(*_: object, **__: object) -> Any:
        raise error

    return SimpleNamespace(get_object=fail, head_object=fail, put_object=fail, bucket=fail)


def errors_of_clients() -> list[tuple[type, Exception, str]]:
    from botocore import exceptions as aws
    from google.api_core.exceptions import RetryError, ServiceUnavailable
    from google.auth.exceptions import DefaultCredentialsError, TransportError
    from requests.exceptions import ChunkedEncodingError, ConnectTimeout, InvalidURL

    url = {"endpoint_url": "http://h"}
    last: Any = RetryError
    google: Any = (DefaultCredentialsError, TransportError, ServiceUnavailable)
    return [
        (S3Raw, aws.EndpointConnectionError(**url), "out"),
        (S3Raw, aws.ConnectTimeoutError(**url), "out"),
        (S3Raw, aws.ReadTimeoutError(**url), "out"),
        (S3Raw, aws.ConnectionClosedError(**url), "out"),
        (S3Raw, aws.ProxyConnectionError(proxy_url="http://p"), "out"),
        (S3Raw, aws.ResponseStreamingError(error="reset"), "out"),
        (S3Raw, ConnectionResetError("reset"), "out"),
        (S3Raw, aws.NoCredentialsError(), "refused"),
        (S3Raw, aws.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "refused"),
        (S3Raw, aws.CredentialRetrievalError(provider="process", error_msg="no keys today"), "refused"),
        (S3Raw, aws.UnauthorizedSSOTokenError(), "refused"),
        (S3Raw, aws.MetadataRetrievalError(error_msg="Received non 200 response 500 from container"), "out"),
        (S3Raw, aws.ParamValidationError(report="no such parameter"), "failed"),
        (S3Raw, ValueError("a mock"), "failed"),
        (GSRaw, ConnectTimeout("h"), "out"),
        (GSRaw, ChunkedEncodingError("broken"), "out"),
        (GSRaw, InvalidURL("h"), "failed"),
        (GSRaw, google[0]("no credentials"), "refused"),
        (GSRaw, google[1]("token service"), "out"),
        (GSRaw, last("too late", google[2]("503")), "out"),
        (GSRaw, last("too late", ConnectTimeout("h")), "out"),
        (GSRaw, last("too late", ValueError("a mock")), "failed"),
        (GSRaw, ValueError("a mock"), "failed"),
    ]


@pytest.mark.parametrize(("kind", "error", "verdict"), errors_of_clients(), ids=lambda value: type(value).__name__)
def test_errors_of_a_client_are_classed_like_those_of_our_connections(kind: Any, error: Any, verdict: str) -> None:
    store = kind(client=raising(error), forbidden_is_missing=True, missing_bucket="missing")
    uri = "s3://b/k" if kind is S3Raw else "gs://b/k"
    for operation in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
        with pytest.raises(StoreNotAvailable) as caught:
            operation(uri)
        seen = "refused" if isinstance(caught.value, AccessDenied) else "out" if caught.value.unreachable else "failed"
        assert seen == verdict
        assert caught.value.__cause__ is error


def test_a_client_without_a_server_behind_it_is_an_outage() -> None:
    with pytest.raises(StoreNotAvailable) as caught:
        S3Raw(client=s3_client("http://127.0.0.1:9")).get("s3://b/k")
    assert caught.value.unreachable


@pytest.mark.parametrize("limit", [None, 100])
def test_a_part_that_a_google_client_takes_for_the_blob_is_a_failure(limit: int | None, server: ScriptedServer) -> None:
    def answer(asked: Asked) -> Reply:
        if "alt=media" in asked.target:
            return 206, {"Content-Range": "bytes 0-1/4"}, b"bl"
        return 200, {"Content-Type": "application/json"}, b'{"generation": "1", "size": "4"}'

    server.answer = answer
    with pytest.raises(StoreNotAvailable, match="not with the whole blob"):
        GSRaw(client=gcs_client(server.url), max_blob_size=limit).get("gs://b/k")


# ---------------------------------------------------------------------- endpoints that end in the bucket's name


def objects_below(prefix: str, *, listed: bool = True) -> Callable[[Asked], Reply]:
    """A service at `prefix`: its first part of a path is a bucket, `blobs`, without objects."""

    def answer(asked: Asked) -> Reply:
        bucket, _, key = asked.target.removeprefix(prefix).strip("/").partition("/")
        if bucket != "blobs":
            return s3_refusal(404, "NoSuchBucket")
        if key:
            return s3_refusal(404, "NoSuchKey")
        return (200, {}, b"<ListBucketResult/>") if listed else s3_refusal(403, "AccessDenied", "Access Denied")

    return answer


def test_a_service_whose_path_ends_in_the_bucket_name_reports_absences(server: ScriptedServer) -> None:
    server.answer = objects_below("/s3/blobs")
    store = S3Raw(KEYS, endpoint_url=f"{server.url}/s3/blobs", region="r", retry=ONCE)
    with pytest.raises(NotFoundInStore):
        store.get("s3://blobs/k")
    assert not store.exists("s3://blobs/k")
    assert server.methods() == ["GET", "HEAD", "HEAD", "GET"]  # it is found out once


@pytest.mark.parametrize("prefix", ["", "/blobs"])
def test_a_bucket_that_cannot_be_told_from_an_object_is_in_doubt(prefix: str, server: ScriptedServer) -> None:
    server.answer = objects_below(prefix, listed=False)
    store = S3Raw(KEYS, endpoint_url=f"{server.url}/blobs", region="r", retry=ONCE)
    for operation in (store.get, store.exists):
        with pytest.raises(StoreNotAvailable, match="leave /blobs out"):
            operation("s3://blobs/k")


# ---------------------------------------------------------------------- disks


@pytest.mark.parametrize("rooted", [False, True])
def test_a_disk_unmounted_during_a_run_is_a_failure(rooted: bool, tmp_path: Path) -> None:
    other = Path("/dev/shm") / f"bitstore-{os.getpid()}-{rooted}"
    if not other.parent.is_dir() or other.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    other.mkdir()
    try:
        (other / "there").write_bytes(b"x")
        mount, bare = tmp_path / "disk", tmp_path / "bare"
        bare.mkdir()
        mount.symlink_to(other)
        store = FileRaw(root=mount) if rooted else FileRaw()
        uri, missing = f"file://{mount}/there", f"file://{mount}/none"

        def ask(uri: str) -> bytes:
            try:
                return store.get(uri)
            except NotFoundInStore:
                list(store.container_steps(f"file://{mount}/", made_by_writes=False))
                raise

        assert ask(uri) == b"x"
        if not rooted:  # then the folder is first looked at where a blob is missing
            with pytest.raises(NotFoundInStore):
                ask(missing)
        mount.unlink()
        mount.symlink_to(bare)
        for _ in range(2):
            with pytest.raises(StoreNotAvailable, match="no longer on the disk it was on"):
                ask(missing)
        (bare / "there").write_bytes(b"y")  # another disk, mounted on purpose
        with pytest.raises(NotFoundInStore):
            ask(missing)
    finally:
        shutil.rmtree(other)
