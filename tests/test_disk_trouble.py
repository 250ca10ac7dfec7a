"""A cache on a disk that fails, is full, belongs to others, or holds unexpected files: lookups go on."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore import MemoryCache, Sha1Composite
from bitstore._caches import folder as folders
from bitstore._caches.disk import DiskCache
from bitstore.errors import AccessDenied, InvalidDataFound, NotFoundInStore, StoreNotAvailable
from tests.disk_helpers import kept_open, make_socket
from tests.disk_troubles import (
    FailingDisk,
    Heard,
    in_child,
    lookups_go_on,
    mount,
    own_mounts,
    snapshot,
    use_of,
)
from tests.disk_workers import blob, final_files, is_whole, total_bytes
from tests.stores import Shelf, as_cache, composed

NOBODY = 65534
NOT_ALLOWED = 77  # exit code of a child that may not have mounts of its own
COUNT, SIZE, BOUND = 12, 9000, 500_000


class Scene:
    """A composite of a disk cache that holds some blobs and a source that holds all; and a folder that is not ours."""

    def __init__(self, home: Path, bound: int = BOUND) -> None:
        self.folder = home / "cache"
        self.outside = home / "outside"
        self.outside.mkdir()
        for number in range(3):  # what would be taken for ours, if a link to it were followed
            key, data = blob(number, SIZE)
            (self.outside / key).write_bytes(data)
        self.shelf = Shelf(dict(blob(number, SIZE) for number in range(COUNT)))
        self.cache = DiskCache(self.folder, bound, algorithm="sha1")
        for number in range(COUNT // 2):
            self.cache.put(*blob(number, SIZE))
        self.store = self.open()

    def open(self) -> Sha1Composite:
        """A new composite over the same cache."""
        return composed(as_cache(self.cache), self.shelf)

    def paths(self) -> list[Path]:
        """The files of the blobs that the cache held from the beginning."""
        keys = [blob(number, SIZE)[0] for number in range(COUNT // 2)]
        return [self.folder / "sha1" / key[:3] / key for key in keys]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# -- options and puts


@pytest.mark.parametrize("make", [lambda **options: DiskCache("/nowhere", **options), MemoryCache])
def test_an_unknown_option_is_named_beside_the_known_ones(make: Callable[..., object]) -> None:
    with pytest.raises(
        TypeError, match=r"Cache has no option 'max_sise' \(did you mean 'max_size'\?\); it has: .*max_"
    ):
        make(max_sise=5)
    with pytest.raises(TypeError, match="Cache has no option 'colour'; it has: "):
        make(colour=5)


@pytest.mark.parametrize("own", [True, False], ids=["the digest's bytes", "other bytes"])
@pytest.mark.parametrize("size", [10, 5000, (1 << 20) + 1])
def test_a_put_heals_a_damaged_file_of_the_same_size(tmp_path: Path, own: bool, size: int) -> None:
    cache = DiskCache(tmp_path / "cache", "10MB", algorithm="sha1")
    key, data = blob(1, size)
    if not own:
        data = data[::-1]
    cache.put(key, data)
    path = cache.path(key)
    heard = Heard()
    for at in (0, size // 2, size - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        cache.put(key, data)
        assert path.read_bytes() == data
        assert cache.get(key) == data
    cache.put(key, data)
    stats = cache.stats()
    assert (stats["damaged"], stats["written"], stats["present"]) == (3, 4, 1)
    assert stats["bytes"] == total_bytes(tmp_path / "cache") == size
    heard.check()
    assert len(heard.records) == 1


def test_a_cache_that_is_only_written_is_healed(tmp_path: Path) -> None:
    key, data = blob(1, 5000)
    cache = DiskCache(tmp_path / "cache", "1MB", algorithm="sha1")
    store = composed(as_cache(cache, read=False), Shelf({key: data}))
    assert store.get(key) == data
    cache.path(key).write_bytes(bytes(5000))
    assert store.get(key) == data
    assert cache.path(key).read_bytes() == data


# -- each file operation fails


@pytest.mark.parametrize(
    ("code", "lasting"),
    [
        pytest.param(errno.EIO, False, id="EIO-once"),
        pytest.param(errno.EIO, True, id="EIO-for good", marks=pytest.mark.soak),
        pytest.param(errno.ENOSPC, False, id="ENOSPC-once", marks=pytest.mark.soak),
        pytest.param(errno.ENOSPC, True, id="ENOSPC-for good"),
    ],
)
def test_a_failure_of_any_file_operation_fails_no_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, lasting: bool
) -> None:
    # In a folder of some seconds' age a cache keeps descriptors open. On a slow machine it would be that old here.
    monkeypatch.setattr(folders, "_SETTLED_NS", 10**18 * 9)

    def use() -> None:
        bound = 6 * SIZE + 1000
        held, bad, new, *fillers = (blob(number, SIZE) for number in range(50, 57))
        shelf = Shelf(dict([held, bad, new]))
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / new[0]).write_bytes(b"precious")
        before = snapshot(outside)
        heard = Heard()
        for number in range(1, 3000):
            folder = tmp_path / str(number)
            whole = DiskCache(folder, bound, algorithm="sha1")
            for each in (*fillers, held, bad):  # it is full then
                whole.put(*each)
            whole.path(bad[0]).write_bytes(bytes(SIZE))
            cache = DiskCache(folder, bound, algorithm="sha1")
            store = composed(as_cache(cache), shelf)
            descriptors = kept_open(tmp_path)
            heard.records.clear()
            with FailingDisk(code, number, lasting=lasting) as disk:
                for key, data in shelf.held.items():
                    assert store.get(key) == data
                for key, right in (held, ("f" * 40, None)):
                    try:
                        assert cache.get(key) == right
                    except NotFoundInStore:
                        assert right is None, f"a failure was reported as an absence: {disk.failed}"
                    except StoreNotAvailable:
                        assert disk.done >= number
                for act in (lambda: cache.put("another", new[1]), lambda: cache.delete(bad[0]), cache.prune):  # noqa: B023
                    try:
                        act()
                    except StoreNotAvailable:
                        assert disk.done >= number
            heard.check()
            assert kept_open(tmp_path) == descriptors, f"a descriptor is left: {disk.failed}"
            for file in final_files(folder):
                assert is_whole(file) or not any(file.read_bytes()), f"{file} is not whole: {disk.failed}"
            size = total_bytes(folder)
            assert size <= bound, f"{size} bytes: {disk.failed}"
            known = DiskCache(folder, bound, algorithm="sha1").stats()["bytes"]
            assert known is None or known >= size, f"the ledger says {known} of {size} bytes: {disk.failed}"
            assert snapshot(outside) == before
            shutil.rmtree(folder)
            if disk.done < number:
                break
        assert number > 150, "it failed at many places"

    in_child(use)


# -- disks of all kinds


def test_a_full_disk_fails_no_lookup(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()

    def use(options: str) -> int:
        if not own_mounts():
            return NOT_ALLOWED
        mount(None, disk, options)
        scene.cache = cache = DiskCache(disk / "cache", BOUND, algorithm="sha1")
        heard, before = Heard(), snapshot(scene.outside)
        store = scene.open()
        lookups_go_on(store, scene.shelf)
        kept = len(final_files(disk / "cache"))
        assert 0 < kept < COUNT
        counted = store.stats()[cache.label]
        errors = cache.stats()["write_errors"]
        assert errors is not None
        assert counted.write_failures >= errors > 0, "also those that were not tried, as it was left alone"
        assert counted.hits >= 3 * kept
        assert counted.failures == 0, "what it holds, it goes on giving"
        heard.check()
        assert len(heard.records) <= 2, "that it could not keep a blob, and that it is left alone"
        assert "No space left" in heard.records[0].getMessage()
        assert not list((disk / "cache" / "tmp").iterdir())
        (known,) = {cache.stats()["bytes"], DiskCache(disk / "cache", BOUND, algorithm="sha1").stats()["bytes"]}
        assert known == total_bytes(disk / "cache")
        cache.clear()
        assert total_bytes(disk / "cache") == 0
        cache.put(*blob(50, SIZE))  # there is room again
        assert cache.get(blob(50, SIZE)[0])
        assert snapshot(scene.outside) == before
        return 0

    for options in ("size=96k,mode=700", "nr_inodes=20,mode=700"):
        if in_child(lambda options=options: use(options)) == NOT_ALLOWED:  # type: ignore[misc]
            pytest.skip("no user namespaces here: ENOSPC is tested by failing file operations only")


def test_a_disk_that_is_remounted_read_only_fails_no_lookup(scene: Scene) -> None:
    old = time.time() - 10**6
    for path in scene.paths():
        os.utime(path, (old, old))  # so that each read would mark its use
    scene.paths()[0].write_bytes(b"damaged")

    def use() -> int:
        if not own_mounts():
            return NOT_ALLOWED
        mount(scene.folder, scene.folder, "ro")
        heard, before = Heard(), snapshot(scene.folder)
        lookups_go_on(scene.store, scene.shelf)
        counted = scene.store.stats()[scene.cache.label]
        assert counted.hits == 4 * (COUNT // 2 - 1)
        assert counted.write_failures == 4 * (COUNT // 2 + 1)
        assert scene.cache.stats()["write_errors"]
        assert counted.failures == 0
        heard.check()
        assert snapshot(scene.folder) == before
        return 0

    if in_child(use) == NOT_ALLOWED:
        pytest.skip("no user namespaces here: rights are tested by other tests")


def test_a_device_mounted_over_a_file_fails_no_lookup(scene: Scene) -> None:
    """It can be neither read (it never ends) nor moved away."""

    def use() -> int:
        if not own_mounts():
            return NOT_ALLOWED
        mount(Path("/dev/zero"), scene.paths()[0])
        heard, before = Heard(), snapshot(scene.outside)
        lookups_go_on(scene.store, scene.shelf)
        assert scene.store.stats()[scene.cache.label].invalid == 4
        assert scene.cache.stats()["damaged"] == 8, "at each read, and each time it should be written"
        heard.check()
        assert snapshot(scene.outside) == before
        return 0

    if in_child(use) == NOT_ALLOWED:
        pytest.skip("no user namespaces here")


# -- rights


def test_rights_that_are_lost_on_the_way_fail_no_lookup(public: Path) -> None:
    scene = Scene(public)
    lookups_go_on(scene.store, scene.shelf)
    asked = len(scene.shelf.asked)

    def use() -> None:
        lookups_go_on(scene.store, scene.shelf)  # in this process, too
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(NOBODY)  # the folder is root's, and private
        else:
            scene.folder.chmod(0)
        heard, before = Heard(), snapshot(scene.outside)
        lookups_go_on(scene.store, scene.shelf)
        assert len(scene.shelf.asked) >= asked + 4 * COUNT, "all came from the source"
        counted = scene.store.stats()[scene.cache.label]
        assert counted.failures >= 4 * COUNT, "as failures, not as absences"
        for ask in (scene.cache.get, scene.cache.exists, scene.cache.path, scene.cache.delete):
            with pytest.raises(StoreNotAvailable, match="Permission denied"):
                ask(blob(0, SIZE)[0])
        heard.check()
        assert len(heard.records) <= 3, "that it could not keep a blob, and that it is left alone"
        assert snapshot(scene.outside) == before

    try:
        in_child(use)
    finally:
        scene.folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_that_another_user_made_again_is_not_used(public: Path) -> None:
    """The folder was deleted (as cleaners of /tmp do), and another user's folder is in its place."""
    scene = Scene(public)
    keys = DiskCache(scene.folder)
    keys.put("a key", b"right")
    lookups_go_on(scene.store, scene.shelf)
    shutil.rmtree(scene.folder)
    forged = DiskCache(scene.folder)
    forged.put("a key", b"forged")
    for entry in [scene.folder, *scene.folder.rglob("*")]:
        os.chown(entry, NOBODY, NOBODY)
    before = snapshot(scene.folder)
    with pytest.raises(StoreNotAvailable, match=f"belongs to user {NOBODY}"):
        keys.get("a key")
    with pytest.raises(AccessDenied, match=f"belongs to user {NOBODY}"):
        keys.put("b", b"1")
    heard = Heard()
    lookups_go_on(scene.store, scene.shelf)
    heard.check()
    assert scene.store.stats()[scene.cache.label].write_failures > 0
    assert snapshot(scene.folder) == before, "nothing is written there"
    assert DiskCache(scene.folder, allow_foreign_owner=True).get("a key") == b"forged"


# -- unexpected files


def by_link(path: Path, outside: Path) -> None:
    same = outside / path.name
    path.symlink_to(same if same.exists() else outside)


def by_folder(path: Path, outside: Path) -> None:
    path.mkdir()


def by_pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def by_socket(path: Path, outside: Path) -> None:
    make_socket(path)


def by_device(path: Path, outside: Path) -> None:
    try:
        os.mknod(path, 0o20600, os.makedev(1, 5))  # /dev/zero: it never ends
    except PermissionError:
        os.mkfifo(path)


def by_file(path: Path, outside: Path) -> None:
    path.write_bytes(b"in the way")


def damage(path: Path, how: Callable[[Path, Path], None], outside: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    how(path, outside)


@pytest.mark.parametrize("how", [by_link, by_folder, by_pipe, by_socket, by_device], ids=lambda how: how.__name__)
@pytest.mark.parametrize("what", ["blob", "ledger"])
def test_a_file_replaced_by_anything_is_healed(scene: Scene, what: str, how: Callable[[Path, Path], None]) -> None:
    path = scene.paths()[0] if what == "blob" else next((scene.folder / "ledger").iterdir())
    damage(path, how, scene.outside)
    before = snapshot(scene.outside)

    def use() -> None:
        heard = Heard()
        lookups_go_on(scene.store, scene.shelf)
        heard.check()
        assert use_of(scene.store) == (1 if what == "blob" else 0)
        assert len(final_files(scene.folder)) == COUNT, "all is kept, as if nothing had been"
        fresh = DiskCache(scene.folder, BOUND, algorithm="sha1")
        known = fresh.stats()["bytes"]
        assert known == scene.cache.stats()["bytes"] and known is not None
        assert known >= total_bytes(scene.folder), "the cache knows that a file was taken away"
        damage(path if what == "blob" else next((scene.folder / "ledger").iterdir()), how, scene.outside)
        fresh.put(*blob(0, SIZE))  # over it
        assert fresh.verify_all().damaged == 0
        assert fresh.get(blob(0, SIZE)[0]) == blob(0, SIZE)[1]
        assert fresh.prune() == total_bytes(scene.folder)
        fresh.clear()

    in_child(use)
    assert snapshot(scene.outside) == before


@pytest.mark.parametrize("how", [by_link, by_file, by_pipe, by_device], ids=lambda how: how.__name__)
@pytest.mark.parametrize("what", ["", "sha1", "fan", "tmp", "ledger"])
def test_a_folder_that_is_replaced_fails_no_lookup(scene: Scene, what: str, how: Callable[[Path, Path], None]) -> None:
    if what == "" and how is by_link:
        return  # the cache is where its path leads: a link in its place moves it
    damage(scene.paths()[0].parent if what == "fan" else scene.folder / what, how, scene.outside)
    before = snapshot(scene.outside)

    def use() -> None:
        heard = Heard()
        lookups_go_on(scene.store, scene.shelf)
        heard.check()
        # A read follows a linked fan-out folder, if it finds there what the digest says; nothing else does.
        assert use_of(scene.store) > 0 or (what == "fan" and how is by_link)
        for ask in (scene.cache.verify_all, scene.cache.prune, scene.cache.clear, scene.cache.stats):
            try:
                ask()
            except StoreNotAvailable:
                continue

    in_child(use)
    assert snapshot(scene.outside) == before


def test_a_folder_that_is_deleted_again_and_again_fails_no_lookup(scene: Scene) -> None:
    heard, before = Heard(), snapshot(scene.outside)
    for inner in ("", "sha1", "tmp", "ledger", ""):
        shutil.rmtree(scene.folder / inner)
        lookups_go_on(scene.store, scene.shelf)
        assert len(final_files(scene.folder)) == COUNT
    assert use_of(scene.store) == 0
    assert not heard.records
    assert scene.cache.prune() == COUNT * SIZE
    assert snapshot(scene.outside) == before


# -- clocks


YEAR = 365 * 86400.0


@pytest.mark.parametrize("jump", [10 * YEAR, -10 * YEAR, 7200.0, -7200.0], ids=["+10y", "-10y", "+2h", "-2h"])
def test_a_clock_that_jumps_breaks_no_bound(tmp_path: Path, jump: float) -> None:
    """All files keep the times that the old clock gave them. None is lost, and no more go than must."""
    cache = DiskCache(tmp_path / "cache", 20 * SIZE, algorithm="sha1")
    blobs = [blob(number, SIZE) for number in range(30)]
    for key, data in blobs[:20]:
        cache.put(key, data)
    for path in (tmp_path / "cache").rglob("*"):  # the ledger and the folders, too
        then = time.time() - jump
        os.utime(path, (then, then))
    for fresh in (cache, DiskCache(tmp_path / "cache", 20 * SIZE, algorithm="sha1")):
        assert all(fresh.exists(key) for key, _ in blobs[:20])
        assert fresh.stats()["evicted"] == 0
    for key, data in blobs[:5]:
        assert cache.get(key) == data  # used now: so these stay
    for number, (key, data) in enumerate(blobs[20:], 1):
        cache.put(key, data)
        assert cache.stats()["evicted"] == number, "one goes for each that comes"
        assert total_bytes(tmp_path / "cache") == cache.stats()["bytes"] == 20 * SIZE
    assert all(cache.exists(key) for key, _ in blobs[:5] + blobs[20:]), "what was used since the jump stays"
    assert cache.prune() == 20 * SIZE


def test_a_clock_that_jumps_all_the_time_breaks_no_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(1)
    now, now_ns, utime, link = time.time, time.time_ns, os.utime, os.link
    ahead = 0.0

    def marked(path: Any, times: Any = None, **options: Any) -> None:
        utime(path, (now() + ahead,) * 2 if times is None and "ns" not in options else times, **options)

    def made(source: str, name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        marked(source, dir_fd=src_dir_fd)  # it was written just now
        link(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(ahead * 1e9))
    monkeypatch.setattr(os, "utime", marked)
    monkeypatch.setattr(os, "link", made)
    caches = [DiskCache(tmp_path / "cache", 10 * SIZE, algorithm="sha1") for _ in range(3)]
    blobs = [blob(number, SIZE) for number in range(40)]
    for _ in range(600):
        if dice.random() < 0.2:
            ahead = dice.choice([-10 * YEAR, -86400.0, -100.0, 0.0, 100.0, 86400.0, 10 * YEAR])
        cache = dice.choice(caches)
        key, data = dice.choice(blobs)
        if dice.random() < 0.5:
            cache.put(key, data)
            assert cache.get(key) == data, "what was put last is not the first to go"
            last = dice.choice([b"one", b"two", b"three"])
            cache.put("a key of all", last)
            assert cache.get("a key of all") == last
        else:
            try:
                assert cache.get(key) == data
            except InvalidDataFound:
                raise
            except NotFoundInStore:
                continue
        assert total_bytes(tmp_path / "cache") <= 10 * SIZE
    written = sum(cache.stats()["written"] or 0 for cache in caches)
    evicted = sum(cache.stats()["evicted"] or 0 for cache in caches)
    assert 0 < evicted <= written, "no storm"
    assert caches[0].prune() == total_bytes(tmp_path / "cache")
