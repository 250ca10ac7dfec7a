"""Claim 1: many 16 KB blobs of one bucket, verified, against everybody."""

from __future__ import annotations

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict


def run(bench: Bench) -> Result:
    """Measure."""
    job = bench.small()
    ours = bench.ours(job, "bitstore get_many, verified")
    python = bench.ours(job, "the same without the native transport", native=False)
    floor = Contestant("bare libcurl multi loop, verified", "bare_multi", {**job, "transfers": 32})
    boto = Contestant("boto3, 16 threads", "boto", {**job, "threads": 16})
    epic = Contestant("epic-bitstore 1.1.0, ultimap, 16 threads, verified", "epic", {**job, "threads": 16}, "epic")
    obstore = [
        Contestant(f"obstore, {threads} threads", "obstore_threads", {**job, "threads": threads})
        for threads in (16, 64)
    ]
    others = [
        Contestant("google-cloud-storage, 16 threads", "google_storage", {**job, "threads": 16}),
        Contestant("s3fs, cat of 500 at once", "s3fs_cat", job, "s3fs"),
        Contestant("daft download, 32 connections", "daft_download", {**job, "threads": 32}, "daft"),
    ]
    everybody = [ours, python, floor, *obstore, boto, epic, *others]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result = Result("headline", 1, "16 KB blobs of one bucket, verified")
    result.add(through, ours)
    result.left_out(everybody)

    def speed(other: Contestant, least: float) -> Verdict:
        if other not in through:
            return Verdict(f"{other.name} could not take part", None)
        return Verdict(f"blobs/s, times {other.name}", rounds.rate_ratio(ours, other), least=least)

    def cpu(other: Contestant, most: float) -> Verdict:
        if other not in through:
            return Verdict(f"{other.name} could not take part", None)
        return Verdict(f"CPU per blob, times {other.name}", rounds.cpu_ratio(ours, other), most=most)

    took_part = [each for each in obstore if each in through] or obstore[:1]
    leanest = min(took_part, key=lambda e: e.cpu if e.turns else 0.0)
    fastest = max(took_part, key=lambda e: e.rate if e.turns else 0.0)
    result.verdicts = [speed(boto, 45), speed(epic, 60), speed(fastest, 1.6), cpu(leanest, 0.5), cpu(python, 1.0)]
    return result
