"""`bitstore cache`: look after the folder of a disk cache. Jobs that use it need not stop meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitstore._caches.disk import DiskCache
from bitstore._cli import lines
from bitstore._cli.groups import as_command
from bitstore._cli.reporting import Reporting
from bitstore._cli.terminal import End, epilog, fail, refuse, refusing
from bitstore._support.sizes import parse_size, rounded_size
from bitstore.errors import BitstoreError

__all__ = ["app"]

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="Look after the folder of a disk cache."
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The cache folder.")]


def _open(folder: Path) -> DiskCache:
    # The ledger tells a cache from a folder of the user's own that happens to look like one.
    with refusing():
        if not (folder / "ledger").is_dir():
            refuse(f"{folder} is no cache folder: it has no ledger")
        return DiskCache(folder)


@app.command(epilog=epilog("bitstore cache stats ~/.cache/bitstore"))
@as_command
def stats(folder: Folder, reporting: Reporting) -> None:
    """Show how many bytes the cache holds, without looking at its files."""
    held = _open(folder).stats()["bytes"]
    text = "unknown: not counted yet (prune does)" if held is None else f"{rounded_size(held)} ({held:,} bytes)"
    reporting.show(lines.Cache(folder=str(folder), bytes=held), text)


@app.command(epilog=epilog("bitstore cache verify /data/cache", "bitstore cache verify /data/cache --json"))
@as_command
def verify(folder: Folder, reporting: Reporting) -> None:
    """Check the bytes of every file; damaged ones are put aside, and fetched again at their next lookup."""
    try:
        checked, damaged, held = _open(folder).verify_all()
    except BitstoreError as error:
        fail(2, error)
    reporting.show(
        lines.CacheCheck(folder=str(folder), files=checked, damaged=damaged, bytes=held),
        f"{checked:,} files checked: {checked - damaged:,} are right ({rounded_size(held)}), {damaged:,} were damaged",
    )
    raise End(1 if damaged else 0)


@app.command(epilog=epilog("bitstore cache prune /data/cache --max-size 50GB"))
@as_command
def prune(
    folder: Folder,
    reporting: Reporting,
    max_size: Annotated[str, typer.Option(metavar="SIZE", help="Evict down to this, such as 50GB.")],
) -> None:
    """Delete what was not used for longest, and what killed processes left, until the cache has the size given."""
    with refusing():
        most = parse_size(max_size, name="--max-size")
    try:
        held = _open(folder).prune(most)
    except BitstoreError as error:
        fail(2, error)
    reporting.show(lines.Cache(folder=str(folder), bytes=held), f"{rounded_size(held)} left ({held:,} bytes)")


@app.command(epilog=epilog("bitstore cache clear /data/cache --yes"))
@as_command
def clear(
    folder: Folder,
    reporting: Reporting,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: all blobs of the cache are deleted.")] = False,
) -> None:
    """Delete all blobs of the cache."""
    cache = _open(folder)
    if not yes:
        refuse(f"all blobs in {folder} would be deleted: say --yes if they shall be")
    try:
        cache.clear()
    except BitstoreError as error:
        fail(2, error)
    if reporting.json:
        reporting.show(lines.Cache(folder=str(folder), bytes=cache.stats()["bytes"]), "")
