"""A cluster of thousands of nodes, as far as one machine can show it: which node owns which digest, and what moves.

`python -m benchmarks.simulation` runs the real `ray_integration._peers.rendezvous` for up to 3000 nodes, writes figures
to `docs/images/simulation.json` and draws them beside it; `--table` prints the tables of `docs/cluster.md` from that
file. All figures but the cost are the same on every machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy

from benchmarks.envs import HERE, python_of
from ray_integration._peers.chains import previous_owners
from ray_integration._peers.rendezvous import place, split

__all__ = ["balance", "churn", "cost", "digests", "nodes", "replaced", "rolling", "tables"]

FIGURES = HERE.parent / "docs" / "images" / "simulation.json"

_PORTION = 16_384  # digests that are routed together


class Balance(TypedDict):
    """How even the load of `nodes` owners is: digests a node, and the fullest and emptiest node by the mean."""

    nodes: int
    mean: float
    fullest: float
    emptiest: float
    expected: float


class Churn(TypedDict):
    """Shares of all digests that get another owner when one of `nodes` leaves, and when one joins."""

    nodes: int
    leaves: float
    joins: float
    modulo: float
    heirs: int


class Rolling(TypedDict):
    """A cluster whose nodes are replaced one by one: the share of digests fetched again after each, and by modulo."""

    step: list[int]
    rendezvous: list[float]
    modulo: list[float]


class Replaced(TypedDict):
    """Requests upstream for each digest of a job during which a third of `nodes` is replaced one by one.

    `announced`: the nodes say that they leave; `killed`: they do not; `alone`: no node takes anything from another.
    """

    nodes: int
    replaced: int
    announced: float
    killed: float
    alone: float


class Cost(TypedDict):
    """CPU microseconds to find the owner of a digest, by the number of digests that are routed together."""

    nodes: int
    microseconds: dict[str, float]


def digests(count: int) -> list[str]:
    """So many SHA-1 digests, always the same."""
    return [hashlib.sha1(str(number).encode()).hexdigest() for number in range(count)]


def nodes(count: int, first: int = 0) -> list[str]:
    """Names as those of node stores."""
    return [
        f"bitstore-pool-{hashlib.md5(str(number).encode()).hexdigest()}-0" for number in range(first, first + count)
    ]


def owners(asked: Sequence[str], members: Sequence[str]) -> numpy.ndarray[Any, numpy.dtype[numpy.int32]]:
    """The index in `members` of the owner of each digest."""
    found = numpy.full(len(asked), -1, numpy.int32)
    number = {name: index for index, name in enumerate(members)}
    for start in range(0, len(asked), _PORTION):
        for name, positions in split(asked[start : start + _PORTION], members).items():
            found[numpy.array(positions) + start] = number[name]
    return found


def balance(count: int, asked: Sequence[str]) -> Balance:
    """Count what each node owns."""
    held = numpy.bincount(owners(asked, nodes(count)), minlength=count)
    mean = len(asked) / count
    # The greatest of n numbers that scatter around m with the deviation sqrt(m), as those of a fair draw do.
    expected = 1 + math.sqrt(2 * math.log(count) / mean)
    return Balance(
        nodes=count,
        mean=mean,
        fullest=round(float(held.max() / mean), 4),
        emptiest=round(float(held.min() / mean), 4),
        expected=round(expected, 4),
    )


def churn(count: int, asked: Sequence[str]) -> Churn:
    """Let one node leave and one join: which digests move, and which `digest % nodes` would have moved."""
    members = nodes(count)
    before = owners(asked, members)
    gone = owners(asked, members[:-1])
    moved = gone != before
    if not (before[moved] == count - 1).all():
        raise AssertionError("a digest has left a node that is still there")
    joined = owners(asked, [*members, *nodes(1, count)])
    came = joined != before
    if not (joined[came] == count).all():
        raise AssertionError("a digest went to a node that was there before")
    keys = numpy.array([int(digest[:15], 16) for digest in asked])
    return Churn(
        nodes=count,
        leaves=round(float(moved.mean()), 6),
        joins=round(float(came.mean()), 6),
        modulo=round(float((keys % count != keys % (count - 1)).mean()), 4),
        heirs=len(set(gone[moved].tolist())),
    )


def rolling(count: int, steps: int, asked: Sequence[str]) -> Rolling:
    """Replace one node after another, each by an empty one; ask for all digests after each.

    Every disk keeps what it has got, so only a digest whose owner never held it is fetched.
    """
    members = nodes(count)
    first = owners(asked, members)
    held = {name: first == index for index, name in enumerate(members)}
    keys = numpy.array([int(digest[:15], 16) for digest in asked])
    by_modulo = {index: keys % count == index for index in range(count)}
    figures = Rolling(step=[], rendezvous=[], modulo=[])
    for step in range(steps):
        # One leaves: the others take over what it had. Then an empty one comes.
        for change in ("leaves", "joins"):
            if change == "leaves":
                del held[members.pop(0)]
                del by_modulo[min(by_modulo)]
            else:
                (new,) = nodes(1, count + step)
                members.append(new)
                held[new] = numpy.zeros(len(asked), bool)
                by_modulo[count + step] = numpy.zeros(len(asked), bool)
            now = owners(asked, members)
            fetched = 0
            for index, name in enumerate(members):
                mine = now == index
                fetched += int((mine & ~held[name]).sum())
                held[name] |= mine
            fetched_by_modulo = 0
            for index, disk in enumerate(by_modulo.values()):
                mine = keys % len(by_modulo) == index
                fetched_by_modulo += int((mine & ~disk).sum())
                disk |= mine
            figures["step"].append(len(figures["step"]) + 1)
            figures["rendezvous"].append(round(fetched / len(asked), 6))
            figures["modulo"].append(round(fetched_by_modulo / len(asked), 6))
    return figures


def replaced(count: int, asked: Sequence[str]) -> Replaced:
    """Replace a third of the nodes; after each change the job asks for a tenth of the digests, at the end for all."""
    return Replaced(
        nodes=count,
        replaced=count // 3,
        announced=_upstream(count, asked, peers=True, announced=True),
        killed=_upstream(count, asked, peers=True, announced=False),
        alone=_upstream(count, asked, peers=False, announced=False),
    )


def _upstream(count: int, asked: Sequence[str], *, peers: bool, announced: bool) -> float:
    """Requests for each digest, at an upstream that has all of them."""
    members = [place(name) for name in nodes(count)]  # as node stores are ranked
    older: dict[str, list[str]] = {name: [] for name in members}
    disks: dict[str, set[str]] = {name: set() for name in members}
    requests = 0

    def ask(digests: Sequence[str], leaving: Sequence[str] = ()) -> None:
        nonlocal requests
        for owner, positions in split(digests, [name for name in members if name not in leaving]).items():
            lacking = [digests[position] for position in positions if digests[position] not in disks[owner]]
            requests += len(lacking)
            disks[owner].update(lacking)
            if peers and (older[owner] or leaving):
                chains = previous_owners(lacking, owner, older[owner], leaving)
                requests -= sum(found(each, chain) for each, (chain, _) in zip(lacking, chains, strict=True))

    def found(digest: str, chain: list[str]) -> bool:
        """Whether one of these has it, or one of those that they name."""
        for name in chain:
            if name in disks:
                if digest in disks[name]:
                    return True
                if older[name] and found(digest, previous_owners([digest], name, older[name], ())[0][0]):
                    return True
        return False

    ask(asked)
    for step in range(count // 3):
        new = place(*nodes(1, count + step))
        older[new] = list(members)
        disks[new] = set()
        members.append(new)
        ask(asked[step % 10 :: 10])
        leaves = members[0]
        if announced:
            ask(asked[(step + 5) % 10 :: 10], [leaves])
            held = sorted(disks[leaves])
            for owner, positions in split(held, members[1:]).items():
                disks[owner].update(held[position] for position in positions)
        members.remove(leaves)
        del disks[leaves]
        ask(asked[(step + 7) % 10 :: 10])
    ask(asked)
    return round(requests / len(asked), 4)


def cost(count: int) -> Cost:
    """Measure, as the best of some tries."""
    members = nodes(count)
    asked = digests(_PORTION)
    found = {}
    for portion in (256, 1024, 4096, _PORTION):
        times = []
        for _ in range(5):
            begin = time.process_time()
            split(asked[:portion], members)
            times.append(time.process_time() - begin)
        found[str(portion)] = round(min(times) / portion * 1e6, 2)
    return Cost(nodes=count, microseconds=found)


BALANCED = [(3, 30_000), (10, 100_000), (30, 300_000), (100, 1_000_000), (300, 1_000_000), (1000, 1_000_000),
            (3000, 1_000_000)]  # fmt: skip
CHURNED = [(3, 100_000), (10, 100_000), (30, 100_000), (100, 200_000), (300, 200_000), (1000, 200_000)]
ROLLED = (100, 25, 100_000)
REPLACED = [(6, 2_000), (30, 10_000), (100, 10_000)]
COSTED = [3, 10, 30, 100, 300, 1000, 3000]


def simulate() -> dict[str, Any]:
    """All of it; takes about a minute."""
    asked = digests(1_000_000)
    return {
        "balance": [balance(count, asked[:many]) for count, many in BALANCED],
        "churn": [churn(count, asked[:many]) for count, many in CHURNED],
        "rolling": {"nodes": ROLLED[0], **rolling(*ROLLED[:2], asked[: ROLLED[2]])},
        "replaced": [replaced(count, asked[:many]) for count, many in REPLACED],
        "cost": [cost(count) for count in COSTED],
    }


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """The lines of the page's tables."""
    yield "| nodes | digests a node | fullest node, by the mean | of a fair draw | emptiest |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for row in figures["balance"]:
        yield (
            f"| {row['nodes']:,} | {row['mean']:,.0f} | {row['fullest']:.3f} | {row['expected']:.3f} "
            f"| {row['emptiest']:.3f} |"
        )
    yield ""
    yield "| nodes | moves when one leaves | when one joins | 1/n | with digest modulo n | heirs of the one that left |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in figures["churn"]:
        yield (
            f"| {row['nodes']:,} | {row['leaves']:.3%} | {row['joins']:.3%} | {1 / row['nodes']:.3%} "
            f"| {row['modulo']:.1%} | {row['heirs']:,} |"
        )
    yield ""
    yield "| nodes | replaced | requests for each digest | nodes leave without notice | none takes from others |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for row in figures["replaced"]:
        yield (
            f"| {row['nodes']:,} | {row['replaced']:,} | {row['announced']:.3f} | {row['killed']:.3f} "
            f"| {row['alone']:.3f} |"
        )
    yield ""
    portions = list(figures["cost"][0]["microseconds"])
    yield f"| CPU µs to find an owner | {' | '.join(f'{int(each):,} together' for each in portions)} |"
    yield f"| ---: |{' ---: |' * len(portions)}"
    for row in figures["cost"]:
        cells = " | ".join(f"{row['microseconds'][each]:.1f}" for each in portions)
        yield f"| {row['nodes']:,} nodes | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the tables of the last run, and simulate nothing")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the file of figures")
    options = parser.parse_args()
    if not options.table:
        figures = simulate()
        options.figures.write_text(json.dumps(figures, indent=1) + "\n")
        subprocess.run(
            [python_of("plot"), HERE / "plot_simulation.py", options.figures, options.figures.parent], check=True
        )
    print("\n".join(tables(json.loads(options.figures.read_text()))))


if __name__ == "__main__":
    main()
