"""A configuration file as text with comments, for `bitstore init`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bitstore._support.redact import redact_url
from bitstore._support.sizes import parse_size

__all__ = ["Place", "quoted", "written"]

_IMPORTABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*").fullmatch
_HEAD = """\
# Where blobs are, in the order in which they are asked. Use it with
#     bitstore fetch hashes.txt -o blobs
# or  import bitstore; store = bitstore.config.load({name})
# No secrets belong here: credentials come from profiles and the environment. All keys: docs/configuration.md.
"""
_CACHE = """\
# A cache keeps what the tiers below it return.
[[tier]]
name = "disk cache"
cache = "disk" # or "memory"
"""
# What a tier of each scheme may say besides: a key, its value, and a comment.
_HINTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "s3": (
        ("profile", '"name"', "of the AWS configuration; else whatever credentials there are"),
        ("anonymous", "true", "for a public bucket"),
        ("endpoint_url", '"https://s3.example.org"', "of a service other than Amazon's"),
    ),
    "gs": (
        ("key_file", '"~/key.json"', "of a service account; else whatever credentials there are"),
        ("anonymous", "true", "for a public bucket"),
    ),
    "http": (("headers", '{ Authorization = "Bearer ${TOKEN}" }', "${TOKEN}: an environment variable"),),
    "file": (),
    "python": (
        ("options", '{ token = "${TOKEN}" }', "arguments of the class"),
        ("limit", '{ name = "our account", per_minute = 60 }', "of an API source"),
    ),
}
_EVERY = (
    ("compression", '"gzip"', 'or "zlib", "zstd": how the stored bytes are compressed'),
    ("cache", "true", "what the tiers below it return is kept here"),
)


@dataclass(frozen=True)
class Place:
    """A tier to be written: a URL (prefix or key template), or the import path of a store's class.

    Raises ValueError where the URL is empty or holds a secret.
    """

    url: str
    # Values of further keys: texts, or true.
    keys: dict[str, str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.url.strip():
            raise ValueError("a URL is empty: give one such as s3://bucket/files/")
        if redact_url(self.url) != self.url:
            raise ValueError(f"{redact_url(self.url)}: no secret belongs into the file, and this URL has one")

    @property
    def scheme(self) -> str:
        """`"s3"`, `"gs"`, `"http"` (also of Git LFS), `"file"`, or `"python"` for an import path."""
        if "://" not in self.url and _IMPORTABLE(self.url):
            return "python"
        scheme = self.url.partition("://")[0].lower().removeprefix("lfs+")
        return "http" if scheme == "https" else scheme

    def lines(self, name: str) -> Iterable[str]:
        """The lines of its table. What it does not say stands there as a comment."""
        yield "[[tier]]"
        yield f"name = {quoted(name)}"
        if self.scheme == "python":
            yield f"python = {quoted(self.url)}"
        else:
            # In the path of a web server a dollar sign has no other meaning.
            yield f"url = {quoted(self.url if self.scheme == 'http' else self.url.replace('$', '$$'))}"
        for key, value in self.keys.items():
            yield f"{key} = {quoted(value) if isinstance(value, str) else 'true'}"
        for key, value, comment in (*_HINTS.get(self.scheme, ()), *(() if self.scheme == "python" else _EVERY)):
            if key not in self.keys and not (key in ("profile", "key_file", "anonymous") and self._has_identity):
                yield f"# {key} = {value} # {comment}"

    @property
    def _has_identity(self) -> bool:
        return bool(self.keys.keys() & {"profile", "key_file", "anonymous"})


def written(
    places: Sequence[Place], *, algorithm: str, cache: str | None = None, max_size: str | None = None, name: str
) -> str:
    """The text of a configuration file.

    Parameters
    ----------
    places
        The stores, in the order in which they are asked.
    algorithm
        Name of the algorithm of the digests.
    cache
        Folder of a disk cache above them; `""`: the usual place for caches; None: no cache.
    max_size
        The most bytes of that cache; None: its default.
    name
        What the file will be called, for its comments.

    Raises
    ------
    ValueError
        There is no place at all, or `max_size` is not a size.
    """
    if not places:
        raise ValueError("nothing says where the blobs are: give a URL, such as s3://bucket/files/")
    lines = [*_HEAD.format(name=quoted(name)).splitlines(), "", f'algorithm = "{algorithm}"', ""]
    taken = {"disk cache"}
    if cache is not None:
        lines += _CACHE.splitlines()
        lines.append(f"path = {quoted(cache.replace('$', '$$'))}" if cache else '# path = "~/.cache/blobs"')
        if max_size is not None:
            parse_size(max_size, name="the size of the cache")
        lines += [f"max_size = {quoted(max_size)}" if max_size else '# max_size = "10GB"', ""]
    for place in places:
        lines += [*place.lines(_name(place, taken)), ""]
    return "\n".join(lines)


def quoted(text: str) -> str:
    """`text` as a basic string of TOML (https://toml.io/en/v1.0.0#string). ValueError where it has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} cannot be written: it is not valid UTF-8") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(place: Place, taken: set[str]) -> str:
    """A name for statistics, made of the URL: `bucket/files` of `s3://bucket/files/`. It is added to `taken`."""
    rest = place.url.partition("://")[2] or place.url
    short = "".join(each if each.isprintable() else "?" for each in rest.partition("{")[0].strip("/ ")) or place.scheme
    name, number = short, 1
    while name in taken:
        number += 1
        name = f"{short} #{number}"
    taken.add(name)
    return name
