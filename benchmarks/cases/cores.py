"""Claim 8: one process on one core and on two, the origin on others."""

from __future__ import annotations

import os

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.results import Result, Verdict

LEAST_CORES = 4  # two for the client, and as many for the server


def run(bench: Bench) -> Result:
    """Measure."""
    result = Result("cores", 8, "16 KB blobs of one bucket, verified, by one process on one core and on two")
    if len(os.sched_getaffinity(0)) < LEAST_CORES:
        text = f"blobs/s of two cores, times one: it takes {LEAST_CORES} cores, and this machine has fewer"
        result.verdicts = [Verdict(text, None)]
        return result
    job = bench.small()
    one = bench.ours(job, "bitstore get_many on one core", cores=1)
    two = bench.ours(job, "bitstore get_many on two cores", cores=2)
    through = rounds.run([one, two], rounds=bench.rounds, seconds=bench.seconds)
    result.add(through, two)
    result.left_out([one, two])
    result.verdicts = [Verdict("blobs/s of two cores, times one", rounds.rate_ratio(two, one), least=1.8)]
    return result
