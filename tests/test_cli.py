"""The command, run as people run it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import json
import os
import pty
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitstore import __version__ as version
from bitstore._digests.hash_list import HashList
from bitstore._support.atomic import DRAFTS
from bitstore._transport.native.choice import choice
from tests.cli_scene import here
from tests.servers import Answer, CountedAPI, Hold, SeaweedS3

COMMAND = [sys.executable, "-m", "bitstore"]
NOBODY_HAS = "0123456789" * 4


class Ran(NamedTuple):
    """What a finished command did."""

    code: int
    out: bytes
    err: str


@pytest.fixture
def bitstore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Ran]:
    """Runs `bitstore ...` in the test's folder: in a process with options of `subprocess.run`, else in this one."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path, **options: Any) -> Ran:
        words = [str(each) for each in args]
        if options:
            done = subprocess.run([*COMMAND, *words], capture_output=True, timeout=120, check=False, **options)
            return Ran(done.returncode, done.stdout, done.stderr.decode())
        code, out, err = here(monkeypatch, capfdbinary, *words)
        return Ran(code, out, err.decode())

    return run


def make_blobs(count: int, *, most: int = 3000, seed: int = 1) -> dict[str, bytes]:
    chance = random.Random(seed)
    blobs = [b"", *(chance.randbytes(chance.randint(1, most)) for _ in range(count - 1))]
    return {hashlib.sha1(blob).hexdigest(): blob for blob in blobs}


@pytest.fixture
def blobs() -> dict[str, bytes]:
    return make_blobs(30)


@pytest.fixture
def shelf(tmp_path: Path, blobs: dict[str, bytes]) -> str:
    """URL prefix of a folder with the blobs."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for digest, data in blobs.items():
        (folder / digest).write_bytes(data)
    return folder.as_uri() + "/"


def files(folder: Path) -> dict[str, bytes]:
    """All files, also those that hide, by path from `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_list(path: Path, digests: Any) -> Path:
    path.write_text("".join(f"{digest}\n" for digest in digests))
    return path


# ---------------------------------------------------------------------------- get


def test_get_writes_the_bytes_to_standard_output(
    bitstore: Callable[..., Ran], blobs: dict[str, bytes], shelf: str
) -> None:
    digest, data = list(blobs.items())[5]
    ran = bitstore("get", f"sha1://{digest.upper()}", "--store", shelf)
    assert (ran.code, ran.out, ran.err) == (0, data, "")


def test_get_writes_the_bytes_to_a_file_and_nothing_beside_it(
    bitstore: Callable[..., Ran], blobs: dict[str, bytes], shelf: str, tmp_path: Path
) -> None:
    digest, data = list(blobs.items())[5]
    ran = bitstore("get", digest, "-o", "blob.bin", "--store", shelf)
    assert (ran.code, ran.out, ran.err) == (0, b"", "")
    assert (tmp_path / "blob.bin").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob.bin", "shelf"]


def test_get_of_a_missing_blob_names_the_tiers_that_lack_it(
    bitstore: Callable[..., Ran], shelf: str, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    more = f"{(tmp_path / 'more').as_uri()}/"
    ran = bitstore("get", NOBODY_HAS, "-o", "none.bin", "--store", shelf, "--store", more)
    assert (ran.code, ran.out) == (1, b"")
    assert ran.err == f"bitstore: {NOBODY_HAS} is missing (asked: {shelf}, {more})\n"
    assert not (tmp_path / "none.bin").exists()


def test_a_failure_is_no_absence_and_points_to_check(
    bitstore: Callable[..., Ran], shelf: str, api: CountedAPI, tmp_path: Path
) -> None:
    api.rules.add(Answer(403))
    ran = bitstore("get", NOBODY_HAS, "--store", shelf, "--store", f"{api.url}/blob/")
    assert ran.code == 2
    assert ran.err.startswith(f"bitstore: could not look up {NOBODY_HAS}: {api.url}/blob/: ")
    assert "Sha1Composite" not in ran.err
    assert "Traceback" not in ran.err
    stores = f"--store {shelf} --store {api.url}/blob/"
    assert ran.err.endswith(f"\nwhat to do about it: bitstore check {stores} --digest {NOBODY_HAS}\n")
    (tmp_path / "list.txt").write_text(NOBODY_HAS)
    for command in (("fetch", "list.txt", "-o", "out"), ("exists", "list.txt")):
        ran = bitstore(*command, "--store", shelf, "--store", f"{api.url}/blob/")
        assert ran.code == 2
        assert f"\nwhat to do about it: bitstore check {stores} --digest {NOBODY_HAS}\n" in ran.err


def test_options_name_the_service_and_the_credentials_of_buckets(
    bitstore: Callable[..., Ran], s3: SeaweedS3, bucket: str, public_bucket: str, shelf: str, tmp_path: Path
) -> None:
    data = [b"of ours", b"of all"]
    ours, public = (hashlib.sha1(blob).hexdigest() for blob in data)
    s3.put(bucket, ours, data[0])
    s3.put(public_bucket, public, data[1])
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    )
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    where = ["--endpoint-url", s3.endpoint_url, "--region", "us-east-1"]
    # The shelf, which has no such options, does not stand in the way.
    ran = bitstore("get", ours, "--store", shelf, "--store", f"s3://{bucket}/", "--profile", "team", *where, env=env)
    assert (ran.code, ran.out) == (0, data[0]), ran.err
    ran = bitstore("get", public, "--store", f"s3://{public_bucket}/", "--anonymous", *where, env=env)
    assert (ran.code, ran.out) == (0, data[1]), ran.err
    ran = bitstore("get", ours, "--store", f"s3://{bucket}/", "--profile", "other", *where, env=env)
    assert ran.code == 2 and "other" in ran.err


def test_get_reports_a_standard_output_that_cannot_be_written(
    shelf: str, blobs: dict[str, bytes], tmp_path: Path
) -> None:
    digest = max(blobs, key=lambda digest: len(blobs[digest]))
    get = ["get", digest, "--store", shelf]

    def into(redirection: str, *args: str) -> tuple[int, str]:
        """Exit code and standard error, by way of a shell: only there a descriptor can be closed."""
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", *COMMAND, *args], cwd=tmp_path, capture_output=True, timeout=120
        )
        return done.returncode, done.stderr.decode()

    assert into(">&-", *get) == (3, "bitstore: standard output is closed: name a file (--output)\n")
    assert into(">&-", *get, "-o", "blob.bin") == (0, "")
    assert (tmp_path / "blob.bin").read_bytes() == blobs[digest]
    reason = os.strerror(errno.ENOSPC)
    assert into(">/dev/full", *get) == (2, f"bitstore: cannot write the blob to standard output: {reason}\n")
    assert into(">/dev/full", "--version") == (2, f"bitstore: cannot write to standard output: {reason}\n")
    # A reader that has gone, as `head` does, is no error worth a word.
    reading, writing = os.pipe()
    os.close(reading)
    for args in (get, ["--version"]):
        done = subprocess.run([*COMMAND, *args], stdout=writing, stderr=subprocess.PIPE, timeout=120)
        assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
    os.close(writing)


def test_the_command_prints_its_version(bitstore: Callable[..., Ran]) -> None:
    for command in ("--version", "version"):
        ran = bitstore(command)
        assert (ran.code, ran.out.decode()) == (0, f"{version}\n{choice()}\n")


def test_the_configuration_decides_the_algorithm(bitstore: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "bitstore.toml").write_text(
        f'algorithm = "sha256"\n[[tier]]\nname = "shelf"\nurl = "{(tmp_path / "shelf").as_uri()}/"\n'
    )
    assert bitstore("get", "0" * 64).code == 1
    ran = bitstore("get", "0" * 40)
    assert ran.code == 3
    assert "<sha256>" in ran.err
    ran = bitstore("fetch", write_list(tmp_path / "list.txt", ["0" * 40]), "-o", "out")
    assert ran.code == 3
    assert "list.txt holds sha1 digests, but the stores are asked for sha256" in ran.err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------- fetch


def test_fetch_reports_broken_lines_and_fetches_the_rest(
    bitstore: Callable[..., Ran], blobs: dict[str, bytes], shelf: str, tmp_path: Path
) -> None:
    good = list(blobs)
    lines = [
        "\ufeff# what we want",
        "",
        *good[:10],
        "  ",
        "no\tdigest",
        "x" * 200_000,
        good[3].upper() + "\r",
        NOBODY_HAS,
    ]
    (tmp_path / "list.txt").write_text("\n".join([*lines, *good[10:]]))  # and no newline at the end
    ran = bitstore("fetch", "list.txt", "-o", "out/deep", "--store", shelf)
    assert ran.code == 1
    told = files(tmp_path / "out/deep")
    assert told.pop("missing.txt") == f"{NOBODY_HAS}\n".encode()
    first, second = told.pop("invalid.tsv").decode().splitlines()
    assert first == "14\tno digest\tnot a digest: a sha1 has 40 hexadecimal characters"
    assert second.startswith("15\txxxxx")
    assert told == blobs
    assert "found 31 blobs" in ran.err
    assert "missing: 1: see out/deep/missing.txt\nfailed: 0\nnot a digest: 2: see out/deep/invalid.tsv" in ran.err
    table = {line.split()[0]: line.split()[1:4] for line in ran.err.splitlines()[2:3]}
    assert table == {shelf: ["30", "1", "0"]}  # the digest that is listed twice was looked up once


def test_fetch_writes_every_blob_of_a_list(
    bitstore: Callable[..., Ran], blobs: dict[str, bytes], shelf: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "missing.txt").write_text("of an earlier run\n")
    listed = gzip.compress("".join(f"{digest}\n" for digest in blobs).encode())
    ran = bitstore("fetch", "-", "-o", "out", "--store", shelf, "--fan-out", "2", input=listed)
    assert ran.code == 0, ran.err
    assert files(out) == {f"{digest[:2]}/{digest}": data for digest, data in blobs.items()}  # the report has gone, too


def test_fetch_skips_blobs_that_exist_already(
    bitstore: Callable[..., Ran], shelf: str, blobs: dict[str, bytes], tmp_path: Path
) -> None:
    listed = write_list(tmp_path / "list.txt", blobs)
    fetch = ("fetch", listed, "-o", "out", "--store", shelf)
    assert bitstore(*fetch).code == 0
    whole, damaged, emptied = [digest for digest, data in blobs.items() if data][:3]
    (tmp_path / "out" / damaged).write_bytes(b"somebody was here")
    (tmp_path / "out" / emptied).write_bytes(b"")
    before = (tmp_path / "out" / whole).stat().st_ino
    ran = bitstore(*fetch)
    assert ran.code == 0
    assert "found 1 blobs" in ran.err
    assert "29 more were there already" in ran.err
    assert (tmp_path / "out" / emptied).read_bytes() == blobs[emptied]
    assert "found 1 blobs" in bitstore(*fetch, "--existing", "check").err
    assert files(tmp_path / "out") == blobs
    assert (tmp_path / "out" / whole).stat().st_ino == before
    assert "found 30 blobs" in bitstore(*fetch, "--existing", "replace").err


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "raw", "hex bytes"])
def test_fetch_reads_and_writes_parquet(
    bitstore: Callable[..., Ran], blobs: dict[str, bytes], shelf: str, tmp_path: Path, kind: str
) -> None:
    column: Any = pa.array([*blobs, None, "nonsense"])
    if kind == "large_string":
        column = column.cast(pa.large_string())
    elif kind == "dictionary":
        column = column.dictionary_encode()
    elif kind == "raw":
        column = pa.array([*map(bytes.fromhex, blobs), None, b"nonsense"], pa.binary())
    elif kind == "hex bytes":
        column = pa.array([*(digest.encode() for digest in blobs), None, b"nonsense"], pa.binary())
    pq.write_table(pa.table({"id": pa.array(range(len(column))), "SHA1": column}), tmp_path / "list.parquet")
    ran = bitstore("fetch", "list.parquet", "-o", "out/all.parquet", "--store", shelf)
    assert ran.code == 1, ran.err
    table = pq.read_table(tmp_path / "out/all.parquet")
    assert table.schema == pa.schema([("digest", pa.string()), ("data", pa.large_binary()), ("source", pa.string())])
    assert dict(zip(table["digest"].to_pylist(), table["data"].to_pylist(), strict=True)) == blobs
    assert set(table["source"].to_pylist()) == {shelf}
    assert sorted(files(tmp_path / "out")) == ["all.invalid.tsv", "all.parquet"]
    invalid = "31\tnull\tnull\n32\tnonsense\tnot a digest: a sha1 has 40 hexadecimal characters\n"
    assert (tmp_path / "out/all.invalid.tsv").read_text() == invalid
    ran = bitstore("fetch", "list.parquet", "-o", "out/all.parquet", "--store", shelf)
    assert ran.code == 3
    assert "is there already" in ran.err


@pytest.mark.parametrize(
    ("make", "args", "message"),
    [
        ("text", [], "give either a list of hashes, or --retry"),
        ("text", ["list", "--retry", "list"], "give either a list of hashes, or --retry"),
        ("text", ["gone.txt"], "cannot read the list gone.txt: No such file"),
        ("text", ["."], "cannot read the list .: Is a directory"),
        ("text", ["list", "--column", "sha1"], "list is no table with a header, so it has no column 'sha1'"),
        ("text", ["list", "--existing", "keep"], "choose skip, check or replace"),
        ("text", ["list", "--algorithm", "md5"], "list holds sha1 digests, but the stores are asked for md5"),
        ("text", ["list", "--algorithm", "sha3"], "unknown digest algorithm 'sha3'"),
        ("text", ["list", "--timeout", "0"], "--timeout"),
        ("text", ["list", "-o", "list"], "cannot write into the folder list: File exists"),
        ("text", ["list", "-o", "list/below.parquet"], "cannot write list/below.parquet: "),
        ("text", ["list", "-o", "x.parquet", "--fan-out", "2"], "--fan-out"),
        ("noise", ["list"], "list begins with no sha1, sha256, md5 digest"),
        ("cut gzip", ["list"], "cannot read list: "),
        ("parquet", ["list"], "list has the columns 'key', 'size': say which of them holds the digests (--column)"),
        ("parquet", ["list", "--column", "kye"], "list has the columns 'key', 'size', and no 'kye'"),
        ("parquet", ["list", "--column", "size"], "column 'size' of list holds int64: expected text"),
        ("cut parquet", ["list"], "cannot read the Parquet file list: "),
    ],
)
def test_fetch_refuses_bad_arguments_before_it_begins(
    bitstore: Callable[..., Ran], shelf: str, tmp_path: Path, make: str, args: list[str], message: str
) -> None:
    listed = tmp_path / "list"
    write_list(listed, [NOBODY_HAS])
    if make == "noise":
        listed.write_bytes(random.Random(1).randbytes(300_000))
    elif make == "cut gzip":
        listed.write_bytes(gzip.compress(random.Random(1).randbytes(500))[:-20])
    elif make.endswith("parquet"):
        pq.write_table(pa.table({"key": [NOBODY_HAS], "size": [1]}), listed)
    if make == "cut parquet":
        listed.write_bytes(listed.read_bytes()[:-3])
    ran = bitstore("fetch", *args, "--store", shelf, *([] if "-o" in args else ["-o", "out"]))
    assert ran.code == 3, ran.err
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list", "shelf"]


def test_fetch_reports_a_list_that_breaks_off(
    bitstore: Callable[..., Ran], shelf: str, blobs: dict[str, bytes], tmp_path: Path
) -> None:
    chance = random.Random(3)
    missing = [chance.randbytes(20).hex() for _ in range(5000)]  # more than what is looked at before it begins
    (tmp_path / "list.gz").write_bytes(gzip.compress("\n".join([*blobs, *missing]).encode())[:-10_000])
    ran = bitstore("fetch", "list.gz", "-o", "out", "--store", shelf)
    assert ran.code == 2
    assert ran.err.startswith("stopped: found 30 blobs")
    assert "stopped because: list.gz breaks off after line " in ran.err
    told = files(tmp_path / "out")
    assert len(told.pop("missing.txt").split()) > 1000
    assert told == blobs


def test_fetch_retries_the_failures_of_an_earlier_run(
    bitstore: Callable[..., Ran], shelf: str, api: CountedAPI, blobs: dict[str, bytes], tmp_path: Path
) -> None:
    more = make_blobs(20, seed=2)
    api.blobs.update(more)
    bad = sorted(more)[:5]
    api.rules.add(Answer(403), path="|".join(bad))
    listed = write_list(tmp_path / "list.txt", [*blobs, *more, NOBODY_HAS])
    stores = ("--store", shelf, "--store", f"{api.url}/blob/")
    ran = bitstore("fetch", listed, "-o", "out", *stores)
    assert ran.code == 2
    failed = (tmp_path / "out/failed.tsv").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in failed) == bad
    assert all("403" in line.split("\t")[1] for line in failed)
    again = next(line for line in ran.err.splitlines() if line.startswith("resume with the failures: ")).split()[4:]
    assert again == ["bitstore", "fetch", "--retry", "out/failed.tsv", "-o", "out", *stores]
    said = files(tmp_path / "out")
    assert {digest: said[digest] for digest in {*blobs, *more}.difference(bad)} == {
        digest: data for digest, data in {**blobs, **more}.items() if digest not in bad
    }

    api.rules.clear()
    api.rules.add(Answer(403), path=bad[0])
    del api.blobs[bad[1]]  # meanwhile deleted
    ran = bitstore("fetch", "--retry", "out/failed.tsv", "-o", "out", *stores)
    assert ran.code == 2
    assert "found 3 blobs" in ran.err
    assert (tmp_path / "out/failed.tsv").read_text().startswith(bad[0] + "\t")
    assert (tmp_path / "out/failed.tsv").read_text().count("\n") == 1
    assert (tmp_path / "out/missing.txt").read_text() == f"{NOBODY_HAS}\n{bad[1]}\n"

    api.rules.clear()
    ran = bitstore("fetch", "--retry", "out/failed.tsv", "-o", "out", *stores)
    assert ran.code == 0
    assert not (tmp_path / "out/failed.tsv").exists()
    assert (tmp_path / "out/missing.txt").read_text() == f"{NOBODY_HAS}\n{bad[1]}\n"


def test_fetch_asks_tiers_on_a_real_server_in_order(
    bitstore: Callable[..., Ran], aws_env: SeaweedS3, bucket: str, shelf: str, blobs: dict[str, bytes], tmp_path: Path
) -> None:
    more = make_blobs(25, seed=4)
    for digest, data in more.items():
        aws_env.put(bucket, f"{digest[:2]}/{digest}.gz", gzip.compress(data))
    (tmp_path / "bitstore.toml").write_text(
        f"""
        algorithm = "sha1"
        [[tier]]
        name = "disk"
        cache = "disk"
        path = "cache"
        [[tier]]
        name = "shelf"
        url = "{shelf}"
        [[tier]]
        name = "customer bucket"
        url = "s3://{bucket}/{{digest[:2]}}/{{digest}}.gz"
        compression = "gzip"
        """
    )
    listed = write_list(tmp_path / "list.txt", {**blobs, **more})
    ran = bitstore("fetch", listed, "-o", "out")
    assert ran.code == 0, ran.err
    assert files(tmp_path / "out") == {**blobs, **more}
    assert [line.split()[:5] for line in ran.err.splitlines() if line.startswith("  customer")] == [
        ["customer", "bucket", "24", "0", "0"]  # the empty blob is on the shelf
    ]
    ran = bitstore("fetch", listed, "-o", "out.parquet")
    assert ran.code == 0
    assert set(pq.read_table(tmp_path / "out.parquet")["source"].to_pylist()) == {"disk"}


# ---------------------------------------------------------------------------- trouble on the way


class Running:
    """A command that goes on while the test looks at it."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *args],
            cwd=folder,
            stderr=subprocess.PIPE,
            # A shell may have started the tests with the signal ignored, which commands inherit and respect.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )

    def stop(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err.decode()


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    begun: list[Running] = []

    def start(*args: Any) -> Running:
        begun.append(Running(*args))
        return begun[-1]

    yield start
    for one in begun:
        one.process.kill()
        one.process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    """Files appear without telling anybody, so they are looked for."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_fetch_resumes_where_it_ended(
    bitstore: Callable[..., Ran],
    running: Callable[..., Running],
    api: CountedAPI,
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    api.blobs.update(make_blobs(200))
    rule = api.rules.add(Hold(), skip=10)
    write_list(tmp_path / "list.txt", [NOBODY_HAS, *api.blobs])
    fetch = ("fetch", "list.txt", "-o", "out", "--store", f"{api.url}/blob/")
    command = running(tmp_path, *fetch, "--report", "out/report.json")
    rule.wait_hits()
    wait_for(lambda: len([path for path in (tmp_path / "out").glob("*") if len(path.name) == 40]) == 9)
    returned, err = command.stop(number)
    assert returned == code, err
    assert err.startswith("interrupted: found 9 blobs")
    assert "The same command again resumes from here" in err
    assert "Traceback" not in err
    got = files(tmp_path / "out")
    report = json.loads(got.pop("report.json"))
    assert (report["exit_code"], report["complete"], report["found"], report["missing"]) == (code, False, 9, 1)
    assert got.pop("missing.txt").decode() == f"{NOBODY_HAS}\n"
    assert len(got) == 9
    assert all(api.blobs[digest] == data for digest, data in got.items())

    api.rules.clear()
    ran = bitstore(*fetch)
    assert ran.code == 1
    assert "found 191 blobs" in ran.err
    assert "9 more were there already" in ran.err
    assert {name: data for name, data in files(tmp_path / "out").items() if len(name) == 40} == api.blobs
    assert {api.calls[digest] for digest in got} == {1}


def test_an_interrupted_fetch_into_parquet_leaves_no_final_file(
    running: Callable[..., Running], api: CountedAPI, tmp_path: Path
) -> None:
    api.blobs.update(make_blobs(200))
    api.rules.add(Answer(403), times=3)
    rule = api.rules.add(Hold(), skip=10)
    write_list(tmp_path / "list.txt", api.blobs)
    command = running(tmp_path, "fetch", "list.txt", "-o", "out/x.parquet", "--store", f"{api.url}/blob/")
    rule.wait_hits()
    # Its failures are the last thing that can be seen from here; what was answered after them may be counted or not.
    wait_for(lambda: len(list((tmp_path / "out").glob(DRAFTS))) == 2)
    code, err = command.stop(signal.SIGINT)
    assert code == 130, err
    names = sorted(files(tmp_path / "out"))
    assert "x.parquet" not in names
    assert not [name for name in names if name.startswith(".")]
    if "x.partial.parquet" in names:
        table = pq.read_table(tmp_path / "out/x.partial.parquet")
        rows = dict(zip(table["digest"].to_pylist(), table["data"].to_pylist(), strict=True))
        assert rows.items() <= api.blobs.items()
        assert "what was fetched is in out/x.partial.parquet" in err
    assert "The same command again starts from the beginning" in err


def test_an_interrupted_retry_loses_no_failure(
    running: Callable[..., Running], api: CountedAPI, tmp_path: Path
) -> None:
    api.blobs.update(make_blobs(100))
    rule = api.rules.add(Hold(), skip=5)
    (tmp_path / "out").mkdir()
    listed = "".join(f"{digest}\tStoreNotAvailable: it was so\n" for digest in [NOBODY_HAS, *api.blobs])
    (tmp_path / "out/failed.tsv").write_text(listed)
    command = running(tmp_path, "fetch", "--retry", "out/failed.tsv", "-o", "out", "--store", f"{api.url}/blob/")
    rule.wait_hits()
    wait_for(lambda: len([path for path in (tmp_path / "out").glob("*") if len(path.name) == 40]) == 4)
    code, _ = command.stop(signal.SIGINT)
    assert code == 130
    assert (tmp_path / "out/failed.tsv").read_text() == listed


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # what a full disk does, for this process alone


@pytest.mark.parametrize("target", ["out", "out/x.parquet"])
def test_fetch_stops_at_an_output_that_cannot_be_written(
    bitstore: Callable[..., Ran], shelf: str, blobs: dict[str, bytes], tmp_path: Path, target: str
) -> None:
    big = random.Random(5).randbytes(300_000)
    name = hashlib.sha1(big).hexdigest()
    (tmp_path / "shelf" / name).write_bytes(big)
    write_list(tmp_path / "list.txt", [*blobs, name])
    ran = bitstore("fetch", "list.txt", "-o", target, "--store", shelf, preexec_fn=limited)
    assert ran.code == 2, ran.err
    assert ran.err.startswith("stopped: ")
    assert "stopped because: cannot write out/" in ran.err
    assert "File too large" in ran.err
    assert "Traceback" not in ran.err
    assert files(tmp_path / "out").items() <= blobs.items()  # whole files, and no draft


def test_one_failing_store_is_warned_of_once(
    bitstore: Callable[..., Ran], shelf: str, blobs: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "bitstore.toml").write_text(
        f"""
        algorithm = "sha1"
        [[tier]]
        name = "spoiled"
        url = "{(tmp_path / "spoiled").as_uri()}/"
        cache = true
        [[tier]]
        name = "shelf"
        url = "{shelf}"
        """
    )
    (tmp_path / "spoiled").mkdir()
    for digest in blobs:
        (tmp_path / "spoiled" / digest).write_bytes(b"not this")
    ran = bitstore("fetch", write_list(tmp_path / "list.txt", blobs), "-o", "out")
    assert ran.code == 0, ran.err
    assert ran.err.count("warning: ") == 1
    assert files(tmp_path / "out") == blobs


def test_fetch_never_holds_a_long_list_in_memory(tmp_path: Path) -> None:
    lines = 100_000  # four megabytes
    with (tmp_path / "list.txt").open("w") as file:
        file.writelines(f"{number:040x}\n" for number in range(lines))
    tracemalloc.start()
    entries = HashList(str(tmp_path / "list.txt"), algorithm="sha1")
    assert entries.total == lines
    assert sum(entry.digest is not None for entry in entries) == lines
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


# ---------------------------------------------------------------------------- the rest


def test_the_cache_commands_show_check_and_prune_a_cache(
    bitstore: Callable[..., Ran], shelf: str, blobs: dict[str, bytes], tmp_path: Path
) -> None:
    listed = write_list(tmp_path / "list.txt", blobs)
    assert bitstore("fetch", listed, "-o", "out", "--store", shelf, "--cache", "cache").code == 0
    assert b"bytes)" in bitstore("cache", "stats", "cache").out
    assert bitstore("cache", "verify", "cache").out.startswith(b"30 files checked: 30 are right")
    victim = next(
        path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name in blobs and blobs[path.name]
    )
    victim.write_bytes(b"damaged")
    ran = bitstore("cache", "verify", "cache")
    assert ran.code == 1
    assert b"1 were damaged" in ran.out
    assert bitstore("cache", "prune", "cache").code == 3
    assert bitstore("cache", "prune", "cache", "--max-size", "many").code == 3
    assert bitstore("cache", "prune", "cache", "--max-size", "10kB").code == 0
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.name in blobs]
    assert 0 < sum(path.stat().st_size for path in kept) <= 10_000
    assert bitstore("cache", "clear", "cache").code == 3
    assert kept[0].exists()
    assert bitstore("cache", "clear", "cache", "--yes").code == 0
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name in blobs]
    ran = bitstore("cache", "clear", "shelf", "--yes")  # not a cache, though its files are named like one's
    assert ran.code == 3
    assert "no cache folder" in ran.err
    assert files(tmp_path / "shelf") == blobs


def test_the_help_of_each_command_explains_the_exit_codes(bitstore: Callable[..., Ran]) -> None:
    for command in ([], ["get"], ["fetch"], ["warm"], ["cache", "prune"]):
        ran = bitstore(*command, "--help")
        assert ran.code == 0
        assert b"3 nothing could be begun" in b" ".join(ran.out.split())


def test_the_command_without_typer_names_its_extra(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['typer'] = None; from bitstore._cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr.decode()) == (
        3,
        "bitstore: the command line needs typer: pip install 'epic-bitstore[cli]'\n",
    )


def test_the_laptop_example_prints_its_statistics(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "laptop.py"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, env=env, check=True)
    assert re.sub(" +", " ", done.stdout).splitlines() == [
        "disk cache 1 hits 1001 misses",
        "ours 334 hits 667 misses",
        "theirs 666 hits 1 misses",
    ]
    assert not list(tmp_path.iterdir())


def on_a_terminal(folder: Path, *args: str, stdout: bool = False) -> tuple[int, bytes]:
    """Exit code, and what a terminal shows that is standard error, or also standard output."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen([*COMMAND, *args], cwd=folder, stderr=its, stdout=its if stdout else None) as process:
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal ends so when its last writer is gone
            while piece := os.read(ours, 65536):
                shown += piece
    os.close(ours)
    return process.returncode, shown


def test_fetch_shows_its_progress_on_a_terminal(shelf: str, blobs: dict[str, bytes], tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.txt", [*blobs, NOBODY_HAS])
    fetch = ("fetch", listed.name, "-o", "out", "--store", shelf)
    code, shown = on_a_terminal(tmp_path, *fetch, "--existing", "replace")
    assert code == 1
    assert re.search(rb"31/31 \[\d\d:\d\d<\d\d:\d\d, .* blobs/s, [0-9.]+ MB/s, missing: 1, [^:]*: 30\]", shown)
    assert b"found 30 blobs" in shown
    assert on_a_terminal(tmp_path, *fetch, "--quiet") == (1, b"")
    # Lines of JSON on the same terminal have no bar between them, and those of the log stand above it.
    code, shown = on_a_terminal(tmp_path, *fetch, "--json", stdout=True)
    assert [json.loads(line)["type"] for line in shown.splitlines()] == ["outcome"] * 31 + ["report"]
    code, shown = on_a_terminal(tmp_path, *fetch, "--existing", "replace", "-vv")
    assert len(re.findall(rb"(?:^|[\r\n])debug: [0-9a-f]{40}: ", shown)) == 31
