"""Stores over file systems of fsspec and stores of obstore: certain absences, whole files, one version."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import obstore.store
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from obstore import fsspec as obstore_fsspec

from bitstore import (
    AccessDenied,
    DiskCache,
    FsspecRaw,
    LookupFailed,
    NotFoundInStore,
    ObstoreRaw,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    StoreNotAvailable,
    WriteConflict,
)
from bitstore._lookup.run import run
from bitstore.steps import Write
from bitstore.testing import AWKWARD_KEYS, check_store
from tests.scripted_server import Asked, Reply, ScriptedServer, s3_refusal
from tests.servers import MotoServer, SeaweedS3
from tests.stores import Shelf, sha1
from tests.waiting import processes

BLOB = random.Random(15).randbytes(3_000_001)
SHA1 = sha1(BLOB)
ANY_RAW: Any = FsspecRaw  # with options that do not exist
DATE = "Fri, 27 Nov 2026 08:00:00 GMT"
# Local file systems and object_store take no empty part of a path.
KEYS = [key for key in AWKWARD_KEYS if "//" not in key]


def s3_store(server: SeaweedS3 | MotoServer, bucket: str, **options: Any) -> Any:
    identity = server.admin
    return obstore.store.S3Store(
        bucket,
        **{
            "endpoint": server.endpoint_url,
            "region": "us-east-1",
            "access_key_id": identity.access_key,
            "secret_access_key": identity.secret_key,
            "client_options": {"allow_http": True},
            "retry_config": {"max_retries": 0},
            **options,
        },
    )


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    fs = MemoryFileSystem(global_store=False, skip_instance_cache=True)
    yield fs
    fs.store.clear()


def test_the_memory_of_fsspec_keeps_the_contract(memory: Any) -> None:
    check_store(lambda: FsspecRaw(memory), "memory://trial/", processes=False, wrong=["file:///x", "memory://", "x"])
    check_store(lambda: FsspecRaw(fsspec.filesystem("memory")), "memory://trial/", shared=False, wrong=["memory://a/"])


def test_local_files_of_fsspec_keep_the_contract(tmp_path: Path) -> None:
    fs = fsspec.filesystem("file")
    check_store(lambda: FsspecRaw(fs), f"file://{tmp_path}/", keys=KEYS, wrong=["memory://x/y", "file:///x/", "x"])
    assert not list(tmp_path.rglob(".bitstore*"))


def test_memory_and_files_of_obstore_keep_the_contract(tmp_path: Path) -> None:
    store = obstore.store.MemoryStore()
    check_store(lambda: ObstoreRaw(store), "memory://", keys=KEYS, processes=False, wrong=["memory://a//b", "s3://b/k"])
    # Children of a fork are refused: see below.
    local = obstore.store.LocalStore(tmp_path)
    check_store(lambda: ObstoreRaw(local), f"file://{tmp_path}/", keys=KEYS, processes=False, wrong=["file:///other"])


def test_s3_by_obstore_keeps_the_contract(s3: SeaweedS3, bucket: str) -> None:
    check_store(
        lambda: ObstoreRaw(s3_store(s3, bucket, prefix="below")), f"s3://{bucket}/below/", keys=KEYS, processes=False,
        unreachable=lambda: ObstoreRaw(s3_store(s3, bucket, endpoint="http://127.0.0.1:9", prefix="below")),
        wrong=[f"s3://{bucket}/else", "s3://another/below/x"], secrets=[s3.secret_key],
    )  # fmt: skip


def test_moto_by_obstore_keeps_the_contract(moto: MotoServer) -> None:
    bucket = moto.create_bucket()
    check_store(lambda: ObstoreRaw(s3_store(moto, bucket)), f"s3://{bucket}/", keys=KEYS, processes=False, wrong=["x"])


def fsspec_s3(server: SeaweedS3 | MotoServer, **options: Any) -> Any:
    given = {"endpoint": server.endpoint_url, "secret_access_key": server.admin.secret_key, **options}
    given |= {"region": "us-east-1", "access_key_id": server.admin.access_key}
    quick: Any = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
    return obstore_fsspec.FsspecStore("s3", **quick, **given)


def test_s3_by_fsspec_keeps_the_contract(s3: SeaweedS3, bucket: str) -> None:
    keys = [key for key in KEYS if not set(key) & set("?#")]  # this file system takes them for parts of a URL
    check_store(
        lambda: FsspecRaw(fsspec_s3(s3)), f"s3://{bucket}/", keys=keys, processes=False, wrong=["x"],
        unreachable=lambda: FsspecRaw(fsspec_s3(s3, endpoint="http://127.0.0.1:9")), secrets=[s3.secret_key],
        conditions=False,
    )  # fmt: skip


def makers(s3: SeaweedS3, bucket: str) -> list[tuple[str, Callable[..., Any]]]:
    return [
        ("obstore", lambda name=bucket, **options: ObstoreRaw(s3_store(s3, name, **options))),
        ("fsspec", lambda name=bucket, **options: FsspecRaw(fsspec_s3(s3, **options))),
    ]


def test_a_bucket_that_is_missing_is_a_failure(s3: SeaweedS3, bucket: str) -> None:
    for kind, make in makers(s3, bucket):
        store, url = make("no-such-bucket-here"), "s3://no-such-bucket-here/"
        for tier in (Sha1Store(store, url), Sha1Cache(store, url)):
            for ask in (tier.get, tier.exists, tier.open):
                with pytest.raises(StoreNotAvailable, match="there is no bucket") as caught:
                    ask(SHA1)
                assert caught.value.no_container, kind
        with pytest.raises(StoreNotAvailable):
            Sha1Store(store, url).put(SHA1, BLOB)
        store.missing_bucket = "missing"
        with pytest.raises(NotFoundInStore):
            store.get(url + SHA1)
        assert store.exists(url + SHA1) is False


def test_a_refusal_and_an_outage_are_failures(s3: SeaweedS3, bucket: str) -> None:
    for _, make in makers(s3, bucket):
        for options, error in (
            ({"secret_access_key": "wrong"}, AccessDenied),
            ({"endpoint": "http://127.0.0.1:9"}, StoreNotAvailable),
        ):
            store = make(**options)
            url = f"s3://{bucket}/{SHA1}"
            for ask in (store.get, store.exists, store.open, lambda uri, put=store.put: put(uri, b"x")):
                with pytest.raises(error) as caught:
                    ask(url)
                assert "wrong" not in str(caught.value) and caught.value.unreachable is (error is StoreNotAvailable)


@pytest.mark.parametrize(
    ("reply", "missing"),
    [
        (s3_refusal(404, "NoSuchKey"), True),
        ((404, {}, b"<html>Not Found</html>"), False),  # a proxy's own page
        ((404, {}, b""), False),
        (s3_refusal(404, "NoSuchBucket"), False),
        (s3_refusal(403, "AccessDenied"), False),
        (s3_refusal(403, "InvalidObjectState"), False),
        (s3_refusal(400, "ExpiredToken"), False),
        (s3_refusal(500, "InternalError"), False),
        ((200, {"ETag": '"1"', "Last-Modified": DATE}, b"<html>a login page</html>" * 9), None),
    ],
    ids=str,
)
def test_only_the_word_of_the_service_makes_a_blob_missing(reply: Reply, missing: bool | None) -> None:
    with ScriptedServer(lambda _: reply) as server:
        options: dict[str, Any] = {"endpoint": server.url, "region": "us-east-1", "skip_signature": True}
        options |= {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
        store = Sha1Store(ObstoreRaw(obstore.store.S3Store("bucket", **options)), "s3://bucket/", verify=True)
        if missing is None:
            with pytest.raises(NotFoundInStore, match="invalid data"):  # which in a composite is a failure
                store.get(SHA1)
            return
        for ask in (store.get, store.exists, store.open):
            if missing and ask == store.exists:
                assert store.exists(SHA1) is False
                continue
            with pytest.raises(NotFoundInStore if missing else StoreNotAvailable):
                ask(SHA1)


def test_credentials_that_a_service_repeats_are_masked() -> None:
    def repeat(asked: Asked) -> Reply:
        return (
            400,
            {"Content-Type": "text/plain"},
            f"{asked.headers['x-amz-security-token']} {asked.headers['x-gate']}".encode(),
        )

    token, header = "PLANTED+token/of=many", "Planted-header-value"
    with ScriptedServer(repeat) as server:
        options: dict[str, Any] = {"endpoint": server.url, "region": "us-east-1", "retry_config": {"max_retries": 0}}
        options |= {"access_key_id": "AKIAPLANTED", "secret_access_key": "x" * 20, "session_token": token}
        options |= {"client_options": {"allow_http": True, "default_headers": {"X-Gate": header}}}
        raws = [
            ObstoreRaw(obstore.store.S3Store("bucket", **options)),
            FsspecRaw(obstore_fsspec.FsspecStore("s3", **options)),
        ]
        for raw in raws:
            asks: list[Callable[..., Any]] = [raw.get, raw.open, raw.locate, raw.put]
            for ask in asks:
                try:
                    text = str(ask("s3://bucket/key", *([b"x"] if ask == raw.put else [])))
                except StoreNotAvailable as error:
                    text = str(error)
                assert "400" in text and token not in text and header not in text
        assert any(asked.headers["x-gate"] == header for asked in server.seen)


def test_open_reads_ranges_of_one_version(s3: SeaweedS3, bucket: str, memory: Any, tmp_path: Path) -> None:
    local = fsspec.filesystem("file")
    for raw, url in (
        (ObstoreRaw(s3_store(s3, bucket)), f"s3://{bucket}/a/"),
        (FsspecRaw(fsspec_s3(s3)), f"s3://{bucket}/b/"),
        (FsspecRaw(memory), "memory://x/"),
        (FsspecRaw(local), f"file://{tmp_path}/"),
        (ObstoreRaw(obstore.store.MemoryStore()), "memory://"),
        (ObstoreRaw(obstore.store.LocalStore(tmp_path)), f"file://{tmp_path}/"),
    ):
        store = Sha1Store(raw, url)
        store.put(SHA1, BLOB)
        with store.open(SHA1) as file:
            assert file.seek(-5, 2) and file.read() == BLOB[-5:] and file.seek(0) == 0 and file.read() == BLOB
        for other in (bytes(len(BLOB)), BLOB[:-1], b""):
            store.put(SHA1, BLOB)
            with store.open(SHA1) as file:
                file.read(5)
                file.seek(2_000_000)
                store.put(SHA1, other)
                with pytest.raises(StoreNotAvailable, match="replaced while it was read"):
                    file.read(5)


class Faulty(MemoryFileSystem):  # type: ignore[misc]
    """A file system whose reads raise."""

    protocol = "s3"
    cachable = False
    error: BaseException | None = None
    bucket_error: BaseException | None = None

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        raise self.error or FileNotFoundError(path)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if path.count("/") == 2:
            if self.bucket_error is not None:
                raise self.bucket_error
            return {"name": path, "size": 0, "type": "directory"}
        raise self.error or FileNotFoundError(path)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "bucket_error", "missing"),
    [
        (FileNotFoundError("b/k"), None, True),
        (FileNotFoundError("b/k"), PermissionError("no right to list"), True),
        (FileNotFoundError("b/k"), FileNotFoundError("b"), False),
        (FileNotFoundError("b/k"), ConnectionError("reset"), False),
        (FileNotFoundError("The specified bucket does not exist"), None, False),
        (caused(FileNotFoundError("k"), OSError("404 Not Found")), None, True),
        (caused(FileNotFoundError("k"), KeyError("k")), None, True),
        (caused(FileNotFoundError("k"), ConnectionResetError("reset by peer")), None, False),
        (caused(FileNotFoundError("k"), RuntimeError("500 Internal Server Error")), None, False),
        (PermissionError("k"), None, False),
        (IsADirectoryError("k"), None, False),
        (KeyError("k"), None, False),
        (TimeoutError(), None, False),
        (NotImplementedError(), None, False),
    ],
    ids=repr,
)
def test_errors_of_a_file_system_that_is_no_absence_are_failures(
    error: Exception, bucket_error: Exception | None, missing: bool
) -> None:
    fs = Faulty(global_store=False)
    fs.error, fs.bucket_error = error, bucket_error
    store = FsspecRaw(fs)
    for ask in (store.get, store.exists, store.open):
        if missing and ask == store.exists:
            assert store.exists("s3://b/k") is False
            continue
        with pytest.raises(NotFoundInStore if missing else StoreNotAvailable):
            ask("s3://b/k")


def test_an_old_listing_is_not_believed() -> None:
    class Listed(Faulty):
        def __init__(self) -> None:
            super().__init__(global_store=False)
            self.dircache: dict[str, list[str]] = {"b": []}

        def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
            return super().cat_file(path) if self.dircache else BLOB

        def info(self, path: str, **options: Any) -> dict[str, Any]:
            return super().info(path) if self.dircache else {"name": path, "size": len(BLOB), "type": "file"}

        def invalidate_cache(self, path: str | None = None) -> None:
            self.dircache.clear()

    assert FsspecRaw(Listed()).get("s3://b/k") == BLOB and FsspecRaw(Listed()).exists("s3://b/k")


def test_http_by_fsspec_is_not_believed_to_lack_each_file_that_fails() -> None:
    class Web(Faulty):
        protocol = "http"

        def info(self, path: str, **options: Any) -> dict[str, Any]:
            raise FileNotFoundError(path)  # as fsspec's own one does of a server that is out

    url, fs = "http://127.0.0.1:9/k", Web(global_store=False)
    for error, missing in (
        (FileNotFoundError(url), True),
        (ConnectionError("reset"), False),
        (FileNotFoundError(2, "No such file or directory", "/etc/ssl/cert.pem"), False),
    ):
        fs.error = error
        if missing:
            assert FsspecRaw(fs).exists(url) is False
        else:
            with pytest.raises(StoreNotAvailable):
                FsspecRaw(fs).exists(url)
        with pytest.raises(NotFoundInStore if missing else StoreNotAvailable):
            FsspecRaw(fs).get(url)


def test_a_part_that_comes_short_is_a_failure(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsspecRaw(memory)
    store.put("memory://x/k", BLOB)
    with store.open("memory://x/k") as file:
        monkeypatch.setattr(memory, "cat_file", lambda path, start, end: BLOB[start : end - 1])
        with pytest.raises(StoreNotAvailable, match="bytes came of the"):
            file.read(10)


def test_a_name_that_is_taken_by_what_cannot_be_read_is_a_conflict() -> None:
    def answer(asked: Asked) -> Reply:
        head = {"ETag": '"1"', "Last-Modified": DATE, "Content-Length": "9"}
        replies = {"PUT": s3_refusal(412, "PreconditionFailed"), "HEAD": (200, head, b"")}
        return replies.get(asked.method, s3_refusal(403, "InvalidObjectState"))

    class Archived(Faulty):
        def info(self, path: str, **options: Any) -> dict[str, Any]:
            return {"name": path, "size": 9, "type": "file"}

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
            raise FileExistsError(path)

    archived = Archived(global_store=False)
    archived.error = PermissionError("archived")
    with ScriptedServer(answer) as server:
        options: dict[str, Any] = {"endpoint": server.url, "region": "us-east-1", "skip_signature": True}
        options |= {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
        for store in (ObstoreRaw(obstore.store.S3Store("b", **options)), FsspecRaw(archived)):
            with pytest.raises(WriteConflict, match="the name is taken"):
                run(store.put_steps("s3://b/k", BLOB, Write(only_if_absent=True)))


class OfOneProcess(MemoryFileSystem):  # type: ignore[misc]
    """A file system that works only in the process that has made it, as those with an event loop."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()


def test_a_forked_process_makes_a_file_system_of_its_own() -> None:
    store = FsspecRaw(OfOneProcess())
    assert store.fs.process == os.getpid()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(store.fs.process))
    child.start()
    assert receiving.recv() == child.pid
    child.join()


def test_a_local_folder_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    held, gone = f"file://{tmp_path}/held/", f"file://{tmp_path}/gone/"
    local = obstore.store.LocalStore(tmp_path / "held")
    store = Sha1Store(ObstoreRaw(local), held)
    with pytest.raises(NotFoundInStore):
        store.get(SHA1)
    (tmp_path / "held").rmdir()
    for broken in (store, Sha1Store(FsspecRaw(fsspec.filesystem("file")), gone)):
        with pytest.raises(StoreNotAvailable, match="there is no bucket"):
            broken.get(SHA1)
    with pytest.raises(NotFoundInStore):
        Sha1Store(FsspecRaw(fsspec.filesystem("file"), missing_bucket="missing"), gone).get(SHA1)
    cache = Sha1Cache(FsspecRaw(fsspec.filesystem("file")), gone)
    with pytest.raises(NotFoundInStore):
        cache.get(SHA1)
    cache.put(SHA1, BLOB)
    assert cache.get(SHA1) == BLOB


def test_no_reader_sees_half_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("file", skip_instance_cache=True)
    store = FsspecRaw(fs)
    url = f"file://{tmp_path}/blob"

    def half(path: str, value: bytes, **options: Any) -> None:
        Path(path.removeprefix("file://")).write_bytes(value[: len(value) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fs, "pipe_file", half)
    with pytest.raises(StoreNotAvailable, match="No space left"):
        store.put(url, BLOB)
    assert list(tmp_path.iterdir()) == []


def test_a_write_keeps_its_condition(memory: Any, tmp_path: Path) -> None:
    local = obstore.store.LocalStore(tmp_path / "o", mkdir=True)
    for store, url in ((FsspecRaw(memory), "memory://c/k"), (ObstoreRaw(local), f"file://{tmp_path}/o/k")):
        store.put(url, b"first")
        run(store.put_steps(url, b"second", Write(only_if_absent=True)))
        assert store.get(url) == b"first"
        version = run(store.version_steps(url))
        run(store.put_steps(url, b"third", Write(replacing=version)))
        run(store.put_steps(url, b"fourth", Write(replacing=version)))
        assert store.get(url) == b"third"


def test_tiers_of_a_composite_travel(tmp_path: Path) -> None:
    chain = Sha1Composite()
    chain.append_cache(DiskCache(tmp_path / "cache"))
    chain.append_source(Sha1Store(FsspecRaw(fsspec.filesystem("file")), f"file://{tmp_path}/a/", verify=True))
    chain.append_source(
        Sha1Store(ObstoreRaw(obstore.store.LocalStore(tmp_path / "b", mkdir=True)), f"file://{tmp_path}/b/")
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / SHA1).write_bytes(BLOB)
    with processes("spawn", 1) as pool:
        assert pool.apply(chain.get, (SHA1,)) == BLOB
    assert pickle.loads(pickle.dumps(chain)).get(SHA1) == BLOB


@pytest.mark.parametrize("kind", ["ObstoreRaw", "FsspecRaw"])
def test_a_forked_process_is_told_that_obstore_does_not_survive_a_fork(kind: str, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(BLOB)
    by_obstore = ObstoreRaw(obstore.store.LocalStore(tmp_path))
    store = by_obstore if kind == "ObstoreRaw" else FsspecRaw(obstore_fsspec.FsspecStore("file"))
    url = f"file://{tmp_path}/k"
    assert store.get(url) == BLOB

    def ask() -> str:
        try:
            store.get(url)
        except StoreNotAvailable as error:
            return str(error)
        return "found"

    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(ask()), daemon=True)
    child.start()
    assert receiving.poll(60), "it hangs"
    assert "forked after it was used" in receiving.recv()
    child.join()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: FsspecRaw("s3"), TypeError, "expected a file system"),
        (lambda: FsspecRaw(MemoryFileSystem), TypeError, "expected a file system"),
        (lambda: FsspecRaw(fsspec_async()), TypeError, "asynchronous"),
        (lambda: ObstoreRaw("s3://bucket/"), TypeError, "expected a store of obstore"),
        (lambda: ObstoreRaw(obstore.store.S3Store), TypeError, "expected a store of obstore"),
        (lambda: ObstoreRaw(obstore.store.MemoryStore(), url="here"), ValueError, "url must look like"),
        (lambda: Sha1Store(FsspecRaw(fsspec.filesystem("file")), "s3://b/"), ValueError, "no URL that FsspecRaw takes"),
        (lambda: ANY_RAW(fsspec.filesystem("file"), missing_bucket="x"), ValueError, "missing_bucket"),
        (lambda: ANY_RAW(fsspec.filesystem("file"), missing="x"), TypeError, "has no option 'missing'"),
    ],
)
def test_an_argument_that_is_wrong_is_named(make: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


def fsspec_async() -> Any:
    make: Any = obstore_fsspec.FsspecStore
    return make("memory", asynchronous=True)


def test_a_store_of_obstore_has_its_usual_url() -> None:
    store = obstore.store
    for made, url in (
        (store.S3Store("b", prefix="p/q"), "s3://b/p/q/"),
        (store.GCSStore("b"), "gs://b/"),
        (store.AzureStore("c", account_name="a"), "az://c/"),
        (store.HTTPStore("http://127.0.0.1:9/x"), "http://127.0.0.1:9/x/"),
    ):
        assert ObstoreRaw(made).url == url and url in repr(ObstoreRaw(made))
    assert ObstoreRaw(store.MemoryStore(), url="x://y").is_valid("x://y/k")


def test_an_outage_of_a_tier_is_no_absence(memory: Any) -> None:
    fs = Faulty(global_store=False)
    fs.error = ConnectionResetError()
    chain = Sha1Composite()
    chain.append_source(Sha1Store(FsspecRaw(fs), "s3://b/"))
    chain.append_source(Shelf())
    with pytest.raises(LookupFailed):
        chain.get(SHA1)
