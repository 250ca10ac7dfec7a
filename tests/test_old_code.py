"""Code written for the published library runs unchanged."""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import Conflict

import bitstore
from bitstore import (
    Composite,
    FileRaw,
    GSRaw,
    InvalidDataFound,
    InvalidURI,
    LookupFailed,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1APISource,
    Sha1Cache,
    Sha1Composite,
    Sha1FormatMixin,
    Sha1Store,
    Store,
    StoreNotAvailable,
    VerifySha1Mixin,
)
from tests.old_code.readme import API, CACHE, COMPOSITE, PARALLEL
from tests.servers import CountedAPI, FakeGCS, FaultProxy, MotoServer, SeaweedS3, s3_error
from tests.stores import blobs, sha1

STYLES = ["epic.bitstore", "bitstore"]
README_HASH = "4bc39c7d87318382feb3cc5a684c767fbd913968"
BAD_KEYS = {"aws_access_key_id": "AKNOBODYKNOWSME", "aws_secret_access_key": "not-the-secret-of-anybody"}


# --- The README -------------------------------------------------------------------------------------------------------


class Places:
    """The buckets of the README, on real servers."""

    def __init__(self, s3: SeaweedS3, gcs: FakeGCS) -> None:
        self.s3, self.gcs = s3, gcs
        s3.create_old_bucket("aws_customer_data")
        for name in ("gcp_customer_data", "my_project", "cache_for_api"):
            with contextlib.suppress(Conflict):  # there since an earlier test
                gcs.create_bucket(name)

    def aws(self, digest: str, data: bytes) -> None:
        self.s3.put("aws_customer_data", f"files/{digest}", data)

    def gcp(self, digest: str, data: bytes) -> None:
        self.gcs.put("gcp_customer_data", f"blobs/{digest}", data)

    def mine(self, digest: str, data: bytes) -> None:
        self.gcs.put("my_project", f"more_files/{digest}", data)

    def cached(self, digest: str) -> bytes | None:
        blob = self.gcs.client().bucket("cache_for_api").blob(digest)
        data: bytes | None = blob.download_as_bytes() if blob.exists() else None
        return data


@pytest.fixture
def places(aws_env: SeaweedS3, gcs_env: FakeGCS) -> Places:
    return Places(aws_env, gcs_env)


class Client:
    """The user's `my_api_client`."""

    def __init__(self, held: dict[str, bytes]) -> None:
        self.held = held
        self.calls: Counter[str] = Counter()

    def get_bytes(self, digest: str) -> bytes | None:
        self.calls[digest] += 1
        return self.held.get(digest)


def execute(snippet: str, style: str, names: dict[str, Any]) -> None:
    assert "epic.bitstore" in snippet or "ultima" in snippet
    exec(compile(snippet.replace("epic.bitstore", style), "README.md", "exec"), names)


@pytest.mark.parametrize("style", STYLES)
def test_the_published_readme_runs_unchanged(style: str, places: Places, request: pytest.FixtureRequest) -> None:
    salt = f"readme-{style}"
    here, there, last, paid = (blobs(5, salt=f"{salt}{n}") for n in range(4))
    places.aws(README_HASH, b"what the README asks for")
    for put, some in ((places.aws, here), (places.gcp, there), (places.mine, last)):
        for digest, data in some.items():
            put(digest, data)
    everything = {**here, **there, **last}

    names: dict[str, Any] = {"iter_hashes": iter(everything), "my_api_client": Client(paid)}
    execute(COMPOSITE, style, names)
    assert names["data"] == b"what the README asks for"
    execute(PARALLEL, style, names)
    assert sorted(names["data_iter"]) == sorted(everything.values())

    execute(API, style, names)
    store, client = names["blob_store"], names["my_api_client"]
    for digest, data in {**everything, **paid}.items():
        assert store.get(digest) == data
        assert store.get(digest.upper()) == data
        assert store.get(f"sha1://{digest}") == data
    assert set(client.calls) == set(paid)
    with pytest.raises(NotFoundInStore):
        store.get("0" * 40)

    # The last snippet goes on where the passive stores were added, too.
    execute(COMPOSITE, style, names)
    execute(CACHE, style, names)
    store, client.calls = names["blob_store"], Counter()
    for _ in range(3):
        for digest, data in {**everything, **paid}.items():
            assert store.get(digest) == data
    assert client.calls == dict.fromkeys(paid, 1)  # first the API is used, after that the cache
    for digest, data in paid.items():
        assert places.cached(digest) == data
    assert {blob.uri: blob.data for blob in store.get_many([*everything, *paid])} == {**everything, **paid}
    assert client.calls == dict.fromkeys(paid, 1)


@pytest.mark.parametrize("style", STYLES)
def test_every_published_name_is_kept(style: str) -> None:
    kept = [
        "ANONYMOUS", "Composite", "GSRaw", "InvalidDataFound", "InvalidURI", "NotFoundInStore", "S3Raw",
        "Sha1APISource", "Sha1Cache", "Sha1Composite", "Sha1FormatMixin", "Sha1Store", "Store",
        "StoreNotAvailable", "VerifySha1Mixin",
    ]  # fmt: skip
    module = importlib.import_module(style)
    for name in kept:
        assert getattr(module, name) is getattr(bitstore, name)
    starred: dict[str, Any] = {}
    exec(f"from {style} import *", starred)
    assert set(kept) <= set(starred)
    assert bitstore.ANONYMOUS == "anonymous"


# --- ultimap ----------------------------------------------------------------------------------------------------------

PROGRAM = Path(__file__).parent / "old_code" / "parallel.py"
BACKENDS = ["threading", "multiprocessing", *(f"multiprocessing-{how}" for how in ("fork", "spawn", "forkserver"))]


class Data:
    """Blobs spread over S3, GCS and an API."""

    def __init__(self, s3: SeaweedS3, bucket: str, gcs: FakeGCS, gcs_bucket: str, api: CountedAPI) -> None:
        self.blobs = blobs(24, salt=bucket)
        for number, (digest, data) in enumerate(self.blobs.items()):
            if number % 3 == 0:
                s3.put(bucket, f"files/{digest}", data)
            elif number % 3 == 1:
                gcs.put(gcs_bucket, f"blobs/{digest}", data)
            else:
                api.blobs[digest] = data
        self.told = {"s3": f"s3://{bucket}/files/", "gcs": f"gs://{gcs_bucket}/blobs/", "api": api.url}
        self.hashes = list(self.blobs)


@pytest.fixture
def data(aws_env: SeaweedS3, bucket: str, gcs_env: FakeGCS, gcs_bucket: str, api: CountedAPI) -> Data:
    return Data(aws_env, bucket, gcs_env, gcs_bucket, api)


def run_parallel(**told: Any) -> list[str]:
    """Run the program, all of whose processes are gone afterwards, also when they hang."""
    command = [sys.executable, str(PROGRAM), json.dumps(told)]
    environment = {**os.environ, "PYTHONPATH": str(Path(bitstore.__file__).parent.parent)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    answers: list[str] = json.loads(output)
    return answers


@pytest.mark.parametrize(("style", "used"), [("epic.bitstore", False), ("bitstore", True)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_stores_work_in_parallel_maps_of_ultimap(style: str, backend: str, used: bool, data: Data) -> None:
    answers = run_parallel(module=style, backend=backend, used=used, hashes=data.hashes, **data.told)
    assert answers == data.hashes + data.hashes[:1] * used


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_keep_type_and_text_through_ultimap(backend: str, data: Data) -> None:
    hashes = [data.hashes[0], "0" * 40, "nonsense"]
    answers = run_parallel(
        module="epic.bitstore", backend=backend, used=False, hashes=hashes, errors="return", **data.told
    )
    assert answers[0] == hashes[0]
    assert answers[1].startswith(f"NotFoundInStore: {'0' * 40}: missing in Sha1Composite[")
    assert answers[2] == "InvalidURI: URI 'nonsense' is invalid for Sha1Composite (hint: <sha1> or sha1://<sha1>)"


# --- Stores as people wrote them --------------------------------------------------------------------------------------


class Minimal(Store):
    """Nothing but what the contract asks for, and no call of `super().__init__()`."""

    def __init__(self, held: dict[str, Any] | None = None) -> None:
        self.held = {} if held is None else held

    def is_valid(self, uri: Any) -> bool:
        return True

    def get(self, uri: Any) -> Any:
        if uri not in self.held:
            raise NotFoundInStore(self, uri)
        return self.held[uri]

    def put(self, uri: Any, data: Any) -> None:
        self.held[uri] = data


class Duck:
    """The same, without inheriting from `Store`."""

    def __init__(self, held: dict[str, Any] | None = None) -> None:
        self.held = {} if held is None else held

    is_valid = Minimal.is_valid
    put = Minimal.put

    def get(self, uri: Any) -> Any:
        return Minimal.get(self, uri)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Minimal, Duck])
def test_a_users_store_works_in_every_place_of_a_composite(kind: Any) -> None:
    some = blobs(4)
    first, *rest = some
    base = kind({f"mine/{digest}": some[digest] for digest in rest})
    cache = kind()
    composite = Sha1Composite()
    composite.append_cache(cache)
    composite.append_source(kind({first: some[first]}))
    composite.append_source(Sha1Store(base, "mine/"))
    assert composite.get(first) == some[first]
    assert cache.held == {first: some[first]}
    assert {blob.uri: blob.data for blob in composite.get_many(some)} == some
    assert cache.held == some
    assert composite.exists(first)
    assert not composite.exists("0" * 40)
    (blob,) = composite.get_many(["0" * 40])
    assert blob.missing
    copied = pickle.loads(pickle.dumps(composite))
    assert {blob.uri: blob.data for blob in copied.get_many(some)} == some
    store = Sha1Store(base, "other/", verify=True)
    store.put(first, some[first])
    assert base.held[f"other/{first}"] == some[first]
    assert store.exists(first)
    assert not store.exists(rest[0])


def test_a_composite_whose_subclass_has_its_own_constructor() -> None:
    class Mine(Sha1Composite):
        def __init__(self, held: dict[str, bytes]) -> None:
            self.append_source(Minimal(held))

    some = blobs(2)
    assert {blob.uri: blob.data for blob in Mine(some).get_many(some)} == some


def test_data_that_is_not_bytes_passes_a_composite() -> None:
    table, number = {"rows": 3}, 7
    composite: Any = Composite()
    composite.append_cache(cache := Minimal())
    composite.append_cache(Sha1Cache(FileRaw(), "file:///nowhere/"))
    composite.append_source(Minimal({"a" * 40: table, "b" * 40: number}))
    assert composite.get("a" * 40) is table
    assert composite.get("b" * 40) == 7
    assert cache.held == {"a" * 40: table, "b" * 40: number}
    assert [tier.write_failures for tier in composite.stats().values()] == [0, 0, 0]
    store: Any = Sha1Store(Minimal({f"x/{'c' * 40}": table}), "x/")
    assert store.get("c" * 40) is table


def test_an_api_source_may_return_data_that_is_not_bytes() -> None:
    class Api(Sha1APISource):
        def __init__(self) -> None:  # does not call super().__init__()
            self.calls = 0

        def api_get(self, digest: str) -> Any:
            self.calls += 1
            return [digest]

    source = Api()
    composite: Any = Sha1Composite()
    composite.append_cache(Minimal())
    composite.append_source(source)
    for _ in range(3):
        assert composite.get("A" * 40) == ["a" * 40]
    assert source.calls == 1


@pytest.mark.parametrize("kind", [Sha1Store, Sha1Cache])
def test_verify_prefix_and_base_store_may_be_set_later(kind: Any) -> None:
    (right, data), (wrong, other) = blobs(2).items()
    base = Minimal({f"a/{right}": data, f"a/{wrong}": b"rubbish", f"b/{wrong}": other})
    store = kind(base, "a/")
    assert store.get(wrong) == b"rubbish"
    store.verify = True
    for ask in (store.get, lambda digest: next(store.get_many([digest], errors="raise"))):
        with pytest.raises(InvalidDataFound):
            ask(wrong.upper())
    assert store.get(right.upper()) == data
    store.prefix = "b/"
    assert store.get(wrong) == other
    store.verify, store.base_store = False, Minimal({f"b/{wrong}": b"other rubbish"})
    assert store.get(wrong) == b"other rubbish"


def test_third_argument_of_a_digest_store_is_verify() -> None:
    with pytest.raises(InvalidDataFound):
        Sha1Store(Minimal(), "b/", True).put("0" * 40, b"rubbish")


def test_credentials_may_be_set_later(aws_env: SeaweedS3, bucket: str, gcs_env: FakeGCS, gcs_bucket: str) -> None:
    aws_env.put(bucket, "k", b"x")
    gcs_env.put(gcs_bucket, "k", b"x")
    for raw, uri, bad, good in (
        (S3Raw(BAD_KEYS), f"s3://{bucket}/k", [], [BAD_KEYS, None]),
        (GSRaw({"type": "service_account"}), f"gs://{gcs_bucket}/k", {}, None),
    ):
        with pytest.raises(StoreNotAvailable):
            raw.get(uri)
        raw.credentials = good
        assert raw.get(uri) == b"x"
        raw.credentials = bad
        with pytest.raises(StoreNotAvailable):
            raw.get(uri)


def test_is_valid_decides_what_a_store_is_asked() -> None:
    class Evens(Minimal):
        def is_valid(self, uri: Any) -> bool:
            return int(uri[-1], 16) % 2 == 0

    held = {"0" * 39 + digit: digit.encode() for digit in "0123"}
    composite = Sha1Composite()
    composite.append_source(Evens(dict.fromkeys(held, b"even")))
    composite.append_source(Minimal(held))
    assert [composite.get(digest) for digest in held] == [b"even", b"1", b"even", b"3"]
    assert [blob.data for blob in composite.get_many(held, ordered=True)] == [b"even", b"1", b"even", b"3"]


# --- Subclasses of the library's stores -------------------------------------------------------------------------------


class Upper(Sha1Store):
    def get(self, digest: str) -> Any:
        return super().get(digest).upper()

    def put(self, digest: str, data: bytes) -> None:
        super().put(digest, data.lower())


class Strict(Sha1Store):
    def is_valid(self, uri: Any) -> bool:
        return super().is_valid(uri) and uri.startswith("f")


class Lenient(Sha1Store):
    checked = 0

    def _verify_data(self, data: Any, digest: str) -> Any:
        type(self).checked += 1
        return data


class Counting(S3Raw):
    asked: Counter[str]

    def get(self, uri: Any) -> bytes:
        self.asked[uri] += 1
        return super().get(uri)


class OnlyBlobs(S3Raw):
    def is_valid(self, uri: Any) -> bool:
        return super().is_valid(uri) and "/blobs/" in uri


class Renamed(Sha1Composite):
    def get(self, uri: Any, **options: Any) -> Any:
        return b"<" + super().get(uri.removeprefix("old-"), **options) + b">"

    def is_valid(self, uri: Any) -> bool:
        return super().is_valid(uri.removeprefix("old-"))

    def canonical(self, uri: Any) -> Any:
        return uri if uri.startswith("old-") else super().canonical(uri)


def answers(store: Store, uri: Any) -> list[Any]:
    """What a lookup gives by each way there is."""
    composite = Composite()
    composite.append_source(store)
    (one,) = store.get_many([uri])
    (through,) = composite.get_many([uri])
    told = [one.data, through.data, composite.get(uri), store.get(uri)]
    with ThreadPoolExecutor(1) as pool:
        return [*told, pool.submit(store.get, uri).result()]


def test_overridden_methods_are_used_in_every_call(tmp_path: Path, s3: SeaweedS3, bucket: str) -> None:
    digest, data = sha1(b"some text"), b"some text"
    upper = Upper(FileRaw(), f"file://{tmp_path}/")
    upper.put(digest, b"SOME TEXT")
    assert (tmp_path / digest).read_bytes() == data
    assert answers(upper, digest) == [b"SOME TEXT"] * 5
    composite = Composite()
    composite.append_cache(upper)
    composite.append_source(Minimal({"f" * 40: b"ABC"}))
    assert composite.get("f" * 40) == b"ABC"
    assert (tmp_path / ("f" * 40)).read_bytes() == b"abc"

    strict = Strict(FileRaw(), f"file://{tmp_path}/")
    assert strict.get("f" * 40) == b"abc"
    with pytest.raises(InvalidURI):
        strict.get(digest)
    (blob,) = strict.get_many([digest])
    assert isinstance(blob.error, InvalidURI)

    lenient = Lenient(FileRaw(), f"file://{tmp_path}/", verify=True)
    (tmp_path / ("e" * 40)).write_bytes(b"not that")
    assert answers(lenient, "e" * 40) == [b"not that"] * 5
    assert Lenient.checked == 5

    s3.put(bucket, "blobs/k", b"x")
    s3.put(bucket, "k", b"x")
    counting = Counting(s3.admin.session, endpoint_url=s3.endpoint_url, region="us-east-1")
    counting.asked = Counter()
    assert answers(counting, f"s3://{bucket}/k") == [b"x"] * 5
    assert counting.asked == {f"s3://{bucket}/k": 5}
    assert Sha1Store(counting, f"s3://{bucket}/").exists(digest) is False

    renamed = Renamed()
    renamed.append_source(Minimal({digest: data}))
    assert answers(renamed, digest) == [b"<some text>"] * 5
    assert answers(renamed, f"old-{digest}") == [b"<some text>"] * 5


def test_a_raw_store_may_override_is_valid(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "blobs/k", b"x")
    s3.put(bucket, "k", b"x")
    raw = OnlyBlobs(s3.admin.session, endpoint_url=s3.endpoint_url, region="us-east-1")
    assert answers(raw, f"s3://{bucket}/blobs/k") == [b"x"] * 5
    for ask in (raw.get, raw.exists, lambda uri: raw.put(uri, b"y")):
        with pytest.raises(InvalidURI):
            ask(f"s3://{bucket}/k")
    (blob,) = raw.get_many([f"s3://{bucket}/k"])
    assert isinstance(blob.error, InvalidURI)


def test_the_published_mixins_make_a_store() -> None:
    class Mine(Sha1FormatMixin, VerifySha1Mixin, Store):
        def get(self, uri: Any) -> Any:
            self._check_valid(uri)
            return self._verify_data(b"abc", uri)

    digest = sha1(b"abc")
    assert answers(Mine(), digest) == [b"abc"] * 5
    with pytest.raises(InvalidDataFound):
        Mine().get("0" * 40)
    with pytest.raises(InvalidURI, match="<sha1>"):
        Mine().get("nonsense")
    assert Mine.URI_HINT == "<sha1>"
    assert not Mine().is_valid(digest + "\n")


def test_check_valid_of_a_users_store_names_its_hint() -> None:
    class Mine(Minimal):
        URI_HINT = "one letter"

        def is_valid(self, uri: Any) -> bool:
            return len(uri) == 1

        def get(self, uri: Any) -> Any:
            self._check_valid(uri)
            return super().get(uri)

    with pytest.raises(InvalidURI, match=r"^URI 'two' is invalid for Mine \(hint: one letter\)$"):
        Mine().get("two")
    with pytest.raises(NotImplementedError, match="'put'"):
        Store.put(Mine(), "x", b"")


# --- Raw stores -------------------------------------------------------------------------------------------------------


def test_lists_of_credentials_and_anonymous_access_work(aws_env: SeaweedS3, public_bucket: str, bucket: str) -> None:
    aws_env.put(bucket, "k", b"x")
    aws_env.put(public_bucket, "k", b"y")
    assert S3Raw([BAD_KEYS, aws_env.admin.session]).get(f"s3://{bucket}/k") == b"x"
    assert S3Raw([{"profile_name": "nobody"}, None]).get(f"s3://{bucket}/k") == b"x"
    assert S3Raw.anonymous().get(f"s3://{public_bucket}/k") == b"y"
    assert S3Raw([BAD_KEYS, bitstore.ANONYMOUS]).get(f"s3://{public_bucket}/k") == b"y"
    with pytest.raises(StoreNotAvailable):
        S3Raw.anonymous().get(f"s3://{bucket}/k")


def test_anonymous_access_to_gcs_works(gcs_env: FakeGCS, gcs_bucket: str) -> None:
    gcs_env.put(gcs_bucket, "k", b"x")
    assert GSRaw.anonymous().get(f"gs://{gcs_bucket}/k") == b"x"
    with pytest.raises(NotFoundInStore):
        GSRaw.anonymous().get(f"gs://{gcs_bucket}/none")


@pytest.mark.parametrize(
    ("raw", "uri"),
    [
        (S3Raw([]), "s3://bucket/key"),
        (S3Raw({"profile_name": "nobody"}), "s3://bucket/key"),
        (S3Raw([{"no_such_argument": 1}, {"profile_name": "nobody"}]), "s3://bucket/key"),
        (GSRaw({}), "gs://bucket/key"),
        (GSRaw({"project_id": "p", "private_key": "hush-hush"}), "gs://bucket/key"),
    ],
    ids=repr,
)
def test_unusable_credentials_are_a_failure_without_secrets(raw: Any, uri: str) -> None:
    for ask in (raw.get, raw.exists, lambda uri: raw.put(uri, b"x")):
        with pytest.raises(StoreNotAvailable) as caught:
            ask(uri)
        assert not isinstance(caught.value, NotFoundInStore)
        assert "hush-hush" not in f"{caught.value} {raw}"
    store = Sha1Composite()
    store.append_source(Sha1Store(raw, uri))
    store.append_source(Minimal({"a" * 40: b"x"}))
    assert store.get("a" * 40) == b"x"
    with pytest.raises(LookupFailed):
        store.get("b" * 40)


@pytest.mark.parametrize(("raw", "hint"), [(S3Raw([]), "s3://"), (GSRaw({}), "gs://"), (FileRaw(), "file://")])
def test_an_invalid_url_is_refused_with_a_hint(raw: Store, hint: str) -> None:
    for ask in (raw.get, raw.exists, lambda uri: raw.put(uri, b"x")):
        with pytest.raises(TypeError):
            ask(None)
        with pytest.raises(InvalidURI, match=hint):
            ask("nonsense")
    assert raw.URI_HINT is not None
    assert raw.URI_HINT.startswith(hint)


@pytest.mark.parametrize(
    "error",
    [
        NotFoundInStore("a store", "x"),
        InvalidDataFound("a store", "x"),
        StoreNotAvailable("a store"),
        StoreNotAvailable("a store", "a reason"),
        InvalidURI("a store", "x", "like this"),
        InvalidURI(Minimal(), "x"),
        LookupFailed("a store", "x", [("tier", OSError("broken")), ("other", StoreNotAvailable("s", "r"))], ["third"]),
    ],
    ids=repr,
)
def test_errors_pickle_with_type_and_text(error: Exception) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error, protocol)), protocol))
        assert type(again) is type(error)
        assert str(again) == str(error)
    assert str(copy.copy(error)) == str(error)
    assert (str(error) and "a store" in str(error)) or "Minimal" in str(error)


# --- Composites -------------------------------------------------------------------------------------------------------


def test_cache_result_keeps_wherever_the_cache_stands() -> None:
    """`cache_result=True` works wherever the cache stands, as it did."""
    some = blobs(1)
    (digest,) = some
    for read in (True, False):
        cache = Minimal()
        composite = Sha1Composite()
        composite.append_source(Minimal(dict(some)), cache_result=True)
        composite.append_cache(cache, read=read)
        assert composite.get(digest) == some[digest]
        assert cache.held == some
        assert [cache in composite.sources, composite.cache is cache] == [read, True]

        cache = Minimal()
        composite = Sha1Composite()
        composite.append_cache(cache, read=read)
        composite.append_source(Minimal(dict(some)), True)
        assert composite.get(digest) == some[digest]
        assert cache.held == some

        cache = Minimal()
        composite = Sha1Composite()
        composite.append_cache(cache, read)
        composite.append_store(Minimal(dict(some)), cache_result=False)
        assert composite.get(digest) == some[digest]
        assert cache.held == {}


def test_a_cache_with_read_false_is_only_written() -> None:
    some = blobs(1)
    (digest,) = some
    composite = Sha1Composite()
    composite.append_cache(Minimal({digest: b"not to be read"}), read=False)
    composite.append_source(Minimal(some))
    assert composite.get(digest) == some[digest]


# --- The published library's defects ----------------------------------------------------------------------------------


class Paid(Sha1APISource):
    """A source whose calls are counted on the server, so in all processes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def api_get(self, digest: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}/blob/{digest}", timeout=60) as answer:
            data: bytes = answer.read()
            return data


@pytest.mark.parametrize("cache_result", [None, True])
def test_pickled_composites_remember_what_to_cache(cache_result: bool | None, api: CountedAPI, tmp_path: Path) -> None:
    api.blobs.update(some := blobs(1))
    (digest,) = some
    composite = Sha1Composite()
    if cache_result is None:
        composite.append_cache(Sha1Cache(FileRaw(), f"file://{tmp_path}/"))
    composite.append_source(Paid(api.url), cache_result)
    if cache_result:
        composite.append_cache(Sha1Cache(FileRaw(), f"file://{tmp_path}/"))
        # Read before the API it is not, in this order; so its being written is what counts.
        pickle.loads(pickle.dumps(composite)).get(digest)
    else:
        for _ in range(5):
            assert pickle.loads(pickle.dumps(composite)).get(digest) == some[digest]
    assert (tmp_path / digest).read_bytes() == some[digest]
    assert api.calls == {digest: 1}


def test_raw_stores_unpickled_under_an_equal_pid_work(aws_env: SeaweedS3, bucket: str, gcs_env: FakeGCS) -> None:
    """In containers the pickling process and the unpickling one may have one pid: here they are one process."""
    aws_env.put(bucket, "k", b"x")
    gcs_env.put(name := gcs_env.create_bucket(), "k", b"y")
    for raw, uri, data in ((S3Raw(), f"s3://{bucket}/k", b"x"), (GSRaw(), f"gs://{name}/k", b"y")):
        assert raw.get(uri) == data
        for made in (pickle.loads(pickle.dumps(raw)), copy.copy(raw), copy.deepcopy(raw)):
            assert made.get(uri) == data


@pytest.fixture
def proxy(s3: SeaweedS3) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint_url) as running:
        yield running


def test_a_failing_source_does_not_hide_the_sources_below(proxy: FaultProxy, s3: SeaweedS3, bucket: str) -> None:
    some = blobs(3)
    first, second, _ = some
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url, region="us-east-1", retry=Retry(attempts=1))
    composite = Sha1Composite()
    composite.append_source(Sha1Store(raw, f"s3://{bucket}/"))
    composite.append_source(Minimal({first: some[first]}))

    proxy.rules.add(s3_error(403, "AccessDenied"))
    assert composite.get(first) == some[first]
    with pytest.raises(LookupFailed, match="403"):
        composite.get(second)
    proxy.rules.clear()
    with pytest.raises(NotFoundInStore):  # now it is known
        composite.get(second)
    proxy.down()
    assert composite.get(first) == some[first]
    with pytest.raises(LookupFailed):  # an unavailable source is not "not found"
        composite.get(second)
    with pytest.raises(StoreNotAvailable):
        Sha1Store(raw, f"s3://{bucket}/").get(first)


def test_a_put_to_s3_asks_for_no_acl(proxy: FaultProxy, s3: SeaweedS3, bucket: str) -> None:
    """Buckets with ACLs disabled refuse it."""
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url, region="us-east-1")
    raw.put(f"s3://{bucket}/k", b"x")
    (asked,) = [request for request in proxy.requests if request.method == "PUT"]
    assert b"x-amz-acl" not in asked.head.lower()
    assert b"storage-class" not in asked.head.lower()


def test_a_failed_write_of_a_cache_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    some = blobs(3)
    composite = Sha1Composite()
    composite.append_cache(Sha1Cache(S3Raw([]), "s3://bucket/"), name="bucket")
    composite.append_source(Minimal(some))
    with caplog.at_level(logging.WARNING, "bitstore"):
        for digest, data in some.items():
            assert composite.get(digest) == data
    (warning,) = [record for record in caplog.records if "could not keep" in record.getMessage()]
    assert warning.levelno == logging.WARNING
    assert composite.stats()["bucket"].write_failures == 3
    # By itself such a cache never raises, as before; it warns once.
    caplog.clear()
    alone = Sha1Cache(S3Raw([]), "s3://bucket/")
    with caplog.at_level(logging.WARNING, "bitstore"):
        for digest, data in some.items():
            alone.put(digest, data)
    assert len(caplog.records) == 1


def test_a_cache_does_not_overwrite_blobs_of_other_writers(proxy: FaultProxy, s3: SeaweedS3, bucket: str) -> None:
    some = blobs(1)
    (digest,) = some
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url, region="us-east-1")
    composite = Sha1Composite()
    composite.append_cache(Sha1Cache(raw, f"s3://{bucket}/"), read=False)
    composite.append_source(Minimal(some))
    assert composite.get(digest) == some[digest]
    (asked,) = [request for request in proxy.requests if request.method == "PUT"]
    assert b"if-none-match: *" in asked.head.lower()


def test_credentials_need_no_right_to_list_buckets(moto_auth: MotoServer) -> None:
    bucket = moto_auth.create_bucket()
    moto_auth.client().put_object(Bucket=bucket, Key="k", Body=b"x")
    reader = moto_auth.add_user(
        f"reader-{bucket}", {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": f"arn:aws:s3:::{bucket}/*"}
    )
    raw = S3Raw([BAD_KEYS, reader.session], endpoint_url=moto_auth.endpoint_url, region="us-east-1")
    assert raw.get(f"s3://{bucket}/k") == b"x"


def test_append_store_is_another_name_of_append_source() -> None:
    assert Composite.append_store is Composite.append_source
