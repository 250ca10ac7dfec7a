"""`bitstore verify`: whether the blobs of a bucket or folder are what their keys say."""

from __future__ import annotations

import dataclasses
import secrets
import shlex
from typing import Annotated, Any

import typer

from bitstore._cli import lines
from bitstore._cli.options import LookupOptions, Reporting, StoreOptions, one_of
from bitstore._cli.reports import ReportOptions, run_keys
from bitstore._cli.runs import running
from bitstore._cli.terminal import refusing, show
from bitstore._cli.verifying import (
    Checked,
    Sampling,
    VerifyReport,
    algorithm_of,
    hint,
    listable_tier,
    listed,
    verify_all,
)
from bitstore._digests.store import DigestStore
from bitstore._digests.template import KeyTemplate, key_template
from bitstore._support.digests import ALGORITHMS
from bitstore._support.redact import redact_url
from bitstore._support.sizes import rounded_size
from bitstore._warming.progress import Progress
from bitstore.config import ConfigError
from bitstore.errors import BitstoreError, described

__all__ = ["store_of", "verify"]


def verify(
    stores: StoreOptions,
    lookups: LookupOptions,
    reporting: Reporting,
    reports: ReportOptions,
    url: Annotated[
        str | None, typer.Argument(help="A prefix or key template, such as s3://bucket/prefix/, instead of a tier.")
    ] = None,
    tier: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the configuration; may be left out if one can be listed.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=one_of(*ALGORITHMS),
            help=f"With a URL: {', '.join(ALGORITHMS)} (default: what the keys are).",
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Check N objects, drawn from the whole listing.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(metavar="F", help="Check each object with this chance, such as 0.01.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Which sample: the same seed draws the same again.")
    ] = None,
    resume_from: Annotated[
        str | None, typer.Option(metavar="URL", help="Go on behind this object: an interrupted run names it.")
    ] = None,
) -> None:
    """Read the blobs of a bucket or folder and check that each matches the digest in its key. Nothing is changed.

    Each object that is not right is a line: wrong, failed (it could not be read), gone, or no digest; its URL; and why.
    Exit code 1: there are such objects, or none at all; 2: some could not be read.
    """
    with refusing():
        lookups.check()
        reports.check()
        if url is None and stores.store and len(stores.store) == 1:
            url, stores = stores.store[0], dataclasses.replace(stores, store=None)
        _check(stores, url, tier, algorithm)
        if fraction is not None and not 0 < fraction <= 1:
            raise ConfigError(f"--fraction {fraction}: a number above 0, and 1 at most")
        if sample is not None and (fraction is not None or resume_from is not None):
            raise ConfigError("--sample draws from the whole listing: --fraction and --resume-from exclude it")
        if seed is not None and sample is None and fraction is None:
            raise ConfigError("--seed goes with --sample or --fraction")
        store = store_of(stores, url, tier, algorithm)
        template = key_template(store.prefix)
        if resume_from is not None and not resume_from.startswith(template.start):
            raise ConfigError(f"--resume-from {resume_from}: it must begin with {template.shown}, as listed URLs do")
    if seed is None and (sample is not None or fraction is not None):
        seed = secrets.randbelow(1_000_000)
        reporting.note(f"the sample is that of --seed {seed}")
    sampling = Sampling(number=sample, fraction=fraction, seed=seed or 0)
    report = VerifyReport()
    with running("verify", report, (), shown=reporting.shows_progress) as going:
        try:
            objects = sampling.chosen(listed(store, report, beyond=resume_from))
            verify_all(
                store,
                objects,
                report,
                lambda checked: _show(reporting, going.progress, checked),
                shield=going.shield,
                timeout=lookups.timeout,
                in_flight=lookups.in_flight,
                max_failures=lookups.max_failures or None,
            )
        except BitstoreError as error:  # of the listing: what becomes of objects is in their answers
            report.stopped = described(error)
    resume = None
    if not report.complete and report.reached is not None and sample is None:
        again = ["bitstore", "verify", *([url] if url else []), *(["--tier", tier] if tier else [])]
        again += [*stores.arguments(), *(["--algorithm", algorithm] if algorithm else [])]
        again += ["--fraction", str(fraction), "--seed", str(seed)] if fraction is not None else []
        resume = f"resume: {redact_url(shlex.join([*again, '--resume-from', report.reached]))}"
    ending = run_keys("verify", report, exit_code=report.exit_code, complete=report.complete, resume=resume)
    told = [*_summary(report, template), *([resume] if resume else [])]
    reports.end(_line(report, template.shown, seed, ending), "\n".join(told), reporting)


def _check(stores: StoreOptions, url: str | None, tier: str | None, algorithm: str | None) -> None:
    if stores.store or stores.cache:
        raise ConfigError("verify takes one URL, as its argument or by --store, and no --cache")
    if url is not None and tier is not None:
        raise ConfigError("--tier names a tier of a configuration: leave it or the URL out")
    if url is None and algorithm is not None:
        raise ConfigError("--algorithm goes with a URL; a configuration file says its own")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ConfigError(f"--algorithm {algorithm}: choose {', '.join(ALGORITHMS)}")


def store_of(stores: StoreOptions, url: str | None, tier: str | None, algorithm: str | None) -> DigestStore:
    """The store that is listed: that of a URL, or a tier of a configuration.

    Raises
    ------
    ConfigError
        It cannot be listed, or none of its first keys is a digest and `algorithm` is None.
    """
    if url is None:
        return listable_tier(stores.composite(None), tier)
    named = dataclasses.replace(stores, store=[url])
    store = listable_tier(named.composite(algorithm or "sha256"), None)
    if algorithm is None:
        store = listable_tier(named.composite(algorithm_of(store.base_store, store.prefix)), None)
    return store


def _show(reporting: Reporting, progress: Progress, checked: Checked) -> None:
    """Show what became of one object."""
    url = redact_url(checked.url)
    if reporting.json:
        _, kind, digest, size, error = checked
        lines.show_line(lines.Verified(url=url, kind=kind, digest=digest, bytes=size, error=error))
    elif checked.kind != "right":
        show("\t".join((checked.kind, _in_a_line(url), _in_a_line(checked.error or ""))))
    progress.look()


def _in_a_line(text: str) -> str:
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _line(report: VerifyReport, place: str, seed: int | None, ending: dict[str, Any]) -> lines.Verification:
    return lines.Verification(
        place=place,
        listed=report.listed,
        right=report.found,
        wrong=report.wrong,
        gone=report.missing,
        no_digest=report.invalid,
        seed=seed,
        **ending,
    )


def _summary(report: VerifyReport, template: KeyTemplate) -> list[str]:
    place = template.shown
    told = [
        f"{report.beginning}{report.listed:,} objects listed below {place}",
        f"right: {report.found:,}, {rounded_size(report.bytes)} in {report.seconds:.1f} s ({report.rate})",
        f"wrong: {report.wrong:,}",
        f"not a digest as key: {report.invalid:,}",
        f"could not be read: {report.failed:,}",
        *report.causes.lines(),
    ]
    if report.missing:
        told.append(f"gone since they were listed: {report.missing:,}")
    if report.complete and report.invalid == report.listed:
        what = "no key there is a digest" if report.listed else "nothing lies there"
        told.append(f"{what}: {hint(template)}")
    return told + report.ending()
