"""Claim 8: what a blob costs does not grow with how many there are, nor does memory."""

from __future__ import annotations

import math
import random
from statistics import mean

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant, Failed, Turn
from benchmarks.results import Result, Verdict

# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
_T95 = {3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179, 13: 2.160}
_T95 |= {11: 2.201, 14: 2.145, 15: 2.131, 18: 2.101, 23: 2.069, 28: 2.048}


def run(bench: Bench) -> Result:
    """CPU per blob against the logarithm of the number of blobs, one process for each run, in random order."""
    counts = [1000, 3000, 10_000, 30_000] if bench.quick else [10_000, 30_000, 100_000, 300_000, 1_000_000]
    runs = counts * 2 + ([] if bench.quick else counts[:-1])
    random.Random(8).shuffle(runs)
    job = bench.small()
    result = Result("growth", 8, f"CPU per blob from {counts[0]:,} to {counts[-1]:,} digests through a generator")
    result.columns = ("digests", "blobs/s", "CPU µs per blob", "MB resident at most")
    measured: list[tuple[int, Turn]] = []
    for count in runs:
        each = bench.ours(job)
        with rounds.running([each]) as ready:
            if not ready:
                result.left_out([each])
                return result
            each.turn(2000)  # connections and imports
            turn = each.turn(count)
        rounds.say(f"  {count:,} digests: {turn.cpu:.1f} µs per blob")
        measured.append((count, turn))
        result.versions.update(each.versions)
    for count in counts:
        turns = [turn for number, turn in measured if number == count]
        peak = mean(turn.told["peak"] for turn in turns) / 1e6
        rate, cpu = mean(turn.rate for turn in turns), mean(turn.cpu for turn in turns)
        result.table.append((f"{count:,}", f"{rate:,.0f}", f"{cpu:.1f}", f"{peak:.0f}"))
    result.raw = {"runs": [turn.told for _, turn in measured]}
    slope, error, middle = fit([(math.log10(count), turn.cpu) for count, turn in measured])
    most = half_width(error, len(measured))
    result.verdicts = [
        Verdict(f"slope / half width of its 95 % interval ({slope:+.2f} ± {most:.2f} µs per tenfold, "
                f"at {middle:.0f} µs)", slope / most, least=-1, most=1),
        Verdict("resident memory of the largest run, times that of the smallest",
                _peak(measured, counts[-1]) / _peak(measured, counts[0]), most=1.1),
    ]  # fmt: skip
    return result


def misses(bench: Bench) -> Result:
    """`get_many` over ten million digests that a store in memory does not have."""
    counts = [10_000, 100_000, 300_000] if bench.quick else [100_000, 1_000_000, 10_000_000]
    result = Result("misses", 8, "Digests that all miss in a store in memory")
    result.columns = ("digests", "digests/s", "CPU µs each", "MB resident at most")
    each = Contestant("bitstore", "ours_misses", {})
    with rounds.running([each]) as ready:
        try:
            for count in counts if ready else []:
                turn = each.turn(count)
                each.turns.append(turn)
                peak = f"{turn.told['peak'] / 1e6:.0f}"
                result.table.append((f"{count:,}", f"{turn.rate:,.0f}", f"{turn.cpu:.1f}", peak))
                rounds.say(f"  {count:,} digests: {peak} MB")
        except Failed as error:
            rounds.say(f"  left out: {error}")
    result.left_out([each])
    result.raw = {"runs": [turn.told for turn in each.turns]}
    if len(each.turns) == len(counts):
        growth = (each.turns[-1].told["peak"] - each.turns[0].told["peak"]) / 1e6
        text = f"MB that resident memory grows by from {counts[0]:,} to {counts[-1]:,}"
        result.verdicts = [Verdict(text, growth, most=25)]
    return result


def _peak(measured: list[tuple[int, Turn]], count: int) -> float:
    return float(mean(turn.told["peak"] for number, turn in measured if number == count))


def half_width(error: float, points: int) -> float:
    """Of the 95 % interval of a slope with this standard error, fitted to so many points."""
    return error * _T95[max(known for known in _T95 if known <= points - 2)]


def fit(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Least squares: slope, its standard error, and the mean of y."""
    x_mean, y_mean = mean(x for x, _ in points), mean(y for _, y in points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in points) / spread
    rest = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in points)
    return slope, math.sqrt(rest / (len(points) - 2) / spread), y_mean
