"""Every store of the library keeps the contract, in one line each; and the suite finds what is broken."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import boto3
import pytest
from moto import mock_aws

from bitstore import (
    Blob,
    Composite,
    DigestStore,
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidURI,
    Md5Composite,
    Md5Store,
    MemoryCache,
    MissLedger,
    NotFoundInStore,
    RemembersMisses,
    Retry,
    S3Raw,
    Sha1APISource,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Sha256Composite,
    Sha256Store,
    Store,
    StoreNotAvailable,
)
from bitstore.testing import AWKWARD_KEYS, check_store
from tests.servers import CountedAPI, FakeGCS, MotoServer, SeaweedS3
from tests.servers.web_folder import WebFolder
from tests.stores import as_cache, composed, with_tiers

NOWHERE = "http://127.0.0.1:9"
HURRY = Retry(attempts=1)


def s3_raw(server: SeaweedS3 | MotoServer, **options: Any) -> S3Raw:
    return S3Raw(server.admin.session, **{"endpoint_url": server.endpoint_url, "region": "us-east-1", **options})


def gs_raw(server: FakeGCS, **options: Any) -> GSRaw:
    return GSRaw("anonymous", **{"endpoint_url": server.url, **options})


@pytest.fixture
def web() -> Iterator[WebFolder]:
    with WebFolder() as server:
        yield server


# --- Raw stores ---------------------------------------------------------------------------------------------------


def test_s3_raw_keeps_the_store_contract(s3: SeaweedS3, bucket: str) -> None:
    check_store(
        lambda: s3_raw(s3), f"s3://{bucket}/",
        unreachable=lambda: s3_raw(s3, endpoint_url=NOWHERE, retry=HURRY), secrets=[s3.secret_key],
    )  # fmt: skip


def test_s3_raw_keeps_the_store_contract_on_moto(moto: MotoServer) -> None:
    check_store(lambda: s3_raw(moto), f"s3://{moto.create_bucket()}/trial/")


def test_anonymous_s3_raw_keeps_the_store_contract(s3: SeaweedS3, public_bucket: str, aws_env: SeaweedS3) -> None:
    check_store(S3Raw.anonymous, f"s3://{public_bucket}/", put=s3_raw(s3).put)


def test_s3_raw_with_a_client_keeps_the_store_contract(s3: SeaweedS3, bucket: str) -> None:
    check_store(lambda: S3Raw(client=s3.client()), f"s3://{bucket}/", processes=False)


@mock_aws
def test_s3_raw_with_a_client_of_motos_mock_keeps_the_store_contract() -> None:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    client.create_bucket(Bucket="mocked")
    check_store(lambda: S3Raw(client=client), "s3://mocked/", processes=False)


def test_gs_raw_keeps_the_store_contract(gcs: FakeGCS, gcs_bucket: str) -> None:
    check_store(
        lambda: gs_raw(gcs), f"gs://{gcs_bucket}/",
        unreachable=lambda: gs_raw(gcs, endpoint_url=NOWHERE, retry=HURRY),
    )  # fmt: skip


def test_gs_raw_of_the_environment_keeps_the_store_contract(gcs_env: FakeGCS, gcs_bucket: str) -> None:
    check_store(GSRaw, f"gs://{gcs_bucket}/trial/")


def test_gs_raw_with_a_client_keeps_the_store_contract(gcs: FakeGCS, gcs_bucket: str) -> None:
    check_store(lambda: GSRaw(client=gcs.client()), f"gs://{gcs_bucket}/", processes=False)


def test_http_raw_keeps_the_store_contract(web: WebFolder) -> None:
    # A fragment is never sent, and blanks must come percent-encoded: such URLs are refused.
    keys = [key for key in AWKWARD_KEYS if "#" not in key and " " not in key]
    check_store(
        lambda: HTTPRaw(headers={"Authorization": "Bearer s3cr3t"}), f"{web.url}/files/",
        keys=keys, secrets=["s3cr3t"], unreachable=lambda: HTTPRaw(retry=HURRY, proxy=NOWHERE), conditions=False,
    )  # fmt: skip


def test_file_raw_keeps_the_store_contract(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"")
    keys = [key.replace("%", "%25") for key in AWKWARD_KEYS]
    check_store(FileRaw, f"file://{tmp_path}/", keys=keys)
    check_store(lambda: FileRaw(root=tmp_path), f"file://{tmp_path}/", keys=keys)


# --- Digest stores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "algorithm", "below", "compression", "verify"),
    [  # each kind with each compression, and each of both with and without verification
        (*kind, compression, (row + column) % 2 == 0)
        for row, kind in enumerate(
            [(Sha1Store, "sha1", "files/"), (Sha256Store, "sha256", "{digest[:2]}/{digest}.bin"), (Md5Store, "md5", "")]
        )
        for column, compression in enumerate([None, "gzip", "zlib", "zstd"])
    ],
)
def test_digest_stores_in_folders_keep_the_store_contract(
    kind: Callable[..., Any], algorithm: str, below: str, compression: str | None, verify: bool, tmp_path: Path
) -> None:
    check_store(lambda: kind(FileRaw(), f"file://{tmp_path}/{below}", verify, compression=compression), algorithm)


def test_a_digest_store_with_an_algorithm_argument_keeps_the_store_contract(tmp_path: Path) -> None:
    check_store(lambda: DigestStore(FileRaw(), f"file://{tmp_path}/", algorithm="md5"), "md5")


def test_a_sha1_store_on_s3_keeps_the_store_contract(s3: SeaweedS3, bucket: str) -> None:
    check_store(
        lambda: Sha1Store(s3_raw(s3), f"s3://{bucket}/files/", verify=True), "sha1", secrets=[s3.secret_key],
        unreachable=lambda: Sha1Store(s3_raw(s3, endpoint_url=NOWHERE, retry=HURRY), f"s3://{bucket}/"),
    )  # fmt: skip


def test_a_sha256_store_on_gcs_keeps_the_store_contract(gcs: FakeGCS, gcs_bucket: str) -> None:
    template = f"gs://{gcs_bucket}/{{digest[:2]}}/{{digest}}.gz"
    check_store(
        lambda: Sha256Store(gs_raw(gcs), template, verify=True, compression="gzip"), "sha256",
        unreachable=lambda: Sha256Store(gs_raw(gcs, endpoint_url=NOWHERE, retry=HURRY), template),
    )  # fmt: skip


def test_an_md5_store_on_the_web_keeps_the_store_contract(web: WebFolder) -> None:
    check_store(lambda: Md5Store(HTTPRaw(), f"{web.url}/files/md5/{{digest[:2]}}/{{digest[2:]}}"), "md5")


def test_a_sha1_cache_keeps_the_store_contract(s3: SeaweedS3, bucket: str) -> None:
    check_store(lambda: Sha1Cache(s3_raw(s3), f"s3://{bucket}/"), "sha1")


# --- Caches -----------------------------------------------------------------------------------------------------------


def test_disk_caches_keep_the_store_contract(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_bytes(b"")
    check_store(lambda: DiskCache(tmp_path / "blobs"), "sha1", wrong=[""])
    check_store(lambda: DiskCache(tmp_path / "blobs"), f"s3://any-{tmp_path.name}/", wrong=[""])
    check_store(lambda: DiskCache(tmp_path / "digests", algorithm="sha256"), "sha256", wrong=[""])


def test_memory_caches_keep_the_store_contract() -> None:
    check_store(MemoryCache, "md5", wrong=[""], shared=False)
    check_store(MemoryCache, "any://text/", wrong=[""], shared=False)


# --- API sources and composites ---------------------------------------------------------------------------------------


class Paid(Sha1APISource):
    """An API over HTTP, as a user would write it."""

    def __init__(self, url: str) -> None:
        self.web = HTTPRaw(retry=HURRY)
        self.url = url

    def api_get(self, digest: str) -> bytes | None:
        try:
            return self.web.get(f"{self.url}/blob/{digest}")
        except NotFoundInStore:
            return None


def test_a_source_with_a_ledger_keeps_the_store_contract(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()

    def source(folder: str = "blobs") -> RemembersMisses:
        store = Sha1Store(FileRaw(), f"file://{tmp_path}/{folder}/", verify=True)
        return RemembersMisses(store, MissLedger(tmp_path / "misses.sqlite"), name=folder)

    check_store(source, "sha1", unreachable=lambda: source("none"))


def test_an_api_source_keeps_the_store_contract(api: CountedAPI) -> None:
    check_store(lambda: Paid(api.url), "sha1", put=api.blobs.__setitem__, unreachable=lambda: Paid(NOWHERE))


def test_a_composite_of_folders_keeps_the_store_contract(tmp_path: Path) -> None:
    def chain() -> Composite:
        return with_tiers(Composite(), as_cache(DiskCache(tmp_path / "cache")), FileRaw())

    # Blobs under URLs are never overwritten here: a cache need not notice that, so `put` is not checked.
    check_store(chain, f"file://{tmp_path}/files/", put=FileRaw().put, wrong=(), keys=["plain", "a b", "ä"])


def test_digest_composites_keep_the_store_contract(
    s3: SeaweedS3, bucket: str, gcs: FakeGCS, gcs_bucket: str, tmp_path: Path
) -> None:
    for kind, algorithm in ((Sha1Composite, "sha1"), (Sha256Composite, "sha256"), (Md5Composite, "md5")):
        far = DigestStore(gs_raw(gcs), f"gs://{gcs_bucket}/", algorithm=algorithm)

        def chain(kind: Any = kind, algorithm: str = algorithm, far: Store = far) -> Composite:
            composite: Composite = kind()
            composite.append_cache(MemoryCache())
            composite.append_cache(DiskCache(tmp_path / algorithm))
            composite.append_source(DigestStore(s3_raw(s3), f"s3://{bucket}/", algorithm=algorithm))
            composite.append_source(far)
            return composite

        check_store(chain, algorithm, put=far.put, secrets=[s3.secret_key])


@pytest.mark.usefixtures("skipped_pauses")
def test_a_composite_with_an_unreachable_tier_keeps_the_store_contract(tmp_path: Path, api: CountedAPI) -> None:
    folder = Sha1Store(FileRaw(), f"file://{tmp_path}/")

    def chain(url: str) -> Composite:
        return composed(folder, Sha1Store(HTTPRaw(retry=HURRY), f"{url}/blob/"), Paid(api.url))

    check_store(lambda: chain(api.url), "sha1", put=folder.put, unreachable=lambda: chain(NOWHERE))


# --- Users' own stores ------------------------------------------------------------------------------------------------


class Folder(Store):
    """A minimal store: three methods over a folder. What the broken ones below are made of."""

    URI_HINT = "<sha1>"

    def __init__(self, folder: Path, secret: str = "hush-hush") -> None:
        self.folder = folder
        self.secret = secret

    def is_valid(self, uri: Any) -> bool:
        if not isinstance(uri, str):
            raise TypeError("a name is a str")
        return len(uri) == 40 and not set(uri.lower()) - set("0123456789abcdef")

    def get(self, uri: Any) -> Any:
        self._check_valid(uri)
        try:
            return self.read(uri.lower())
        except FileNotFoundError:
            raise NotFoundInStore(self, uri) from None

    def put(self, uri: Any, data: bytes) -> None:
        self._check_valid(uri)
        (self.folder / uri.lower()).write_bytes(data)

    def read(self, name: str) -> Any:
        return (self.folder / name).read_bytes()


class Duck:
    """The same without inheriting from anything."""

    def __init__(self, folder: Path) -> None:
        self.inner = Folder(folder)

    def is_valid(self, uri: Any) -> bool:
        return self.inner.is_valid(uri)

    def get(self, uri: Any) -> Any:
        return self.inner.get(uri)

    def put(self, uri: Any, data: bytes) -> None:
        self.inner.put(uri, data)


def a_file(folder: Path) -> Path:
    (folder / "a file").write_bytes(b"")
    return folder / "a file"


def test_a_minimal_store_keeps_the_store_contract(tmp_path: Path) -> None:
    # NotADirectoryError is a failure, since a name below a file is not for `FileNotFoundError` to tell.
    check_store(lambda: Folder(tmp_path), "sha1", unreachable=lambda: Folder(a_file(tmp_path)), secrets=["hush-hush"])


class Reader(Folder):
    put: Any = Store.put


def test_a_minimal_store_that_only_reads_keeps_the_store_contract(tmp_path: Path) -> None:
    check_store(lambda: Reader(tmp_path), "sha1", put=Folder(tmp_path).put)


def test_a_duck_typed_store_keeps_the_store_contract(tmp_path: Path) -> None:
    check_store(lambda: Duck(tmp_path), "sha1")


def test_a_minimal_store_as_a_base_store_keeps_the_store_contract(tmp_path: Path) -> None:
    check_store(lambda: Sha256Store(Urls(tmp_path), "mine://", verify=True, compression="zstd"), "sha256")


class Urls(Store):
    """A minimal store of URLs of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str) and uri.startswith("mine://")

    def _file(self, uri: str) -> Path:
        self._check_valid(uri)
        return self.folder / hashlib.sha256(uri.encode()).hexdigest()

    def get(self, uri: Any) -> bytes:
        try:
            return self._file(uri).read_bytes()
        except FileNotFoundError:
            raise NotFoundInStore(self, uri) from None

    def put(self, uri: Any, data: bytes) -> None:
        self._file(uri).write_bytes(data)


def test_a_minimal_store_of_urls_keeps_the_store_contract(tmp_path: Path) -> None:
    check_store(lambda: Urls(tmp_path), "mine://trial/")


# --- The suite can fail -----------------------------------------------------------------------------------------------


class RemembersWhatIsMissing(Folder):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.missing: set[str] = set()

    def get(self, uri: Any) -> Any:
        if uri in self.missing:
            raise NotFoundInStore(self, uri)
        try:
            return super().get(uri)
        except NotFoundInStore:
            self.missing.add(uri)
            raise


class MixesUpThreads(Folder):
    def read(self, name: str) -> Any:
        self.name = name
        time.sleep(0.001)  # so that another thread surely gets its turn
        return super().read(self.name)


class HangsInThreads(Folder):
    over: ClassVar[threading.Event]  # the test is

    def read(self, name: str) -> Any:
        if threading.current_thread().name.startswith("Thread-"):  # not those of this library, which have names
            self.over.wait(60)
        return super().read(name)


class HoldsALock(Folder):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lock = threading.Lock()


class DoesNotSurviveAFork(Folder):
    """A helper thread and a queue, both of which stay in the parent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pool: Any = None

    def read(self, name: str) -> Any:
        from concurrent.futures import ThreadPoolExecutor

        if self.pool is None:
            self.pool = ThreadPoolExecutor(1)
        return self.pool.submit(super().read, name).result()

    def __getstate__(self) -> Any:
        return {**self.__dict__, "pool": None}


class DiesInAFork(Folder):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pid = os.getpid()

    def read(self, name: str) -> Any:
        if os.getpid() != self.pid:
            os._exit(7)
        return super().read(name)


class BatchesBadly(Folder):
    def get_many(self, uris: Iterable[Any], **options: Any) -> Iterator[Blob]:
        for index, uri in enumerate(dict.fromkeys(uris)):  # duplicates are lost
            try:
                yield Blob(index, uri, self.get(uri), "me")
            except NotFoundInStore as error:
                yield Blob(index, uri, error=error)


class BatchesFailuresAsNone(Folder):
    def get_many(self, uris: Iterable[Any], **options: Any) -> Iterator[Blob]:
        for index, uri in enumerate(uris):
            try:
                yield Blob(index, uri, self.get(uri), "me")
            except NotFoundInStore:
                yield Blob(index, uri)


class Gone(NotFoundInStore):
    def __init__(self, uri: object) -> None:
        super().__init__("a store", uri)  # and `__reduce__` gives two arguments


def fail(error: Exception) -> Any:
    raise error


def instead(method: Callable[..., Any], expected: type[Exception], answer: Callable[..., Any]) -> Callable[..., Any]:
    """The method, with `answer` in place of an expected error."""

    def changed(store: Folder, *args: Any) -> Any:
        try:
            return method(store, *args)
        except expected:
            return answer(store, *args)

    return changed


def defective(name: str, **methods: Callable[..., Any]) -> type[Folder]:
    """A class of this module, so that its objects pickle, with other methods."""
    kind: Any = type(name, (Folder,), {"__module__": __name__, **methods})
    globals()[name] = kind
    return cast("type[Folder]", kind)


get, put, read = Folder.get, Folder.put, Folder.read
missing = NotFoundInStore
# fmt: off
BROKEN: list[tuple[type[Folder], str, str]] = [
    (defective("LosesTheEmpty", read=lambda store, name: read(store, name) or fail(FileNotFoundError())),
     "empty", "NotFoundInStore"),
    (defective("CutsTheBig", put=lambda store, uri, data: put(store, uri, data[: 1 << 20])),
     "big", "instead of 2000000 bytes"),
    (defective("TranslatesNewlines", put=lambda store, uri, data: put(store, uri, data.replace(b"\r\n", b"\n"))),
     "present", "a blob just put"),
    (defective("GivesBytearrays", read=lambda store, name: bytearray(read(store, name))),
     "present", "bytearray instead of bytes"),
    (defective("GivesNoneForMissing", get=instead(get, missing, lambda store, uri: None)),
     "missing", "raised nothing instead of NotFoundInStore"),
    (defective("FailsForMissing",
               get=instead(get, missing, lambda store, uri: fail(StoreNotAvailable(store, "something")))),
     "missing", "raised StoreNotAvailable"),
    (RemembersWhatIsMissing, "missing", "NotFoundInStore"),
    (defective("MissingForFailed", read=instead(read, OSError, lambda store, name: fail(FileNotFoundError()))),
     "unreachable", "said that the blob is missing"),
    (defective("HasEverything", exists=lambda store, uri: store._check_valid(uri) is None),
     "exists", "not False for a missing blob"),
    (defective("HasNothing", exists=lambda store, uri: store._check_valid(uri) is not None),
     "exists", "not True for a blob that is there"),
    (defective("RefusesASecondPut",
               put=lambda store, uri, data: fail(StoreNotAvailable(store, "it is there already"))
               if (store.folder / uri.lower()).exists() else put(store, uri, data)),
     "again", "it is there already"),
    (defective("MindsTheCase",
               get=lambda store, uri: fail(missing(store, uri))
               if store._check_valid(uri) or uri != uri.lower() else get(store, uri)),
     "names", "NotFoundInStore"),
    (defective("TakesAnyName", is_valid=lambda store, uri: True), "wrong_names", "is_valid('') is true"),
    (defective("MissingForWrongNames",
               _check_valid=lambda store, uri: store.is_valid(uri) or fail(missing(store, uri))),
     "wrong_names", "raised NotFoundInStore"),
    (defective("MissingForNone",
               get=lambda store, uri: get(store, uri) if uri is not None else fail(missing(store, uri))),
     "none", "raised NotFoundInStore"),
    (MixesUpThreads, "threads", "in one of several threads"),
    (HangsInThreads, "threads", "8 of 8 threads hang"),
    (HoldsALock, "copies", "does not pickle"),
    (defective("ForgetsItsFolder", __reduce__=lambda store: (type(store), (Path("/nowhere"),))),
     "copies", "NotFoundInStore"),
    (defective("ForgetsWhatItWasTold", __getstate__=lambda store: {}), "copies", "folder"),
    (DoesNotSurviveAFork, "forks", "it hangs"),
    (DiesInAFork, "forks", "it died (exit code 7)"),
    (BatchesBadly, "get_many", "did not answer each input"),
    (BatchesFailuresAsNone, "get_many", "for a missing blob"),
    (defective("RaisesWhatDoesNotPickle", get=instead(get, missing, lambda store, uri: fail(Gone(uri)))),
     "errors", "does not pickle"),
    (defective("ShowsSecrets", __repr__=lambda store: f"Folder({store.secret})"), "shown", "a secret shows up"),
    (defective("ShowsSecretsInErrors",
               get=instead(get, missing, lambda store, uri: fail(missing(f"a store opened with {store.secret}", uri)))),
     "shown", "a secret shows up"),
    # Blobs of the size that the suite lets a composite keep in it, so that direct use does not show it.
    (defective("KeepsNothingForComposites",
               put=lambda store, uri, data: put(store, uri, data) if len(data) != 40 else None),
     "composite", "NotFoundInStore"),
]
# fmt: on


@pytest.mark.parametrize(("broken", "check", "told"), BROKEN, ids=[kind.__name__ for kind, _, _ in BROKEN])
def test_check_store_finds_each_broken_store(broken: type[Folder], check: str, told: str, tmp_path: Path) -> None:
    HangsInThreads.over = threading.Event()
    limit = 2 if "hang" in told else 5  # what hangs is waited for so long; for all others too little would be found
    with pytest.raises(AssertionError) as caught:
        check_store(
            lambda: broken(tmp_path), "sha1", big=2_000_000, limit=limit, secrets=["hush-hush"],
            unreachable=lambda: broken(a_file(tmp_path)),
        )  # fmt: skip
    HangsInThreads.over.set()
    findings = dict(line[2:].split(": ", 1) for line in str(caught.value).split("\n") if line.startswith("- "))
    assert check in findings, caught.value
    assert told in str(caught.value)
    if "hang" in told:
        assert f"{Path(__file__).name}" in str(caught.value), "no stack shows where it hangs"
    assert "hush-hush" not in str(caught.value)


class Shelves(Store):
    """URLs in a dict, broken in the ways that only URLs can be."""

    held: ClassVar[defaultdict[str, dict[str, bytes]]] = defaultdict(dict)

    def __init__(self, how: str) -> None:
        self.how = how

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str) and (self.how == "anything" or uri.startswith("shelf://"))

    def _key(self, uri: str) -> str:
        from urllib.parse import unquote

        if not self.is_valid(uri):
            raise InvalidURI(self, uri)
        if self.how == "unquotes":
            return unquote(uri)
        return uri.lower() if self.how == "ignores case" else uri

    def get(self, uri: Any) -> bytes:
        try:
            return self.held[self.how][self._key(uri)]
        except KeyError:
            raise NotFoundInStore(self, uri) from None

    def put(self, uri: Any, data: bytes) -> None:
        if self.how == "keeps the first":
            self.held[self.how].setdefault(self._key(uri), data)
        else:
            self.held[self.how][self._key(uri)] = data


@pytest.mark.parametrize(
    ("how", "check"),
    [("unquotes", "names"), ("ignores case", "names"), ("keeps the first", "again"), ("anything", "wrong_names")],
)
def test_check_store_finds_the_defect_of_a_broken_store_of_urls(how: str, check: str) -> None:
    with pytest.raises(AssertionError, match=rf"\n- {check}: "):
        check_store(lambda: Shelves(how), "shelf://trial/", keys=[*AWKWARD_KEYS, "a"], big=1000)


def test_check_store_finds_nothing_in_a_good_store_of_urls() -> None:
    check_store(lambda: Shelves("right"), "shelf://trial/", big=1000)


def test_check_store_refuses_an_unknown_algorithm() -> None:
    with pytest.raises(ValueError, match="use one of sha1, sha256, md5 or a URL prefix"):
        check_store(MemoryCache, "sha512")
