"""`bitstore get`: one blob to a file or to standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bitstore._cli.lines import Blob
from bitstore._cli.options import LookupOptions, Reporting, StoreOptions
from bitstore._cli.outputs import OutputError
from bitstore._cli.spending import BudgetOptions
from bitstore._cli.terminal import End, fail, no_reader, refusing, show_bytes
from bitstore._support.atomic import is_special, target_of, write_into
from bitstore.errors import BitstoreError, NotFoundInStore, StoreNotAvailable, reason_of

__all__ = ["get"]


def get(
    digest: Annotated[str, typer.Argument(help="The hash of the blob, plain or as sha1://...")],
    stores: StoreOptions,
    spending: BudgetOptions,
    reporting: Reporting,
    output_file: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; default: standard output.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="The most that the lookup may take.")
    ] = None,
) -> None:
    """Write the bytes of one blob to a file, or to standard output."""
    target = None if output_file in (None, "-") else Path(output_file or "")
    with refusing():
        LookupOptions(timeout=timeout).check()
        composite = stores.composite_for(digest)
        composite.canonical(digest)
        spending.give(composite)
        _check_file(target, output_file or "")
        if target is None and reporting.json:
            raise OutputError("--json writes to standard output, as the blob would be: name a file (--output)")
    try:
        data = composite.get(digest, timeout=timeout)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"a store returned {type(data).__name__}, not bytes")
        if target is not None:
            write_into(target, bytes(data))
            if reporting.json:
                reporting.show(Blob(digest=composite.canonical(digest), file=str(target), bytes=len(data)), "")
        else:
            show_bytes(data)
    except NotFoundInStore as error:
        known = {each.tier for each in error.evidence if each.how != "asked"}
        asked = ", ".join(name for name in composite.stats() if name not in known)
        told = [f"asked: {asked}"] if asked else []
        fail(1, f"{digest} is missing ({'; '.join([*told, *([error.why] if error.why else [])])})")
    except StoreNotAvailable as error:
        fail(2, f"could not look up {digest}: {reason_of(error)}", advice=stores.advice(digest))
    except (BitstoreError, TypeError) as error:
        fail(2, error)
    except OSError as error:  # after the errors of the library, of which some are OSErrors too
        if target is not None:
            fail(2, f"cannot write the blob to {target}: {error.strerror or error}")
        if isinstance(error, BrokenPipeError):
            raise End(no_reader()) from error
        raise End(no_reader(f"cannot write the blob to standard output: {error.strerror or error}")) from error


def _check_file(path: Path | None, named: str) -> None:
    if path is None:
        if sys.stdout is None:
            raise OutputError("standard output is closed: name a file (--output)")
    elif path.is_dir() or named.endswith(os.sep):
        raise OutputError(f"{named} is a folder: name a file")
    elif not is_special(path) and not (parent := target_of(path).parent).is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {parent}")
