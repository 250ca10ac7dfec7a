"""Listing and deleting: what looks after a bucket, and no lookup does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bitstore import FileRaw, GSRaw, S3Raw
from bitstore._lookup.run import run
from bitstore.errors import AccessDenied, NotFoundInStore, StoreNotAvailable
from tests.scripted_server import Asked, Reply, ScriptedServer
from tests.servers import FakeGCS, MotoServer, SeaweedS3

KEYS = ["a b+c/ü&<x>", "files/aa/1", "files/aa/2", "files/ab/3", "files/plain", "filesaa"]

Place: TypeAlias = "tuple[Any, str]"  # a raw store, and the URL of a bucket or folder


@pytest.fixture(params=["s3", "moto", "gcs", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind = request.param
    if kind == "file":
        return FileRaw(), f"file://{tmp_path}/"
    server = request.getfixturevalue(kind)
    bucket = server.create_bucket()
    if kind == "gcs":
        return GSRaw("anonymous", endpoint_url=server.url), f"gs://{bucket}/"
    return S3Raw(server.admin.session, endpoint_url=server.endpoint_url), f"s3://{bucket}/"


def listed(store: Any, url: str, **options: Any) -> list[str]:
    """Everything below `url`, by as many pages as it takes; without `url` itself."""
    found, after, pages = [], None, 0
    while True:
        page = run(store.list_steps(url, after=after, **options))
        found += [*(item.url for item in page.objects), *page.folders]
        pages += 1
        assert pages < 20
        if page.after is None:
            return [name.removeprefix(url) for name in found]
        after = page.after


def test_a_listing_has_every_object_and_a_level_has_folders(place: Place) -> None:
    store, top = place
    put = "a%20b%2Bc/%C3%BC%26%3Cx%3E" if isinstance(store, FileRaw) else KEYS[0]
    for key in [put, *KEYS[1:]]:
        store.put(top + key, b"12345")
    assert sorted(listed(store, top)) == sorted([put, *KEYS[1:]])
    assert sorted(listed(store, top, most=2)) == sorted([put, *KEYS[1:]])
    assert sorted(listed(store, f"{top}files/")) == ["aa/1", "aa/2", "ab/3", "plain"]
    assert sorted(listed(store, f"{top}files/", one_level=True)) == ["aa/", "ab/", "plain"]
    assert sorted(listed(store, f"{top}files", one_level=True)) == ["/", "aa"]
    behind = listed(store, f"{top}files/", beyond=f"{top}files/aa/2", most=1)
    assert [key for key in behind if key != "aa/2"] == ["ab/3", "plain"]  # some services begin with it
    page = run(store.list_steps(f"{top}files/plain"))
    assert [(item.url, item.size) for item in page.objects] == [(f"{top}files/plain", 5)]
    for key in (put, "files/aa/1"):
        run(store.delete_steps(top + key))
        run(store.delete_steps(top + key))  # it is gone already
        with pytest.raises(NotFoundInStore):
            store.get(top + key)
    assert len(listed(store, top)) == len(KEYS) - 2


def test_a_listing_that_is_refused_is_a_failure_and_not_empty(
    s3: SeaweedS3, gcs: FakeGCS, moto_auth: MotoServer, tmp_path: Path
) -> None:
    bucket = moto_auth.create_bucket()
    user = moto_auth.add_user("reads-only", {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})
    refused = S3Raw(user.session, endpoint_url=moto_auth.endpoint_url)
    with pytest.raises(AccessDenied, match=f"^LIST s3://{bucket}/: 403 AccessDenied"):
        run(refused.list_steps(f"s3://{bucket}/"))
    with pytest.raises(AccessDenied, match=r"^DELETE s3://"):
        run(refused.delete_steps(f"s3://{bucket}/key"))
    s3_store = S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url)
    gcs_store = GSRaw("anonymous", endpoint_url=gcs.url)
    cases: list[tuple[Any, str]] = [(s3_store, "s3://no-such-bucket-x/"), (gcs_store, "gs://no-such-bucket-x/")]
    for store, url in [*cases, (FileRaw(), f"file://{tmp_path}/no-folder/")]:
        with pytest.raises(StoreNotAvailable, match=r"no-such-bucket-x|No such file"):
            run(store.list_steps(url))
    first_version = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    for cut in (first_version, b"<ListBucketResult><Contents><Key>a</Key></Contents>", b"<ListBucketResult>"):
        with ScriptedServer(partial(_reply, cut)) as server, pytest.raises(StoreNotAvailable, match="is cut"):
            run(S3Raw("anonymous", endpoint_url=server.url).list_steps("s3://bucket/"))
    with ScriptedServer(lambda asked: (200, {}, b"<html>a page</html>")) as server:
        makers: list[tuple[Callable[..., Any], str]] = [(S3Raw, "s3"), (GSRaw, "gs")]
        for make, scheme in makers:
            with pytest.raises(StoreNotAvailable, match="is no listing"):
                run(make("anonymous", endpoint_url=server.url).list_steps(f"{scheme}://bucket/"))
    client = S3Raw(client=s3.client())
    with pytest.raises(StoreNotAvailable, match="not with client="):
        run(client.delete_steps(f"s3://{bucket}/key"))
    with pytest.raises(StoreNotAvailable, match="not with client="):
        run(client.list_steps(f"s3://{bucket}/"))


def _reply(body: bytes, asked: Asked) -> Reply:
    return 200, {}, body
