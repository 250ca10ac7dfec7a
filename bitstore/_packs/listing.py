"""The packs of others: listed, and their tables fetched, or made of the packs where they have none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bitstore._lookup.asking import steps_of_get, steps_of_put
from bitstore._lookup.run import run
from bitstore._packs.catalog import SUFFIX, write_index
from bitstore._packs.tar import HEAD, members
from bitstore._support.atomic import write_whole
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable
from bitstore.references._table import DamagedReferences, ReferenceTable
from bitstore.steps import Call, Steps, Together

__all__ = ["fetch_steps", "list_packs", "rebuilt"]

_PAGE = 1000
_AT_ONCE = 16  # tables that are fetched at the same time


def list_packs(raw: Any, prefix: str) -> Steps[list[str]]:
    """The names below `prefix` without it, of one level. A folder that the first pack will make has none.

    Raises
    ------
    StoreNotAvailable
        The store could not say.
    """
    names: list[str] = []
    after: str | None = None
    while True:
        try:
            page = yield from raw.list_steps(prefix, one_level=True, most=_PAGE, after=after)
        except StoreNotAvailable as error:
            if not isinstance(error.__cause__, FileNotFoundError) or not hasattr(raw, "container_steps"):
                raise
            yield from raw.container_steps(prefix, made_by_writes=True)
            return names
        names += [each.url[len(prefix) :] for each in page.objects if each.url.startswith(prefix)]
        after = page.after
        if after is None:
            return names


def fetch_steps(raw: Any, prefix: str, names: Sequence[str], folder: Path, algorithm: str) -> Steps[None]:
    """Bring the tables of the packs of these names into `folder`.

    Raises
    ------
    StoreNotAvailable
        The store could not give one of them.
    OSError
        The disk fails.
    """
    if not names:
        return
    yield Call(_make, folder)
    left = iter(names)

    def worker() -> Steps[None]:
        for name in left:
            yield from _fetch(raw, prefix, name, folder, algorithm)

    yield Together([worker() for _ in range(min(_AT_ONCE, len(names)))])


def _make(folder: Path) -> None:
    folder.mkdir(0o700, parents=True, exist_ok=True)


def _fetch(raw: Any, prefix: str, name: str, folder: Path, algorithm: str) -> Steps[None]:
    stem = name.removesuffix(".tar")
    try:
        found = yield from steps_of_get(raw, f"{prefix}{stem}{SUFFIX}")
        if (yield Call(_take, found.data, folder, stem, algorithm)):
            return
    except NotFoundInStore:
        pass  # it was lost: the pack says the same
    try:
        found = yield from steps_of_get(raw, prefix + name)
    except NotFoundInStore:
        return  # it was deleted since it was listed
    yield Call(_index, found.data, folder, stem, algorithm)


def _take(data: bytes, folder: Path, stem: str, algorithm: str) -> bool:
    """Put a table into the folder; false: it is damaged, or not that of this pack."""
    draft = folder / f"{stem}.{os.urandom(4).hex()}.draft"
    write_whole(draft, data)
    try:
        with ReferenceTable(draft) as table:
            table.check()
            good = table.urls() == [f"{stem}.tar"]
            other = table.algorithm != algorithm
    except DamagedReferences:
        good = other = False
    if good and not other:
        draft.replace(folder / f"{stem}{SUFFIX}")
    else:
        draft.unlink()
    if good and other:
        _refuse(stem, algorithm)
    return good


def _refuse(stem: str, algorithm: str) -> None:
    raise StoreNotAvailable(f"{stem}.tar", f"its digests are not {algorithm}: a prefix has packs of one algorithm")


def _index(data: bytes, folder: Path, stem: str, algorithm: str) -> bool:
    """Make the table of a pack; false: the pack is damaged, and what comes before that is in the table."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(data)
        file.flush()
        found = []
        end = 0
        whole = True
        try:
            for member in members(file.fileno(), len(data)):
                found.append(member)
                end = member.offset + member.size
        except ValueError:
            whole = False
        if len(data) - end < HEAD:  # there is no end of the archive behind it
            whole = False
    if any(len(member.digest) != digest_algorithm(algorithm).length for member in found):
        _refuse(stem, algorithm)
    draft = folder / f"{stem}.{os.urandom(4).hex()}.draft"
    write_index(draft, stem, found, algorithm, whole=whole)
    draft.replace(folder / f"{stem}{SUFFIX}")
    return whole


def rebuilt(raw: Any, prefix: str, names: Sequence[str], folder: Path, algorithm: str) -> list[str]:
    """Make the tables of packs again, here and beside them; returns the names of packs that are damaged.

    Raises
    ------
    StoreNotAvailable
        The store could not give a pack, or not take a table.
    OSError
        The disk fails.
    """
    _make(folder)
    return list(_broken(raw, prefix, names, folder, algorithm))


def _broken(raw: Any, prefix: str, names: Sequence[str], folder: Path, algorithm: str) -> Iterator[str]:
    for name in names:
        stem = name.removesuffix(".tar")
        try:
            data = run(steps_of_get(raw, prefix + name)).data
        except InvalidDataFound:
            raise
        except NotFoundInStore:
            continue  # deleted since it was listed
        if not _index(data, folder, stem, algorithm):
            yield name
        run(steps_of_put(raw, f"{prefix}{stem}{SUFFIX}", (folder / f"{stem}{SUFFIX}").read_bytes()))
