"""`bitstore version` and `bitstore demo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import bitstore
from bitstore._cli.lines import Version, show_line
from bitstore._cli.reporting import Reporting
from bitstore._cli.terminal import End, show
from bitstore._transport.native.choice import choice

__all__ = ["demo", "version"]


def version(reporting: Reporting) -> None:
    """Show the version, and whether the native transport is used."""
    python = ".".join(map(str, sys.version_info[:3]))
    native = choice()
    line = Version(version=bitstore.__version__, python=python, native_transport=native.as_dict())
    reporting.show(line, f"{bitstore.__version__}\n{native}")


def demo(
    reporting: Reporting,
    blobs: Annotated[int, typer.Option(metavar="N", min=100, help="How many blobs to make.")] = 3000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder of the demo, and say where it is.")] = False,
    ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Also on a local Ray.")] = True,
) -> None:
    """See it work: three stores, a cache, a paid API and Ray.

    Makes blobs, spreads them over three stores behind a disk cache and a counted pretend-API, fetches them here and on
    a local Ray, and checks what it claims.
    """
    from bitstore._cli.demo import demo as run_demo

    if reporting.json:
        holds = run_demo(blobs=blobs, keep=keep, ray=ray, say=reporting.note, put=show_line)
    else:
        holds = run_demo(blobs=blobs, keep=keep, ray=ray, say=show)
    raise End(0 if holds else 2)
