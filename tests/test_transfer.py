"""The data plane against a server that misbehaves: retries, resumption, limits."""

from __future__ import annotations

import hashlib
import pickle
import random
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bitstore import HTTPRaw, NotFoundInStore, Retry, S3Raw, StoreNotAvailable
from bitstore._lookup.retry import TRANSIENT_CODES
from bitstore._transport.transports import perform
from bitstore.steps import REFUSED, Profile, Request, TransferError
from tests.servers import CountedAPI, FaultProxy, SeaweedS3
from tests.servers.faults import Answer, Close, Cut, Reset, ResetAfter
from tests.sockets import open_sockets
from tests.waiting import wait_until

QUICK = Retry(attempts=3, first_delay=0.01)
BLOB = random.Random(5).randbytes(300_000)
DIGEST = hashlib.sha1(BLOB).hexdigest()


@pytest.fixture
def served(s3: SeaweedS3, public_bucket: str, fault_proxy: Any) -> tuple[FaultProxy, str]:
    """A proxy before a public object of a real store, which answers with ETags and ranges; and its URL."""
    s3.client().put_object(Bucket=public_bucket, Key="blob", Body=BLOB)
    proxy = fault_proxy(s3.endpoint_url)
    return proxy, f"{proxy.url}/{public_bucket}/blob"


def ranges(proxy: FaultProxy | CountedAPI) -> list[str]:
    return [request.headers.get("range", "") for request in proxy.requests]


class TestResume:
    def test_a_transfer_resumes_where_it_was_cut(self, served: tuple[FaultProxy, str]) -> None:
        proxy, url = served
        proxy.rules.add(Cut(100_000), times=1)
        proxy.rules.add(ResetAfter(150_000), times=1)
        assert HTTPRaw(retry=QUICK).get(url) == BLOB
        # The first try does not collect headers, so the second starts again; the third asks for the rest only.
        asked = ranges(proxy)
        assert asked[:2] == ["", ""] and asked[2].startswith("bytes=") and len(asked) == 3
        assert int(asked[2][6:-1]) > 0

    def test_a_blob_cut_at_every_try_still_arrives(self, served: tuple[FaultProxy, str]) -> None:
        proxy, url = served
        proxy.rules.add(Cut(20_000))
        assert HTTPRaw(retry=QUICK).get(url) == BLOB
        assert len(proxy.requests) >= 15

    def test_a_transfer_without_progress_is_given_up(self, served: tuple[FaultProxy, str]) -> None:
        proxy, url = served
        proxy.rules.add(Cut(0))
        with pytest.raises(StoreNotAvailable):
            HTTPRaw(retry=QUICK).get(url)
        assert len(proxy.requests) == 3

    def test_a_resumed_transfer_never_mixes_two_versions(
        self, s3: SeaweedS3, public_bucket: str, served: tuple[FaultProxy, str]
    ) -> None:
        proxy, url = served
        other = bytes(reversed(BLOB))
        proxy.rules.add(Cut(100_000), times=1)
        second = proxy.rules.add(Cut(150_000), times=1)
        raw = HTTPRaw(retry=Retry(attempts=5, first_delay=0.5, longest_delay=0.5))

        def change() -> None:
            second.wait_hits()
            s3.client().put_object(Bucket=public_bucket, Key="blob", Body=other)

        changer = threading.Thread(target=change)
        changer.start()
        assert raw.get(url) in (BLOB, other)
        changer.join(30)

    def test_a_transfer_without_etag_starts_again(self, api: CountedAPI) -> None:
        api.blobs = {DIGEST: BLOB}
        api.rules.add(Cut(100_000), times=2)
        assert HTTPRaw(retry=QUICK).get(api.blob_url(DIGEST)) == BLOB
        assert ranges(api) == ["", "", ""]


def test_a_request_leaves_nothing_behind_on_its_handle(api: CountedAPI) -> None:
    """Headers, body and limits of one request must not show up in the next one on the same connection."""
    api.blobs = {DIGEST: BLOB}
    for profile in (Profile(), Profile(headers=("X-Mine: 1",))):
        url = api.blob_url(DIGEST)
        odd = Request(profile, url, headers=("Range: bytes=0-0", "X-Odd: 1"), want_headers=True, max_bytes=10**6)
        perform(odd)
        perform(Request(profile, url, method="PUT", body=b"some bytes", headers=("X-Odd: 1",)))
        plain = perform(Request(profile, url))
        assert plain.headers == {} and plain.body == BLOB
        perform(Request(profile, url, method="PUT", body=b""))
    told = [
        (request.method, {name for name in request.headers if name in ("range", "x-odd", "x-mine")})
        for request in api.requests
    ]
    assert told[:4] == [("GET", {"range", "x-odd"}), ("PUT", {"x-odd"}), ("GET", set()), ("PUT", set())]
    assert told[4:] == [
        ("GET", {"range", "x-odd", "x-mine"}),
        ("PUT", {"x-odd", "x-mine"}),
        ("GET", {"x-mine"}),
        ("PUT", {"x-mine"}),
    ]
    assert [len(request.body) for request in api.requests if request.method == "PUT"] == [10, 0, 10, 0]


def test_connections_are_closed_with_the_store_that_made_them(api: CountedAPI) -> None:
    """Refreshed credentials make new profiles, and a program may make stores without end."""
    api.blobs = {DIGEST: BLOB}

    def use(store: HTTPRaw) -> None:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(store.get, [api.blob_url(DIGEST)] * 24)) == {BLOB}

    for _ in range(30):
        use(HTTPRaw())
    wait_until(lambda: open_sockets(api.port) <= 8)


class TestRetries:
    @pytest.mark.parametrize("fault", [Answer(503), Reset(), Close(), Cut(5)])
    def test_a_transient_fault_is_tried_again(self, api: CountedAPI, fault: Any) -> None:
        api.blobs = {DIGEST: BLOB}
        api.rules.add(fault, times=2)
        raw = HTTPRaw(retry=QUICK)
        assert raw.get(api.blob_url(DIGEST)) == BLOB
        assert len(api.requests) == 3


class TestLimits:
    def test_a_blob_above_the_limit_is_cut_off_and_not_retried(self, api: CountedAPI) -> None:
        api.blobs = {DIGEST: BLOB}
        with pytest.raises(StoreNotAvailable, match="100"):
            HTTPRaw(max_blob_size="100KB", retry=QUICK).get(api.blob_url(DIGEST))
        assert len(api.requests) == 1

    @pytest.mark.parametrize("limit", [1, 10, 100_000])
    def test_the_limit_of_blobs_does_not_limit_error_answers(self, served: tuple[FaultProxy, str], limit: int) -> None:
        """What an error is, its body tells: also where no blob may be as large as that body."""
        proxy, url = served
        bucket = url.rsplit("/", 2)[1]
        raw = S3Raw("anonymous", endpoint_url=proxy.url, region="us-east-1", max_blob_size=limit, retry=QUICK)
        with pytest.raises(NotFoundInStore):
            raw.get(f"s3://{bucket}/absent")
        with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
            raw.get(f"s3://{bucket}/blob")
        proxy.rules.add(Answer(503, b"x" * 200_000), times=1)
        with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
            raw.get(f"s3://{bucket}/blob")
        assert [request.path for request in proxy.requests][-2:] == [f"/{bucket}/blob"] * 2  # it was tried again

    def test_small_limits_are_kept_exactly(self, served: tuple[FaultProxy, str], s3: SeaweedS3) -> None:
        bucket = served[1].rsplit("/", 2)[1]
        s3.client().put_object(Bucket=bucket, Key="ten", Body=b"0123456789")
        for limit, fits in ((9, False), (10, True)):
            url = served[1].replace("/blob", "/ten")
            raw = HTTPRaw(max_blob_size=limit, retry=QUICK)
            [blob] = raw.get_many([url])
            assert blob.data == (b"0123456789" if fits else None)

    def test_a_transfer_error_does_not_carry_the_received_bytes(self, served: tuple[FaultProxy, str]) -> None:
        proxy, url = served
        proxy.rules.add(Cut(20_000))
        with pytest.raises(TransferError) as caught:
            perform(Request(Profile(), url, want_headers=True))
        error = caught.value
        assert len(error.partial) > 10_000 and error.headers
        for each in (error, pickle.loads(pickle.dumps(error))):
            assert len(repr(each)) + len(repr(each.args)) + len("".join(traceback.format_exception(each))) < 3000
            assert (type(each), each.code, each.status, str(each)) == (TransferError, 18, 200, str(error))
        assert len(pickle.dumps(error)) < 1000


@pytest.mark.parametrize("options", [{"url": "http://127.0.0.1:1/a\0b"}, {"method": "GE\0T"}, {"headers": ("X: \0",)}])
def test_a_request_that_libcurl_refuses_fails_without_being_repeated(options: dict[str, Any]) -> None:
    with pytest.raises(TransferError, match="libcurl refuses the request") as caught:
        perform(Request(Profile(), **{"url": "http://127.0.0.1:1/", **options}))
    assert caught.value.code == REFUSED and caught.value.code not in TRANSIENT_CODES
    assert caught.value.__cause__ is None and caught.value.__context__ is None  # which may show a header


@pytest.mark.parametrize("option", ["connect_timeout", "stall_timeout", "total_timeout"])
def test_time_limits_far_in_the_future_are_accepted(api: CountedAPI, option: str) -> None:
    api.blobs = {DIGEST: BLOB}
    for seconds in (1e9, 1e30):
        profile = Profile(**{option: seconds})  # type: ignore[arg-type]
        assert perform(Request(profile, api.blob_url(DIGEST))).body == BLOB
