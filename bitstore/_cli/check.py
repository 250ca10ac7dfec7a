"""`bitstore check` and `bitstore show`: what the tiers are, and what is wrong with them."""

from __future__ import annotations

import itertools
import sys
from typing import Annotated, Any

import typer

from bitstore._cli.lines import Check, CheckedTier, Ordered, Shown
from bitstore._cli.options import LIST, ListOptions, Reporting, StoreOptions, one_of
from bitstore._cli.terminal import End, refusing
from bitstore._digests.composite import DigestComposite
from bitstore._support.checks import check_seconds
from bitstore._support.digests import ALGORITHMS
from bitstore._transport.native.choice import choice
from bitstore.config import ConfigError

__all__ = ["check", "show_command"]

_SAMPLES = 20  # digests of a list that are looked for
_USUAL = "sha1"  # of stores that options name, where nothing says the algorithm


def check(
    stores: StoreOptions,
    listed: ListOptions,
    reporting: Reporting,
    hashes: Annotated[str | None, typer.Argument(help=f"Sample digests, of which {_SAMPLES} are used. {LIST}")] = None,
    digest: Annotated[
        list[str] | None, typer.Option(metavar="DIGEST", help="A sample digest to look for; may be repeated.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Also write a probe of 41 bytes into each cache, read it and delete it.")
    ] = False,
    paid: Annotated[
        bool, typer.Option("--paid", help="Also ask paid sources, once for each sample; it may cost money or quota.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="The most that one question to a tier may take.")
    ] = 20.0,
) -> None:
    """Reach each tier, and say what is wrong with it and what to do about it. Nothing is written or paid for unasked.

    Each tier is asked for a blob that cannot be there, listed where the service lists, and asked for one blob that is.
    Faults come with advice, and with the least rights to ask for. Exit code 2: a tier has a fault.
    """
    with refusing():
        check_seconds("--timeout", timeout)
        samples, composite = _samples(stores, listed, hashes, digest or [])
        from bitstore._doctor.checking import checks
        from bitstore._doctor.reports import CheckReport

        found = checks(composite, samples, write=write, paid=paid, timeout=timeout)
    report = CheckReport([])
    for number, tier in enumerate(found, start=1):
        report.tiers.append(tier)
        values = tier.as_dict()
        if not reporting.quiet or not tier.ok or reporting.json:
            first, *rest = tier.lines()
            reporting.show(CheckedTier(**values), _printable("\n".join([f"{number}. {first}", *rest])))
    code = 2 if not report.ok else 1 if report.missing else 0
    native = choice()
    counts: dict[str, Any] = {"ok": report.ok, "missing": report.missing, "exit_code": code}
    line = Check(tiers=len(report.tiers), faults=len(report.faults), native_transport=native.as_dict(), **counts)
    reporting.show(line, report.summary() if reporting.quiet else f"{native}\n{report.summary()}")
    raise End(code)


def _samples(
    stores: StoreOptions, listed: ListOptions, hashes: str | None, digests: list[str]
) -> tuple[list[str], DigestComposite]:
    if hashes is not None:
        entries, composite = listed.open(hashes, stores)
        valid = (entry.digest for entry in entries if entry.digest is not None)
        return [*digests, *itertools.islice(valid, _SAMPLES)], composite
    if listed.column is not None:
        raise ConfigError("--column goes with a list of sample digests")
    if listed.algorithm is not None and not stores.store:
        raise ConfigError("--algorithm goes with --store; a configuration file says its own")
    if listed.algorithm is not None and listed.algorithm not in ALGORITHMS:
        raise ConfigError(f"--algorithm {listed.algorithm}: choose one of {', '.join(ALGORITHMS)}")
    guessed = (name for each in digests for name, kind in ALGORITHMS.items() if kind.parse(each) is not None)
    return digests, stores.composite(listed.algorithm or next(guessed, _USUAL))


def show_command(
    stores: StoreOptions,
    reporting: Reporting,
    algorithm: Annotated[
        str,
        typer.Option(
            metavar="NAME", autocompletion=one_of(*ALGORITHMS), help=f"With --store: {', '.join(ALGORITHMS)}."
        ),
    ] = _USUAL,
    order: Annotated[
        bool,
        typer.Option("--order", help="Also show in which order free sources are asked, and why, where it is learned."),
    ] = False,
) -> None:
    """Show the tiers as a tree: where their blobs lie, and how they are set. Nothing is asked; no secret is shown.

    With --order, what processes have left in the file of the learned order (order = { path = ... }) says why.
    """
    with refusing():
        composite = stores.composite(algorithm)
        outline = composite.outline()
    native = choice()
    line = Shown(**outline.as_dict(), native_transport=native.as_dict())
    reporting.show(line, _printable(f"{outline.text()}\n{native}"))
    if order:
        ranking = composite.ranking()
        if not ranking:
            reporting.tell("tiers are asked as they are written" + _not_learned(composite))
        cohort = None
        for row in ranking:
            head = "" if row.cohort == cohort else f"\nThe order of {row.cohort or 'lookups without a cohort'}:\n"
            cohort = row.cohort
            moved = "" if row.place == row.written else f" (written as {row.written}.)"
            reporting.show(Ordered(**row._asdict()), _printable(f"{head}  {row.place}. {row.tier}{moved}: {row.why}"))


def _not_learned(composite: DigestComposite) -> str:
    if composite.order == "written":
        return ': order = "learned" in the configuration asks free sources by what they have answered.'
    return ": no two free sources stand together."


def _printable(text: str) -> str:
    """`text` as standard output can take it: a terminal may know no lines to draw trees with, and not all letters."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        for branch, plain in (("├─", "|-"), ("└─", "`-"), ("│", "|")):
            text = text.replace(branch, plain)
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text
