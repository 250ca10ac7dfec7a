"""`bitstore init`: a configuration file, written from URLs or from the answers to a few questions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from bitstore._cli.lines import Config
from bitstore._cli.options import Reporting, one_of
from bitstore._cli.terminal import fail, refuse, refusing, say, show
from bitstore._digests.compression import CODECS
from bitstore._support.atomic import target_of, write_into
from bitstore._support.digests import ALGORITHMS
from bitstore._support.sizes import parse_size
from bitstore.config import ConfigError, loads
from bitstore.config._schema import FILE_NAME as SCHEMA
from bitstore.config._schema import schema_file
from bitstore.config._urls import SCHEMES
from bitstore.config._written import Place, written

__all__ = ["init"]

T = TypeVar("T")

_NAMES = ", ".join(ALGORITHMS)


def init(
    reporting: Reporting,
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL]...",
            help="Prefixes or key templates, in the order in which they are asked, such as s3://bucket/files/; or the "
            "import path of a store's class. Without any, and on a terminal, questions are asked.",
        ),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=one_of(*ALGORITHMS), help=f"Which hashes name the blobs: {_NAMES}."
        ),
    ] = None,
    cache: Annotated[str | None, typer.Option(metavar="DIR", help="A disk cache above the stores.")] = None,
    max_size: Annotated[str | None, typer.Option(metavar="SIZE", help="The most that this cache holds: 50GB.")] = None,
    compression: Annotated[
        str | None,
        typer.Option(
            metavar="CODEC",
            autocompletion=one_of(*CODECS),
            help=f"{', '.join(CODECS)}, for each of the URLs; digests are of expanded bytes.",
        ),
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="For public buckets.")] = False,
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="For s3:// URLs: an AWS profile.")] = None,
    region: Annotated[str | None, typer.Option(metavar="NAME", help="For s3:// URLs: the buckets' region.")] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The service that has the buckets, such as https://host:9000.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The file to write; - for standard output.")
    ] = "bitstore.toml",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help=f"Write {SCHEMA} beside it, by which editors check and complete keys.")
    ] = False,
) -> None:
    """Write a commented bitstore.toml, from URLs or from a few questions."""
    target = None if output == "-" else Path(output)
    given: dict[str, str | bool | None] = {
        "profile": profile,
        "anonymous": anonymous or None,
        "region": region,
        "endpoint_url": endpoint_url,
        "compression": compression,
    }
    keys = {key: value for key, value in given.items() if value is not None}
    with refusing():
        if target is None and reporting.json:
            raise ConfigError("--json needs a file (--output): standard output cannot take its text as well")
        _check_target(target, output, force=force, schema=schema)
        if max_size is not None and cache is None:
            raise ConfigError("--max-size goes with --cache: it is the size of that cache")
        if algorithm is not None and algorithm not in ALGORITHMS:
            raise ConfigError(f"--algorithm {algorithm}: choose one of {_NAMES}")
        places = [_place(url, keys) for url in dict.fromkeys(urls or ())]
        for key in keys:
            if places and not any(key in place.keys for place in places):
                raise ConfigError(f"--{key.replace('_', '-')} goes with none of these URLs")
    asks = sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()
    if not asks:
        if not places:
            refuse(
                "nothing says where the blobs are: give a URL, such as s3://bucket/files/ (only a terminal is asked)"
            )
        if algorithm is None:
            refuse(f"nothing says which hashes name the blobs: give --algorithm, one of {_NAMES}")
    algorithm = algorithm or _asked("Which hashes name the blobs?", "sha1", _algorithm)
    if not places:
        places = _places(algorithm, keys)
        if cache is None:
            cache = _asked("Folder of a disk cache (- for none, nothing for the usual place)", "", _folder)
            if cache is not None:
                max_size = _asked("The most that it may hold", "10GB", _size)
    with refusing():
        text, tiers = _checked(places, algorithm, cache, max_size, target)
    if target is None:
        show(text.rstrip("\n"))
        return
    _write(text, target, force=force, schema=schema)
    if reporting.json:
        reporting.show(Config(file=str(target), algorithm=algorithm, tiers=tiers), "")
    reporting.tell(f"wrote {target}: look at it, then try: bitstore check --config {target}")


def _check_target(target: Path | None, named: str, *, force: bool, schema: bool) -> None:
    if target is None:
        if schema:
            raise ConfigError("--schema writes beside a file: name one with --output")
        if sys.stdout is None:
            raise ConfigError("standard output is closed: name a file (--output)")
    elif target.is_dir() or named.endswith(os.sep) or not named:
        raise ConfigError(f"{named or '--output'!r} is a folder: name a file")
    elif not (folder := target_of(target).parent).is_dir():
        raise ConfigError(f"{target} cannot be written: there is no folder {folder}")
    elif not force:
        for path in (target, target.with_name(SCHEMA)) if schema else (target,):
            if os.path.lexists(path):
                raise ConfigError(f"{path} is there already: name another file (--output), or replace it (--force)")


def _place(url: str, keys: dict[str, str | bool]) -> Place:
    kind = SCHEMES.get(url.partition("://")[0].lower())
    known = () if kind is None else kind.__struct_fields__
    return Place(url, {key: value for key, value in keys.items() if key in known})


def _checked(
    places: list[Place], algorithm: str, cache: str | None, max_size: str | None, target: Path | None
) -> tuple[str, list[str]]:
    """The text of the file, which has been loaded, and the names of its tiers. Raises what loading raises."""
    name = "bitstore.toml" if target is None else str(target)
    if cache and target is not None and target_of(target).parent.resolve() != Path.cwd():
        cache = str(Path(cache).absolute())  # a relative path would begin at the file
    text = written(places, algorithm=algorithm, cache=cache, max_size=max_size, name=name)
    composite = loads(text, name=name)
    for place, store in zip(places, composite.sources[0 if cache is None else 1 :], strict=True):
        meant = getattr(store, "prefix", None)
        if place.scheme != "python" and meant != place.url.removeprefix("lfs+"):
            raise ConfigError(f"{place.url} cannot be written to a file: there it would mean {meant}")
    return text, [tier.name for tier in composite.tiers]


def _write(text: str, target: Path, *, force: bool, schema: bool) -> None:
    if schema:
        text = f"#:schema ./{SCHEMA}\n{text}"
    try:
        if schema:
            _put(target.with_name(SCHEMA), schema_file().read_bytes(), force)
        _put(target, text.encode(), force)
    except OSError as error:
        fail(3, f"cannot write {error.filename or target}: {error.strerror or error}")


def _put(path: Path, data: bytes, force: bool) -> None:
    if force:
        write_into(path, data)
        return
    with path.open("xb") as file:  # also where another process has just written it
        file.write(data)


def _places(algorithm: str, keys: dict[str, str | bool]) -> list[Place]:
    """The stores that the questions name."""
    places: list[Place] = []

    def url(answer: str) -> Place | None:
        if not answer:
            if not places:
                raise ConfigError("at least one is needed")
            return None
        place = _place(answer, keys)
        _checked([place], algorithm, None, None, None)
        return place

    say("Where are the blobs? A prefix with its last slash (s3://bucket/files/), or a template with {digest}.")
    say("The first that is named is asked first.")
    while (place := _asked(f"URL {len(places) + 1}" + (" (nothing: no more)" if places else ""), "", url)) is not None:
        if place.scheme == "s3" and not place.keys.keys() & {"profile", "anonymous"}:
            answer = _asked("  Profile of the AWS configuration (nothing: what is there; - for anonymous)", "", str)
            if answer:
                more: dict[str, str | bool] = {"anonymous": True} if answer == "-" else {"profile": answer}
                place = Place(place.url, {**more, **place.keys})
        places.append(place)
    return places


def _asked(question: str, default: str, read: Callable[[str], T]) -> T:
    """The answer to a question, asked until it makes sense."""
    while True:
        answer: str = typer.prompt(question, default=default, show_default=bool(default), err=True)
        try:
            return read(answer.strip())
        except (ValueError, TypeError, OSError) as error:
            say(f"  {error}")


def _algorithm(answer: str) -> str:
    if answer not in ALGORITHMS:
        raise ConfigError(f"choose one of {_NAMES}")
    return answer


def _folder(answer: str) -> str | None:
    return None if answer == "-" else answer


def _size(answer: str) -> str:
    parse_size(answer, name="size")
    return answer
