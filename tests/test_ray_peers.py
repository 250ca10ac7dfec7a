"""Node stores take blobs from each other's disks: two of them on one Ray, each with a disk of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray

from bitstore import DiskCache, Sha1Composite, __version__
from ray_integration._cluster import CONTROL, NAMESPACE
from ray_integration._node.node_store import NodeStore
from ray_integration._peers.mates import PEERS
from ray_integration._peers.rendezvous import place, split
from tests.ray_stores import (
    NUMBERED,
    BabblingNodeStore,
    GatedAPI,
    HastyNodeStore,
    LyingNodeStore,
    NotedAPI,
    NumberedAPI,
    SilentNodeStore,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150)]

DIGESTS = list(NUMBERED)
OLD, NEW = "bitstore-test-old-0", "bitstore-test-new-0"


def owned(name: str, other: str) -> list[str]:
    """The digests of which `name` is the owner, of the two."""
    return [DIGESTS[index] for index in split(DIGESTS, [place(name), place(other)])[place(name)]]


MINE, OTHERS = owned(NEW, OLD), owned(OLD, NEW)


class Nodes:
    """Makes node stores as the keeper of a pool does, each with a folder of its own, over one paid source."""

    def __init__(self, folder: Path, api: Callable[..., NotedAPI] = NumberedAPI, *more: Path) -> None:
        self.folder = folder
        self.log = folder / "calls"
        self.store = Sha1Composite()
        self.store.append_cache(DiskCache(), name="disk")
        self.store.append_source(api(self.log, *more), name="api")
        self.handles: dict[str, Any] = {}

    def start(self, name: str, older: tuple[str, ...] = (), kind: type = NodeStore) -> Any:
        """A node store called `name` that was made after the `older` ones."""
        dumps: Any = ray.cloudpickle.dumps
        actor: Any = ray.remote(concurrency_groups={CONTROL: 2, PEERS: 4})(kind)  # type: ignore[call-overload]
        self.handles[name] = actor.options(
            name=name,
            namespace=NAMESPACE,
            num_cpus=0,
            max_concurrency=16,
            runtime_env={"env_vars": {"BITSTORE_CACHE_DIR": str(self.folder / name)}},
        ).remote(dumps(self.store), __version__, {}, older)
        return self.handles[name]

    def begin(self, name: str, digests: list[str], *, leaving: tuple[str, ...] = (), spread: int = 0) -> Any:
        """A call of `fetch`, as owner of `digests`."""
        fetch = self.handles[name].fetch.options(num_returns="streaming")
        return fetch.remote(
            digests,
            ask_paid=True,
            timeout=60.0,
            in_flight=None,
            patience=0.0,
            with_errors=False,
            leaving=leaving,
            spread=spread,
        )

    def end(self, pieces: Any, digests: list[str]) -> Counter[str]:
        """How many blobs had each source; each blob is right."""
        sources: Counter[str] = Counter()
        seen: set[int] = set()
        for reference in pieces:
            piece = ray.get(reference, timeout=60)
            for position, data, source in piece.blobs():
                assert data == NUMBERED[digests[position]]
                sources[source] += 1
                seen.add(position)
            assert piece.others == []
        assert len(seen) == len(digests)
        return sources

    def fetch_hot(self, name: str, digests: list[str], *way: str) -> Counter[str]:
        """A call for hot blobs, which the node store takes from the first of `way`, that one from the next."""
        fetch = self.handles[name].fetch.options(num_returns="streaming")
        options = {"ask_paid": False, "timeout": 60.0, "in_flight": None, "patience": 0.0, "with_errors": False}
        return self.end(fetch.remote(digests, ways=dict.fromkeys(digests, way), **options), digests)

    def fetch(self, name: str, digests: list[str], *, leaving: tuple[str, ...] = ()) -> Counter[str]:
        return self.end(self.begin(name, digests, leaving=leaving), digests)

    def calls(self) -> Counter[str]:
        """Calls of the paid source for each digest."""
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def counts(self, name: str, tier: str) -> dict[str, int]:
        rows = ray.get(self.handles[name].stats.options(concurrency_group=CONTROL).remote(), timeout=60)
        (row,) = [row for row in rows if row["name"] == tier]
        return {what: row[what] for what in ("hits", "misses", "failures", "invalid", "bytes") if row[what]}

    def close(self) -> None:
        for handle in self.handles.values():
            ray.kill(handle)


@pytest.fixture
def nodes(shared_ray: Any, tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gated(shared_ray: Any, tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path, GatedAPI, tmp_path / "gate")
    yield made
    (tmp_path / "gate").touch()
    made.close()


def test_a_node_that_joins_takes_its_share_from_the_disk_of_the_previous_owner(nodes: Nodes) -> None:
    nodes.start(OLD)
    assert nodes.fetch(OLD, DIGESTS) == {"api": len(DIGESTS)}
    nodes.start(NEW, older=(OLD,))
    assert nodes.fetch(NEW, MINE) == {"peers": len(MINE)}
    assert nodes.counts(NEW, "peers") == {"hits": len(MINE), "bytes": sum(len(NUMBERED[each]) for each in MINE)}
    assert nodes.fetch(NEW, MINE) == {"disk": len(MINE)}
    assert nodes.calls() == dict.fromkeys(DIGESTS, 1)


def test_blobs_that_the_previous_owner_lacks_are_fetched_once(nodes: Nodes) -> None:
    nodes.start(OLD)
    nodes.start(NEW, older=(OLD,))
    assert nodes.fetch(NEW, MINE) == {"api": len(MINE)}
    # Some callers do not know of the new one yet.
    assert nodes.fetch(OLD, MINE) == {"peers": len(MINE)}
    assert nodes.calls() == dict.fromkeys(MINE, 1)


@pytest.mark.soak
def test_blobs_of_which_an_older_node_is_the_owner_are_not_sought_there(nodes: Nodes) -> None:
    nodes.start(OLD)
    assert nodes.fetch(OLD, DIGESTS) == {"api": len(DIGESTS)}
    nodes.start(NEW, older=(OLD,))
    assert nodes.fetch(NEW, OTHERS) == {"api": len(OTHERS)}


def test_a_node_that_leaves_is_asked_for_what_it_owned(nodes: Nodes) -> None:
    nodes.start(OLD)
    nodes.start(NEW)
    assert nodes.fetch(OLD, OTHERS) == {"api": len(OTHERS)}
    assert nodes.fetch(NEW, MINE, leaving=(OLD,)) == {"api": len(MINE)}
    assert nodes.fetch(NEW, OTHERS, leaving=(OLD,)) == {"peers": len(OTHERS)}
    assert nodes.calls() == dict.fromkeys(DIGESTS, 1)


def test_a_node_that_leaves_hands_over_what_it_has(nodes: Nodes) -> None:
    nodes.start(OLD)
    nodes.start(NEW)
    assert nodes.fetch(OLD, DIGESTS) == {"api": len(DIGESTS)}
    assert nodes.fetch(NEW, MINE[:10]) == {"api": 10}
    ray.get(nodes.handles[OLD].hand_over.remote([NEW, "bitstore-test-gone-0", OLD]), timeout=60)
    expected = [DIGESTS[index] for index in split(DIGESTS, [place(NEW), place("bitstore-test-gone-0")])[place(NEW)]]
    while ray.get(nodes.handles[NEW].lacking.remote(expected), timeout=60):
        ray.wait([nodes.handles[NEW].ping.remote()], timeout=0.2)
    calls = nodes.calls()
    assert nodes.fetch(NEW, expected) == {"disk": len(expected)}
    assert nodes.calls() == calls
    taken = ray.get(nodes.handles[NEW].take.remote({DIGESTS[0]: b"other bytes", DIGESTS[1]: NUMBERED[DIGESTS[1]]}))
    assert taken == 1


def test_hot_blobs_go_from_node_to_node_in_a_tree(nodes: Nodes) -> None:
    between = "bitstore-test-between-0"
    for name in (OLD, between, NEW):
        nodes.start(name)
    hot = OTHERS[:20]
    assert nodes.fetch(OLD, OTHERS[:50]) == {"api": 50}
    assert nodes.fetch_hot(NEW, hot, between, OLD) == {"peers": len(hot)}
    assert ray.get(nodes.handles[between].lacking.remote(OTHERS[:50]), timeout=60) == OTHERS[20:50]
    assert nodes.fetch_hot(NEW, hot, between, OLD) == {"disk": len(hot)}
    assert nodes.calls() == dict.fromkeys(OTHERS[:50], 1)
    # An owner that is asked by many others leaves the rest to their own nodes.
    told = []
    for _ in range(12):
        pieces = nodes.begin(OLD, hot, spread=3)
        told.append(sum(len(ray.get(reference, timeout=60).hot) for reference in pieces))
    assert told == [0] * 8 + [len(hot)] * 4


@pytest.mark.parametrize("first", [OLD, pytest.param(NEW, marks=pytest.mark.soak)])
def test_two_that_are_asked_for_one_blob_at_the_same_time_pay_once(gated: Nodes, first: str) -> None:
    """While callers do not agree on the owner."""
    gated.start(OLD)
    gated.start(NEW, older=(OLD,))
    second = NEW if first == OLD else OLD
    begun = gated.begin(first, MINE)
    while not gated.calls():
        ray.wait([begun], timeout=0.05)  # until it has asked the paid source
    more = gated.begin(second, MINE)
    (gated.folder / "gate").touch()
    assert sum(gated.end(begun, MINE).values()) == sum(gated.end(more, MINE).values()) == len(MINE)
    assert gated.calls() == dict.fromkeys(MINE, 1)


@pytest.mark.soak
def test_two_that_begin_together_pay_once(nodes: Nodes) -> None:
    nodes.start(OLD)
    nodes.start(NEW, older=(OLD,))
    ray.get([handle.describe.remote() for handle in nodes.handles.values()], timeout=60)
    begun = [(nodes.begin(name, part), part) for part in (MINE[::2], MINE[1::2]) for name in (OLD, NEW)]
    for pieces, part in begun:
        nodes.end(pieces, part)
    assert nodes.calls() == dict.fromkeys(MINE, 1)


@pytest.mark.parametrize(
    "what",
    [
        "lies",
        *(pytest.param(what, marks=pytest.mark.soak) for what in ("babbles", "is silent", "died", "lost its disk")),
    ],
)
def test_a_peer_that_fails_is_no_absence_and_upstream_answers(nodes: Nodes, what: str) -> None:
    kinds = {"lies": LyingNodeStore, "is silent": SilentNodeStore, "babbles": BabblingNodeStore}
    old = nodes.start(OLD, kind=kinds.get(what, NodeStore))
    assert nodes.fetch(OLD, DIGESTS) == {"api": len(DIGESTS)}
    if what == "died":
        ray.kill(old)
    if what == "lost its disk":
        DiskCache(nodes.folder / OLD).clear()
    nodes.start(NEW, older=(OLD,), kind=HastyNodeStore)
    assert nodes.fetch(NEW, MINE) == {"api": len(MINE)}
    counts = nodes.counts(NEW, "peers")
    assert counts["misses"] == len(MINE)
    assert counts.get("invalid", 0) == (len(MINE) if what == "lies" else 0)
    assert "failures" not in counts
