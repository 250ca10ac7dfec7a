"""Blobs above the threshold: parallel ranges of one version, bounded by max_blob_size, ended with their lookup."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    LookupFailed,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1Store,
    StoreNotAvailable,
)
from bitstore.raw import parts
from tests.servers import CountedAPI, FakeGCS, FaultProxy, Hold, SeaweedS3
from tests.servers.http import FaultyServer
from tests.servers.faults import Answer, Cut, Hang, Reset, ResetAfter, s3_error
from tests.stores import API, Shelf

QUICK = Retry(attempts=3, first_delay=0.01)
BLOB = random.Random(8).randbytes(1_000_003)
SHA1 = hashlib.sha1(BLOB).hexdigest()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte is large here."""
    monkeypatch.setattr(parts, "PART_BYTES", 64_000)


@pytest.fixture(scope="module")
def shared_bucket(s3: SeaweedS3) -> str:
    return s3.create_bucket(public=True)


class Case:
    """A large blob in S3 and a proxy before it."""

    def __init__(self, s3: SeaweedS3, proxy: FaultProxy, bucket: str) -> None:
        self.s3, self.proxy, self.bucket = s3, proxy, bucket
        self.key = f"large/{SHA1}"
        self.uri = f"s3://{bucket}/{self.key}"
        s3.put(bucket, self.key, BLOB)

    def raw(self, **options: Any) -> S3Raw:
        options = {"endpoint_url": self.proxy.url, "retry": QUICK, "range_threshold": "100KB", **options}
        return S3Raw(self.s3.admin.session, region="us-east-1", **options)

    @property
    def ranges(self) -> list[str]:
        return [request.headers.get("range", "") for request in self.proxy.requests]


@pytest.fixture
def case(s3: SeaweedS3, shared_bucket: str, fault_proxy: Callable[[str], FaultProxy]) -> Case:
    return Case(s3, fault_proxy(s3.endpoint_url), shared_bucket)


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


EXPECTED = ["", "bytes=0-63999", *(f"bytes={n}-{min(n + 63999, 1_000_002)}" for n in range(64_000, 1_000_003, 64_000))]


class TestParts:
    def test_of_s3(self, case: Case) -> None:
        raw = case.raw()
        assert raw.get(case.uri) == BLOB
        assert case.ranges[:2] == EXPECTED[:2] and sorted(case.ranges) == sorted(EXPECTED)
        assert all("if-match" in request.headers for request in case.proxy.requests[2:])
        assert [blob.data for blob in raw.get_many([case.uri])] == [BLOB]
        assert sorted(case.ranges) == sorted(2 * EXPECTED)

    def test_at_once(self, case: Case) -> None:
        hold = Hold()
        rule = case.proxy.rules.add(hold, skip=2)
        found: list[Any] = []
        lookup = threading.Thread(target=lambda: found.append(case.raw().get(case.uri)))
        lookup.start()
        rule.wait_hits(8)  # as many requests are under way together
        hold.release()
        lookup.join(30)
        assert found == [BLOB]

    def test_of_gs(self, gcs: FakeGCS, gcs_bucket: str, fault_proxy: Callable[[str], FaultProxy]) -> None:
        gcs.put(gcs_bucket, "large", BLOB)
        proxy = fault_proxy(gcs.url)
        raw = GSRaw("anonymous", endpoint_url=proxy.url, range_threshold="100KB")
        assert raw.get(f"gs://{gcs_bucket}/large") == BLOB
        asked = [request.headers.get("range", "") for request in proxy.requests]
        assert len(asked) > 2 and asked[1] == EXPECTED[1]

    def test_of_http(self, case: Case) -> None:
        url = f"{case.proxy.url}/{case.bucket}/{case.key}"
        assert HTTPRaw(range_threshold="100KB").get(url) == BLOB
        assert sorted(case.ranges) == sorted(EXPECTED)

    def test_up_to_the_threshold_in_one(self, case: Case) -> None:
        assert case.raw(range_threshold=len(BLOB)).get(case.uri) == BLOB
        assert case.raw(range_threshold=None).get(case.uri) == BLOB
        assert case.ranges == ["", ""]
        assert case.raw(range_threshold=len(BLOB) - 1).get(case.uri) == BLOB
        assert len(case.ranges) == 2 + len(EXPECTED)

    def test_a_server_without_ranges(self, api: CountedAPI) -> None:
        api.blobs = {SHA1: BLOB}
        assert HTTPRaw(range_threshold="100KB").get(api.blob_url(SHA1)) == BLOB
        assert [request.headers.get("range", "") for request in api.requests] == ["", EXPECTED[1], ""]

    def test_a_server_without_etags(self, case: Case) -> None:
        head = {"Content-Range": f"bytes 0-63999/{len(BLOB)}", "Accept-Ranges": "bytes"}
        case.proxy.rules.add(Answer(206, BLOB[:64_000], head), skip=1, times=1)
        assert case.raw().get(case.uri) == BLOB
        assert case.ranges == ["", EXPECTED[1], ""]

    @pytest.mark.parametrize("fault", [Reset(), Cut(100), ResetAfter(100), s3_error(503, "SlowDown")])
    def test_a_part_is_tried_again_alone(self, case: Case, fault: Any) -> None:
        case.proxy.rules.add(fault, skip=5, times=3)
        raw = case.raw(retry=Retry(attempts=6, first_delay=0.01))
        assert raw.get(case.uri) == BLOB
        assert len(case.ranges) == len(EXPECTED) + 3 and raw.stats() == {"requests": len(EXPECTED) + 3, "retries": 3}

    def test_a_part_that_cannot_be_had(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(500, "InternalError"), skip=5)
        with pytest.raises(StoreNotAvailable, match="InternalError"):
            case.raw().get(case.uri)
        [blob] = case.raw().get_many([case.uri])
        assert blob.failed

    def test_deleted_meanwhile(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(404, "NoSuchKey"), skip=5)
        with pytest.raises(NotFoundInStore):
            case.raw().get(case.uri)

    def test_never_two_versions(self, case: Case) -> None:
        other = bytes(reversed(BLOB))
        hold = Hold()
        rule = case.proxy.rules.add(hold, skip=4, times=1)
        found: list[Any] = []
        lookup = threading.Thread(target=lambda: found.append(case.raw().get(case.uri)))
        lookup.start()
        rule.wait_hits()
        case.s3.put(case.bucket, case.key, other)
        hold.release()
        lookup.join(30)
        assert found == [other]

    def test_a_blob_that_changes_for_ever(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(412, "PreconditionFailed"), skip=2, times=1)
        assert case.raw().get(case.uri) == BLOB  # begun anew once
        case.proxy.clear()
        head = {"Content-Range": f"bytes 0-63999/{len(BLOB)}", "ETag": '"another"'}
        case.proxy.rules.add(Answer(206, BLOB[:64_000], head), skip=1)
        with pytest.raises(StoreNotAvailable, match="replaced while it was read"):
            case.raw().get(case.uri)

    def test_max_blob_size(self, case: Case) -> None:
        for options in ({"max_blob_size": len(BLOB) - 1}, {"max_blob_size": "50KB"}):
            case.proxy.clear()
            with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
                case.raw(**options).get(case.uri)
            assert len(case.ranges) <= 2
        assert case.raw(max_blob_size=len(BLOB)).get(case.uri) == BLOB

    def test_max_blob_size_of_a_server_without_ranges(self, api: CountedAPI) -> None:
        api.blobs = {SHA1: BLOB}
        with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
            HTTPRaw(range_threshold="100KB", max_blob_size="200KB").get(api.blob_url(SHA1))


class TestEnding:
    def test_timeout_ends_all_parts(self, case: Case) -> None:
        rule = case.proxy.rules.add(Hang(), skip=2)
        store = Sha1Composite()
        store.append_source(Sha1Store(case.raw(), f"s3://{case.bucket}/large/"))
        before = sockets(case.proxy)
        with pytest.raises(LookupFailed):
            store.get(SHA1, timeout=1)
        rule.wait_hits(8)
        assert sockets(case.proxy) <= before + 1  # the connection of the first part is kept
        [blob] = store.get_many([SHA1], timeout=1)
        assert blob.failed
        assert sockets(case.proxy) <= before + 1

    def test_closing_ends_all_parts(self, case: Case) -> None:
        before = sockets(case.proxy)
        rule = case.proxy.rules.add(Hang(), skip=2, path="large")
        answers = case.raw().get_many([case.uri, f"s3://{case.bucket}/nothing"])
        next(answers)
        rule.wait_hits(8)
        answers.close()  # type: ignore[attr-defined]
        assert sockets(case.proxy) <= before + 2

    def test_a_failed_part_ends_the_others(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(403, "AccessDenied"), skip=5, times=1)
        rule = case.proxy.rules.add(Hang(), skip=4)
        before = sockets(case.proxy)
        with pytest.raises(StoreNotAvailable, match="AccessDenied"):
            case.raw(retry=Retry(attempts=1)).get(case.uri)
        assert rule.hits
        assert sockets(case.proxy) <= before + 3


def sockets(server: FaultyServer) -> int:
    """How many connections to `server` this process has open as a client."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as end:
            found += end.getpeername()[1:2] == (server.port,)
    return found
