"""The keys of one part of a listing, a page at a time: of a bucket, and of a folder."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from bitstore._digests.template import KeyTemplate
from bitstore._lookup.run import run
from bitstore.errors import StoreNotAvailable

__all__ = ["HEX", "Page", "bucket_pages", "folder_pages", "parts_of", "stray_pages"]

HEX = "0123456789abcdef"
_FIRST = frozenset(HEX)
_LOCAL = re.compile("^file://(?:localhost)?", re.IGNORECASE)
_PAGE = 1000  # objects; buckets give no more at once
_PAGE_OF_FILES = 10_000


class Page(NamedTuple):
    """Some keys."""

    urls: list[str]
    # URL behind which the listing goes on, should it break off here.
    cursor: str
    # Whether it is the last page.
    last: bool


def parts_of(template: KeyTemplate, length: int) -> list[str]:
    """The parts that are listed side by side: one for each first character of a digest, and `rest` for all others.

    A flat folder is read as one part: it has to be read as a whole for each.
    """
    at = len(template.start)
    splits = all(template.url(character * length)[at : at + 1] == character for character in HEX)
    if not splits or (_is_folder(template) and _depth(template) == 0):
        return ["all"]
    return [*HEX, "rest"]


def bucket_pages(raw: Any, uri: str, *, beyond: str | None) -> Iterator[Page]:
    """All keys that begin with `uri`; those behind the URL `beyond` alone. Raises `StoreNotAvailable`."""
    after: str | None = None
    start = {} if beyond is None else {"beyond": beyond}
    while True:
        page = run(raw.list_steps(uri, most=_PAGE, after=after, **start))
        urls = [item.url for item in page.objects]
        beyond = urls[-1] if urls else beyond
        yield Page(urls, beyond or "", page.after is None)
        if page.after is None:
            return
        if page.after == after:
            raise StoreNotAvailable(raw, f"LIST {uri}: the listing names the same page as the next one again")
        after = page.after


def stray_pages(raw: Any, template: KeyTemplate, *, beyond: str | None) -> Iterator[Page]:
    """The keys below a template that no digest can have, by their first character; those of digests are leapt over."""
    start = template.start
    while True:
        page = run(raw.list_steps(start, most=_PAGE, **({} if beyond is None else {"beyond": beyond})))
        urls = [item.url for item in page.objects]
        strays = [url for url in urls if url != beyond and url[len(start) : len(start) + 1] not in _FIRST]
        if page.after is None or not urls:
            yield Page(strays, beyond or "", True)
            return
        final = urls[-1]
        character = final[len(start) : len(start) + 1]
        following = start + chr(ord(character) + 1) if character and character in HEX else final
        if beyond is not None and following <= beyond:  # a service without an order: then they are not counted
            yield Page(strays, beyond, True)
            return
        beyond = following
        yield Page(strays, beyond, False)


def folder_pages(raw: Any, template: KeyTemplate, part: str) -> Iterator[Page]:
    """All names that a digest may have below a folder template. Links are followed. Raises `StoreNotAvailable`."""
    if not raw.is_valid(f"{template.start}-"):
        raise StoreNotAvailable(raw, f"LIST {template.shown}: it is no folder that this store takes: {raw.URI_HINT}")
    start = unquote_to_bytes(_LOCAL.sub("", template.start))
    folder, _, begin = os.fsdecode(start).rpartition("/")
    urls: list[str] = []
    try:
        for path in _names(f"{folder}/", begin, part, _depth(template)):
            urls.append("file://" + quote(os.fsencode(path)))
            if len(urls) >= _PAGE_OF_FILES:
                yield Page(urls, "", False)
                urls = []
    except OSError as error:
        raise StoreNotAvailable(raw, f"LIST {template.shown}: {error.strerror or error}: {error.filename}") from error
    yield Page(urls, "", True)


def _names(folder: str, begin: str, part: str, depth: int) -> Iterator[str]:
    """Paths of what is no folder, down to the depth at which blobs lie."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(begin) or not _in_part(entry.name[len(begin) : len(begin) + 1], part):
                continue
            if not _leads_to_folder(entry):  # also what is neither: a lookup would find that there is something
                yield entry.path
            elif depth:
                folders.append(entry.path + "/")
    for below in folders:
        yield from _names(below, "", "all", depth - 1)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # links in a circle, behind which there is nothing
            return False
        raise


def _in_part(character: str, part: str) -> bool:
    return part == "all" or (character == part if part in HEX else not character or character not in HEX)


def _is_folder(template: KeyTemplate) -> bool:
    return template.start.lower().startswith("file:")


def _depth(template: KeyTemplate) -> int:
    """How many folders stand between that of all blobs and a blob."""
    return template.url("0" * 128).count("/") - template.start.count("/")
