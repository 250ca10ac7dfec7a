"""`bitstore locate`: which tiers hold a blob, and where."""

from __future__ import annotations

from typing import Annotated

import typer

from bitstore._cli import lines
from bitstore._cli.options import LookupOptions, Reporting, StoreOptions
from bitstore._cli.terminal import End, refusing, show
from bitstore._support.sizes import rounded_size
from bitstore.location import Location

__all__ = ["locate"]


def locate(
    digests: Annotated[list[str], typer.Argument(metavar="DIGEST...", help="Hashes, plain or as sha1://...")],
    stores: StoreOptions,
    reporting: Reporting,
    paid: Annotated[bool, typer.Option("--paid", help="Ask paid tiers as well, which costs what a lookup costs.")] = (
        False
    ),
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="The most that one tier may take.")
    ] = None,
) -> None:
    """Tell which tiers hold a blob: under which address, with which size, ETag and encoding. No blob is moved.

    Exit code 1: a blob is in no tier that was asked; 2: a tier could not say.
    """
    with refusing():
        LookupOptions(timeout=timeout).check()
        composite = stores.composite_for(digests[0])
        keys = [composite.canonical(digest) for digest in digests]
    code = 0
    for key in keys:
        found = composite.locate(key, paid=paid, timeout=timeout)
        if reporting.json:
            for location in found:
                lines.show_line(_line(key, location))
        else:
            show("\n".join([key, *_table(found)]))
        if any(location.state == "failed" for location in found):
            code = 2
        elif not any(location.held for location in found):
            code = max(code, 1)
    raise End(code)


def _line(digest: str, location: Location) -> lines.Location:
    values = location.as_dict()
    return lines.Location(digest=digest, bytes=values.pop("size"), error=values.pop("why"), **values)


def _table(found: list[Location]) -> list[str]:
    width = max((len(location.tier) for location in found), default=0)
    return [f"  {location.tier.ljust(width)}  {_in_words(location)}" for location in found]


def _in_words(location: Location) -> str:
    if not location.held:
        return f"{location.state}: {location.why}" if location.why else location.state
    facts = [
        "size unknown" if location.size is None else _exact(location.size),
        f"expanded from {location.compression}" if location.compression else "",
        f"Content-Encoding: {location.encoding}" if location.encoding else "",
        f"ETag {location.etag}" if location.etag else "",
        location.url or "",
    ]
    return f"held: {', '.join(filter(None, facts))}"


def _exact(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{rounded_size(size)} ({size:,} bytes)"
