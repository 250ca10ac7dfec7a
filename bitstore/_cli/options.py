"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitstore._digests.compression import CODECS

__all__ = ["Anonymous", "Cache", "Compression", "Config", "Timeout", "URLs"]

Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The tiers (default: $BITSTORE_CONFIG, ./bitstore.toml, or that of your user folder)."
    ),
]
URLs = Annotated[
    list[str] | None,
    typer.Option("--store", metavar="URL", help="Instead of a file: a prefix or key template; may be repeated."),
]
Cache = Annotated[str | None, typer.Option(metavar="DIR", help="With --store: a disk cache above the stores.")]
Compression = Annotated[
    str | None,
    typer.Option(metavar="CODEC", help=f"With --store: {', '.join(CODECS)}; digests are of expanded bytes."),
]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="With --store: for public buckets.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", min=0.001, help="The most that one lookup may take.")]
