"""What every raw store does alike, each against a server or a folder of its kind."""

from __future__ import annotations

import copy
import os
import pickle
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from moto import mock_aws

from bitstore import FileRaw, GSRaw, HTTPRaw, InvalidURI, NotFoundInStore, S3Raw, Store, StoreNotAvailable
from bitstore._lookup.asking import steps_of_exists, steps_of_get, steps_of_put
from bitstore._lookup.run import run
from bitstore.steps import Write
from tests.waiting import processes

NOWHERE = "http://127.0.0.1:9"
KEYS = {"aws_access_key_id": "AKNOBODYKNOWSME", "aws_secret_access_key": "not-the-secret-of-anybody"}
INVALID: dict[str, tuple[Store, list[str]]] = {
    "s3://bucket/key": (S3Raw("anonymous", endpoint_url=NOWHERE), [
        "", "s3://", "s3://b", "s3://b/", "s3:///k", "gs://b/k", "S3://b/k", "s3://b/k\n", "s3://b/a\rb", "s3://b/a\0b",
        "s3://a b/k", "s3://a@evil/k", "s3://../k", "s3://a#b/k", "s3://a%2f/k", "s3://b\n/k", "s3://b/\ud800",
    ]),
    "gs://bucket/key": (GSRaw("anonymous", endpoint_url=NOWHERE), [
        "", "gs://b", "gs://b/", "gs:///k", "s3://b/k", "gs://b/k\n", "gs://b/a\rb", "gs://b/a\0b", "gs://a b/k",
        "gs://../k", "gs://a?b/k", "gs://b\n/k", "gs://b/\ud800",
    ]),
    "https://host/path": (HTTPRaw(), [
        "", "http://", "https:///k", "ftp://h/k", "file:///k", "http://h/a b", "http://h/a\r\nx: y", "http://h/a\0",
        "http://h/k\n", "http://h/k#part", "http://us er/k", "http://h:port/k", "http://h/\ud800", "http://hö/k",
        "//h/k",
    ]),
    "file:///absolute/path": (FileRaw(), [
        "", "file:", "file://", "file://host/x", "/x", "file:x", "s3://b/k", "file:///a\nb", "file:///a%00b", "file:///\ud800",
    ]),
}  # fmt: skip


KEYS_OF_ALL = [
    "plain", "a//b", "/lead", "with space", "100%", "%41", "a+b", "what?x=1&y", "frag#ment", "quo\"te's",
    "ünïcödé/日本/🙂", "back\\slash", "tab\there", "~tilde*(paren)!$&,:;=@[]", "dots.in/the.name..twice",
    ".hidden", "...",
]  # fmt: skip
AWKWARD = [("s3", key) for key in [*KEYS_OF_ALL, "/".join(["k" * 200] * 2)]]
AWKWARD += [("gs", key) for key in [*KEYS_OF_ALL, "k" * 400, "trail/", "a/../b", "./x"]]


class Place(NamedTuple):
    make: Callable[..., Any]  # a store, with options
    prefix: str  # of its URLs
    content: Callable[[str], bytes]  # what the server or the folder itself holds under a key


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    ask = request.getfixturevalue
    if request.param == "s3":
        client, session, url = ask("s3").client(), ask("s3").admin.session, ask("s3").endpoint_url
        bucket = ask("shared_bucket")
        return Place(
            lambda **options: S3Raw(session, endpoint_url=url, region="us-east-1", **options),
            f"s3://{bucket}/",
            lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read(),
        )
    if request.param == "gs":
        bucket, url = ask("gcs").client().bucket(ask("gcs_bucket")), ask("gcs").url
        return Place(
            lambda **options: GSRaw("anonymous", endpoint_url=url, **options),
            f"gs://{bucket.name}/",
            lambda key: bucket.blob(key).download_as_bytes(),
        )
    if request.param == "http":
        client, folder = ask("moto").client(), ask("web_folder")
        name = folder.rpartition("/")[2]
        return Place(HTTPRaw, f"{folder}/", lambda key: client.get_object(Bucket=name, Key=key)["Body"].read())
    return Place(FileRaw, f"{tmp_path.as_uri()}/", lambda key: (tmp_path / key).read_bytes())


def every(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", kinds or ("s3", "gs", "http", "file"), indirect=True)


@every()
@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_a_blob_of_any_size_is_read_as_written(place: Place, size: int) -> None:
    store, key, data = place.make(), secrets.token_hex(8), os.urandom(size)
    uri = place.prefix + key
    assert store.is_valid(uri) and not store.exists(uri)
    with pytest.raises(NotFoundInStore, match=key):
        store.get(uri)
    assert run(store.version_steps(uri)) is None
    store.put(uri, data)
    assert place.content(key) == data
    assert store.get(uri) == run(steps_of_get(store, uri)).data == data
    assert store.exists(uri) and run(steps_of_exists(store, uri))


@pytest.mark.parametrize(("place", "key"), AWKWARD, indirect=["place"])
def test_a_key_reaches_the_service_unchanged(place: Place, key: str) -> None:
    store, uri, data = place.make(), place.prefix + key, os.urandom(99)
    assert not store.exists(uri)
    with pytest.raises(NotFoundInStore):
        store.get(uri)
    store.put(uri, data)
    assert place.content(key) == data
    assert store.get(uri) == data  # after the first lookup the route is known: both ways are tried
    assert place.make().get(uri) == data
    assert store.exists(uri)


@pytest.mark.parametrize(
    ("hint", "store", "uri"), [(hint, store, uri) for hint, (store, uris) in INVALID.items() for uri in uris]
)
def test_an_invalid_uri_is_refused_with_a_hint(hint: str, store: Any, uri: str) -> None:
    assert not store.is_valid(uri)
    for operation in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
        with pytest.raises(InvalidURI, match=hint):
            operation(uri)


@every("s3", "gs", "http")
def test_a_blob_above_max_blob_size_is_refused(place: Place) -> None:
    uri = place.prefix + secrets.token_hex(8)
    place.make().put(uri, bytes(10_000))
    assert place.make(max_blob_size=10_000).get(uri) == bytes(10_000)
    with pytest.raises(StoreNotAvailable, match=r"larger than max_blob_size \(9999 bytes\)"):
        place.make(max_blob_size=9_999).get(uri)


@every()
def test_a_write_keeps_its_condition(place: Place) -> None:
    store, key = place.make(), secrets.token_hex(8)
    uri, gone = place.prefix + key, f"{place.prefix}{key}-gone"

    def write(data: bytes, uri: str = uri, **condition: Any) -> bytes:
        run(steps_of_put(store, uri, data, Write(**condition)))
        return place.content(key)

    assert write(b"first", only_if_absent=True) == b"first"
    assert write(b"second", only_if_absent=True) == b"first"
    store.put(uri, b"bad")
    assert place.content(key) == b"bad"
    version = run(store.version_steps(uri))
    assert version is not None
    assert write(b"good", replacing=version) == b"good"
    assert write(b"late", replacing=version) == b"good"  # another writer was faster
    write(b"late", gone, replacing=version)
    assert not store.exists(gone)
    with pytest.raises(TypeError, match="a blob is bytes, not str"):
        store.put(uri, "text")


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_client_of_the_caller_reads_and_writes(kind: str, request: pytest.FixtureRequest) -> None:
    raw: Any
    with ExitStack() as stack:
        if kind == "s3":
            stack.enter_context(mock_aws())
            client: Any = boto3.client("s3", region_name="us-east-1", **KEYS)  # type: ignore[call-overload]
            client.create_bucket(Bucket="mine")
            raw, uri, refused = S3Raw, "s3://mine/a b/../c", "NoSuchBucket"
        else:
            client = request.getfixturevalue("gcs").client()
            raw, uri, refused = GSRaw, f"gs://{request.getfixturevalue('gcs_bucket')}/a b", "404"
        store: Any = raw(client=client)
        with pytest.raises(NotFoundInStore):
            store.get(uri)
        assert not store.exists(uri)
        store.put(uri, b"data")
        if kind == "s3":
            assert client.get_object(Bucket="mine", Key="a b/../c")["Body"].read() == b"data"
            with pytest.raises(StoreNotAvailable, match="NoSuchBucket"):
                store.get("s3://no-such-bucket/k")
        assert store.get(uri) == run(steps_of_get(store, uri)).data == b"data"
        assert store.exists(uri)
        run(steps_of_put(store, uri, b"other", Write(only_if_absent=True)))
        assert store.get(uri) == b"data"
        version = run(store.version_steps(uri))
        assert version is not None
        run(steps_of_put(store, uri, b"healed", Write(replacing=version)))
        run(steps_of_put(store, uri, b"late", Write(replacing=version)))
        assert store.get(uri) == b"healed"
        with pytest.raises(StoreNotAvailable, match=refused):
            store.put(f"{kind}://no-such-bucket/k", b"x")
        with pytest.raises(StoreNotAvailable, match="max_blob_size"):
            raw(client=client, max_blob_size=3).get(uri)
        with pytest.raises(TypeError, match="'client'"):
            pickle.dumps(store)


def _get(store: Store, uri: str) -> Any:
    return store.get(uri)


@every("s3", "gs")
@pytest.mark.parametrize(("method", "used"), [("fork", True), ("fork", False), ("spawn", True), ("forkserver", False)])
def test_a_raw_store_works_in_other_processes(place: Place, method: str, used: bool) -> None:
    store, uri = place.make(), place.prefix + secrets.token_hex(8)
    place.make().put(uri, b"x")
    if used:
        assert store.get(uri) == b"x"
    with processes(method, 2) as pool:
        assert pool.starmap_async(_get, [(store, uri)] * 8).get(120) == [b"x"] * 8
    assert store.get(uri) == b"x"


@every("s3", "gs")
def test_a_raw_store_pickles_as_its_configuration(place: Place) -> None:
    store, uri = place.make(forbidden_is_missing=True, max_blob_size="1GB"), place.prefix + secrets.token_hex(8)
    store.put(uri, b"x")
    for twin in (pickle.loads(pickle.dumps(store)), copy.copy(store), copy.deepcopy(store)):
        assert repr(twin) == repr(store)
        assert twin._states.get() is None
        assert twin.get(uri) == b"x"
