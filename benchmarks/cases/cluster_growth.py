"""Claim 9: on a cluster too, what a row costs does not grow with how many went before it."""

from __future__ import annotations

import math
from itertools import pairwise

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.cases.cluster_nodes import Nodes
from benchmarks.cases.growth import fit, half_width
from benchmarks.contestant import Contestant, Failed
from benchmarks.results import Result, Verdict

__all__ = ["run"]

_FROM = 10_000  # by then all actors are at work
_STEPS = 8  # measurements for each tenfold


def run(bench: Bench) -> Result:
    """CPU of the whole cluster for the rows of one long dataset, against the logarithm of the rows before them.

    Not datasets of different lengths: starting the actors costs more CPU than the first ten thousand rows, and is not
    the same each time.
    """
    count = 100_000 if bench.quick else 1_000_000
    result = Result("cluster-growth", 9, f"CPU of a cluster per row, from row {_FROM:,} to row {count:,} of a dataset")
    result.columns = ("rows from", "to", "CPU µs per row")
    job = bench.small()
    with Nodes(3, job["url"]) as nodes:
        more = {"address": nodes.address, "raylets": nodes.raylets, "rows": 1024, "batch": 1024, "actors": 3}
        each = Contestant("fetch_blobs, direct", "ray_ours", {**job, **more, "routing": "direct"})
        with rounds.running([each]) as ready:
            try:
                if ready:
                    each.turns.append(each.turn(count))
            except Failed as error:
                rounds.say(f"  left out: {error}")
    result.left_out([each])
    result.versions.update(each.versions)
    if not each.turns:
        result.verdicts = [Verdict("the dataset could not be run", None)]
        return result
    steps = each.turns[0].told["steps"]
    result.raw = {"steps": steps}
    points: list[tuple[float, float]] = []
    for start, stop in _spans(count):
        begin = next(step for step in steps if step[0] >= start)
        end = next(step for step in steps if step[0] >= stop)
        if end[0] > begin[0]:
            cost = (end[2] - begin[2]) / (end[0] - begin[0]) * 1e6
            points.append((math.log10(begin[0] / 2 + end[0] / 2), cost))
            result.table.append((f"{begin[0]:,}", f"{end[0]:,}", f"{cost:.0f}"))
    slope, spread, middle = fit(points)
    most = half_width(spread, len(points))
    text = f"slope / half width of its 95 % interval ({slope:+.1f} ± {most:.1f} µs per tenfold, at {middle:.0f} µs)"
    result.verdicts = [Verdict(text, slope / most, least=-1, most=1)]
    return result


def _spans(count: int) -> list[tuple[int, int]]:
    tenfolds = math.log10(count / _FROM)
    edges = [int(_FROM * 10 ** (step / _STEPS)) for step in range(round(tenfolds * _STEPS))] + [count]
    return list(pairwise(edges))
