"""Claim 3: three buckets, the blobs in the last: two misses before each hit."""

from __future__ import annotations

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict


def run(bench: Bench) -> Result:
    """Measure."""
    job = bench.small()
    one = bench.ours(job, "bitstore, one bucket")
    buckets = ["empty-1", "empty-2", job["bucket"]]
    three = bench.ours({**job, "buckets": buckets}, "bitstore, three buckets")
    old = Contestant(
        "epic-bitstore 1.1.0, three buckets", "epic", {**job, "buckets": buckets, "threads": 16}, env="epic"
    )
    everybody = [one, three] if bench.quick else [one, three, old]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result = Result("walk", 3, "Three buckets, the blobs in the last (two misses first)")
    result.add(through, three)
    result.left_out(everybody)
    result.verdicts = [
        Verdict("CPU per blob, times one bucket", rounds.cpu_ratio(three, one), most=3.0),
        Verdict("seconds per blob, times one bucket", 1 / rounds.rate_ratio(three, one), most=3.2),
    ]
    return result
