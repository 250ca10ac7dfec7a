"""Limits that hold for a whole Ray cluster, counted where the calls arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray

from bitstore import LimitReached, NotFoundInStore, S3Raw, Sha1Store, StoreNotAvailable
from bitstore._support.fingerprint import fingerprint
from ray_integration import ClusterLimit, ClusterRate
from tests.limit_workers import Asker, LimitedAPI, TimedAPI, digest_of, most_within
from tests.ray_cluster import ROOT, RayCluster, leave_nothing, on_nodes, on_ray
from tests.servers import MakeProxy, SeaweedS3, s3_error

pytestmark = on_ray(200, pytest.mark.soak)

LIMIT = 90


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster() as cluster:
        for _ in range(3):
            cluster.add()
        cluster.wait()
        yield cluster


@pytest.fixture
def timed_api() -> Iterator[TimedAPI]:
    with TimedAPI() as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "limits.sqlite"


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    yield
    leave_nothing()


def askers(cluster: RayCluster, names: list[str], store: Any) -> list[Any]:
    """An actor on each of these nodes that looks up what it is told to."""
    return on_nodes(cluster, names, Asker, store)


class OtherJob:
    """Another driver of the same cluster, which looks up blobs until it is told to stop."""

    def __init__(self, cluster: RayCluster, url: str, limit: str) -> None:
        code = (
            "import sys, ray\n"
            "from tests.limit_workers import ask_as_job\n"
            f"ray.init(address={cluster.address!r}, log_to_driver=False, namespace='other')\n"
            f"ask_as_job({list(cluster.nodes.values())!r}, {url!r}, {limit!r})\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )

    def result(self) -> str:
        told, _ = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0
        return told.splitlines()[-1]  # Ray may have said something of its own before


def keeper_pid(name: str) -> int:
    handle = ray.get_actor(f"bitstore-limit-{name}", namespace="bitstore")
    found: Any = ray.get(handle.__ray_call__.remote(lambda self: os.getpid()), timeout=30)
    return int(found)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    pause = threading.Event()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        pause.wait(0.02)


def test_a_limit_holds_for_three_nodes_and_two_jobs_while_processes_are_killed(
    cluster: RayCluster, timed_api: TimedAPI, state: Path
) -> None:
    """4 a minute: from everywhere, over a node's death and the keeper's, and still 4 in any minute."""
    limit = ClusterLimit("vt", per_minute=4, per_day=8, state=state, wait=75)
    victim = cluster.add()
    cluster.wait()
    source = LimitedAPI(timed_api.url, limit)
    mine = askers(cluster, [*cluster.nodes], source)
    other = OtherJob(cluster, timed_api.url, repr(limit))
    pending = [actor.ask.remote(f"{number}", 6) for number, actor in enumerate(mine)]
    pause = threading.Event()
    deadline = time.monotonic() + LIMIT
    while len(timed_api.times) < 4 and time.monotonic() < deadline:
        pause.wait(0.05)
    kill(keeper_pid("vt"))
    cluster.kill(victim)
    told = other.result()
    outcomes: list[str] = []
    for ref in pending[:3]:
        outcomes += ray.get(ref, timeout=LIMIT)
    assert most_within(60, timed_api.times) == 4
    assert len(timed_api.times) == 8
    assert set(outcomes) | set(told.split()) <= {"missing", "LimitReached"}
    # The victim's calls may have been answered without anybody to tell it to.
    answered = (outcomes + told.split()).count("missing")
    assert len(timed_api.times) - 4 <= answered <= len(timed_api.times)


def test_a_day_limit_holds_when_its_keeper_is_killed(cluster: RayCluster, timed_api: TimedAPI, state: Path) -> None:
    """500 a day and not one more, while its keeper is killed again and again."""
    limit = ClusterLimit("day", per_day=500, state=state)
    source = LimitedAPI(timed_api.url, limit)
    mine = askers(cluster, [*cluster.nodes], source)
    other = OtherJob(cluster, timed_api.url, repr(limit))
    pending = [actor.ask.remote(f"{number}", 400) for number, actor in enumerate(mine)]
    pause = threading.Event()
    kills = 0
    for wanted in (60, 150, 260, 400):
        deadline = time.monotonic() + LIMIT
        while len(timed_api.times) < wanted and time.monotonic() < deadline:
            pause.wait(0.02)
        kill(keeper_pid("day"))
        kills += 1
    outcomes = [outcome for ref in pending for outcome in ray.get(ref, timeout=LIMIT)] + other.result().split()
    assert set(outcomes) == {"missing", "LimitReached"}
    # A grant may be lost with its keeper on the way to each of the waiting callers, and is never given again.
    assert 500 - kills * 4 <= len(timed_api.times) <= 500
    assert outcomes.count("missing") == len(timed_api.times)
    limit.shutdown()  # what it counted is in the file, for the next one
    with pytest.raises(LimitReached, match="limit 'day': 500 calls per day are used up; it opens again in 2"):
        source.get(digest_of(b"x"))
    assert len(timed_api.times) <= 500


def test_a_limit_whose_state_is_lost_begins_as_used_up(cluster: RayCluster, timed_api: TimedAPI, state: Path) -> None:
    source = LimitedAPI(timed_api.url, ClusterLimit("lost", per_day=5, budget=100, state=state))
    with pytest.raises(NotFoundInStore):
        source.get(digest_of(b"x"))
    state.unlink()
    kill(keeper_pid("lost"))
    with pytest.raises(LimitReached, match="the budget of 100 calls is used up"):
        source.get(digest_of(b"x"))
    assert len(timed_api.times) == 1


def test_different_numbers_for_one_limit_name_are_an_error_that_shows_both(
    cluster: RayCluster, timed_api: TimedAPI, state: Path
) -> None:
    with pytest.raises(NotFoundInStore):
        LimitedAPI(timed_api.url, ClusterLimit("vt", per_minute=4, state=state)).get(digest_of(b"x"))
    other = ClusterLimit("vt", per_minute=5, per_day=7, state=state)
    with pytest.raises(StoreNotAvailable, match=r"says per_minute=5, per_day=7, but .* with per_minute=4: give"):
        LimitedAPI(timed_api.url, other).get(digest_of(b"x"))
    assert len(timed_api.times) == 1
    other.shutdown()
    with pytest.raises(NotFoundInStore):
        LimitedAPI(timed_api.url, other).get(digest_of(b"x"))


def test_a_keeper_that_cannot_count_allows_no_call(cluster: RayCluster, timed_api: TimedAPI, tmp_path: Path) -> None:
    source = LimitedAPI(timed_api.url, ClusterLimit("bad", per_minute=4, state=tmp_path))
    with pytest.raises(StoreNotAvailable, match=f"limit 'bad': its calls cannot be counted in {tmp_path}"):
        source.get(digest_of(b"x"))
    assert timed_api.times == []


def test_a_keeper_runs_on_the_head_node_and_needs_no_cpu(cluster: RayCluster, timed_api: TimedAPI, state: Path) -> None:
    with pytest.raises(NotFoundInStore):
        LimitedAPI(timed_api.url, ClusterLimit("where", per_minute=4, state=state)).get(digest_of(b"x"))
    handle = ray.get_actor("bitstore-limit-where", namespace="bitstore")
    node: Any = ray.get(handle.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id()), timeout=30)
    assert node not in cluster.nodes.values()


def test_a_refusal_of_one_node_slows_all_nodes(cluster: RayCluster, s3: SeaweedS3, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url, limit=ClusterRate("bucket", per_second=200))
    store = Sha1Store(raw, f"s3://{s3.create_bucket()}/")
    actors = askers(cluster, [*cluster.nodes], store)
    before = time.monotonic()
    outcomes = [outcome for ref in [each.ask_many.remote(f"a{i}", 200) for i, each in enumerate(actors)]
                for outcome in ray.get(ref, timeout=LIMIT)]  # fmt: skip
    seconds = time.monotonic() - before
    assert outcomes == ["missing"] * 600
    sent = sum(proxy.counts.values())
    assert sent <= 200 * (seconds + 1.0) + 3
    rates = ray.get([each.rate.remote() for each in actors], timeout=30)
    assert rates == [200, 200, 200]
    proxy.rules.add(s3_error(503, "SlowDown"), times=1)
    one, *others = actors
    assert ray.get(one.ask_many.remote("refused", 5), timeout=LIMIT) == ["missing"] * 5
    slowed = ray.get(one.rate.remote(), timeout=30)
    assert 100 <= slowed < 120
    # The others were refused nothing, and go slower all the same, when what they have of the old rate is used or void.
    for number, each in enumerate(others):
        for again in range(200):
            told = ray.get(each.ask_many.remote(f"b{number} {again}", 5), timeout=LIMIT)
            assert told == ["missing"] * 5
            if ray.get(each.rate.remote(), timeout=30) < 200:
                break
        else:
            raise AssertionError("it goes on at the full rate")
    other = ClusterRate("bucket", per_second=100)
    with pytest.raises(StoreNotAvailable, match=r"says per_second=100, but .* with per_second=200"):
        S3Raw(s3.admin.session, endpoint_url=proxy.url, limit=other).get("s3://bucket-of-nobody/key")


def test_cluster_limits_are_configured_without_ray(state: Path) -> None:
    limit = ClusterLimit("vt", per_minute=4, state=state)
    assert repr(limit) == f"ClusterLimit('vt', per_minute=4, state={str(state)!r})"
    first, second = (LimitedAPI("http://api", ClusterLimit("vt", per_minute=4)) for _ in range(2))
    assert fingerprint(first) == fingerprint(second)
    assert fingerprint(first) != fingerprint(LimitedAPI("http://api", ClusterLimit("vt", per_minute=5)))
    with pytest.raises(ValueError, match="must be an absolute path"):
        ClusterLimit("vt", state="here")
