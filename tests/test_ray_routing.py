"""Rendezvous hashing: balance, movement, and that everybody agrees."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections import Counter

import pytest

from ray_integration._peers.rendezvous import split, successors
from ray_integration._pool.members import Address, Members

DIGESTS = [hashlib.sha1(str(number).encode()).hexdigest() for number in range(100_000)]
NODES = [f"node-{number}" for number in range(10)]


def owners(digests: list[str], members: list[str]) -> list[str]:
    found = [""] * len(digests)
    for member, positions in split(digests, members).items():
        for position in positions:
            assert found[position] == ""
            found[position] = member
    assert "" not in found
    return found


def test_each_digest_has_one_owner_and_the_load_is_even() -> None:
    counts = Counter(owners(DIGESTS, NODES))
    # 10,000 each; the standard deviation of a fair draw is 95.
    assert set(counts) == set(NODES)
    assert all(abs(count - 10_000) < 5 * 95 for count in counts.values())


def test_digests_that_look_alike_are_spread_too() -> None:
    counts = Counter(owners([f"{number:040x}" for number in range(20_000)], NODES))
    assert all(abs(count - 2_000) < 5 * 43 for count in counts.values())


def test_only_digests_of_a_node_that_leaves_move_and_spread_evenly() -> None:
    before = owners(DIGESTS, NODES)
    after = owners(DIGESTS, NODES[:-1])
    moved = Counter(new for old, new in zip(before, after, strict=True) if old != new)
    assert sum(moved.values()) == before.count(NODES[-1])
    assert all(old == NODES[-1] for old, new in zip(before, after, strict=True) if old != new)
    share = before.count(NODES[-1]) / 9
    assert all(abs(count - share) < 5 * share**0.5 for count in moved.values())


def test_a_node_that_joins_takes_its_share_and_no_other_digest_moves() -> None:
    before = owners(DIGESTS, NODES)
    after = owners(DIGESTS, [*NODES, "new"])
    assert all(new == "new" for old, new in zip(before, after, strict=True) if old != new)
    assert abs(after.count("new") - 100_000 / 11) < 5 * 91


def test_successors_are_the_owners_when_those_before_are_gone() -> None:
    for digest in DIGESTS[:200]:
        members = list(NODES)
        for successor in successors(digest, NODES):
            assert owners([digest], members) == [successor]
            members.remove(successor)


def test_owners_depend_neither_on_the_order_of_members_nor_on_the_process() -> None:
    here = owners(DIGESTS[:500], NODES)
    assert owners(DIGESTS[:500], NODES[::-1]) == here
    code = (
        "import sys; from ray_integration._peers.rendezvous import successors\n"
        "members = [f'node-{number}' for number in range(10)]\n"
        "print(*(successors(digest, members)[0] for digest in sys.stdin.read().split()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(DIGESTS[:500]),
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == here


def test_the_owners_stay_the_same_from_release_to_release() -> None:
    """A cluster's disks are filled by these: another formula would empty every cache of every cluster."""
    assert successors("da39a3ee5e6b4b0d3255bfef95601890afd80709", NODES[:4]) == ["node-3", "node-2", "node-1", "node-0"]


def test_no_digests_have_no_owners_and_no_members_are_an_error() -> None:
    assert split([], []) == {}
    assert split(["a", "b"], ["only"]) == {"only": [0, 1]}
    assert split(["a", "a"], NODES) == {successors("a", NODES)[0]: [0, 1]}
    assert successors("\ud800", ["only"]) == ["only"]
    with pytest.raises(ValueError, match="no member"):
        split(["a"], [])


@pytest.mark.parametrize(("count", "least", "most"), [(3, 2, 2), (1000, 32, 48)])
def test_the_list_of_nodes_is_asked_for_less_often_on_large_clusters(
    count: int, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def alive_nodes() -> dict[str, str]:
        asked.append(now)
        return {f"node-{number}": "" for number in range(count)}

    now = 100.0
    monkeypatch.setattr("ray_integration._pool.members.alive_nodes", alive_nodes)
    monkeypatch.setattr("ray_integration._pool.members.time.monotonic", lambda: now)
    members = Members(Address("pool", 1))
    for _ in range(1000):
        members._refresh()
        now += 0.1
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses
    assert all(least - 0.01 <= pause <= most + 0.11 for pause in pauses)
    members.lose("pool-node-1-0")  # it did not answer: it is asked for at once
    members._refresh()
    assert asked[-1] == now
