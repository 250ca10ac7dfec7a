"""Limits of a cluster on the smallest one: a Ray on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray

from bitstore import Budget, LimitReached, Money, NotFoundInStore, S3Raw, StoreNotAvailable
from ray_integration import ClusterBudget, ClusterLimit, ClusterRate
from ray_integration._limits.cluster_rate import RateKeeper
from tests.clock import HandClock
from tests.limit_workers import Asker, LimitedAPI, TimedAPI, digest_of
from tests.stores import API, as_source, composed

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("error::DeprecationWarning", "error::FutureWarning")]


def test_a_cluster_limit_allows_no_call_without_ray() -> None:
    assert not ray.is_initialized()
    api = API({})
    api.limit = ClusterLimit("api", per_minute=4)
    with pytest.raises(StoreNotAvailable, match=r"limit 'api': Ray is not running in this process: call ray.init\(\)"):
        api.get(digest_of(b"x"))
    assert api.calls == []
    with pytest.raises(StoreNotAvailable, match=r"Ray is not running in this process.*rate 'bucket' is not available"):
        S3Raw("anonymous", endpoint_url="http://127.0.0.1:9", limit=ClusterRate("bucket", per_second=3)).get("s3://b/k")
    assert not ray.is_initialized()


def test_options_that_a_cluster_limit_cannot_have_are_refused() -> None:
    with pytest.raises(TypeError, match="counts by the clock of the head's node"):
        ClusterLimit("api", clock=HandClock())
    with pytest.raises(ValueError, match="must be an absolute path"):
        ClusterLimit("api", state="here")


def test_a_budget_counts_all_processes_and_survives_its_keeper(shared_ray: Any, tmp_path: Path) -> None:
    limit = ClusterLimit("api", budget=25, state=tmp_path / "limits.sqlite")
    with TimedAPI() as api:
        source = LimitedAPI(api.url, limit)
        actors: list[Any] = [ray.remote(Asker).options(num_cpus=0).remote(source) for _ in range(2)]
        told: Any = ray.get([actor.ask.remote(f"{n}", 10) for n, actor in enumerate(actors)], timeout=60)
        assert told == [["missing"] * 10] * 2
        keeper = ray.get_actor("bitstore-limit-api", namespace="bitstore")
        pid: Any = ray.get(keeper.__ray_call__.remote(lambda self: os.getpid()), timeout=30)
        os.kill(pid, signal.SIGKILL)
        more = [each for n in range(10) for each in ask_here(source, f"here {n}")]
        assert more.count("missing") == len(api.times) - 20
        assert 4 <= more.count("missing") <= 5  # one grant may be lost with the keeper, none is given twice
        assert set(more) == {"missing", "LimitReached"}
        limit.shutdown()
        with pytest.raises(LimitReached, match="limit 'api': the budget of 25 calls is used up"):
            source.get(digest_of(b"once more"))
    assert (tmp_path / "limits.sqlite").exists()


def ask_here(source: LimitedAPI, word: str) -> list[str]:
    try:
        source.get(digest_of(word.encode()))
    except NotFoundInStore:
        return ["missing"]
    except LimitReached:
        return ["LimitReached"]
    return ["found"]


def test_a_rate_is_divided_among_the_processes_that_ask() -> None:
    clock = HandClock()
    keeper = RateKeeper(100, clock)
    given = {"a": 0, "b": 0, "c": 0}
    wants = {"a": 1000, "b": 1000, "c": 5}
    ask_at = dict.fromkeys(wants, 1000.0)
    for _ in range(2000):
        clock.now += 0.01
        for name, want in wants.items():
            if clock.now >= ask_at[name]:
                lease = keeper.lease(name, 100, want, False)
                given[name] += lease.requests
                ask_at[name] = clock.now + lease.again_in
    assert sum(given.values()) <= 100 * 20 + 50
    assert sum(given.values()) >= 0.8 * 100 * 20
    assert given["c"] >= 5 * 30  # a small demand is met
    assert min(given["a"], given["b"]) >= 0.6 * max(given["a"], given["b"])


def test_a_share_that_is_no_whole_number_of_requests_is_handed_out_whole() -> None:
    """On a thousand nodes a bucket's rate is a few requests for each in half a second."""
    clock = HandClock()
    keeper = RateKeeper(200, clock)  # 2.5 for each in a lease
    given = dict.fromkeys(map(str, range(40)), 0)
    ask_at = dict.fromkeys(given, clock.now)
    for _ in range(2000):
        clock.now += 0.01
        for name in given:
            if clock.now >= ask_at[name]:
                lease = keeper.lease(name, 200, 1000, False)
                given[name] += lease.requests
                ask_at[name] = clock.now + lease.again_in
    assert 0.95 * 200 * 20 <= sum(given.values()) <= 200 * 20 + 100
    assert min(given.values()) > 0.5 * 5 * 20


def test_a_refusal_halves_the_rate_of_all_processes() -> None:
    clock = HandClock()
    keeper = RateKeeper(100, clock)
    clock.now += 10
    assert keeper.lease("a", 100, 1000, False) == (50, 0.5, 100)
    clock.now += 10
    assert keeper.lease("b", 100, 1000, True).rate == 50
    assert keeper.lease("c", 100, 1000, True).rate == 50  # of the same moment: no news
    clock.now += 1
    assert keeper.lease("a", 100, 1000, False).rate == pytest.approx(55)
    clock.now += 100
    assert keeper.lease("a", 100, 1000, False) == (50, 0.5, 100)
    assert keeper.lease("b", 100, 1000, False).requests == 0
    with pytest.raises(ValueError, match=r"says per_second=5, but .* per_second=100"):
        keeper.lease("a", 5, 1, False)


def test_a_cluster_pays_no_more_than_its_budget_while_processes_are_killed(shared_ray: Any, tmp_path: Path) -> None:
    budget = ClusterBudget("0.25 USD", name="job", state=tmp_path / "budget.sqlite")
    with TimedAPI() as api:
        store = composed(as_source(LimitedAPI(api.url, None, price="0.01 USD"), "api"), budget=budget)
        actors: list[Any] = [ray.remote(Asker).options(num_cpus=0).remote(store) for _ in range(2)]
        told: Any = ray.get([actor.ask.remote(f"{n}", 8) for n, actor in enumerate(actors)], timeout=60)
        assert told == [["missing"] * 8] * 2
        assert budget.spent == (Money("0.16 USD"), 16, 0, 0)
        ray.kill(actors[0])
        keeper = ray.get_actor("bitstore-budget-job", namespace="bitstore")
        pid: Any = ray.get(keeper.__ray_call__.remote(lambda self: os.getpid()), timeout=30)
        os.kill(pid, signal.SIGKILL)
        assert store.budget is budget
        outcomes = [each for n in range(12) for each in Asker(store).ask(f"here {n}", 1)]
        assert 24 <= len(api.times) <= 25  # one grant may be lost with the keeper, none is given twice
        assert outcomes.count("missing") == len(api.times) - 16
        assert set(outcomes) == {"missing", "LookupFailed"}
        other = ClusterBudget("0.30 USD", name="job", state=tmp_path / "budget.sqlite")
        store.budget = other
        assert Asker(store).ask("more", 9).count("missing") == 5
        assert other.receipt()["api"].money == Money("0.30 USD")
        budget.shutdown()
    assert Budget(name="job", state=tmp_path / "budget.sqlite").spent.calls == 30
    with pytest.raises(ValueError, match="must be an absolute path"):
        ClusterBudget("1 USD", state="here")


def test_a_cluster_budget_allows_nothing_where_its_file_is_lost(shared_ray: Any, tmp_path: Path) -> None:
    state = tmp_path / "budget.sqlite"
    budget = ClusterBudget(calls=50, name="lost", state=state)
    source = API({digest_of(b"x"): b"x"})
    store = composed(as_source(source, "api"), budget=budget)
    assert store.get(digest_of(b"x")) == b"x"
    state.unlink()
    with pytest.raises(StoreNotAvailable, match="what it has spent is lost"):
        store.get(digest_of(b"x"))
    keeper = ray.get_actor("bitstore-budget-lost", namespace="bitstore")
    pid: Any = ray.get(keeper.__ray_call__.remote(lambda self: os.getpid()), timeout=30)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(StoreNotAvailable, match="what it has spent is lost"):
        store.get(digest_of(b"x"))
    assert len(source.calls) == 1
    budget.shutdown()
