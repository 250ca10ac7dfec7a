"""Claim 4: `store.get`, one blob at a time, in the published `ultimap` example."""

from __future__ import annotations

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict

_CALLS = 2000  # a turn of `ultimap`


def run(bench: Bench) -> Result:
    """Measure."""
    job = {**bench.small(), "threads": 16}
    ours = bench.ours(job, "bitstore get, ultimap, 16 threads", how="ultimap")
    epic = Contestant("epic-bitstore 1.1.0 get, ultimap, 16 threads", "epic", job, "epic")
    nothing = bench.ours(job, "ultimap of a function that does nothing", how="nothing")
    yielding = bench.ours(job, "ultimap of time.sleep(0)", how="yielding")
    away = bench.ours(job, "ultimap of time.sleep(0.0001)", how="away")
    for contestant in (ours, epic, nothing, yielding, away):
        # The same number for all: whenever a call has ended, ultimap looks at all that have not.
        contestant.count = _CALLS
    looping = bench.ours(job, "bitstore get, 16 looping threads", how="threads")
    # On one core: which cores the system gives to a client that waits, and to the server, changes its CPU threefold.
    one = {**job, "threads": 1, "cores": 1}
    alone = bench.ours(one, "bitstore get, one thread", how="threads")
    obstore = Contestant("obstore get, one thread", "obstore_threads", one)
    bare = Contestant("a bare socket that hashes, one thread", "bare_socket", one)
    everybody = [ours, epic, looping, nothing, yielding, away, alone, obstore, bare]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result = Result("single", 4, "One get at a time in 16 threads, verified")
    result.add(through, ours)
    result.left_out(everybody)
    if epic in through:
        ratio = rounds.rate_ratio(ours, epic)
        if away in through:
            most = rounds.rate_ratio(away, epic)
            result.notes.append(
                "A function that only sleeps for 0.1 ms, and releases the GIL once, has "
                f"{most:.2f} times the calls/s of epic-bitstore in ultimap."
            )
        result.verdicts = [Verdict("blobs/s in ultimap, times epic-bitstore", ratio, least=6)]
    else:
        result.verdicts = [Verdict("epic-bitstore could not take part", None)]
    if obstore in through:
        ratio = rounds.cpu_ratio(alone, obstore)
        result.verdicts.append(Verdict("CPU per blob in one thread, times obstore", ratio, most=0.4))
        if bare in through:
            least = rounds.cpu_ratio(bare, obstore)
            result.notes.append(f"A bare socket that asks, receives and hashes has {least:.2f} of the CPU of obstore.")
    return result
