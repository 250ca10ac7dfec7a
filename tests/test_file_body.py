"""Files as bodies of writes: streamed, whole or not there, and never other bytes than those that were hashed."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from bitstore import FileRaw, GSRaw, HTTPRaw, Retry, S3Raw, Sha1Store, StoreNotAvailable
from bitstore._lookup.run import run
from bitstore.steps import FileBody, Write
from tests.servers import FakeGCS, MakeProxy, MotoServer, ResetAfter, SeaweedS3
from tests.stores import sha1

SIZE = 5_000_001
ABSENT = Write(only_if_absent=True)


@pytest.fixture(params=["s3", "s3 client", "gcs", "file", "http"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Sha1Store:
    kind = request.param
    if kind == "file":
        (tmp_path / "blobs").mkdir()
        return Sha1Store(FileRaw(), (tmp_path / "blobs").as_uri() + "/")
    if kind == "gcs":
        gcs: FakeGCS = request.getfixturevalue("gcs")
        return Sha1Store(GSRaw("anonymous", endpoint_url=gcs.url), f"gs://{request.getfixturevalue('gcs_bucket')}/p/")
    if kind == "http":
        moto: MotoServer = request.getfixturevalue("moto")
        bucket = moto.create_bucket()
        moto.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
        return Sha1Store(HTTPRaw(), f"{moto.endpoint_url}/{bucket}/")
    s3: SeaweedS3 = request.getfixturevalue("s3")
    options: dict[str, Any] = {"client": s3.client()} if kind == "s3 client" else {
        "credentials": s3.admin.session, "endpoint_url": s3.endpoint_url, "region": s3.region
    }  # fmt: skip
    return Sha1Store(S3Raw(**options), f"s3://{request.getfixturevalue('bucket')}/p/")


def test_a_file_is_stored_as_its_bytes_are(store: Sha1Store, tmp_path: Path) -> None:
    for size in (0, 10, SIZE, 11):  # a handle that sent one body sends another
        data = os.urandom(size)
        path = tmp_path / "in"
        path.write_bytes(data)
        run(store.put_steps(sha1(data), FileBody(path), ABSENT))
        assert store.get(sha1(data)) == data
        store.put(sha1(data + b"+"), data + b"+")
        assert store.get(sha1(data + b"+")) == data + b"+"


@pytest.mark.parametrize("change", ["shrunk", "changed", "gone"])
def test_a_file_that_changes_meanwhile_is_a_failure(store: Sha1Store, tmp_path: Path, change: str) -> None:
    path, data = tmp_path / "in", os.urandom(SIZE)
    path.write_bytes(data)
    body = FileBody(path)
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-10] if change == "shrunk" else data[:-10] + b"0123456789")
    with pytest.raises((StoreNotAvailable, OSError)):
        run(store.put_steps(sha1(data), body, ABSENT))
    assert store.locate(sha1(data))[0].state != "held"


def test_a_broken_transfer_is_sent_again_from_the_first_byte(
    s3: SeaweedS3, bucket: str, fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    path, data = tmp_path / "in", os.urandom(SIZE)
    path.write_bytes(data)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url, region=s3.region, retry=Retry(first_delay=0.001))
    proxy.rules.add(ResetAfter(100), method="PUT", times=2)
    store = Sha1Store(raw, f"s3://{bucket}/p/")
    run(store.put_steps(sha1(data), FileBody(path), ABSENT))
    assert store.get(sha1(data)) == data


def test_a_file_is_not_held(s3: SeaweedS3, bucket: str, tmp_path: Path) -> None:
    path, data = tmp_path / "in", os.urandom(1 << 20) * 40
    path.write_bytes(data)
    digest = sha1(data)
    (tmp_path / "blobs").mkdir()
    raw = S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url, region=s3.region)
    for store in (Sha1Store(raw, f"s3://{bucket}/p/"), Sha1Store(FileRaw(), (tmp_path / "blobs").as_uri() + "/")):
        tracemalloc.start()
        try:
            run(store.put_steps(digest, FileBody(path), ABSENT))
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
        assert store.locate(digest)[0].size == len(data)
