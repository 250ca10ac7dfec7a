"""Seeing a pool: its table of counts, and the metrics that Ray serves. On a local Ray, with a real GET of its port."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
import ray

from bitstore import DiskCache, FileRaw, LearnedOrder, MemoryCache, NotFoundInStore, Sha1Composite, Sha1Store
from bitstore._frames.buffers import BufferPool
from bitstore._support.fingerprint import fingerprint
from bitstore._tiers.latency import Latencies
from bitstore.observe._names import BREAKER, COUNTERS, LATENCY, MEMORY, ON_RAY
from ray_integration import FetchBlobs, NodePool, PoolError
from ray_integration._node.metrics import PROCESS_TAGS, TAGS, TierMetrics
from ray_integration._node.pieces import Packer
from ray_integration._node.places import caches_of, origins_of, place_of
from ray_integration._node.usage import Usage
from ray_integration._pool.exchange import exchange
from ray_integration._pool.stats_table import COUNTS, stats_table
from tests.ray_cluster import on_ray
from tests.ray_stores import FullCache, LockedStore, MadeStore, NotedAPI
from tests.stores import as_cache, as_source, asked_by_steps, composed

pytestmark = on_ray(150)

BLOBS = {hashlib.sha1(data).hexdigest(): data for data in (f"blob {number}".encode() for number in range(500))}
PAID = [hashlib.sha1(f"paid {number}".encode()).hexdigest() for number in range(7)]
SECRET = "hunter2hunter2"


def store_in(folder: Path) -> Sha1Composite:
    """Memory, a bucket, and an API; the bucket is filled, and the API notes its calls."""
    bucket = folder / "bucket"
    bucket.mkdir()
    for digest, data in BLOBS.items():
        (bucket / digest).write_bytes(data)
    store = composed(
        as_cache(MemoryCache("10MB"), "memory"), as_source(Sha1Store(FileRaw(), bucket.as_uri() + "/"), "bucket")
    )
    api = NotedAPI(folder / "calls")
    api.password = SECRET  # type: ignore[attr-defined]
    store.append_source(api, name="api")
    return store


def table_of(digests: list[str]) -> pyarrow.Table:
    return pyarrow.table({"sha1": pyarrow.array(digests, pyarrow.string())})


def fetch(store: Any, digests: list[str], **options: Any) -> None:
    rows = [row for piece in FetchBlobs(store, **options)(table_of(digests)) for row in piece.to_pylist()]
    assert [row["sha1"] for row in rows if row["error"] is None] == digests


def test_the_counts_of_a_pool_are_one_table(shared_ray: Any, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with NodePool(store, private=True, workers_per_node=2) as pool:
        (node,) = {found.node_id for found in pool.nodes()}
        fetch(store, [*BLOBS, *PAID], pool=pool)
        fetch(store, list(BLOBS), pool=pool)
        stats = pool.stats()
        assert stats.index.names == ["node", "worker", "tier"]
        assert [(worker, tier) for _, worker, tier in stats.index] == [
            (worker, tier) for worker in (0, 1) for tier in ("memory", "bucket", "api")
        ]
        assert set(stats["node_id"]) == {node}
        assert all(name.startswith(node[:8]) for name in stats.index.get_level_values("node"))
        totals = stats.groupby("tier").sum(numeric_only=True)
        assert totals["hits"].to_dict() == {"memory": 500, "bucket": 500, "api": 7}
        assert totals["bytes"]["bucket"] == sum(map(len, BLOBS.values()))
        assert totals.loc["memory", "writes"] == 507
        # Both took part, and each counts for itself.
        assert stats.xs("bucket", level="tier")["hits"].between(150, 350).all()
        assert set(stats["breaker"]) == {"closed"}
        assert stats["place"].groupby("tier").first().to_dict() == {
            "memory": "memory", "bucket": "upstream", "api": "upstream",
        }  # fmt: skip
        assert SECRET not in stats.to_string()


def test_a_node_store_asks_in_the_order_that_another_has_learned(shared_ray: Any, tmp_path: Path) -> None:
    """The second has looked up nothing before."""
    for name in ("none", "all"):
        (tmp_path / name).mkdir()
    digests = list(BLOBS)[:60]
    for digest in digests:
        (tmp_path / "all" / digest).write_bytes(BLOBS[digest])
    store = composed(
        *(as_source(Sha1Store(FileRaw(), (tmp_path / name).as_uri() + "/"), name) for name in ("none", "all")),
        order=LearnedOrder(explore=0),
    )
    how: dict[str, Any] = {"ask_paid": True, "timeout": None, "in_flight": 1, "patience": 0.0, "with_errors": False}
    with NodePool(store, private=True, workers_per_node=2) as pool:
        handles = pool._held().handles()
        for name in sorted(handles):
            pieces = handles[name].fetch.options(num_returns="streaming").remote(digests, **how)
            assert [ray.get(piece, timeout=60) for piece in pieces]
            assert exchange(handles)
        asked = pool.stats().xs("none", level="tier")["misses"]
        assert 8 <= asked.iloc[0] < 60
        assert asked.iloc[1] == 0


def settled(pool: NodePool) -> Any:
    """The usage when no call is under way: a caller has its last piece a moment before the call ends."""
    deadline = time.monotonic() + 30
    while (usage := pool.stats(by="node"))["under_way"].any():
        assert time.monotonic() < deadline
    return usage


def test_the_usage_of_a_pool_is_what_went_through_its_node_stores(shared_ray: Any, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with NodePool(store, private=True, workers_per_node=2) as pool:
        before = pool.stats(by="node")
        assert before["idle"].isna().all()
        size = sum(map(len, BLOBS.values()))
        fetch(store, [*BLOBS, *PAID], pool=pool)
        fetch(store, list(BLOBS), pool=pool)
        used = settled(pool)
        assert list(used.columns) == list(before.columns) == [*COUNTS, "node_id"]
        assert used.index.names == ["node", "worker"]
        assert used.attrs["unanswered"] == []
        total = used.sum(numeric_only=True)
        # Each blob of the bucket and of the API, and a look at the bucket for each that only the API has.
        assert total["requests"] >= len(BLOBS) + len(PAID)
        assert total["bytes_memory"] == size
        paid = total["bytes_upstream"] - size
        assert 0 < paid < 1000
        assert total["hand_over_bytes"] == 2 * size + paid
        assert (total["bytes_disk"], total["bytes_peer"], total["under_way"]) == (0, 0, 0)
        assert (used["hand_over_seconds"] > 0).all()
        assert (used["hand_over_seconds"] < used["age"]).all()
        assert (used["memory"] > 10 << 20).all()
        assert (used["memory_peak"] >= used["memory"]).all()
        assert (used["idle"] < used["age"]).all()
        with pytest.raises(ValueError, match="by='worker': choose one of 'tier', 'node'"):
            pool.stats(by="worker")  # type: ignore[arg-type]
    with pytest.raises(PoolError, match="closed"):
        pool.stats(by="node")


def test_the_report_of_a_pool_is_a_text_a_page_and_json(shared_ray: Any, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    store = composed(
        as_cache(DiskCache(tmp_path / "disk", "1GB"), "disk"), as_cache(MemoryCache("10MB"), "memory"),
        as_source(MadeStore(1000), evil),
    )  # fmt: skip
    digests = [f"{number:040x}" for number in range(100)]
    with NodePool(store, private=True) as pool:
        fetch(store, digests, pool=pool)
        fetch(store, digests[:50], pool=pool)
        settled(pool)
        report = pool.report()
        for kind in ("html", "json", "txt"):
            report.save(tmp_path / "new" / f"report.{kind}")
        (pid,) = {found.pid for found in pool.nodes()}
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not (after := pool.report()).nodes:  # it does not answer until Ray has started it again
            assert after.unanswered and not after.complete and after.upstream_share is None
            assert "no answer from bitstore-private-" in str(after)
            assert time.monotonic() < deadline
    assert report.complete
    assert report.bytes_by_place == {"upstream": 100_000, "other_disks": 0, "disk": 50_000, "memory": 0}
    assert (report.served, report.requests, report.upstream_share, report.failures) == (150_000, 100, 2 / 3, 0)
    assert {name: counts["hits"] for name, counts in report.by_tier.items()} == {"disk": 50, "memory": 0, evil: 100}
    text = (tmp_path / "new" / "report.txt").read_text()
    assert text == f"{report}\n"
    assert "served: 150.0 kB, from upstream 100.0 kB, other disks 0 B, disk 50.0 kB, memory 0 B\n" in text
    assert "bytes from upstream for each byte served: 0.667\n" in text
    assert f" of 1.0 GB in {tmp_path / 'disk'}\n" in text
    assert "\x1b" not in text
    assert json.loads((tmp_path / "new" / "report.json").read_text()) == json.loads(json.dumps(report.as_dict()))
    page = (tmp_path / "new" / "report.html").read_text()
    assert page == report.html()
    assert "<script" not in page and "&lt;script" in page
    assert 'srcdoc="&lt;!doctype html&gt;' in report._repr_html_()
    with pytest.raises(ValueError, match=r"'pool\.pdf': the name of a report ends in \.html, \.json, \.txt"):
        report.save("pool.pdf")
    # What the killed process had counted is in no number, and that is said.
    assert (after.served, after.complete, len(after.lost)) == (0, False, 1)
    assert f"lost is what was counted by a node store of {after.nodes[0]['node']} that crashed" in str(after)
    assert "Lost is what was counted by a node store of" in after.html()
    with pytest.raises(PoolError, match="closed"):
        pool.report()


@pytest.mark.soak  # a gigabyte goes through
def test_the_memory_of_a_node_store_is_bounded_whatever_goes_through(shared_ray: Any) -> None:
    store = composed(as_source(MadeStore(200_000), "made"))
    with NodePool(store, private=True) as pool:
        (before,) = pool.stats(by="node")["memory"]
        fetching = FetchBlobs(store, pool=pool)
        for start in range(0, 5000, 250):
            digests = [f"{number:040x}" for number in range(start, start + 250)]
            assert sum(piece.num_rows for piece in fetching(table_of(digests))) == 250
        usage = settled(pool)
        assert usage["hand_over_bytes"].sum() == 5000 * 200_000
        # Ten buffers of 16 MB, 64 MB of blobs in the one call, and as much again for what allocators keep.
        assert usage["memory_peak"].max() < before + 2 * (10 * 16 + 64) * 10**6


class CountingRaw(FileRaw):
    """A raw store that says it has sent one request for each lookup."""

    asked = 0

    def counts(self) -> Any:
        return SimpleNamespace(requests=self.asked, retries=0)


def test_requests_upstream_are_counted_once_for_each_raw_store(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    raw = CountingRaw()
    raw.asked = 5
    inner = composed(as_source(Sha1Store(raw, tmp_path.as_uri() + "/a/"), "a"), as_source(MadeStore(50), "made"))
    store = composed(
        as_cache(MemoryCache("1MB"), "memory"), as_cache(DiskCache(tmp_path / "disk", "1MB"), "disk"),
        as_source(Sha1Store(raw, tmp_path.as_uri() + "/b/"), "b"), as_source(inner, "inner"),
    )  # fmt: skip
    assert [place_of(tier.store) for tier in store.tiers] == ["memory", "disk", "upstream", "upstream"]
    for number in range(3):
        assert len(store.get(f"{number:040}")) == 50
    origins = origins_of(store)
    assert origins.requests == 5 + 3  # of the raw store that two tiers share, and of the store that counts none
    assert origins.bytes == {"upstream": 150, "other_disks": 0, "disk": 0, "memory": 0}
    store.get(f"{0:040}")
    assert origins_of(store).bytes == {"upstream": 150, "other_disks": 0, "disk": 0, "memory": 50}
    (memory, disk) = caches_of(store)
    assert (memory["place"], memory["folder"], memory["bytes"], memory["max_size"]) == ("memory", None, 150, 10**6)
    assert (disk["place"], disk["folder"], disk["max_size"]) == ("disk", str(tmp_path / "disk"), 10**6)
    assert disk["bytes"] >= 150
    assert origins_of(MadeStore(1)).requests == 0


def test_bytes_for_another_node_are_counted_as_peer() -> None:
    usage = Usage()
    packer = Packer(BufferPool())
    packer.add(0, b"12345", "made")
    with usage.call():
        assert usage.as_dict()["under_way"] == 1
        for away in (False, True):
            assert len(list(usage.hand_over(packer.take(), away=away))) == 1
            packer.add(0, b"1234567", "made")
    told = usage.as_dict()
    assert (told["hand_over_bytes"], told["bytes_peer"], told["calls"], told["under_way"]) == (12, 7, 1, 0)
    assert told["memory_peak"] >= told["memory"] > 1 << 20


def test_the_table_of_an_empty_pool_has_the_same_columns() -> None:
    row: dict[str, int | str] = {"node": "a", "node_id": "aa", "name": "disk", "hits": 3}
    full: dict[str, int | str] = {**dict.fromkeys(set(COUNTERS) - set(row), 0), "breaker": "open", **row}
    some = stats_table({"bitstore-x-aa-0": [full]}, ["bitstore-x-bb-0"])
    none = stats_table({"bitstore-x-aa-0": []})
    assert list(none.columns) == list(some.columns) == [*COUNTERS_IN_ORDER, "breaker", "place", "node_id"]
    assert list(none.dtypes[:13]) == list(some.dtypes[:13]) == ["int64"] * 13
    assert some.loc[("a", 0, "disk"), "hits"] == 3
    assert none["hits"].sum() == 0
    assert some.attrs["unanswered"] == ["bitstore-x-bb-0"]


COUNTERS_IN_ORDER = [
    "hits", "misses", "failures", "invalid", "skipped", "denied", "bytes", "writes", "write_failures", "conflicts",
    "remembered", "hedged", "hedges_won", "requests", "retries",
]  # fmt: skip


class Told:
    """Stands for a metric of Ray; remembers what it is told."""

    def __init__(self) -> None:
        self.values: list[tuple[float, dict[str, str]]] = []

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0  # Ray refuses others
        self.values.append((value, tags))

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.values.append((value, tags))

    set = observe


def test_threads_that_report_at_once_count_each_difference_once(
    shared_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {name: Told() for name in [*COUNTERS, *ON_RAY, "gauge", "histogram"]}
    monkeypatch.setattr("ray_integration._node.metrics._counter", lambda what: told[what])
    monkeypatch.setattr("ray_integration._node.metrics._gauge", lambda: told["gauge"])
    monkeypatch.setattr("ray_integration._node.metrics._histogram", lambda: told["histogram"])
    monkeypatch.setattr("ray_integration._node.metrics._process_counter", lambda what: told[what])
    store = store_in(tmp_path)
    metrics = TierMetrics(store)
    digests = list(BLOBS)

    def work(part: list[str]) -> None:
        for digest in part:
            store.get(digest)
            metrics.report()

    threads = [threading.Thread(target=work, args=(digests[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    metrics.report()
    counts = {name: Counter[str]() for name in COUNTERS}
    for name in COUNTERS:
        for value, tags in told[name].values:
            counts[name][tags["tier"]] += int(value)
            assert set(tags) == set(TAGS)
    assert counts["hits"] == {"bucket": 500}
    assert counts["misses"] == {"memory": 500}
    assert counts["writes"] == {"memory": 500}
    assert counts["bytes"] == {"bucket": sum(map(len, BLOBS.values()))}
    assert sum(value for value, tags in told["place_bytes"].values if tags["place"] == "upstream") == sum(
        map(len, BLOBS.values())
    )
    assert sum(value for value, _ in told["upstream_requests"].values) == 500
    assert Counter(tags["tier"] for _, tags in told["histogram"].values) == {"memory": 32, "bucket": 32}
    assert [value for value, _ in told["gauge"].values] == [0, 0, 0]  # at the first time only


def test_latencies_are_sampled_and_cover_every_kind_of_answer() -> None:
    waited = threading.Event()

    class Slow(MadeStore):
        def get(self, uri: str) -> bytes:
            waited.wait(0.02)
            if uri.startswith("0"):
                raise NotFoundInStore(self, uri)
            return super().get(uri)

    store = composed(as_source(Slow(50), "slow"), as_source(MadeStore(50), "quick"))
    latencies = Latencies(every=4)
    store.get("1" * 40)
    assert latencies.take() == []
    latencies.watch(store)
    for number in range(8):
        store.get(f"{number % 2}{number:039}")  # every other is missing in the first tier
    taken = latencies.take()
    assert Counter(name for name, _ in taken) == {"slow": 2, "quick": 1}
    assert all((seconds > 0.02) == (name == "slow") for name, seconds in taken)
    assert latencies.take() == []
    assert list(store.get_many([f"1{number:039}" for number in range(40)]))
    assert len(latencies.take()) == 10
    # Where lookups go from tier to tier in turn, each gets its share of the samples.
    halves = Latencies(every=2)
    halves.watch(store)
    for number in range(8):
        store.get(f"0{number:039}")
    assert Counter(name for name, _ in halves.take()) == {"slow": 4, "quick": 4}
    with pytest.raises(ValueError, match="every=0"):
        Latencies(every=0)


def test_rows_take_the_express_lane_but_for_those_whose_latency_is_measured(
    shared_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path)
    fetched = FetchBlobs(store)
    list(fetched(table_of(list(BLOBS))))  # the memory has them now
    by_steps = asked_by_steps(monkeypatch)
    again = [row for piece in fetched(table_of(list(BLOBS))) for row in piece.to_pylist()]
    assert {row["source"] for row in again} == {"memory"}
    assert len(by_steps) in (500 // 16, 500 // 16 + 1)


def test_a_fetch_object_still_pickles_after_its_use(shared_ray: Any, tmp_path: Path) -> None:
    fetched = FetchBlobs(store_in(tmp_path))
    list(fetched(table_of(list(BLOBS)[:3])))
    again = pickle.loads(pickle.dumps(fetched))
    assert sum(piece.num_rows for piece in again(table_of(list(BLOBS)[:3]))) == 3


def test_a_pool_of_a_store_that_does_not_pickle_names_the_attribute(shared_ray: Any) -> None:
    store = composed(as_source(LockedStore(), "locked"))
    with pytest.raises(
        TypeError, match=r"store\.tiers\['locked'\]\.settings\['client'\] \(_thread\.lock\) does not pickle"
    ):
        NodePool(store)
    names = [entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)]
    assert not [name for name in names if name.startswith(f"bitstore-{fingerprint(store)}")]


def test_a_node_continues_without_a_cache_folder_that_it_cannot_use(
    shared_ray: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = composed(as_cache(DiskCache(tmp_path / "file" / "cache", "1MB"), "disk"), as_source(MadeStore(100), "made"))
    (tmp_path / "file").write_text("no folder")
    with NodePool(store, private=True) as pool:
        ((note,),) = [found.notes for found in pool.nodes()]
        assert note.startswith(f"goes on without its cache folder '{tmp_path / 'file' / 'cache'}': ")
        (told,) = [record for record in caplog.records if note in record.getMessage()]
        assert told.levelname == "WARNING"
        fetch(store, list(BLOBS)[:20], pool=pool)
        assert [tier for _, _, tier in pool.stats().index] == ["made"]


def test_rows_with_an_invalid_digest_report_it_and_the_rest_are_fetched(shared_ray: Any, tmp_path: Path) -> None:
    good = list(BLOBS)[:2]
    wrong = [good[0][:-1], good[0] + "0", "", hashlib.sha256(b"").hexdigest(), "g" * 40, f" {good[0]}"]
    store = store_in(tmp_path)
    with NodePool(store, private=True) as pool:
        every: list[dict[str, Any]] = [{}, {"pool": pool}, {"pool": pool, "routing": "owner"}]
        for options in every:
            rows = [
                row
                for piece in FetchBlobs(store, **options)(table_of([good[0], *wrong, good[1]]))
                for row in piece.to_pylist()
            ]
            assert [row["data"] for row in rows] == [BLOBS[good[0]], *[None] * len(wrong), BLOBS[good[1]]]
            for row in rows[1:-1]:
                assert row["error"].startswith("invalid: ")
                assert repr(row["sha1"])[1:-1] in row["error"]
    assert not (tmp_path / "calls").exists()  # none was paid for


def exported() -> str:
    """What the node's metrics port serves now."""
    list_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    (node,) = list_nodes()
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def values_of(text: str, name: str) -> dict[tuple[str, str], float]:
    """The samples of a metric by store and tier, all processes of the node together."""
    found: dict[tuple[str, str], float] = {}
    for tags, value in re.findall(rf"^ray_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
        by_name = dict(re.findall(r'(\w+)="([^"]*)"', tags))
        key = by_name["store"], by_name["tier"]
        found[key] = found.get(key, 0.0) + float(value)
    return found


@pytest.mark.soak  # which installs ray[default]: without it Ray serves no metrics
def test_the_metrics_port_of_a_node_serves_the_metrics(shared_ray: Any, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with NodePool(store, private=True) as pool:
        fetch(store, [*BLOBS, *PAID], pool=pool)
        fetch(store, list(BLOBS), pool=pool)
        told = f'store="{pool.fingerprint[:8]}"'
        deadline = time.monotonic() + 40
        while True:
            try:
                text = exported()
            except urllib.error.URLError:  # it is being started
                text = ""
            mine = "\n".join(line for line in text.splitlines() if told in line)
            # Ray serves what it was sent up to some moment, and the counts of one lookup may be in two sendings.
            hits = sum(values_of(mine, "bitstore_hits_total").values())
            if hits == 500 + 500 + 7 and values_of(mine, "bitstore_lookup_seconds_count"):
                break
            assert time.monotonic() < deadline, text[-2000:]
            threading.Event().wait(0.5)
    (key,) = {key for key, _ in values_of(mine, "bitstore_hits_total")}
    assert key == pool.fingerprint[:8]

    def counts(name: str) -> dict[str, float]:
        return {tier: value for (_, tier), value in values_of(mine, name).items()}

    assert counts("bitstore_hits_total") == {"memory": 500, "bucket": 500, "api": 7}
    assert counts("bitstore_bytes_total")["bucket"] == sum(map(len, BLOBS.values()))
    assert counts("bitstore_breaker_open") == {"memory": 0, "bucket": 0, "api": 0}
    assert counts("bitstore_lookup_seconds_count")["bucket"] >= 500 // 16
    assert "ray_bitstore_failures_total" not in mine
    assert SECRET not in text
    assert not re.search(r'tier="[^"]*[0-9a-f]{40}', mine)
    for name in re.findall(r"^ray_(bitstore_\w+?)\{", mine, re.MULTILINE):
        assert name in EXPORTED


EXPORTED = {
    *(f"bitstore_{what}_total" for what in COUNTERS),
    *(f"bitstore_{LATENCY}_{part}" for part in ("bucket", "sum", "count")),
    f"bitstore_{BREAKER}",
    *(f"bitstore_{what}_total" for what in ON_RAY),
    f"bitstore_{MEMORY}",
}


def test_the_dashboard_shows_only_metrics_that_exist() -> None:
    board = json.loads(resources.files("ray_integration").joinpath("grafana/bitstore.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [each["definition"] for each in board["templating"]["list"] if each["type"] == "query"]
    named = {name for text in asked for name in re.findall(r'__name__=~"\(ray_\)\?(\w+)"', text)}
    # By these names Ray serves them, and single processes do without the prefix.
    assert not [text for text in asked if re.search(r"(?<!\()\bray_", text)]
    assert named <= EXPORTED
    # All that is exported, but the sum, the number and the buckets of one histogram, is worth a look.
    assert EXPORTED - named == {f"bitstore_{LATENCY}_sum", f"bitstore_{LATENCY}_count"}
    tags = {name for text in asked for group in re.findall(r"by \(([\w, ]+)\)", text) for name in group.split(", ")}
    assert tags <= {*TAGS, *PROCESS_TAGS, "le"}
    assert {tag for text in asked for tag in re.findall(r"(\w+)=~", text)} == {"__name__", "store", "node"}
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"]
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_measuring_needs_no_ray_in_the_process() -> None:
    """Outside Ray nothing is measured, and Ray is not imported."""
    code = (
        "import sys\n"
        "from ray_integration import FetchBlobs\n"
        "from ray_integration._node.metrics import TierMetrics\n"
        "from bitstore import MemoryCache, Sha1Composite\n"
        "store = Sha1Composite(); store.append_cache(MemoryCache('1MB'))\n"
        "list(FetchBlobs(store)({'sha1': __import__('numpy').array(['0' * 40])}))\n"
        "print(TierMetrics.where_ray_runs(store), 'ray' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["None", "False"], done.stderr


@pytest.mark.parametrize("routing", ["local", "owner"])
@pytest.mark.parametrize("cache", ["full", "unusable"])
def test_a_node_store_does_not_pay_again_for_a_blob_that_no_cache_keeps(
    shared_ray: Any, tmp_path: Path, routing: Any, cache: str
) -> None:
    folder = tmp_path / "file" / "cache"
    store = composed(
        as_cache(FullCache() if cache == "full" else DiskCache(folder, "1MB"), "cache"),
        as_source(NotedAPI(tmp_path / "calls"), "api"),
    )
    (tmp_path / "file").write_text("no folder")
    digests = [f"{number:040x}" for number in range(20)]
    with NodePool(store, private=True) as pool:
        fetching = FetchBlobs(store, pool=pool, routing=routing, patience=0, in_flight=1)
        told = [row["error"] for _ in range(3) for piece in fetching(table_of(digests)) for row in piece.to_pylist()]
    calls = (tmp_path / "calls").read_text().split()
    assert len(calls) == len(set(calls)) < 5
    assert told.count(None) == len(calls)
    assert all(error is None or "pay_unkept=False" in error for error in told)
