"""`bitstore index`, run as people run it: what is built holds all that the source does, or is not built."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pyarrow
import pyarrow.parquet
import pytest
from pyarrow import orc

from bitstore.index import Index
from tests.cli_scene import Scene
from tests.scripted_server import ScriptedServer
from tests.servers import FakeGCS, FaultProxy, Hold, SeaweedS3, s3_error
from tests.test_cli_verify import fill as fill

HELD = [hashlib.sha1(str(number).encode()).hexdigest() for number in range(300)]
OTHERS = [hashlib.sha1(f"other {number}".encode()).hexdigest() for number in range(50)]


def assert_holds(path: Path, held: Iterable[str]) -> None:
    """The index holds these digests and no others."""
    held = list(held)
    with Index(path) as index:
        assert len(index) == len(set(held)) and all(digest in index for digest in held)
        assert not any(digest in index for digest in OTHERS)


def objects(out: str) -> dict[str, Any]:
    return {found["type"]: found for found in map(json.loads, out.splitlines())}


# ---------------------------------------------------------------------- lists


@pytest.mark.parametrize("kind", ["text", "csv", "gzip", "string", "large", "binary", "fixed", "slow", "dictionary"])
def test_an_index_of_a_list_holds_each_of_its_digests(scene: Scene, kind: str) -> None:
    raw = [bytes.fromhex(digest) for digest in HELD]
    columns: dict[str, Any] = {
        "string": pyarrow.array(HELD).slice(0),
        "large": pyarrow.array(HELD, pyarrow.large_string()),
        "binary": pyarrow.array(raw),
        "fixed": pyarrow.array(raw, pyarrow.binary(20)),
        "slow": pyarrow.array([HELD[0].upper(), f"sha1://{HELD[1]}", *HELD]),
        "dictionary": pyarrow.array(HELD).dictionary_encode(),
    }
    texts = {"text": "\n".join(HELD), "csv": "sha1,x\n" + "".join(f"{digest},1\n" for digest in HELD)}
    path = scene.root / "list"
    if kind in columns:
        table = pyarrow.table({"a": pyarrow.array(range(len(columns[kind]))), "sha1": columns[kind]})
        pyarrow.parquet.write_table(table, path, row_group_size=77)
    else:
        text = texts.get(kind, texts["text"]).encode()
        path.write_bytes(gzip.compress(text) if kind == "gzip" else text)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    for layout in ("sorted", "fuse"):
        code, out, err = scene("index", "build", "list", "-o", "x/y.idx", "--layout", layout, "--json")
        assert code == 0, err
        told = objects(out)
        assert told["index"]["covers_up_to"] == "2023-11-14T22:13:20+00:00"
        assert (told["index"]["source"], told["index"]["layout"]) == ("list", layout)
        assert told["index-build"]["others"] == 0
        assert_holds(scene.root / "x/y.idx", HELD)
    assert sorted(path.name for path in (scene.root / "x").iterdir()) == ["y.idx", "y.idx.added"]


def test_entries_of_a_list_that_are_no_digests_are_told(scene: Scene) -> None:
    (scene.root / "list").write_text("\n".join([*HELD, "nonsense"]))
    table = pyarrow.table({"sha1": [*HELD, None, " " * 40]})
    pyarrow.parquet.write_table(table, scene.root / "table")
    for name, bad in (("list", 1), ("table", 2)):
        code, _, err = scene("index", "build", name, "-o", "x.idx")
        assert code == 1 and f"no digests: {bad}\n" in err and "entry 301: " in err
        assert_holds(scene.root / "x.idx", HELD)
    (scene.root / "more").write_text(OTHERS[0])
    code, out, _ = scene(
        "index", "build", "list", "more", "--covers-up-to", "2026-01-01T00:00:00Z", "-o", "x.idx", "--json"
    )
    assert (code, objects(out)["index"]["count"]) == (1, 301)
    assert objects(out)["index"]["covers_up_to"] == "2026-01-01T00:00:00+00:00"


# ---------------------------------------------------------------------- listings


@pytest.mark.parametrize("kind", ["file", "s3", "gs"])
@pytest.mark.parametrize("template", ["p/", "p/{digest[:2]}/{digest}.gz", "p/x{digest[1:3]}/{digest}"])
def test_an_index_of_a_listing_holds_each_key(fill: Any, scene: Scene, kind: str, template: str) -> None:
    put, url = fill(kind)
    name = template if "{" in template else template + "{digest}"
    for digest in HELD[:60]:
        key = name.replace("{digest}", digest).replace("{digest[:2]}", digest[:2]).replace("{digest[1:3]}", digest[1:3])
        put(key, b"x")
    for stray in ("p/README", "p/:", "p/0-no", "p/9", "p/ff0/x", f"p/{HELD[61].upper()}", "p/zz~", f"q/{OTHERS[0]}"):
        put(stray, b"x")
    before = datetime.now(timezone.utc).replace(microsecond=0)
    code, out, err = scene("index", "build", url + template, "-o", "x.idx", "--json")
    assert code == 0, err
    told = objects(out)
    assert before <= datetime.fromisoformat(told["index"]["covers_up_to"]) <= datetime.now(timezone.utc)
    assert told["index"]["source"] == (url + name)
    assert told["index-build"]["digests"] == 60
    if kind != "file" and "x" not in template:
        assert told["index-build"]["others"] in (6, 7)  # "p/:" alone may be leapt over
    assert_holds(scene.root / "x.idx", HELD[:60])
    assert not (scene.root / "x.idx.listing").exists()


def test_linked_folders_are_in_the_index_as_lookups_find_what_is_in_them(scene: Scene) -> None:
    (scene.root / "disk2").mkdir()
    (scene.root / "disk2" / HELD[0]).write_bytes(b"")
    (scene.root / "shelf" / HELD[0][:2]).symlink_to(scene.root / "disk2")
    (scene.root / "shelf" / HELD[1][:2]).mkdir()
    (scene.root / "shelf" / HELD[1][:2] / HELD[1]).symlink_to("nowhere")
    (scene.root / "shelf" / "loop").symlink_to("loop")
    (scene.root / "shelf" / "f0").symlink_to(".")
    url = (scene.root / "shelf").as_uri() + "/{digest[:2]}/{digest}"
    assert scene("index", "build", url, "-o", "x.idx", "--algorithm", "sha1")[0] == 0
    assert_holds(scene.root / "x.idx", HELD[:2])


def test_a_tier_and_a_folder_are_sources(scene: Scene) -> None:
    (scene.root / "shelf" / HELD[0]).write_bytes(b"")
    for words in (
        ["--config", "good.toml", "--tier", "shelf"],
        ["shelf"],
        ["--store", (scene.root / "shelf").as_uri() + "/"],
    ):
        assert scene("index", "build", *words, "-o", "x.idx")[0] == 0
        assert_holds(scene.root / "x.idx", HELD[:1])


def test_many_pages_are_listed_side_by_side(scene: Scene) -> None:
    keys = sorted(hashlib.sha1(str(number).encode()).hexdigest() for number in range(20_000))
    with ScriptedServer(lambda asked: _listing_of(asked, keys)) as server:
        words = ["s3://bucket/", "--anonymous", "--endpoint-url", server.url]
        code, _, err = scene("index", "build", *words, "-o", "x.idx")
    assert code == 0, err
    assert_holds(scene.root / "x.idx", keys)


def test_an_index_of_a_bucket_names_the_service_that_was_listed(
    scene: Scene, gcs: FakeGCS, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(lambda asked: _listing_of(asked, HELD)) as server:
        address = server.url.removeprefix("http://")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{server.url}/")
        code, out, err = scene("index", "build", "s3://bucket/", "-o", "x.idx", "--anonymous", "--json")
        assert code == 0 and objects(out)["index"]["service"] == address, err
    assert f"source: s3://bucket/{{digest}} at {address}\n" in scene("index", "show", "x.idx")[1]
    gcs.put(gcs_bucket, HELD[0], b"x")
    words = [f"gs://{gcs_bucket}/", "--anonymous", "--endpoint-url", gcs.url]
    code, out, _ = scene("index", "build", *words, "-o", "y.idx", "--json")
    assert code == 0 and objects(out)["index"]["service"] == gcs.url.removeprefix("http://")


def _listing_of(asked: Any, keys: list[str], *, prefix: str | None = None, behind: str | None = None) -> Any:
    """A page of 100 keys of a bucket, as S3 gives it, or with other values than it was asked for."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
    prefix = query.get("prefix", "") if prefix is None else prefix
    behind = query.get("continuation-token") or query.get("start-after", "") if behind is None else behind
    found = [key for key in keys if key.startswith(prefix) and key > behind]
    inner = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in found[:100])
    if len(found) > 100:
        inner += f"<IsTruncated>true</IsTruncated><NextContinuationToken>{found[99]}</NextContinuationToken>"
    return 200, {}, f"<ListBucketResult>{inner}</ListBucketResult>".encode()


@pytest.mark.parametrize("fault", ["refused", "cut", "gone", "no token"])
def test_a_listing_that_fails_is_an_error_and_no_shorter_index(scene: Scene, fault: str) -> None:
    keys = sorted(HELD)
    (scene.root / "x.idx").write_bytes(b"the index of before")
    broken = True

    def answer(asked: Any) -> Any:
        status, headers, body = _listing_of(asked, keys)
        if broken and "prefix=a" in asked.target:
            if fault == "refused":
                return 403, {}, b"<Error><Code>AccessDenied</Code></Error>"
            if fault == "gone":
                return 404, {}, b"<Error><Code>NoSuchBucket</Code></Error>"
            if fault == "no token":
                return 200, {}, b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
            return status, headers, body[: len(body) // 2]
        return status, headers, body

    with ScriptedServer(answer) as server:
        words = ["index", "build", "s3://bucket/", "-o", "x.idx", "--anonymous", "--endpoint-url", server.url]
        code, out, err = scene(*words, "--json")
        assert (code, list(objects(out))) == (2, ["error"]) and "was not written: " in err
        assert (scene.root / "x.idx").read_bytes() == b"the index of before"
        broken = False
        code, _, err = scene(*words)
    assert code == 0 and "that an earlier run has listed" in err
    assert_holds(scene.root / "x.idx", keys)
    assert not (scene.root / "x.idx.listing").exists()


def test_a_part_goes_on_behind_its_last_page(scene: Scene) -> None:
    keys = sorted(hashlib.sha1(str(number).encode()).hexdigest() for number in range(5000))
    asked_for: list[str] = []
    broken = True

    def answer(asked: Any) -> Any:
        asked_for.append(asked.target)
        if broken and "prefix=a" in asked.target and "continuation-token" in asked.target:
            return 403, {}, b"<Error><Code>AccessDenied</Code></Error>"
        return _listing_of(asked, keys)

    with ScriptedServer(answer) as server:
        words = ["index", "build", "s3://bucket/", "-o", "x.idx", "--anonymous", "--endpoint-url", server.url]
        assert scene(*words, "--algorithm", "sha1")[0] == 2
        broken = False
        asked_for.clear()
        assert scene(*words, "--algorithm", "sha1")[0] == 0
    (first, *_) = (target for target in asked_for if "prefix=a" in target)
    assert f"start-after={[key for key in keys if key[0] == 'a'][99]}" in first
    assert_holds(scene.root / "x.idx", keys)


def test_a_failed_listing_of_another_service_goes_on_too(
    scene: Scene, gcs: FakeGCS, gcs_bucket: str, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    for digest in HELD[:40]:
        gcs.put(gcs_bucket, digest, b"x")
    proxy = fault_proxy(gcs.url)
    words = ["index", "build", f"gs://{gcs_bucket}/", "-o", "x.idx", "--anonymous", "--endpoint-url", proxy.url]
    proxy.rules.add(s3_error(403, "Forbidden"), method="GET", path="prefix=3")
    code, _, err = scene(*words)
    assert code == 2 and "403" in err and not (scene.root / "x.idx").exists()
    proxy.rules.clear()
    assert scene(*words)[0] == 0
    assert_holds(scene.root / "x.idx", HELD[:40])


@pytest.mark.parametrize("lie", ["no prefix", "no order", "no start-after", "round", "empty pages"])
def test_a_store_that_lies_never_makes_an_index_shorter(scene: Scene, lie: str) -> None:
    keys = sorted([*HELD, "README", "zz"])

    def answer(asked: Any) -> Any:
        asks = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
        if lie == "no prefix":
            return _listing_of(asked, keys, prefix="")
        if lie == "no order":
            inner = "".join(
                f"<Contents><Key>{key}</Key></Contents>" for key in HELD if key.startswith(asks.get("prefix", ""))
            )
            return 200, {}, f"<ListBucketResult>{inner}</ListBucketResult>".encode()
        if lie == "no start-after":
            return _listing_of(asked, keys, behind=asks.get("continuation-token", ""))
        if lie == "round" and asks.get("prefix"):
            return 200, {}, b"<ListBucketResult><NextContinuationToken>x</NextContinuationToken></ListBucketResult>"
        if lie == "empty pages" and asks.get("prefix") and "continuation-token" not in asks:
            return 200, {}, b"<ListBucketResult><NextContinuationToken>0</NextContinuationToken></ListBucketResult>"
        return _listing_of(asked, keys)

    with ScriptedServer(answer) as server:
        words = ["index", "build", "s3://bucket/", "-o", "x.idx", "--anonymous", "--endpoint-url", server.url]
        code, _, err = scene(*words)
    if lie == "round":
        assert code == 2 and "names the same page as the next one again" in err
    else:
        assert code == 0, err
        assert_holds(scene.root / "x.idx", HELD)


@pytest.mark.parametrize("template", ["{digest[32:]}-{digest}", "{digest[20:22]}{digest}", "x/{digest[:0]}a{digest}"])
def test_a_template_whose_keys_begin_unlike_digests_is_listed_whole(scene: Scene, template: str) -> None:
    held = [hashlib.md5(str(number).encode()).hexdigest() for number in range(50)]
    keys = []
    for digest in held:
        fields = {"{digest[32:]}": "", "{digest[20:22]}": digest[20:22], "{digest[:0]}": "", "{digest}": digest}
        key = template
        for field, text in fields.items():
            key = key.replace(field, text)
        keys.append(key)
    with ScriptedServer(lambda asked: _listing_of(asked, sorted(keys))) as server:
        words = [f"s3://bucket/{template}", "--anonymous", "--endpoint-url", server.url, "--algorithm", "md5"]
        assert scene("index", "build", *words, "-o", "x.idx")[0] == 0
    with Index(scene.root / "x.idx") as index:
        assert len(index) == 50 and all(digest in index for digest in held)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_listing_goes_on_where_it_was(
    scene: Scene, s3: SeaweedS3, bucket: str, fault_proxy: Callable[[str], FaultProxy], number: int
) -> None:
    for digest in HELD[:100]:
        s3.put(bucket, digest, b"x")
    proxy = fault_proxy(s3.endpoint_url)
    hold = Hold()
    rule = proxy.rules.add(hold, method="GET", path="prefix=7")
    words = [sys.executable, "-m", "bitstore", "index", "build", f"s3://{bucket}/", "-o", "x.idx", "--json"]
    environment = {**os.environ, **s3.environment(endpoint_url=proxy.url)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        rule.wait_hits()
        parts = scene.root / "x.idx.listing"
        while sum(part.stat().st_size > 0 for part in parts.glob("*/*.part")) < 16:
            assert process.poll() is None
        second = subprocess.run(words, capture_output=True, env=environment, timeout=60, check=False)
        assert second.returncode == 3 and b"is in use" in second.stderr
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        hold.release()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), err
    assert not (scene.root / "x.idx").exists()
    proxy.rules.clear()
    proxy.rules.add(s3_error(500, "InternalError"), method="GET", path="prefix=3")  # it is listed already
    again = subprocess.run(words, capture_output=True, env=environment, timeout=60, check=False)
    assert again.returncode == 0, again.stderr
    told = objects(again.stdout.decode())
    assert told["index-build"]["digests"] == 100 > told["index-build"]["resumed"] > 50
    assert_holds(scene.root / "x.idx", HELD[:100])


def test_a_page_that_was_cut_or_damaged_is_listed_again(scene: Scene) -> None:
    from bitstore._indexing.journal import Journal

    journal = Journal(scene.root / "a.part")
    pages = [bytes([number]) * 40 for number in range(1, 4)]
    for number, page in enumerate(pages):
        journal.append(page, number, f"s3://b/\udcff{number}", last=number == 2)
    journal.close()
    whole = (scene.root / "a.part").read_bytes()
    ends = [0, len(whole) // 3, 2 * len(whole) // 3, len(whole)]
    for length in range(len(whole) + 1):
        for damaged in (whole[:length], whole[:length] + bytes(len(whole) - length)):
            (scene.root / "b.part").write_bytes(damaged)
            journal = Journal(scene.root / "b.part")
            count = sum(end <= length for end in ends[1:])
            assert b"".join(journal.pieces()) == b"".join(pages[:count])
            assert (journal.done, journal.digest_bytes) == (count == 3, 40 * count)
            assert journal.cursor == (f"s3://b/\udcff{count - 1}" if count else None)
            journal.close()


# ---------------------------------------------------------------------- inventories


def inventory(folder: Path, kind: str, *, versions: bool = True) -> Path:
    """An inventory of `bucket` as Amazon writes it; returns the path of its manifest."""
    rows = [(f"a b/{digest}", f"v{number}", True, False) for number, digest in enumerate(HELD)]
    rows += [
        (f"a b/{OTHERS[0]}", "v", False, False),
        (f"a b/{OTHERS[1]}", "v", True, True),
        ("a b/é?.txt", "v", True, False),
    ]
    names = ["Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size"]
    (folder / "data").mkdir(parents=True)
    (folder / "2026-11-27T00-00Z").mkdir()
    files = []
    for number, part in enumerate((rows[:100], rows[100:], [])):
        columns = [["bucket"] * len(part), *map(list, zip(*part, strict=True)), [1] * len(part)] if part else [[]] * 6
        types = [pyarrow.string()] * 3 + [pyarrow.bool_()] * 2 + [pyarrow.int64()]
        table = pyarrow.table(
            [pyarrow.array(column, kind) for column, kind in zip(columns, types, strict=True)],
            names=["bucket", "key", "version_id", "is_latest", "is_delete_marker", "size"],
        )
        path = folder / "data" / f"{number}.{kind.lower()}"
        if kind == "CSV":
            text = "".join(
                f'"bucket","{quote_plus(key)}","{version}","{str(latest).lower()}","{str(marker).lower()}","1"\n'
                for key, version, latest, marker in part
            )
            path.write_bytes(gzip.compress(text.encode()))
        elif kind == "ORC":
            orc.write_table(table, path)
        else:
            pyarrow.parquet.write_table(table, path)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        files.append({"key": f"inv/bucket/daily/data/{path.name}", "size": path.stat().st_size, "MD5checksum": md5})
    manifest = folder / "2026-11-27T00-00Z" / "manifest.json"
    told = {
        "sourceBucket": "bucket", "destinationBucket": "arn:aws:s3:::reports", "version": "2016-11-30",
        "creationTimestamp": "1700000000000", "fileFormat": kind, "fileSchema": ", ".join(names), "files": files,
    }  # fmt: skip
    manifest.write_text(json.dumps(told))
    (manifest.parent / "manifest.checksum").write_text(hashlib.md5(manifest.read_bytes()).hexdigest() + "\n")
    return manifest


@pytest.mark.parametrize("kind", ["CSV", "ORC", "Parquet"])
def test_an_index_of_an_inventory_holds_all_current_versions(
    scene: Scene, aws_env: SeaweedS3, bucket: str, kind: str
) -> None:
    manifest = inventory(scene.root / "inv/bucket/daily", kind)
    words = ["index", "build", str(manifest), "-o", "x.idx", "--template", "s3://bucket/a b/"]
    code, out, err = scene(*words, "--json")
    assert code == 0, err
    assert objects(out)["index"]["covers_up_to"] == "2023-11-14T22:13:20+00:00"
    assert objects(out)["index-build"]["others"] == 1
    assert_holds(scene.root / "x.idx", HELD)
    for path in (scene.root / "inv").rglob("*.*"):
        if path.is_file():
            aws_env.put(bucket, str(path.relative_to(scene.root)), path.read_bytes())
    words[2] = f"s3://{bucket}/inv/bucket/daily/2026-11-27T00-00Z/manifest.json"
    assert scene(*words, "--layout", "fuse")[0] == 0
    assert_holds(scene.root / "x.idx", HELD)


def test_an_inventory_that_is_not_whole_is_an_error(scene: Scene) -> None:
    manifest = inventory(scene.root / "inv", "CSV")
    told = json.loads(manifest.read_text())
    data = scene.root / "inv" / "data" / "1.csv"
    whole = data.read_bytes()
    words = ["index", "build", str(manifest), "-o", "x.idx", "--template", "s3://bucket/a b/"]

    def refused(code: int, says: str, *more: str) -> None:
        returned, _, err = scene(*words, *more)
        assert returned == code and says in err, err
        assert not (scene.root / "x.idx").exists()

    data.write_bytes(whole[:-9])
    refused(2, "does not match its MD5")
    data.unlink()
    refused(2, "names inv/bucket/daily/data/1.csv, which is not there")
    data.write_bytes(whole)
    refused(3, "is of keys below s3://bucket/", "--template", "s3://other/")
    refused(3, "is --template right?", "--template", "s3://bucket/other/")
    manifest.write_text(json.dumps({**told, "x": 1}))
    refused(3, "does not match the manifest.checksum")
    (manifest.parent / "manifest.checksum").unlink()
    files = told["files"]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"fileFormat": "XML"}, "fileFormat is 'XML'"),
        ({"files": [{"key": "x"}]}, "are not as an S3 Inventory has them"),
        ({"files": [{"key": "x", "MD5checksum": ""}]}, "has no MD5checksum"),
        ({"files": [files[0], files[0]]}, "names a file twice"),
        ({"fileSchema": "Bucket, Size, A, B, C, D"}, "has no column Key"),
        ({"fileSchema": "Bucket, Key, VersionId, B, C, D"}, "no column IsLatest"),
        ({"fileSchema": "Bucket, Key"}, "cannot read"),
        ({"creationTimestamp": "never"}, "are not as"),
    ]
    for change, says in changes:
        manifest.write_text(json.dumps({**told, **change}))
        refused(3, says)
    manifest.write_text('{"files": []}')
    refused(3, "is no manifest.json of an S3 Inventory: it lacks 'sourceBucket'")
    words = words[:-2]
    manifest.write_text(json.dumps(told))
    refused(3, "--template says which keys")


# ---------------------------------------------------------------------- what is refused, and the other commands


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "--layout", "tree"], "--layout tree: choose sorted or fuse"),
        (["list", "--algorithm", "crc"], "--algorithm crc: choose sha1"),
        (["list", "--algorithm", "md5"], "holds sha1 digests"),
        (["none"], "cannot read the list none"),
        (["list", "--profile", "x"], "--profile goes with a URL"),
        (["shelf", "--template", "s3://b/"], "--template goes with the manifest.json"),
        (["list", "--template", "s3://b/{digest}.gz"], "such as '"),
        (["list", "--covers-up-to", "2026-01-01"], "write a moment with its zone"),
        (["list", "--config", "good.toml"], "leave them or the sources out"),
        (["list", "--cache", "c"], "leave --cache and --compression out"),
        (["list", ""], "a source is empty"),
        (["same.idx", "-o", "same.idx"], "is the list itself"),
        (["shelf", "--column", "x", "--algorithm", "sha1"], "--column goes with a list"),
        (["shelf", "--covers-up-to", "2026-01-01T00:00:00Z", "--algorithm", "sha1"], "a listing covers up to when"),
        (["s3://bucket", "--anonymous"], "is no URL that"),
        (["-", "-"], "can be read once"),
        (["list", "list256"], "holds sha256 digests"),
        (["https://host.invalid/"], "can be listed"),
        (["shelf"], "none of the first 0 keys"),
        (["file:///no/such/"], "No such file"),
        (["{digest}://x/"], ""),
    ],
)
def test_build_refuses_what_cannot_be(scene: Scene, words: list[str], says: str) -> None:
    (scene.root / "list").write_text(HELD[0])
    (scene.root / "list256").write_text("0" * 64)
    (scene.root / "same.idx").write_text(HELD[0])
    code, out, err = scene("index", "build", *([] if "-o" in words else ["-o", "x.idx"]), *words)
    assert (code, out) == (3, "") and says in err and "unexpected" not in err
    assert not list(scene.root.glob("x.idx*"))
    for bad in ("-", "shelf", "list/x.idx"):
        assert scene("index", "build", "list", "-o", bad)[:2] == (3, "")


def test_more_lists_than_a_process_may_open_and_names_that_are_no_text(scene: Scene) -> None:
    names = [f"b\udcff\xe4{number}" for number in range(1, 300)]
    for digest, name in zip(HELD[1:], names, strict=True):
        (scene.root / name).write_text(digest)
    table = pyarrow.table({"sha1": HELD[:1]})
    pyarrow.parquet.write_table(table, scene.root / "p")
    command = [sys.executable, "-m", "bitstore", "index", "build", *names, "p", "-o", "x.idx", "--json"]
    line = ["bash", "-c", 'ulimit -n 100; exec "$@"', "bash", *command]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert objects(out)["index"]["source"].endswith("; and 280 more")
    assert_holds(scene.root / "x.idx", HELD)


@pytest.mark.parametrize("output", [">/dev/full", ">&-"])
def test_a_result_that_cannot_be_shown_is_a_failure_and_the_index_is_there(scene: Scene, output: str) -> None:
    (scene.root / "list").write_text("\n".join(HELD))
    command = f"{sys.executable} -m bitstore index"
    for line in (f"{command} build list -o x.idx", f"{command} ask x.idx list -o report"):
        done = subprocess.run(
            ["bash", "-c", f"{line} {output}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2 and "cannot write to standard output" in done.stderr
        assert "unexpected" not in done.stderr
    assert_holds(scene.root / "x.idx", HELD)


@pytest.mark.parametrize("words", [[], ["--quiet"]])
def test_a_terminal_shows_a_bar_unless_results_alone_are_wanted(scene: Scene, words: list[str]) -> None:
    (scene.root / "list").write_text("\n".join(HELD))
    reading, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    command = [sys.executable, "-m", "bitstore", "index", "build", "list", "-o", "x.idx", *words]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=terminal, timeout=60, check=True)
    os.write(terminal, b".\n")
    os.close(terminal)
    said = os.read(reading, 65536)
    os.close(reading)
    assert (b"300 blobs" in said or b"300/300" in said) == (not words), said


def test_an_empty_source_makes_an_empty_index_and_says_so(scene: Scene) -> None:
    code, out, err = scene("index", "build", "shelf", "-o", "x.idx", "--algorithm", "sha1")
    assert code == 1 and "0 sha1 digests" in out and "the index is empty" in err
    assert_holds(scene.root / "x.idx", [])


def test_ask_tells_what_may_be_there_and_what_surely_is_not(scene: Scene) -> None:
    (scene.root / "list").write_text("\n".join(HELD))
    assert scene("index", "build", "list", "-o", "x.idx")[0] == 0
    (scene.root / "asked").write_text("\n".join([OTHERS[0], HELD[1].upper(), "nonsense", HELD[0]]))
    code, out, err = scene("index", "ask", "x.idx", "asked", "-o", "report")
    assert (code, out) == (1, f"{HELD[1]}\n{HELD[0]}\n")
    assert "may be there: 2" in err and "missing: 1: see report/missing.txt" in err and "not a digest: 1" in err
    assert (scene.root / "report/missing.txt").read_text() == f"{OTHERS[0]}\n"
    assert scene("index", "ask", "x.idx", "list", "-q")[::2] == (0, "")
    *outcomes, report = map(json.loads, scene("index", "ask", "x.idx", "asked", "--json")[1].splitlines())
    assert [found["kind"] for found in outcomes] == ["missing", "found", "invalid", "found"]
    assert (report["found"], report["missing"], report["exit_code"]) == (2, 1, 1)
    (scene.root / "list256").write_text("0" * 64)
    assert scene("index", "ask", "x.idx", "list256")[0] == 3
    code, out, _ = scene("index", "merge", "x.idx", "x.idx", "-o", "y.idx", "--json")
    assert (code, objects(out)["index"]["count"]) == (0, 300)
    assert scene("index", "merge", "x.idx", "list", "-o", "y.idx")[0] == 3


def test_a_damaged_index_is_told_and_never_answers(scene: Scene) -> None:
    (scene.root / "list").write_text("\n".join(HELD))
    assert scene("index", "build", "list", "-o", "x.idx")[0] == 0
    assert scene("index", "check", "x.idx")[:2] == (0, "x.idx: whole\n")
    data = bytearray((scene.root / "x.idx").read_bytes())
    data[21_000] ^= 1  # in the digests
    (scene.root / "x.idx").write_bytes(data)
    assert scene("index", "show", "x.idx")[0] == 0
    code, out, _ = scene("index", "check", "x.idx", "--json")
    assert (code, json.loads(out)["whole"]) == (1, False)
    code, out, err = scene("index", "ask", "x.idx", "list")
    assert (code, out) == (2, "") and "stopped because: x.idx" in err
    (scene.root / "x.idx").write_bytes(data[:-1])
    for command, ends in (("show", 3), ("check", 1), ("ask", 3)):
        assert scene("index", command, "x.idx", *(["list"] if command == "ask" else []))[0] == ends
    assert scene("index", "check", "none.idx")[0] == 3
