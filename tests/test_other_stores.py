"""The pages on other people's stores: their code reads and writes servers that answer as those stores do.

What the servers say is recorded from their sources (bazel-remote, swh-web, AIStore), and what a remote of DVC holds is
what `dvc push` wrote. nginx and SeaweedFS are real ones; nginx where it is installed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    AccessDenied,
    InvalidDataFound,
    LookupFailed,
    NotFoundInStore,
    Sha1Store,
    Sha256Composite,
    StoreNotAvailable,
)
from bitstore._digests.compression import codec
from tests.scripted_server import Asked, Reply, ScriptedServer
from tests.servers import SeaweedS3
from tests.servers.nginx import Nginx
from tests.stores import Shelf, sha1
from tests.test_docs import blocks

DATA = [b"", b"one", b"two" * 1000]
BASIC = "Basic " + b64encode(b"user:password").decode()


def page(name: str, places: dict[str, str]) -> dict[str, Any]:
    """The names that a page's code makes, with its places replaced by those of a test."""
    code = blocks(name)
    for old, new in places.items():
        assert old in code
        code = code.replace(old, new)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def outcome(store: Any, digest: str) -> Exception:
    with pytest.raises((NotFoundInStore, StoreNotAvailable)) as caught:
        store.get(digest)
    return caught.value


# ---------------------------------------------------------------------- Bazel


class BazelRemote(ScriptedServer):
    """bazel-remote, as its `server/http.go` answers."""

    def __init__(self) -> None:
        super().__init__(self.respond)
        self.held: dict[str, bytes] = {}  # by path: /cas/<sha256>
        self.token: str | None = None
        self.full = False

    def respond(self, asked: Asked) -> Reply:
        match = re.fullmatch(r"/(?:.*/)?((?:ac|cas)/([a-f0-9]{64}))", asked.target)
        text = {"Content-Type": "text/plain; charset=utf-8"}
        if match is None:
            return 400, text, b"resource name must be a SHA256 hash in hex, got ..."
        if self.token is not None and asked.headers.get("authorization") != self.token:
            return 401, {"WWW-Authenticate": 'Basic realm="bazel-remote"', **text}, b"401 Unauthorized\n"
        key, digest = match.groups()
        if asked.method == "PUT":
            if self.full:
                return 507, text, b"no space left in the cache\n"
            if key.startswith("cas") and sha256(asked.body) != digest:
                return 500, text, b"Unexpected error adding item to cache: checksums don't match.\n"
            self.held[key] = asked.body
            return 200, {}, b""
        data = b"" if key == f"cas/{sha256(b'')}" else self.held.get(key)  # which is always there
        if data is None:
            return 404, text, b"Not found\n"
        packer = codec("zstd")
        if "zstd" in asked.headers.get("accept-encoding", "") and asked.method == "GET" and packer is not None:
            chunks = [data[:1000], data[1000:]]  # each is a frame of its own, as it lies on the disk
            return 200, {"Content-Encoding": "zstd"}, b"".join(map(packer.compress, chunks))
        return 200, {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}, data


@pytest.fixture(params=["bazel-remote", "nginx"])
def bazel(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "nginx" and shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    with BazelRemote() if request.param == "bazel-remote" else Nginx() as server:
        yield server


def test_a_cache_of_bazel_is_read_and_written(bazel: BazelRemote | Nginx) -> None:
    names = page("bazel.md", {"https://cache.example.org": bazel.url})
    for prefix in ("", "instance/"):
        cache, source = names["cache"], names["bazel"]
        cache.prefix = source.prefix = f"{bazel.url}/{prefix}cas/"
        assert not source.exists(sha256(b"absent"))
        assert type(outcome(source, sha256(b"absent"))) is NotFoundInStore
        behind = Sha256Composite()  # a build cache in front of a slower source
        behind.append_cache(cache, name="bazel")
        behind.append_source(Shelf({sha256(data): data for data in DATA}), name="shelf")
        blobs = list(behind.get_many(map(sha256, DATA)))
        assert [blob.error for blob in blobs] == [None] * 3
        for data in DATA:
            assert source.get(sha256(data).upper()) == data
            assert source.exists(sha256(data))
    if isinstance(bazel, BazelRemote):
        assert names["compressed"].get(sha256(DATA[2])) == DATA[2]
        assert bazel.seen[-1].headers["accept-encoding"] == "zstd"


def test_a_refusal_of_bazel_remote_is_no_missing_blob() -> None:
    with BazelRemote() as server:
        names = page("bazel.md", {"https://cache.example.org": server.url})
        server.token = BASIC
        one = sha256(b"one")
        assert isinstance(outcome(names["bazel"], one), AccessDenied)
        assert type(outcome(names["private"], one)) is NotFoundInStore
        assert names["private"].get(sha256(b"")) == b""
        server.held[f"cas/{one}"] = b"of another digest"
        assert isinstance(outcome(names["private"], one), InvalidDataFound)
        with pytest.raises(InvalidDataFound):
            names["private"].put(one, b"of another digest")
        server.held[f"ac/{one}"] = b"an action result"  # named by the digest of an action
        names["private"].prefix = f"{server.url}/ac/"
        assert isinstance(outcome(names["private"], one), InvalidDataFound)
        server.held.clear()
        server.full = True
        composite = Sha256Composite()
        composite.append_cache(names["cache"])
        composite.append_source(Shelf({one: b"one"}))
        assert composite.get(one) == b"one"
        names["private"].prefix = f"{server.url}/cas/"
        with pytest.raises(StoreNotAvailable, match="507"):
            names["private"].put(one, b"one")


# ---------------------------------------------------------------------- DVC


def test_a_remote_of_dvc_is_read_in_both_layouts(aws_env: SeaweedS3) -> None:
    """The remote is what `dvc push` (3.67) wrote for a folder, and for two files what DVC 2 would have written."""
    with contextlib.suppress(aws_env.client().exceptions.BucketAlreadyOwnedByYou):
        aws_env.create_bucket("my-remote")
    windows = b"a\r\nb\r\n"
    wrote = {
        "files/md5/59/b0d7772f0561efb95518f3cb8abc60": windows,
        "files/md5/5d/41402abc4b2a76b9719d911017c592": b"hello",
        "files/md5/6a/f8d51f910647349c0fecfca4d206c8.dir": b'[{"md5": "59b0d7772f0561efb95518f3cb8abc60", "relpath": '
        b'"crlf.txt"}, {"md5": "5d41402abc4b2a76b9719d911017c592", "relpath": "h.txt"}]',
        "7d/793037a0760186574b0282f2f435e7": b"world",
        "dd/8c6a395b5dd36c56d23275028f526c": windows,  # md5-dos2unix: that of b"a\nb\n"
    }
    for key, data in wrote.items():
        aws_env.put("my-remote", key, data)
    names = page("dvc.md", {})
    listed = names["files_of"]("6af8d51f910647349c0fecfca4d206c8.dir")
    assert {path: names["files"].get(digest) for path, digest in listed.items()} == {
        "crlf.txt": windows,
        "h.txt": b"hello",
    }
    store = names["store"]
    assert store.get("5D41402ABC4B2A76B9719D911017C592") == b"hello"
    assert store.get("7d793037a0760186574b0282f2f435e7") == b"world"
    assert type(outcome(store, "0" * 32)) is NotFoundInStore
    error = outcome(store, "dd8c6a395b5dd36c56d23275028f526c")
    assert isinstance(error, LookupFailed)
    assert "59b0d7772f0561efb95518f3cb8abc60" in str(error)
    names["old"].verify = False
    assert store.get("dd8c6a395b5dd36c56d23275028f526c") == windows


# ---------------------------------------------------------------------- Software Heritage


def test_software_heritage_answers_from_mirror_and_archive(s3: SeaweedS3, tmp_path: Path) -> None:
    with contextlib.suppress(s3.client().exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket("softwareheritage", public=True)
    mirrored, archived, absent = b"int main() {}", b"only in the archive", b"nowhere"
    s3.put("softwareheritage", f"content/{sha1(mirrored)}", gzip.compress(mirrored))
    used_up = False

    def archive(asked: Asked) -> Reply:  # as swh-web answers
        limit = {"X-RateLimit-Limit": "120", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"}
        if used_up:
            said = {"exception": "Throttled", "reason": "Request was throttled. Expected available in 3000 seconds."}
            return 429, {"Content-Type": "application/json", "Retry-After": "3000", **limit}, json.dumps(said).encode()
        if asked.target == f"/api/1/content/sha1:{sha1(archived)}/raw/":
            return 200, {"Content-Type": "application/octet-stream", **limit}, archived
        said = {"exception": "NotFoundExc", "reason": "Content with sha1 checksum equals to ... not found!"}
        return 404, {"Content-Type": "application/json", **limit}, json.dumps(said).encode()

    with ScriptedServer(archive) as server:
        anonymous = f"S3Raw('anonymous', endpoint_url={s3.endpoint_url!r}, region='us-east-1')"
        places = {
            "S3Raw.anonymous()": anonymous,
            "https://archive.softwareheritage.org": server.url,
            "/mnt/nvme": str(tmp_path),
            "120 / 3600": "1000",
        }
        store = page("software-heritage.md", places)["store"]
        digests = [sha1(data) for data in (mirrored, archived, absent)]
        blobs = {blob.uri: blob for blob in store.get_many(digests)}
        assert [(blobs[digest].data, blobs[digest].source) for digest in digests[:2]] == [
            (mirrored, "mirror"),
            (archived, "archive"),
        ]
        assert type(blobs[digests[2]].error) is NotFoundInStore
        git_blob = hashlib.sha1(b"blob %d\0" % len(mirrored) + mirrored).hexdigest()
        assert type(outcome(store, git_blob)) is NotFoundInStore
        used_up = True
        (refused,) = store.get_many(digests[2:], patience=0)
        assert isinstance(refused.error, LookupFailed)
        assert "429" in str(refused.error)
        assert store.get(digests[1]) == archived  # from the disk


# ---------------------------------------------------------------------- AIStore


@pytest.fixture
def aistore() -> Iterator[tuple[ScriptedServer, ScriptedServer, dict[str, bytes]]]:
    """A gateway, which redirects as AIStore's `prxred.go` does, a node, and what the node holds."""
    held: dict[str, bytes] = {}

    def refusal(status: int, kind: str, message: str) -> Reply:
        said = {"tcode": kind, "message": message, "method": "GET", "node": "t[abc]", "status": status}
        return status, {"Content-Type": "application/json"}, json.dumps(said).encode()

    def node(asked: Asked) -> Reply:
        path, _, query = asked.target.partition("?")
        if "nsv=signed" not in query:
            return refusal(403, "", "not signed by the proxy")
        name = path.removeprefix("/v1/objects/")
        if asked.method == "PUT":
            held[name] = asked.body
            return 200, {}, b""
        if name not in held:
            return refusal(404, "ErrNotFound", f"t[abc]: ais://{name} does not exist")
        return 200, {"Content-Type": "application/octet-stream", "ETag": '"xxhash"'}, held[name]

    with ScriptedServer(node) as target:

        def proxy(asked: Asked) -> Reply:
            bucket = asked.target.split("/")[2]
            if bucket == "no-such-bucket":
                return refusal(404, "ErrBckNotFound", 'bucket "ais://no-such-bucket" does not exist')
            path = asked.target.replace("/ais/", "/v1/objects/")
            place = f"{target.url}{path}?provider=ais&pid=p1&utm=1795769651&nsv=signed"
            return 307, {"Location": place}, b"<a href=...>Temporary Redirect</a>"

        with ScriptedServer(proxy) as gateway:
            yield gateway, target, held


def test_aistore_redirects_to_the_node_with_the_object(
    aistore: tuple[ScriptedServer, ScriptedServer, dict[str, bytes]],
) -> None:
    gateway, target, held = aistore
    names = page("aistore.md", {"http://gateway.example:8080": gateway.url})
    held.update({f"my-bucket/{sha1(data)}": data for data in DATA})
    digests = [*map(sha1, DATA), sha1(b"absent")]
    blobs = {blob.uri: blob for blob in names["own"].get_many(digests)}
    assert [blobs[digest].data for digest in digests] == [*DATA, None]
    assert type(blobs[digests[3]].error) is NotFoundInStore
    assert not names["own"].exists(digests[3])
    assert names["private"].get(digests[1]) == DATA[1]
    assert gateway.seen[-1].headers["authorization"] == "Bearer ..."
    assert "authorization" not in target.seen[-1].headers
    names["cache"].put(digests[1], DATA[1])
    assert held[f"my-cache/{digests[1]}"] == DATA[1]
    error = outcome(Sha1Store(names["own"].base_store, f"{gateway.url}/ais/no-such-bucket/"), digests[1])
    assert isinstance(error, StoreNotAvailable) and error.no_container


def test_aistore_redirects_no_signed_request(
    aistore: tuple[ScriptedServer, ScriptedServer, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, target, _ = aistore
    names = page("s3-gateways.md", {"http://seaweed.example:8333": f"{gateway.url}/s3"})
    error = outcome(Sha1Store(names["services"]["SeaweedFS"], "s3://my-bucket/"), sha1(b"one"))
    assert isinstance(error, StoreNotAvailable)
    assert "307" in str(error)
    assert target.seen == []


# ---------------------------------------------------------------------- S3 gateways


def test_each_s3_gateway_is_asked_with_its_settings() -> None:
    def answer(asked: Asked) -> Reply:
        return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"

    with ScriptedServer(answer) as server:
        names = page("s3-gateways.md", {})
        table = {row[0].split(" (")[0]: row[1] for row in rows("s3-gateways.md")}
        assert set(table) == set(names["services"])
        for service, raw in names["services"].items():
            region = raw.region
            assert f"`{region}`" in table[service] or service in ("Ceph", "Backblaze B2", "SeaweedFS")
            assert service != "Backblaze B2" or region in raw.endpoint_url
            raw.endpoint_url = server.url
            assert type(outcome(Sha1Store(raw, "s3://my-bucket/files/"), "0" * 40)) is NotFoundInStore
            assert server.seen[-1].target == f"/my-bucket/files/{'0' * 40}"
            assert f"/{region}/s3/aws4_request" in server.seen[-1].headers["authorization"]


def test_an_s3_gateway_of_this_machine_is_read_and_written(s3: SeaweedS3, bucket: str) -> None:
    keys = {'"id"': repr(s3.admin.access_key), '"key"': repr(s3.admin.secret_key)}
    places = {"http://seaweed.example:8333": s3.endpoint_url, **keys}
    store = Sha1Store(page("s3-gateways.md", places)["services"]["SeaweedFS"], f"s3://{bucket}/files/", verify=True)
    assert not store.exists(sha1(b"one"))
    store.put(sha1(b"one"), b"one")
    assert store.get(sha1(b"one")) == b"one"


def rows(name: str) -> list[list[str]]:
    """The rows of the table of a page, without its head."""
    text = (Path(__file__).parent.parent / "docs" / name).read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return lines[1:]


def test_every_page_is_in_the_table() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (Path(__file__).parent.parent / "docs/other-stores.md").read_text()))
    assert linked == {"bazel.md", "git-lfs.md", "dvc.md", "software-heritage.md", "aistore.md", "s3-gateways.md"}
