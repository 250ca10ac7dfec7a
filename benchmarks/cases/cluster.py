"""Claim 9: a dataset of digests on a Ray cluster of three nodes, all on this machine."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.cases.cluster_nodes import Nodes
from benchmarks.contestant import Contestant, Failed, Turn
from benchmarks.results import Result, Verdict

__all__ = ["run", "second_pass"]

_NODES = 3
_AGAIN = 4  # times that a later pass asks for each digest, so that its beginning and its end count for little


def run(bench: Bench) -> Result:
    """Rows a second and CPU a row after the first output, and the time until it.

    Of `fetch_blobs`, of Ray's own `download`, and of what one writes by hand.
    """
    plain = bench.small()
    with Nodes(_NODES, plain["url"]) as nodes:
        job = _job(plain, nodes)
        many, few = (32_768, 4096) if bench.quick else (65_536, 8192)
        direct = _ours(job, "direct", many)
        local, owner = _ours(job, "local", many), _ours(job, "owner", many)
        alone = bench.ours(plain, "get_many without Ray, one process")
        alone.count = many
        crowd = Contestant(
            f"get_many without Ray, {_NODES} processes", "ours_crowd", {**job, "processes": _NODES}, count=many
        )
        nothing = Contestant("a class that does nothing", "ray_trivial", job, count=many)
        ready = Contestant("a class that has the blobs ready", "ray_ready", job, count=many)
        moved = Contestant("a class whose blobs are ready on all nodes", "ray_moved", job, count=many)
        download = Contestant("Ray Data's download, by obstore", "ray_download", {**job, "by": "obstore"}, count=many)
        arrow = Contestant("Ray Data's download, by pyarrow", "ray_download", {**job, "by": "pyarrow"}, count=many)
        # In batches of 512, because with 4096 it would be seconds until each output.
        boto = Contestant("boto3, 16 threads in each actor", "ray_boto", {**job, "rows": 512}, count=few)
        everybody = [nothing, ready, direct, owner, alone, download, boto]
        if bench.quick:
            through = _run(everybody, times=1, warm=[nothing])
        else:
            everybody += [local, moved, crowd, arrow]
            through = _run(everybody, times=bench.rounds, warm=everybody)
    result = Result("cluster", 9, f"16 KB blobs on a Ray cluster of {_NODES} nodes")
    _add(result, through, everybody)

    def times(one: Contestant, other: Contestant, least: float) -> Verdict:
        if one not in through or other not in through:
            return Verdict(f"{(one if one not in through else other).name} could not take part", None)
        return Verdict(
            f"rows/s after the first output, {one.name}, times {other.name}",
            rounds.paired(one, other, _rate),
            least=least,
        )

    def cpu(one: Contestant, other: Contestant, most: float) -> Verdict:
        if one not in through or other not in through:
            return Verdict(f"{(one if one not in through else other).name} could not take part", None)
        return Verdict(f"CPU per row, {one.name}, times {other.name}", rounds.paired(one, other, _cpu), most=most)

    result.verdicts = [times(direct, download, 4), times(direct, boto, 8), times(direct, alone, 0.6)]
    result.verdicts += [cpu(direct, alone, 1.5), cpu(direct, download, 0.35), cpu(owner, direct, 1.4)]
    if not bench.quick:
        result.verdicts.append(cpu(local, direct, 1.25))
    if direct in through and nothing in through:
        slower = rounds.paired(direct, nothing, lambda turn: float(turn.told["first"]))
        result.verdicts.append(Verdict(f"time to the first output, times {nothing.name}", slower, most=1.5))
    if alone in through and ready in through:
        floor = rounds.paired(ready, alone, _cpu)
        result.notes.append(
            "Where blobs cost what they cost without Ray, and Ray has them at once, a row takes the CPU of `get_many` "
            f"and of a class that has the blobs ready: {1 + floor:.2f} times `get_many`."
        )
        if crowd in through:
            crowded = rounds.paired(crowd, alone, _cpu)
            result.notes.append(
                f"As many processes as there are map actors share the cores and their caches: `get_many` in {_NODES} "
                f"takes {crowded:.2f} times its CPU in one, without Ray. So a row takes {crowded + floor:.2f} times."
            )
    if alone in through and direct in through and moved in through:
        floor = rounds.paired(moved, direct, _cpu) + 1 / rounds.paired(direct, alone, _cpu)
        result.notes.append(
            "Where blobs cost what they cost without Ray, and actors on all nodes have them at once, a row that is "
            f"looked up by its owner takes {floor:.2f} times the CPU of `direct`."
        )
    result.notes.append(
        "A row of `download` costs a request more (HEAD before GET), and is not checked against its digest. "
        "Blocks stay on the nodes: reading them elsewhere would cost all the same."
    )
    return result


def second_pass(bench: Bench) -> Result:
    """An origin that answers after 30 ms, and the same digests again, which the nodes' disks have by then."""
    plain = bench.small()
    result = Result(
        "cluster-second-pass", 9, "The same digests twice, routed to their owners, with a disk cache a node"
    )
    slow = bench.slow(plain)
    if slow is None:
        result.notes.append("This nginx has no Lua, so it cannot answer late.")
        result.verdicts = [Verdict("an origin that answers after 30 ms could not be had", None)]
        return result
    names = len(plain["names"].read_text().split())
    rates: list[tuple[float, float]] = []
    requests: list[tuple[int, int]] = []
    handed: list[float] = []
    times = 1 if bench.quick else bench.rounds
    for number in range(times):
        with Nodes(_NODES, slow["url"]) as nodes:  # new nodes, with empty disks
            job = {**_job(slow, nodes), "rows": 1024}
            each = _ours(job, "owner", names, cached=True, batch=1024)
            own = _ours(job, "direct", names, cached=True, batch=1024)
            with rounds.running([each, own]) as ready:
                try:
                    passes = [_pass(bench, each, names) for _ in ("first", "second") if ready]
                    if own in ready:
                        own.turn(names)  # each node's disk has them all after this
                        handed.append(_cpu(each.turn(_AGAIN * names)) / _cpu(own.turn(_AGAIN * names)))
                except Failed as error:
                    rounds.say(f"  left out: {error}")
        result.versions.update(each.versions)
        if each.failure is not None:
            result.left_out([each])
            break
        (first, asked), (second, again) = passes
        rates.append((first, second))
        requests.append((asked, again))
        rounds.say(f"  round {number + 1}: {first:,.0f} and {second:,.0f} rows/s, {asked:,} and {again:,} requests")
    result.columns = ("pass", "rows/s after the first output", "requests to the origin")
    result.raw = {"passes": rates, "requests": requests}
    if rates:
        for number in (0, 1):
            rate = median(rate[number] for rate in rates)
            result.table.append((f"{number + 1}", f"{rate:,.0f}", f"{max(asked[number] for asked in requests):,}"))
    if len(rates) == times:
        worst = max((asked for asked, _ in requests), key=lambda asked: abs(asked - names))
        result.verdicts = [
            Verdict("requests of a first pass, for each digest", worst / names, least=1, most=1),
            Verdict("requests of a second pass", float(max(again for _, again in requests)), most=0),
            Verdict("rows/s of the second pass, times the first", median(b / a for a, b in rates), least=3),
            Verdict(
                "CPU per row of a later pass, times that of map actors with a DiskCache of their own",
                median(handed) if len(handed) == times else None,
                most=1.1,
            ),
        ]
    else:
        result.verdicts = [Verdict("the two passes could not be made in each round", None)]
    return result


def _pass(bench: Bench, each: Contestant, count: int) -> tuple[float, int]:
    """Rows a second, and requests to the origin."""
    before = bench.origin.requests()
    turn = each.turn(count)
    return _rate(turn), bench.origin.requests() - before


def _job(job: dict[str, Any], nodes: Nodes) -> dict[str, Any]:
    # As many actors for the others as `fetch_blobs` takes by itself.
    more = {"address": nodes.address, "raylets": nodes.raylets, "rows": 4096, "actors": _NODES, "threads": 16}
    return {**job, **more}


def _ours(job: dict[str, Any], routing: str, count: int, **more: Any) -> Contestant:
    return Contestant(f"fetch_blobs, {routing}", "ray_ours", {**job, "routing": routing, **more}, count=count)


def _run(everybody: list[Contestant], *, times: int, warm: list[Contestant]) -> list[Contestant]:
    """Let them take turns of a fixed number of rows each; those in `warm` first have one that does not count."""
    with rounds.running(everybody) as ready:
        for number in range(-1, times):
            for each in list(ready):
                assert each.count is not None
                try:
                    if number >= 0:
                        each.turns.append(each.turn(each.count))
                    elif each in warm:
                        each.turn(4096)  # what is imported is read from disk, and node stores are started
                except Failed as error:
                    rounds.say(f"  left out: {error}")
                    ready.remove(each)
            if number >= 0:
                rates = ", ".join(f"{each.name} {_rate(each.turns[-1]):,.0f}" for each in ready)
                rounds.say(f"  round {number + 1}: {rates}")
        return ready


def _rate(turn: Turn) -> float:
    """Rows a second, of a dataset: after its first output."""
    told = turn.told
    return float(told["rows_after"] / told["seconds_after"]) if "first" in told else turn.rate


def _cpu(turn: Turn) -> float:
    """CPU microseconds a row, of a dataset: after its first output."""
    told = turn.told
    return float(told["cpu_after"] / told["rows_after"] * 1e6) if "first" in told else turn.cpu


def _add(result: Result, through: list[Contestant], everybody: list[Contestant]) -> None:
    result.columns = ("contestant", "rows/s after the first output", "CPU µs per row", "seconds to the first output")

    def middle(each: Contestant, value: Callable[[Turn], float], form: str) -> str:
        return format(median(value(turn) for turn in each.turns), form)

    for each in sorted(through, key=lambda each: -median(_rate(turn) for turn in each.turns)):
        is_dataset = "first" in each.turns[0].told
        first = middle(each, lambda turn: turn.told["first"], ".1f") if is_dataset else ""
        result.table.append((each.name, middle(each, _rate, ",.0f"), middle(each, _cpu, ",.0f"), first))
    for each in everybody:
        result.raw[each.name] = [turn.told for turn in each.turns]
        result.versions.update(each.versions)
    result.left_out(everybody)
