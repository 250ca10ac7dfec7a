"""The express lane against the steps: whatever tiers answer, both come to the same, by the same requests."""

from __future__ import annotations

import functools
import gzip
import logging
import random
import re
import shutil
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    BitstoreError,
    Budget,
    DiskCache,
    GSRaw,
    HTTPRaw,
    LookupFailed,
    LookupTimedOut,
    MemoryCache,
    Retry,
    S3Raw,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
)
from bitstore._lookup.run import run
from bitstore._lookup.task import Task
from bitstore._lookup.timers import Timers
from bitstore._support import clock
from bitstore._tiers.composite import Composite
from bitstore._tiers.express import Express, express
from bitstore._tiers.lane import ExpressLane
from bitstore._tiers.latency import Latencies
from bitstore._transport.scheduler import Outcome
from bitstore._transport.transport import Performed
from bitstore.index import IndexBuilder
from bitstore.steps import Request, Response, Sleep, Steps, TransferError
from tests.servers.faults import Action, Answer, Corrupt, Cut, Delay, Empty, Hold, Reset, ResetAfter, Rule, s3_error
from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request as Received
from tests.servers.wire import Response as Sent
from tests.servers.wire import make_response
from tests.sockets import OWN, only_by
from tests.stores import Shelf, as_cache, asked_by_steps, blobs, full, outcome, sha1, with_tiers
from tests.waiting import wait_until

KINDS = ("HTTP", "S3", "GCS")
TIERS = ("one", "two", "three")
OPTIONS: dict[str, Any] = {
    "retry": Retry(attempts=2, first_delay=0.001, longest_delay=0.002, budget=200),
    "connect_timeout": 5.0,
    "stall_timeout": 5.0,
}
XML = {"Content-Type": "application/xml"}


class BySteps(Sha1Composite):
    """A composite without an express lane."""

    takes_express = False


class Shelves(FaultyServer):
    """Holds blobs by tier and digest, and speaks as a web server, as S3 and as Google Cloud Storage."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, bytes | Answer] = {}  # by tier and digest: "one/<digest>"

    async def _respond(self, request: Received, upstream: Upstream) -> Sent:
        name = "/".join(re.split("/|%2F", request.path)[-2:])
        if request.method == "PUT":
            self.held[name] = request.body
            return make_response(200, b"", {"ETag": '"1"'}, method=request.method)
        data = self.held.get(name)
        if isinstance(data, Answer):
            return make_response(data.status, data.body, data.headers, method=request.method)
        if data is not None:
            return make_response(200, data, {}, method=request.method)
        if request.path.startswith("/bucket/"):
            missing = s3_error(404, "NoSuchKey")
            return make_response(404, missing.body, missing.headers, method=request.method)
        text = b"No such object: " + name.encode() if request.path.startswith("/storage/") else b""
        return make_response(404, text, {}, method=request.method)


class Virtual:
    """A clock that only pauses advance."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for name in clock.__all__:
            patch.setattr(clock, name, getattr(self, name))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def idle(self, seconds: float) -> float:
        self.now += seconds
        return 0.0


@pytest.fixture(scope="module")
def shelves() -> Iterator[Shelves]:
    with Shelves() as server:
        yield server


def raw_of(kind: str, server: Shelves) -> Any:
    if kind == "HTTP":
        return HTTPRaw(**OPTIONS)
    if kind == "S3":
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        return S3Raw(keys, endpoint_url=server.url, region="us-east-1", **OPTIONS)
    return GSRaw("anonymous", endpoint_url=server.url, **OPTIONS)


def prefix_of(kind: str, server: Shelves, tier: str) -> str:
    return {"HTTP": f"{server.url}/{tier}/", "S3": f"s3://bucket/{tier}/", "GCS": f"gs://bucket/{tier}/"}[kind]


def composite_of(
    cls: type[Sha1Composite],
    kind: str,
    server: Shelves,
    tiers: tuple[str, ...] = ("one",),
    options: Mapping[str, Any] | None = None,
    above: Sequence[Any] = (),
) -> Sha1Composite:
    """A composite of tiers below the caches `above`; `options` of the stores by tier."""
    composite = cls()
    for cache in above:
        composite.append_cache(cache)
    for tier in tiers:
        more = {"verify": True, **(options or {}).get(tier, {})}
        store = Sha1Store(raw_of(kind, server), prefix_of(kind, server, tier), **more)
        composite.append_source(store, name=tier)
    return composite


def warmed(composite: Sha1Composite, server: Shelves) -> Sha1Composite:
    """The composite, when each of its tiers has answered: only then is the way to a bucket known."""
    for tier in composite.tiers:
        if tier.is_cache:
            continue
        data = f"first of {tier.name}".encode()
        server.held[f"{tier.name}/{sha1(data)}"] = data
        assert composite.get(sha1(data)) == data
    server.clear()
    return composite


def told(error: BaseException | None, *, alone: bool = True) -> Any:
    """All that a caller can see of an error, but for times; and for whether it may pass, unless lookups come alone."""
    if error is None:
        return None
    failures = [(name, type(each).__name__, str(each)) for name, each in getattr(error, "failures", [])]
    return (
        type(error).__name__,
        str(error).replace("BySteps", "Sha1Composite"),
        failures,
        getattr(error, "missing", None),
        alone and getattr(error, "retry_in", None) is None,
        told(error.__cause__, alone=alone),
    )


# What one tier answers to one digest: what it holds, and what happens to how many requests.
Said = tuple[Callable[[bytes], bytes | None], Callable[[bytes, str], Action] | None, int]
ANSWERS: dict[str, Said] = {
    "good": (bytes, None, 0),
    "missing": (lambda data: None, None, 0),
    "wrong": (lambda data: b"wrong", None, 0),
    "corrupt": (bytes, lambda data, url: Corrupt(), 1),
    "empty": (bytes, lambda data, url: Empty(), 1),
    "coded": (bytes, lambda data, url: Answer(200, gzip.compress(data, mtime=0)), 1),
    "500 once": (bytes, lambda data, url: Answer(500), 1),
    "500": (bytes, lambda data, url: Answer(500), 9),
    "503": (bytes, lambda data, url: s3_error(503, "SlowDown"), 9),
    "429 once": (bytes, lambda data, url: Answer(429, b"", {"Retry-After": "1"}), 1),
    "403": (bytes, lambda data, url: s3_error(403, "AccessDenied", "Access Denied"), 9),
    "401": (bytes, lambda data, url: Answer(401, b"who?"), 9),
    "cut once": (bytes, lambda data, url: Cut(len(data) // 2), 1),
    "cut": (bytes, lambda data, url: Cut(len(data) // 2), 9),
    "reset in the body": (bytes, lambda data, url: ResetAfter(len(data) // 2), 9),
    "reset": (bytes, lambda data, url: Reset(), 99),
    "moved": (bytes, lambda data, url: Answer(302, b"", {"Location": f"{url}?moved"}), 1),
    "moved for ever": (bytes, lambda data, url: Answer(302, b"", {"Location": url}), 9),
    "gone": (bytes, lambda data, url: Answer(410), 9),
    "no bucket": (bytes, lambda data, url: s3_error(404, "NoSuchBucket"), 9),
    "a page": (bytes, lambda data, url: Answer(404, b"<html>Not here</html>"), 9),
    "a bucket's page": (bytes, lambda data, url: Answer(404, b"the bucket does not exist"), 9),
    "a part": (bytes, lambda data, url: Answer(206, data), 9),
    "203": (bytes, lambda data, url: Answer(203, data), 9),
    "204": (bytes, lambda data, url: Answer(204), 9),
    "expired": (bytes, lambda data, url: s3_error(400, "ExpiredToken"), 1),
}
UNCOUNTED = ("reset",)  # libcurl repeats requests by itself where a kept connection is reset


class Script:
    """What each tier answers to each digest, by chance; and when time passes."""

    def __init__(self, seed: int, tiers: tuple[str, ...], count: int = 24, *, without: str = "") -> None:
        rng = random.Random(seed)
        self.tiers = tiers
        self.blobs = blobs(count, 120, f"{seed} ")
        some = rng.sample(
            sorted(ANSWERS.keys() - {without}), 4
        )  # some kinds of trouble at a time: else breakers are open all the time
        self.answers = {
            (tier, digest): rng.choices(["good", "missing", *some], [3, 3, 1, 1, 1, 1])[0]
            for tier in tiers
            for digest in self.blobs
        }
        self.pauses = {digest: rng.choice([0.0, 0.0, 0.0, 2.0]) for digest in self.blobs}

    def prepare(self, server: Shelves) -> None:
        for (tier, digest), answer in self.answers.items():
            held, action, times = ANSWERS[answer]
            data = held(self.blobs[digest])
            server.held.pop(f"{tier}/{digest}", None)
            if data is not None:
                server.held[f"{tier}/{digest}"] = data
            if action is not None:
                made = action(self.blobs[digest], f"{server.url}/{tier}/{digest}")
                server.rules.add(made, path=f"{tier}(/|%2F){digest}", times=times)

    def uncounted(self, target: str) -> bool:
        return any(
            answer in UNCOUNTED and digest in target and re.search(rf"\b{tier}(/|%2F)", target)
            for (tier, digest), answer in self.answers.items()
        )


def performed(
    script: Script,
    cls: type[Sha1Composite],
    kind: str,
    server: Shelves,
    how: str,
    now: Virtual,
    change: Callable[[Sha1Composite], None] = lambda composite: None,
    options: Mapping[str, Any] | None = None,
    above: Sequence[Any] = (),
) -> Any:
    """What a run of the script comes to: answers, counts of the tiers, requests in their order."""
    composite = warmed(composite_of(cls, kind, server, script.tiers, options, above), server)
    change(composite)
    before = composite.stats().as_dict()
    script.prepare(server)
    answers: dict[str, Any] = {}
    if how == "get":
        for digest in script.blobs:
            now.now += script.pauses[digest]
            try:
                answers[digest] = composite.get(digest)
            except Exception as error:
                answers[digest] = told(error)
    elif how == "together":
        for blob in composite.get_many(script.blobs, patience=0):
            answers[blob.uri] = (blob.data, blob.source, told(blob.error, alone=False))
    else:
        for digest in script.blobs:
            now.now += script.pauses[digest]
            for blob in composite.get_many([digest], patience=0):
                answers[blob.uri] = (blob.data, blob.source, told(blob.error))
    requests = [(each.method, each.target) for each in server.requests if not script.uncounted(each.target)]
    counts = {
        tier: {name: value for name, value in values.items() if name not in ("requests", "retries") or tier in before}
        for tier, values in composite.stats().as_dict().items()
    }
    assert not composite._live().flights
    return answers, requests, counts


@pytest.fixture
def key_steps(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the steps of composites were asked for, by the names of their classes."""
    asked: Counter[str] = Counter()
    original = Composite.key_steps

    @functools.wraps(original)  # a function of another module would be heeded as what a user put there
    def counted(self: Composite, *args: Any, **options: Any) -> Any:
        asked[type(self).__name__] += 1
        return original(self, *args, **options)

    monkeypatch.setattr(Composite, "key_steps", counted)
    return asked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["get", "one by one", *OWN])
@pytest.mark.parametrize(("every", "seeds"), [(1, 12), (3, 6)], ids=["all verify", "a third verifies"])
def test_random_answers_come_to_the_same(
    kind: str,
    how: str,
    every: int,
    seeds: int,
    shelves: Shelves,
    monkeypatch: pytest.MonkeyPatch,
    key_steps: Counter[str],
) -> None:
    if how in OWN:
        only_by(how, monkeypatch)
    now = Virtual(monkeypatch)
    for seed in range(seeds):
        script = Script(seed, TIERS[: 1 + seed % 3])
        options = {tier: {"verify": (seed + place) % every == 0} for place, tier in enumerate(TIERS)}
        by_steps = performed(script, BySteps, kind, shelves, how, now, options=options)
        taken = performed(script, Sha1Composite, kind, shelves, how, now, options=options)
        assert taken == by_steps, (seed, script.answers)
    assert key_steps["Sha1Composite"] < 0.8 * key_steps["BySteps"]


@pytest.mark.parametrize("kind", KINDS)
def test_many_at_once_come_to_the_same(kind: str, shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Virtual(monkeypatch)
    monkeypatch.setattr("bitstore._tiers.breaker.FAILURES", 1000)  # else it depends on the order in which answers come
    for seed in range(3):
        # Keys that expire are renewed once for all lookups: which of them do without, depends on the order as well.
        script = Script(seed, TIERS, 100, without="expired")
        by_steps, taken = (performed(script, cls, kind, shelves, "together", now) for cls in (BySteps, Sha1Composite))
        assert taken[0] == by_steps[0]
        assert Counter(taken[1]) == Counter(by_steps[1])
        assert taken[2] == by_steps[2]


@pytest.mark.parametrize("recheck", [True, False])
def test_tiers_with_indexes_come_to_the_same(
    recheck: bool, shelves: Shelves, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = Virtual(monkeypatch)
    for seed in range(8):
        script = Script(seed, TIERS)
        options: dict[str, Any] = {}
        for number, tier in enumerate(TIERS):
            with IndexBuilder("sha1") as builder:
                builder.add([sha1(f"first of {tier}".encode()), *list(script.blobs)[number::2]])
                builder.write(tmp_path / f"{tier} {seed}")
            if (seed + number) % 3:  # and some tiers have none
                options[tier] = {"index": tmp_path / f"{tier} {seed}", "recheck": recheck}
        by_steps, taken = (
            performed(script, cls, "HTTP", shelves, "one by one", now, options=options)
            for cls in (BySteps, Sha1Composite)
        )
        assert taken == by_steps, (seed, script.answers)


# Caches above the tiers.
CACHES: dict[str, Callable[[Path], list[Any]]] = {
    "in memory": lambda folder: [MemoryCache()],
    "too small": lambda folder: [MemoryCache(max_size=1)],
    "on disk": lambda folder: [DiskCache(folder / "disk")],
    "both": lambda folder: [MemoryCache(max_size=2000), DiskCache(folder / "disk")],
    "disk above": lambda folder: [DiskCache(folder / "disk"), MemoryCache()],
    "unverified": lambda folder: [DiskCache(folder / "disk", verify=False)],
    "lost": lambda folder: [DiskCache(folder / "lost"), MemoryCache()],
    "twice": lambda folder: [MemoryCache(max_size=2000), MemoryCache()],
    "without a folder": lambda folder: [_without_folder(), MemoryCache()],
}


def _without_folder() -> DiskCache:
    cache = DiskCache()
    cache._trouble = "this user has no home"
    return cache


def _fill(cache: Any, script: Script) -> None:
    """Let a cache hold some of the blobs: as they are, with other bytes, and in files that are damaged."""
    cache.use_algorithm("sha1")
    for digest, data in list(script.blobs.items())[::4]:
        cache.put(digest, data)
    if isinstance(cache, DiskCache) and cache._trouble is None:
        for digest, data in list(script.blobs.items())[1::8]:
            cache.put(digest, b"other " + data)
        for digest in list(script.blobs)[::12]:
            [file] = cache.folder.rglob(f"*{digest}*")
            file.write_bytes(b"damaged")
        if cache.folder.name == "lost":
            shutil.rmtree(cache.folder)
            cache.folder.write_text("a file")


def _held(cache: Any, digest: str) -> Any:
    try:
        return cache.get(digest)
    except BitstoreError as error:
        return type(error)


@pytest.mark.parametrize("caches", CACHES)
@pytest.mark.parametrize("how", ["get", "one by one"])
def test_tiers_below_caches_come_to_the_same(
    how: str, caches: str, shelves: Shelves, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key_steps: Counter[str]
) -> None:
    now = Virtual(monkeypatch)
    for seed in range(3):
        script = Script(seed, TIERS[: 1 + seed % 3])
        outcomes: list[str] = []
        for cls in (BySteps, Sha1Composite):
            folder = tmp_path / f"{seed} {len(outcomes)}"
            folder.mkdir()
            above = CACHES[caches](folder)
            for cache in above:
                _fill(cache, script)
            run = performed(script, cls, "HTTP", shelves, how, now, above=above)
            held = [_held(cache, digest) for cache in above for digest in script.blobs]
            outcomes.append(repr((run, [cache.stats() for cache in above], held)).replace(str(folder), "folder"))
        assert outcomes[0] == outcomes[1], (seed, script.answers)
    # A failure is for the steps: from the cache that was lost on.
    assert key_steps["Sha1Composite"] < 0.9 * key_steps["BySteps"] or caches == "lost"


@pytest.mark.parametrize("kind", ["HTTP", "S3"])
def test_a_bucket_as_cache_comes_to_the_same(kind: str, shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Virtual(monkeypatch)
    for seed in range(2):
        script = Script(seed, TIERS[:2])
        runs = []
        for cls in (BySteps, Sha1Composite):
            shelves.held.clear()
            cache = Sha1Cache(raw_of(kind, shelves), prefix_of(kind, shelves, "cache"), verify=True)
            runs.append(performed(script, cls, kind, shelves, "one by one", now, above=[cache]))
            assert any(name.startswith("cache/") for name in shelves.held)
        assert runs[0] == runs[1], (seed, script.answers)


def test_a_budget_comes_to_the_same(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Virtual(monkeypatch)
    script = Script(2, TIERS)
    receipts = []

    def change(composite: Sha1Composite) -> None:
        composite.budget = budget

    runs = []
    for cls in (BySteps, Sha1Composite):
        budget = Budget(requests=30)
        runs.append(performed(script, cls, "S3", shelves, "one by one", now, change))
        receipts.append(sum(spent.requests for spent in budget.receipt().values()))
    assert runs[0] == runs[1]
    assert receipts == [30, 30]


def test_a_plain_tier_is_asked_without_steps(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that is compared here is the steps with themselves."""
    data = blobs(30, salt="plain")
    for kind in KINDS:
        composite = warmed(composite_of(Sha1Composite, kind, shelves, TIERS), shelves)
        shelves.held |= {f"three/{digest}": blob for digest, blob in data.items()}
        with monkeypatch.context() as patch:
            patch.setattr(Sha1Composite, "_walk", None)
            assert {blob.uri: blob.data for blob in composite.get_many(data)} == data
            assert composite.get(next(iter(data))) == next(iter(data.values()))
        assert [composite.stats()[tier].misses for tier in TIERS] == [len(data) + 3, len(data) + 2, 0]


@pytest.mark.parametrize("read", [True, False])
def test_a_cache_above_keeps_what_plain_tiers_return(read: bool, shelves: Shelves) -> None:
    data = blobs(20, salt="kept")
    shelves.held |= {f"one/{digest}": blob for digest, blob in data.items()}
    cache = MemoryCache()
    composite = Sha1Composite()
    composite.append_cache(cache, read=read)
    composite.append_source(Sha1Store(raw_of("HTTP", shelves), prefix_of("HTTP", shelves, "one"), verify=True))
    first, *others = data
    assert composite.get(first) == data[first]
    assert all(blob.found for blob in composite.get_many(others))
    assert {digest: cache.get(digest) for digest in data} == data


def test_a_bucket_that_costs_is_not_asked_again_where_its_blobs_cannot_be_kept(shelves: Shelves) -> None:
    data = blobs(3, salt="paid")
    shelves.held |= {f"one/{digest}": blob for digest, blob in data.items()}
    raw = raw_of("HTTP", shelves)
    raw.paid = True
    composite = with_tiers(
        Sha1Composite(), as_cache(full(), read=False), Sha1Store(raw, prefix_of("HTTP", shelves, "one"), verify=True)
    )
    first, *others = data
    assert composite.get(first) == data[first]
    for digest in others:
        assert type(outcome(lambda digest=digest: composite.get(digest))) is LookupFailed  # type: ignore[misc]
    shelves.clear()


LATE: dict[str, bytes | Answer | None] = {"good": b"late", "missing": None, "500": Answer(500), "wrong": b"wrong"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", LATE)
def test_a_breaker_that_opens_meanwhile_changes_no_answer(kind: str, answer: str, shelves: Shelves) -> None:
    """The question was admitted before: its answer counts."""
    assert len({str(_late(kind, answer, cls, shelves, _fail)) for cls in (BySteps, Sha1Composite)}) == 1


@pytest.mark.parametrize("answer", LATE)
def test_a_tier_appended_meanwhile_is_for_later_lookups(answer: str, shelves: Shelves) -> None:
    assert len({str(_late("HTTP", answer, cls, shelves, _append)) for cls in (BySteps, Sha1Composite)}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_that_is_set_in_mid_batch_holds_for_later_lookups(kind: str, shelves: Shelves) -> None:
    composite = warmed(composite_of(Sha1Composite, kind, shelves), shelves)
    held = blobs(40, salt=f"mid-batch {kind}")
    shelves.held.update({f"one/{digest}": data for digest, data in held.items()})
    raw: Any = composite.tiers[0].store
    turns: list[None] = []

    class Counted:
        def turn_steps(self) -> Steps[None]:
            turns.append(None)
            yield from ()

        def slow_down(self) -> None:
            raise AssertionError("nothing was refused")

    def digests() -> Iterator[str]:
        for number, digest in enumerate(held):
            if number == 20:
                raw.base_store.limit = Counted()
                threading.Event().wait(0.01)  # ten times as long as the lane looks at what it knows
            yield digest

    assert {blob.uri: blob.data for blob in composite.get_many(digests(), in_flight=1)} == held
    assert len(turns) == 20


def _fail(composite: Sha1Composite, shelves: Shelves) -> None:
    shelves.rules.add(Answer(500), path="dead")
    for _ in range(3):
        for number in range(5):
            digest = f"{number:040x}".replace("0" * 4, "dead")
            outcome(lambda digest=digest: composite.get(digest))  # type: ignore[misc]
    assert composite.stats()["one"].breaker == "open"


def _append(composite: Sha1Composite, shelves: Shelves) -> None:
    composite.append_source(Sha1Store(HTTPRaw(), f"{shelves.url}/two/", verify=True), name="two")


def _late(
    kind: str,
    answer: str,
    cls: type[Sha1Composite],
    shelves: Shelves,
    meanwhile: Callable[[Sha1Composite, Shelves], None],
) -> Any:
    """What becomes of a lookup whose answer comes when something else has happened."""
    composite = warmed(composite_of(cls, kind, shelves), shelves)
    digest = sha1(b"late")
    hold, rule = _holding(shelves, digest, LATE[answer])
    shelves.held[f"two/{digest}"] = b"late"
    with ThreadPoolExecutor(1) as threads:
        lookup = threads.submit(lambda: next(iter(composite.get_many([digest], patience=0))))
        rule.wait_hits()
        meanwhile(composite, shelves)
        hold.release()
        blob = lookup.result()
    shelves.rules.clear()
    assert not composite._live().flights
    return blob.data, told(blob.error), composite.stats()["one"]


def _holding(shelves: Shelves, digest: str, answer: bytes | Answer | None) -> tuple[Hold, Rule]:
    """Let the first tier give this answer, the first time when it is told to."""
    shelves.held.pop(f"one/{digest}", None)
    if answer is not None:
        shelves.held[f"one/{digest}"] = answer
    hold = Hold()
    return hold, shelves.rules.add(hold, path=digest, times=1)


@pytest.mark.parametrize("answer", LATE)
def test_lookups_of_the_same_blob_wait_for_the_express_lane(answer: str, shelves: Shelves) -> None:
    composite = warmed(composite_of(Sha1Composite, "HTTP", shelves), shelves)
    digest = sha1(b"late")
    hold, rule = _holding(shelves, digest, LATE[answer])
    with ThreadPoolExecutor(4) as threads:
        lookups = [threads.submit(lambda: next(iter(composite.get_many([digest], patience=0))))]
        rule.wait_hits()
        lookups += [threads.submit(lambda: next(iter(composite.get_many([digest], patience=0)))) for _ in range(3)]
        flight = composite._live().flights._open[digest]
        wait_until(lambda: len(flight._callbacks) == 3)
        hold.release()
        answers = [lookup.result() for lookup in lookups]
    shelves.rules.clear()
    assert len({(blob.data, str(blob.error)) for blob in answers}) == 1
    assert sum(digest in request.target for request in shelves.requests) == (2 if answer == "500" else 1)
    stats = composite.stats()["one"]
    assert (stats.hits - 1, stats.misses, stats.failures) == {
        "good": (1, 0, 0),
        "missing": (0, 1, 0),
        "500": (0, 0, 1),
        "wrong": (0, 0, 1),
    }[answer]


@pytest.mark.parametrize("cls", [BySteps, Sha1Composite])
@pytest.mark.parametrize("how", ["get", "get_many", "closed", "dropped"])
def test_a_lookup_that_is_given_up_holds_nothing_up(how: str, cls: type[Sha1Composite], shelves: Shelves) -> None:
    """Out of time or closed, it leaves no flight, no probe and no failure behind."""
    composite = warmed(composite_of(cls, "HTTP", shelves), shelves)
    [(digest, data)] = blobs(1, salt="given up").items()
    hold, rule = _holding(shelves, digest, data)
    if how == "get":
        assert type(outcome(lambda: composite.get(digest, timeout=0.3))) is LookupTimedOut
    elif how == "get_many":
        [blob] = composite.get_many([digest], timeout=0.3, patience=0)
        assert type(blob.error) is LookupTimedOut
    else:
        [(other, more)] = blobs(1, salt="in time").items()
        shelves.held[f"one/{other}"] = more
        answers = composite.get_many([other, digest])
        assert next(answers).data == more
        rule.wait_hits()
        if how == "closed":
            answers.close()  # type: ignore[attr-defined]
        else:
            del answers
    assert not composite._live().flights
    assert composite.get(digest) == data
    hold.release()
    stats = composite.stats()["one"]
    assert (stats.failures, stats.breaker) == (0, "closed")
    assert stats.requests == 3 + (how in ("closed", "dropped"))
    shelves.rules.clear()


@pytest.mark.parametrize("how", ["log", "on_answer", "all latencies", "some latencies"])
def test_logs_and_observers_see_the_same(how: str, shelves: Shelves, caplog: pytest.LogCaptureFixture) -> None:
    script = Script(4, TIERS)
    seen: dict[type, Any] = {}
    for cls in (BySteps, Sha1Composite):
        composite = warmed(composite_of(cls, "S3", shelves, TIERS), shelves)
        list(composite.get_many([sha1(b"nowhere")]))  # the express lane is known to be open
        answers: list[Any] = []
        latencies = Latencies(every=1 if how == "all latencies" else 3)
        if how == "on_answer":
            composite.on_answer = answers.append
        elif "latencies" in how:
            latencies.watch(composite)
        script.prepare(shelves)
        caplog.clear()
        with caplog.at_level(logging.DEBUG if how == "log" else logging.CRITICAL, "bitstore"):
            for digest in script.blobs:
                list(composite.get_many([digest], patience=0))
        told_by_log = [message.replace("BySteps", "Sha1Composite") for message in caplog.messages]
        observed = [(each.digest, each.tier, each.kind, each.bytes) for each in answers]
        seen[cls] = told_by_log, observed, [name for name, _ in latencies.take()]
        shelves.clear()
    assert seen[BySteps] == seen[Sha1Composite]
    assert any(seen[BySteps])


@pytest.mark.parametrize("recheck", [None, True, False], ids=["no index", "index", "index that is believed"])
@pytest.mark.parametrize("cls", [BySteps, Sha1Composite])
def test_lookups_whose_latency_is_not_measured_take_the_express_lane(
    cls: type[Sha1Composite], recheck: bool | None, shelves: Shelves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Ray, where one in 16 is measured."""
    held = blobs(20, salt=f"measured {recheck}")
    with IndexBuilder("sha1") as builder:
        builder.add([sha1(b"first of one"), *held])
        builder.write(tmp_path / "index")
    options = {} if recheck is None else {"one": {"index": tmp_path / "index", "recheck": recheck}}
    composite = warmed(composite_of(cls, "HTTP", shelves, options=options), shelves)
    latencies = Latencies(every=4)
    latencies.watch(composite)
    by_steps = asked_by_steps(monkeypatch)
    shelves.held.update({f"one/{digest}": data for digest, data in held.items()})
    assert {blob.uri: blob.data for blob in composite.get_many(held)} == held
    assert by_steps == ["one"] * (20 if cls is BySteps else 5)
    assert [name for name, _ in latencies.take()] == ["one"] * 5


@pytest.mark.parametrize("measured", [0, 10], ids=["none measured", "some measured"])
def test_hits_of_a_batch_begin_and_end_together_without_their_steps(
    measured: int, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    composite = warmed(composite_of(Sha1Composite, "HTTP", shelves, TIERS), shelves)
    if measured:
        Latencies(every=4).watch(composite)
    held, missing = blobs(40, salt="together"), blobs(3, salt="missing")
    shelves.held |= {f"one/{digest}": data for digest, data in held.items()}
    resumed: list[Any] = []
    send = Express.send

    def noted(self: Express, answer: Any) -> Any:
        resumed.append(self.key)
        return send(self, answer)

    monkeypatch.setattr(Express, "send", noted)
    answers = {blob.uri: blob.data for blob in composite.get_many([*held, *missing])}
    assert answers == held | dict.fromkeys(missing)
    assert len(set(resumed) & set(held)) == measured and set(resumed) >= set(missing)
    stats = composite.stats()["one"]
    assert (stats.hits, stats.bytes) == (41, sum(map(len, held.values())) + len(b"first of one"))
    assert (stats.requests, stats.misses) == (44 + 2, 3 + 2)
    assert len(composite._live().flights) == 0


def test_a_store_that_cannot_be_looked_at_ends_no_lookups_of_others(shelves: Shelves) -> None:
    class Odd(Shelf):
        odd = False

        @property
        def base_store(self) -> None:
            if self.odd:
                raise ValueError("not now")

    held = blobs(4, salt="cannot be looked at")
    shelves.held |= {f"one/{digest}": data for digest, data in held.items()}
    first, second = (warmed(composite_of(Sha1Composite, "HTTP", shelves), shelves) for _ in range(2))
    hold = Hold()
    waited = shelves.rules.add(hold, path=f"one/{next(iter(held))}", times=1)
    others = second.get_many(held)
    answers = [next(others) for _ in range(3)]
    waited.wait_hits()

    def keys() -> Iterator[str]:
        first.append_source(odd := Odd(), name="odd")  # `get_many` has looked at the chain before
        odd.odd = True
        yield from held

    assert all(isinstance(blob.error, ValueError) for blob in first.get_many(keys(), patience=0))
    hold.release()
    assert {blob.uri: blob.data for blob in (*answers, *others)} == held


def test_time_limits_of_a_batch_are_in_order_where_some_lookups_take_steps(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timers look at the first of them only."""
    composite = warmed(composite_of(Sha1Composite, "HTTP", shelves), shelves)
    held = blobs(9, salt="limits")
    shelves.held |= {f"one/{digest}": data for digest, data in held.items()}
    limits: list[list[float]] = []
    at_limits = Timers.at_limits

    def noted(self: Timers, function: Any, tasks: Sequence[Task]) -> None:
        limits.append([task.until or 0.0 for task in tasks])
        at_limits(self, function, tasks)

    monkeypatch.setattr(Timers, "at_limits", noted)
    first, flights = next(iter(held)), composite._live().flights
    assert flights.lead(first) is None  # so that it begins by its steps, which wait
    batch = composite.get_many(held, timeout=30)
    answers = [next(batch) for _ in range(len(held) - 1)]
    flights.land(first, None)
    assert {blob.uri: blob.data for blob in (*answers, *batch)} == held
    assert sum(map(len, limits)) == len(held) and all(each == sorted(each) for each in limits)


def test_lookups_of_a_batch_end_in_the_order_of_their_answers(shelves: Shelves) -> None:
    """Failures between hits are not in a row, and leave the breaker closed."""
    composite = warmed(composite_of(Sha1Composite, "HTTP", shelves), shelves)
    held = blobs(20, salt="in order")
    lane = ExpressLane(composite)
    tasks = [Task(Express(lane, digest), lambda tasks: None) for digest in held]
    assert not lane.begin(tasks, lambda task, request, until: None)
    breaker = composite._live().breakers["one"]
    outcomes: list[Outcome] = [
        (task, Response(200, data, {}, 0.0) if number % 2 else TransferError(56, "broken"))
        for number, (task, data) in enumerate(zip(tasks, held.values(), strict=True))
    ]
    ended: list[Any] = []
    for task, error in lane.end(iter(outcomes), lambda task, found, error: ended.append(task)):
        assert isinstance(error, TransferError)
        breaker.failed(0, error)
        ended.append(task)
        task.steps.close()
    assert ended == tasks and breaker.state == "closed"


def test_one_lookup_in_so_many_is_measured_where_the_steps_go_on_with_answers(shelves: Shelves) -> None:
    """They have an answer at hand, which says nothing of how long it took; other lookups begin meanwhile."""
    composite = warmed(composite_of(Sha1Composite, "HTTP", shelves), shelves)
    latencies = Latencies(every=16)
    latencies.watch(composite)
    held = blobs(800, salt="coded")
    shelves.held.update({f"one/{digest}": gzip.compress(data) for digest, data in held.items()})
    shelves.rules.add(Delay(0.02))
    assert {blob.uri: blob.data for blob in composite.get_many(held, in_flight=20)} == held
    assert [name for name, _ in latencies.take()] == ["one"] * 50
    shelves.rules.clear()


def test_an_order_that_is_switched_off_fails_no_lookup(shelves: Shelves) -> None:
    """Within the millisecond for which the lane believes in what it saw."""
    composite = warmed(composite_of(Sha1Composite, "HTTP", shelves, TIERS), shelves)
    composite.order = "learned"
    digest = sha1(b"blob")
    shelves.held[f"one/{digest}"] = b"blob"
    begin = express(composite)
    assert begin is not None
    composite.order = "written"
    assert run(begin(digest)).data == b"blob"


@pytest.mark.parametrize("seconds", [0, 300])
def test_pauses_and_tries_count_from_the_first_request(
    seconds: float, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget of tries is 200 seconds."""
    now = Virtual(monkeypatch)
    begin = express(composite_of(Sha1Composite, "HTTP", shelves))
    assert begin is not None
    steps = begin(sha1(b"blob"))
    assert type(steps.send(None)) is Request
    now.now += seconds
    if seconds:
        with pytest.raises(LookupFailed):
            steps.throw(TransferError(7, "refused"))
    else:
        assert type(steps.throw(TransferError(7, "refused"))) is Sleep
        steps.close()


@pytest.mark.parametrize(("name", "value"), [("compression", "zlib"), ("verify", True)])
def test_settings_of_a_store_changed_while_it_is_asked_hold_for_its_answer(name: str, value: Any) -> None:
    data = b"a blob of some length " * 9
    body = zlib.compress(data)
    outcomes = []
    for cls in (BySteps, Sha1Composite):
        store, composite = Sha1Store(HTTPRaw(), "http://a.example/"), cls()
        composite.append_source(store, name="one")
        begun = express(composite)
        lookup = composite.key_steps(sha1(data)) if begun is None else begun(sha1(data))
        request = lookup.send(None)
        assert isinstance(request, Request)
        setattr(store, name, value)
        try:
            lookup.send(Response(200, body, {}, 0.0, None))
        except StopIteration as end:
            outcomes.append(end.value.data)
        except LookupFailed as error:
            outcomes.append(told(error))
    assert outcomes[0] == outcomes[1] != body


@pytest.mark.parametrize("change", ["an observer", "an order", "a source"])
def test_settings_changed_during_a_batch_hold_for_its_later_lookups(
    change: str, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *later = data = blobs(6, salt=f"set during a batch: {change}")
    where = "two" if change == "a source" else "one"
    shelves.held |= {f"{where if digest in later else 'one'}/{digest}": blob for digest, blob in data.items()}
    Virtual(monkeypatch)  # stands still: what holds for a batch is not looked at again for the time alone
    for cls in (BySteps, Sha1Composite):
        composite = warmed(composite_of(cls, "HTTP", shelves, ("one",)), shelves)
        answers: list[Any] = []
        ordered: list[Any] = []
        monkeypatch.setattr(cls, "_turn", lambda composite, key, live, ordered=ordered: ordered.append(key))
        batch = composite.get_many(data, in_flight=1)
        assert next(batch).data == data[first]
        if change == "an observer":
            composite.on_answer = answers.append
        elif change == "an order":
            composite.order = "learned"
        else:
            composite.append_source(composite_of(cls, "HTTP", shelves, ("two",)).sources[0], name="two")
        found = [blob.uri for blob in batch if blob.data is not None]
        seen = {"an observer": [answer.digest for answer in answers], "an order": ordered, "a source": found}[change]
        assert set(seen) >= set(later[1:])  # the first of them may have been under way


class Hashing:
    """A transport that has one answer, and what it says is the digest of the body."""

    answer = Response(200, b"", {}, 0.0)

    @staticmethod
    def perform(request: Request, timeout: float | None) -> Performed:
        assert request.hash_with == "sha1"
        return Performed(Hashing.answer)


@pytest.mark.parametrize(
    ("body", "said", "found"),
    [
        (b"blob", None, True),
        (b"blob", sha1(b"blob"), True),
        (b"blob", sha1(b"other"), True),  # the steps look at the bytes themselves
        (b"other", None, False),
        (b"other", sha1(b"other"), False),
        (b"not looked at", sha1(b"blob"), True),
    ],
)
def test_the_digest_of_a_transport_is_compared(
    body: bytes, said: str | None, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitstore._transport.transports._KINDS", (Hashing,))
    monkeypatch.setattr(Hashing, "answer", Response(200, body, {}, 0.0, said))
    composite = Sha1Composite()
    composite.append_source(Sha1Store(HTTPRaw(), "http://a.example/", verify=True), name="one")
    if found:
        assert composite.get(sha1(b"blob")) == body
    else:
        assert type(outcome(lambda: composite.get(sha1(b"blob")))) is LookupFailed
    stats = composite.stats()["one"]
    assert (stats.requests, stats.hits, stats.invalid) == (1, int(found), int(not found))


calls: list[str] = []


def _overridden(owner: type, name: str) -> type:
    """A subclass of `owner` with a method of its own, which notes that it was called."""
    original = getattr(owner, name)

    def own(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(name)
        return original(self, *args, **options)

    return type(f"Own{owner.__name__}", (owner,), {name: own})


METHODS = [
    (Sha1Composite, "canonical"),
    (Sha1Composite, "get_steps"),
    (Sha1Composite, "key_steps"),
    (Sha1Composite, "_walk"),
    (Sha1Store, "get"),
    (Sha1Store, "get_steps"),
    (Sha1Store, "is_valid"),
    (Sha1Store, "_verify_data"),
    (HTTPRaw, "get"),
    (HTTPRaw, "get_steps"),
    (HTTPRaw, "_ask"),
    (HTTPRaw, "_place"),
    (HTTPRaw, "_send"),
]


@pytest.mark.parametrize(
    ("owner", "name", "how"),
    [
        (owner, name, how)
        for owner, name in METHODS
        for how in ("subclass", "object", "class")
        if how != "class" or not name.startswith("_")  # which is not for others to replace
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_methods_of_a_user_are_called_all_the_same(
    owner: type, name: str, how: str, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a subclass, in one object or in the class itself: as often as by the steps."""
    [(digest, data)] = blobs(1, salt="overridden").items()
    shelves.held[f"one/{digest}"] = data
    counts = []
    for by_steps in (True, False):
        classes: dict[type, Any] = {each: each for each in (Sha1Composite, Sha1Store, HTTPRaw)}
        if how == "subclass":
            classes[owner] = _overridden(owner, name)
        with monkeypatch.context() as patch:
            if by_steps:
                patch.setattr(Sha1Composite, "takes_express", False)
            if how == "class":
                patch.setattr(owner, name, vars(_overridden(owner, name))[name])
            raw = classes[HTTPRaw]()
            store = classes[Sha1Store](raw, f"{shelves.url}/one/", verify=True)
            composite = with_tiers(classes[Sha1Composite](), store)
            assert composite.get(digest) == data
            if how == "object":
                part: Any = dict(zip(classes, (composite, store, raw), strict=True))[owner]
                setattr(part, name, vars(_overridden(owner, name))[name].__get__(part))
            calls.clear()
            assert composite.get(digest) == data
            assert [blob.data for blob in composite.get_many([digest])] == [data]
            counts.append(Counter(calls))
    assert counts[0] == counts[1]
    assert counts[0] or (how, name) == ("class", "get")  # which is found once for each class
