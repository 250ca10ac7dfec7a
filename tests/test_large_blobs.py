"""Blobs above the threshold: parallel ranges of one version, bounded by max_blob_size, ended with their lookup."""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import random
import subprocess
import sys
import threading
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
    Sha1Store,
    StoreNotAvailable,
)
from bitstore._lookup.task import Task
from bitstore._raw import parts
from bitstore.steps import Found
from tests.clock import SkippingClock
from tests.scripted_server import Asked, Reply, ScriptedServer
from tests.servers import CountedAPI, FakeGCS, FaultProxy, Hold, MakeProxy, SeaweedS3
from tests.servers.faults import Answer, Cut, Hang, Reset, ResetAfter, Stall, s3_error
from tests.servers.http import FaultyServer
from tests.sockets import open_sockets
from tests.stores import API, Shelf, as_cache, as_source, composed
from tests.waiting import wait_until

QUICK = Retry(attempts=3, first_delay=0.01)
BLOB = random.Random(8).randbytes(1_000_003)
SHA1 = hashlib.sha1(BLOB).hexdigest()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte is large here."""
    monkeypatch.setattr(parts, "PART_BYTES", 70_000)


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
def case(s3: SeaweedS3, shared_bucket: str, fault_proxy: MakeProxy) -> Case:
    return Case(s3, fault_proxy(s3.endpoint_url), shared_bucket)


EXPECTED = ["", "bytes=0-69999", *(f"bytes={n}-{min(n + 69999, 1_000_002)}" for n in range(70_000, 1_000_003, 70_000))]


class TestParts:
    def test_a_large_blob_of_s3_is_fetched_in_ranges_of_one_version(self, case: Case) -> None:
        raw = case.raw()
        assert raw.get(case.uri) == BLOB
        assert case.ranges[:2] == EXPECTED[:2] and sorted(case.ranges) == sorted(EXPECTED)
        assert all("if-match" in request.headers for request in case.proxy.requests[2:])
        assert [blob.data for blob in raw.get_many([case.uri])] == [BLOB]
        assert sorted(case.ranges) == sorted(2 * EXPECTED)

    def test_the_parts_of_a_blob_are_fetched_in_parallel(self, case: Case) -> None:
        hold = Hold()
        rule = case.proxy.rules.add(hold, skip=2)
        found: list[Any] = []
        lookup = threading.Thread(target=lambda: found.append(case.raw().get(case.uri)))
        lookup.start()
        rule.wait_hits(8)  # as many requests are under way together
        hold.release()
        lookup.join(30)
        assert found == [BLOB]

    def test_a_large_gcs_blob_is_fetched_in_ranges(self, gcs: FakeGCS, gcs_bucket: str, fault_proxy: MakeProxy) -> None:
        gcs.put(gcs_bucket, "large", BLOB)
        proxy = fault_proxy(gcs.url)
        raw = GSRaw("anonymous", endpoint_url=proxy.url, range_threshold="100KB")
        assert raw.get(f"gs://{gcs_bucket}/large") == BLOB
        asked = [request.headers.get("range", "") for request in proxy.requests]
        assert len(asked) > 2 and asked[1] == EXPECTED[1]

    def test_a_large_blob_of_a_web_server_is_fetched_in_ranges(self, case: Case) -> None:
        url = f"{case.proxy.url}/{case.bucket}/{case.key}"
        assert HTTPRaw(range_threshold="100KB").get(url) == BLOB
        assert sorted(case.ranges) == sorted(EXPECTED)

    def test_a_blob_up_to_the_threshold_is_fetched_in_one_request(self, case: Case) -> None:
        assert case.raw(range_threshold=len(BLOB)).get(case.uri) == BLOB
        assert case.raw(range_threshold=None).get(case.uri) == BLOB
        assert case.ranges == ["", ""]
        assert case.raw(range_threshold=len(BLOB) - 1).get(case.uri) == BLOB
        assert len(case.ranges) == 2 + len(EXPECTED)

    def test_a_server_without_ranges_sends_the_blob_in_one_answer(self, api: CountedAPI) -> None:
        api.blobs = {SHA1: BLOB}
        assert HTTPRaw(range_threshold="100KB").get(api.blob_url(SHA1)) == BLOB
        assert [request.headers.get("range", "") for request in api.requests] == ["", EXPECTED[1], ""]

    def test_a_server_without_etags_is_asked_for_the_whole_blob(self, case: Case) -> None:
        head = {"Content-Range": f"bytes 0-69999/{len(BLOB)}", "Accept-Ranges": "bytes"}
        case.proxy.rules.add(Answer(206, BLOB[:70_000], head), skip=1, times=1)
        assert case.raw().get(case.uri) == BLOB
        assert case.ranges == ["", EXPECTED[1], ""]

    @pytest.mark.parametrize("fault", [Reset(), Cut(100), ResetAfter(100), s3_error(503, "SlowDown")])
    def test_a_part_that_fails_is_tried_again_alone(self, case: Case, fault: Any) -> None:
        case.proxy.rules.add(fault, skip=5, times=3)
        raw = case.raw(retry=Retry(attempts=6, first_delay=0.01))
        assert raw.get(case.uri) == BLOB
        assert len(case.ranges) == len(EXPECTED) + 3 and raw.stats() == {"requests": len(EXPECTED) + 3, "retries": 3}

    def test_a_part_that_always_fails_fails_the_blob(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(500, "InternalError"), skip=5)
        with pytest.raises(StoreNotAvailable, match="InternalError"):
            case.raw().get(case.uri)
        [blob] = case.raw().get_many([case.uri])
        assert blob.failed

    def test_a_blob_deleted_between_its_parts_is_missing(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(404, "NoSuchKey"), skip=5)
        with pytest.raises(NotFoundInStore):
            case.raw().get(case.uri)

    def test_the_parts_of_two_versions_are_never_joined(self, case: Case) -> None:
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

    def test_a_part_of_another_version_starts_the_blob_again(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts, "PART_BYTES", 600_000)
        head = {"Content-Range": f"bytes 600000-1000002/{len(BLOB)}", "ETag": '"another"'}
        case.proxy.rules.add(Answer(206, bytes(400_003), head), skip=2, times=1)
        assert case.raw().get(case.uri) == BLOB
        assert len(case.ranges) == 5  # begun again

    def test_a_blob_that_changes_once_is_fetched_in_parts_again(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(412, "PreconditionFailed"), skip=2, times=1)
        assert case.raw().get(case.uri) == BLOB

    @pytest.mark.parametrize("habit", ["new ETag each time", "refuses its ETag", "400", "501", "405", "416"])
    def test_one_plain_request_is_the_last_resort_after_parts_and_resumptions(
        self, habit: str, tmp_path: Path, skipped_pauses: SkippingClock
    ) -> None:
        """Servers and gateways that have the blob, but with which no second request for a part of it succeeds."""
        versions = itertools.count()
        cuts: list[int] = []  # bytes after which the next whole answers end

        def answer(asked: Asked) -> Reply:
            tag = f'"{next(versions)}"' if habit == "new ETag each time" else '"same"'
            wanted = asked.headers.get("range")
            if wanted is None:
                end_of_it = {"Content-Length": str(len(BLOB)), "Connection": "close"} if cuts else {}
                return 200, {"ETag": tag, **end_of_it}, BLOB[: cuts.pop()] if cuts else BLOB
            if habit.isdecimal() or (habit == "refuses its ETag" and "if-match" in asked.headers):
                return int(habit) if habit.isdecimal() else 412, {}, b""
            start, end = wanted.removeprefix("bytes=").split("-")
            body = BLOB[int(start) : int(end or len(BLOB)) + 1]
            extent = f"bytes {start}-{int(start) + len(body) - 1}/{len(BLOB)}"
            return 206, {"ETag": tag, "Content-Range": extent}, body

        with ScriptedServer(answer) as server:
            for store, uri in (
                (HTTPRaw(range_threshold="64KB", stall_timeout=1), f"{server.url}/k"),
                (S3Raw("anonymous", endpoint_url=server.url, range_threshold="64KB", stall_timeout=1), "s3://b/k"),
            ):
                assert store.get(uri) == BLOB
                cuts.append(500_000)
                store.download(uri, tmp_path / "file")
                assert (tmp_path / "file").read_bytes() == BLOB

    def test_max_blob_size_refuses_a_blob_before_its_parts_are_fetched(self, case: Case) -> None:
        for options in ({"max_blob_size": len(BLOB) - 1}, {"max_blob_size": "50KB"}):
            case.proxy.clear()
            with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
                case.raw(**options).get(case.uri)
            assert len(case.ranges) <= 2
        assert case.raw(max_blob_size=len(BLOB)).get(case.uri) == BLOB

    def test_max_blob_size_holds_for_a_server_without_ranges(self, api: CountedAPI) -> None:
        api.blobs = {SHA1: BLOB}
        with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
            HTTPRaw(range_threshold="100KB", max_blob_size="200KB").get(api.blob_url(SHA1))


class TestEnding:
    def test_a_timeout_ends_all_parts_of_a_blob(self, case: Case) -> None:
        rule = case.proxy.rules.add(Hang(), skip=2)
        store = composed(Sha1Store(case.raw(), f"s3://{case.bucket}/large/"))
        before = sockets(case.proxy)
        with pytest.raises(LookupFailed):
            store.get(SHA1, timeout=1.5)
        rule.wait_hits(8)
        assert sockets(case.proxy) <= before + 1  # the connection of the first part is kept
        [blob] = store.get_many([SHA1], timeout=1.5)
        assert blob.failed
        assert sockets(case.proxy) <= before + 1

    def test_closing_a_batch_ends_all_parts_of_a_blob(self, case: Case) -> None:
        before = sockets(case.proxy)
        rule = case.proxy.rules.add(Hang(), skip=2, path="large")
        answers = case.raw().get_many([case.uri, f"s3://{case.bucket}/nothing"])
        next(answers)
        rule.wait_hits(8)
        answers.close()  # type: ignore[attr-defined]
        assert sockets(case.proxy) <= before + 2

    def test_a_failed_part_ends_the_other_parts(self, case: Case) -> None:
        case.proxy.rules.add(s3_error(403, "AccessDenied"), skip=5, times=1)
        rule = case.proxy.rules.add(Hang(), skip=4)
        before = sockets(case.proxy)
        with pytest.raises(StoreNotAvailable, match="AccessDenied"):
            case.raw(retry=Retry(attempts=1)).get(case.uri)
        assert rule.hits
        assert sockets(case.proxy) <= before + 4


def sockets(server: FaultyServer) -> int:
    """How many connections to `server` this process has open as a client."""
    return open_sockets(server.port)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".bitstore"))


class TestDownload:
    def test_download_writes_the_blob_of_every_kind_of_store(
        self, case: Case, gcs: FakeGCS, gcs_bucket: str, api: CountedAPI, tmp_path: Path
    ) -> None:
        gcs.put(gcs_bucket, f"x/{SHA1}", BLOB)
        api.blobs = {SHA1: BLOB}
        (tmp_path / SHA1).write_bytes(BLOB)
        cache = DiskCache(tmp_path / "cache", algorithm="sha1")
        cache.put(SHA1, BLOB)
        out = tmp_path / "out"
        s3 = case.raw()
        folder = FileRaw()
        stores: list[tuple[Any, str]] = [
            (s3, case.uri),
            (GSRaw("anonymous", endpoint_url=gcs.url), f"gs://{gcs_bucket}/x/{SHA1}"),
            (HTTPRaw(), api.blob_url(SHA1)),
            (folder, f"file://{tmp_path}/{SHA1}"),
            (cache, SHA1),
            (Shelf({SHA1: BLOB}), SHA1),
            (Sha1Store(s3, f"s3://{case.bucket}/large/"), SHA1.upper()),
            (Sha1Store(folder, f"file://{tmp_path}/"), SHA1),
        ]
        for store, uri in stores:
            assert store.download(uri, out) == store.label
            assert out.read_bytes() == BLOB
            out.write_bytes(b"an older file, which is replaced")
        assert out.stat().st_mode & 0o777 == 0o666 & ~umask()
        assert leftovers(tmp_path) == []
        assert cache.get(SHA1) == BLOB  # which writing to the copy has not touched

    def test_download_through_a_composite_names_the_tier_and_fills_its_cache(self, case: Case, tmp_path: Path) -> None:
        cache = DiskCache(tmp_path / "cache")
        store = composed(
            as_cache(cache, "cache"),
            as_source(Shelf(), "empty"),
            as_source(Sha1Store(case.raw(), f"s3://{case.bucket}/large/"), "bucket"),
        )
        out = tmp_path / "out"
        assert store.download(f"sha1://{SHA1}", out) == "bucket"
        assert out.read_bytes() == BLOB
        assert store.stats()["bucket"].bytes == len(BLOB) and store.stats()["cache"].writes == 0
        cache.put(SHA1, BLOB)
        assert store.download(SHA1, out) == "cache"
        assert out.read_bytes() == BLOB

    def test_download_keeps_a_paid_blob_in_the_cache(self, tmp_path: Path) -> None:
        paid = API({SHA1: BLOB})
        store = composed(as_cache(DiskCache(tmp_path / "cache"), "cache"), paid)
        store.download(SHA1, tmp_path / "one")
        assert store.download(SHA1, tmp_path / "two") == "cache"
        assert paid.calls == [SHA1] and (tmp_path / "two").read_bytes() == BLOB

    def test_download_writes_the_expanded_bytes_of_a_compressed_blob(self, tmp_path: Path) -> None:
        store = Sha1Store(FileRaw(), f"file://{tmp_path}/{{digest}}.gz", compression="gzip")
        store.put(SHA1, BLOB)
        store.download(SHA1, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == BLOB

    def test_download_of_an_empty_blob_writes_an_empty_file(
        self, s3: SeaweedS3, case: Case, api: CountedAPI, tmp_path: Path
    ) -> None:
        s3.put(case.bucket, "empty", b"")
        api.blobs = {"e": b""}
        for store, uri in ((case.raw(), f"s3://{case.bucket}/empty"), (HTTPRaw(), api.blob_url("e"))):
            (tmp_path / "out").write_bytes(b"old")
            store.download(uri, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == b""
        assert leftovers(tmp_path) == []

    def test_download_raises_the_errors_of_get_and_keeps_the_old_file(self, case: Case, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.write_bytes(b"old")
        store = composed(Sha1Store(case.raw(), f"s3://{case.bucket}/large/"))
        with pytest.raises(NotFoundInStore):
            store.download("0" * 40, out)
        case.proxy.rules.add(s3_error(403, "AccessDenied"))
        with pytest.raises(LookupFailed, match="AccessDenied"):
            store.download(SHA1, out)
        for bad in ("x", "md5://" + "0" * 32):
            with pytest.raises(ValueError, match="invalid"):
                store.download(bad, out)
        with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
            HTTPRaw(max_blob_size="10KB").download(f"{case.s3.endpoint_url}/{case.bucket}/{case.key}", out)
        assert out.read_bytes() == b"old" and leftovers(tmp_path) == []

    def test_download_to_an_impossible_target_names_the_folder(self, case: Case, tmp_path: Path) -> None:
        for target, kind in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "out", FileNotFoundError)):
            with pytest.raises(kind) as refused:
                case.raw().download(case.uri, target)
            assert "folder" in str(refused.value) and ".partial" not in str(refused.value)

    def test_download_gives_wrong_bytes_no_final_name(self, case: Case, tmp_path: Path) -> None:
        case.s3.put(case.bucket, "wrong/" + "0" * 40, BLOB)
        store = Sha1Store(case.raw(), f"s3://{case.bucket}/wrong/")
        with pytest.raises(InvalidDataFound):
            store.download("0" * 40, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
        store.download("0" * 40, tmp_path / "out", verify=False)
        assert (tmp_path / "out").read_bytes() == BLOB

    def test_a_full_disk_during_a_download_is_no_failure_of_the_store(self, case: Case, tmp_path: Path) -> None:
        script = (
            "import errno, resource, sys\n"
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "from bitstore import HTTPRaw, Sha1Composite, Sha1Store\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
            "store = Sha1Composite()\n"
            "store.append_source(Sha1Store(HTTPRaw(), sys.argv[1]), name='bucket')\n"
            "try:\n"
            "    store.download(sys.argv[2], sys.argv[3])\n"
            "except OSError as error:\n"
            "    print(type(error).__name__, error.errno == errno.EFBIG, store.stats()['bucket'].failures)\n"
        )
        url = f"{case.proxy.url}/{case.bucket}/large/"
        command = [sys.executable, "-c", script, url, SHA1, str(tmp_path / "out")]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.stdout.split() == ["OSError", "True", "0"], ran.stderr
        assert ran.stderr == ""
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process's peak memory in /proc")
    def test_download_of_a_large_blob_takes_bounded_memory(self, case: Case, tmp_path: Path) -> None:
        size = 150_000_000
        script = (
            "import sys\n"
            "from bitstore import HTTPRaw\n"
            # Not getrusage: that counts what pytest's own process was before it became this one, too.
            "def peak():\n"
            "    with open('/proc/self/status') as told:\n"
            "        return next(int(line.split()[1]) for line in told if line.startswith('VmHWM:'))\n"
            "raw = HTTPRaw()\n"
            "raw.download(sys.argv[1] + 'small', sys.argv[2])\n"
            "before = peak()\n"
            "raw.download(sys.argv[1] + 'big', sys.argv[2])\n"
            "print(peak() - before)\n"
        )
        with CountedAPI({"small": b"x", "big": bytes(size)}) as api:
            command = [sys.executable, "-c", script, api.blob_url(""), str(tmp_path / "out")]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert int(ran.stdout) < 10_000  # KiB
        assert (tmp_path / "out").stat().st_size == size


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


DOWNLOADER = """
import sys
from bitstore import HTTPRaw
print(HTTPRaw(retry=None).download(sys.argv[1], sys.argv[2]))
"""


class TestResumedDownload:
    def asked(self, case: Case) -> list[str]:
        return [request.headers.get("range", "") for request in case.proxy.requests]

    def url(self, case: Case) -> str:
        return f"{case.proxy.url}/{case.bucket}/{case.key}"

    def part(self, case: Case, out: Path, count: int = 400_000) -> None:
        """A download that is killed when `count` bytes have come."""
        case.proxy.rules.add(Stall(count), times=1)
        process = subprocess.Popen([sys.executable, "-c", DOWNLOADER, self.url(case), str(out)])
        try:
            wait_until(lambda: any(path.stat().st_size == count for path in out.parent.glob(".bitstore-*.partial")))
        finally:
            process.kill()
            process.wait()
        case.proxy.clear()

    def test_a_download_resumes_after_its_process_was_killed(self, case: Case, tmp_path: Path) -> None:
        out = tmp_path / "out"
        self.part(case, out)
        assert not out.exists()
        HTTPRaw().download(self.url(case), out)
        assert out.read_bytes() == BLOB and self.asked(case) == ["bytes=400000-"]
        assert "if-match" in case.proxy.requests[0].headers
        assert leftovers(tmp_path) == []

    def test_a_download_that_is_cut_resumes_within_the_same_call(self, case: Case, tmp_path: Path) -> None:
        case.proxy.rules.add(Cut(300_000), times=1)
        case.proxy.rules.add(ResetAfter(200_000), times=1)
        case.raw(retry=Retry(attempts=2, first_delay=0.01)).download(case.uri, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == BLOB
        assert self.asked(case) == ["", "bytes=300000-", "bytes=500000-"]

    def test_a_download_that_makes_progress_uses_up_no_attempts(self, case: Case, tmp_path: Path) -> None:
        case.proxy.rules.add(Cut(100_000))
        case.raw(retry=Retry(attempts=2, first_delay=0.001)).download(case.uri, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == BLOB and len(self.asked(case)) == 11

    def test_a_download_without_progress_fails_after_its_attempts(self, case: Case, tmp_path: Path) -> None:
        case.proxy.rules.add(Cut(100_000), times=1)
        case.proxy.rules.add(Reset())
        with pytest.raises(StoreNotAvailable):
            case.raw().download(case.uri, tmp_path / "out")
        assert len(self.asked(case)) == 3
        case.proxy.clear()
        case.raw().download(case.uri, tmp_path / "out")  # goes on where that ended
        assert self.asked(case) == ["bytes=100000-"] and (tmp_path / "out").read_bytes() == BLOB

    def test_a_partial_download_of_another_version_is_fetched_from_the_start(self, case: Case, tmp_path: Path) -> None:
        self.part(case, tmp_path / "out")
        other = bytes(reversed(BLOB))
        case.s3.put(case.bucket, case.key, other)
        HTTPRaw().download(self.url(case), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == other and self.asked(case) == ["bytes=400000-", ""]

    def test_a_partial_download_of_another_url_is_not_resumed(self, case: Case, tmp_path: Path) -> None:
        self.part(case, tmp_path / "out")
        case.s3.put(case.bucket, "other", b"another blob")
        HTTPRaw().download(f"{case.proxy.url}/{case.bucket}/other", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"another blob" and self.asked(case) == [""]

    def test_a_resumption_answered_with_another_range_starts_again(self, case: Case, tmp_path: Path) -> None:
        self.part(case, tmp_path / "out")
        etag = case.s3.client().head_object(Bucket=case.bucket, Key=case.key)["ETag"]
        wrong = Answer(206, BLOB[:100], {"ETag": etag, "Content-Range": f"bytes 0-99/{len(BLOB)}"})
        case.proxy.rules.add(wrong, times=1)
        HTTPRaw().download(self.url(case), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == BLOB and self.asked(case) == ["bytes=400000-", ""]

    @pytest.mark.parametrize("name", ["partial", "origin"])
    def test_a_damaged_partial_file_is_discarded(self, case: Case, tmp_path: Path, name: str) -> None:
        self.part(case, tmp_path / "out")
        [path] = tmp_path.glob(f".bitstore-*.{name}")
        path.write_bytes(b"\0" * path.stat().st_size)  # as after a power cut
        store = Sha1Store(HTTPRaw(), f"{case.proxy.url}/{case.bucket}/large/")
        store.download(SHA1, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == BLOB
        assert self.asked(case)[-1] == "" and leftovers(tmp_path) == []

    def test_a_partial_file_that_is_whole_needs_no_request(self, case: Case, tmp_path: Path) -> None:
        """Killed when all bytes had come, and before they had their name."""
        self.part(case, tmp_path / "out", len(BLOB) - 1)
        [path] = tmp_path.glob(".bitstore-*.partial")
        path.write_bytes(BLOB)
        HTTPRaw().download(self.url(case), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == BLOB and self.asked(case) == []

    def test_two_downloads_to_one_file_do_not_disturb_each_other(self, case: Case, tmp_path: Path) -> None:
        out = tmp_path / "out"
        hold = Hold()
        rule = case.proxy.rules.add(hold)
        errors: list[BaseException] = []

        def fetch() -> None:
            try:
                HTTPRaw().download(self.url(case), out)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=fetch) for _ in range(4)]
        for thread in threads:
            thread.start()
        rule.wait_hits(4)
        hold.release()
        for thread in threads:
            thread.join(30)
        assert not errors and out.read_bytes() == BLOB and leftovers(tmp_path) == []

    def test_a_download_out_of_time_leaves_its_part_for_the_next(self, case: Case, tmp_path: Path) -> None:
        case.proxy.rules.add(Stall(300_000), times=1)
        with pytest.raises(StoreNotAvailable, match=r"no answer within 1(\.0)? s"):
            case.raw().download(case.uri, tmp_path / "out", timeout=1)
        case.raw().download(case.uri, tmp_path / "out")
        assert self.asked(case) == ["", "bytes=300000-"] and (tmp_path / "out").read_bytes() == BLOB


def test_transfers_leave_no_reference_cycles(case: Case) -> None:
    """Reference cycles in the data plane would keep large blobs in memory after their use."""
    raw = case.raw()
    raw.get(case.uri)
    gc.collect()

    def lookups() -> list[Any]:
        return [each for each in gc.get_objects() if isinstance(each, (Task, Found))]

    of_others = {id(each): each for each in lookups()}  # that earlier tests left; held, so that no id is used again
    gc.disable()
    try:
        assert raw.get(case.uri) == BLOB
        assert [blob.data == BLOB for blob in raw.get_many([case.uri])] == [True]
        wait_until(lambda: not [each for each in threading.enumerate() if each.name == "bitstore-transfer"])
        assert [each for each in lookups() if id(each) not in of_others] == []
    finally:
        gc.enable()
