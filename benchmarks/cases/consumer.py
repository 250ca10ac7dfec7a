"""Claim 7: a consumer that spends 0.2 ms of Python on each blob."""

from __future__ import annotations

from statistics import median

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.results import Result, Verdict


def run(bench: Bench) -> Result:
    """Measure."""
    ours = bench.ours(bench.small(), "bitstore get_many, consumer burns 0.2 ms", how="consumer", burn=0.0002)
    ours.warm_up = 1000
    rounds.run([ours], rounds=bench.rounds, seconds=2 * bench.seconds)
    result = Result("consumer", 7, "A consumer that spends 0.2 ms of Python on each blob")
    result.add([ours], None)
    if not ours.turns:
        result.left_out([ours])
        return result
    parts = [turn.told["alone"] / turn.told["seconds"] for turn in ours.turns]
    alone = median(turn.told["blobs"] / turn.told["alone"] for turn in ours.turns)
    result.table.append(("the same without fetching", f"{alone:,.0f}", "", "", ""))
    result.verdicts = [Verdict("blobs/s, times the same without fetching", median(parts), least=0.9)]
    return result
