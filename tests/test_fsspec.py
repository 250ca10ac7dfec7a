"""Blobs by digest as pandas, pyarrow, Pillow and zarr open them by fsspec; the disk cache over any of its URLs."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.tests import abstract
from obstore import fsspec as obstore_fsspec

import bitstore.fsspec
from bitstore import (
    DiskCache,
    FileRaw,
    InvalidURI,
    LookupFailed,
    MemoryCache,
    NotFoundInStore,
    Sha1Composite,
    Sha1Store,
    Sha256Composite,
    Sha256Store,
    StoreNotAvailable,
)
from bitstore.config import ConfigError
from bitstore.fsspec import BlobCacheFileSystem, Sha1FileSystem, Sha256FileSystem
from tests.servers import SeaweedS3
from tests.stores import API, Shelf, blobs, sha1
from tests.test_import import run
from tests.waiting import processes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BLOB = random.Random(16).randbytes(300_000)
FRAME = pd.DataFrame({"n": range(1000), "text": [f"row {n}" for n in range(1000)]})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Held:
    """A composite over a folder, in which blobs are put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "held"
        self.folder.mkdir()
        self.store = Sha256Composite()
        self.store.append_cache(DiskCache(folder / "cache"))
        self.store.append_source(Sha256Store(FileRaw(), f"file://{self.folder}/", verify=True))
        self.options: dict[str, Any] = {"store": self.store}

    def put(self, data: bytes) -> str:
        (self.folder / sha256(data)).write_bytes(data)
        return f"sha256://{sha256(data)}"


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


# --- Libraries that read by fsspec ------------------------------------------------------------------------------------


def test_pandas_opens_blobs_by_digest(held: Held) -> None:
    parquet = held.put(FRAME.to_parquet())
    csv = held.put(FRAME.to_csv(index=False).encode())
    for _ in range(2):  # from the folder, and from the cache
        pd.testing.assert_frame_equal(pd.read_parquet(parquet, storage_options=held.options), FRAME)
        pd.testing.assert_frame_equal(pd.read_csv(csv, storage_options=held.options), FRAME)
    assert held.store.stats()["disk:" + str(held.folder.parent / "cache")].hits >= 2
    with pytest.raises(FileNotFoundError, match="missing in"):
        pd.read_csv("sha256://" + "0" * 64, storage_options=held.options)


def test_pyarrow_reads_columns_by_digest(held: Held) -> None:
    digest = held.put(FRAME.to_parquet(row_group_size=100))
    fs = Sha256FileSystem(store=held.store)
    assert pq.read_table(digest.partition("://")[2], filesystem=fs, columns=["n"])["n"].to_pylist() == list(range(1000))
    assert pq.ParquetFile(held.store.open(digest)).read_row_group(3).num_rows == 100
    handler = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs))
    assert handler.get_file_info(digest.partition("://")[2]).size == len(FRAME.to_parquet(row_group_size=100))


def test_pillow_opens_a_picture_by_digest(held: Held) -> None:
    made = io.BytesIO()
    PIL.Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).save(made, "PNG")
    digest = held.put(made.getvalue())
    for file in (held.store.open(digest), fsspec.open(digest, **held.options).open()):
        with file, PIL.Image.open(file) as picture:
            picture.load()
            assert picture.size == (64, 48)


@pytest.mark.filterwarnings("ignore:fs .* was not created with")
def test_zarr_opens_arrays_by_digest(held: Held, tmp_path: Path) -> None:
    array = np.arange(10_000).reshape(100, 100)
    packed = zarr.storage.ZipStore(tmp_path / "array.zip", mode="w")
    zarr.create_array(packed, data=array, chunks=(50, 50))
    packed.close()
    digest = held.put((tmp_path / "array.zip").read_bytes())
    inside = zarr.storage.FsspecStore.from_url(f"zip://::{digest}", storage_options={"sha256": held.options})
    assert np.array_equal(zarr.open_array(inside, mode="r")[20:70, 30:60], array[20:70, 30:60])
    # Each part of an array is a blob of its own.
    zarr.create_array(tmp_path / "array.zarr", data=array, chunks=(50, 50))
    files = [path for path in (tmp_path / "array.zarr").rglob("*") if path.is_file()]
    refs = {str(path.relative_to(tmp_path / "array.zarr")): [held.put(path.read_bytes())] for path in files}
    fs = fsspec.filesystem(
        "reference", fo={"version": 1, "refs": refs}, remote_protocol="sha256", remote_options=held.options
    )
    parts = zarr.open_array(zarr.storage.FsspecStore(fs, path=""), mode="r")
    assert np.array_equal(parts[20:70, 30:60], array[20:70, 30:60])


# --- The file system --------------------------------------------------------------------------------------------------


def test_a_file_of_a_digest_is_read_in_each_way_of_fsspec(held: Held, tmp_path: Path) -> None:
    url = held.put(BLOB)
    digest = url.partition("://")[2]
    fs = fsspec.filesystem("sha256", store=held.store)
    for path in (url, digest, digest.upper(), f"sha256://{digest.upper()}"):
        assert fs.cat_file(path) == fs.cat(path) == fs.open(path).read() == fs.read_bytes(path) == BLOB
        assert fs.info(path) == {"name": digest, "size": len(BLOB), "type": "file", "sha256": digest}
        assert fs.exists(path) and fs.isfile(path) and not fs.isdir(path) and fs.size(path) == len(BLOB)
        assert fs.ukey(path) == digest
    for start, end in ((None, 5), (5, None), (-5, None), (3, -3), (10, 5), (0, 10**9), (10**9, None)):
        assert fs.cat_file(url, start=start, end=end) == BLOB[start:end]
    assert fs.cat_ranges([url, url], [0, 10], [5, 20]) == [BLOB[:5], BLOB[10:20]]
    assert fs.head(url, 7) == BLOB[:7] and fs.tail(url, 7) == BLOB[-7:]
    fs.get_file(url, str(tmp_path / "made" / "file"))
    fs.get([url], str(tmp_path / "made") + "/")
    assert (tmp_path / "made" / "file").read_bytes() == (tmp_path / "made" / digest).read_bytes() == BLOB
    fs.get_file(url, sink := io.BytesIO())
    assert sink.getvalue() == BLOB
    with fsspec.open(held.put(b"a text\n"), "rt", **held.options) as text:
        assert text.read() == "a text\n"
    with fs.open(url) as file:  # of the cache: the file itself
        assert file.size == len(BLOB)
        assert os.path.samestat(os.fstat(file.fileno()), held.store.tiers[0].store.path(digest).stat())  # type: ignore[attr-defined]


def test_many_files_are_one_batch() -> None:
    made = blobs(50)
    store = Sha1Composite()
    store.append_source(Shelf(made))
    calls: list[list[str]] = []

    class Counted(Sha1Composite):
        def get_many(self, uris: Any, **options: Any) -> Any:
            calls.append(list(uris))
            return super().get_many(calls[-1], **options)

    counted = Counted()
    counted.append_source(store)
    fs = Sha1FileSystem(store=counted)
    absent = "0" * 40
    wanted = [*made, *(digest.upper() for digest in made), absent]
    with pytest.raises(NotFoundInStore):
        fs.cat(wanted)
    assert fs.cat(wanted, on_error="omit") == made
    told = fs.cat(wanted, on_error="return")
    assert list(told) == [*made, absent] and isinstance(told.pop(absent), NotFoundInStore) and told == made
    assert [len(call) for call in calls] == [51, 51, 51] and fs.cat([]) == {}
    with pytest.raises(ValueError, match="on_error"):
        fs.cat(wanted, on_error="ignore")


def test_a_failure_is_no_absence_in_any_method(skipped_pauses: object) -> None:
    shelf = Shelf()
    store = Sha1Composite()
    store.append_source(shelf)
    fs = Sha1FileSystem(store=store)
    digest = sha1(BLOB)
    assert not fs.exists(digest) and not fs.isfile(digest)
    asks = (fs.open, fs.info, fs.cat_file, fs.cat, fs.size, fs.ls)
    for ask in asks:
        with pytest.raises(FileNotFoundError):
            ask(digest)
    shelf.fail = ConnectionError("down")
    for ask in (*asks, fs.exists, fs.isfile, fs.lexists, lambda path: fs.cat([path])):
        with pytest.raises(LookupFailed):
            ask(digest)


def test_wrong_bytes_are_no_absence_to_readers_that_fill_gaps(tmp_path: Path) -> None:
    digest = sha1(BLOB)
    (tmp_path / digest).write_bytes(b"wrong")
    fs = Sha1FileSystem(store=Sha1Store(FileRaw(), f"{tmp_path.as_uri()}/", verify=True))
    asks = (fs.open, fs.cat_file, lambda path: fs.cat([path]), lambda path: fs.get_file(path, str(tmp_path / "out")))
    for ask in (*asks, lambda path: fs.get_mapper("").get(path, b"zeros")):
        with pytest.raises(StoreNotAvailable, match="invalid data"):
            ask(digest)
    (error,) = fs.cat_ranges([digest], 0, 3)
    assert isinstance(error, StoreNotAvailable)


@pytest.mark.parametrize("verify", [None, True])
def test_a_blob_of_a_paid_source_is_read_and_paid_for_once(verify: bool | None) -> None:
    packed = io.BytesIO()
    FRAME.to_parquet(packed)
    table, digest = packed.getvalue(), sha1(packed.getvalue())
    reads: list[Callable[[Sha1FileSystem], Any]] = [
        lambda fs: pq.read_table(digest, filesystem=fs),
        lambda fs: (fs.info(digest), fs.open(digest).read()),
        lambda fs: fs.cat_ranges([digest, digest.upper(), f"sha1://{digest}"], [0, 4, None], 8),
    ]
    for read in reads:
        api = API({digest: table})
        store = Sha1Composite()
        store.append_source(api)
        fs = Sha1FileSystem(store=store, verify=verify)
        found = read(fs)
        assert api.calls == [digest]
        assert fs.isfile(digest) and not fs.exists(digest)  # for free
    assert found == [table[:8], table[4:8], table[:8]]
    missing = Sha1FileSystem(store=store).cat_ranges([digest, "0" * 40], 1, 2)
    assert missing[0] == table[1:2] and isinstance(missing[1], FileNotFoundError)
    for bad in ("abc", [digest]):
        with pytest.raises((TypeError, ValueError)):
            fs.cat_ranges(bad, [0, 1], 8)


def test_wrong_bytes_are_never_given_where_they_are_verified() -> None:
    digest = sha1(BLOB)
    wrong = Sha1Composite()
    wrong.append_source(Shelf({digest: b"wrong", sha1(b"right"): b"right"}))
    assert Sha1FileSystem(store=wrong).cat_file(digest) == b"wrong"
    fs = Sha1FileSystem(store=wrong, verify=True)
    for ask in (fs.open, fs.cat_file, fs.cat, lambda path: fs.cat([path]), lambda path: fs.get_file(path, "never")):
        with pytest.raises(StoreNotAvailable):
            ask(digest)
    assert not Path("never").exists()
    assert fs.cat([digest, sha1(b"right")], on_error="omit") == {sha1(b"right"): b"right"}
    cache = MemoryCache()
    cache.put(digest, b"wrong")
    store = Sha1Composite()
    store.append_cache(cache)
    store.append_source(Shelf({digest: BLOB}))
    assert Sha1FileSystem(store=store, verify=True).cat([digest]) == {digest: BLOB} and cache.get(digest) == BLOB


@pytest.mark.parametrize("method", ["ls", "find", "glob", "walk", "du"])
def test_a_listing_is_refused_by_name(held: Held, method: str) -> None:
    fs = Sha256FileSystem(store=held.store)
    with pytest.raises(NotImplementedError, match="no listing"):
        getattr(fs, method)("")
    assert fs.isdir("") and fs.exists("") and not fs.isfile("") and fs.info("")["type"] == "directory"


def test_a_write_is_refused_by_name(held: Held, tmp_path: Path) -> None:
    fs = Sha256FileSystem(store=held.store)
    url = held.put(BLOB)
    (tmp_path / "file").write_bytes(b"")
    writes: list[Callable[[], object]] = [
        lambda: fs.open(url, "wb"), lambda: fs.pipe_file(url, b""), lambda: fs.rm(url), lambda: fs.mkdir("x"),
        lambda: fs.put_file(str(tmp_path / "file"), url), lambda: fs.touch(url), lambda: fs.pipe({url: b"x"}),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(OSError, match="only read"):
            write()
    assert fs.cat_file(url) == BLOB


@pytest.mark.parametrize("path", ["sha256://abc", "sha1://" + "0" * 40, "0" * 40, "sha256://" + "0" * 64 + ".csv", "é"])
def test_a_path_that_is_no_digest_is_named(held: Held, path: str) -> None:
    fs = Sha256FileSystem(store=held.store)
    for ask in (fs.open, fs.info, fs.exists, fs.cat_file, lambda path: fs.cat([path])):
        with pytest.raises(InvalidURI, match="hint: sha256://<sha256>"):
            ask(path)


def test_a_configuration_chooses_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digest = sha256(BLOB)
    with pytest.raises(ConfigError, match="no configuration found"):
        fsspec.filesystem("sha256")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / digest).write_bytes(BLOB)
    for name in ("bitstore.toml", "other.toml"):
        text = f'algorithm = "sha256"\n[[tier]]\nname = "files"\nurl = "file://{tmp_path}/files/"\n'
        (tmp_path / name).write_text(text)
    with fsspec.open(f"sha256://{digest}") as file:
        assert file.read() == BLOB
    fs = fsspec.filesystem("sha256", config="other.toml")
    assert fs.cat_file(digest) == BLOB and fs.store is fsspec.filesystem("sha256", config="other.toml").store
    (tmp_path / "other.toml").write_text((tmp_path / "other.toml").read_text() + "verify = false\n")
    assert fs.store is not fsspec.filesystem("sha256", config="other.toml").store
    with pytest.raises(ValueError, match="sha1:// needs a store of sha1 digests"):
        fsspec.filesystem("sha1")
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        fsspec.filesystem("sha256", config="nowhere.toml")


def test_an_argument_that_is_wrong_is_told(held: Held, tmp_path: Path) -> None:
    for options, error in (
        ({"store": "s3://bucket/"}, TypeError),
        ({"store": Sha256Composite}, TypeError),
        ({"store": Sha1Composite()}, ValueError),
        ({"store": MemoryCache()}, ValueError),
        ({"store": held.store, "config": "x.toml"}, ValueError),
        ({"store": held.store, "verify": "perhaps"}, ValueError),
    ):
        with pytest.raises(error):
            Sha256FileSystem(**options)
    for options, error in (
        ({}, ValueError),
        ({"fs": MemoryFileSystem(), "target_protocol": "memory"}, ValueError),
        ({"fs": MemoryFileSystem(), "cache_storage": DiskCache(tmp_path), "max_size": 1}, ValueError),
        ({"fs": MemoryFileSystem(), "cache_storage": tmp_path, "max_size": "x"}, ValueError),
    ):
        with pytest.raises(error):
            BlobCacheFileSystem(**options)


def test_the_environment_of_fsspec_sets_the_options(held: Held, tmp_path: Path) -> None:
    text = f'algorithm = "sha256"\n[[tier]]\nname = "files"\nurl = "file://{held.folder}/"\n'
    (tmp_path / "x.toml").write_text(text)
    url = held.put(BLOB)
    run(
        f"import bitstore.fsspec, fsspec\nassert len(fsspec.open({url!r}).open().read()) == {len(BLOB)}\n"
        "assert fsspec.filesystem('sha256').verify is True",
        FSSPEC_SHA256_CONFIG=str(tmp_path / "x.toml"),
        FSSPEC_SHA256_VERIFY="true",
    )


def test_two_stores_are_two_file_systems(held: Held, tmp_path: Path) -> None:
    other = pickle.loads(pickle.dumps(held.store))
    assert repr(other) == repr(held.store)
    assert Sha256FileSystem(store=held.store).store is held.store
    assert Sha256FileSystem(store=other).store is other


def test_a_file_system_travels_to_other_processes(held: Held) -> None:
    url = held.put(BLOB)
    fs = Sha256FileSystem(store=held.store)
    for method in ("spawn", "fork"):
        with processes(method, 1) as pool:
            assert pool.apply(fs.cat_file, (url,)) == BLOB


def test_the_extra_is_named_where_fsspec_is_not_installed() -> None:
    run(
        "import sys; sys.modules['fsspec'] = None\n"
        "try:\n    import bitstore.fsspec\n"
        "except ModuleNotFoundError as error:\n"
        "    assert \"pip install 'epic-bitstore[fsspec]'\" in str(error), error\n"
        "else:\n    raise AssertionError"
    )


def test_the_dataset_example_reads_its_epochs_from_the_cache(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "torch_dataset.py"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.splitlines() == [f"epoch {epoch}: 500 samples, 500 blobs in the cache" for epoch in (1, 2)]


def test_an_installation_tells_fsspec_of_the_protocols() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for protocol, value in project["entry-points"]["fsspec.specs"].items():
        cls = getattr(bitstore.fsspec, value.removeprefix("bitstore.fsspec:"))
        assert cls.protocol == protocol and fsspec.get_filesystem_class(protocol) is cls


# --- The disk cache over other file systems ---------------------------------------------------------------------------


class Remote(MemoryFileSystem):  # type: ignore[misc]
    """A file system that counts what is fetched, and that may be down."""

    protocol = "remote"
    cachable = False

    def __init__(self) -> None:
        super().__init__(global_store=False)
        self.fetched: list[str] = []
        self.down: Exception | None = None

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        self.fetched.append(path)
        if self.down is not None:
            raise self.down
        data: bytes = super().cat_file(path, start, end, **options)
        return data

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if self.down is not None:
            raise self.down
        info: dict[str, Any] = super().info(path, **options)
        return info


@pytest.fixture
def remote() -> Remote:
    fs = Remote()
    fs.pipe_file("/a", BLOB)
    return fs


def test_a_file_is_fetched_once_and_again_when_it_has_changed(remote: Remote, tmp_path: Path) -> None:
    fs = BlobCacheFileSystem(fs=remote, cache_storage=tmp_path, max_size="1MB")
    for _ in range(3):
        with fs.open("/a") as file:
            assert file.fileno() and file.size == len(BLOB) and file.read() == BLOB
    assert fs.cat_file("/a", 5, 10) == BLOB[5:10] and fs.cat(["/a"]) == {"/a": BLOB} and remote.fetched == ["/a"]
    assert BlobCacheFileSystem(fs=remote, cache_storage=tmp_path).cat_file("/a") == BLOB and remote.fetched == ["/a"]
    remote.pipe_file("/a", b"newer")
    assert fs.cat_file("/a") == b"newer" and remote.fetched == ["/a", "/a"]
    remote.down = ConnectionError("down")
    with pytest.raises(ConnectionError):
        fs.open("/a")
    with pytest.raises(FileNotFoundError):
        BlobCacheFileSystem(fs=Remote(), cache_storage=tmp_path).open("/none")


class Given(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """One file, whose bytes are an argument, or in a mapping; `broken` ones say nothing."""

    protocol = "given"
    cachable = False

    def __init__(self, data: bytes = b"", fo: dict[str, bytes] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.data = data if fo is None else fo["passwords"]

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        return self.data[start:end]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if self.data == b"broken":
            raise OSError("down")
        if path.endswith("none"):
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.cat_file(path)), "type": "file"}


def test_files_of_one_file_system_are_never_taken_for_those_of_another(tmp_path: Path) -> None:
    wraps: list[Callable[[Any], Any]] = [
        lambda fs: fs,
        lambda fs: DirFileSystem("folder", fs=fs),
        lambda fs: Given(fo={"passwords": fs.data}),
    ]
    read = [
        BlobCacheFileSystem(fs=wrap(Given(data)), cache_storage=tmp_path, check_files=False).cat_file("/a")
        for data in (b"old", b"new")
        for wrap in wraps
    ]
    assert read == [b"old"] * 3 + [b"new"] * 3


def test_exists_of_a_cached_file_system_calls_no_failure_an_absence(tmp_path: Path) -> None:
    down = BlobCacheFileSystem(fs=Given(b"broken"), cache_storage=tmp_path)
    for ask in (down.exists, down.isfile, down.lexists):
        with pytest.raises(StoreNotAvailable, match="down"):
            ask("/a")
    fs = BlobCacheFileSystem(fs=Given(b"up"), cache_storage=tmp_path)
    assert fs.exists("/a") and fs.isfile("/a") and not fs.exists("/none") and not fs.isfile("/none")
    changing = Given(b"up")
    changing.cat_file = lambda path, *_, **__: b"longer"  # type: ignore[method-assign]
    changing.info = lambda path, **_: {"name": path, "size": 2, "ETag": "x"}  # type: ignore[method-assign]
    with pytest.raises(StoreNotAvailable, match="one version") as caught:
        BlobCacheFileSystem(fs=changing, cache_storage=tmp_path).open("http://host/a?X-Amz-Signature=0123456789abcdef")
    assert "0123456789abcdef" not in str(caught.value)


def test_files_that_never_change_are_not_asked_for_again(remote: Remote, tmp_path: Path) -> None:
    fs = BlobCacheFileSystem(fs=remote, cache_storage=tmp_path, check_files=False)
    assert fs.cat_file("/a") == BLOB
    remote.down = ConnectionError("down")
    assert fs.cat_file("/a") == BLOB and remote.fetched == ["/a"]
    with pytest.raises(ConnectionError):
        fs.cat_file("/b")


def test_the_cache_is_bounded_and_checked(remote: Remote, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_size=2 * len(BLOB))
    fs = BlobCacheFileSystem(fs=remote, cache_storage=cache)
    for number in range(5):
        remote.pipe_file(f"/{number}", BLOB[number:])
        assert fs.cat_file(f"/{number}") == BLOB[number:]
    assert 0 < (cache.stats()["bytes"] or 0) <= 2 * len(BLOB)
    (kept,) = [path for path in tmp_path.glob("keys/*/*/*") if path.read_bytes() == BLOB[4:]]
    kept.write_bytes(b"damaged")
    assert fs.cat_file("/4") == BLOB[4:] and remote.fetched.count("/4") == 2
    remote.pipe_file("/large", 3 * BLOB)  # read where it is
    assert fs.open("/large").read() == 3 * BLOB and "/large" not in remote.fetched


def test_a_file_that_changes_while_it_is_fetched_is_not_mixed(tmp_path: Path) -> None:
    class Changing(Remote):
        left = 2

        def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
            data = super().cat_file(path, start, end, **options)
            if self.left:
                self.left -= 1
                self.pipe_file(path, BLOB[self.left :])
            return data

    remote = Changing()
    remote.pipe_file("/a", b"first")
    fs = BlobCacheFileSystem(fs=remote, cache_storage=tmp_path)
    assert fs.cat_file("/a") == BLOB and len(remote.fetched) == 3
    remote.left = 1000
    remote.pipe_file("/a", b"first")
    with pytest.raises(StoreNotAvailable, match="one version"):
        fs.cat_file("/a")


def test_a_cache_that_cannot_keep_is_no_obstacle(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(DiskCache):
        def put(self, uri: str, data: bytes) -> None:
            raise StoreNotAvailable("disk", "full")

    assert BlobCacheFileSystem(fs=remote, cache_storage=Broken(tmp_path)).cat_file("/a") == BLOB
    assert "full" in caplog.text
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    assert BlobCacheFileSystem(fs=remote, cache_storage=DiskCache(tmp_path / "c", 10)).open("/a").read() == BLOB


def test_a_file_without_a_version_is_read_where_it_is(
    remote: Remote, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Plain(Remote):
        def info(self, path: str, **options: Any) -> dict[str, Any]:
            return {"name": path, "size": len(BLOB), "type": "file"}

    plain = Plain()
    plain.pipe_file("/a", BLOB)
    fs = BlobCacheFileSystem(fs=plain, cache_storage=tmp_path / "cache")
    assert fs.open("/a").read() == BLOB and not (tmp_path / "cache").exists() and "no version" in caplog.text


def test_a_chained_url_goes_through_the_cache(s3: SeaweedS3, bucket: str, tmp_path: Path) -> None:
    s3.put(bucket, "table.csv", FRAME.to_csv(index=False).encode())
    (tmp_path / "local.csv").write_bytes(FRAME.to_csv(index=False).encode())
    obstore_fsspec.register("s3")
    own = {"cache_storage": str(tmp_path / "cache"), "max_size": "10MB"}
    service = {
        "endpoint": s3.endpoint_url, "region": "us-east-1", "access_key_id": s3.access_key,
        "secret_access_key": s3.secret_key, "client_options": {"allow_http": True},
    }  # fmt: skip
    cache = DiskCache(tmp_path / "cache")
    for number in (1, 2):
        for url, options in (
            (f"bitstorecache::s3://{bucket}/table.csv", {"s3": service, "bitstorecache": own}),
            (f"bitstorecache::file://{tmp_path}/local.csv", {"bitstorecache": own}),
        ):
            pd.testing.assert_frame_equal(pd.read_csv(url, storage_options=options), FRAME)
        assert cache.verify_all().checked == 2, number
    with pytest.raises(OSError, match="only read"):
        fsspec.open(f"bitstorecache::file://{tmp_path}/new", "wb", bitstorecache=own).open()


def read_many(url: str, options: dict[str, Any], count: int) -> int:
    return sum(len(fsspec.open(f"{url}/{number % 20}", **options).open().read()) for number in range(count))


def test_processes_share_the_cache_and_see_whole_files(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for number in range(20):
        (tmp_path / "files" / str(number)).write_bytes(BLOB[number:])
    options = {"bitstorecache": {"cache_storage": str(tmp_path / "cache"), "max_size": "2MB"}}
    url = f"bitstorecache::file://{tmp_path}/files"
    with processes("spawn", 3) as pool:
        sizes = pool.starmap(read_many, [(url, options, 40)] * 3)
    assert sizes == [2 * sum(len(BLOB) - number for number in range(20))] * 3
    assert DiskCache(tmp_path / "cache", "2MB").verify_all().damaged == 0


class CacheOfFsspec(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self, tmp_path: Path) -> Any:
        return Writable(fs=Remote(), cache_storage=tmp_path / "cache")

    @pytest.fixture
    def fs_path(self) -> str:
        return "/below"


class Writable(BlobCacheFileSystem):
    """Lets fsspec's tests make their files, in the other file system."""

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        self.fs.mkdir(path, create_parents, **options)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.fs.makedirs(path, exist_ok)

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        self.fs.touch(path, truncate, **options)

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self.fs.pipe_file(path, value, **options)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        self.fs.rm(path, recursive, maxdepth)


class TestGetOfFsspec(CacheOfFsspec, abstract.AbstractGetTests):  # type: ignore[misc]
    """fsspec's own tests of `get`."""
