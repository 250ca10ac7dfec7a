"""`bitstore warm`: fill caches before a job, from this process or on a Ray cluster."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator
from typing import Annotated, Any, get_args

import typer

from bitstore._cli.interrupts import Interrupts
from bitstore._cli.options import LIST, ListOptions, LookupOptions, Reporting, StoreOptions, one_of
from bitstore._cli.ray_address import connected
from bitstore._cli.reports import ReportOptions, report_line, show_outcome
from bitstore._cli.spending import BudgetOptions, receipt_lines, spent_keys
from bitstore._cli.terminal import above, refuse, refusing, say_plainly
from bitstore._cli.warming_inventory import InventoryList, SinceInventory, is_inventory
from bitstore._digests.composite import DigestComposite
from bitstore._digests.hash_list import HashList, ListError
from bitstore._indexing.manifest import InventoryError
from bitstore._support.fingerprint import fingerprint
from bitstore._warming.indexed import Indexes
from bitstore._warming.parts import Target, check_target
from bitstore._warming.run import Fill, Warming, fill_here
from bitstore._warming.since import Since
from bitstore.config import ConfigError
from bitstore.errors import BitstoreError, StoreNotAvailable

__all__ = ["warm"]


def warm(
    hashes: Annotated[str, typer.Argument(help=LIST)],
    stores: StoreOptions,
    listed: ListOptions,
    lookups: LookupOptions,
    spending: BudgetOptions,
    reporting: Reporting,
    reports: ReportOptions,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Note in this folder, as Parquet, what became of each digest; resume from what it says."
        ),
    ] = None,
    retry_missing: Annotated[
        bool, typer.Option("--retry-missing", help="Ask again for what the ledger knows as missing.")
    ] = False,
    since_last: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="Read only what the list has got since the last run, which this file notes; made by the first run.",
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The list is the manifest.json of a bucket's inventory (path or URL): which keys are digests, such as "
            "s3://b/{digest}.",
        ),
    ] = None,
    trust_index: Annotated[
        bool,
        typer.Option("--trust-index", help="Do not ask for what the membership indexes of the filled caches have."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is warm and what would be fetched from where.")
    ] = False,
    ray: Annotated[
        str, typer.Option(metavar="none|local|ADDRESS", help="The cluster on which to do it; none: this process.")
    ] = "none",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="shared|owner|local",
            autocompletion=one_of("shared", "owner", "local"),
            help="With --ray: the shared caches, the nodes' disks together, or the disk of every node.",
        ),
    ] = None,
) -> None:
    """Fill the caches with the blobs of a list, each once, so that a later job finds them there.

    Digests that are missing or fail are counted, and with --ledger listed one by one; a broken run resumes from its
    ledger. With --since-last a schedule warms what is new: a run that does not come to its end leaves STATE as it is.
    """
    with refusing():
        lookups.check()
        reports.check()
        if ledger is not None and not ledger:
            raise ConfigError("--ledger has no name: name a folder")
        if since_last is not None and not since_last:
            raise ConfigError("--since-last has no name: name a file")
        meant = _target(ray, target)
        since: Since | None = None
        entries: HashList | InventoryList
        if is_inventory(hashes):
            if since_last is not None and ledger is None:
                raise ConfigError("an inventory lists all keys each time: --ledger DIR knows which of them are new")
            entries, composite = _inventory(hashes, template, listed, stores)
            if since_last is not None:
                since = SinceInventory(since_last, entries, target=meant)
        else:
            if template is not None:
                raise ConfigError("--template goes with the manifest.json of an inventory")
            since = None if since_last is None else Since(since_last, hashes, target=meant)
            entries, composite = listed.open(hashes, stores, read=None if since is None else since.open)
        check_target(composite, meant)
        store_id = fingerprint(composite, paid=False)
        if since is not None:
            since.bind(store_id)
            reporting.note(f"warm: {since.told}")
        budget = spending.give(composite, for_cluster=ray != "none")
        warming = Warming(
            algorithm=entries.algorithm,
            target=meant,
            store_id=store_id,
            ledger=ledger,
            indexes=Indexes(composite, meant) if trust_index else None,
            since=since,
            retry_missing=retry_missing,
            dry_run=dry_run,
            max_failures=lookups.max_failures or None,
            show=reporting.shows_progress,
            say=say_plainly,
            watch=show_outcome if reporting.json else None,
        )
    interrupted: int | None = None
    receipt: list[str] = []
    spent: list[dict[str, Any]] | None = None
    with Interrupts() as interrupts, above(warming.say):
        try:
            with _filler(composite, meant, ray, dry_run, lookups) as fill:
                try:
                    warming.run(entries if since is None else since, fill)
                finally:  # while the cluster is there, which has the receipt
                    receipt, spent = receipt_lines(budget), spent_keys(budget)
        except KeyboardInterrupt:
            interrupted = interrupts.signal or signal.SIGINT
        except (
            ListError,
            InventoryError,
            StoreNotAvailable,
        ) as error:  # it breaks off: all of it is read before anything is asked
            refuse(error)
        interrupts.ignore()
    report = warming.report
    code = report.exit_code if interrupted is None else 128 + interrupted
    line = report_line(
        "warm",
        report,
        entries=report.given,
        there=report.settled + report.indexed + report.warm,
        exit_code=code,
        complete=report.complete,
        resume=report.advice,
        tiers=composite.stats().values() if ray == "none" and not dry_run else None,
        spent=spent,
    )
    reports.end(line, "\n".join([str(report), *receipt]), reporting)


def _inventory(
    source: str, template: str | None, listed: ListOptions, stores: StoreOptions
) -> tuple[InventoryList, DigestComposite]:
    """The inventory, and the stores that are asked for its digests."""
    if listed.column is not None:
        raise ConfigError("--column goes with a list: an inventory says itself which column has its keys")
    if listed.algorithm is not None and not stores.store:
        raise ConfigError("--algorithm goes with --store; a configuration file says its own")
    composite = None if stores.store else stores.composite(None)
    entries = InventoryList(source, template, stores, listed.algorithm if composite is None else composite.algorithm)
    return entries, composite or stores.composite(entries.algorithm.name)


def _target(ray: str, target: str | None) -> Target:
    if ray == "none":
        if target is not None:
            raise ConfigError(f"--target {target} goes with --ray: this process alone fills all caches of its stores")
        return "here"
    kinds = [kind for kind in get_args(Target) if kind != "here"]
    if target is not None and target not in kinds:
        raise ConfigError(f"--target {target}: choose one of {', '.join(kinds)}")
    meant: Any = target or "shared"
    found: Target = meant
    return found


@contextlib.contextmanager
def _filler(
    store: DigestComposite, target: Target, ray: str, dry_run: bool, lookups: LookupOptions
) -> Generator[Fill, None, None]:
    limits: dict[str, Any] = {"dry_run": dry_run, "timeout": lookups.timeout, "in_flight": lookups.in_flight}
    if ray == "none":
        yield fill_here(store, **limits)
        return
    with connected(ray, f"--ray {ray}"):
        from ray_integration._pool.pool import NodePool
        from ray_integration._warm.warm import fill_on_ray

        try:
            pool = NodePool(store, private=True)
        except (BitstoreError, TypeError) as error:
            refuse(error)
        with pool:
            yield fill_on_ray(pool, target, **limits)
