"""Options that several commands have, each written once, and what they choose: stores and a list."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bitstore._cli.reporting import Reporting
from bitstore._digests.composite import DigestComposite
from bitstore._digests.compression import CODECS
from bitstore._digests.hash_list import HashList, ListError
from bitstore._support.checks import check_seconds
from bitstore._support.digests import ALGORITHMS
from bitstore._support.redact import redact_url
from bitstore._transport.native.choice import demanded
from bitstore.config import ConfigError, from_urls, load
from bitstore.config._urls import SCHEMES

__all__ = ["LIST", "ListOptions", "LookupOptions", "Reporting", "StoreOptions", "one_of"]

LIST = (
    "A list: one hash a line or what sha1sum, md5 and openssl print (# is a comment), CSV with a header, JSON lines "
    "(also compressed: gzip, zstd, xz, bzip2), a Parquet file; or - for standard input."
)


def one_of(*values: str) -> Callable[[str], list[str]]:
    """What completes an option that takes one of `values`."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Which stores are asked: those of a configuration file, or those that the options name."""

    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The tiers (default: $BITSTORE_CONFIG, ./bitstore.toml, or that of your user folder)."
        ),
    ] = None
    store: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Instead of a file: a prefix or key template; may be repeated."),
    ] = None
    cache: Annotated[str | None, typer.Option(metavar="DIR", help="With --store: a disk cache above the stores.")] = (
        None
    )
    compression: Annotated[
        str | None,
        typer.Option(
            metavar="CODEC",
            autocompletion=one_of(*CODECS),
            help=f"With --store: {', '.join(CODECS)}; digests are of expanded bytes.",
        ),
    ] = None
    anonymous: Annotated[bool, typer.Option("--anonymous", help="With --store: for public buckets.")] = False
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="With --store s3://...: an AWS profile.")] = None
    region: Annotated[str | None, typer.Option(metavar="NAME", help="With --store s3://...: the buckets' region.")] = (
        None
    )
    endpoint_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --store: the service that has the buckets, such as https://host:9000."),
    ] = None

    def composite(self, algorithm: str | None) -> DigestComposite:
        """The composite.

        Parameters
        ----------
        algorithm
            The algorithm of the digests, for stores that options name; a configuration file says its own.

        Raises
        ------
        ConfigError
            The options do not go together, or name what cannot be; or so does the environment.
        """
        try:
            demanded()
        except ImportError as error:
            raise ConfigError(str(error)) from error
        options = {key: value for key in _WITH_URLS if (value := getattr(self, key)) not in (None, False)}
        for key, value in options.items():
            if value == "":
                raise ConfigError(f"{_flag(key)} is empty: give it a value, or leave it out")
            if not self.store:
                raise ConfigError(f"{_flag(key)} goes with --store; a configuration file describes all of its tiers")
        if not self.store:
            return load(self.config)
        if self.config is not None:
            raise ConfigError("--config and --store exclude each other: leave one out")
        if algorithm is None:
            raise ConfigError("nothing says by which hashes the blobs are named")
        self._check_schemes(options)
        return from_urls(list(self.store), algorithm=algorithm, **options)

    def composite_for(self, digest: str) -> DigestComposite:
        """The composite that is asked for `digest`, which tells the algorithm where options name the stores."""
        guessed = next((name for name, kind in ALGORITHMS.items() if kind.parse(digest) is not None), None)
        if self.store and guessed is None:
            raise ConfigError(f"{digest!r} is no digest of {', '.join(ALGORITHMS)}")
        return self.composite(guessed)

    def arguments(self) -> list[str]:
        """The options, as another command can be given them."""
        words = ["--config", str(self.config)] if self.config else []
        for url in self.store or ():
            words += ["--store", url]
        for key in _WITH_URLS:
            if value := getattr(self, key):
                words += [_flag(key)] if value is True else [_flag(key), str(value)]
        return words

    def advice(self, digest: str) -> str:
        """The command that says what is wrong with these stores, where the lookup of `digest` has failed."""
        words = ["bitstore", "check", *self.arguments(), "--digest", digest]
        return f"what to do about it: {redact_url(shlex.join(words))}"

    def _check_schemes(self, options: dict[str, Any]) -> None:
        """Raise ConfigError for an option that is for none of the URLs, or that two services would share."""
        named = {url.partition("://")[0].lower(): redact_url(url) for url in self.store or ()}
        for key in options:
            takers = [scheme for scheme, kind in SCHEMES.items() if key in kind.__struct_fields__]
            used = [scheme for scheme in takers if scheme in named]
            if takers and not used and named.keys() <= SCHEMES.keys():
                kinds = " and ".join(f"{scheme}://" for scheme in takers)
                raise ConfigError(
                    f"{_flag(key)} is for {kinds} URLs, and --store names none: {', '.join(named.values())}"
                )
            if key == "endpoint_url" and len(used) > 1:
                raise ConfigError(
                    f"--endpoint-url is the address of one service, and --store names {' and '.join(used)} buckets: "
                    "write a configuration file, in which each tier has its own"
                )


_WITH_URLS = ("cache", "compression", "anonymous", "profile", "region", "endpoint_url")


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How a list is read."""

    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Column (or key) of a table that holds the hashes (default: sha1, digest, ...)."
        ),
    ] = None
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=one_of(*ALGORITHMS),
            help=f"With --store: {', '.join(ALGORITHMS)} (default: what the list holds).",
        ),
    ] = None

    def open(
        self,
        source: str,
        stores: StoreOptions,
        *,
        failures: bool = False,
        read: Callable[..., HashList] | None = None,
    ) -> tuple[HashList, DigestComposite]:
        """The list at `source`, and the stores that are asked for its digests.

        Parameters
        ----------
        source
            The list.
        stores
            Which stores.
        failures
            The list is a `failed.tsv`.
        read
            Opens the list by its `column` and `algorithm`; None: all of it is read.

        Raises
        ------
        ConfigError
            The stores cannot be, or `algorithm` is given beside a configuration file.
        ListError
            The list cannot be read, is no list, or is of other digests than the stores are asked for.
        """
        if self.algorithm is not None and not stores.store:
            raise ConfigError("--algorithm goes with --store; a configuration file says its own")
        if source == "-" and sys.stdin is None:
            raise ListError("standard input is closed: name a file that holds the list")
        composite = None if stores.store else stores.composite(None)
        entries = (read or partial(HashList, source, failures=failures))(
            column=self.column, algorithm=self.algorithm if composite is None else composite.algorithm
        )
        return entries, composite or stores.composite(entries.algorithm.name)


@dataclass(frozen=True, kw_only=True)
class LookupOptions:
    """The limits of lookups."""

    in_flight: Annotated[int | None, typer.Option(metavar="N", min=1, help="The most lookups at once.")] = None
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="The most that one lookup may take.")
    ] = None
    max_failures: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Stop after N failures of one cause in a row; 0: never."),
    ] = 100

    def check(self) -> None:
        """Raise ValueError for a number that cannot be."""
        if self.timeout is not None:
            check_seconds("--timeout", self.timeout)
