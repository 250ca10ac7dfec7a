"""`bitstore plan`: what looking up a list will come to, before it is begun."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from bitstore._cli import lines
from bitstore._cli.options import LIST, ListOptions, Reporting, StoreOptions
from bitstore._cli.spending import BudgetOptions
from bitstore._cli.terminal import End, fail, refuse, refusing
from bitstore._digests.composite import DigestComposite
from bitstore._digests.hash_list import Entry, ListError
from bitstore._limits.budget import Budget
from bitstore._planning.plan import Beside, Plan
from bitstore._planning.planner import SAMPLE
from bitstore._support.checks import check_seconds
from bitstore._support.sizes import rounded_size
from bitstore.config import ConfigError
from bitstore.errors import BitstoreError, StoreNotAvailable

_FORMS: dict[str, Callable[[float], str]] = {
    "bytes": lambda value: rounded_size(round(value)),
    "money": "{:,.4f}".format,
}

__all__ = ["beside_lines", "beside_rows", "made", "plan"]


def plan(
    hashes: Annotated[str, typer.Argument(help=LIST)],
    stores: StoreOptions,
    listed: ListOptions,
    spending: BudgetOptions,
    reporting: Reporting,
    sample: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many digests are looked for in free tiers; 0: no request.")
    ] = SAMPLE,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of the sample; default: another one each time.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Blobs a second: tells how many hours it will take.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, help="The most that one lookup of the sample may take."),
    ] = None,
) -> None:
    """Tell what looking up a list will come to: hits of each tier, requests, bytes and money, with bounds.

    Caches, indexes and ledgers of misses are asked for all digests, free tiers for a sample of them, without bytes.
    Paid tiers are never asked. Exit code 1: with --budget, the expected money is more than that.
    """
    with refusing():
        if rate is not None and not rate > 0:
            raise ConfigError(f"--rate {rate}: must be more than 0 blobs a second")
        if timeout is not None:
            check_seconds("--timeout", timeout)
        entries, composite = listed.open(hashes, stores)
        budget = spending.give(composite)
    try:
        found = made(composite, entries, sample=sample, seed=seed, timeout=timeout)
    except ListError as error:
        refuse(error)
    except (BitstoreError, StoreNotAvailable) as error:
        fail(2, error)
    short = _short(found, budget)
    hours = None if rate is None else found.hours(rate)
    told = [str(found)]
    if hours is not None:
        told.append(f"hours: {hours.expected:,.2f} ({hours.low:,.2f} to {hours.high:,.2f})")
    told += [] if short is None else [short]
    values: dict[str, Any] = found.as_dict()
    line = lines.Plan(
        hours=None if hours is None else list(hours),
        exit_code=int(short is not None),
        **{key: values[key] for key in lines.Plan.__struct_fields__ if key in values},
    )
    reporting.show(line, "\n".join(told))
    raise End(line.exit_code)


def made(store: DigestComposite, entries: Iterable[Entry], **options: Any) -> Plan:
    """The plan for the entries of a list. Raises what `DigestComposite.plan` does, and `ListError`."""
    # The text of an invalid entry is passed on, because the plan counts invalid entries as well.
    return store.plan((entry.text if entry.digest is None else entry.digest for entry in entries), **options)


def _short(found: Plan, budget: Budget | None) -> str | None:
    """Why a budget will not do; None: it will, as far as is known."""
    if budget is None:
        return None
    if budget.most is not None and found.money is not None and found.money.expected > budget.most:
        return f"the budget of {budget.most} will not do: {found.money} is expected"
    calls = sum(tier.calls.expected for tier in found.tiers)
    for kind, cap, expected in (
        ("calls", budget.calls, calls),
        ("requests", budget.requests, found.requests.expected),
        ("bytes", budget.bytes, 0.0 if found.bytes is None else found.bytes.expected),
    ):
        if cap is not None and expected > cap:
            return f"the budget of {cap:,} {kind} will not do: {expected:,.0f} are expected"
    return None


def beside_rows(found: Plan, store: DigestComposite, budget: Budget) -> list[Beside]:
    """What was planned beside what it came to."""
    try:
        receipt = budget.receipt()
    except StoreNotAvailable:
        receipt = None
    return found.beside(store.stats(), receipt)


def beside_lines(rows: list[Beside]) -> list[str]:
    """What was planned beside what it came to, as a table."""
    table = [("plan", "", "planned", "came to", "off by")]
    for row in rows:
        form = _FORMS.get(row.what, "{:,.0f}".format)
        off = "" if row.off is None else f"{row.off:+.1%}"
        table.append((row.tier, row.what, form(row.planned), form(row.fact), off))
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    return [
        "  ".join([line[0].ljust(widths[0]), line[1].ljust(widths[1]), *map(str.rjust, line[2:], widths[2:])]).rstrip()
        for line in table
    ]
