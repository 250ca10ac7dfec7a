"""A disk cache in plain use: keys, names of files, steps, and what its options say."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bitstore._caches import blobs as blob_files
from bitstore._caches.disk import DiskCache
from bitstore._caches.folder import Folder
from bitstore._caches.memory import MemoryCache
from bitstore._lookup.asking import steps_of_exists, steps_of_get, steps_of_put
from bitstore._lookup.run import run
from bitstore.errors import InvalidDataFound, InvalidURI, NotFoundInStore
from bitstore.steps import Call, Found
from tests.disk_helpers import fill
from tests.disk_workers import blob, final_files

AWKWARD = ["a", "A", "s3://b/a b", "../../etc/passwd", "/", ".", "\0\n", "\udcff", "\u00e9" * 5000, "a" * 64,
           "\u0661" * 64, "empty"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return DiskCache(folder, "1MB", algorithm="sha1")


def test_nothing_is_made_before_the_first_write(folder: Path) -> None:
    cache = DiskCache(folder)
    assert not cache.exists("a")
    assert cache.stats()["bytes"] == 0
    with pytest.raises(NotFoundInStore):
        cache.get("a")
    assert cache.verify_all() == (0, 0, 0)
    cache.clear()
    assert not folder.exists()


@pytest.mark.parametrize("options", [{}, {"algorithm": "sha256"}, {"verify": False}], ids=str)
def test_any_text_is_a_key_of_a_disk_cache(folder: Path, options: dict[str, Any]) -> None:
    cache = DiskCache(folder, **options)
    values = {key: b"" if key == "empty" else str(number).encode() for number, key in enumerate(AWKWARD)}
    for key, value in values.items():
        with pytest.raises(NotFoundInStore):
            cache.get(key)
        assert not cache.exists(key)
        cache.put(key, value)
    assert {key: cache.get(key) for key in AWKWARD} == values
    assert all(map(cache.exists, AWKWARD))


@pytest.mark.parametrize("key", ["", None, 5, b"a", ["a"]])
def test_a_key_that_is_no_text_is_an_invalid_uri(cache: DiskCache, key: Any) -> None:
    for each in (cache, MemoryCache()):
        for ask in (each.get, each.exists, each.delete, cache.path, partial(each.put, data=b"")):
            with pytest.raises(InvalidURI):
                ask(key)


def test_put_refuses_data_that_is_not_bytes(cache: DiskCache) -> None:
    for each in (cache, MemoryCache()):
        with pytest.raises(TypeError, match="holds bytes only, not dict"):
            each.put("a", {})  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a_file_is_named_by_its_digest_and_holds_the_blob(folder: Path, algorithm: str, size: int) -> None:
    cache = DiskCache(folder, algorithm=algorithm)
    data = random.Random(1).randbytes(size)
    digest = hashlib.new(algorithm, data).hexdigest()
    with pytest.raises(NotFoundInStore):
        cache.path(digest)
    cache.put(digest, data)
    assert cache.get(digest) == data
    assert cache.path(digest) == folder / algorithm / digest[:3] / digest
    assert cache.path(digest).read_bytes() == data
    assert cache.stats()["bytes"] == size


def test_a_blob_is_read_whole_however_little_a_read_returns(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    key, data = blob(1, 5000)
    cache.put(key, data)
    monkeypatch.setattr(blob_files, "_HUGE", 5000)  # bytes, from which on one read cannot return all
    assert cache.get(key) == data
    monkeypatch.undo()
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: read(fd, max(1, size // 3)))
    assert cache.get(key) == data


@pytest.mark.soak
def test_a_blob_of_more_than_2_gib_is_read_whole(folder: Path) -> None:
    cache = DiskCache(folder, "5GB", algorithm="sha1", verify=False)
    path = fill(cache)[2]
    os.truncate(path, 2**31 + 4097)  # sparse: takes neither time nor disk
    data = cache.get(path.name)
    assert len(data) == 2**31 + 4097
    assert data.endswith(b"\0")


def test_bytes_that_match_no_digest_are_kept_beside_and_checked(cache: DiskCache) -> None:
    cache.put("0" * 40, b"nobody verified this")
    assert cache.get("0" * 40) == b"nobody verified this"
    path = cache.path("0" * 40)
    assert path.read_bytes() == b"nobody verified this"
    assert path.parent.name == "0" * 40 + ".d"
    path.write_bytes(b"nobody verified THIS")
    with pytest.raises(InvalidDataFound):
        cache.get("0" * 40)


def test_bytes_that_match_their_digest_win_over_others(cache: DiskCache) -> None:
    key, data = blob(1, 50)
    cache.put(key, b"wrong")
    cache.put(key, data)
    assert cache.get(key) == data


def test_the_last_value_of_a_key_is_returned(folder: Path) -> None:
    cache = DiskCache(folder)
    for value in (b"one", b"two", b"one", b"three"):
        cache.put("key", value)
        assert cache.get("key") == value
    assert len(final_files(folder)) == 1
    assert cache.stats()["bytes"] == 5
    os.utime(final_files(folder)[0], (2**32, 2**32))  # from before the clock was set back
    cache.put("key", b"four")
    assert cache.get("key") == b"four"
    for number in range(300):  # faster than the clock of the file system ticks
        for value in (b"old %d" % number, b"old %d" % number, b"new"):
            cache.put(str(number), value)
        assert cache.get(str(number)) == b"new"
    assert len(final_files(folder)) == 301


def test_steps_read_small_files_at_once_and_hand_over_large_ones(cache: DiskCache) -> None:
    cache.max_size = 10**7
    small, huge = blob(1, 1 << 20), blob(3, (1 << 20) + 1)
    cache.put(*small)
    with pytest.raises(StopIteration) as end:
        next(steps_of_get(cache, small[0]))
    assert end.value.value == Found(small[1], cache.label)
    run(steps_of_put(cache, *huge))
    assert isinstance(next(steps_of_get(cache, huge[0])), Call)
    assert run(steps_of_get(cache, huge[0])).data == huge[1]
    assert run(steps_of_exists(cache, huge[0]))
    with pytest.raises(NotFoundInStore):
        next(steps_of_get(cache, "0" * 40))


def test_a_subclass_that_overrides_get_is_asked_by_steps(folder: Path) -> None:
    class Counting(DiskCache):
        asked = 0

        def get(self, uri: str) -> bytes:
            self.asked += 1
            return super().get(uri)

    cache = Counting(folder)
    cache.put("a", b"1")
    assert run(steps_of_get(cache, "a")).data == b"1"
    assert cache.asked == 1


def modes(folder: Path) -> set[tuple[bool, int]]:
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.rglob("*")]}


def test_files_and_folders_are_private_whatever_the_umask(cache: DiskCache, folder: Path) -> None:
    old = os.umask(0)
    try:
        path = fill(cache)[2]
        cache.put("x", b"y")
    finally:
        os.umask(old)
    path.write_bytes(b"bad")
    cache.verify_all()
    assert modes(folder) == {(True, 0o700), (False, 0o600)}


def test_a_folder_deleted_during_a_write_is_made_again_and_private(folder: Path) -> None:
    old = os.umask(0)
    try:
        os.close(Folder(str(folder)).open(("sha1", "abc"), create=True))
    finally:
        os.umask(old)
    assert modes(folder) == {(True, 0o700)}


def test_opening_a_cache_lists_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, data, _ = fill(DiskCache(folder, algorithm="sha1"))
    listed: list[Any] = []
    monkeypatch.setattr(os, "scandir", listed.append)
    monkeypatch.setattr(os, "listdir", listed.append)
    assert DiskCache(folder, algorithm="sha1").get(key) == data
    assert not listed


# ---------------------------------------------------------------------- options


def test_a_pickled_copy_has_the_options_and_its_own_counters(cache: DiskCache, folder: Path) -> None:
    assert repr(cache) == f"DiskCache('{folder}', max_size='1MB', algorithm='sha1')"
    assert cache.label == f"disk:{folder}"
    key, data, _ = fill(cache)
    cache.verify = False
    copy = pickle.loads(pickle.dumps(cache))
    assert repr(copy) == repr(cache)
    assert not copy.verify
    assert copy.get(key) == data
    assert copy.stats()["hits"] == 1


def test_folder_and_size_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("BITSTORE_CACHE_DIR", str(folder))
    monkeypatch.setenv("BITSTORE_CACHE_SIZE", "3MiB")
    assert repr(DiskCache()) == f"DiskCache('{folder}', max_size='3MiB')"
    assert DiskCache(max_size="1GB").max_size == 10**9
    monkeypatch.setenv("BITSTORE_CACHE_SIZE", "lots")
    with pytest.raises(ValueError, match="BITSTORE_CACHE_SIZE 'lots' is not a size"):
        DiskCache()


def test_the_default_folder_is_the_cache_folder_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BITSTORE_CACHE_SIZE", raising=False)
    monkeypatch.delenv("BITSTORE_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert DiskCache().max_size == 10**10
    assert tmp_path in DiskCache().folder.parents


def test_a_relative_folder_is_fixed_when_the_cache_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    cache = DiskCache("here")
    monkeypatch.chdir("/")
    cache.put("a", b"1")
    assert (tmp_path / "here" / "keys").is_dir()


@pytest.mark.parametrize(
    "options", [{"max_size": "many"}, {"max_size": 0}, {"max_blob_size": "x"}, {"algorithm": "sha3"}]
)
def test_an_invalid_option_of_a_disk_cache_is_named(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        DiskCache(folder, **options)


def test_a_file_is_refused_as_the_folder_of_a_cache(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"file' is a file"):
        DiskCache(file)
    with pytest.raises(NotADirectoryError, match="a part of its path is a file"):
        DiskCache(file / "below")


@pytest.mark.parametrize("name", ["", "a\0b", b"bytes"])
def test_a_folder_name_that_is_no_path_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        DiskCache(name)


def test_a_disk_cache_holds_one_algorithm_only(folder: Path) -> None:
    cache = DiskCache(folder)
    cache.use_algorithm("sha1")
    cache.use_algorithm("sha1")
    with pytest.raises(ValueError, match="holds sha1 digests"):
        cache.use_algorithm("md5")
    with pytest.raises(ValueError, match="unknown digest algorithm 'crc'"):
        DiskCache(folder).use_algorithm("crc")
