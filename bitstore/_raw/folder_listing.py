"""The files below a folder, as pages of a listing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

from bitstore._raw.listing import Listed, Listing

__all__ = ["list_folder"]


def list_folder(folder: str, begin: str, one_level: bool, most: int, after: str | None) -> Listing:
    """A page of at most `most` files below `folder` (its name ends in a slash) whose names there begin with `begin`."""
    objects: list[Listed] = []
    folders: list[str] = []
    for url, size in _below(folder, begin, one_level, after):
        if after is not None and url <= after:
            continue
        if len(objects) + len(folders) == most:
            return Listing(tuple(objects), tuple(folders), max(item for item in (*(o.url for o in objects), *folders)))
        if size is None:
            folders.append(url)
        else:
            objects.append(Listed(url, size, ""))
    return Listing(tuple(objects), tuple(folders), None)


def _below(folder: str, begin: str, one_level: bool, after: str | None) -> Iterator[tuple[str, int | None]]:
    """URLs of the files in `folder` in their order, with sizes; of folders (None) where one level is asked for."""
    with os.scandir(folder) as entries:
        found = [(_url(entry.path) + ("/" if entry.is_dir() else ""), entry) for entry in entries]
    for url, entry in sorted((item for item in found if item[1].name.startswith(begin)), key=lambda item: item[0]):
        if url.endswith("/") and not one_level:
            done = after is not None and url < after and not after.startswith(url)
            if not done and not entry.is_symlink():  # which may lead to a folder above
                yield from _below(entry.path + "/", "", one_level, after)
        elif url.endswith("/"):
            yield url, None
        elif entry.is_file():
            yield url, entry.stat().st_size


def _url(path: str) -> str:
    return "file://" + quote(os.fsencode(path))
