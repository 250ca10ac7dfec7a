"""Claim 12: what is promised of money, counted at servers: a ledger of misses, plans, and budgets with kills."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import Any

from benchmarks.bench import Bench
from benchmarks.results import Result, Verdict

__all__ = ["budget", "ledger", "plan"]


def ledger(bench: Bench) -> Result:
    """The second run of a job of which a paid API lacks 30 %, without a cache of what it has."""
    from bitstore import MissLedger
    from tests.miss_workers import job, run
    from tests.servers import CountedAPI
    from tests.stores import sha1

    blobs = {sha1(data): data for data in (b"%d" % number for number in range(200 if bench.quick else 2000))}
    digests = [*blobs]
    held = digests[: len(digests) * 7 // 10]
    result = Result("ledger", 12, f"A job of {len(digests):,} digests, of which a paid API lacks 30 %, run twice")
    result.columns = ("run", "found", "missing", "failed", "calls for blobs that are missing")
    path = bench.scratch("ledger") / "misses.sqlite"
    with CountedAPI({digest: blobs[digest] for digest in held}) as api:
        for number in (1, 2):
            api.clear()
            told = run(job(api.url, MissLedger(path)), digests)  # as a new process: nothing but the file is known
            calls = sum(api.calls[digest] for digest in digests[len(held) :])
            counts = [f"{count:,}" for count in (told["found"], told["missing"], told["failed"], calls)]
            result.table.append((str(number), *counts))
            result.raw[f"run {number}"] = [{**told, "calls": calls}]
    result.verdicts = [Verdict("paid calls of the second run for what the first was told is missing", calls, most=0)]
    return result


def plan(bench: Bench) -> Result:
    """Plans beside the facts, of three jobs."""
    from bitstore import Budget
    from tests.plan_jobs import JOBS
    from tests.servers import CountedAPI

    result = Result("plan", 12, "Plans of three jobs, by a sample of 700 digests, beside what the jobs came to")
    result.columns = ("job", "money planned", "money spent", "worst number of a tier, off by")
    for job in JOBS:
        name = job.__name__.replace("_", " ")
        folder = bench.scratch(f"plan-{job.__name__}")
        with ExitStack() as stack:
            store, digests = job([stack.enter_context(CountedAPI()) for _ in range(3)], folder)
            planned = store.plan(digests, sample=700, seed=6)
            spent = store.budget = Budget()
            list(store.get_many(digests))
        rows = [row for row in planned.beside(store.stats(), spent.receipt()) if row.what != "hits" and row.fact]
        worst = max((abs(row.off or 0.0) for row in rows), default=1.0)
        fact, expected = spent.spent.money, planned.money
        result.table.append((name, str(expected), "" if fact is None else fact.rounded(), f"{worst:.1%}"))
        result.raw[name] = [row._asdict() for row in rows]
        off = float(expected.expected.amount / fact.amount) - 1 if expected and fact else 1.0
        result.verdicts += [
            Verdict(f"{name}: money, off by so much of the fact", abs(off), most=0.1),
            Verdict(f"{name}: requests, calls, bytes or money of a tier, off at the most by", worst, most=0.1),
        ]
    return result


def budget(bench: Bench) -> Result:
    """Processes that pay from one budget, killed at work."""
    from bitstore import Budget
    from tests.budget_workers import pay_until_used_up
    from tests.limit_workers import TimedAPI, kill_at_work

    most, cents, wanted = 450, "0.01 USD", 10 if bench.quick else 50
    state, cap = str(bench.scratch("budget") / "budget.sqlite"), f"{most * 0.01} USD"
    result = Result("budget", 12, f"Processes that pay {cents} a call from a budget of {cap}, killed at work")
    dice, kills, rounds = random.Random(5), 0, 0
    with TimedAPI() as api:
        while kills < wanted and rounds < 30:
            rounds += 1
            work: list[tuple[Any, ...]] = [(api.url, cap, cents, state, f"{rounds}-{number}") for number in range(5)]
            kills += kill_at_work(api, dice.randrange(2, 12), pay_until_used_up, work)
        pay_until_used_up(api.url, cap, cents, state, "last")
        calls = len(api.times)
    money = Budget(state=state).spent.money
    counted = float(money.amount) if money is not None else 0.0
    result.columns = ("kills", "calls that the server counted", "USD on the receipt")
    result.table = [(str(kills), str(calls), f"{counted:.2f}")]
    result.raw = {"budget": [{"kills": kills, "calls": calls, "spent": counted}]}
    result.verdicts = [
        Verdict("processes killed at work", kills, least=wanted),
        Verdict(f"calls, of {most} that the budget allows", calls, most=most),
        Verdict("calls that are not on the receipt", max(0.0, calls - round(counted * 100)), most=0),
    ]
    return result
