"""Claim 5: blobs of 4 MB against obstore; and far larger ones, in parallel ranges and streamed to disk."""

from __future__ import annotations

import bitstore
from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict


def run(bench: Bench) -> Result:
    """Measure."""
    job = bench.large()
    ours = bench.ours(job, "bitstore get_many, 4 MB", verify=False)
    verified = bench.ours(job, "bitstore get_many, 4 MB, verified")
    obstore = [
        Contestant(f"obstore, 4 MB, {threads} threads", "obstore_threads", {**job, "threads": threads})
        for threads in ((8,) if bench.quick else (8, 16))
    ]
    hashed = Contestant(
        "obstore, 4 MB, 8 threads, and hashlib's sha1", "obstore_threads", {**job, "threads": 8, "verify": True}
    )
    everybody = [ours, *obstore, verified, hashed]
    for each in everybody:
        each.warm_up = 40
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result = Result("large", 5, "Blobs of 4 MB")
    result.add(through, ours, bytes_each=4_000_000)
    result.left_out(everybody)
    if took_part := [each for each in obstore if each in through]:
        fastest, leanest = max(took_part, key=lambda each: each.rate), min(took_part, key=lambda each: each.cpu)
        result.verdicts = [
            Verdict(f"MB/s, verified, times {fastest.name}", rounds.rate_ratio(verified, fastest), least=1.0),
            Verdict(f"CPU per MB, verified, times {leanest.name}", rounds.cpu_ratio(verified, leanest), most=1.3),
            Verdict(f"MB/s, unverified, times {fastest.name}", rounds.rate_ratio(ours, fastest), least=0.95),
            Verdict(f"CPU per MB, unverified, times {leanest.name}", rounds.cpu_ratio(ours, leanest), most=1.0),
        ]
    else:
        result.verdicts = [Verdict("obstore could not take part", None)]
    result.notes.append("Neither bitstore nor obstore verifies here, except where the table says so.")
    if hashed in through and obstore[0] in through and verified in through:
        result.notes.append(
            f"Hashing takes obstore to {rounds.rate_ratio(hashed, obstore[0]):.2f} of its own rate, at "
            f"{rounds.cpu_ratio(hashed, obstore[0]):.2f} times its CPU. Against that, ours verified is "
            f"{rounds.rate_ratio(verified, hashed):.2f} times as fast, at {rounds.cpu_ratio(verified, hashed):.2f} "
            "of the CPU."
        )
    _huge(bench, result)
    return result


def _huge(bench: Bench, result: Result) -> None:
    """Blobs of 256 MB: the memory that a download takes is what counts."""
    if bench.quick:
        return
    if not hasattr(bitstore.Sha1Store, "download"):
        result.verdicts.append(Verdict("store.download is not there yet", None))
        return
    job = {**bench.huge(), "verify": True, "folder": bench.scratch("downloads")}
    download = Contestant("bitstore download to a file, 256 MB, verified", "huge", {**job, "how": "download"})
    get = Contestant("bitstore get, 256 MB, verified", "huge", {**job, "how": "ours"})
    other = Contestant("obstore get, 256 MB", "huge", {**job, "how": "obstore"})
    everybody = [download, get, other]
    for each in everybody:
        # Several in a row: after a pause the system has taken the memory back that the last blob had.
        each.warm_up, each.count = 1, 8
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result.add(through, None, bytes_each=256_000_000)
    result.left_out(everybody)
    if get in through and other in through:
        result.verdicts += [
            Verdict("MB/s of 256 MB, verified, times obstore get", rounds.rate_ratio(get, other), least=1.0),
            Verdict("CPU per MB of 256 MB, verified, times obstore get", rounds.cpu_ratio(get, other), most=1.3),
        ]
    if download in through:
        peak = max(turn.told["peak"] for turn in download.turns) / 1e6
        result.verdicts.append(Verdict("MB resident at most while 256 MB are downloaded to a file", peak, most=160))
