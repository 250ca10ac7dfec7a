"""Hostile and broken data: a clear error or a bounded result, and memory that stays bounded."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from bitstore import (
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    InvalidURI,
    LookupFailed,
    MemoryCache,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1Cache,
    Sha1Store,
    Store,
    StoreNotAvailable,
)
from bitstore._digests.compression import BadCompression, TooLarge, codec
from bitstore._digests.hash_list import HashList, ListError
from bitstore._digests.template import KeyTemplate
from bitstore.config import ConfigError, loads
from tests.hostile_server import HostileServer
from tests.stores import API, Box, Shelf, as_cache, composed, sha1

MB = 1_000_000
DATA = b"the blob itself"
DIGEST = sha1(DATA)

# ---------------------------------------------------------------------- compression


def gzip_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(MB)
    return b"".join(packer.compress(piece) for _ in range(size // MB)) + packer.flush()


def zstd_bomb(blocks: int) -> bytes:
    """One frame of blocks that each say "128 KiB of this byte" in 4 bytes (RFC 8878, 3.1.1.2); no size in its head."""
    block = ((128 * 1024) << 3 | 1 << 1).to_bytes(3, "little") + b"A"
    last = ((128 * 1024) << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"A"
    return b"\x28\xb5\x2f\xfd" + b"\x00\x58" + block * (blocks - 1) + last


def test_the_zstd_bomb_of_these_tests_is_a_valid_frame() -> None:
    codec_of = codec("zstd")
    assert codec_of is not None and codec_of.expand(zstd_bomb(3), 3 * 128 * 1024) == b"A" * 3 * 128 * 1024


BOMBS = {
    "gzip": lambda: gzip_bomb(300 * MB),
    "gzip in members": lambda: gzip_bomb(MB) * 300,
    "zlib": lambda: zlib.compress(bytes(300 * MB)),
    "zstd": lambda: zstd_bomb(100_000),  # 13 GB
    "zstd in frames": lambda: zstandard.compress(bytes(MB)) * 300,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_given_up_at_the_limit(name: str, tmp_path: Path) -> None:
    (tmp_path / DIGEST).write_bytes(BOMBS[name]())
    code = f"""
        from bitstore import *
        store = Sha1Store(FileRaw(), "file://{tmp_path}/", True, compression="{name.split()[0]}", max_blob_size="10MB")
        composite = Sha1Composite(); composite.append_source(store)
        [blob] = composite.get_many(["{DIGEST}"], patience=0)
        try: store.get("{DIGEST}")
        except StoreNotAvailable as error: report([str(error), str(blob.error)])
    """
    told, peak = child(code)
    assert all("more than 10000000 bytes when expanded" in text for text in told), told
    assert peak < 150 * MB


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_millions_of_empty_members_expand_in_linear_time(name: str) -> None:
    """What each costs must not grow with what follows it: this would take minutes."""
    packer = codec(name)
    assert packer is not None
    assert packer.expand(packer.compress(b"") * 800_000, 10) == b""


@pytest.mark.parametrize("name", ["gzip", "zlib", "zstd"])
def test_compressed_bytes_that_are_cut_or_followed_by_junk_are_refused(name: str) -> None:
    packer = codec(name)
    assert packer is not None
    packed = packer.compress(DATA)
    for bad in (packed + b"junk", packed[:-1], packed[: len(packed) // 2], b"", b"junk", packed + packed[:-1]):
        with pytest.raises(BadCompression, match=name):
            packer.expand(bad, 1000)
    if name == "gzip":
        assert packer.expand(packed + bytes(1000), 1000) == DATA
        for bad in (packed + bytes(1000) + b"junk", packed + bytes(70_000) + packed):
            with pytest.raises(BadCompression):
                packer.expand(bad, 1000)
    if name != "zlib":
        assert packer.expand(packed + packed, 1000) == DATA + DATA
        with pytest.raises(TooLarge):
            packer.expand(packed + packed, len(DATA) * 2 - 1)


@pytest.mark.parametrize("name", ["gzip", "zlib", "zstd"])
def test_bytes_that_cannot_be_expanded_are_kept_nowhere(name: str, tmp_path: Path) -> None:
    packer = codec(name)
    assert packer is not None
    for bad in (packer.compress(DATA) + b"junk", packer.compress(DATA)[:-3], b""):
        (tmp_path / DIGEST).write_bytes(bad)
        store = Sha1Store(FileRaw(), f"file://{tmp_path}/", True, compression=name)
        with pytest.raises(InvalidDataFound):
            store.get(DIGEST)
        box, api = Box(), API({DIGEST: DATA})
        composite = composed(as_cache(box), store)
        composite.append_store(api)
        with pytest.raises(LookupFailed):
            composite.get(DIGEST)
        assert box.held == {} and api.calls == []


# ---------------------------------------------------------------------- look-alikes

LOOK_ALIKES = {
    "empty": "",
    "short": "a" * 39,
    "long": "a" * 41,
    "full-width digits": "\uff11" * 40,
    "arabic digits": "\u0661" * 40,
    "cyrillic a": "a" * 39 + "\u0430",
    "kelvin sign": "a" * 39 + "\u212a",
    "half a surrogate": "a" * 39 + "\ud800",
    "newline after": "a" * 40 + "\n",
    "newline inside": "a" * 20 + "\n" + "a" * 19,
    "carriage return after": "a" * 39 + "\r",
    "NUL after": "a" * 40 + "\0",
    "NUL inside": "a" * 20 + "\0" + "a" * 19,
    "slash": "a" * 19 + "/" + "a" * 20,
    "backslash": "a" * 19 + "\\" + "a" * 20,
    "parent folders": "../" * 13 + "a",
    "parent in the middle": "aa/../" + "a" * 34,
    "0x": "0x" + "a" * 38,
    "plus": "+" + "a" * 39,
    "underscore": "a" * 19 + "_" + "a" * 20,
    "blank before": " " + "a" * 39,
    "percent": "%61" * 13 + "a",
    "template": "{digest}" * 5,
    "query": "a" * 38 + "?b",
    "combining": "a" * 39 + "\u0301",
    "right to left": "\u202e" + "a" * 39,
}
look_alikes = pytest.mark.parametrize("bad", LOOK_ALIKES.values(), ids=LOOK_ALIKES)


@look_alikes
def test_look_alikes_of_digests_reach_no_store(bad: str, tmp_path: Path) -> None:
    shelf, box, api = Shelf(), Box(), API({})
    composite = composed(as_cache(box), shelf)
    composite.append_store(api)
    folder = tmp_path / "blobs"
    folder.mkdir()
    stores = [kind(FileRaw(), f"file://{folder}/") for kind in (Sha1Store, Sha1Cache)]
    operations: list[Any] = [composite.get, composite.exists, composite.canonical, api.get, api.canonical]
    for operation in operations:
        for form in (bad, f"sha1://{bad}"):
            with pytest.raises(InvalidURI):
                operation(form)
    for store in stores:
        for operation in (store.get, store.exists, store.url, lambda uri, store=store: store.put(uri, b"x")):
            with pytest.raises(InvalidURI, match=r"40 hex|sha1"):
                operation(bad)
    [blob] = composite.get_many([bad])
    assert isinstance(blob.error, InvalidURI) and blob.uri == bad and not blob.missing
    assert shelf.asked == box.asked == api.calls == []
    assert list(tmp_path.rglob("*")) == [folder]


@pytest.mark.parametrize("bad", [None, 5, ["a" * 40], 1.5, object()], ids=lambda bad: type(bad).__name__)
def test_keys_of_other_types_reach_no_store(bad: Any) -> None:
    shelf = Shelf()
    composite = composed(shelf)
    with pytest.raises(TypeError, match="as bytes or str, got"):
        composite.get(bad)
    [blob] = composite.get_many([bad])
    assert isinstance(blob.error, TypeError)
    assert shelf.asked == []


@look_alikes
def test_the_file_of_any_key_stays_in_the_folder_of_the_cache(bad: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    for algorithm in (None, "sha1"):
        cache = DiskCache(folder, algorithm=algorithm)
        if not bad:
            for operation in (cache.get, cache.exists, cache.path, cache.delete, lambda uri: cache.put(uri, b"x")):  # noqa: B023
                with pytest.raises(InvalidURI):
                    operation(bad)
            continue
        with pytest.raises(NotFoundInStore):
            cache.get(bad)
        cache.put(bad, DATA)
        assert cache.get(bad) == DATA
        assert cache.path(bad).resolve().is_relative_to(folder / "keys")
        assert cache.delete(bad)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["cache"])
    memory = MemoryCache()
    if bad:
        memory.put(bad, DATA)
        assert memory.get(bad) == DATA


@look_alikes
def test_files_outside_the_root_are_refused(bad: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    raw = FileRaw(root=root)
    for path in (f"{root}/../secret", f"{root}/{bad}/../../../secret", f"{root}/%2e%2e/secret", f"{tmp_path}/secret"):
        with pytest.raises((InvalidURI, NotFoundInStore)):
            raw.get(f"file://{path}")
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidURI):
        raw.get(f"file://{root}/link/secret")


@pytest.mark.parametrize(
    "text",
    ["{digest.__class__}", "{0}", "{}", "{digest!r}", "{digest:>50}", "{digest[0]}", "{digest[:2]}", "{digest[::-1]}",
     "{digest[:\uff12]}{digest}", "{digest[:1_0]}{digest}", "{digest", "digest}", "{{digest}}", "{Digest}", "{digest }",
     "{digest[2:]}", "{digest[:20]}{digest[21:]}"],
)  # fmt: skip
def test_an_impossible_key_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key template"):
        KeyTemplate(f"s3://bucket/{text}")


@pytest.mark.parametrize(
    "url",
    ["s3://bucket\n/x/", "s3:///x/", "s3://buc ket/x/", "gs://b\u0000/x/", "https://user:pw@host/x/", "s3://b/\u0000",
     "https://ho st/x/", "ftp://host/x/", "file://host/x/", "javascript:alert(1)", "https://host/x#y/", "//host/x",
     "s3://b/{x}"],
)  # fmt: skip
def test_a_bad_url_in_a_configuration_is_refused_without_its_password(url: str) -> None:
    text = f'algorithm = "sha1"\n[[tier]]\nname = "the tier"\nurl = {json.dumps(url)}\n'
    with pytest.raises(ConfigError, match="the tier") as caught:
        loads(text)
    assert "pw" not in str(caught.value)


# ---------------------------------------------------------------------- lists


@look_alikes
def test_bad_lines_of_a_list_are_reported_and_good_ones_read(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{DIGEST}\n{bad}\n{DIGEST.upper()}\n", encoding="utf-8", errors="surrogatepass")
    entries = list(HashList(str(path), algorithm="sha1"))
    assert [entry.digest for entry in entries if entry.digest] in (
        [DIGEST, DIGEST],
        # What only the white space around it spoils is a digest: lists are written by all sorts of programs.
        *([[DIGEST, bad.strip(), DIGEST]] if len(bad.strip()) == 40 and bad.strip().isascii() else []),
    )


@pytest.mark.parametrize(
    "column",
    [pa.array([1, 2]), pa.array([1.5]), pa.array([[DIGEST]]), pa.array([{"a": DIGEST}]), pa.array([True]),
     pa.array([None], pa.null()), pa.array([1], pa.timestamp("us")), pa.array([1, 2]).dictionary_encode()],
    ids=lambda column: str(column.type).replace(" ", ""),
)  # fmt: skip
def test_a_parquet_list_of_a_wrong_type_is_refused(column: Any, tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"sha1": column}), path)
    with pytest.raises(ListError, match=r"column 'sha1'.*expected text"):
        HashList(str(path), algorithm="sha1")


def test_broken_lists_are_refused_with_a_clear_error(tmp_path: Path) -> None:
    parquet = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"sha1": [DIGEST] * 100}), parquet)
    whole = parquet.read_bytes()
    packed = gzip.compress(f"{DIGEST}\n".encode() * 100_000)
    for name, content in {
        "cut.parquet": whole[: len(whole) // 2],
        "magic.parquet": b"PAR1",
        "twice.parquet": b"PAR1" + b"\xff" * 100 + b"PAR1",
        "cut.gz": packed[: len(packed) // 2],
        "junk.gz": packed + b"junk",
        "magic.gz": b"\x1f\x8b",
        "binary.txt": os.urandom(100_000),
        "empty.txt": b"",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ListError, match=name):
            list(HashList(str(path), algorithm=None))


def test_a_list_that_is_one_endless_line_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "line.gz"
    path.write_bytes(gzip.compress(f"{DIGEST}\n".encode()) + gzip_bomb(200 * MB))
    code = f"""
        from bitstore._digests.hash_list import HashList
        report([[len(entry.text), entry.digest] for entry in HashList({str(path)!r}, algorithm="sha1")])
    """
    entries, peak = child(code)
    assert entries[0] == [40, DIGEST] and len(entries) == 2 and entries[1][1] is None and entries[1][0] <= 65536
    assert peak < 150 * MB


# ---------------------------------------------------------------------- servers


def test_servers_that_send_too_much_cost_bounded_memory(tmp_path: Path) -> None:
    """In one child, whose memory tells: an honest error each time, and the next request works."""
    limited = ["named-10gb", "unnamed", "chunks"]
    odd = ["header-1mb", "endless-headers", "endless-100", "negative-length", "two-lengths", "no-http"]
    with HostileServer() as server:
        code = f"""
            from bitstore import *
            from bitstore._raw.gs import GSRaw
            options = dict(retry=Retry(attempts=2, first_delay=0.001), stall_timeout=5)
            raw, plain = HTTPRaw(max_blob_size="10MB", **options), HTTPRaw(**options)
            told = {{}}
            def ask(name, store, uri):
                [blob] = store.get_many([uri])
                try: found = store.get(uri).decode()
                except Exception as error: found = type(error).__name__ + ": " + str(error)
                told[name] = [found, blob.data.decode() if blob.found else type(blob.error).__name__]
            # An error without an end is known by its status.
            ask("error", raw, "{server.url}/error-chunks")
            ask("plain error", HTTPRaw(max_blob_size=10, **options), "{server.url}/error-chunks")
            ask("unlimited error", HTTPRaw(range_threshold="5MB", **options), "{server.url}/error-chunks")
            for name, store in {{"raw": raw, "plain": plain}}.items():
                try: store.download("{server.url}/error-chunks", {os.fspath(tmp_path / "out")!r})
                except Exception as error: told[name + " download"] = [type(error).__name__, ""]
            for what in {limited + odd + ["more-than-named"]!r}:
                ask(what, raw, "{server.url}/" + what)
            for what in {[*odd, "more-than-named"]!r}:
                ask("plain " + what, plain, "{server.url}/" + what)
            s3 = S3Raw("anonymous", endpoint_url="{server.url}", region="us-east-1", max_blob_size="10MB", **options)
            for what in {limited!r}:
                ask("s3 " + what, s3, "s3://bucket/" + what)
            # S3 says by a code that a key is missing: a mere 404 may be any proxy's.
            ask("s3 error", s3, "s3://bucket/error-chunks")
            report(told)
        """
        told, peak = child(code)
        sent = server.sent
    for name in [*limited, *(f"s3 {what}" for what in limited)]:
        assert "StoreNotAvailable: " in told[name][0] and "10000000 bytes" in told[name][0], told[name]
    for name in [*odd, *(f"plain {what}" for what in odd)]:
        assert told[name][0].startswith("StoreNotAvailable: ") and "curl error" in told[name][0], told[name]
    for name in ("error", "plain error", "unlimited error"):
        found, in_batch = told.pop(name)
        assert found.startswith("NotFoundInStore: ") and in_batch == "NotFoundInStore", found
    found, in_batch = told.pop("s3 error")
    assert found.startswith("StoreNotAvailable: ") and "404" in found and in_batch == "StoreNotAvailable"
    assert told.pop("raw download")[0] == told.pop("plain download")[0] == "NotFoundInStore"
    for name, (_, in_batch) in told.items():
        assert in_batch == ("hello" if "more-than-named" in name else "StoreNotAvailable"), (name, in_batch)
    assert told["more-than-named"][0] == told["plain more-than-named"][0] == "hello"
    assert peak < 220 * MB  # an error's body of up to 64 MB, in pieces and then as a whole, and the imports
    assert sent < 1000 * MB


def test_successes_without_the_blob_are_failures() -> None:
    """A part that was not asked for is not the whole, and no content is no empty blob."""
    with HostileServer() as server:
        where: Any = {"endpoint_url": server.url, "retry": Retry(attempts=1)}
        stores: list[tuple[Store, str]] = [(HTTPRaw(), server.url), (S3Raw("anonymous", region="us-east-1", **where), "s3://bucket"),
                  (GSRaw("anonymous", **where), "gs://bucket")]  # fmt: skip
        for store, prefix in stores:
            for what, status in (("part", "206"), ("nothing", "204")):
                for _ in range(2):  # the second time the bucket is known
                    with pytest.raises(StoreNotAvailable, match=status) as caught:
                        store.get(f"{prefix}/{what}")
                    assert not isinstance(caught.value, NotFoundInStore) and "hello" not in str(caught.value)
                [blob] = store.get_many([f"{prefix}/{what}"])
                assert blob.failed
        assert HTTPRaw().get(f"{server.url}/odd-redirect") == b"hello"
        [blob] = HTTPRaw().get_many([f"{server.url}/odd-redirect"])
        assert blob.data == b"hello"


def child(code: str) -> tuple[Any, int]:
    """Run `code` in a process of its own; what it gave to `report`, and the most memory that it used, in bytes."""
    lines = ["import json, pathlib, re, resource, sys", "def report(what):"]
    # Of a child that was forked, getrusage tells the memory of its parent, if that is more.
    lines += ["    if sys.platform == 'darwin': peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"]
    lines += [
        "    else: peak = 1024 * int(re.search(r'VmHWM:\\s*(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])"
    ]
    lines += ["    print(json.dumps([what, peak]))"]
    body = code.splitlines()[1:]
    indent = len(body[0]) - len(body[0].lstrip())
    script = "\n".join([*lines, *(line[indent:] for line in body)])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout, done.stderr
    found, peak = json.loads(done.stdout)
    return found, peak


def test_a_store_that_lies_about_everything_yields_no_wrong_bytes() -> None:
    """A user's store may return anything: nothing but the blob itself passes a store that verifies."""
    for lie in (b"", b"x", bytearray(DATA + b"!"), "text", None, 5, [DATA], memoryview(b"x")):
        shelf = Shelf({f"mem://{DIGEST}": lie})  # type: ignore[dict-item]
        with pytest.raises((InvalidDataFound, StoreNotAvailable, TypeError)):
            Sha1Store(shelf, "mem://", verify=True).get(DIGEST)
        cache = MemoryCache()
        composite = composed(as_cache(cache), Sha1Store(shelf, "mem://", verify=True))
        with pytest.raises(LookupFailed):
            composite.get(DIGEST)
        [blob] = composite.get_many([DIGEST], patience=0)
        assert blob.failed and not cache.exists(DIGEST)
