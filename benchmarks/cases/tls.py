"""Claim 1 over TLS: many 16 KB blobs of one bucket, verified."""

from __future__ import annotations

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict


def run(bench: Bench) -> Result:
    """Measure."""
    job = bench.secure(bench.small())
    ours = bench.ours(job, "bitstore get_many over TLS, verified")
    python = bench.ours(job, "the same without the native transport", native=False)
    boto = Contestant("boto3 over TLS, 16 threads", "boto", {**job, "threads": 16})
    obstore = [
        Contestant(f"obstore over TLS, {threads} threads", "obstore_threads", {**job, "threads": threads})
        for threads in (16, 64)
    ]
    everybody = [ours, python, *obstore, boto]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result = Result("tls", 1, "16 KB blobs of one bucket over TLS, verified")
    result.add(through, ours)
    result.left_out(everybody)
    took_part = [each for each in obstore if each in through]
    if took_part:
        leanest, fastest = min(took_part, key=lambda e: e.cpu), max(took_part, key=lambda e: e.rate)
        result.verdicts = [
            Verdict(f"CPU per blob, times {leanest.name}", rounds.cpu_ratio(ours, leanest), most=0.6),
            Verdict(f"blobs/s, times {fastest.name}", rounds.rate_ratio(ours, fastest), least=1.4),
        ]
    else:
        result.verdicts = [Verdict("obstore could not take part", None)]
    result.notes.append("Each trusts an authority of its own for this run, and each verifies the certificate.")
    return result
