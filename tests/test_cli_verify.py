"""`bitstore verify`, run as people run it, against buckets and folders with all that may lie there."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore import FileRaw, Sha1Store
from bitstore._cli.verifying import Sampling, VerifyReport, listed, verify_all
from bitstore._digests.template import KeyTemplate
from tests.cli_scene import Scene
from tests.scripted_server import ScriptedServer
from tests.servers import FakeGCS, FaultProxy, Hold, SeaweedS3, s3_error
from tests.stores import blobs, sha1

LARGE = os.urandom(1 << 20) * 20


@pytest.fixture
def fill(request: pytest.FixtureRequest, scene: Scene) -> Callable[[str], tuple[Callable[[str, bytes], None], str]]:
    """Makes a folder or a bucket; returns what puts a key there, and its URL."""

    def make(kind: str) -> tuple[Callable[[str, bytes], None], str]:
        if kind == "file":
            folder = scene.root / "a folder"

            def write(key: str, data: bytes) -> None:
                (folder / key).parent.mkdir(parents=True, exist_ok=True)
                (folder / key).write_bytes(data)

            return write, f"{folder.as_uri()}/"
        if kind == "gs":
            gcs: FakeGCS = request.getfixturevalue("gcs_env")
            bucket = request.getfixturevalue("gcs_bucket")
            return lambda key, data: gcs.put(bucket, key, data), f"gs://{bucket}/"
        s3: SeaweedS3 = request.getfixturevalue("aws_env")
        bucket = request.getfixturevalue("bucket")
        return lambda key, data: s3.put(bucket, key, data), f"s3://{bucket}/"

    return make


@pytest.mark.parametrize("kind", ["file", "s3", "gs"])
def test_verify_tells_what_is_not_right(fill: Any, scene: Scene, kind: str) -> None:
    put, url = fill(kind)
    good = {**blobs(20), sha1(LARGE): LARGE, sha1(b""): b""}
    for digest, data in good.items():
        put(f"p/{digest[:2]}/{digest}", data)
    assert scene("verify", url + "p/{digest[:2]}/{digest}")[:2] == (0, "")
    wrong, large, strange = "1" * 40, "2" * 40, sha1(b"ABC").upper()
    put(f"p/11/{wrong}", b"other")
    put(f"p/22/{large}", LARGE)
    put(f"p/{strange[:2]}/{strange}", b"ABC")  # no store looks for upper case
    put("p/README", b"not a blob")
    put(f"elsewhere/{wrong}", b"not looked at")
    code, out, err = scene("verify", url + "p/{digest[:2]}/{digest}")
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 1 and {(kind, key.rpartition("/")[2]) for kind, key, _ in rows} == {
        ("wrong", wrong), ("wrong", large), ("no digest", "README"), ("no digest", strange)
    }  # fmt: skip
    assert f"its bytes have the sha1 {sha1(b'other')}" in out and f"its bytes have the sha1 {sha1(LARGE)}" in out
    assert "26 objects listed" in err and "right: 22" in err and "wrong: 2" in err
    code, out, _ = scene("verify", url + "p/{digest[:2]}/{digest}", "--json", "--algorithm", "sha1")
    *checks, end = map(json.loads, out.splitlines())
    assert Counter(check["kind"] for check in checks) == {"right": 22, "wrong": 2, "no digest": 2}
    assert (code, end["listed"], end["right"], end["complete"], end["seed"]) == (1, 26, 22, True, None)


@pytest.mark.parametrize("kind", ["file", "s3", "gs"])
def test_verify_resumes_behind_an_object(fill: Any, scene: Scene, kind: str) -> None:
    put, url = fill(kind)
    bad = [f"{number:x}" * 40 for number in range(8)]
    for digest in bad:
        put(f"p/{digest}", b"x")
    code, out, _ = scene("verify", f"{url}p/", "--resume-from", f"{url}p/{bad[4]}")
    assert code == 1 and [line.split("\t")[1] for line in out.splitlines()] == [f"{url}p/{each}" for each in bad[5:]]


def test_verify_expands_what_is_compressed(scene: Scene) -> None:
    (scene.root / "shelf" / "README").write_bytes(b"")
    for data in (b"one", LARGE):
        (scene.root / "shelf" / sha1(data)).write_bytes(gzip.compress(data, 1))
    url = f"{(scene.root / 'shelf').as_uri()}/"
    (scene.root / "shelf" / ("3" * 40)).write_bytes(b"no gzip")
    (scene.root / "shelf" / ("4" * 40)).write_bytes(gzip.compress(b"other"))
    code, out, _ = scene("verify", url, "--compression", "gzip")
    assert code == 1 and sorted(line.split("\t")[0] for line in out.splitlines()) == ["no digest", "wrong", "wrong"]
    for digest in ("3" * 40, "4" * 40):
        (scene.root / "shelf" / digest).unlink()
    assert "right: 2" in scene("verify", url)[2]  # as a lookup takes bodies that were compressed on their way


def test_a_sample_is_drawn_from_all_and_drawn_again_by_its_seed(scene: Scene) -> None:
    for number in range(200):
        (scene.root / "shelf" / hashlib.sha256(str(number).encode()).hexdigest()).write_bytes(b"wrong")
    url = f"{(scene.root / 'shelf').as_uri()}/"

    def drawn(*words: str) -> set[str]:
        code, out, err = scene("verify", url, *words, "--max-failures", "0")
        assert code == 1 and "200 objects listed" in err
        return {line.split("\t")[1] for line in out.splitlines()}

    for words in (("--sample", "20"), ("--fraction", "0.1")):
        one, again, other = (drawn(*words, "--seed", seed) for seed in ("1", "1", "2"))
        assert one == again != other and 5 <= len(one) <= 40
    assert len(drawn("--sample", "20")) == 20 and len(drawn("--sample", "500")) == 200
    told = scene("verify", url, "--sample", "3")[2]
    seed = told.partition("--seed ")[2].split()[0]
    assert len({*drawn("--sample", "3", "--seed", seed), *drawn("--sample", "3", "--seed", seed)}) == 3
    taken = Counter(
        item
        for seed in range(400)
        for item in Sampling(number=5, seed=seed).chosen(range(20))  # type: ignore[arg-type]
    )
    assert len(taken) == 20 and min(taken.values()) > 60 and max(taken.values()) < 140  # 100 each, by its uniformity


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["file:///shelf/", "--fraction", "2"], "--fraction 2.0: a number above 0, and 1 at most"),
        (["file:///shelf/", "--sample", "2", "--fraction", "0.5"], "--sample draws from the whole listing"),
        (["file:///shelf/", "--seed", "2"], "--seed goes with"),
        (["file:///shelf/", "--tier", "x"], "--tier names a tier of a configuration"),
        (["file:///shelf/", "--store", "file:///x/"], "verify takes one URL"),
        (["--store", "file:///x/", "--store", "file:///y/"], "verify takes one URL"),
        (["https://host.invalid/x/", "--algorithm", "sha1"], "none of them can be listed"),
        (["--config", "good.toml"], "--tier names the one that is meant: packed, shelf"),
        (["--config", "good.toml", "--tier", "disk"], "tier 'disk' cannot be listed: choose one of packed, shelf"),
        (["--config", "good.toml", "--tier", "disk"], "`bitstore cache verify` checks a disk cache"),
        (["--config", "good.toml", "--tier", "none"], "tier 'none' is no tier"),
        (["--config", "good.toml", "--algorithm", "sha1"], "--algorithm goes with a URL"),
        (["{shelf}/"], "is a digest: is the prefix right? `bitstore check --store URL` names one that is"),
        (["{shelf}"], "/shelf/' for a folder; --algorithm names the digests"),
        (["{shelf}/", "--resume-from", "s3://x/y", "--algorithm", "sha1"], "it must begin with"),
        (["{shelf}/none/"], "No such file or directory"),
    ],
)
def test_verify_refuses_what_cannot_be(scene: Scene, words: list[str], says: str) -> None:
    shelf = (scene.root / "shelf").as_uri()
    code, out, err = scene("verify", *(word.replace("{shelf}", shelf) for word in words))
    assert (code, out) == (3, "") and says in err


def test_verify_takes_a_tier_and_tells_of_an_empty_one(scene: Scene) -> None:
    (scene.root / "shelf" / sha1(b"one")).write_bytes(b"one")
    assert scene("verify", "--config", "good.toml", "--tier", "shelf")[:2] == (0, "")
    assert scene("verify", "--store", f"{(scene.root / 'shelf').as_uri()}/")[:2] == (0, "")
    code, out, err = scene("verify", "--config", "good.toml", "--tier", "packed")
    assert (code, out) == (1, "") and "nothing lies there: is the prefix right?" in err
    url = (scene.root / "shelf").as_uri()
    code, out, err = scene("verify", url, "--algorithm", "sha1")
    assert (
        code == 1 and out.startswith("no digest\t") and f"no key there is a digest: write '{url}/' for a folder" in err
    )


def test_an_object_that_cannot_be_read_or_listed_is_a_failure(
    scene: Scene, s3: SeaweedS3, bucket: str, fault_proxy: Callable[[str], FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    for name, value in s3.environment(endpoint_url=proxy.url).items():
        monkeypatch.setenv(name, value)
    held = blobs(5)
    for digest, data in held.items():
        s3.put(bucket, digest, data)
    first, second, *_ = sorted(held)
    proxy.rules.add(s3_error(403, "AccessDenied"), method="GET", path=f"/{first}")
    proxy.rules.add(s3_error(404, "NoSuchKey"), method="GET", path=f"/{second}")
    code, out, err = scene("verify", f"s3://{bucket}/")
    kinds = dict(line.split("\t")[:2] for line in out.splitlines())
    assert (code, kinds) == (2, {"failed": f"s3://{bucket}/{first}", "gone": f"s3://{bucket}/{second}"})
    assert "right: 3" in err and "could not be read: 1" in err and "gone since they were listed: 1" in err
    proxy.rules.clear()
    proxy.rules.add(s3_error(403, "AccessDenied"), method="GET", path="list-type")
    code, out, err = scene("verify", f"s3://{bucket}/", "--algorithm", "sha1", "--json")
    (end,) = map(json.loads, out.splitlines())
    assert (code, end["complete"], end["exit_code"]) == (2, False, 2) and "403 AccessDenied" in end["stopped"]
    code, _, err = scene("verify", f"s3://{bucket}/")
    assert code == 3 and "403 AccessDenied" in err


def test_a_time_limit_holds_for_large_objects(
    scene: Scene, s3: SeaweedS3, bucket: str, fault_proxy: Callable[[str], FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    for name, value in s3.environment(endpoint_url=proxy.url).items():
        monkeypatch.setenv(name, value)
    s3.put(bucket, sha1(LARGE), LARGE)
    hold = Hold()
    proxy.rules.add(hold, method="GET", path=f"/{sha1(LARGE)}")
    try:
        code, out, _ = scene("verify", f"s3://{bucket}/", "--timeout", "0.5")
    finally:
        hold.release()
    assert code == 2 and out.startswith("failed\t") and "no answer within 0.5 s" in out


def test_a_listing_that_goes_round_is_a_failure(scene: Scene) -> None:
    page = "<Contents><Key>p/README</Key><Size>1</Size></Contents><NextContinuationToken>again</NextContinuationToken>"
    with ScriptedServer(lambda asked: (200, {}, f"<ListBucketResult>{page}</ListBucketResult>".encode())) as server:
        words = ["s3://bucket/p/", "--anonymous", "--endpoint-url", server.url, "--algorithm", "sha1"]
        code, out, err = scene("verify", *words)
    assert code == 2 and out.count("README") == 2 and "names the same page as the next one again" in err


def test_an_interrupted_verify_names_where_to_go_on(
    scene: Scene, s3: SeaweedS3, bucket: str, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    for number in range(60):
        s3.put(bucket, hashlib.sha1(str(number).encode()).hexdigest(), str(number).encode())
    digests = sorted(hashlib.sha1(str(number).encode()).hexdigest() for number in range(60))
    proxy = fault_proxy(s3.endpoint_url)
    hold = Hold()
    rule = proxy.rules.add(hold, method="GET", path=f"/{digests[40]}")
    environment = {**os.environ, **s3.environment(endpoint_url=proxy.url)}
    command = [sys.executable, "-m", "bitstore", "verify", f"s3://{bucket}/", "--in-flight", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        rule.wait_hits()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        hold.release()
    assert process.returncode == 130
    (resume,) = [line for line in err.decode().splitlines() if line.startswith("resume: ")]
    words = shlex.split(resume.removeprefix("resume: "))
    assert words[-1].rpartition("/")[2] in digests[:40]
    proxy.rules.clear()
    again = subprocess.run([*command[:2], *words, "--json"], capture_output=True, env=environment, timeout=120)
    checks = [json.loads(line) for line in again.stdout.splitlines()][:-1]
    left = digests[digests.index(words[-1].rpartition("/")[2]) + 1 :]
    assert (again.returncode, [check["digest"] for check in checks]) == (0, left)


def test_memory_is_bounded_whatever_the_objects(tmp_path: Path) -> None:
    for number in range(3):
        data = LARGE + LARGE + bytes([number])
        (tmp_path / sha1(data)).write_bytes(data)
    store = Sha1Store(FileRaw(), f"{tmp_path.as_uri()}/")
    report = VerifyReport()
    found: list[Any] = []
    tracemalloc.start()
    try:
        objects = listed(store, report, beyond=None)
        verify_all(store, objects, report, found.append, timeout=None, in_flight=None, max_failures=None)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert [checked.kind for checked in found] == ["right"] * 3 and store.verify is False


@pytest.mark.parametrize(
    ("template", "url", "digest"),
    [
        ("s3://b/p/", "s3://b/p/{d}", True),
        ("s3://b/p/", "s3://b/p/{d}x", False),
        ("s3://b/{digest[:2]}/{digest}", "s3://b/ab/{d}", True),
        ("s3://b/{digest[:2]}/{digest}", "s3://b/ac/{d}", False),
        ("s3://b/{digest[:2]}/{digest[2:]}.gz", "s3://b/{d:.2}/{d[2]}.gz", True),
        ("s3://b/{{x}}/{digest}", "s3://b/{{x}}/{d}", True),
        ("file:///a b/%C3%A9/", "file:///a%20b/%C3%A9/{d}", True),
        ("file://localhost/a/", "file:///a/{d}", True),
        ("s3://b/a%20b/", "s3://b/a b/{d}", False),
    ],
)
def test_a_digest_is_read_from_its_url(template: str, url: str, digest: bool) -> None:
    value = "ab" + "0123456789" * 3 + "cdef0123"
    named = url.replace("{d:.2}", value[:2]).replace("{d[2]}", value[2:]).replace("{d}", value)
    named = named.replace("{{", "{").replace("}}", "}")
    assert KeyTemplate(template).digest_of(named, 40) == (value if digest else None)
    assert KeyTemplate(template).digest_of(named.upper(), 40) is None
