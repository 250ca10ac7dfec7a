"""Claim 2: an origin that takes 30 ms for each answer, with default settings against the others' best ones."""

from __future__ import annotations

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict


def run(bench: Bench) -> Result:
    """Measure."""
    result = Result("latency", 2, "16 KB blobs, 30 ms until each answer")
    job = bench.slow(bench.small())
    if job is None:
        result.verdicts = [Verdict("this nginx has no Lua, so it cannot answer late", None)]
        return result
    ours = bench.ours(job, "bitstore get_many, verified, default settings")
    floor = Contestant("bare libcurl multi loop, verified, 512 transfers", "bare_multi", {**job, "transfers": 512})
    obstore = [
        Contestant(f"obstore, {threads} threads", "obstore_threads", {**job, "threads": threads})
        for threads in ((128, 256) if bench.quick else (64, 128, 256, 512))
    ]
    boto = [
        Contestant(f"boto3, {threads} threads", "boto", {**job, "threads": threads})
        for threads in ((32,) if bench.quick else (16, 32, 64, 128))
    ]
    ours.warm_up = floor.warm_up = 4000
    for each in obstore:
        each.warm_up = 2000
    everybody = [ours, floor, *obstore, *boto]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=2 * bench.seconds)
    result.add(through, ours)
    result.left_out(everybody)
    result.verdicts = [_verdict(ours, obstore, through, 1.5), _verdict(ours, boto, through, 12)]
    result.notes.append("Each contestant has found its pace in the warm-up: connections are made, blobs are flowing.")
    return result


def _verdict(ours: Contestant, others: list[Contestant], through: list[Contestant], least: float) -> Verdict:
    took_part = [each for each in others if each in through]
    if not took_part:
        return Verdict(f"{others[0].name} could not take part", None)
    best = max(took_part, key=lambda each: each.rate)
    return Verdict(f"blobs/s, times {best.name}", rounds.rate_ratio(ours, best), least=least)
