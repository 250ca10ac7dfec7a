"""FileRaw on a real file system."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bitstore import Sha1Cache, Sha1Store
from bitstore._lookup.asking import steps_of_get, steps_of_put
from bitstore._lookup.run import run
from bitstore._raw.file import FileRaw
from bitstore.errors import AccessDenied, InvalidURI, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Call, Write
from tests.stores import composed


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 5_000_000])
def test_a_put_makes_the_folders_and_leaves_one_plain_file(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "new" / "folders" / "blob", os.urandom(size)
    FileRaw().put(path.as_uri(), data)
    assert path.read_bytes() == FileRaw().get(path.as_uri()) == data
    assert os.listdir(path.parent) == ["blob"]
    assert not path.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize(
    "name", ["a b", "100%", "%41", "what?x=1", "frag#ment", "quo\"te'", "ünïcödé-日本", "a;b", "tab\t", "~"]
)
def test_files_with_awkward_names_are_read(tmp_path: Path, name: str) -> None:
    store, path = FileRaw(), tmp_path / name
    path.write_bytes(b"x")
    assert store.get(path.as_uri()) == b"x"
    if "%" not in name:
        assert store.get(f"file://{tmp_path}/{name}") == b"x"
        assert store.get(f"file://localhost{tmp_path}/{name}") == b"x"


def test_a_name_that_is_not_utf8_is_written_and_read(tmp_path: Path) -> None:
    uri = f"{tmp_path.as_uri()}/%FF%FE"
    FileRaw().put(uri, b"x")
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff\xfe"]
    assert FileRaw().get(uri) == b"x"


def test_a_path_below_a_file_or_a_dangling_link_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    for path, reason in (("file/below", "there is no folder"), ("link/some/where/below", "which is not there")):
        for operation in (FileRaw().get, FileRaw().exists, FileRaw(root=tmp_path).get):
            with pytest.raises(StoreNotAvailable, match=reason):
                operation(f"{tmp_path.as_uri()}/{path}")
    with pytest.raises(NotFoundInStore):
        FileRaw(missing_folder="missing").get(f"{tmp_path.as_uri()}/file/below")
    with pytest.raises(StoreNotAvailable):
        FileRaw().put(f"{tmp_path.as_uri()}/file/below", b"y")


def test_a_folder_pipe_or_loop_in_place_of_a_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder", "folder/", "pipe", "loop", "n" * 300):
        uri = f"{tmp_path.as_uri()}/{name}"
        for operation in (FileRaw().get, FileRaw().exists):
            with pytest.raises(StoreNotAvailable):
                operation(uri)
    for name in ("folder", "folder/", "n" * 300):
        with pytest.raises(StoreNotAvailable):
            FileRaw().put(f"{tmp_path.as_uri()}/{name}", b"x")
    assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "pipe"]


def test_a_file_without_read_permission_is_access_denied(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(b"x")
    secret.chmod(0)
    code = f"""
import os
from bitstore.errors import AccessDenied
from bitstore._raw.file import FileRaw
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for operation in (FileRaw().get, FileRaw().exists, lambda uri: FileRaw().put(uri, b"y")):
    try:
        operation("{(secret / "file").as_uri()}")
    except AccessDenied as error:
        assert "Permission denied" in str(error), error
    else:
        raise AssertionError(operation)
"""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    # As root the child gives up its rights before it looks; imports must come first then.
    subprocess.run([sys.executable, "-c", f"import bitstore._transport.transports{code}"], check=True, timeout=60)
    secret.chmod(0o700)
    assert issubclass(AccessDenied, StoreNotAvailable)
    assert (secret / "file").read_bytes() == b"x"


def test_a_root_keeps_reads_and_writes_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_bytes(b"secret")
    (root / "in").write_bytes(b"x")
    (root / "link-in").symlink_to("in")
    (root / "link-out").symlink_to(outside)
    (root / "folder-out").symlink_to(tmp_path)
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "file").write_bytes(b"neighbour")
    store = FileRaw(root=root)
    base = root.as_uri()
    assert store.get(f"{base}/in") == store.get(f"{base}/link-in") == store.get(f"{base}/x/../in") == b"x"
    for path in ("../outside", "x/../../outside", "%2e%2e/outside", "../root2/file", "..", ""):
        assert not store.is_valid(f"{base}/{path}")
    for path in ("../outside", "%2e%2e/outside", "../root2/file", "link-out", "folder-out/outside", "folder-out/new"):
        for operation in (store.get, store.exists, lambda uri: store.put(uri, b"y")):
            with pytest.raises(InvalidURI, match="below"):
                operation(f"{base}/{path}")
    assert outside.read_bytes() == b"secret"
    assert not (tmp_path / "new").exists()
    store.put(f"{base}/a/b", b"y")
    assert (root / "a" / "b").read_bytes() == b"y"
    assert repr(pickle.loads(pickle.dumps(store))) == repr(store) == f"FileRaw(root={str(root)!r})"
    with pytest.raises(ValueError, match="absolute"):
        FileRaw(root="relative")
    with pytest.raises(TypeError):
        FileRaw(root)  # type: ignore[call-arg]


def test_a_root_that_is_a_link_serves_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "k").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    assert FileRaw(root=tmp_path / "link").get(f"{(tmp_path / 'link').as_uri()}/k") == b"x"


# ---------------------------------------------------------------------- writes


def test_a_write_only_if_absent_keeps_a_faster_writers_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, uri = FileRaw(), f"{tmp_path.as_uri()}/k"
    store.put(uri, b"first")
    monkeypatch.setattr(Path, "exists", lambda self: False)  # as it was when the second writer looked
    run(steps_of_put(store, uri, b"second", Write(only_if_absent=True)))
    assert store.get(uri) == b"first"
    assert os.listdir(tmp_path) == ["k"]


def test_one_of_many_writers_only_if_absent_wins(tmp_path: Path) -> None:
    store, uri, barrier = FileRaw(), f"{tmp_path.as_uri()}/k", threading.Barrier(8)
    seen: list[bytes] = []

    def write(n: int) -> None:
        barrier.wait(60)
        run(steps_of_put(store, uri, bytes([n]) * 50_000, Write(only_if_absent=True)))
        seen.append(store.get(uri))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(set(seen)) == 1
    assert os.listdir(tmp_path) == ["k"]


def test_readers_see_only_whole_files_during_writes(tmp_path: Path) -> None:
    store, uri, over = FileRaw(), f"{tmp_path.as_uri()}/k", threading.Event()
    blobs = [bytes([n]) * 3_000_000 for n in range(2)]
    store.put(uri, blobs[0])

    def write() -> None:
        for n in range(40):
            store.put(uri, blobs[n % 2])
        over.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not over.is_set():
        assert store.get(uri) in blobs
    thread.join()


@pytest.mark.parametrize("only_if_absent", [True, False])
def test_a_failed_write_leaves_no_file(tmp_path: Path, only_if_absent: bool) -> None:
    # A limit on file sizes, so that the write fails half-way as on a full disk.
    code = f"""
import resource, signal
from bitstore.errors import StoreNotAvailable
from bitstore._raw.file import FileRaw
from bitstore._lookup.asking import Write, steps_of_put
from bitstore._lookup.run import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    run(steps_of_put(FileRaw(), "{tmp_path.as_uri()}/k", bytes(50_000), Write(only_if_absent={only_if_absent})))
except StoreNotAvailable as error:
    assert "File too large" in str(error), error
else:
    raise AssertionError
"""
    (tmp_path / "keep").write_bytes(b"x")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert os.listdir(tmp_path) == ["keep"]


def test_reads_of_large_files_run_outside_the_transfer_thread(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(bytes(1000))
    (tmp_path / "big").write_bytes(bytes(2_000_000))
    small = steps_of_get(FileRaw(), f"{tmp_path.as_uri()}/small")
    with pytest.raises(StopIteration):
        next(small)
    big = steps_of_get(FileRaw(), f"{tmp_path.as_uri()}/big")
    assert isinstance(next(big), Call)
    opened = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert str(tmp_path / "big") not in opened  # the call itself opens the file, and closes it
    big.close()


# ---------------------------------------------------------------------- folders that are not there


def asked(store: Any, key: str) -> Any:
    """What `get` and `exists` of a store and of a composite over it come to: `missing`, or the error."""
    chain = composed(store)
    results = []
    for operation in (store.get, store.exists, chain.get, chain.exists):
        try:
            results.append("missing" if operation(key) is False else "found")
        except NotFoundInStore:
            results.append("missing")
        except StoreNotAvailable as error:
            results.append(str(error))
    return results


ABSENT = "ab" * 20


@pytest.mark.parametrize("template", ["{folder}/", "{folder}/{{digest[:2]}}/{{digest}}", "{folder}/x-"])
def test_an_absent_folder_is_a_failure_that_names_it(tmp_path: Path, template: str) -> None:
    folder = tmp_path / "disk" / "blobs"
    store = Sha1Store(FileRaw(), f"file://{template.format(folder=folder)}")
    for text in asked(store, ABSENT):
        assert f"there is no folder {folder}" in text
        assert "missing_folder='missing'" in text
    lenient = Sha1Store(FileRaw(missing_folder="missing"), store.prefix)
    assert asked(lenient, ABSENT) == ["missing"] * 4
    folder.mkdir(parents=True)
    assert asked(store, ABSENT) == ["missing"] * 4  # folders that fan files out may be absent


def test_an_absent_root_is_a_failure_for_reads_and_writes(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    uri = f"file://{root}/ab/k"
    store = FileRaw(root=root)
    for operation in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
        with pytest.raises(StoreNotAvailable, match=f"there is no folder {root}"):
            operation(uri)
    assert not root.exists()
    lenient = FileRaw(root=root, missing_folder="missing")
    assert not lenient.exists(uri)
    lenient.put(uri, b"x")
    assert store.get(uri) == b"x"
    assert not store.exists(f"file://{root}/cd/k")


def test_a_file_in_an_absent_top_folder_is_a_failure() -> None:
    with pytest.raises(StoreNotAvailable, match="there is no folder /no-such-disk"):
        FileRaw().get("file:///no-such-disk/blobs/k")


def test_a_dangling_link_is_a_failure_not_an_absence(tmp_path: Path) -> None:
    (tmp_path / ABSENT).symlink_to(tmp_path / "gone" / "k")
    for root in (None, tmp_path):
        for text in asked(Sha1Store(FileRaw(root=root), f"file://{tmp_path}/"), ABSENT):
            assert f"a link to {tmp_path}/gone/k, which is not there" in text


def test_a_cache_may_make_its_folder_but_not_the_disk_it_lies_on(tmp_path: Path) -> None:
    cache = Sha1Cache(FileRaw(), f"file://{tmp_path}/cache/")
    assert not cache.exists(ABSENT)
    with pytest.raises(StoreNotAvailable, match="there is no folder"):
        Sha1Cache(FileRaw(), f"file://{tmp_path}/disk/cache/").exists(ABSENT)
