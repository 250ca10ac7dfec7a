"""`bitstore put`, run as people run it, and what it leaves in stores."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore import FileRaw, S3Raw, Sha1Composite, Sha1Store
from bitstore._cli.inputs import Input
from bitstore._cli.putting import CHECKS, Putting, put_all, writable_tier
from bitstore._digests.hash_list import HashList
from tests.cli_scene import Scene
from tests.servers import Answer, Corrupt, FakeGCS, FaultProxy, Hold, SeaweedS3, s3_error
from tests.stores import sha1

LARGE = os.urandom(1 << 20) * 20


@pytest.fixture
def put(scene: Scene) -> Callable[..., tuple[int, str, str]]:
    """Puts into the folder `shelf` (or another store)."""

    def run(*words: Any, store: str = "", algorithm: str = "sha1") -> tuple[int, str, str]:
        url = store or f"{(scene.root / 'shelf').as_uri()}/"
        return scene("put", *words, "--store", url, "--algorithm", algorithm)

    return run


def shelf(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root / "shelf")): path.read_bytes() for path in (root / "shelf").rglob("*")}


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


FILES = {
    "in/b/two": b"two",
    "in/a": b"one",
    "in/b/c/large": LARGE,
    "in/empty": b"",
    "in/again": b"one",
    "single": b"single",
}


def test_files_and_folders_are_stored_and_told_as_sha1sum_does(
    put: Callable[..., Any],
    scene: Scene,
) -> None:
    write(scene.root, FILES)
    code, out, err = put("in", "single")
    expected = {f"{sha1(data)}  {name}" for name, data in FILES.items()}
    assert (code, set(out.splitlines())) == (0, expected)
    assert shelf(scene.root) == {sha1(data): data for data in FILES.values()}
    assert "6 files" in err or "there already" in err  # the two files with the same bytes may meet
    Path("list").write_text(out)
    assert {entry.digest for entry in HashList("list")} == {sha1(data) for data in FILES.values()}
    done = subprocess.run(["sha1sum", "--check", "--quiet", "list"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    before = {name: (scene.root / "shelf" / name).stat().st_mtime_ns for name in shelf(scene.root)}
    code, out, err = put("in", "single")
    assert (code, set(out.splitlines())) == (0, expected) and "stored 0 files" in err and "6 more were there" in err
    assert {name: (scene.root / "shelf" / name).stat().st_mtime_ns for name in shelf(scene.root)} == before


def test_odd_names_are_told_so_that_they_can_be_read_back(put: Callable[..., Any], scene: Scene) -> None:
    names = [b"caf\xe9 \x80.txt", b"new\nline", b"back\\slash", b"-dash", "日本".encode()]
    write(scene.root, {f"in/{os.fsdecode(name)}": name for name in names})
    command = [sys.executable, "-m", "bitstore", "put", "in", "--store", f"{(scene.root / 'shelf').as_uri()}/"]
    done = subprocess.run([*command, "--algorithm", "sha1"], capture_output=True, timeout=120)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(names)
    Path("list").write_bytes(done.stdout)
    check = subprocess.run(["sha1sum", "--check", "--quiet", "list"], capture_output=True, text=True)
    assert (check.returncode, check.stdout) == (0, "")
    code, out, _ = put("in", "--json")
    assert (code, {json.loads(line).get("kind") for line in out.splitlines()}) == (0, {"there", None})
    assert out.isascii()


def test_links_and_the_like_are_told_and_left_out(put: Callable[..., Any], scene: Scene) -> None:
    write(scene.root, {"in/file": b"file", "elsewhere/x": b"x"})
    (scene.root / "in" / "link").symlink_to("file")
    (scene.root / "in" / "loop").symlink_to(".")
    (scene.root / "in" / "out").symlink_to(scene.root / "elsewhere")
    os.mkfifo(scene.root / "in" / "pipe")
    (scene.root / "in" / f".bitstore-{'0' * 16}.tmp").write_bytes(b"draft")
    code, out, err = put("in")
    assert (code, out) == (0, f"{sha1(b'file')}  in/file\n")
    for told in ("in/link: a link to file", "in/loop: a link to .", "in/pipe: neither", "left out: 4"):
        assert told in err
    assert put("in/link")[:2] == (0, f"{sha1(b'file')}  in/link\n")  # a link that is named is meant


def test_a_file_that_cannot_be_read_fails_and_the_others_are_stored(put: Callable[..., Any], scene: Scene) -> None:
    write(scene.root, {"in/a": b"a", "in/z": b"z"})
    code, out, err = put("in/a", "/proc/self/mem", "in")  # a plain file whose first byte cannot be read
    assert code == 2 and sorted(line.split()[1] for line in out.splitlines()) == ["in/a", "in/a", "in/z"]
    assert "bitstore: /proc/self/mem: Input/output error" in err and "failed: 1" in err


def test_standard_input_and_pipes_are_stored(scene: Scene) -> None:
    url = f"{(scene.root / 'shelf').as_uri()}/"
    command = [sys.executable, "-m", "bitstore", "put", "--store", url, "--algorithm", "sha1"]
    done = subprocess.run([*command, "-"], input=LARGE, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"{sha1(LARGE)}  -\n".encode()), done.stderr
    script = f"exec {' '.join(command)} <(printf piped)"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith(sha1(b"piped").encode())
    assert shelf(scene.root) == {sha1(LARGE): LARGE, sha1(b"piped"): b"piped"}
    done = subprocess.run(["bash", "-c", f"{' '.join(command)} - <&-"], capture_output=True, timeout=120)
    assert done.returncode == 2 or b"standard input is closed" in done.stderr


def test_other_bytes_under_a_key_are_a_failure_until_they_are_replaced(
    put: Callable[..., Any],
    scene: Scene,
) -> None:
    write(scene.root, {"file": b"right", f"shelf/{sha1(b'right')}": b"wrong size"})
    code, out, err = put("file")
    assert (code, out) == (2, "") and "10 bytes instead of 5: --existing replace" in err
    write(scene.root, {f"shelf/{sha1(b'right')}": b"wrong"})
    assert put("file")[0] == 0  # it has the size: what is there is taken for right
    assert put("file", "--check", "read")[0] == 2
    assert put("file", "--existing", "replace", "--check", "read")[0] == 0
    assert shelf(scene.root) == {sha1(b"right"): b"right"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none"], "cannot read none: No such file or directory"),
        (["/dev/null"], "/dev/null is neither a file, a folder nor a pipe"),
        (["-", "-"], "can be read once"),
        (["file", "--existing", "keep"], "--existing keep: choose skip, replace"),
        (["file", "--check", "all"], "--check all: choose auto"),
        (["file", "--tier", "none"], "--tier 'none' is no tier: choose one of file://"),
    ],
)
def test_a_command_that_cannot_be_is_refused(
    put: Callable[..., Any], scene: Scene, words: list[str], says: str
) -> None:
    write(scene.root, {"file": b"file"})
    code, out, err = put(*words)
    assert (code, out) == (3, "") and says in err
    assert shelf(scene.root) == {}


def test_the_tier_is_the_first_source_that_can_be_written_or_the_one_named(scene: Scene) -> None:
    write(scene.root, {"file": b"file"})
    assert scene("put", "file", "--config", "paid.toml")[0] == 0
    (packed,) = [path for path in (scene.root / "packed").rglob("*") if path.is_file()]
    assert packed.name == f"{sha1(b'file')}.gz" and shelf(scene.root) == {}
    assert scene("put", "file", "--config", "paid.toml", "--tier", "shelf")[0] == 0
    assert scene("get", sha1(b"file"), "--config", "paid.toml")[1] == "file"
    for tier, says in (("api", "cannot be written: choose one of disk, packed, shelf"), ("api", "disk")):
        code, _, err = scene("put", "file", "--config", "paid.toml", "--tier", tier)
        assert code == 3 and says in err
    write(scene.root, {"large": LARGE})
    for tier in ("disk", "packed"):  # neither streams
        assert scene("put", "large", "--config", "paid.toml", "--tier", tier)[0] == 0
    assert scene("locate", sha1(LARGE), "--config", "paid.toml")[1].count("held: ") == 2
    code, _, err = scene("put", "file", "--store", "file:///x/")
    assert code == 3 and "--algorithm" in err


@pytest.mark.parametrize("check", CHECKS)
def test_a_cache_without_room_or_of_this_process_alone_stores_nothing_and_says_so(scene: Scene, check: str) -> None:
    disk = '[[tier]]\nname = "disk"\ncache = "disk"\npath = "small"\nmax_size = "1kB"\n'
    memory = '[[tier]]\nname = "memory"\ncache = "memory"\n'
    write(scene.root, {"file": b"file" * 1000, "two.toml": f'algorithm = "sha1"\n{disk}{memory}'.encode()})
    code, out, err = scene("put", "file", "--config", "two.toml", "--tier", "disk", "--check", check)
    assert (code, out) == (2, "") and "failed: 1" in err
    code, _, err = scene("put", "file", "--config", "two.toml", "--tier", "memory", "--check", check)
    assert code == 3 and "choose one of disk" in err


def test_buckets_take_files_of_all_sizes(
    scene: Scene,
    aws_env: SeaweedS3,
    bucket: str,
    gcs_env: FakeGCS,
    gcs_bucket: str,
) -> None:
    write(scene.root, FILES)
    for url in (f"s3://{bucket}/p/", f"gs://{gcs_bucket}/{{digest[:2]}}/{{digest}}"):
        code, out, err = scene("put", "in", "single", "--store", url, "--algorithm", "sha256", "--json")
        *puts, report = map(json.loads, out.splitlines())
        assert (code, report["exit_code"], report["failed"]) == (0, 0, 0), err
        assert {put["file"]: put["digest"] for put in puts} == {
            name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
        }
        assert {put["checked"] for put in puts} <= {"read", "size"}
        (large,) = [put for put in puts if put["file"].endswith("large")]
        assert large["checked"] == "size" and large["url"].startswith(url[:10])
        for put in puts:
            code, out, _ = scene("locate", put["digest"], "--store", url)
            assert code == 0


def test_a_refused_write_is_a_failure_that_says_so(
    scene: Scene,
    s3: SeaweedS3,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(scene.root, {"file": b"file"})
    for name, value in s3.environment(s3.reader).items():
        monkeypatch.setenv(name, value)
    code, out, err = scene("put", "file", "--store", f"s3://{bucket}/p/", "--algorithm", "sha1")
    assert (code, out) == (2, "") and "403" in err
    code, out, err = scene("put", "file", "--store", "s3://no-such-bucket-here/", "--algorithm", "sha1")
    assert (code, out) == (2, "") and "there is no bucket" in err


def test_the_right_to_write_is_enough_where_nothing_is_looked_at(
    scene: Scene,
    s3: SeaweedS3,
    bucket: str,
    fault_proxy: Callable[[str], FaultProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    proxy.rules.add(s3_error(403, "AccessDenied", "Access Denied"), method="GET|HEAD")
    for name, value in s3.environment(endpoint_url=proxy.url).items():
        monkeypatch.setenv(name, value)
    write(scene.root, {"file": b"file"})
    words = ["put", "file", "--store", f"s3://{bucket}/p/", "--algorithm", "sha1"]
    code, out, err = scene(*words)
    assert (code, out) == (2, "") and "s3:ListBucket" in err
    assert scene(*words, "--existing", "replace", "--check", "none")[0] == 0
    assert s3.client().get_object(Bucket=bucket, Key=f"p/{sha1(b'file')}")["Body"].read() == b"file"


def test_a_store_that_lies_is_found_out(
    s3: SeaweedS3, bucket: str, fault_proxy: Callable[[str], FaultProxy], tmp_path: Path
) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url, region=s3.region)
    store = Sha1Composite()
    store.append_source(Sha1Store(raw, f"s3://{bucket}/p/"), name="bucket")
    tier = writable_tier(store, None)
    (tmp_path / "file").write_bytes(b"x" * 1000)

    def outcome(check: Any) -> Any:
        putting = Putting(tier, "sha1", replace=False, check=check)
        items = iter([Input("file", tmp_path / "file", 1000)])
        (blob,) = put_all(putting, items, print, in_flight=None)
        return blob

    proxy.rules.add(Answer(200, b""), method="PUT", times=1)  # it says that it wrote
    assert "missing in" in str(outcome("auto").error)
    proxy.rules.add(Corrupt(), method="GET", times=1, skip=1)  # the first looks whether it is there
    lied = outcome("read")
    assert lied.error is not None and "other bytes" in str(lied.error)
    assert outcome("read").data.checked == "read"


def test_an_interrupted_run_says_so_and_resumes(scene: Scene, fault_proxy: Any, s3: SeaweedS3, bucket: str) -> None:
    write(scene.root, {f"in/{number:03}": str(number).encode() for number in range(100)})
    proxy = fault_proxy(s3.endpoint_url)
    hold = Hold()
    rule = proxy.rules.add(hold, method="PUT", skip=20)
    command = [sys.executable, "-m", "bitstore", "put", "in", "--store", f"s3://{bucket}/p/", "--algorithm", "sha1"]
    environment = {**os.environ, **s3.environment(endpoint_url=proxy.url)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        rule.wait_hits()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        hold.release()
    assert process.returncode == 130 and b"interrupted: stored" in err and b"the same command again" in err, err
    proxy.rules.clear()
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 100
    assert out.splitlines() and b"were there already" in done.stderr


def test_memory_is_bounded_whatever_the_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / "in" / f"{number}").write_bytes(LARGE + LARGE + bytes([number]))
    (tmp_path / "shelf").mkdir()
    store = Sha1Composite()
    store.append_source(Sha1Store(FileRaw(), f"{(tmp_path / 'shelf').as_uri()}/"), name="shelf")
    putting = Putting(writable_tier(store, None), "sha1", replace=False, check="auto")
    found: list[Any] = []
    items = (Input(path.name, path, path.stat().st_size) for path in sorted((tmp_path / "in").iterdir()))
    tracemalloc.start()
    try:
        assert list(put_all(putting, items, found.append, in_flight=None)) == []
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert [blob.data.checked for blob in found] == ["size"] * 4
