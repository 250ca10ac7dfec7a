"""Files of a disk cache that are not what they should be: noticed, put aside within a bound, and healed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore._caches.disk import DiskCache
from bitstore.errors import InvalidDataFound, NotFoundInStore
from tests.disk_helpers import fill, flip, make_socket
from tests.disk_workers import blob, total_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return DiskCache(folder, "1MB", algorithm="sha1")


def truncate(path: Path) -> None:
    os.truncate(path, 500)


def by_link(path: Path) -> None:
    target = path.parents[3] / "outside"
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)


def by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "precious").write_bytes(b"not ours")


def by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def by_socket(path: Path) -> None:
    path.unlink()
    make_socket(path)


ALL = [flip, truncate, by_link, by_folder, by_pipe, by_socket]


@pytest.mark.parametrize("damage", ALL)
def test_damage_is_noticed_once_and_put_aside(
    cache: DiskCache, folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    key, _, path = fill(cache)
    damage(path)
    with caplog.at_level(logging.WARNING, "bitstore"), pytest.raises(InvalidDataFound, match="was damaged"):
        cache.get(key)
    assert len(caplog.records) == 1
    assert not os.path.lexists(path)
    assert len(list((folder / "quarantine").iterdir())) == 1
    with pytest.raises(NotFoundInStore) as error:
        cache.get(key)
    assert not isinstance(error.value, InvalidDataFound)
    assert cache.stats()["damaged"] == 1
    if damage is flip:
        assert cache.stats()["bytes"] == 0


@pytest.mark.parametrize("damage", ALL)
def test_a_put_heals_damage(cache: DiskCache, folder: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    key, data, path = fill(cache)
    damage(path)
    with pytest.raises(InvalidDataFound):
        cache.get(key)
    cache.put(key, data)
    assert cache.get(key) == data
    if damage is by_link:
        assert (tmp_path / "outside").read_bytes() == data
    if damage is not by_folder:
        cache.clear()
        assert not list((folder / "quarantine").iterdir())


@pytest.mark.parametrize("damage", [truncate, by_pipe])
def test_a_put_replaces_a_plainly_damaged_file(cache: DiskCache, damage: Callable[[Path], None]) -> None:
    key, data, path = fill(cache)
    damage(path)
    cache.put(key, data)
    assert cache.get(key) == data


def test_path_notices_damage_unless_verify_is_false(cache: DiskCache) -> None:
    key, _, path = fill(cache)
    flip(path)
    assert cache.path(key, verify=False) == path
    with pytest.raises(InvalidDataFound):
        cache.path(key)


def test_verify_all_checks_every_file_and_puts_damaged_ones_aside(cache: DiskCache) -> None:
    fill(cache, 2)
    flip(fill(cache, 3)[2])
    cache.put("k", b"v")
    flip(cache.path("k"))
    assert cache.verify_all() == (3, 2, 1000)
    assert cache.verify_all() == (1, 0, 1000)


def test_get_returns_damaged_bytes_where_verify_is_false(cache: DiskCache) -> None:
    key, data, path = fill(cache)
    flip(path)
    cache.verify = False
    assert cache.get(key) != data
    cache.verify = True
    with pytest.raises(InvalidDataFound):
        cache.get(key)


def test_the_quarantine_keeps_its_latest_files_within_a_bound(folder: Path) -> None:
    cache = DiskCache(folder, 640_000, algorithm="sha1")
    for number in range(20):
        flip(fill(cache, number, 1000)[2])
        cache.verify_all()
    kept = sorted((folder / "quarantine").iterdir())
    assert len(kept) == 8
    assert kept[-1].name.endswith(blob(19, 1000)[0])
    flip(fill(cache, 50, 9000)[2])
    cache.verify_all()
    assert sum(path.stat().st_size for path in (folder / "quarantine").iterdir()) <= 10_000
    assert cache.stats()["bytes"] == total_bytes(folder) == 0


def test_a_newer_good_file_is_not_put_aside_in_place_of_a_damaged_one(cache: DiskCache) -> None:
    key, data, path = fill(cache)
    flip(path)
    rename = os.rename

    def late(*args: Any, **options: Any) -> None:
        os.rename = rename
        other = DiskCache(cache.folder, "1MB", algorithm="sha1")
        with pytest.raises(InvalidDataFound):
            other.get(key)
        other.put(key, data)
        rename(*args, **options)

    os.rename = late
    try:
        with pytest.raises(InvalidDataFound):
            cache.get(key)
    finally:
        os.rename = rename
    assert cache.get(key) == data
    assert cache.stats()["bytes"] == 1000
