from __future__ import annotations

import contextlib
import hashlib
import logging
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore._caches import folder as folders
from bitstore._caches.disk import DiskCache
from bitstore._caches.draft import Draft
from bitstore._caches.folder import Folder
from bitstore._lookup.asking import steps_of_exists, steps_of_get, steps_of_put
from bitstore._lookup.run import run
from bitstore.errors import AccessDenied, InvalidDataFound, InvalidURI, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Call, Found
from tests.disk_workers import blob, churn, final_files, total_bytes

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return DiskCache(folder, "1MB", algorithm="sha1")


def fill(cache: DiskCache, number: int = 0, size: int = 1000) -> tuple[str, bytes, Path]:
    key, data = blob(number, size)
    cache.put(key, data)
    return key, data, cache.path(key)


def in_child(function: Callable[[], None]) -> None:
    """Run `function` in a forked child; fails if it does, or takes more than a minute."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- plain use


def test_miss_hit_empty_and_awkward_keys(folder: Path) -> None:
    for cache in (DiskCache(folder), DiskCache(folder, algorithm="sha256"), DiskCache(folder, verify=False)):
        keys = [
            "a",
            "A",
            "s3://b/a b",
            "../../etc/passwd",
            "/",
            ".",
            "\0\n",
            "\udcff",
            "\u00e9" * 5000,
            "a" * 64,
            "\u0661" * 64,
        ]
        for number, key in enumerate(keys):
            with pytest.raises(NotFoundInStore):
                cache.get(key)
            assert not cache.exists(key)
            cache.put(key, str(number).encode())
        for number, key in enumerate(keys):
            assert cache.get(key) == str(number).encode()
            assert cache.exists(key)
        cache.put("empty", b"")
        assert cache.get("empty") == b""
        cache.clear()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_files_are_named_by_digest(folder: Path, algorithm: str) -> None:
    cache = DiskCache(folder, algorithm=algorithm)
    for data in (b"", b"x", random.Random(1).randbytes(3_000_000)):
        digest = hashlib.new(algorithm, data).hexdigest()
        with pytest.raises(NotFoundInStore):
            cache.path(digest)
        cache.put(digest, data)
        assert cache.get(digest) == data
        assert cache.path(digest) == folder / algorithm / digest[:3] / digest
        assert cache.path(digest).read_bytes() == data
    assert cache.stats()["bytes"] == 3_000_001


@pytest.mark.parametrize("key", ["", None, 5, b"a", ["a"]])
def test_bad_keys(cache: DiskCache, key: Any) -> None:
    for ask in (cache.get, cache.exists, cache.path, cache.delete, lambda key: cache.put(key, b"")):
        with pytest.raises(InvalidURI):
            ask(key)


def test_only_bytes(cache: DiskCache) -> None:
    with pytest.raises(TypeError, match="holds bytes only, not dict"):
        cache.put("a", {})  # type: ignore[arg-type]


def test_steps_read_small_files_at_once_and_hand_over_large_ones(cache: DiskCache) -> None:
    cache.max_size = 10**7
    small = blob(1, 1 << 20)
    cache.put(*small)
    assert run(steps_of_get(cache, small[0])).data == small[1]
    with pytest.raises(StopIteration) as end:
        next(steps_of_get(cache, small[0]))
    assert end.value.value == Found(small[1], cache.label)
    huge = blob(3, (1 << 20) + 1)
    run(steps_of_put(cache, *huge))
    assert isinstance(next(steps_of_get(cache, huge[0])), Call)
    assert run(steps_of_get(cache, huge[0])).data == huge[1]
    assert run(steps_of_exists(cache, huge[0]))
    with pytest.raises(NotFoundInStore):
        next(steps_of_get(cache, "0" * 40))


def test_subclass_that_overrides_get_is_asked(folder: Path) -> None:
    class Counting(DiskCache):
        asked = 0

        def get(self, uri: str) -> bytes:
            self.asked += 1
            return super().get(uri)

    cache = Counting(folder)
    cache.put("a", b"1")
    assert run(steps_of_get(cache, "a")).data == b"1"
    assert cache.asked == 1


def test_bytes_that_match_no_digest_are_kept_and_checked(cache: DiskCache) -> None:
    cache.put("0" * 40, b"nobody verified this")
    assert cache.get("0" * 40) == b"nobody verified this"
    path = cache.path("0" * 40)
    assert path.read_bytes() == b"nobody verified this"
    assert path.parent.name == "0" * 40 + ".d"
    path.write_bytes(b"nobody verified THIS")
    with pytest.raises(InvalidDataFound):
        cache.get("0" * 40)
    key, data = blob(1, 50)
    cache.put(key, b"wrong")
    cache.put(key, data)
    assert cache.get(key) == data, "the right bytes win"


def test_the_last_value_of_a_key_counts(folder: Path) -> None:
    cache = DiskCache(folder)
    for value in (b"one", b"two", b"one", b"three"):
        cache.put("key", value)
        assert cache.get("key") == value
    assert len(final_files(folder)) == 1
    assert cache.stats()["bytes"] == 5
    os.utime(final_files(folder)[0], (2**32, 2**32))  # from before the clock was set back
    cache.put("key", b"four")
    assert cache.get("key") == b"four"


def test_private_permissions(cache: DiskCache, folder: Path) -> None:
    old = os.umask(0)
    try:
        path = fill(cache)[2]
        cache.put("x", b"y")
    finally:
        os.umask(old)
    path.write_bytes(b"bad")
    cache.verify_all()
    for entry in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(entry.stat().st_mode) == (0o700 if entry.is_dir() else 0o600), entry


def test_a_folder_that_goes_while_something_is_written_is_made_private_again(folder: Path) -> None:
    old = os.umask(0)
    try:
        os.close(Folder(str(folder)).open(("sha1", "abc"), create=True))
    finally:
        os.umask(old)
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in [folder, *folder.rglob("*")]} == {0o700}


@pytest.mark.parametrize("years", [-1, 1], ids=["long ago", "from before the clock was set back"])
def test_the_draft_of_a_writer_of_another_machine_is_taken_back(cache: DiskCache, folder: Path, years: int) -> None:
    """Nobody can ask whether it lives: it is judged by its time, which may lie in the future."""
    fill(cache)
    draft = folder / "tmp" / "0123456789ab.1.0123456789abcdef.0.1000"
    draft.write_bytes(b"x" * 1000)
    cache.prune()
    assert draft.exists()  # just written, so somebody may be at it
    then = time.time() + years * 365 * 86400
    os.utime(draft, (then, then))
    cache.prune()
    assert not draft.exists()


def test_nothing_is_made_before_the_first_write(folder: Path) -> None:
    cache = DiskCache(folder)
    assert not cache.exists("a")
    assert cache.stats()["bytes"] == 0
    with pytest.raises(NotFoundInStore):
        cache.get("a")
    assert cache.verify_all() == (0, 0, 0)
    cache.clear()
    assert not folder.exists()


def test_more_than_2_gib(folder: Path) -> None:
    cache = DiskCache(folder, "5GB", algorithm="sha1", verify=False)
    path = fill(cache)[2]
    os.truncate(path, 2**31 + 4097)  # sparse: takes neither time nor disk
    data = cache.get(path.name)
    assert len(data) == 2**31 + 4097
    assert data.endswith(b"\0")


# -- configuration


def test_repr_label_and_pickle(cache: DiskCache, folder: Path) -> None:
    assert repr(cache) == f"DiskCache('{folder}', max_size='1MB', algorithm='sha1')"
    assert cache.label == f"disk:{folder}"
    key, data, _ = fill(cache)
    cache.verify = False
    copy = pickle.loads(pickle.dumps(cache))
    assert repr(copy) == repr(cache)
    assert not copy.verify
    assert copy.get(key) == data
    assert copy.stats()["hits"] == 1, "counters are not copied"


def test_defaults_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("BITSTORE_CACHE_DIR", str(folder))
    monkeypatch.setenv("BITSTORE_CACHE_SIZE", "3MiB")
    assert repr(DiskCache()) == f"DiskCache('{folder}', max_size='3MiB')"
    assert DiskCache(max_size="1GB").max_size == 10**9
    monkeypatch.setenv("BITSTORE_CACHE_SIZE", "lots")
    with pytest.raises(ValueError, match="BITSTORE_CACHE_SIZE 'lots' is not a size"):
        DiskCache()
    monkeypatch.delenv("BITSTORE_CACHE_SIZE")
    monkeypatch.delenv("BITSTORE_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert DiskCache().max_size == 10**10
    assert tmp_path in DiskCache().folder.parents


def test_a_relative_folder_stays_where_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    cache = DiskCache("here")
    monkeypatch.chdir("/")
    cache.put("a", b"1")
    assert (tmp_path / "here" / "keys").is_dir()


@pytest.mark.parametrize(
    "options", [{"max_size": "many"}, {"max_size": 0}, {"max_blob_size": "x"}, {"algorithm": "sha3"}]
)
def test_bad_options(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        DiskCache(folder, **options)


def test_bad_folders(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"file' is a file"):
        DiskCache(file)
    with pytest.raises(NotADirectoryError, match="a part of its path is a file"):
        DiskCache(file / "below")
    for name in ("", "a\0b", b"bytes"):
        with pytest.raises(ValueError, match="is not a path"):
            DiskCache(name)  # type: ignore[arg-type]


def test_one_cache_one_algorithm(folder: Path) -> None:
    cache = DiskCache(folder)
    cache.use_algorithm("sha1")
    cache.use_algorithm("sha1")
    with pytest.raises(ValueError, match="holds sha1 digests"):
        cache.use_algorithm("md5")
    with pytest.raises(ValueError, match="unknown digest algorithm 'crc'"):
        DiskCache(folder).use_algorithm("crc")


def test_foreign_owner_is_refused_unless_allowed(folder: Path) -> None:
    cache = DiskCache(folder)
    cache.put("a", b"1")
    packed = pickle.dumps(cache)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, -1)
        foreign: Path = folder
    else:
        foreign = Path("/usr")
    with pytest.raises(AccessDenied, match="allow_foreign_owner=True"):
        DiskCache(foreign)
    DiskCache(foreign, allow_foreign_owner=True)
    if foreign == folder:
        late = pickle.loads(packed)  # unpickling on another machine must not fail; using it must
        for use in (late.get, late.exists, lambda key: late.put(key, b"")):
            with pytest.raises(StoreNotAvailable, match="allow_foreign_owner=True"):
                use("a")


# -- damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


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
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("damage", [flip, truncate, by_link, by_folder, by_pipe, by_socket])
def test_damage_is_noticed_put_aside_and_healed(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(tmp_path / "cache", "1MB", algorithm="sha1")
    key, data, path = fill(cache)
    damage(path)
    with caplog.at_level(logging.WARNING, "bitstore"), pytest.raises(InvalidDataFound, match="was damaged"):
        cache.get(key)
    assert len(caplog.records) == 1
    assert not os.path.lexists(path)
    assert len(list((tmp_path / "cache" / "quarantine").iterdir())) == 1
    with pytest.raises(NotFoundInStore) as error:
        cache.get(key)
    assert not isinstance(error.value, InvalidDataFound)
    cache.put(key, data)
    assert cache.get(key) == data
    assert cache.stats()["damaged"] == 1
    if damage is not by_folder:
        cache.clear()
        assert not list((tmp_path / "cache" / "quarantine").iterdir())
    if damage is by_link:
        assert (tmp_path / "outside").read_bytes() == data
    if damage is flip:
        assert cache.stats()["bytes"] == 0


def test_path_and_verify_all_notice_damage_too(cache: DiskCache) -> None:
    key, _, path = fill(cache, 1)
    fill(cache, 2)
    cache.put("k", b"v")
    flip(path)
    assert cache.path(key, verify=False) == path
    with pytest.raises(InvalidDataFound):
        cache.path(key)
    flip(fill(cache, 3)[2])
    flip(cache.path("k"))
    assert cache.verify_all() == (3, 2, 1000)
    assert cache.verify_all() == (1, 0, 1000)


def test_without_verify_the_bytes_are_as_they_are(cache: DiskCache) -> None:
    key, data, path = fill(cache)
    flip(path)
    cache.verify = False
    assert cache.get(key) != data
    cache.verify = True
    with pytest.raises(InvalidDataFound):
        cache.get(key)


def test_put_replaces_what_is_plainly_damaged(cache: DiskCache) -> None:
    for damage in (truncate, by_pipe):
        key, data, path = fill(cache)
        damage(path)
        cache.put(key, data)
        assert cache.get(key) == data


def test_quarantine_is_bounded(folder: Path) -> None:
    cache = DiskCache(folder, 640_000, algorithm="sha1")
    for number in range(20):
        flip(fill(cache, number, 1000)[2])
        cache.verify_all()
    kept = sorted((folder / "quarantine").iterdir())
    assert len(kept) == 8
    assert kept[-1].name.endswith(blob(19, 1000)[0]), "the last ones stay"
    flip(fill(cache, 50, 9000)[2])
    cache.verify_all()
    assert sum(path.stat().st_size for path in (folder / "quarantine").iterdir()) <= 10_000
    assert cache.stats()["bytes"] == total_bytes(folder) == 0


def test_a_newer_good_file_is_not_put_aside_for_the_old_bad_one(cache: DiskCache) -> None:
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


# -- the bound


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_least_recently_used_goes_first(folder: Path) -> None:
    cache = DiskCache(folder, 10_000, algorithm="sha1")
    blobs = [fill(cache, number) for number in range(10)]
    for number, (_, _, path) in enumerate(blobs):
        age(path, 1000 - number)
    cache.get(blobs[0][0])
    cache.get(blobs[2][0])
    for number in range(10, 13):
        fill(cache, number)
    assert [number for number in range(10) if cache.exists(blobs[number][0])] == [0, 2, 5, 6, 7, 8, 9]
    cache.get(blobs[5][0])  # used after the eviction has looked for what is old
    fill(cache, 13)
    assert [number for number in range(10) if cache.exists(blobs[number][0])] == [0, 2, 5, 7, 8, 9]
    assert cache.stats()["evicted"] == 4
    assert cache.stats()["bytes"] == 10_000


def test_a_large_cache_evicts_a_little_ahead(folder: Path) -> None:
    size, bound = 1 << 15, 1 << 26
    cache = DiskCache(folder, bound, algorithm="sha1")
    for number in range(bound // size + 200):
        fill(cache, number, size)
        assert number % 50 or total_bytes(folder) <= bound
    stats = cache.stats()
    assert stats["bytes"] == total_bytes(folder)
    assert bound - 3 * size <= total_bytes(folder) <= bound, "not much more than needed"
    assert stats["evicted_bytes"] == size * (bound // size + 200) - total_bytes(folder)
    assert stats["evicted"] == (stats["evicted_bytes"] or 0) // size
    assert stats["skipped"] == 0


def test_a_fork_closes_no_descriptor_of_its_parent(
    cache: DiskCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_all(cache, folder, monkeypatch)
    key, data, _ = fill(cache)

    def use() -> None:
        os.closerange(3, 200)  # as daemons do; others may get these numbers then
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
        cache.put(*blob(400, 1000))
        assert cache.get(key) == data
        for other in others:
            os.fstat(other)

    in_child(use)
    assert kept_open(folder) >= 4
    cache.put(*blob(401, 1000))
    assert cache.stats()["bytes"] == total_bytes(folder)


def test_files_from_the_future_are_old(folder: Path) -> None:
    cache = DiskCache(folder, 2000, algorithm="sha1")
    future, present = fill(cache, 1), fill(cache, 2)
    age(future[2], -(10**6))
    fill(cache, 3)
    assert not cache.exists(future[0])
    assert cache.exists(present[0])


def test_reading_marks_use_but_not_each_time(cache: DiskCache) -> None:
    key, _, path = fill(cache)
    before = path.stat().st_mtime_ns
    cache.get(key)
    assert path.stat().st_mtime_ns == before
    age(path, 100)
    cache.get(key)
    assert time.time() - path.stat().st_mtime < 60


def test_too_large_is_skipped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(folder, 1000, max_blob_size=100)
    for size in (101, 5000):
        cache.put("a", bytes(size))
        assert not cache.exists("a")
    cache.put("a", bytes(100))
    assert cache.get("a") == bytes(100)
    assert cache.stats()["skipped"] == 2
    assert len(caplog.records) == 1


def test_reservations_of_others_leave_no_room(folder: Path) -> None:
    cache = DiskCache(folder, 1000)
    blobs = cache._blobs()
    others = Draft(Folder(str(folder)), 700)  # another writer, in the middle of its work
    cache.put("a", bytes(300))
    blobs.bound.ledger.reserve(700)
    cache.put("b", bytes(400))
    assert not cache.exists("b")
    assert cache.stats()["skipped"] == 1
    epoch = blobs.bound.ledger.epoch
    others.discard()
    blobs.bound.ledger.release(700, epoch)
    cache.put("b", bytes(1000))
    assert len(cache.get("b")) == 1000


def test_a_lost_ledger_is_counted_anew_at_the_first_write(folder: Path) -> None:
    cache = DiskCache(folder, 10_000, algorithm="sha1")
    for number in range(10):
        fill(cache, number)
    shutil.rmtree(folder / "ledger")
    assert cache.stats()["bytes"] is None
    assert cache.get(blob(0, 1000)[0])
    assert not (folder / "ledger").exists()
    fill(cache, 11)
    assert cache.stats()["bytes"] == total_bytes(folder) == 10_000


def test_what_a_killed_writer_leaves_is_taken_back(folder: Path) -> None:
    cache = DiskCache(folder, 10_000, algorithm="sha1")
    fill(cache)

    def die() -> None:
        draft = Draft(Folder(str(folder)), 5000)
        cache._blobs().bound.ledger.reserve(5000)
        draft.write(bytes(2000))

    in_child(die)
    assert cache.stats()["bytes"] == 6000
    again = DiskCache(folder, 10_000, algorithm="sha1")
    fill(again, 1)
    assert again.stats()["bytes"] == 2000
    assert not list((folder / "tmp").iterdir())


def test_drafts_of_writers_that_live_or_cannot_be_asked_stay_for_a_while(folder: Path) -> None:
    fill(DiskCache(folder, 10_000, algorithm="sha1"))
    draft = Draft(Folder(str(folder)), 5)
    foreign = folder / "tmp" / "0123456789ab.1.aaaaaaaaaaaa.0.7"
    foreign.write_bytes(b"1234567")
    other = folder / "tmp" / "README"
    other.write_bytes(b"not ours")
    fill(DiskCache(folder, 10_000, algorithm="sha1"), 1)
    assert len(list((folder / "tmp").iterdir())) == 3
    age(foreign, 4000)
    fill(DiskCache(folder, 10_000, algorithm="sha1"), 2)
    assert not foreign.exists()
    assert other.exists()
    assert draft.discard()


def test_prune_counts_and_evicts(folder: Path) -> None:
    cache = DiskCache(folder, 100_000, algorithm="sha1")
    paths = [fill(cache, number)[2] for number in range(20)]
    paths[3].unlink()  # by hand
    shutil.rmtree(paths[4].parent)
    assert cache.stats()["bytes"] == 20_000
    assert cache.prune() == total_bytes(folder) == 18_000
    by_hand = folder / "sha1" / "abc"
    by_hand.mkdir(exist_ok=True)
    (by_hand / ("abc" + "0" * 37)).write_bytes(bytes(2000))
    assert cache.prune() == 20_000
    assert cache.prune("5kB") == total_bytes(folder) == 5000
    assert cache.prune(0) == total_bytes(folder) == 0
    with pytest.raises(ValueError, match="max_size 'half' is not a size"):
        cache.prune("half")


def test_delete_and_clear(cache: DiskCache, folder: Path) -> None:
    key = fill(cache)[0]
    cache.put("x", b"12")
    assert cache.delete(key)
    assert not cache.delete(key)
    assert cache.delete("x")
    assert cache.stats()["bytes"] == total_bytes(folder) == 0
    for number in range(30):
        fill(cache, number)
    cache.clear()
    assert cache.stats()["bytes"] == total_bytes(folder) == 0
    fill(cache)


def test_two_writers_of_one_blob_count_once(cache: DiskCache, folder: Path) -> None:
    key, data = blob(1, 1000)
    link = os.link

    def late(*args: Any, **options: Any) -> None:
        if args[1] == key:
            os.link = link
            DiskCache(folder, "1MB", algorithm="sha1").put(key, data)
        link(*args, **options)

    os.link = late
    try:
        cache.put(key, data)
    finally:
        os.link = link
    assert cache.stats()["bytes"] == total_bytes(folder) == 1000
    assert cache.stats()["present"] == 1


# -- many processes


def stopped_total(folder: Path, workers: list[Any]) -> int:
    """The bytes at one moment: no worker moves while they are added up."""
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        return total_bytes(folder)
    finally:
        for worker in workers:
            os.kill(worker.pid, signal.SIGCONT)


@pytest.mark.parametrize(("max_size", "largest"), [(400_000, 30_000), (1_000_000, 600_000)], ids=["small", "few big"])
def test_the_bound_holds_at_every_moment(folder: Path, max_size: int, largest: int) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = [
        context.Process(target=churn, args=(str(folder), max_size, seed, largest, stop), daemon=True)
        for seed in range(4)
    ]
    for worker in workers:
        worker.start()
    seen: list[int] = []
    while len(seen) < 150:
        seen.append(stopped_total(folder, workers))
        if not seen[-1]:
            seen.pop()
        stop.wait(0.01)
    stop.set()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert max(seen) <= max_size
    assert max(seen) > max_size // 2, "and it is made use of"
    assert not list((folder / "tmp").iterdir())
    cache = DiskCache(folder, max_size, algorithm="sha1")
    known = cache.stats()["bytes"]
    held = total_bytes(folder)
    assert known is not None
    assert known >= held
    assert cache.verify_all().damaged == 0
    assert cache.prune() == held


@pytest.mark.parametrize(
    ("what", "how"),
    [("put", "torn"), ("replace", "whole"), ("heal", "whole"), ("prune", "whole"), ("clear", "whole")],
)
def test_killed_at_every_file_operation(folder: Path, what: str, how: str) -> None:
    command = [sys.executable, "-m", "tests.disk_workers", str(folder), what, how]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50, "it was killed at many places"


def test_fork_while_threads_hold_every_lock(cache: DiskCache) -> None:
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


def test_no_descriptor_is_left(folder: Path) -> None:
    at_first = len(os.listdir("/dev/fd"))
    cache = DiskCache(folder, "1MB", algorithm="sha1")
    for number in range(1000, 1100):
        fill(cache, number)
    before = len(os.listdir("/dev/fd"))
    assert before == at_first + 2, "who writes much keeps the ledger open, and nothing else"
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
    assert len(os.listdir("/dev/fd")) == before
    del cache
    assert len(os.listdir("/dev/fd")) == at_first


# -- disk trouble


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can reach, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="bitstore-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_read_only_folder_reads(public: Path) -> None:
    cache = DiskCache(public / "cache", "1MB", algorithm="sha1")
    key, data, path = fill(cache)
    bad, _, bad_path = fill(cache, 1)
    flip(bad_path)
    age(path, 1000)
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    for entry in [*(public / "cache").rglob("*"), public / "cache"]:
        os.chown(entry, user, -1)
        entry.chmod(0o500 if entry.is_dir() else 0o400)

    def use() -> None:
        if os.geteuid() != user:
            os.setuid(user)
        fresh = DiskCache(public / "cache", "1MB", algorithm="sha1")
        assert fresh.get(key) == data
        with pytest.raises(InvalidDataFound):
            fresh.get(bad)
        for _ in range(2):
            with pytest.raises(StoreNotAvailable, match=r"cannot write: .*Permission denied"):
                fresh.put(*blob(2, 100))
        with pytest.raises(NotFoundInStore):
            fresh.get("0" * 40)
        assert fresh.stats()["write_errors"] == 2
        path.chmod(0)
        with pytest.raises(StoreNotAvailable, match=r"cannot read: .*Permission denied"):
            fresh.get(key)
        (public / "cache" / "sha1").chmod(0)
        with pytest.raises(StoreNotAvailable, match=r"cannot read: .*Permission denied"):
            fresh.get(key)
        with pytest.raises(StoreNotAvailable):
            fresh.exists(key)
        (public / "cache" / "sha1").chmod(0o500)

    try:
        in_child(use)
    finally:
        for entry in [public / "cache", *(public / "cache").rglob("*")]:
            entry.chmod(0o700)


def test_a_full_disk_takes_nothing_and_loses_nothing(folder: Path) -> None:
    cache = DiskCache(folder, "1MB", algorithm="sha1")
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


def keep_all(cache: DiskCache, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the cache hold its descriptors, as it does when it has written much into a folder of some age."""
    monkeypatch.setattr(folders, "_SETTLED_NS", 30 * 10**6)
    cache.put("a key", b"")
    for number in range(200, 300):
        fill(cache, number)
    while kept_open(folder) < 4:
        time.sleep(0.01)  # until the clock of the file system has gone on
        fill(cache, 300)
        cache.delete(blob(300, 1000)[0])


def kept_open(folder: Path) -> int:
    """How many descriptors of folders and ledgers this process has open there."""
    targets = (os.path.realpath(f"/dev/fd/{name}") for name in os.listdir("/dev/fd"))
    return sum(target.startswith(f"{folder.resolve()}/") for target in targets)


@pytest.mark.parametrize("kept", [False, True], ids=["", "kept open"])
def test_the_folder_is_deleted_under_us(
    cache: DiskCache, folder: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept:
        keep_all(cache, folder, monkeypatch)
        cache.clear()
    key, data, _ = fill(cache)
    for gone in ("sha1", "tmp", "ledger", ""):
        shutil.rmtree(folder / gone)
        if gone in ("sha1", ""):
            with pytest.raises(NotFoundInStore):
                cache.get(key)
        cache.put(key, data)
        assert cache.get(key) == data
    assert cache.prune() == 1000


@pytest.mark.parametrize("kept", [False, True], ids=["", "kept open"])
@pytest.mark.parametrize("inner", ["sha1", "tmp", "ledger", "quarantine", "fan"])
def test_nothing_is_touched_through_a_link(
    cache: DiskCache, folder: Path, tmp_path: Path, inner: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept:
        keep_all(cache, folder, monkeypatch)
    key, data, path = fill(cache)
    flip(path)
    cache.verify_all()
    cache.put(key, data)
    link = path.parent if inner == "fan" else folder / inner
    outside = tmp_path / "outside"
    link.rename(outside)
    link.symlink_to(outside)
    precious = outside / ("abc" + "0" * 37)
    precious.write_bytes(b"precious")
    before = {entry: entry.stat().st_mtime_ns for entry in outside.rglob("*") if entry.is_file()}
    calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
        (cache.put, (key, data)),
        (cache.get, (key,)),
        (cache.put, (key, b"other")),
        *((cache.put, blob(number, 90_000)) for number in range(20)),
        (cache.delete, (key,)),
        (cache.verify_all, ()),
        (cache.prune, (100,)),
        (cache.clear, ()),
    ]
    for function, args in calls:
        # What cannot be done without following the link fails; the rest goes on.
        with contextlib.suppress(StoreNotAvailable):
            function(*args)
    assert {entry: entry.stat().st_mtime_ns for entry in outside.rglob("*") if entry.is_file()} == before


def test_opening_does_not_look_at_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, data, _ = fill(DiskCache(folder, algorithm="sha1"))
    listed: list[Any] = []
    monkeypatch.setattr(os, "scandir", listed.append)
    monkeypatch.setattr(os, "listdir", listed.append)
    cache = DiskCache(folder, algorithm="sha1")
    assert cache.get(key) == data
    assert not listed


def test_descriptors_that_somebody_closed_are_opened_anew(
    cache: DiskCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_all(cache, folder, monkeypatch)

    def use() -> None:
        for number in range(500, 570):
            fill(cache, number)
        time.sleep(0.05)  # the folder must be of some age
        fill(cache, 570)
        assert kept_open(folder) >= 4
        os.closerange(3, 200)
        for number in range(571, 575):
            with contextlib.suppress(StoreNotAvailable):
                cache.put(*blob(number, 1000))
        assert cache.get(blob(574, 1000)[0]) == blob(574, 1000)[1]
        assert cache.stats()["bytes"] == total_bytes(folder)

    in_child(use)


@pytest.mark.parametrize("inner", ["sha1", "tmp"])
def test_a_folder_that_is_kept_open_is_given_up_when_it_is_replaced(
    cache: DiskCache, folder: Path, tmp_path: Path, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_all(cache, folder, monkeypatch)
    key, data = blob(600, 1000)
    (folder / "sha1" / key[:3]).mkdir(exist_ok=True)
    outside = tmp_path / "outside"
    (folder / inner).rename(outside)
    (folder / inner).symlink_to(outside)
    before = {path: path.lstat().st_mtime_ns for path in [outside, *outside.rglob("*")]}
    with pytest.raises(StoreNotAvailable):
        cache.put(key, data)
    assert {path: path.lstat().st_mtime_ns for path in [outside, *outside.rglob("*")]} == before
