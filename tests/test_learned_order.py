"""The learned order: free sources are asked by what they have answered, and nothing else changes by that."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    Budget,
    BudgetReached,
    Composite,
    HTTPRaw,
    LearnedOrder,
    LookupFailed,
    LookupTimedOut,
    MemoryCache,
    NotFoundInStore,
    Sha1Composite,
    Sha1Store,
    config,
)
from bitstore._cli import main
from bitstore._tiers import learned_file
from bitstore._tiers.hedge import Hedge, _Over, _Race
from bitstore._tiers.question import Said
from bitstore._tiers.sharing import hear, learned_of
from bitstore.index import IndexBuilder
from bitstore.steps import Sleep
from tests.servers.faults import Answer, Hold
from tests.sockets import fresh_threads
from tests.stores import API, Box, Shelf, as_cache, as_source, blobs, composed, down, outcome, sha1, with_tiers
from tests.test_express import TIERS, BySteps, Script, Shelves, Virtual, performed, prefix_of, told
from tests.waiting import wait_until

SHARES = (0.72, 0.18, 0.06, 0.03, 0.01)
"""Of the blobs, in five sources: 1.43 requests for each in the best order, and 4.57 in the worst."""


@pytest.fixture(scope="module")
def shelves() -> Iterator[Shelves]:
    with Shelves() as server:
        yield server


def skewed(count: int, seed: int = 1) -> list[dict[str, bytes]]:
    """What five sources hold: each blob is in one of them, by `SHARES`."""
    rng = random.Random(seed)
    held: list[dict[str, bytes]] = [{} for _ in SHARES]
    for digest, data in blobs(count, 40, f"skewed {seed} ").items():
        rng.choices(held, SHARES)[0][digest] = data
    return held


def shuffled(held: list[dict[str, bytes]], seed: int = 2) -> list[str]:
    """All digests, in an order that says nothing."""
    digests = [digest for each in held for digest in each]
    random.Random(seed).shuffle(digests)
    return digests


def asked(composite: Composite) -> int:
    sources: Any = composite.sources
    return sum(len(store.asked) for store in sources)


def test_the_source_with_the_most_hits_is_asked_first() -> None:
    held = skewed(1500)
    written = composed(*map(Shelf, reversed(held)))
    learned = composed(*map(Shelf, reversed(held)), order=LearnedOrder(seed=1))
    for composite in (written, learned):
        for digest in shuffled(held):
            composite.get(digest)
    assert asked(written) > 4.4 * 1500
    assert asked(learned) < 1.7 * 1500


def test_a_batch_learns_as_single_lookups_do(shelves: Shelves) -> None:
    """By the express lane, on which no steps are."""
    held = skewed(3000)
    composite = Sha1Composite(order=LearnedOrder(seed=1))
    shelves.clear()
    for number, blobs_held in reversed(list(enumerate(held))):
        shelves.held |= {f"{number}/{digest}": data for digest, data in blobs_held.items()}
        composite.append_source(Sha1Store(HTTPRaw(), f"{shelves.url}/{number}/", verify=True), name=str(number))
    digests = shuffled(held)
    assert all(blob.found for blob in composite.get_many(digests, in_flight=32))
    assert len(shelves.requests) < 1.7 * len(digests)


def test_a_source_whose_index_denies_a_blob_costs_nothing(tmp_path: Path, shelves: Shelves) -> None:
    held = skewed(600)
    composite = Sha1Composite(order=LearnedOrder(seed=1))
    shelves.clear()
    for number, blobs_held in reversed(list(enumerate(held))):
        shelves.held |= {f"{number}/{digest}": data for digest, data in blobs_held.items()}
        with IndexBuilder("sha1") as builder:
            builder.add(list(blobs_held))
            builder.write(tmp_path / f"{number}")
        store = Sha1Store(HTTPRaw(), f"{shelves.url}/{number}/", verify=True, index=tmp_path / f"{number}")
        composite.append_source(store, name=str(number))
    digests = shuffled(held)
    assert all(blob.found for blob in composite.get_many(digests, in_flight=8))
    assert len(shelves.requests) <= 1.05 * len(digests)


def test_an_indexed_source_comes_before_one_with_more_hits(tmp_path: Path, shelves: Shelves) -> None:
    """What it lacks costs nothing, so that each question to it is a hit."""
    data = list(blobs(400, 40, "beside ").items())
    shelves.clear()
    composite = Sha1Composite(order=LearnedOrder(seed=1))
    with IndexBuilder("sha1") as builder:
        builder.add([digest for digest, _ in data[::4]])
        builder.write(tmp_path / "index")
    composite.append_source(Sha1Store(HTTPRaw(), f"{shelves.url}/most/", verify=True), name="most")
    indexed = Sha1Store(HTTPRaw(), f"{shelves.url}/few/", verify=True, index=tmp_path / "index")
    composite.append_source(indexed, name="few")
    shelves.held |= {f"{'most' if place % 4 else 'few'}/{digest}": blob for place, (digest, blob) in enumerate(data)}
    for digest, _ in data:
        composite.get(digest)
    wanted = len(shelves.requests)
    assert wanted <= 1.06 * len(data)


@pytest.mark.parametrize("barrier", ["paid", "cache"])
def test_no_source_passes_a_cache_or_a_paid_source(barrier: str) -> None:
    data = blobs(200, 40, "barrier ")
    first, best = Shelf(), Shelf(data)
    middle: Any = as_source(API({})) if barrier == "paid" else as_cache(Box())
    other = Shelf()
    composite = composed(first, other, middle, best, order=LearnedOrder(explore=0.5, seed=1))
    for digest in data:
        composite.get(digest)
    assert len(first.asked) == len(other.asked) == len(data)
    if barrier == "cache":
        assert middle.store.held == data, "what comes from below is kept"


def test_a_source_is_explored_in_a_bounded_share_of_the_lookups() -> None:
    data = blobs(1000, 40, "explored ")
    first, mirror, empty = Shelf(data), Shelf(data), Shelf()
    composite = composed(first, mirror, empty, order=LearnedOrder(explore=0.02, seed=1))
    for digest in data:
        composite.get(digest)
    assert len(first.asked) >= 980
    assert len(mirror.asked) + len(empty.asked) in (20, 30), "one in fifty, of which some meet both"
    assert min(len(mirror.asked), len(empty.asked)) >= 9


def test_the_first_of_two_mirrors_stays_where_none_is_explored() -> None:
    data = blobs(100, 40, "unexplored ")
    first, mirror = Shelf(data), Shelf(data)
    composite = composed(first, mirror, order=LearnedOrder(explore=0))
    for digest in data:
        composite.get(digest)
    assert (len(first.asked), len(mirror.asked)) == (100, 0)


def test_a_mirror_of_the_first_source_comes_after_what_has_other_blobs() -> None:
    """It has most of the blobs, and none of those for which it is asked."""
    most, rest = blobs(700, 40, "most "), blobs(300, 40, "rest ")
    first, mirror, other = Shelf(most), Shelf(most), Shelf(rest)
    composite = composed(first, mirror, other, order=LearnedOrder(seed=1))
    digests = shuffled([most, rest])
    for digest in digests:
        composite.get(digest)
    late = digests[-200:]
    needless = sum(digest in rest for digest in mirror.asked if digest in set(late))
    assert needless < 0.2 * sum(digest in rest for digest in late)


def test_the_order_follows_a_workload_that_changes() -> None:
    before, after = blobs(3000, 40, "before "), blobs(3000, 40, "after ")
    one, two = Shelf(before), Shelf(after)
    composite = composed(one, two, order=LearnedOrder(seed=1))
    for digest in itertools.chain(before, after):
        composite.get(digest)
    assert len(set(list(after)[-500:]) & set(one.asked)) < 100


def test_each_answer_is_that_of_the_written_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found or not, errors, and what caches keep: whatever fails, and whichever source is asked first."""
    rng = random.Random(5)
    data = blobs(300, 40, "same ")
    sources = 4
    failing = {(rng.randrange(sources), digest) for digest in data for _ in range(rng.choice([0, 0, 0, 1, 2]))}
    holders = {digest: {rng.randrange(sources) for _ in range(rng.choice([0, 1, 1, 2]))} for digest in data}

    class Flaky(Shelf):
        def __init__(self, number: int) -> None:
            super().__init__({digest: blob for digest, blob in data.items() if number in holders[digest]})
            self.number = number

        def get(self, uri: str) -> bytes:
            if (self.number, uri) in failing:
                raise OSError(f"source {self.number} is down for {uri}")
            return super().get(uri)

    monkeypatch.setattr("bitstore._tiers.breaker.FAILURES", 10_000)
    monkeypatch.setattr(Hedge, "note", lambda *_: None)
    outcomes = []
    for order, hedge in (("written", None), (LearnedOrder(explore=0.5, seed=3), None), ("written", 0.5)):
        cache, api = Box(), API({})
        composite = composed(as_cache(cache), *map(Flaky, range(sources)), as_source(api, "api"), order=order)
        if hedge is not None:
            composite.hedge = hedge
            composite._live().hedge = Hedge(hedge)
            composite._live().hedge.pause = 0.0  # each other lookup is hedged at once
        answers: dict[str, Any] = {}
        for digest in data:
            try:
                answers[digest] = composite.get(digest)
            except Exception as error:
                answers[digest] = told(error)
        outcomes.append((answers, cache.held, api.calls))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert sum(stats.hedged for stats in composite.stats().values()) > 50
    kinds = Counter(type(each) for each in outcomes[0][0].values())
    assert kinds[bytes] > 50 < kinds[tuple]


@pytest.mark.parametrize("how", ["get", "one by one"])
def test_the_express_lane_takes_the_same_turns(how: str, shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Virtual(monkeypatch)
    monkeypatch.setattr(random, "uniform", lambda least, most: most)  # pauses before tries again count as cost

    def change(composite: Sha1Composite) -> None:
        composite.order = LearnedOrder(explore=0.3, seed=1)

    for seed in range(6):
        script = Script(seed, ("one", "two", "three"), 40)
        by_steps, taken = (
            performed(script, cls, "HTTP", shelves, how, now, change) for cls in (BySteps, Sha1Composite)
        )
        assert taken == by_steps, (seed, script.answers)


def test_a_failure_is_never_an_absence_in_any_order() -> None:
    composite = composed(Shelf(), down(), Shelf(), order=LearnedOrder(explore=0.5, seed=1))
    kinds = {type(outcome(lambda digest=digest: composite.get(digest))) for digest in blobs(60, 40, "down ")}  # type: ignore[misc]
    assert kinds == {LookupFailed}


def test_a_source_that_answers_late_comes_after_one_that_is_quick(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that moves with the slow source: both hold half of the blobs."""
    now = Virtual(monkeypatch)
    data = list(blobs(200, 40, "late ").items())

    class Slow(Shelf):
        def get(self, uri: str) -> bytes:
            now.now += 1.0
            return super().get(uri)

    slow, quick = Slow(dict(data[::2])), Shelf(dict(data[1::2]))
    composite = composed(slow, quick, order=LearnedOrder(explore=0.1, seed=1))
    for digest, _ in data:
        composite.get(digest)
    assert len(quick.asked) > 1.3 * len(slow.asked)


def test_cohorts_have_orders_of_their_own() -> None:
    data = {name: blobs(200, 40, f"{name} ") for name in ("north", "south")}
    of = {digest: name for name, held in data.items() for digest in held}
    one, two = Shelf(data["north"]), Shelf(data["south"])
    composite = composed(one, two, order=LearnedOrder(cohort=of.__getitem__, seed=1))
    for pair in zip(*data.values(), strict=True):
        for digest in pair:
            composite.get(digest)
    assert asked(composite) < 1.15 * 400
    order = composite.order
    assert isinstance(order, LearnedOrder)
    order.cohort = "west"
    composite.get(next(iter(data["north"])))
    assert {row.cohort for row in composite.ranking()} == {"north", "south", "west"}


@pytest.mark.parametrize("cohort", [lambda key: 1 / 0, lambda key: 7])
def test_a_cohort_that_cannot_be_told_ends_no_lookup(cohort: Any, caplog: pytest.LogCaptureFixture) -> None:
    data = blobs(30, 40, "untold ")
    composite = composed(Shelf(), Shelf(data), order=LearnedOrder(cohort=cohort))
    assert [composite.get(digest) for digest in data] == [*data.values()]
    assert {row.cohort for row in composite.ranking()} == {""}


def test_few_cohorts_are_remembered() -> None:
    data = blobs(600, 40, "many ")
    composite = composed(Shelf(), Shelf(data), order=LearnedOrder(cohort=str))
    for digest in data:
        composite.get(digest)
    assert len({row.cohort for row in composite.ranking()}) == 256
    assert len(composite._live().turns._cohorts) == 256


def test_counts_of_one_process_order_the_sources_of_others() -> None:
    """Each hears the others' counts in place of those that they had told before."""
    data = blobs(60, 40, "shared ")
    one, other = (composed(Shelf(), Shelf(data), order=LearnedOrder(explore=0)) for _ in range(2))
    for digest in data:
        one.get(digest)
    for _ in range(3):
        hear(other, [pickle.loads(pickle.dumps(learned_of(one)))])
    assert [row.lookups for row in other.ranking()] == [60, 60]
    assert learned_of(other) == {}, "only its own is told on"
    for digest in data:
        other.get(digest)
    assert other.stats()["Shelf"].misses == 0
    assert learned_of(composed(Shelf())) is None
    with pytest.raises(ValueError, match="expected the counts"):
        hear(other, [{"": {"one": {"hits": 3}}}])


def test_a_tier_that_is_appended_later_takes_part() -> None:
    data = blobs(100, 40, "later ")
    composite = composed(Shelf(), Shelf(), order=LearnedOrder(seed=1))
    assert type(outcome(lambda: composite.get(sha1(b"none")))) is NotFoundInStore
    last = Shelf(data)
    composite.append_source(last)
    for digest in data:
        composite.get(digest)
    assert composite.ranking()[0].tier == composite.tiers[-1].name
    assert composite.ranking()[0].place == 1
    assert composite.ranking()[0].written == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"explore": 0.6}, "explore=0.6: expected a share"),
        ({"explore": -0.1}, "explore=-0.1: expected a share"),
        ({"explore": float("nan")}, "explore=nan: expected a share"),
        ({"explore": True}, "explore=True: expected a share"),
        ({"explore": "5%"}, "explore='5%': expected a share"),
        ({"cohort": 7}, "cohort=7: expected a text, or a function"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises((ValueError, TypeError), match=expected):
        LearnedOrder(**options)


@pytest.mark.parametrize("order", ["best", None, True, 0.5])
def test_an_unknown_order_is_refused(order: Any) -> None:
    with pytest.raises(ValueError, match="expected 'written', 'learned' or a LearnedOrder"):
        Sha1Composite(order=order)


def test_an_order_travels_with_its_composite() -> None:
    composite = composed(MemoryCache(), order=LearnedOrder(explore=0.1, cohort="web"))
    order = pickle.loads(pickle.dumps(composite)).order
    assert (order.explore, order.cohort) == (0.1, "web")
    assert vars(composed(order="written")) == vars(composed())
    composite.order = "written"
    assert composite.order == "written"


def hedged(shelves: Shelves, *others: Any, **options: Any) -> tuple[Sha1Composite, MemoryCache]:
    """A cache over three sources, of which enough is known to hedge lookups, and after them `others`."""
    shelves.clear()
    cache = MemoryCache()
    composite = with_tiers(Sha1Composite(hedge=0.5, **options), as_cache(cache))
    for tier in TIERS:
        composite.append_source(Sha1Store(HTTPRaw(), prefix_of("HTTP", shelves, tier), verify=True), name=tier)
    with_tiers(composite, *others)
    warm = blobs(40, 40, "warm ")
    shelves.held |= {f"one/{digest}": data for digest, data in warm.items()}
    assert [composite.get(digest) for digest in warm] == [*warm.values()]
    assert composite._live().hedge.pause is not None
    return composite, cache


def asked_of(shelves: Shelves, digest: str) -> list[str]:
    return [each.target.split("/")[1] for each in shelves.requests if digest in each.target]


@pytest.mark.parametrize("how", ["get", "get_many"])
@pytest.mark.parametrize("order", ["written", LearnedOrder(explore=0)], ids=["written", "learned"])
def test_a_slow_source_is_not_waited_for(how: str, order: Any, shelves: Shelves) -> None:
    """The first source is held until the lookup has ended."""
    composite, cache = hedged(shelves, order=order)
    [(digest, data)] = blobs(1, salt=f"slow {how} {order}").items()
    shelves.held[f"two/{digest}"] = data
    hold = Hold()
    shelves.rules.add(hold, path=f"one/{digest}")
    got = composite.get(digest) if how == "get" else next(iter(composite.get_many([digest]))).data
    assert got == data == cache.get(digest)
    assert asked_of(shelves, digest) == ["one", "two"]
    hold.release()
    stats = composite.stats()
    assert (stats["two"].hedges_won, stats["two"].hits) == (1, 1)
    assert stats["two"].hedged >= 1, "others before, on a busy machine"
    assert (stats["one"].failures, stats["one"].breaker, stats["one"].hits) == (0, "closed", 40)
    assert not composite._live().flights


@pytest.mark.parametrize("answer", ["good", "missing", "500"])
def test_a_hedged_lookup_waits_for_the_slow_source_where_no_other_has_the_blob(answer: str, shelves: Shelves) -> None:
    """A paid source is asked only then, and only if the slow one said that it lacks the blob."""
    api = API({})
    composite, _ = hedged(shelves, api)
    [(digest, data)] = blobs(1, salt=f"waited for {answer}").items()
    api.held[digest] = b"of the API"
    if answer == "good":
        shelves.held[f"one/{digest}"] = data
    elif answer == "500":
        shelves.held[f"one/{digest}"] = Answer(403)
    hold = Hold()
    shelves.rules.add(hold, path=f"one/{digest}", times=1)
    before = composite.stats()["three"].misses  # of lookups that a busy machine has hedged before
    with ThreadPoolExecutor(1) as threads:
        lookup = threads.submit(lambda: next(iter(composite.get_many([digest], patience=0))))
        wait_until(lambda: composite.stats()["three"].misses > before)
        assert not api.calls
        hold.release()
        blob = lookup.result()
    assert asked_of(shelves, digest)[:3] == [*TIERS]
    if answer == "500":
        assert type(blob.error) is LookupFailed
        assert [name for name, _ in blob.error.failures] == ["one", "API"]
        assert [*blob.error.missing] == ["memory", "two", "three"]
    else:
        assert (blob.data, len(api.calls)) == ((data, 0) if answer == "good" else (b"of the API", 1))


def test_no_more_lookups_are_hedged_than_the_share_allows(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers of the first source come late: ten in one go are hedged at most, as all had a credit before."""
    fresh_threads(monkeypatch)
    composite, _ = hedged(shelves)
    held = blobs(12, salt="bounded ")
    shelves.held |= {f"two/{digest}": data for digest, data in held.items()}
    hold = Hold()
    rule = shelves.rules.add(hold, path="one/")
    composite._live().hedge._credit = 0.5
    before = composite.stats()["two"].hedged
    with ThreadPoolExecutor(1) as threads:
        lookups = threads.submit(lambda: list(composite.get_many(held, in_flight=12)))
        rule.wait_hits(6)  # a lookup that is hedged may end before its first request has left
        wait_until(lambda: composite.stats()["two"].hits == 6)
        hold.release()
        assert {blob.uri: blob.data for blob in lookups.result()} == held
    assert composite.stats()["two"].hedged - before == 6, "half of twelve"


@pytest.mark.parametrize("recheck", [True, False])
def test_orders_and_hedges_call_nothing_missing_that_is_behind_an_index(
    recheck: bool, tmp_path: Path, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hedge, "note", lambda *_: None)
    rng = random.Random(7)
    data = blobs(80, 40, "indexed ")
    held = {tier: sorted(digest for digest in data if rng.random() < 0.3) for tier in TIERS}
    shelves.clear()
    shelves.held |= {f"{tier}/{digest}": data[digest] for tier in TIERS for digest in held[tier]}
    for tier in TIERS[:2]:
        with IndexBuilder("sha1") as builder:
            builder.add(held[tier])
            builder.write(tmp_path / tier)
    answers = []
    for order, hedge in itertools.product(("written", "learned"), (None, 0.5)):
        composite = Sha1Composite(order=LearnedOrder(explore=0.5, seed=1) if order == "learned" else "written")
        for tier in TIERS:
            options: dict[str, Any] = {"index": tmp_path / tier, "recheck": recheck} if tier in TIERS[:2] else {}
            store = Sha1Store(HTTPRaw(), f"{shelves.url}/{tier}/", verify=True, **options)
            composite.append_source(store, name=tier)
        if hedge is not None:
            composite.hedge = hedge
            composite._live().hedge = Hedge(hedge)
            composite._live().hedge.pause = 0.0
        found = composite.get_many(data, patience=0)
        answers.append({blob.uri: (blob.data, sorted(getattr(blob.error, "missing", ()))) for blob in found})
    assert answers[0] == answers[1] == answers[2] == answers[3]


def test_hedged_requests_are_paid_from_the_budget(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    data = blobs(60, 40, "budget ")
    composite, _ = hedged(shelves)
    monkeypatch.setattr(Hedge, "note", lambda *_: None)
    composite._live().hedge.pause = 0.0
    shelves.held |= {f"three/{digest}": blob for digest, blob in data.items()}
    composite.budget = Budget(requests=50)
    before = len(shelves.requests)
    found = list(composite.get_many(data, patience=0))
    assert len(shelves.requests) - before == 50
    unpaid = [blob.error for blob in found if not blob.found]
    assert {type(error) for error in unpaid} == {LookupFailed}
    assert all(isinstance(error.failures[-1][1], BudgetReached) for error in unpaid if isinstance(error, LookupFailed))


def test_a_pause_that_ends_with_the_first_answer_takes_no_source_away() -> None:
    """Else the source would be given up with the pause, and the blob called missing."""
    composite = composed(Shelf(), Shelf())
    live = composite._live()
    asked: list[str] = []

    def ask(link: Any) -> Any:
        asked.append(link[0].name)
        return None
        yield

    links = iter(composite._chain)
    race = _Race(links, ask, live, Said(composite, "key"), Hedge(0.5))
    race._hedge._credit = 1.0
    first = race.next()
    assert first is not None
    assert race.has_rival()
    front, behind = race.front(first), race.behind(0.001)
    assert type(behind.send(None)) is Sleep
    with pytest.raises(_Over):
        front.send(None)
    with pytest.raises(StopIteration):
        behind.send(None)  # the transfer thread has not ended it yet
    assert asked == ["Shelf"]
    assert race.next() is composite._chain[1]


@pytest.mark.parametrize("how", ["timeout", "closed"])
def test_a_hedged_lookup_that_is_given_up_leaves_nothing_behind(how: str, shelves: Shelves) -> None:
    composite, _ = hedged(shelves)
    [digest] = blobs(1, salt=f"given up {how} ")
    hold = Hold()
    rules = [shelves.rules.add(hold, path=f"{tier}/{digest}") for tier in ("one", "two")]
    if how == "timeout":
        error = outcome(lambda: composite.get(digest, timeout=0.5))
        assert type(error) is LookupTimedOut
    else:
        [(other, data)] = blobs(1, salt="in time ").items()
        shelves.held[f"one/{other}"] = data
        answers = composite.get_many([other, digest])
        assert next(answers).data == data
        rules[1].wait_hits()
        answers.close()  # type: ignore[attr-defined]
    hold.release()
    assert not composite._live().flights
    assert [stats.failures for stats in composite.stats().values()] == [0, 0, 0, 0]


@pytest.mark.parametrize("share", [0, -0.1, 0.6, True, "5%", float("nan")])
def test_a_hedge_that_is_no_share_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match=r"hedge=.*: expected a share"):
        Sha1Composite(hedge=share)


SCENE = """
algorithm = "sha1"
order = { explore = 0, path = "learned.json", cohort = "papers" }
[[tier]]
name = "none"
url = "file://{tmp}/none/"
[[tier]]
name = "all"
url = "file://{tmp}/all/"
"""


def test_a_process_begins_with_what_an_earlier_one_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = blobs(64, 40, "left ")
    (tmp_path / "none").mkdir()
    (tmp_path / "all").mkdir()
    for digest, blob in data.items():
        (tmp_path / "all" / digest).write_bytes(blob)
    (tmp_path / "list").write_text("\n".join(data))
    (tmp_path / "bitstore.toml").write_text(SCENE.replace("{tmp}", str(tmp_path)))
    words = [sys.executable, "-m", "bitstore", "fetch", "list", "-o", "out", "--in-flight", "1"]
    subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=120, check=True)
    composite = config.load(tmp_path / "bitstore.toml")
    first, last = composite.ranking()
    assert [(row.tier, row.cohort) for row in (first, last)] == [("all", "papers"), ("none", "papers")]
    assert (first.lookups, first.hits) == (64, 64)
    assert 8 <= last.asked <= 32
    assert all(composite.get(digest) == blob for digest, blob in data.items())
    assert composite.stats()["none"].misses == 0
    monkeypatch.setattr(sys, "argv", ["bitstore", "show", "--order", "--config", str(tmp_path / "bitstore.toml")])
    assert main() == 0
    assert "The order of papers:\n  1. all (written as 2.): has " in capfd.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[" * 100_000,
        '{"format": "bitstore learned order 1"}',
        '{"format": "bitstore learned order 1", "cohorts": {"": {"one": {"lookups": -1}}}}',
        "\x00\xff",
    ],
)
def test_a_file_that_is_no_learned_order_is_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    data = blobs(40, 40, "no order ")
    composite = composed(Shelf(), Shelf(data), order=LearnedOrder(path=path))
    assert [composite.get(digest) for digest in data] == [*data.values()]
    learned_file._save_all()
    assert path.read_text() == content


@pytest.mark.parametrize("kind", ["pipe", "folder", "in no folder"])
def test_a_path_that_no_file_can_have_ends_no_lookup(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "no" / "file" if kind == "in no folder" else tmp_path / "path"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    data = blobs(20, 40, "no file ")
    composite = composed(Shelf(), Shelf(data), order=LearnedOrder(path=path))
    assert [composite.get(digest) for digest in data] == [*data.values()]
    learned_file._save_all()


def test_counts_that_processes_leave_in_a_file_add_up(tmp_path: Path) -> None:
    data = blobs(40, 40, "adds up ")
    for _ in range(3):
        composite = composed(Shelf(), Shelf(data), order=LearnedOrder(path=tmp_path / "file"))
        assert [composite.get(digest) for digest in data] == [*data.values()]
        learned_file._save_all()
    rows = composed(Shelf(), Shelf(), order=LearnedOrder(path=tmp_path / "file")).ranking()
    assert {row.lookups for row in rows} <= {*range(108, 121)}, "but for those that explored"
    assert rows[0].written == 2


def test_exists_asks_in_the_learned_order(shelves: Shelves) -> None:
    data = list(blobs(60, 40, "exists "))
    shelves.clear()
    composite = Sha1Composite(order=LearnedOrder(explore=0))
    for tier in ("none", "all"):
        composite.append_source(Sha1Store(HTTPRaw(), prefix_of("HTTP", shelves, tier), verify=True), name=tier)
    shelves.held |= {f"all/{digest}": blob for digest, blob in blobs(60, 40, "exists ").items()}
    for digest in data[:30]:
        composite.get(digest)
    before = len(shelves.requests)
    assert all(composite.exists(digest) for digest in data[30:])
    assert len(shelves.requests) - before == 30
