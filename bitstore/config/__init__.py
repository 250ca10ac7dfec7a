"""Composites from a file: `bitstore.toml` names the tiers in the order in which they are asked.

A file holds no secrets: credentials come from profiles and the environment, and HTTP headers may name
environment variables (`"Bearer ${API_TOKEN}"`).
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from pathlib import Path
from typing import Any

from bitstore._digests.composite import DigestComposite
from bitstore._digests.named import FAMILIES
from bitstore._support.digests import ALGORITHMS
from bitstore._support.redact import redact_url
from bitstore.config._expand import expand_path
from bitstore.config._file import File
from bitstore.config._misses import remembering
from bitstore.config._money import budget_of
from bitstore.config._order import learned_order
from bitstore.config._tables import convert, tier
from bitstore.config._tier import Context, ReadTier, Tier
from bitstore.config._urls import SCHEMES
from bitstore.errors import BitstoreError
from bitstore.observe import otel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ConfigError", "find", "from_urls", "load", "loads"]

logger = logging.getLogger("bitstore")

FILE_NAME = "bitstore.toml"
VARIABLE = "BITSTORE_CONFIG"


class ConfigError(BitstoreError, ValueError):
    """A configuration says something that cannot be; the text names the tier, the key and what would be right."""


def load(path: str | os.PathLike[str] | None = None) -> DigestComposite:
    """The composite that a configuration file describes.

    Parameters
    ----------
    path
        The file; None: what `BITSTORE_CONFIG` names, else `bitstore.toml` in the current folder, else
        `bitstore.toml` in the user's configuration folder (platformdirs).

    Raises
    ------
    ConfigError
        There is no such file, or it says something that cannot be.
    """
    try:
        found = find() if path is None else Path(path).expanduser()
        folder = found.absolute().parent
    except ConfigError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"cannot find the configuration: {error}") from error
    try:
        text = found.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration {found}: {reason or error}") from error
    logger.info("the configuration is %s", found)
    return _composite(_parse(text, str(found)), str(found), folder)


def loads(text: str, *, name: str = "configuration") -> DigestComposite:
    """The composite that `text` (TOML) describes; its relative paths begin in the current folder.

    Parameters
    ----------
    text
        The content of a configuration file.
    name
        What error messages call it.

    Raises
    ------
    ConfigError
        It says something that cannot be.
    """
    return _composite(_parse(text, name), name, _current_folder())


def from_urls(urls: list[str], *, algorithm: str, cache: str | None = None, **options: Any) -> DigestComposite:
    """A composite of stores at `urls`, in that order, each a tier of its own name.

    Parameters
    ----------
    urls
        URL prefixes or key templates.
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`.
    cache
        Folder of a disk cache above all of them; None: no cache.
    **options
        Keys as in a configuration file: each tier gets those that stores of its scheme have.

    Raises
    ------
    ConfigError
        A URL or an option says something that cannot be.
    """
    tiers: list[dict[str, Any]] = []
    known = {
        url: SCHEMES[scheme].__struct_fields__ for url in urls if (scheme := url.partition("://")[0].lower()) in SCHEMES
    }
    taken = {key for keys in known.values() for key in keys}
    for url in dict.fromkeys(urls):
        name = redact_url(url)  # it goes into statistics and errors
        same = sum(tier["url"] != url and redact_url(tier["url"]) == name for tier in tiers)
        # A key that no tier has stays, so that an error names it.
        own = {key: value for key, value in options.items() if key not in taken or key in known.get(url, ())}
        tiers.append({"name": f"{name} #{same + 1}" if same else name, "url": url, **own})
    if cache is not None:
        tiers.insert(0, {"name": "disk cache", "cache": "disk", "path": cache})
    return _composite({"algorithm": algorithm, "tier": tiers}, "command line", _current_folder(), from_file=False)


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(f"the current folder cannot be found: {error.strerror}") from error


def find() -> Path:
    """The file that `load` reads where it is given none. Raises ValueError where there is none (`ConfigError`)."""
    import platformdirs

    if named := os.environ.get(VARIABLE):
        return expand_path(named, VARIABLE)
    places = [Path(FILE_NAME), platformdirs.user_config_path("bitstore") / FILE_NAME]
    for place in places:
        if os.path.lexists(place):  # also a link to nowhere: an error says so when it is read
            return place
    raise ConfigError(
        f"no configuration found: there is neither ./{FILE_NAME} nor {places[1]}, and {VARIABLE} names no other file; "
        "`bitstore init` writes one, and --store URL does without"
    )


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{name} is not TOML that can be read: it is nested too deeply") from None


def _composite(content: dict[str, Any], name: str, folder: Path, *, from_file: bool = True) -> DigestComposite:
    others = ", ".join(name for name in ALGORITHMS if name != "sha1")
    for key, example in (
        ("algorithm", f'algorithm = "sha1" (or {others})'),
        ("tier", "a [[tier]] table for each store"),
    ):
        if key not in content:
            close = difflib.get_close_matches(key, content, n=1)
            instead = f" (there is {close[0]!r})" if close else ""
            raise ConfigError(f"{name}: {key!r} is missing{instead}: write {example}")
    if isinstance(content["tier"], dict):
        raise ConfigError(f"{name}: [tier] is a single table: write [[tier]], in double brackets, above each store")
    try:
        file: File = convert(content, File)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    if file.algorithm not in ALGORITHMS:
        raise ConfigError(f"{name}: algorithm = {file.algorithm!r}: choose one of {', '.join(ALGORITHMS)}")
    if not file.tier:
        raise ConfigError(f"{name}: it has no tier: write a [[tier]] table for each store")
    try:
        composite = FAMILIES[file.algorithm].composite(**file.options())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: {error}") from error
    composite.configured_in = name
    context = Context(file.algorithm, folder, from_file)
    taken: set[str] = set()
    for number, table in enumerate(file.tier, start=1):
        called = table.get("name")
        if not isinstance(called, str) or not called.strip() or not called.isprintable():
            raise ConfigError(
                f"{name}: tier {number} has no name that can be shown: write name = '...', as statistics will call it"
            )
        if called in taken:
            raise ConfigError(f"{name}: two tiers are called {called!r}: statistics could not tell them apart")
        taken.add(called)
        try:
            _append(composite, tier(table), context)
        except (ValueError, TypeError, OSError, BitstoreError) as error:  # what stores raise for options they refuse
            raise ConfigError(f"{name}: tier {called!r}: {redact_url(str(error))}") from error
    if file.budget is not None:
        try:
            composite.budget = budget_of(file.budget, context)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{name}: budget: {error}") from error
    try:
        composite.order = learned_order(file.order, context) or "written"
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: order: {error}") from error
    if file.otel:
        try:
            otel(composite)  # at the end, because its metrics tell what store it is
        except ModuleNotFoundError as error:
            raise ConfigError(f"{name}: otel: {error}") from error
    return composite


def _append(composite: DigestComposite, item: Tier, context: Context) -> None:
    options = item.append_options()
    store = item.store(context)
    if isinstance(item, ReadTier):
        store = remembering(store, item, context)
    if item.is_cache:
        composite.append_cache(store, name=item.name, **options)
    else:
        composite.append_source(store, name=item.name, **options)
