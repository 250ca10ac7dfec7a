"""A cluster whose nodes are replaced one by one while a job asks for all digests again and again.

The owners are those of the real routing. Each request comes from a process that saw the list of nodes when it last
looked, and how often it looks is the real period. An owner that lacks a digest takes it from the disk of a node that
was there before and has it, as node stores do.
"""

from __future__ import annotations

import bisect
from typing import Any

import numpy

from benchmarks.simulation import digests, nodes, owners
from ray_integration._peers import rendezvous
from ray_integration._pool import members

__all__ = ["run"]

_PASSES = 3  # each asks for every digest once
_EMPTY = 60.0  # seconds between a node's leaving and the joining of the next one
_PORTION = 1.2  # the longest period between two looks, by the mean one


def run(count: int, share: float, seconds: float, many: int) -> dict[str, Any]:
    """What is fetched upstream, by distinct digest, while this share of the nodes is replaced in so many seconds."""
    asked = digests(many)
    chance = numpy.random.default_rng(7)
    leaving = int(count * share)
    names = nodes(count + leaving)
    leaves = numpy.linspace(0.1, 0.9, leaving) * seconds
    changes = sorted([(float(time), False, i) for i, time in enumerate(leaves)]
                     + [(float(time) + _EMPTY, True, count + i) for i, time in enumerate(leaves)])  # fmt: skip
    there = list(range(count))
    owner = owners(asked, names[:count]).astype(numpy.int32)
    period = max(members._REFRESH, members._REFRESH_PER_NODE * count)
    length = seconds / _PASSES
    times = numpy.concatenate([chance.permutation(many) / many * length + turn * length for turn in range(_PASSES)])
    digest = numpy.tile(numpy.arange(many), _PASSES)
    seen = times - chance.uniform(0, 1, len(times)) * period * chance.uniform(2 - _PORTION, _PORTION, len(times))
    order = numpy.argsort(times, kind="stable")
    since, versions = [float("-inf")], [owner]
    disks: list[set[int]] = [set() for _ in range(many)]  # the nodes whose disks have each digest
    alive = set(there)
    lacked = held = gone = position = 0
    for until, joins, node in [*changes, (seconds, True, -1)]:
        while position < len(order) and times[order[position]] < until:
            request = order[position]
            position += 1
            one = int(digest[request])
            asks = int(versions[bisect.bisect(since, seen[request]) - 1][one])
            if asks not in alive:  # the call fails, and the next owner is asked
                gone += 1
                asks = int(versions[-1][one])
            if asks not in disks[one]:
                lacked += 1
                held += bool(disks[one] & alive)
                disks[one].add(asks)
        if node < 0:
            break
        owner = versions[-1].copy()
        if joins:
            # Only the new one may take from the others: it is compared with each digest's owner.
            there.append(node)
            alive.add(node)
            mine = _wins(asked, owner, names, node)
            owner[mine] = node
        else:
            there.remove(node)
            alive.discard(node)
            (lost,) = numpy.nonzero(owner == node)
            heirs = owners([asked[one] for one in lost], [names[each] for each in there])
            owner[lost] = numpy.array(there, numpy.int32)[heirs]
        since.append(until)
        versions.append(owner)
        # No process looks at an older list than this.
        while len(since) > 2 and since[1] < until - period * _PORTION:
            del since[0], versions[0]
    return {
        "nodes": count,
        "replaced": leaving,
        "upstream": round((lacked - held) / many, 4),
        "alone": round(lacked / many, 4),
        "gone": round(gone / len(times), 5),
    }


def _wins(asked: list[str], owner: Any, names: list[str], node: int) -> Any:
    """The digests that a node owns beside their present owners."""
    keys = rendezvous._keys(asked)
    best = numpy.zeros(len(asked), numpy.uint64)
    for each in numpy.unique(owner):
        mine = owner == each
        best[mine] = rendezvous._scores(keys[mine], names[each])
    return rendezvous._scores(keys, names[node]) > best
