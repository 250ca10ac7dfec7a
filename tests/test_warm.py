"""Warming from one process: the set of digests, the ledger, and `bitstore warm` as people run it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from bitstore import (
    AccessDenied,
    DiskCache,
    FileRaw,
    MemoryCache,
    Sha1APISource,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Store,
)
from bitstore._support.digests import ALGORITHMS
from bitstore._warming import Ledger, LedgerError, Outcome, Warming, WarmReport, fill_here
from bitstore._warming.causes import Causes
from bitstore._warming.distinct import Distinct
from bitstore._warming.indexed import Indexes
from bitstore._warming.parts import check_target
from bitstore._warming.progress import Progress
from bitstore._warming.report import Listed
from bitstore._warming.run import numbered
from bitstore.index import IndexBuilder
from tests.clock import HandClock
from tests.servers import Delay, FaultProxy, MakeProxy, SeaweedS3, s3_error
from tests.stores import as_cache, as_source, composed

SHA1 = ALGORITHMS["sha1"]


def digest_of(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def made(what: str, count: int) -> dict[str, bytes]:
    return {hashlib.sha1(data).hexdigest(): data for data in (f"{what} {n}".encode() * 9 for n in range(count))}


class Noted(Sha1APISource):
    """A paid API in this process."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        super().__init__()
        self.blobs = blobs
        self.calls: Counter[str] = Counter()

    def api_get(self, digest: str) -> bytes | None:
        self.calls[digest] += 1
        return self.blobs.get(digest)


class Shelf:
    """A folder as a bucket, a disk cache above it, and an API with a cache of its own below."""

    def __init__(self, folder: Path, *, max_size: str = "1GB") -> None:
        self.on_shelf, self.in_api = made("on the shelf", 60), made("only the API has", 20)
        self.absent = [digest_of(f"absent {n}") for n in range(5)]
        for name in ("shelf", "paid"):
            (folder / name).mkdir()
        for digest, data in self.on_shelf.items():
            (folder / "shelf" / digest).write_bytes(data)
        self.folder = folder
        self.api = Noted(self.in_api)
        self.disk = DiskCache(folder / "disk", max_size)
        self.store = Sha1Composite()
        self.store.append_cache(self.disk, name="disk")
        self.store.append_source(Sha1Store(FileRaw(), f"{(folder / 'shelf').as_uri()}/"), name="shelf")
        self.store.append_cache(Sha1Cache(FileRaw(), f"{(folder / 'paid').as_uri()}/"), name="paid for")
        self.store.append_source(self.api, name="api")

    def all(self) -> list[str]:
        return [*self.on_shelf, *self.in_api, *self.absent]

    def warm(self, texts: Any, *, dry_run: bool = False, **options: Any) -> WarmReport:
        warming = Warming(algorithm=SHA1, target="here", store_id="this", dry_run=dry_run, show=False, **options)
        fill = fill_here(self.store, dry_run=dry_run, timeout=60, in_flight=None)
        return warming.run(numbered(texts, SHA1), fill)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


# ---------------------------------------------------------------------------- the set of digests


HELD = (1 << 26, 20_000, 1_500)  # bytes in memory: all, some, and so few that parts are taken apart


@pytest.mark.parametrize(("name", "numpy"), [*((name, True) for name in ALGORITHMS), ("sha1", False)])
def test_distinct_yields_each_digest_once(monkeypatch: pytest.MonkeyPatch, name: str, numpy: bool) -> None:
    if not numpy:
        monkeypatch.setattr("bitstore._warming.distinct._numpy", lambda: None)
    chance, algorithm = random.Random(7), ALGORITHMS[name]
    pool = [algorithm.of(chance.randbytes(4)) for _ in range(1500)]
    pool += ["ab" * 5 + digest[10:] for digest in pool[:500]]  # that begin alike, and some that end with zeros
    pool += [f"{number:02x}".rjust(4, "f").ljust(algorithm.length, "0") for number in range(64)]
    given, first, second = (chance.choices(pool, k=count) for count in (5_000, 800, 800))
    left = set(given) - set(first) - set(second)
    dropped = [len(set(given) & set(first)), len((set(given) - set(first)) & set(second))]
    orders = set[tuple[str, ...]]()
    for held, others in ((held, others) for held in HELD for others in (HELD[0], HELD[2])):
        mine = Distinct(algorithm, given, held=held)
        assert len(mine) == len(set(given)) and sorted(mine) == sorted(set(given))
        mine = Distinct(algorithm, given, held=held)
        assert mine.remove(Distinct(algorithm, first, held=others), Distinct(algorithm, second, held=others)) == dropped
        assert len(mine) == len(left) and set(mine) == left
        orders.add(tuple(mine))
        mine.add(first[0])
        mine.add(first[0])
        assert len(mine) == len(left | {first[0]})
        mine.close()
        assert list(mine) == []
    assert len(orders) == 1  # whatever was put aside


def test_distinct_digests_that_follow_each_other_lie_apart() -> None:
    found = Distinct(SHA1, (digest_of(str(n)) for n in range(20_000)))
    listed = list(found)
    assert all(len({digest[:2] for digest in listed[start : start + 200]}) == 200 for start in range(0, 5000, 256))


def test_a_warming_holds_as_much_of_a_long_list_as_of_a_short_one(tmp_path: Path) -> None:
    """The list has each digest three times, far apart; the driver's peak does not grow with it."""

    def peak(count: int) -> int:
        warming = Warming(algorithm=SHA1, target="here", store_id="s", show=False, folder=tmp_path, held=1 << 14)
        asked = 0

        def fill(digests: Iterator[str]) -> Iterator[Outcome]:
            nonlocal asked
            for digest in digests:
                asked += 1
                yield Outcome(digest, "found", "canned", 1)

        tracemalloc.start()
        try:
            report = warming.run(numbered((digest_of(str(n % count)) for n in range(3 * count)), SHA1), fill)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (report.given, report.distinct, report.found, asked) == (3 * count, count, count, count)
        assert report.complete and list(tmp_path.iterdir()) == []
        return most

    short, long = peak(4_000), peak(24_000)
    assert long < short + 400_000, (short, long)  # its digests have 480 KB, and thrice that with repetitions


SMALL_DISK = """
import resource, sys
from bitstore._support.digests import ALGORITHMS
from bitstore._warming import Warming
from bitstore._warming.run import numbered

sha1, folder, most = ALGORITHMS["sha1"], sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
warming = Warming(algorithm=sha1, target="here", store_id="s", show=False, folder=folder, held=1 << 12)
report = warming.run(numbered((sha1.of(b"%d" % number) for number in range(4000)), sha1), lambda digests: iter(()))
print(report.complete, report.exit_code, report.stopped)
"""


@pytest.mark.parametrize(("name", "most"), [("gone", 1 << 20), ("", 20_000), ("", 79_000)])
def test_a_warming_without_room_for_its_digests_reports_the_folder(tmp_path: Path, name: str, most: int) -> None:
    """The folder is not there; or files end while the list is read, or sorted."""
    words = [sys.executable, "-c", SMALL_DISK, str(tmp_path / name), str(most)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("False 2 digests that do not fit into memory cannot be put aside into"), done
    assert str(tmp_path / name) in done.stdout and "TMPDIR" in done.stdout
    assert done.stderr == "" and list(tmp_path.iterdir()) == []


def test_a_long_list_shows_how_far_it_is_read() -> None:
    clock, lines = HandClock(), list[str]()
    listed = Listed(expected=3_000)
    progress = Progress("warm: reading the list", listed, say=lines.append, unit="entries", clock=clock)
    listed.given = 1_000
    clock.now += 10
    progress.look()
    assert lines == ["warm: reading the list: 1,000 of 3,000 (33 %), 100 entries/s, 0:00:20 left"]


# ---------------------------------------------------------------------------- the ledger


def rows_of(folder: Path) -> list[tuple[Any, ...]]:
    table = pyarrow.parquet.read_table(folder)
    assert table.column_names == ["digest", "outcome", "tier", "bytes", "error"]
    return [tuple(row.values()) for row in table.to_pylist()]


def test_the_ledger_of_two_runs_has_the_outcomes_of_both(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    outcomes = [
        Outcome("a" * 40, "found", "bucket", 12),
        Outcome("b" * 40, "found", "bucket"),
        Outcome("c" * 40, "missing"),
        Outcome("d" * 40, "failed", error="it is down"),
        Outcome("no digest", "invalid", error="entry 5"),
    ]
    for part in (outcomes[:3], outcomes[3:]):
        ledger = Ledger(path, store="s", target="here", clock=HandClock())
        for outcome in part:
            ledger.add(outcome)
        ledger.flush()
    assert rows_of(path) == [
        ("a" * 40, "found", "bucket", 12, None),
        ("b" * 40, "found", "bucket", None, None),
        ("c" * 40, "missing", None, None, None),
        ("d" * 40, "failed", None, None, "it is down"),
        ("no digest", "invalid", None, None, "entry 5"),
    ]
    assert list(ledger.known("found")) == ["a" * 40, "b" * 40]
    assert list(ledger.known("missing")) == ["c" * 40]
    assert list(ledger.known("invalid")) == ["no digest"]


def test_the_ledger_writes_a_part_each_second_at_first_and_fewer_later(tmp_path: Path) -> None:
    clock = HandClock()
    ledger = Ledger(tmp_path, store="s", target="here", clock=clock)

    def parts_after(pause: float) -> int:
        ledger.add(Outcome("a" * 40, "missing"))
        clock.now += pause
        ledger.flush_when_due()
        return len(list(tmp_path.iterdir()))

    assert [parts_after(pause) for pause in (0.9, 0.2, 0.9, 0.2)] == [1, 2, 2, 3]
    clock.now += 600  # by now 30 seconds are between two parts
    assert [parts_after(pause) for pause in (29, 1, 0.5, 2)] == [4, 4, 4, 5]
    ledger.flush()
    ledger.flush()  # nothing more to write: no file more
    assert len(list(tmp_path.iterdir())) == 5


def test_the_ledger_of_another_warming_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger(path, store="s", target="here")
    with pytest.raises(LedgerError, match=r"that of another store \(s, not t\)"):
        Ledger(path, store="t", target="here")
    with pytest.raises(LedgerError, match=r"that of another target \(here, not owner\)"):
        Ledger(path, store="s", target="owner")
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="is a file: a ledger is a folder"):
        Ledger(tmp_path / "file", store="s", target="here")
    with pytest.raises(LedgerError, match="is no ledger: there are other files in it"):
        Ledger(tmp_path, store="s", target="here")
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), path / "part-000009-x.parquet")
    with pytest.raises(LedgerError, match=r"part-000009-x\.parquet is no part of a ledger"):
        Ledger(path, store="s", target="here")
    (path / "part-000009-x.parquet").write_bytes(b"PAR1 and not more")
    with pytest.raises(LedgerError, match=r"cannot read the ledger's part .*part-000009-x\.parquet"):
        Ledger(path, store="s", target="here")


def test_the_ledger_deletes_the_drafts_of_killed_runs(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger", store="s", target="here")
    old, new = (tmp_path / "ledger" / f".bitstore-{n}.tmp" for n in (1, 2))
    for draft in (old, new):
        draft.write_bytes(b"")
    os.utime(old, (time.time() - 9999,) * 2)
    Ledger(tmp_path / "ledger", store="s", target="here")
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("name", ["part-x-1.parquet", "part-7.parquet", "part-000009-f.parquet"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "parquet"])
def test_the_ledger_refuses_other_entries_named_like_its_parts(tmp_path: Path, name: str, kind: str) -> None:
    Ledger(tmp_path, store="s", target="here")
    if kind == "folder":
        (tmp_path / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / name)
    with pytest.raises(LedgerError, match=name):
        Ledger(tmp_path, store="s", target="here")


# ---------------------------------------------------------------------------- warming in one process


def test_a_warming_fetches_each_digest_once_and_nothing_in_a_second_run(shelf: Shelf) -> None:
    texts = [*shelf.all(), *(f"sha1://{digest.upper()}" for digest in shelf.all()), "nonsense", None, "nonsense"]
    ledger = shelf.folder / "ledger"
    report = shelf.warm(texts, ledger=ledger)
    assert (report.given, report.distinct, report.invalid) == (len(texts), 85, 3)
    assert (report.found, report.missing, report.failed, report.complete) == (80, 5, 0, True)
    assert report.by_tier == {"shelf": 60, "api": 20}
    assert report.bytes == sum(map(len, [*shelf.on_shelf.values(), *shelf.in_api.values()]))
    assert shelf.api.calls == dict.fromkeys([*shelf.in_api, *shelf.absent], 1)
    assert all(map(shelf.disk.exists, [*shelf.on_shelf, *shelf.in_api]))
    assert Counter(row[1] for row in rows_of(ledger)) == {"found": 80, "missing": 5, "invalid": 2}
    assert "warm now: 80" in str(report) and "missing: 5" in str(report) and str(ledger) in str(report)
    assert report.exit_code == 1

    before = shelf.store.stats()["shelf"].as_dict()
    again = shelf.warm(texts, ledger=ledger)
    assert (again.settled, again.known_missing, again.found, again.exit_code) == (80, 5, 0, 1)
    assert shelf.store.stats()["shelf"].as_dict() == before
    assert sum(shelf.api.calls.values()) == 25
    assert len(rows_of(ledger)) == 87

    shelf.warm(texts, ledger=ledger, retry_missing=True)
    assert sum(shelf.api.calls.values()) == 30


def test_a_dry_run_reports_and_fetches_nothing(shelf: Shelf) -> None:
    shelf.warm([*list(shelf.on_shelf)[:10], *list(shelf.in_api)[:4]])
    DiskCache.clear(shelf.disk)
    shelf.warm(list(shelf.on_shelf)[:10])
    calls, files = sum(shelf.api.calls.values()), {path for path in shelf.folder.rglob("*") if path.is_file()}
    report = shelf.warm(shelf.all(), dry_run=True, ledger=shelf.folder / "ledger")
    assert (report.warm, report.found, report.missing, report.failed) == (10, 75, 0, 0)
    # What only the API may have would be asked of it; four are in its cache, but not yet on the disk.
    assert report.by_tier == {"shelf": 50, "paid for": 4, "api": 21}
    assert report.bytes == 0
    assert sum(shelf.api.calls.values()) == calls
    assert {path for path in shelf.folder.rglob("*") if path.is_file()} == files
    assert "already warm: 10" in str(report) and "would be fetched: 75" in str(report)


def test_a_dry_run_does_not_take_an_inner_paid_tier_for_absent(shelf: Shelf) -> None:
    whole, outer = shelf.store, Sha1Composite()
    outer.append_cache(DiskCache(shelf.folder / "outer", "1GB"), name="outer disk")
    outer.append_source(whole, name="whole")
    shelf.store = outer
    report = shelf.warm(shelf.all(), dry_run=True)
    assert (report.found, report.missing, report.by_tier) == (85, 0, {"whole": 85})
    assert sum(shelf.api.calls.values()) == 0


def test_a_failure_of_a_warming_is_reported_and_tried_again(shelf: Shelf) -> None:
    broken = next(iter(shelf.in_api))

    def refuse(digest: str) -> bytes | None:
        if digest == broken:
            raise OSError("the API is tired")
        return shelf.in_api.get(digest)

    ask, shelf.api.api_get = shelf.api.api_get, refuse  # type: ignore[method-assign]
    report = shelf.warm(shelf.all(), ledger=shelf.folder / "ledger")
    assert (report.found, report.missing, report.failed, report.exit_code) == (79, 5, 1, 2)
    assert "the API is tired" in str(report) and "with this ledger, resumes from here" in str(report)
    (row,) = [row for row in rows_of(shelf.folder / "ledger") if row[1] == "failed"]
    assert row[0] == broken and "the API is tired" in row[4]
    shelf.api.api_get = ask  # type: ignore[method-assign]
    again = shelf.warm(shelf.all(), ledger=shelf.folder / "ledger")
    assert (again.settled, again.found, again.failed) == (79, 1, 0)
    assert shelf.api.calls == {broken: 1}


def test_a_blob_that_no_cache_keeps_is_no_success_of_a_warming(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, max_size="2000B")
    big = hashlib.sha1(bytes(3000)).hexdigest()
    (tmp_path / "shelf" / big).write_bytes(bytes(3000))
    report = shelf.warm([big, next(iter(shelf.on_shelf))])
    assert (report.found, report.failed) == (1, 1)
    assert report.first_error == "disk did not keep it (it holds 2,000 bytes, and this blob has 3,000)"

    (tmp_path / "paid").rmdir()
    (tmp_path / "paid").write_text("a file where a folder was")
    paid = list(shelf.in_api)
    report = shelf.warm(paid[:3])
    assert (report.found, report.failed) == (0, 3)
    assert "paid for" in str(report.first_error)


def test_a_warming_that_is_stopped_keeps_its_ledger(shelf: Shelf) -> None:
    ledger = shelf.folder / "ledger"
    warming = Warming(algorithm=SHA1, target="here", store_id="this", ledger=ledger, show=False)

    def fill(digests: Iterator[str]) -> Iterator[Outcome]:
        yield Outcome(next(digests), "found", "shelf", 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warming.run(numbered(shelf.all(), SHA1), fill)
    assert (warming.report.found, warming.report.complete, warming.report.exit_code) == (1, False, 2)
    assert len(rows_of(ledger)) == 1
    assert shelf.warm(shelf.all(), ledger=ledger).settled == 1


def test_the_progress_shows_rates_tiers_and_time_left() -> None:
    clock, lines = HandClock(), list[str]()
    report = WarmReport(target="here", distinct=100)
    progress = Progress("warm", report, say=lines.append, clock=clock)
    for number in range(50):
        report.count(Outcome(digest_of(str(number)), "found", "shelf", 2_000_000))
        clock.now += 0.25
        progress.look()
    report.count(Outcome(digest_of("x"), "missing"))
    clock.now += 7.5
    progress.look()
    assert lines == [
        "warm: 40 of 100 (40 %), 4 blobs/s, 8.0 MB/s, shelf: 40, 0:00:15 left",
        "warm: 51 of 100 (51 %), 3 blobs/s, 5.0 MB/s, shelf: 50, missing: 1, 0:00:19 left",
    ]


def test_the_progress_prints_a_line_while_no_answer_comes() -> None:
    clock, said = HandClock(), threading.Event()
    with Progress("warm", WarmReport(target="here", distinct=9), say=lambda line: said.set(), clock=clock):
        clock.now += 11
        assert said.wait(60)


def test_a_warming_stops_where_everything_fails_for_one_cause(shelf: Shelf) -> None:
    def refuse(digest: str) -> bytes | None:
        raise AccessDenied("the API", f"no right to read {digest}")  # a refusal, for which no lookup waits

    shelf.api.api_get = refuse  # type: ignore[method-assign]
    digests = [digest_of(f"only there {number}") for number in range(500)]
    report = shelf.warm(digests, max_failures=20, ledger=shelf.folder / "ledger")
    assert (report.failed, report.complete, report.exit_code) == (20, False, 2)
    assert "20 lookups in a row failed for one cause" in str(report.stopped)
    first = rows_of(shelf.folder / "ledger")[0][0]
    (cause,) = (line for line in str(report).splitlines() if line.startswith("  20 x api: "))
    assert f"no right to read {first}" in cause and cause.endswith(f"(the first: {first})")
    assert shelf.warm(digests).failed == 500


@pytest.mark.parametrize(
    "text",
    [
        "b: s3://b/{digest}: the body ended after {n} of {size} bytes",
        "b: expected {size} bytes, got {n}",
        "b: 1,{n:03} bytes are more than max_size",
        "b: [Errno 5] Input/output error: '/data/{digest:.2}/{digest}'",
        "b: HTTP 403 (request id {token})",
        "b: refused at 2026-11-27T10:00:{n:02}.5Z, try in {n} s",
        "b: no answer (attempt {n} of 9)",
    ],
)
def test_causes_of_failures_ignore_parts_that_differ_between_blobs(text: str) -> None:
    causes = Causes()
    for n in range(1, 40):
        digest = digest_of(str(n))
        token = digest_of(f"token {n}")[:20].upper()
        causes.add(digest, text.format(digest=digest, n=n, size=n * 1000, token=token))
    assert len(list(causes)) == 1
    causes.add("0" * 40, "b: HTTP 404")
    causes.add("0" * 40, "b: HTTP 500")
    assert len(list(causes)) == 3


def test_a_long_cause_keeps_its_advice_and_shows_where_it_is_cut() -> None:
    causes = Causes()
    causes.add("0" * 40, f"b: 403 {'x' * 400}: grant it")
    causes.add("1" * 40, "y" * 600)
    assert [cause.error[-8:] for cause in causes] == ["grant it", "yyyyy..."]


def test_an_input_that_cannot_be_warmed_is_reported(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="only a composite of digests"):
        check_target(shelf.disk, "here")
    bare = composed(as_cache(MemoryCache("1MB"), "memory"))
    with pytest.raises(
        ValueError, match=r"nothing to fill: the store has no cache that outlives this process \(it has: memory"
    ):
        check_target(bare, "here")
    below = composed(as_source(shelf.api, "api"), as_cache(shelf.disk))
    with pytest.raises(ValueError, match="'api' costs money, and no cache that outlives this process keeps"):
        check_target(below, "here")
    assert check_target(shelf.store, "shared") is SHA1


def test_a_warming_that_trusts_indexes_asks_for_what_they_lack(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    listed, path = list(shelf.in_api), tmp_path / "index"

    def opened(**options: Any) -> Indexes:
        store = Sha1Composite()
        cache = Sha1Cache(FileRaw(), f"{(tmp_path / 'paid').as_uri()}/", **options)
        store.append_cache(cache, name="bucket")
        store.append_source(shelf.api, name="api")
        shelf.store = store
        return Indexes(store, "here")

    def build(digests: list[str], **options: Any) -> None:
        with IndexBuilder("sha1") as builder:
            builder.add(digests)
            builder.write(path, **options)

    build(listed[:15])
    report = shelf.warm([*listed, *listed[:5]], indexes=opened(index=path))
    assert (report.distinct, report.indexed, report.found, report.complete) == (20, 15, 5, True)
    assert shelf.api.calls == dict.fromkeys(listed[15:], 1)
    assert "15 of them in the indexes of the caches, and not asked for" in str(report)
    opened(index=path)
    assert shelf.warm(listed).found == 20  # of which nothing is trusted
    for options, reason in (({}, "'bucket' has none"), ({"index": path, "index_max_age": 1e-9}, "covers up to")):
        with pytest.raises(ValueError, match=reason):
            opened(**options)
    build(listed[:15], layout="fuse")
    with pytest.raises(ValueError, match="1 absent blob in 65,536"):
        opened(index=path)
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot be trusted: there is no index"):
        opened(index=path)


# ---------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def bucket_of(s3: SeaweedS3) -> tuple[str, dict[str, bytes]]:
    name, blobs = s3.create_bucket(), made("in the bucket", 400)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: s3.put(name, *item), blobs.items()))
    return name, blobs


class Command:
    """`bitstore warm` over a bucket behind a proxy."""

    def __init__(self, s3: SeaweedS3, proxy: FaultProxy, bucket: str, folder: Path) -> None:
        self.proxy, self.folder = proxy, folder
        self.args = [sys.executable, "-m", "bitstore", "warm", "list.txt", "--store", f"s3://{bucket}/"]
        self.args += ["--cache", "cache", "--ledger", "ledger"]
        self.env = {**os.environ, **s3.environment(), "AWS_ENDPOINT_URL": proxy.url, "AWS_ENDPOINT_URL_S3": proxy.url}

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.args, *more],
            cwd=self.folder,
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *more: str) -> tuple[int, str]:
        process = self.start(*more)
        told = process.communicate(timeout=120)[1]
        return process.returncode, told

    def gets(self) -> int:
        return sum(count for (method, _), count in self.proxy.counts.items() if method == "GET")


@pytest.fixture
def command(s3: SeaweedS3, fault_proxy: MakeProxy, bucket_of: tuple[str, dict[str, bytes]], tmp_path: Path) -> Command:
    (tmp_path / "list.txt").write_text("\n".join([*bucket_of[1], *list(bucket_of[1])[:50]]))
    return Command(s3, fault_proxy(s3.endpoint_url), bucket_of[0], tmp_path)


def test_the_warm_command_fills_caches_from_a_bucket(command: Command, bucket_of: tuple[str, dict[str, bytes]]) -> None:
    code, told = command.run("--dry-run")
    assert (code, command.gets()) == (0, 0), told
    assert "450 entries, 400 different digests" in told
    assert "would be fetched: 400" in told
    assert not (command.folder / "ledger").exists()

    refused = next(iter(bucket_of[1]))
    command.proxy.rules.add(s3_error(403, "AccessDenied"), path=refused)
    code, told = command.run()
    assert code == 2, told
    assert "warm now: 399" in told and "failed: 1\n  1 x " in told and "with this ledger, resumes" in told
    command.proxy.rules.clear()
    command.proxy.clear()
    code, told = command.run()
    assert (code, command.gets()) == (0, 1), told
    assert "399 of them known by the ledger" in told
    disk = DiskCache(command.folder / "cache", algorithm="sha1")
    assert all(disk.get(digest) == data for digest, data in bucket_of[1].items())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_warm_command_resumes_where_it_was_killed(command: Command, number: signal.Signals) -> None:
    command.proxy.rules.add(Delay(0.4), method="GET")
    process = command.start("--in-flight", "40")
    ledger = command.folder / "ledger"
    deadline = time.monotonic() + 60
    while not ledger.is_dir() or len(list(ledger.glob("part-*"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, number)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), told
    if number == signal.SIGINT:
        assert "with this ledger, resumes from here" in told and "Traceback" not in told
    known = len(rows_of(ledger))
    assert 0 < known < 400
    command.proxy.rules.clear()
    command.proxy.clear()
    code, told = command.run()
    assert code == 0, told
    assert f"{known} of them known by the ledger" in told
    # What was on the disk and not yet in the ledger is found there; the proxy may have read late what was under way.
    assert command.gets() <= 400 - known + 40
    assert {row[0] for row in rows_of(ledger)} == set((command.folder / "list.txt").read_text().split())


def test_a_store_without_caches_cannot_be_warmed() -> None:
    store = composed(as_source(Sha1Store(FileRaw(), "file:///nowhere/"), "bucket"))
    with pytest.raises(
        ValueError, match=r"nothing to fill: .* no cache that outlives .* \(it has: bucket\); .*--cache"
    ):
        check_target(store, "here")


def test_a_users_own_cache_can_be_warmed(shelf: Shelf) -> None:
    """A cache of a user's own, with nothing but `get` and `put`, is warmed like any."""

    class Own(Store):
        def __init__(self) -> None:
            self.held: dict[str, bytes] = {}

        def is_valid(self, uri: Any) -> bool:
            return isinstance(uri, str)

        def get(self, uri: Any) -> bytes:
            if uri not in self.held:
                from bitstore import NotFoundInStore

                raise NotFoundInStore(self, uri)
            return self.held[uri]

        def put(self, uri: Any, data: bytes) -> None:
            self.held[uri] = data

    own = Own()
    store = composed(as_cache(own, "own"), as_source(shelf.api, "api"))
    shelf.store = store
    assert shelf.warm(shelf.in_api).found == 20
    assert own.held == shelf.in_api
    assert shelf.warm(shelf.in_api, dry_run=True).warm == 20


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(150)
def test_the_warm_command_fills_caches_on_local_ray(command: Command, bucket_of: tuple[str, dict[str, bytes]]) -> None:
    code, told = command.run("--ray", "local", "--target", "owner", "--ledger", "first", "--budget", "50requests")
    assert code == 2 and "stopped because: " in told and "the budget of 50 requests is used up" in told, told
    assert "spent: " in told and 0 < len(command.proxy.requests) <= 50
    bought = command.gets()
    command.proxy.clear()
    code, told = command.run("--ray", "local", "--target", "owner", "--report", "r.json", "--report", "r.html")
    assert code == 0, told
    assert "warm now: 400" in told and "Traceback" not in told
    report = json.loads((command.folder / "r.json").read_text())
    assert (report["found"], sum(report["by_tier"].values()), report["tiers"]) == (400, 400, None)
    assert (report["timeline"][-1]["answered"], sum(row["blobs"] for row in report["sizes"])) == (400, 400)
    assert "<svg" in (command.folder / "r.html").read_text()
    assert 400 - bought <= command.gets() < 400
    command.proxy.clear()
    code, told = command.run("--ray", "local", "--target", "local", "--ledger", "another", "--dry-run")
    assert code == 0, told
    assert "already warm: 400" in told
    assert len(command.proxy.requests) == 0
