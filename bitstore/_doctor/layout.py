"""Where blobs lie in a bucket, found out from the keys that are there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from bitstore._raw.listing import Listing
from bitstore._support.digests import ALGORITHMS

__all__ = ["Guess", "guessed", "near_names"]

_HEX = re.compile(r"[0-9a-fA-F]+")
_LONGEST_SLICE = 4  # characters in the name of a folder over which blobs are spread
_CODECS = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zz": "zlib", ".zlib": "zlib"}


class Guess:
    """A template that fits keys, and what else they tell.

    Parameters
    ----------
    template
        Such as `s3://bucket/{digest[:2]}/{digest}.gz`.
    algorithm
        Name of the algorithm whose digests have such a length.
    upper
        Whether the keys have upper-case digests, for which there is no template.
    example
        A URL that fits.
    """

    def __init__(self, template: str, algorithm: str, *, upper: bool, example: str) -> None:
        self.template = template
        self.algorithm = algorithm
        self.upper = upper
        self.example = example

    @property
    def prefix(self) -> str | None:
        """The template as a prefix; None: it is none."""
        start = self.template.removesuffix("{digest}")
        return start if start != self.template and "{" not in start else None

    @property
    def compression(self) -> str | None:
        """The codec that the end of the keys names."""
        return next((codec for end, codec in _CODECS.items() if self.template.endswith(end)), None)


def guessed(urls: Iterable[str], prefer: str) -> Guess | None:
    """The template that fits most of `urls`; None: none of them looks like the key of a blob.

    Parameters
    ----------
    urls
        Of objects.
    prefer
        The algorithm that is expected.
    """
    found: dict[tuple[str, str, bool], list[str]] = {}
    for url in urls:
        made = _template_of(url, prefer)
        if made is not None:
            found.setdefault(made, []).append(url)
    if not found:
        return None
    (template, algorithm, upper), examples = max(found.items(), key=lambda item: (item[0][1] == prefer, len(item[1])))
    return Guess(template, algorithm, upper=upper, example=examples[0])


def _template_of(url: str, prefer: str) -> tuple[str, str, bool] | None:
    head, _, name = url.rpartition("/")
    runs = [match.span() for match in reversed(list(_HEX.finditer(name)))]
    kinds = sorted(ALGORITHMS.values(), key=lambda kind: kind.name != prefer)
    for kind in kinds:
        for start, end in runs:
            if end - start == kind.length:
                return _around(head, name, start, end), kind.name, _is_upper(name[start:end])
    for kind in kinds:
        whole = _in_folders(head, name, kind.length)
        if whole is not None:
            return whole, kind.name, False
    # What stands before the digest may be hexadecimal too, as in "cafe4bc3...".
    length = ALGORITHMS[prefer].length
    for start, end in runs:
        if end - start > length:
            return _around(head, name, end - length, end), prefer, _is_upper(name[end - length : end])
    return None


def _around(head: str, name: str, start: int, end: int) -> str:
    return f"{_spread(head, name[start:end])}/{_literal(name[:start])}{{digest}}{_literal(name[end:])}"


def _is_upper(digest: str) -> bool:
    return digest != digest.lower()


def _spread(head: str, digest: str) -> str:
    """The folders of `head`, of which those that are slices of the digest are written as slices."""
    scheme, _, rest = head.partition("://")
    bucket, *folders = rest.split("/")
    taken = 0
    written = []
    for folder in folders:
        if 0 < len(folder) <= _LONGEST_SLICE and digest[taken : taken + len(folder)] == folder:
            end = taken + len(folder)
            written.append(f"{{digest[{taken or ''}:{end}]}}")
            taken = end
        else:
            written.append(_literal(folder))
    return "/".join([f"{scheme}://{bucket}", *written])


def _in_folders(head: str, name: str, length: int) -> str | None:
    """The template of a key whose digest is cut into the names of its folders and what is left, as Git has it."""
    scheme, _, rest = head.partition("://")
    bucket, *folders = rest.split("/")
    match = _HEX.match(name)
    if match is None:
        return None
    parts = [match[0]]
    while folders and sum(map(len, parts)) < length and _HEX.fullmatch(folders[-1]):
        parts.insert(0, folders.pop())
    if len(parts) < 2 or sum(map(len, parts)) != length:
        return None
    written, taken = [], 0
    for part in parts:
        end = taken + len(part)
        written.append(f"{{digest[{taken or ''}:{end if end < length else ''}]}}")
        taken = end
    base = "/".join([f"{scheme}://{bucket}", *map(_literal, folders)])
    return f"{base}/{'/'.join(written)}{_literal(name[match.end() :])}"


def near_names(wanted: str, level: Listing) -> tuple[Sequence[str], Sequence[str]]:
    """What lies beside `wanted` in its folder: similar names, and others; at most five of each."""
    urls = [url for url in (*level.folders, *(item.url for item in level.objects)) if url != wanted]
    by_name = {url.rstrip("/").rpartition("/")[2]: url for url in urls}
    close = difflib.get_close_matches(wanted.rstrip("/").rpartition("/")[2], by_name, n=5, cutoff=0.6)
    near = [by_name[name] for name in close]
    return near, [url for url in urls if url not in near][:5]


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
