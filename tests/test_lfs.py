"""LFSRaw against a Git LFS server that git-lfs itself gets along with."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bitstore
from bitstore import (
    AccessDenied,
    BitstoreError,
    InvalidDataFound,
    LFSRaw,
    NotFoundInStore,
    Retry,
    Sha256Composite,
    Sha256Store,
    StoreNotAvailable,
)
from bitstore.config import ConfigError, from_urls, loads
from bitstore.steps import Response, Sleep
from bitstore.testing import check_store
from tests.servers import Answer, Cut, Hold, LFSServer, Reset
from tests.test_docs import DOCS, blocks

QUICK = Retry(attempts=2, first_delay=0.001, longest_delay=0.002)
TOKEN = "Basic b2Ytb25lLXBlcnNvbjpwYXNzd29yZA=="


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def some(count: int, size: int = 50) -> dict[str, bytes]:
    return {sha256(data): data for data in (b"%d-" % number * size for number in range(count))}


@pytest.fixture
def lfs() -> Iterator[LFSServer]:
    with LFSServer(some(3)) as server:
        yield server


@pytest.fixture
def far() -> Iterator[LFSServer]:
    """The server on which objects lie, of another origin."""
    with LFSServer() as server:
        yield server


def store_of(server: LFSServer, **options: Any) -> Sha256Store:
    return Sha256Store(LFSRaw(**{"retry": QUICK, **options}), server.lfs, verify=True)


def outcome(store: Any, digest: str) -> BitstoreError:
    with pytest.raises(BitstoreError) as caught:
        store.get(digest)
    assert type(caught.value) in (NotFoundInStore, StoreNotAvailable, AccessDenied, InvalidDataFound)
    return caught.value


# ---------------------------------------------------------------------- what is there, and what is not


def test_get_exists_and_download_find_the_object(lfs: LFSServer, tmp_path: Path) -> None:
    store = pickle.loads(pickle.dumps(store_of(lfs)))
    for digest, data in lfs.blobs.items():
        assert store.get(digest.upper()) == data
        assert store.exists(digest)
        store.download(digest, tmp_path / "blob")
        assert (tmp_path / "blob").read_bytes() == data
    absent = sha256(b"absent")
    assert not store.exists(absent)
    assert outcome(store, absent).args == (store, absent)
    assert lfs.counts["HEAD", f"/data/{digest}"] == 0  # a signed link is for GET alone


def test_an_lfs_raw_keeps_the_store_contract(lfs: LFSServer) -> None:
    lfs.token = TOKEN
    check_store(
        lambda: store_of(lfs, headers={"Authorization": TOKEN}), "sha256", put=lfs.blobs.__setitem__, secrets=[TOKEN],
        unreachable=lambda: store_of(lfs, proxy="http://127.0.0.1:9"),
    )  # fmt: skip


def test_a_large_object_comes_in_parts_by_one_link(lfs: LFSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitstore._raw.parts.PART_BYTES", 1000)
    data = os.urandom(10_500)
    lfs.blobs = {sha256(data): data}
    assert store_of(lfs, range_threshold=1000).get(sha256(data)) == data
    assert lfs.counts["GET", f"/data/{sha256(data)}"] > 10
    assert lfs.batches == [[sha256(data)]]


@pytest.mark.parametrize("code", [404, 410])
def test_an_object_that_the_server_does_not_hold_is_missing(lfs: LFSServer, code: int) -> None:
    digest = next(iter(lfs.blobs))
    lfs.answers[digest] = {"error": {"code": code, "message": "gone"}}
    assert type(outcome(store_of(lfs), digest)) is NotFoundInStore


LINK = {"download": {"href": "http://127.0.0.1:9/x"}}
FAILURES: list[tuple[str, Any, str]] = [  # what the server says of the object, and what the error says
    ("not allowed", {"error": {"code": 403, "message": "not yours"}}, "403: not yours"),
    ("other algorithm", {"error": {"code": 409, "message": "sha512 wanted"}}, "409: sha512 wanted"),
    ("wrong size", {"error": {"code": 422, "message": "Object size does not match"}}, "the size that was sent is 0"),
    ("limited", {"error": {"code": 429, "message": "slower"}}, "429: slower"),
    ("broken", {"error": {"code": 500, "message": "broken"}}, "500: broken"),
    ("unprintable", {"error": {"code": 500, "message": "one\ntwo \ud800"}}, "500: one two ?"),
    ("code as text", {"error": {"code": "404", "message": "gone"}}, "gone"),
    ("code of another kind", {"error": {"code": True}}, "is not available"),
    ("error as text", {"error": "no"}, "no"),
    ("neither", {}, "neither a link nor an error"),
    ("actions of a kind", {"actions": ["download"]}, "neither a link nor an error"),
    ("upload only", {"actions": {"upload": {"href": "http://127.0.0.1:9/x"}}}, "neither a link nor an error"),
    ("no text", {"actions": {"download": {"href": 5}}}, "neither a link nor an error"),
    ("other scheme", {"actions": {"download": {"href": "file:///etc/passwd"}}}, "no http"),
    ("password", {"actions": {"download": {"href": "http://user:s3cret@127.0.0.1:9/x"}}}, "with a password"),
    ("two lines", {"actions": {"download": {**LINK["download"], "header": {"A": "b\r\nC: d"}}}}, "cannot be sent"),
    ("odd name", {"actions": {"download": {**LINK["download"], "header": {"A b": "c"}}}}, "cannot be sent"),
    ("header list", {"actions": {"download": {**LINK["download"], "header": ["A: b"]}}}, "cannot be sent"),
    ("unreachable", {"actions": LINK}, "curl error"),
    ("of another object", {"oid": "0" * 64, "actions": LINK}, "does not speak of this object"),
    ("no name", {"oid": None}, "does not speak of this object"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "text"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_every_other_word_of_the_server_is_a_failure(lfs: LFSServer, said: Any, text: str) -> None:
    digest = next(iter(lfs.blobs))
    lfs.answers[digest] = said
    error = outcome(store_of(lfs), digest)
    assert isinstance(error, StoreNotAvailable)
    assert text in str(error)
    assert "s3cret" not in str(error)
    assert isinstance(error, AccessDenied) == ("not yours" in text)
    assert error.definite == any(code in str(error) for code in ("409: ", "422: "))  # nothing to wait for


def test_an_error_for_a_whole_batch_counts_for_each_object(lfs: LFSServer) -> None:
    """giftless: 404 for a request all of whose objects are missing, and 422 where the others have another size."""
    none = Answer(404, b'{"message": "404 Not Found: Cannot find any of the requested objects"}')
    lfs.rules.add(none, method="POST", times=2)
    assert all(isinstance(blob.error, NotFoundInStore) for blob in store_of(lfs).get_many(lfs.blobs))
    assert not store_of(lfs).exists(next(iter(lfs.blobs)))
    lfs.rules.add(Answer(422, b'{"message": "Cannot validate any of the requested objects"}'), method="POST", times=2)
    assert "sizes={digest: bytes}" in str(outcome(store_of(lfs), next(iter(lfs.blobs))))


WHOLE: list[tuple[str, Answer | Reset | Cut, str]] = [  # what answers the whole request
    ("no repository", Answer(404, b'{"message": "Not found"}'), "there is no Git LFS server at"),
    ("no credentials", Answer(401, b'{"message": "Credentials needed"}'), "401"),
    ("forbidden", Answer(403, b"Forbidden"), "403"),
    ("validation", Answer(422, b'{"message": "invalid"}'), "422"),
    ("too many", Answer(413, b'{"message": "large"}'), "413"),
    ("limited", Answer(429, b""), "429"),
    ("out", Answer(503, b""), "503"),
    ("page", Answer(200, b"<html>log in</html>"), "no answer of the batch API"),
    ("empty", Answer(200, b""), "no answer of the batch API"),
    ("list", Answer(200, b"[]"), "no answer of the batch API"),
    ("objects of a kind", Answer(200, b'{"objects": {}}'), "no answer of the batch API"),
    ("odd objects", Answer(200, b'{"objects": [null, 5, {"oid": []}]}'), "does not speak of this object"),
    ("nested", Answer(200, b"[" * 100_000), "no answer of the batch API"),
    ("transfer", Answer(200, b'{"transfer": "tus", "objects": []}'), "only 'basic' is known"),
    ("algorithm", Answer(200, b'{"hash_algo": "sha512", "objects": []}'), "not by sha256"),
    ("no content", Answer(204), "204"),
    ("made read", Answer(302, headers={"Location": "/elsewhere"}), "into a read"),
    ("reset", Reset(), "curl error"),
    ("cut", Cut(5), "curl error"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "text"), [row[1:] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_an_answer_that_is_no_batch_is_a_failure(lfs: LFSServer, answer: Any, text: str) -> None:
    lfs.rules.add(answer, method="POST")
    store = store_of(lfs)
    digests = [*lfs.blobs, sha256(b"absent")]
    for blob in [*store.get_many(digests), *store_of(lfs).get_many(digests[:1])]:
        assert isinstance(blob.error, StoreNotAvailable), blob.error
        assert text in str(blob.error)
    if isinstance(answer, Answer) and answer.status == 404:
        assert isinstance(blob.error, StoreNotAvailable) and blob.error.no_container
        assert lfs.lfs.rstrip("/") in str(blob.error)
        lenient = store_of(lfs, missing_bucket="missing")
        assert type(outcome(lenient, digests[0])) is NotFoundInStore


def test_a_link_answered_without_the_object_is_a_failure(lfs: LFSServer) -> None:
    digest = next(iter(lfs.blobs))
    no_key = b"<Error><Code>NoSuchKey</Code></Error>"
    for answer, kind in (
        (Answer(404, no_key), NotFoundInStore),  # a bucket says so, of servers that sign links without a look
        (Answer(404, b"not found"), StoreNotAvailable),  # the server has it, as it says
        (Answer(404, no_key.replace(b"NoSuchKey", b"NoSuchBucket")), StoreNotAvailable),
        (Answer(403, no_key.replace(b"NoSuchKey", b"AccessDenied")), AccessDenied),
        (Answer(200, b"other bytes"), InvalidDataFound),
        (Answer(206, b"part"), StoreNotAvailable),
        (Answer(500), StoreNotAvailable),
    ):
        lfs.rules.clear()
        lfs.rules.add(answer, path="/data/.*")
        error = outcome(store_of(lfs), digest)
        assert type(error) is kind
        assert not getattr(error, "no_container", False)  # the server is there


def test_sizes_of_objects_are_sent(lfs: LFSServer) -> None:
    lfs.strict = True
    sizes = {digest: len(data) for digest, data in lfs.blobs.items()}
    digest = next(iter(sizes))
    assert "LFSRaw(sizes={digest: bytes})" in str(outcome(store_of(lfs), digest))
    known = store_of(lfs, sizes=sizes)
    assert {blob.uri: blob.data for blob in known.get_many(sizes)} == lfs.blobs
    assert not any(each in repr(known) for each in sizes) and "sizes" not in repr(known)
    assert "the size that was sent is 7" in str(outcome(store_of(lfs, sizes={digest: 7}), digest))
    for size in (-1, "7", 1.5, None):
        with pytest.raises(ValueError, match=f"sizes: the size of {digest} is a number of bytes"):
            store_of(lfs, sizes={digest: size}).get(digest)


def test_a_message_in_another_encoding_spoils_no_answer(lfs: LFSServer) -> None:
    first, second, _ = lfs.blobs
    error = b'{"oid": "%s", "error": {"code": 404, "message": "n\xe3o existe"}}' % first.encode()
    link = {"oid": second, "actions": {"download": {"href": lfs._href(second), "header": lfs.header}}}
    body = b'\xef\xbb\xbf{"objects": [%s, %s]}' % (error, json.dumps(link).encode())
    lfs.rules.add(Answer(200, body), method="POST")
    blobs = {blob.uri: blob for blob in store_of(lfs).get_many([first, second])}
    assert isinstance(blobs[first].error, NotFoundInStore)
    assert blobs[second].data == lfs.blobs[second]


def test_an_answer_of_the_batch_api_has_a_limit_of_its_own(lfs: LFSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    lfs.blobs = {sha256(data): data for data in (b"x" * 10, b"y" * 11)}
    small, large = store_of(lfs, max_blob_size=10).get_many(lfs.blobs, ordered=True)
    assert small.data == b"x" * 10
    assert "larger than max_blob_size (10 bytes)" in str(large.error)
    monkeypatch.setattr("bitstore._raw.lfs._ANSWER_BYTES", 1000)
    lfs.rules.add(Answer(200, b" " * 1_000_000 + b'{"objects": []}'), method="POST")
    assert "an answer of more than 1000 bytes is none of the batch API" in str(outcome(store_of(lfs), sha256(b"")))


# ---------------------------------------------------------------------- many at once


@pytest.mark.parametrize("most", [1000, 30, 1])
def test_many_objects_are_asked_about_together(lfs: LFSServer, most: int) -> None:
    lfs.blobs = some(300)
    lfs.most = most
    absent = [sha256(b"absent %d" % number) for number in range(50)]
    store = store_of(lfs, batch_size=40)
    blobs = list(store.get_many([*lfs.blobs, *absent]))
    assert {blob.uri: blob.data for blob in blobs if blob.error is None} == lfs.blobs
    assert {blob.uri for blob in blobs if isinstance(blob.error, NotFoundInStore)} == set(absent)
    assert max(map(len, lfs.batches)) <= 40
    assert len(lfs.batches) < (120 if most > 1 else 400)


def test_a_spoilt_request_is_repeated_for_each_object_alone(lfs: LFSServer) -> None:
    lfs.rules.add(Answer(422, b'{"message": "one of them"}'), method="POST", times=1)
    assert {blob.uri: blob.data for blob in store_of(lfs).get_many(lfs.blobs)} == lfs.blobs
    assert [len(batch) for batch in lfs.batches] == [3, 1, 1, 1]


def test_a_lookup_that_is_given_up_does_not_hold_the_others(lfs: LFSServer) -> None:
    first, second, _ = lfs.blobs
    store = store_of(lfs)
    hold = Hold()
    held = lfs.rules.add(hold, method="POST", times=1)
    with pytest.raises(StoreNotAvailable, match="no answer within"):
        next(iter(store.get_many([first], timeout=0.5, errors="raise")))
    threads = [threading.Thread(target=store.get, args=(digest,)) for digest in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    hold.release()
    assert held.hits == 1


def test_lookups_of_a_leader_that_gave_up_ask_again(lfs: LFSServer) -> None:
    first, second, _ = lfs.blobs
    raw: Any = store_of(lfs).base_store
    leader, follower = (raw.get_steps(f"{lfs.lfs}{digest}") for digest in (first, second))
    next(leader)
    wait = next(follower)
    landed: list[bool] = []
    wait.event.on_landing(lambda: landed.append(True))
    leader.close()
    assert landed == [True]
    follower.send(None)  # which leads from now on
    follower.close()
    assert raw.get(f"{lfs.lfs}{second}") == lfs.blobs[second]


# ---------------------------------------------------------------------- credentials


def test_credentials_go_to_the_lfs_server_alone(lfs: LFSServer, far: LFSServer) -> None:
    lfs.token, lfs.storage = TOKEN, far
    digest, data = next(iter(lfs.blobs.items()))
    far.blobs = {digest: data}
    store = store_of(lfs, headers={"Authorization": TOKEN, "X-Other": "of the caller"})
    assert store.get(digest) == data
    (asked,) = far.requests
    assert not {"authorization", "x-other"} & set(asked.headers)
    assert asked.headers["x-link"] == "token-of-the-link"
    assert "Credentials needed" in str(outcome(store_of(lfs), digest))
    # A link to the server itself gets them, unless it has some of its own or needs none.
    lfs.storage = None
    for entry, sent in (
        ({}, TOKEN),
        ({"authenticated": True}, None),
        ({"header": {**lfs.header, "authorization": "Bearer of-the-link"}}, "Bearer of-the-link"),
    ):
        header = entry.pop("header", lfs.header)
        lfs.answers[digest] = {**entry, "actions": {"download": {"href": lfs._href(digest), "header": header}}}
        assert store_of(lfs, headers={"Authorization": TOKEN}).get(digest) == data
        assert lfs.requests[-1].headers.get("authorization") == sent


def test_a_batch_that_is_redirected_to_another_host_has_no_credentials(lfs: LFSServer, far: LFSServer) -> None:
    digest, data = next(iter(lfs.blobs.items()))
    far.blobs = {digest: data}
    lfs.rules.add(Answer(307, headers={"Location": f"{far.lfs}objects/batch"}), method="POST")
    assert store_of(lfs, headers={"Authorization": TOKEN}).get(digest) == data
    assert far.batches == [[digest]]
    assert not any("authorization" in asked.headers for asked in far.requests)


def test_headers_of_a_link_stay_with_its_host(lfs: LFSServer, far: LFSServer) -> None:
    digest, data = next(iter(lfs.blobs.items()))
    far.blobs, far.header = {digest: data}, {}
    lfs.rules.add(Answer(307, headers={"Location": far._href(digest)}), path="/data/.*")
    assert store_of(lfs, headers={"Authorization": TOKEN}).get(digest) == data
    assert not {"authorization", "x-link"} & set(far.requests[-1].headers)


def test_no_secret_is_shown(lfs: LFSServer) -> None:
    lfs.token, digest = TOKEN, next(iter(lfs.blobs))
    lfs.header = {"Authorization": "RemoteAuth very-secret-token"}
    echo = f"you sent very-secret-token and {lfs.signature} to {lfs._href(digest)}".encode()
    lfs.rules.add(Answer(400, echo), path="/data/.*")
    store = store_of(lfs, headers={"Authorization": TOKEN})
    for batch in (
        Answer(400, f"you sent {TOKEN}".encode()),
        Answer(200, json.dumps({"objects": [{"oid": digest, "error": {"message": f"you sent {TOKEN}"}}]}).encode()),
        Answer(200, json.dumps({"objects": [], "transfer": f"you sent {TOKEN}"}).encode()),
        None,
    ):
        lfs.rules.clear()
        lfs.rules.add(Answer(400, echo), path="/data/.*")
        if batch is not None:
            lfs.rules.add(batch, method="POST")
        text = f"{outcome(store, digest)!r} {outcome(store, digest)} {store!r}"
        assert "you sent" in text
        assert not [word for word in ("very-secret", lfs.signature, TOKEN.split()[1]) if word in text]


def test_a_link_that_has_expired_is_asked_for_again(lfs: LFSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitstore._raw.parts.PART_BYTES", 1000)
    data = os.urandom(5_500)
    digest = sha256(data)
    lfs.blobs = {digest: data}
    store = store_of(lfs, range_threshold=1000)
    lfs.rules.add(Answer(403, b"expired"), path="/data/.*", skip=3, times=1)
    assert store.get(digest) == data
    assert len(lfs.batches) == 2
    lfs.signature = "second-signature"  # what has been kept of the first is refused from now on
    assert store.get(digest) == data
    assert len(lfs.batches) == 3


@pytest.mark.parametrize(
    ("expiry", "good"),
    [
        ({}, True),
        ({"expires_in": 5}, True),
        ({"expires_in": 10**4000}, True),
        ({"expires_in": float("nan")}, True),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, True),
        ({"expires_at": "0001-01-01T00:00:00Z"}, True),
        ({"expires_at": 5}, True),
        ({"expires_in": -5, "expires_at": "9999-12-31T23:59:59Z"}, False),
        ({"expires_at": "2016-11-10T15:29:07Z"}, False),
        ({"expires_at": "2016-11-10T15:29:07.5+01:00"}, False),
    ],
    ids=range(10),
)
def test_a_link_is_kept_until_it_expires(lfs: LFSServer, expiry: dict[str, Any], good: bool) -> None:
    digest, data = next(iter(lfs.blobs.items()))
    lfs.answers[digest] = {"actions": {"download": {"href": lfs._href(digest), "header": lfs.header, **expiry}}}
    store = store_of(lfs)
    assert store.get(digest) == store.get(digest) == data
    assert len(lfs.batches) == (1 if good else 2)


def test_a_link_from_https_to_http_is_not_followed() -> None:
    raw = LFSRaw()
    base, oid = "https://host/x.git/info/lfs/", "0" * 64
    steps = raw.get_steps(base + oid)
    assert isinstance(next(steps), Sleep)
    post: Any = steps.send(None)
    assert (post.method, post.url) == ("POST", f"{base}objects/batch")
    said = {"objects": [{"oid": oid, "actions": {"download": {"href": "http://host/x"}}}]}
    with pytest.raises(StoreNotAvailable, match="from https to http"):
        steps.send(Response(200, json.dumps(said).encode(), {}, 0.0))


# ---------------------------------------------------------------------- in a chain, and from a file


def test_only_the_lfs_server_and_right_options_are_taken(lfs: LFSServer) -> None:
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: Sha256Store(LFSRaw(), lfs.lfs.rstrip("/")), "no URL that LFSRaw takes: https://host/repository.git"),
        (lambda: bitstore.Sha1Store(LFSRaw(), lfs.lfs), "no URL that LFSRaw takes"),
        (lambda: Sha256Store(LFSRaw(), lfs.lfs + "?a=b/"), "no URL that LFSRaw takes"),
        (lambda: LFSRaw(batch_size=0), "batch_size is a number of objects"),
        (lambda: LFSRaw(sizes=[1]), "sizes is a mapping"),  # type: ignore[arg-type]
    ]
    for make, text in wrong:
        with pytest.raises((ValueError, TypeError), match=text):
            make()
    store = store_of(lfs)
    writes: list[Callable[[], Any]] = [
        lambda: store.put(sha256(b"x"), b"x"),
        lambda: store.base_store.put(f"{lfs.lfs}{sha256(b'x')}", b""),
    ]
    for write in writes:
        with pytest.raises(NotImplementedError, match="LFSRaw only reads"):
            write()


def test_an_lfs_tier_can_stand_in_a_configuration(lfs: LFSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFS_TOKEN", TOKEN.split()[1])
    lfs.token = TOKEN
    url = "lfs+" + lfs.lfs
    (tier,) = re.findall(r"```toml\n(.*?)```", (DOCS / "git-lfs.md").read_text(), re.DOTALL)
    place = "lfs+https://host.example/group/project.git/info/lfs/"
    assert place in tier
    store = loads(tier.replace(place, url) + "batch_size = 10\n")
    assert {blob.uri: blob.data for blob in store.get_many(lfs.blobs)} == lfs.blobs
    lfs.token = None
    command = from_urls([url], algorithm="sha256")
    assert isinstance(command, Sha256Composite)
    with pytest.raises(ConfigError, match="is a Git LFS server: write 'lfs\\+' in front of it"):
        from_urls([lfs.lfs], algorithm="sha256")
    assert command.get(next(iter(lfs.blobs)).upper()) == next(iter(lfs.blobs.values()))


# ---------------------------------------------------------------------- the client of Git itself


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_pushes_to_the_server_and_its_objects_are_read(
    lfs: LFSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of these tests is one for git-lfs, and `sizes` come from `git lfs ls-files`."""
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    lfs.strict = True
    work = tmp_path / "work"

    def git(*arguments: str, folder: Path = work) -> str:
        named = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", f"lfs.url={lfs.lfs.rstrip('/')}"]
        done = subprocess.run(["git", *named, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    git("init", "--bare", str(tmp_path / "remote"), folder=tmp_path)
    git("init", str(work), folder=tmp_path)
    git("lfs", "install", "--local", "--skip-smudge")
    git("lfs", "track", "*.bin")
    files = {f"{number}.bin": os.urandom(1000 + number) for number in range(5)}
    for name, data in files.items():
        (work / name).write_bytes(data)
    git("add", ".")
    git("commit", "-m", "blobs")
    git("remote", "add", "origin", str(tmp_path / "remote"))
    git("push", "origin", "HEAD")
    assert set(files.values()) <= set(lfs.blobs.values())
    names: dict[str, Any] = {}
    exec(blocks("git-lfs.md"), names)
    sizes = names["lfs_sizes"](work)
    assert sizes == {sha256(data): len(data) for data in files.values()}
    store = store_of(lfs, sizes=sizes)
    assert {blob.data for blob in store.get_many(sizes)} == set(files.values())
    # And what bitstore understands of the server is what git-lfs does.
    shutil.rmtree(work / ".git" / "lfs" / "objects")
    (work / "0.bin").unlink()
    git("checkout", "0.bin")
    git("lfs", "pull")
    assert (work / "0.bin").read_bytes() == files["0.bin"]
