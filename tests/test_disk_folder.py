"""The folder of a disk cache under its feet: owners, rights, links, deletion, descriptors and forks."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore._caches.disk import DiskCache
from bitstore.config import ConfigError, loads
from bitstore.errors import AccessDenied, InvalidDataFound, NotFoundInStore, StoreNotAvailable
from tests.disk_helpers import age, fill, flip, keep_open, kept_open
from tests.disk_troubles import in_child
from tests.disk_workers import blob, total_bytes

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return DiskCache(folder, "1MB", algorithm="sha1")


@pytest.fixture
def keeper(cache: DiskCache, folder: Path, monkeypatch: pytest.MonkeyPatch) -> DiskCache:
    """A cache that holds its descriptors."""
    keep_open(cache, folder, monkeypatch)
    return cache


@pytest.fixture(params=[False, True], ids=["", "kept open"])
def either(request: pytest.FixtureRequest, cache: DiskCache) -> DiskCache:
    """A cache that holds its descriptors, or none."""
    if request.param:
        request.getfixturevalue("keeper")
    return cache


# ---------------------------------------------------------------------- owners and rights


def test_a_folder_of_a_foreign_owner_is_refused_unless_allowed(folder: Path) -> None:
    foreign = Path("/usr")
    if os.geteuid() == 0:
        DiskCache(folder).put("a", b"1")
        os.chown(folder, NOBODY, -1)
        foreign = folder
    with pytest.raises(AccessDenied, match="allow_foreign_owner=True"):
        DiskCache(foreign)
    DiskCache(foreign, allow_foreign_owner=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_an_unpickled_cache_refuses_a_folder_of_a_foreign_owner_when_used(folder: Path) -> None:
    cache = DiskCache(folder)
    cache.put("a", b"1")
    packed = pickle.dumps(cache)
    os.chown(folder, NOBODY, -1)
    late = pickle.loads(packed)
    for use in (late.get, late.exists, lambda key: late.put(key, b"")):
        with pytest.raises(StoreNotAvailable, match="allow_foreign_owner=True"):
            use("a")


def as_nobody(function: Callable[[], object]) -> None:
    """Run `function` in a child without root's rights."""

    def use() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(NOBODY)
        function()

    in_child(use)


def test_a_folder_that_may_not_be_reached_is_refused_by_name(public: Path) -> None:
    closed = public / "closed"
    closed.mkdir()
    packed = pickle.dumps(DiskCache(closed / "inner" / "cache"))
    text = f'algorithm = "sha1"\n[[tier]]\nname = "disk"\ncache = "disk"\npath = "{closed}/inner/cache"'
    closed.chmod(0)
    told = rf"cache folder '{closed}/inner/cache' cannot be reached: user \d+ may not enter '{closed}'"

    def use() -> None:
        with pytest.raises(AccessDenied, match=told):
            DiskCache(closed / "inner" / "cache")
        with pytest.raises(ConfigError, match=f"tier 'disk': {told}"):
            loads(text)
        late = pickle.loads(packed)
        for ask in (late.get, late.exists, late.path, late.delete, lambda key: late.put(key, b"")):
            with pytest.raises(StoreNotAvailable, match=told):
                ask("a key")
        assert late.stats()["bytes"] is None

    as_nobody(use)


@pytest.mark.parametrize("below", ["", "/below/it"])
def test_a_link_that_leads_nowhere_is_refused_by_name(tmp_path: Path, below: str) -> None:
    link = tmp_path / "link"
    name = f"{link}{below}"
    link.mkdir()
    late = DiskCache(name)
    link.rmdir()
    link.symlink_to(tmp_path / "not mounted")
    told = f"cache folder '{name}' cannot be: '{link}' is a link to '{tmp_path}/not mounted', which is not there"
    with pytest.raises(NotADirectoryError, match=told):
        DiskCache(name)
    for ask in (late.get, late.exists, lambda key: late.put(key, b"")):
        with pytest.raises(StoreNotAvailable, match=told):
            ask("a key")
    (tmp_path / "not mounted").mkdir()  # it is mounted
    late.put("a key", b"data")
    assert DiskCache(name).get("a key") == b"data"


def test_an_impossible_path_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for name, reason in (("circle", "Too many levels of symbolic links"), ("a" * 300, "File name too long")):
        with pytest.raises(StoreNotAvailable, match=f"cannot look at cache folder '{tmp_path}/{name}': {reason}"):
            DiskCache(tmp_path / name)


def test_a_home_in_a_circle_of_links_prevents_no_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITSTORE_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed = pickle.dumps(DiskCache())
    (tmp_path / "bitstore").symlink_to("bitstore")
    late = pickle.loads(packed)
    with pytest.raises(StoreNotAvailable, match="cannot look at cache folder"):
        late.get("a key")


def test_a_folder_that_cannot_be_made_is_named_by_the_write(public: Path) -> None:
    public.chmod(0o555)
    cache = DiskCache(public / "closed" / "cache")

    def use() -> None:
        with pytest.raises(StoreNotAvailable, match=rf"cannot be made: Permission denied: '{public}/closed/cache'"):
            cache.put("a key", b"")

    as_nobody(use)


@pytest.mark.parametrize("gone", ["", "sha1", "fan", "beside"])
def test_a_file_in_place_of_a_folder_is_no_absence(either: DiskCache, folder: Path, gone: str) -> None:
    key, _, path = fill(either)
    if gone == "beside":
        path.unlink()
    where = {"": folder, "sha1": folder / "sha1", "fan": path.parent, "beside": path.parent / f"{key}.d"}[gone]
    shutil.rmtree(where, ignore_errors=True)
    where.write_bytes(b"in the way")
    for ask in (either.get, either.exists, either.path, either.delete):
        with pytest.raises(StoreNotAvailable, match=r"Not a directory|is a file"):
            ask(key)


def test_a_read_only_folder_serves_its_blobs(public: Path) -> None:
    folder = public / "cache"
    cache = DiskCache(folder, "1MB", algorithm="sha1")
    key, data, path = fill(cache)
    bad, _, bad_path = fill(cache, 1)
    flip(bad_path)
    age(path, 1000)
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    for entry in [*folder.rglob("*"), folder]:
        os.chown(entry, user, -1)
        entry.chmod(0o500 if entry.is_dir() else 0o400)

    def use() -> None:
        if os.geteuid() != user:
            os.setuid(user)
        fresh = DiskCache(folder, "1MB", algorithm="sha1")
        assert fresh.get(key) == data
        with pytest.raises(InvalidDataFound):
            fresh.get(bad)
        for _ in range(2):
            with pytest.raises(StoreNotAvailable, match=r"cannot write: .*Permission denied"):
                fresh.put(*blob(2, 100))
        with pytest.raises(NotFoundInStore):
            fresh.get("0" * 40)
        assert fresh.stats()["write_errors"] == 2
        for closed in (path, folder / "sha1"):
            closed.chmod(0)
            with pytest.raises(StoreNotAvailable, match=r"cannot read: .*Permission denied"):
                fresh.get(key)
        with pytest.raises(StoreNotAvailable):
            fresh.exists(key)

    in_child(use)


def test_a_full_disk_refuses_new_blobs_and_loses_none(cache: DiskCache, folder: Path) -> None:
    key, data, _ = fill(cache)

    def use() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        for number in range(3):
            with pytest.raises(StoreNotAvailable, match=r"cannot write: .*File too large"):
                cache.put(*blob(number, 6000))
        assert cache.get(key) == data
        assert cache.stats()["bytes"] == 1000

    in_child(use)
    assert not list((folder / "tmp").iterdir())
    assert total_bytes(folder) == 1000


# ---------------------------------------------------------------------- deleted or replaced


@pytest.mark.parametrize("gone", ["sha1", "tmp", "ledger", ""])
def test_a_folder_that_is_deleted_is_made_again(either: DiskCache, folder: Path, gone: str) -> None:
    either.clear()
    key, data, _ = fill(either)
    shutil.rmtree(folder / gone)
    if gone in ("sha1", ""):
        with pytest.raises(NotFoundInStore):
            either.get(key)
    either.put(key, data)
    assert either.get(key) == data
    assert either.prune() == 1000


@pytest.mark.parametrize("inner", ["sha1", "tmp", "ledger", "quarantine", "fan"])
def test_links_never_lead_outside_the_folder(either: DiskCache, folder: Path, tmp_path: Path, inner: str) -> None:
    key, data, path = fill(either)
    flip(path)
    either.verify_all()
    either.put(key, data)
    link = path.parent if inner == "fan" else folder / inner
    outside = tmp_path / "outside"
    link.rename(outside)
    link.symlink_to(outside)
    (outside / ("abc" + "0" * 37)).write_bytes(b"precious")
    before = {entry: entry.stat().st_mtime_ns for entry in outside.rglob("*") if entry.is_file()}
    calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
        (either.put, (key, data)),
        (either.get, (key,)),
        (either.put, (key, b"other")),
        *((either.put, blob(number, 90_000)) for number in range(20)),
        (either.delete, (key,)),
        (either.verify_all, ()),
        (either.prune, (100,)),
        (either.clear, ()),
    ]
    for function, args in calls:
        # What cannot be done without following the link fails; the rest goes on.
        with contextlib.suppress(StoreNotAvailable):
            function(*args)
    assert {entry: entry.stat().st_mtime_ns for entry in outside.rglob("*") if entry.is_file()} == before


@pytest.mark.parametrize("inner", ["sha1", "tmp"])
def test_an_open_folder_is_closed_when_replaced(keeper: DiskCache, folder: Path, tmp_path: Path, inner: str) -> None:
    key, data = blob(600, 1000)
    (folder / "sha1" / key[:3]).mkdir(exist_ok=True)
    outside = tmp_path / "outside"
    (folder / inner).rename(outside)
    (folder / inner).symlink_to(outside)
    before = {path: path.lstat().st_mtime_ns for path in [outside, *outside.rglob("*")]}
    with pytest.raises(StoreNotAvailable):
        keeper.put(key, data)
    assert {path: path.lstat().st_mtime_ns for path in [outside, *outside.rglob("*")]} == before


# ---------------------------------------------------------------------- descriptors and forks


def test_a_disk_cache_leaves_no_descriptor_open(folder: Path) -> None:
    cache = DiskCache(folder, "1MB", algorithm="sha1")
    for number in range(1000, 1100):
        fill(cache, number)
    assert kept_open(folder) == 2, "a process that writes much keeps the ledger open, and nothing else"
    for number in range(50):
        key, _, path = fill(cache, number)
        cache.put(key, b"other bytes")
        if number % 10 == 0:
            flip(path)
            path.with_name("0" * 40).symlink_to("/")
    cache.verify_all()
    cache.prune(5000)
    with pytest.raises(NotFoundInStore):
        cache.get("1" * 40)
    assert kept_open(folder) == 2
    del cache
    assert kept_open(folder) == 0


def test_descriptors_closed_by_other_code_are_opened_again(keeper: DiskCache, folder: Path) -> None:
    def use() -> None:
        for number in range(500, 570):
            fill(keeper, number)
        time.sleep(0.05)  # the folder must be of some age
        fill(keeper, 570)
        assert kept_open(folder) >= 4
        os.closerange(3, 1 + max(map(int, os.listdir("/dev/fd"))))
        for number in range(571, 575):
            with contextlib.suppress(StoreNotAvailable):
                keeper.put(*blob(number, 1000))
        assert keeper.get(blob(574, 1000)[0]) == blob(574, 1000)[1]
        assert keeper.stats()["bytes"] == total_bytes(folder)

    in_child(use)


def test_a_fork_closes_no_descriptor_of_its_parent(keeper: DiskCache, folder: Path) -> None:
    key, data, _ = fill(keeper)

    def use() -> None:
        os.closerange(3, 1 + max(map(int, os.listdir("/dev/fd"))))  # as daemons do; others may get these numbers then
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
        keeper.put(*blob(400, 1000))
        assert keeper.get(key) == data
        for other in others:
            os.fstat(other)

    in_child(use)
    assert kept_open(folder) >= 4
    keeper.put(*blob(401, 1000))
    assert keeper.stats()["bytes"] == total_bytes(folder)


def test_a_fork_works_while_threads_of_its_parent_hold_every_lock(cache: DiskCache) -> None:
    key, data, _ = fill(cache)
    blobs = cache._blobs()
    hold, held = threading.Event(), threading.Event()

    def keep() -> None:
        with blobs.lock, blobs.bound._lock, blobs.bound.ledger._lock:
            held.set()
            hold.wait()

    thread = threading.Thread(target=keep)
    thread.start()
    held.wait()

    def use() -> None:
        assert cache.get(key) == data
        cache.put(*blob(2, 5000))
        assert cache.stats()["written"] == 1

    try:
        in_child(use)
    finally:
        hold.set()
        thread.join()
    assert cache.get(blob(2, 5000)[0])
