"""`bitstore warm`: fill caches before a job, from this process or on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from bitstore._cli.ending import End, refuse
from bitstore._cli.interrupts import Interrupts
from bitstore._cli.options import Anonymous, Cache, Compression, Config, Timeout, URLs
from bitstore._cli.progress import Once
from bitstore._cli.stores import Stores
from bitstore._digests.hash_list import HashList, ListError
from bitstore._digests.stores import DigestComposite
from bitstore._support.digests import ALGORITHMS
from bitstore._warming.here import fill_here
from bitstore._warming.parts import Target, check_target
from bitstore._warming.run import Fill, Warming
from bitstore.config import ConfigError
from bitstore.errors import BitstoreError

__all__ = ["warm_command"]


def warm_command(
    hashes: Annotated[
        str,
        typer.Argument(
            help="A text file (one hash a line or what sha1sum prints, # begins a comment, also gzip-compressed), a "
            "Parquet file, or - for standard input."
        ),
    ],
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of a Parquet list (default: sha1, digest, hash, ...).")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Note in this folder, as Parquet, what became of each digest; go on from what it says."
        ),
    ] = None,
    retry_missing: Annotated[
        bool, typer.Option("--retry-missing", help="Ask again for what the ledger knows as missing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what is warm and what would be fetched from where.")
    ] = False,
    ray: Annotated[
        str, typer.Option(metavar="none|local|ADDRESS", help="The cluster on which to do it; none: this process.")
    ] = "none",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="shared|owner|local",
            help="With --ray: the shared caches, the nodes' disks together, or the disk of every node.",
        ),
    ] = None,
    config: Config = None,
    store: URLs = None,
    cache: Cache = None,
    compression: Compression = None,
    anonymous: Anonymous = False,
    algorithm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"With --store: {', '.join(ALGORITHMS)} (default: what the list holds)."),
    ] = None,
    in_flight: Annotated[int | None, typer.Option(metavar="N", min=1, help="The most lookups at once.")] = None,
    timeout: Timeout = None,
) -> None:
    """Fill the caches with the blobs of a list, each once, so that a later job finds them there.

    Digests that are missing or fail are counted, and with --ledger told one by one; a broken run goes on from its
    ledger.
    """
    try:
        if algorithm is not None and not store:
            raise ConfigError("--algorithm goes with --store; a configuration file says its own")
        meant = _target(ray, target)
        chosen = Stores(config, tuple(store or ()), cache, compression, anonymous)
        composite = None if store else chosen.composite(None)
        entries = HashList(hashes, column=column, algorithm=algorithm if composite is None else composite.algorithm)
        if composite is None:
            composite = chosen.composite(entries.algorithm.name)
        check_target(composite, meant)
        # It reads a store's pickled form and needs no Ray.
        from bitstore._support.fingerprint import fingerprint

        warming = Warming(
            algorithm=entries.algorithm,
            target=meant,
            store_id=fingerprint(composite),
            ledger=ledger,
            retry_missing=retry_missing,
            dry_run=dry_run,
            say=lambda line: typer.echo(line, err=True),
        )
    except (BitstoreError, TypeError, ValueError) as error:
        refuse(error)
    interrupted: int | None = None
    with Interrupts() as interrupts, _warnings(warming):
        try:
            with _filler(composite, meant, ray, dry_run=dry_run, timeout=timeout, in_flight=in_flight) as fill:
                warming.run(entries, fill)
        except KeyboardInterrupt:
            interrupted = interrupts.signal or signal.SIGINT
        except ListError as error:  # the list breaks off: all of it is read before anything is asked
            refuse(error)
        interrupts.ignore()
    typer.echo(str(warming.report), err=True)
    raise End(warming.report.exit_code if interrupted is None else 128 + interrupted)


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
    store: DigestComposite, target: Target, ray: str, *, dry_run: bool, timeout: float | None, in_flight: int | None
) -> Generator[Fill, None, None]:
    if ray == "none":
        yield fill_here(store, dry_run=dry_run, timeout=timeout, in_flight=in_flight)
        return
    try:
        import ray as cluster

        from ray_integration._pool.pool import NodePool
        from ray_integration._warm.warm import fill_on_ray
    except ImportError as error:
        refuse(f"--ray {ray}: {error}; pip install 'epic-bitstore[ray]'")
    try:
        cluster.init(address=ray, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # whatever Ray finds wrong with the address
        refuse(f"--ray {ray}: {error}")
    try:
        try:
            pool = NodePool(store, private=True)
        except (BitstoreError, TypeError) as error:
            refuse(error)
        with pool:
            yield fill_on_ray(pool, target, dry_run=dry_run, timeout=timeout, in_flight=in_flight)
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def _warnings(warming: Warming) -> Generator[None, None, None]:
    handler = Once(warming.progress.say)
    logger = logging.getLogger("bitstore")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
