"""What a source said it lacks is remembered, across processes: no second call, and never a miss for what is there."""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bitstore import (
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    InvalidURI,
    MemoryCache,
    MissLedger,
    NotFoundInStore,
    RemembersMisses,
    S3Raw,
    Sha1Composite,
    Sha1Store,
    Sha256Store,
    SharedMisses,
    Store,
    StoreNotAvailable,
)
from bitstore._support import once
from bitstore.config import ConfigError, loads
from tests.clock import HandClock
from tests.disk_troubles import in_child, mount, own_mounts
from tests.limit_workers import LimitedAPI
from tests.miss_workers import DIGESTS, folder_source, job, run, shared_in
from tests.ray_cluster import ROOT
from tests.servers import Answer, CountedAPI
from tests.stores import API, Shelf, blobs, composed, outcome, sha1

[(DIGEST, DATA)] = blobs(1).items()
DAY = 86_400.0
NOT_ALLOWED = 77


@pytest.fixture
def api() -> Iterator[CountedAPI]:
    """An API that has 70 % of the digests."""
    held = {sha1(f"{number}".encode()): f"{number}".encode() for number in range(140)}
    with CountedAPI(held) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledgers" / "misses.sqlite"


@pytest.fixture(autouse=True)
def _warnings_again() -> None:
    once.given.clear()


def missed(store: Store, digest: str) -> Exception:
    """How a lookup ends that finds nothing."""
    return outcome(lambda: store.get(digest))


def child(*args: object) -> subprocess.Popen[str]:
    """A process of `tests.miss_workers`."""
    command = [sys.executable, "-m", "tests.miss_workers", *map(str, args)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


class TestSecondRun:
    def test_the_second_run_pays_for_no_miss_again(self, api: CountedAPI, path: Path) -> None:
        for _ in range(2):
            cache = MemoryCache("1GB")
            assert run(job(api.url, MissLedger(path), cache), DIGESTS) == {"found": 140, "missing": 60, "failed": 0}
        assert {api.calls[digest] for digest in DIGESTS[140:]} == {1}
        code = (
            "import sys; from bitstore import MissLedger; from tests.miss_workers import *\n"
            f"print(run(job({api.url!r}, MissLedger({str(path)!r})), DIGESTS[140:]))"
        )
        told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert told == "{'found': 0, 'missing': 60, 'failed': 0}\n"
        assert {api.calls[digest] for digest in DIGESTS[140:]} == {1}

    def test_a_remembered_miss_says_when_and_for_how_long_it_is_known(self, path: Path) -> None:
        clock = HandClock()
        clock.now = 1_795_000_000.0  # 2026-11-18
        source = RemembersMisses(API({}), MissLedger(path, clock=clock), name="api")
        first, second = (missed(source, DIGEST) for _ in range(2))
        assert isinstance(first, NotFoundInStore) and first.why == ""
        why = "said so on 2026-11-18, remembered for 30 days"
        assert isinstance(second, NotFoundInStore) and second.why == why
        assert str(second) == f"{DIGEST}: missing in API() ({why})"
        store = composed(Shelf(), source)
        error = missed(store, DIGEST)
        assert str(error).endswith(f"(Shelf: asked just now; API: {why})")
        assert str(pickle.loads(pickle.dumps(error))) == str(copy.copy(error))
        outer = composed(store)
        assert f"Sha1Composite > API: {why})" in str(missed(outer, DIGEST))

    def test_remembered_misses_are_counted_apart(self, api: CountedAPI, path: Path) -> None:
        source = RemembersMisses(Sha1Store(HTTPRaw(), f"{api.url}/blob/"), MissLedger(path), name="web")
        store = composed(source)
        for _ in range(3):
            missed(store, DIGEST)
        (stats,) = store.stats().values()
        assert (stats.misses, stats.remembered, stats.requests, stats.failures) == (3, 2, 1, 0)
        assert "bitstore_remembered_total" in store.stats().prometheus()

    @pytest.mark.parametrize("question", ["get", "exists", "open", "download", "describe"])
    def test_every_kind_of_question_is_remembered_by_all_kinds(
        self, question: str, api: CountedAPI, path: Path, tmp_path: Path
    ) -> None:
        source = RemembersMisses(Sha1Store(HTTPRaw(), f"{api.url}/blob/"), MissLedger(path), name="web")
        ask: dict[str, Any] = {
            "get": lambda: source.get(DIGEST.upper()),
            "exists": lambda: source.exists(DIGEST),
            "open": lambda: source.open(DIGEST),
            "download": lambda: source.download(DIGEST, tmp_path / "blob"),
            "describe": lambda: source.locate(DIGEST),
        }
        requests: list[int] = []
        for name in (question, *ask):
            if name == "exists":
                assert ask[name]() is False
            elif name == "describe":
                [location] = ask[name]()
                assert location.state == "missing" and bool(location.why) is bool(requests)
            else:
                outcome(ask[name])
            requests.append(sum(api.counts.values()))
        assert requests == [requests[0]] * 6
        [miss] = source.ledger.misses()
        expected = "exists" if question == "describe" else question
        assert (miss.source, miss.digest, miss.reason, miss.expired) == ("web", DIGEST, f"answered {expected}", False)


class TestWhatEnters:
    @pytest.mark.parametrize(
        "error",
        [
            OSError("down"),
            StoreNotAvailable("api", "down"),
            InvalidDataFound("api", DIGEST),
            NotFoundInStore("api", DIGEST, why="not in the index of 06:00"),
        ],
        ids=["error", "failure", "wrong bytes", "index"],
    )
    def test_an_indefinite_answer_never_enters(self, error: Exception, path: Path) -> None:
        api = API({DIGEST: DATA}, fail=error)
        source = RemembersMisses(api, MissLedger(path), name="api")
        with pytest.raises(type(error)):
            source.get(DIGEST)
        outcome(lambda: composed(source).get(DIGEST))
        assert source.ledger.sources()[0].misses == 0
        api.fail = None
        assert source.get(DIGEST) == DATA

    def test_a_tier_that_was_passed_over_is_not_in_the_ledger(self, path: Path) -> None:
        api = API({DIGEST: DATA})
        source = RemembersMisses(api, MissLedger(path), name="api")
        outcome(lambda: composed(Shelf(fail=OSError("down")), source).get(DIGEST))
        assert api.calls == [] and composed(source).get(DIGEST) == DATA

    def test_a_miss_that_the_process_remembers_is_not_made_younger(self, path: Path) -> None:
        api = API({})
        api.remember_missing = 60
        clock = HandClock()
        source = RemembersMisses(api, MissLedger(path, clock=clock), name="api", lifetime=10)
        missed(source, DIGEST)
        clock.now += 11
        error = missed(source, DIGEST)
        assert "said so, remembered for 1 minute" in str(error)
        assert [miss.at.timestamp() for miss in source.ledger.misses()] == [1000]

    def test_options_that_take_refusals_for_absences_are_refused(self, path: Path) -> None:
        ledger = MissLedger(path)
        for raw in (S3Raw(credentials="anonymous", forbidden_is_missing=True), HTTPRaw(missing_bucket="missing")):
            prefix = "s3://b/" if isinstance(raw, S3Raw) else "https://h/"
            with pytest.raises(ValueError, match="no definite absence"):
                RemembersMisses(Sha1Store(raw, prefix), ledger, name="b")

    def test_an_option_that_is_set_later_lets_nothing_enter(self, tmp_path: Path, path: Path) -> None:
        source = folder_source(tmp_path / "blobs", MissLedger(path))
        source.base_store.base_store.missing_folder = "missing"  # type: ignore[attr-defined]
        (tmp_path / "blobs").rmdir()
        missed(source, DIGEST)
        assert list(source.ledger.misses()) == []


class TestWithdrawn:
    def test_a_put_withdraws_the_miss_for_all_processes(self, tmp_path: Path, path: Path) -> None:
        source, other = (folder_source(tmp_path / "blobs", MissLedger(path)) for _ in range(2))
        for each in (source, other):
            missed(each, DIGEST)
        source.put(DIGEST, DATA)
        assert source.get(DIGEST) == other.get(DIGEST) == DATA

    def test_a_put_while_the_source_is_asked_is_never_lost(self, path: Path) -> None:
        """The source says no, the blob is put, and only then the answer arrives."""
        gate, asked = threading.Event(), threading.Event()

        class Slow(Shelf):
            algorithm = "sha1"

            def get(self, uri: str) -> bytes:
                try:
                    return super().get(uri)
                except NotFoundInStore:
                    asked.set()
                    assert gate.wait(60)
                    raise

            def put(self, uri: str, data: bytes) -> None:
                self.held[uri] = data

        shelf = Slow()
        source, other = (RemembersMisses(shelf, MissLedger(path), name="shelf") for _ in range(2))
        lookup = threading.Thread(target=lambda: missed(source, DIGEST))
        lookup.start()
        assert asked.wait(60)
        other.put(DIGEST, DATA)
        gate.set()
        lookup.join(60)
        assert source.get(DIGEST) == other.get(DIGEST) == DATA

    def test_a_put_that_cannot_withdraw_puts_nothing(self, tmp_path: Path, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"no database" * 1000)
        source = folder_source(tmp_path / "blobs", MissLedger(path))
        missed(source, DIGEST)
        with pytest.raises(StoreNotAvailable, match=str(path)):
            source.put(DIGEST, DATA)
        assert not any((tmp_path / "blobs").iterdir())

    def test_a_blob_that_is_found_later_withdraws_an_old_miss(self, path: Path) -> None:
        clock, api = HandClock(), API({})
        ledger = MissLedger(path, clock=clock)
        source = RemembersMisses(api, ledger, name="api", lifetime="1 day")
        missed(source, DIGEST)
        api.held[DIGEST] = DATA
        missed(source, DIGEST)
        clock.now += DAY + 1
        assert source.get(DIGEST) == DATA and list(ledger.misses()) == [] and len(api.calls) == 2

    def test_recheck_and_forget_let_the_source_be_asked_again(self, path: Path) -> None:
        api = API({})
        ledger = MissLedger(path)
        source = RemembersMisses(api, ledger, name="api")
        changes: list[tuple[Any, int]] = [
            (lambda: setattr(source, "recheck", True), 2),
            (lambda: setattr(source, "recheck", False), 3),
            (lambda: ledger.forget([DIGEST.upper()]), 4),
            (lambda: ledger.forget(source="api"), 5),
            (lambda: ledger.forget(), 6),
        ]
        for change, calls in changes:
            missed(source, DIGEST)
            change()
            missed(source, DIGEST)
            assert len(api.calls) == calls
        with pytest.raises(ValueError, match="sha1 digest"):
            ledger.forget(["abc"])
        with pytest.raises(ValueError, match="it has: api"):
            ledger.forget(source="ap")

    def test_each_source_has_a_lifetime_of_its_own(self, path: Path) -> None:
        clock = HandClock()
        ledger = MissLedger(path, clock=clock)
        apis = [API({}), API({})]
        short, long = (
            RemembersMisses(api, ledger, name=name, lifetime=lifetime)
            for api, name, lifetime in zip(apis, ("short", "long"), ("1h", "30 days"), strict=True)
        )
        for _ in range(2):
            for source in (short, long):
                missed(source, DIGEST)
            clock.now += 3601
        assert [len(api.calls) for api in apis] == [2, 1]
        assert [(each.name, each.misses, each.expired) for each in ledger.sources()] == [
            ("long", 1, 0),
            ("short", 1, 1),
        ]
        assert ledger.forget_expired() == 1 and [miss.source for miss in ledger.misses()] == ["long"]


class TestClock:
    def test_a_miss_from_the_future_is_asked_again(self, path: Path) -> None:
        clock, api = HandClock(), API({})
        source = RemembersMisses(api, MissLedger(path, clock=clock), name="api")
        clock.now = 1e9
        missed(source, DIGEST)
        clock.now = 1e9 - DAY
        for _ in range(2):
            missed(source, DIGEST)
        assert len(api.calls) == 3  # the older time is not recorded over the newer one: it costs calls, never a blob
        clock.now = 1e9 + 1
        missed(source, DIGEST)
        assert len(api.calls) == 3

    def test_a_put_withdraws_a_miss_from_the_future(self, tmp_path: Path, path: Path) -> None:
        clock = HandClock()
        clock.now = 1e9
        source = folder_source(tmp_path / "blobs", MissLedger(path, clock=clock))
        missed(source, DIGEST)
        clock.now -= 100 * DAY
        source.put(DIGEST, DATA)
        clock.now = 1e9
        assert source.get(DIGEST) == DATA

    def test_an_answer_over_which_the_clock_was_set_back_is_not_recorded(self, path: Path) -> None:
        clock = HandClock()

        class Turning(API):
            def api_get(self, digest: str) -> bytes | None:
                clock.now -= 1
                return super().api_get(digest)

        source = RemembersMisses(Turning({}), MissLedger(path, clock=clock), name="api")
        missed(source, DIGEST)
        assert list(source.ledger.misses()) == []


class TestTrouble:
    @pytest.mark.parametrize("damage", ["text", "another database", "cut", "later format"])
    def test_a_file_that_cannot_be_read_stops_paid_calls_and_not_free_ones(
        self, damage: str, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = MissLedger(path)
        for number in range(200):
            ledger.add(_source(ledger), sha1_bytes(number), ledger.now(), "answered get")
        ledger._here().writing.close()
        ledger._here().reading.close()
        if damage == "text":
            path.write_bytes(b"this is no database" * 100)
        elif damage == "another database":
            path.unlink()
            with sqlite3.connect(path) as db:
                db.execute("CREATE TABLE other (x)")
        elif damage == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 2")
        api, shelf = API({DIGEST: DATA}), Shelf({DIGEST: DATA})
        shelf.algorithm = "sha1"  # type: ignore[attr-defined]
        paid = composed(RemembersMisses(api, MissLedger(path), name="x"))
        assert str(path) in str(outcome(lambda: [paid.get(sha1(f"{number}".encode())) for number in range(200)]))
        assert api.calls == []
        free = composed(RemembersMisses(shelf, MissLedger(path), name="x"))
        assert free.get(DIGEST) == DATA
        missed(free, sha1(b"3"))
        assert str(path) in caplog.text

    @pytest.mark.parametrize("kind", ["folder", "pipe", "file in the way", "device"])
    def test_a_path_that_cannot_be_a_ledger_is_named(self, kind: str, tmp_path: Path, path: Path) -> None:
        if kind == "folder":
            path.mkdir(parents=True)
        elif kind == "pipe":
            path.parent.mkdir()
            os.mkfifo(path)
        elif kind == "device":
            path = Path("/dev/full")
        else:
            path.parent.touch()
        api = API({DIGEST: DATA})
        error = missed(RemembersMisses(api, MissLedger(path), name="api"), DIGEST)
        assert isinstance(error, StoreNotAvailable) and str(path) in str(error) and api.calls == []

    def test_random_damage_makes_no_miss_of_what_is_there(self, path: Path) -> None:
        """Blobs that the source has, of which some were missing once: an answer, or an error that names the file."""
        held = blobs(40)
        api = API({})
        source = RemembersMisses(api, MissLedger(path), name="api")
        for digest in [*list(held)[:20], *DIGESTS]:
            missed(source, digest)
        for digest in list(held)[:20]:
            source.ledger.withdraw(source._source, bytes.fromhex(digest), must=True)
        for file in (source.ledger._here().reading, source.ledger._here().writing):
            file.close()
        whole, chance, wrong = path.read_bytes(), random.Random(7), 0
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(chance.choice((1, 8, 64))):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            for beside in path.parent.iterdir():
                beside.unlink()
            path.write_bytes(damaged)
            store = RemembersMisses(API(held), MissLedger(path), name="api")
            for digest in chance.sample(list(held), 8):
                try:
                    assert store.get(digest) == held[digest]
                except NotFoundInStore as error:
                    pytest.fail(f"damage made a miss: {error}")
                except StoreNotAvailable as error:
                    wrong += str(path) in str(error)
        assert wrong > 20

    def test_a_withdrawal_in_the_place_of_misses_is_damage(self, path: Path) -> None:
        """Such as after a bit of the number of a page has turned."""
        clock, api = HandClock(), API({DIGEST: DATA})
        source = RemembersMisses(api, MissLedger(path, clock=clock), name="api")
        missed(source, DIGESTS[0])
        source.ledger.withdraw(source._source, bytes.fromhex(DIGEST), must=True)
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA writable_schema = ON")
            pages = "(SELECT rootpage FROM sqlite_master WHERE name = 'void')"
            db.execute(f"UPDATE sqlite_master SET rootpage = {pages} WHERE name = 'miss'")
        db.close()
        clock.now += 2 * DAY
        error = missed(RemembersMisses(api, MissLedger(path, clock=clock), name="api"), DIGEST)
        assert isinstance(error, StoreNotAvailable) and "is damaged" in str(error)

    def test_two_sources_under_one_name_are_told_apart(self, path: Path) -> None:
        class Other(API):
            pass

        ledger = MissLedger(path)
        outcome(lambda: RemembersMisses(API({}), ledger, name="api").get(DIGEST))
        other = Other({DIGEST: DATA})
        error = outcome(lambda: RemembersMisses(other, MissLedger(path), name="api").get(DIGEST))
        assert "knows the source 'api' as API, and not as Other" in str(error) and other.calls == []

    @pytest.mark.skipif(sys.platform != "linux", reason="mounts of Linux")
    def test_lookups_go_on_when_the_disk_is_full(self, tmp_path: Path) -> None:
        def fill() -> int:
            if not own_mounts():
                return NOT_ALLOWED
            mount(None, tmp_path, "size=300k")
            source = RemembersMisses(API({DIGEST: DATA}), MissLedger(tmp_path / "misses.sqlite"), name="api")
            store = composed(source)
            told = [
                run(store, [sha1(f"{number}".encode()) for number in range(n, n + 500)]) for n in range(0, 5000, 500)
            ]
            assert all(each == {"found": 0, "missing": 500, "failed": 0} for each in told)
            assert store.get(DIGEST) == DATA
            known = source.ledger.sources()[0].misses
            assert 0 < known < 5000
            assert run(store, [sha1(b"0")])["missing"] == 1 and store.stats()["API"].remembered == 1
            return 0

        if in_child(fill) == NOT_ALLOWED:
            pytest.skip("no mounts of one's own here")

    @pytest.mark.skipif(sys.platform != "linux", reason="mounts of Linux")
    def test_a_ledger_that_can_only_be_read_serves(self, tmp_path: Path, path: Path) -> None:
        known = RemembersMisses(API({}), MissLedger(path), name="api")
        missed(known, DIGEST)
        known.ledger._here().reading.close()
        known.ledger._here().writing.close()

        def read_only() -> int:
            if not own_mounts():
                return NOT_ALLOWED
            mount(path.parent, path.parent, "ro")
            api = API({})
            source = RemembersMisses(api, MissLedger(path), name="api", lifetime="1 day")
            for _ in range(2):
                missed(source, DIGEST)
                missed(source, sha1(b"new"))
            assert api.calls == [sha1(b"new")] * 2
            with pytest.raises(StoreNotAvailable, match="cannot be written"):
                source.ledger.forget()
            return 0

        if in_child(read_only) == NOT_ALLOWED:
            pytest.skip("no mounts of one's own here")


class TestProcesses:
    def test_a_new_ledger_is_made_by_many_at_once(self, tmp_path: Path) -> None:
        """SQLite waits for no lock where it changes how a file is written."""
        for number in range(40):
            ledgers = [MissLedger(tmp_path / f"{number}.sqlite") for _ in range(6)]
            start = threading.Barrier(len(ledgers))

            def open_at_once(ledger: MissLedger, start: threading.Barrier = start) -> list[Any]:
                start.wait()
                return list(ledger.misses())

            with ThreadPoolExecutor(len(ledgers)) as pool:
                assert list(pool.map(open_at_once, ledgers)) == [[]] * len(ledgers)

    @pytest.mark.parametrize("shared", [False, True])
    def test_killed_processes_lose_no_miss_that_they_reported(
        self, shared: bool, api: CountedAPI, tmp_path: Path, path: Path
    ) -> None:
        share = tmp_path / "share" if shared else ""
        told: set[str] = set()
        for _ in range(4):
            crowd = [child("ask_until_killed", api.url, path, share) for _ in range(2)]
            for each in crowd:
                told |= {each.stdout.readline().strip() for _ in range(10)}  # type: ignore[union-attr]
            for each in crowd:
                os.kill(each.pid, signal.SIGKILL)
                told |= {line.strip() for line in each.communicate()[0].splitlines(keepends=True) if line[-1] == "\n"}
        counted = api.calls
        calls = {digest: counted[digest] for digest in told}  # what a killed process was asking for may come later
        if shared:
            path = tmp_path / "another node" / "misses.sqlite"
        ledger = MissLedger(path, share=shared_in(tmp_path / "share") if shared else None)
        assert run(job(api.url, ledger), sorted(told))["missing"] == len(told) >= 80
        counted = api.calls
        assert {digest: counted[digest] for digest in told} == calls

    def test_a_kill_never_makes_a_miss_of_a_blob_that_is_there(self, tmp_path: Path, path: Path) -> None:
        folder = tmp_path / "blobs"
        for number in range(6):
            process = child("put_until_killed", folder, path)
            for _ in range(10 + number):
                process.stdout.readline()  # type: ignore[union-attr]
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        there = {file.name: file.read_bytes() for file in folder.iterdir() if len(file.name) == 40}
        assert len(there) > 20
        store = composed(folder_source(folder, MissLedger(path)))
        assert {blob.uri: blob.data for blob in store.get_many(there)} == there

    def test_a_forked_child_uses_the_ledger_beside_its_parent(self, path: Path) -> None:
        source = RemembersMisses(API({}), MissLedger(path), name="api")
        missed(source, DIGESTS[0])

        def in_fork() -> None:
            missed(source, DIGESTS[0])
            missed(source, DIGESTS[1])
            assert source.base_store.calls == DIGESTS[:2]  # type: ignore[attr-defined]

        in_child(in_fork)
        for digest in DIGESTS[:2]:
            missed(source, digest)
        assert source.base_store.calls == DIGESTS[:1]  # type: ignore[attr-defined]


class TestShare:
    def test_a_node_knows_what_an_earlier_one_was_told(self, api: CountedAPI, tmp_path: Path) -> None:
        for node in ("a", "b"):
            ledger = MissLedger(tmp_path / node / "misses", share=shared_in(tmp_path / "share"))
            assert run(job(api.url, ledger), DIGESTS[140:])["missing"] == 60
        assert sum(api.counts.values()) == 60
        parts = list((tmp_path / "share").iterdir())
        assert len(parts) == 1  # earlier versions of a part are deleted

    @pytest.mark.parametrize("service", ["s3", "gcs"])
    def test_buckets_serve_as_shares(self, service: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        server = request.getfixturevalue(service)
        name = server.create_bucket()
        raw: Any = (
            S3Raw(server.admin.session, endpoint_url=server.endpoint_url)
            if service == "s3"
            else GSRaw("anonymous", endpoint_url=server.url)
        )
        share = SharedMisses(raw, f"{'s3' if service == 's3' else 'gs'}://{name}/misses/")
        for node in ("a", "b"):
            source = folder_source(tmp_path / "blobs", MissLedger(tmp_path / node, share=share))
            for digest in DIGESTS[:20]:
                missed(source, digest)
            assert source.counts().remembered == (20 if node == "b" else 0)  # type: ignore[attr-defined]
        assert len(share.names()) == 1
        source.put(sha1(b"0"), b"0")
        other = folder_source(tmp_path / "blobs", MissLedger(tmp_path / "c", share=share))
        assert other.get(sha1(b"0")) == b"0" and len(other.remembered(DIGESTS[:20])) == 19

    def test_misses_from_before_there_was_a_share_are_sent(self, api: CountedAPI, tmp_path: Path, path: Path) -> None:
        run(job(api.url, MissLedger(path)), DIGESTS[140:])
        run(job(api.url, MissLedger(path, share=shared_in(tmp_path / "share"))), DIGESTS[140:141])
        run(job(api.url, MissLedger(tmp_path / "b", share=shared_in(tmp_path / "share"))), DIGESTS[140:])
        assert sum(api.counts.values()) == 60

    def test_a_put_withdraws_the_miss_on_other_nodes_when_they_read_again(
        self, tmp_path: Path, skipped_pauses: Any
    ) -> None:
        a, b = (
            folder_source(
                tmp_path / "blobs", MissLedger(tmp_path / node, share=shared_in(tmp_path / "share", refresh=5))
            )
            for node in "ab"
        )
        for each in (a, b):
            missed(each, DIGEST)
        a.put(DIGEST, DATA)
        assert isinstance(missed(b, DIGEST), NotFoundInStore)
        skipped_pauses.sleep(6)
        assert b.get(DIGEST) == DATA
        c = folder_source(tmp_path / "blobs", MissLedger(tmp_path / "c", share=shared_in(tmp_path / "share")))
        assert c.get(DIGEST) == DATA and list(c.ledger.misses()) == []

    def test_forgetting_reaches_other_nodes(self, tmp_path: Path, skipped_pauses: Any) -> None:
        api = API({})
        a, b = (
            RemembersMisses(
                api, MissLedger(tmp_path / node, share=shared_in(tmp_path / "share", refresh=5)), name="api"
            )
            for node in "ab"
        )
        for each in (a, b):
            missed(each, DIGEST)
        assert len(api.calls) == 1
        a.ledger.forget()
        skipped_pauses.sleep(6)
        missed(b, DIGEST)
        assert len(api.calls) == 2
        skipped_pauses.sleep(6)
        missed(a, DIGEST)
        assert len(api.calls) == 2

    def test_parts_merge_to_the_same_in_any_order(self, tmp_path: Path) -> None:
        nodes = [
            folder_source(tmp_path / "blobs", MissLedger(tmp_path / f"{n}", share=shared_in(tmp_path / "share")))
            for n in range(3)
        ]
        for number, node in enumerate(nodes):
            for digest in DIGESTS[number * 10 : number * 10 + 20]:
                missed(node, digest)
        nodes[2].ledger.forget(DIGESTS[:5])
        nodes[0].put(sha1(b"7"), b"7")
        share = shared_in(tmp_path / "share")
        names = share.names()
        told: list[Any] = []
        for order in (names, names[::-1], names + names):
            ledger = MissLedger(tmp_path / f"merged {len(told)}")
            for name, entries in share.read(order):
                ledger._here().writing.write(entries or [], part=("share", name))
            told.append([(miss.source, miss.digest, miss.at) for miss in ledger.misses()])
        assert told[0] == told[1] == told[2] and {digest for _, digest, _ in told[0]} == {*DIGESTS[5:40]} - {sha1(b"7")}

    def test_a_share_that_cannot_be_read_at_the_start_stops_paid_calls(self, api: CountedAPI, tmp_path: Path) -> None:
        share = SharedMisses(HTTPLike(api.url), "http://h/misses/")
        (source,) = job(api.url, MissLedger(tmp_path / "m", share=share)).sources
        with pytest.raises(StoreNotAvailable, match="out of order"):
            source.get(DIGESTS[199])
        assert sum(api.counts.values()) == 0

    def test_a_damaged_part_is_named(self, api: CountedAPI, tmp_path: Path) -> None:
        (tmp_path / "share").mkdir()
        part = tmp_path / "share" / "x-000000-000001.misses.parquet"
        part.write_bytes(b"PAR1 damaged")
        store = job(api.url, MissLedger(tmp_path / "m", share=shared_in(tmp_path / "share")))
        assert part.name in str(missed(store, DIGESTS[199]))
        assert sum(api.counts.values()) == 0
        part.unlink()
        assert run(store, DIGESTS[199:])["missing"] == 1

    def test_a_share_that_cannot_be_written_costs_a_warning(
        self, api: CountedAPI, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        share = tmp_path / "share"
        share.mkdir()
        store = job(api.url, MissLedger(tmp_path / "m", share=shared_in(share)))
        run(store, DIGESTS[140:141])
        for part in share.iterdir():
            part.unlink()
        share.rmdir()
        share.write_bytes(b"a file in the way")
        assert run(store, DIGESTS[141:143]) == {"found": 0, "missing": 2, "failed": 0}
        assert "not remembered for now" in caplog.text
        folder = folder_source(tmp_path / "blobs", MissLedger(tmp_path / "m", share=shared_in(share)))
        with pytest.raises(StoreNotAvailable):  # other nodes would go on to call the blob missing
            folder.put(DIGEST, DATA)
        assert not any((tmp_path / "blobs").iterdir())
        share.unlink()
        share.mkdir()
        run(store, DIGESTS[143:144])
        other = job(api.url, MissLedger(tmp_path / "n", share=shared_in(share)))
        assert run(other, DIGESTS[140:144])["missing"] == 4 and sum(api.counts.values()) == 4


class HTTPLike(FileRaw):
    """A raw store that takes any URL and lists nothing."""

    def __init__(self, url: str) -> None:
        super().__init__()

    def is_valid(self, uri: Any) -> bool:
        return True

    def list_steps(self, uri: str, **options: Any) -> Any:
        raise StoreNotAvailable(self, "out of order")
        yield


class TestWrapped:
    def test_the_store_shows_what_it_remembers_and_where(self, path: Path) -> None:
        source = RemembersMisses(API({}), MissLedger(path), name="api", lifetime="12h")
        shown = f"RemembersMisses(API(), MissLedger({str(path)!r}), name='api', lifetime='12 hours')"
        assert repr(source) == shown
        store = composed(source)
        assert shown in repr(store)
        facts = store.outline().parts[0].facts
        assert facts["misses in"] == str(path) and facts["remembered for"] == "12 hours" and facts["paid"] is True

    def test_a_wrapped_source_keeps_its_price_its_checks_and_its_name(self, path: Path) -> None:
        api = LimitedAPI("http://127.0.0.1:9", None)
        source = RemembersMisses(api, MissLedger(path), name="api")
        store = composed(Shelf(fail=OSError("down")), source)
        assert source.paid and source.verify and store.tiers[1].paid and store.tiers[1].name == "LimitedAPI"
        assert "not asked" in str(missed(store, DIGEST))
        copied = pickle.loads(pickle.dumps(source))
        assert repr(copied) == repr(source) and copied.ledger.path == str(path)
        source.verify = False
        assert api.verify is False

    @pytest.mark.parametrize(
        ("make", "error", "text"),
        [
            (lambda ledger: RemembersMisses(Sha1Composite(), ledger, name="x"), TypeError, "is a composite"),
            (lambda ledger: RemembersMisses(Shelf(), ledger, name="x"), TypeError, "algorithm="),
            (lambda ledger: RemembersMisses(API({}), ledger, name=" "), ValueError, "needs a name"),
            (lambda _: RemembersMisses(API({}), anything("path"), name="x"), TypeError, "MissLedger"),
            (lambda ledger: RemembersMisses(anything(API), ledger, name="x"), TypeError, "expected a source"),
            (lambda ledger: RemembersMisses(API({}), ledger, name="x", lifetime="soon"), ValueError, "'30 days' or"),
            (lambda ledger: RemembersMisses(API({}), ledger, name="x", lifetime=0), ValueError, "lifetime=0"),
            (lambda ledger: RemembersMisses(API({}), ledger, name="x", algorithm="crc"), ValueError, "crc"),
            (lambda ledger: MissLedger(""), ValueError, "name a file"),
            (lambda ledger: MissLedger("x", share=anything("s3://b/")), TypeError, "SharedMisses"),
            (lambda ledger: MissLedger("x", **anything({"shared": 1})), TypeError, "share"),
            (lambda ledger: SharedMisses(API({}), "s3://b/"), TypeError, "list and write"),
            (lambda ledger: SharedMisses(FileRaw(), "s3://b/"), ValueError, "prefix="),
            (lambda ledger: SharedMisses(FileRaw(), "file:///b"), ValueError, "ends in /"),
            (lambda ledger: SharedMisses(FileRaw(), "file:///b/", refresh=0), ValueError, "refresh"),
        ],
    )
    def test_an_option_that_cannot_be_is_refused(
        self, make: Any, error: type[Exception], text: str, path: Path
    ) -> None:
        with pytest.raises(error, match=text):
            make(MissLedger(path))

    def test_a_source_says_which_digests_its_ledger_knows(self, path: Path) -> None:
        source = RemembersMisses(API({}), MissLedger(path), name="api")
        missed(source, DIGESTS[0])
        assert source.remembered([DIGESTS[0].upper(), DIGESTS[1]]) == {DIGESTS[0]}
        with pytest.raises(InvalidURI):
            source.remembered(["abc"])
        assert source.base_store.calls == DIGESTS[:1]  # type: ignore[attr-defined]

    def test_a_source_without_put_cannot_be_put_into(self, path: Path) -> None:
        source = RemembersMisses(API({}), MissLedger(path), name="api")
        with pytest.raises(NotImplementedError, match="API does not implement"):
            source.put(DIGEST, DATA)

    def test_sources_of_other_digests_share_a_ledger(self, tmp_path: Path, path: Path) -> None:
        (tmp_path / "blobs").mkdir()
        ledger = MissLedger(path)
        url = f"file://{tmp_path}/blobs/"
        for make, digest in ((Sha1Store, DIGEST), (Sha256Store, "ab" * 32)):
            source: Store = RemembersMisses(make(FileRaw(), url), ledger, name="folder")
            missed(source, digest)
        assert [(miss.algorithm, len(miss.digest)) for miss in ledger.misses()] == [("sha1", 40), ("sha256", 64)]

    def test_a_failure_of_the_server_is_asked_again(self, api: CountedAPI, path: Path) -> None:
        store = job(api.url, MissLedger(path))
        api.rules.add(Answer(500, b""), times=1)
        assert "500" in str(missed(store, DIGESTS[0]))
        assert store.get(DIGESTS[0]) == b"0"


class Empty(API):
    """An API without blobs, for configurations."""

    made: ClassVar[list[Empty]] = []

    def __init__(self) -> None:
        super().__init__({})
        Empty.made.append(self)


class TestConfiguration:
    def test_a_file_gives_a_source_a_ledger(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        text = """
algorithm = "sha1"
[[tier]]
name = "api"
python = "tests.test_misses:Empty"
misses = { path = "ledger/misses.sqlite", lifetime = "12h", share = "file://SHARE/" }
[[tier]]
name = "other"
python = "tests.test_misses:Empty"
misses = { path = "ledger/misses.sqlite", name = "account", share = { url = "file://SHARE/" } }
"""
        text = text.replace("SHARE", str(tmp_path / "share"))
        Empty.made.clear()
        for _ in range(2):
            store = loads(text)
            missed(store, DIGEST)
        assert [api.calls for api in Empty.made] == [[DIGEST], [DIGEST], [], []]
        first, second = store.sources
        assert first.verify is True and first.name == "api" and second.name == "account"  # type: ignore[attr-defined]
        assert first.ledger.path == str(tmp_path / "ledger/misses.sqlite")  # type: ignore[attr-defined]
        assert list((tmp_path / "share").iterdir()) != []

    @pytest.mark.parametrize(
        ("lines", "error"),
        [
            ('misses = { path = "m" }\ncache = true', "misses belongs to a source"),
            ('misses = { pth = "m" }', "did you mean 'path'"),
            ('misses = { path = "m", lifetime = "soon" }', "lifetime='soon'"),
            ('misses = { path = "m", lifetime = -1 }', "lifetime=-1"),
            ('misses = { path = "m", share = "s3://bucket/misses" }', "ends in /"),
            ('misses = { path = "m", share = { url = "s3://b/m/", verify = true } }', "misses.share: 'verify' has no"),
            ('misses = { path = "m", share = { profile = "x" } }', "misses.share"),
            ('misses = { path = "m", share = "https://host/m/" }', "cannot be shared"),
            ('misses = { path = "" }', "misses.path is empty"),
            ('misses = "m"', "misses"),
            ('misses = { path = "m" }\nforbidden_is_missing = true', "no definite absence"),
        ],
    )
    def test_a_mistake_in_the_table_is_named(self, lines: str, error: str) -> None:
        with pytest.raises(ConfigError) as caught:
            loads(f'algorithm = "sha1"\n[[tier]]\nname = "x"\nurl = "s3://b/f/"\n{lines}')
        assert error in str(caught.value) and "tier 'x'" in str(caught.value)


def anything(value: object) -> Any:
    return value


def _source(ledger: MissLedger) -> Any:
    from bitstore._misses.entries import SourceName

    return SourceName("x", "sha1")


def sha1_bytes(number: int) -> bytes:
    return bytes.fromhex(sha1(f"{number}".encode()))
