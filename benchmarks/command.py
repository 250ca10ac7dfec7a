"""The command line: which cases to run, and where the results go."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.cases import (
    cluster,
    cluster_growth,
    consumer,
    cores,
    disk,
    growth,
    headline,
    index,
    large,
    latency,
    money,
    order,
    packs,
    single,
    tls,
    walk,
)
from benchmarks.envs import HERE
from benchmarks.origin import find_nginx
from benchmarks.results import Result, machine
from benchmarks.rounds import say

__all__ = ["CASES", "main"]

CASES: dict[str, Callable[[Bench], Result]] = {
    "headline": headline.run,
    "tls": tls.run,
    "latency": latency.run,
    "walk": walk.run,
    "single": single.run,
    "large": large.run,
    "disk-reads": disk.reads,
    "disk-writes": disk.writes,
    "disk-crowd": disk.crowded,
    "memory": disk.memory,
    "packs-writes": packs.writes,
    "packs-reads": packs.reads,
    "consumer": consumer.run,
    "cores": cores.run,
    "growth": growth.run,
    "misses": growth.misses,
    "index": index.run,
    "order": order.learned,
    "hedge": order.hedge,
    "ledger": money.ledger,
    "plan": money.plan,
    "budget": money.budget,
    "cluster": cluster.run,
    "cluster-second-pass": cluster.second_pass,
    "cluster-growth": cluster_growth.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the cases. Returns 1 if a target was missed or could not be measured."""
    options = _parser().parse_args(arguments)
    unknown = [name for name in options.names if name not in CASES]
    if unknown:
        raise SystemExit(f"error: there is no case {', '.join(unknown)}; there are: {', '.join(CASES)}")
    if options.rounds < 1:
        raise SystemExit("error: --rounds must be at least 1")
    # As Ctrl-C does: the server and the workers are stopped, and the scratch folder is deleted.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    find_nginx()  # a word on how to get it, before anything takes time
    facts = machine()
    results: list[Result] = []
    started = time.monotonic()
    bench = Bench(quick=options.quick, rounds=options.rounds)
    files: list[Path] = []
    try:
        for name in options.names or CASES:
            say(f"{name}")
            result = CASES[name](bench)
            results.append(result)
            for verdict in result.verdicts:
                say(f"  {report.verdict_line(verdict)}")
    finally:
        bench.close()
        # Also after Ctrl-C or a failure: the cases before it may have taken an hour. But nothing is no result, and must
        # not take the place of an earlier one.
        if results:
            files = report.write(options.output, results, facts, rounds=options.rounds, quick=options.quick)
    print(report.markdown(results, facts, rounds=options.rounds))
    words = [verdict.word for result in results for verdict in result.verdicts]
    say(f"{words.count('pass')} of {len(words)} targets met, in {time.monotonic() - started:.0f} s; see:")
    for path in files:
        say(f"  {path}")
    return 0 if words and set(words) == {"pass"} else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description="Measure bitstore and others, in turns.")
    parser.add_argument("names", nargs="*", metavar="CASE", help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="shorter turns, fewer blobs")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=HERE / "results" / "local", help="folder for the results (default: %(default)s)"
    )
    return parser
