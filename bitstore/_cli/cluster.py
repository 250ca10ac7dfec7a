"""`bitstore cluster`: the pools of a Ray cluster, and their end."""

from __future__ import annotations

import datetime
import platform
import sys
from typing import TYPE_CHECKING, Annotated

import typer

import bitstore
from bitstore._cli import lines
from bitstore._cli.options import Reporting
from bitstore._cli.ray_address import connected
from bitstore._cli.terminal import End, refuse, refusing, say
from bitstore._support.spans import format_span, parse_span
from bitstore.outline import printable

if TYPE_CHECKING:
    from ray_integration._pool.found import FoundPool

__all__ = ["cluster"]


def cluster(
    reporting: Reporting,
    address: Annotated[
        str,
        typer.Argument(help="The head, as in HOST:6379; auto: $RAY_ADDRESS, or the cluster of this machine."),
    ] = "auto",
    end: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="End this shared pool, or the one whose name so begins; may be repeated."),
    ] = None,
    end_unused: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="End the shared pools that no call has used for so long, such as '2 days'."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which pools would be ended.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="End them without a question.")] = False,
) -> None:
    """Show the pools of a Ray cluster: nodes, versions, caches, memory and ages; end those that nothing uses.

    What nodes have on their disks stays when a pool ends. Run it on a node of the cluster.
    """
    with refusing():
        span = None if end_unused is None else parse_span(end_unused, name="--end-unused")
    if (dry_run or yes) and not end and span is None:
        refuse(f"{'--dry-run' if dry_run else '--yes'} goes with --end or --end-unused")
    if address in ("local", "none"):
        refuse(f"{address} is no cluster that could be shown: give the head's address, as in HOST:6379, or auto")
    with connected(address, f"cluster {address}"):
        import ray

        from ray_integration._cluster import alive_nodes
        from ray_integration._pool.census import found_pools

        pools = found_pools()
        if end or span is not None:
            _end(_chosen(pools, end or [], span), span, reporting, dry_run=dry_run, yes=yes)
        nodes = alive_nodes()
        reporting.show(
            lines.Cluster(
                address=ray.get_runtime_context().gcs_address,
                nodes=sorted(nodes.values()),
                ray=ray.__version__,
                python=platform.python_version(),
                version=bitstore.__version__,
            ),
            f"cluster {ray.get_runtime_context().gcs_address}: {', '.join(sorted(nodes.values()))}\n"
            f"Ray {ray.__version__}, Python {platform.python_version()}, bitstore {bitstore.__version__} here",
        )
        for pool in pools:
            reporting.show(_line(pool), str(pool))
        if not pools:
            reporting.note("no pool is there")
    raise End(2 if any(pool.unanswered for pool in pools) else 0)


def _chosen(pools: list[FoundPool], named: list[str], span: float | None) -> list[FoundPool]:
    chosen: dict[str, FoundPool] = {}
    for name in named:
        begins = name if name.startswith("bitstore-") else f"bitstore-{name}"
        found = [pool for pool in pools if pool.name == name] or [
            pool for pool in pools if name and pool.name.startswith(begins)
        ]
        if len(found) != 1:
            there = ", ".join(pool.name for pool in found or pools) or "none"
            refuse(
                f"--end {name}: {'several pools begin so' if found else 'there is no such pool'} (there is: {there})"
            )
        if found[0].private:
            refuse(f"--end {name}: {found[0].name} is a private pool, which ends with its job")
        chosen[found[0].name] = found[0]
    for pool in pools:
        if span is None or pool.private:
            continue
        if pool.unused is None:  # it may be in use where it does not answer
            say(f"{pool.name} stays: not all of its node stores answer, so that nothing says how long it was unused")
        elif pool.unused >= span:
            chosen[pool.name] = pool
    return list(chosen.values())


def _end(chosen: list[FoundPool], span: float | None, reporting: Reporting, *, dry_run: bool, yes: bool) -> None:
    from ray_integration._pool.census import end_pools

    if not chosen:
        reporting.note(f"no shared pool has been unused for {format_span(span or 0.0)}")
        raise End(0)
    if dry_run:
        for pool in chosen:
            reporting.show(lines.PoolEnd(name=pool.name, ended=False, reason=None), f"would end {pool.summary()}")
        raise End(0)
    if not yes:
        told = printable("; ".join(pool.summary() for pool in chosen))
        if sys.stdin is None or not sys.stdin.isatty():
            refuse(f"{told} would end, for all jobs that use it: say --yes if that is right")
        if not typer.confirm(f"End {told}, for all jobs that use it?", err=True):
            raise End(0)
    failed = False
    for name, reason in end_pools(chosen).items():
        failed = failed or reason is not None
        reporting.show(
            lines.PoolEnd(name=name, ended=reason is None, reason=reason),
            f"{name} has ended" if reason is None else f"{name} has not ended: {reason}",
        )
    raise End(2 if failed else 0)


def _line(pool: FoundPool) -> lines.Pool:
    started = None
    if pool.started is not None:
        began = datetime.datetime.fromtimestamp(pool.started, datetime.timezone.utc)
        started = began.isoformat(timespec="seconds")
    return lines.Pool(
        name=pool.name,
        private=pool.private,
        version=pool.version,
        store=pool.store,
        code=pool.code,
        started=started,
        age=pool.age,
        unused=pool.unused,
        under_way=pool.under_way,
        memory=pool.memory,
        stale=list(pool.stale),
        nodes=[dict(node) for node in pool.nodes],
        unanswered=list(pool.unanswered),
    )
