"""Where commands write: devices, pipes, links, long names, and names that something else has."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bitstore import FileRaw, Sha1Composite, Sha1Store
from bitstore._cli.fetching import run
from bitstore._cli.listings import Listing, Listings
from bitstore._cli.outputs import output
from bitstore._digests.hash_list import HashList
from tests.cli_scene import here
from tests.clock import HandClock
from tests.servers import Answer, CountedAPI
from tests.test_cli_endings import ABSENT, BODY, COMMAND, DIGEST

LIST, OUT = "list", "out"
Command = Callable[..., tuple[int, str]]  # exit code, and what it said


@pytest.fixture
def store(tmp_path: Path) -> str:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / DIGEST).write_bytes(BODY)
    (tmp_path / LIST).write_text(f"{DIGEST}\n")
    return f"{(tmp_path / 'shelf').as_uri()}/"


@pytest.fixture
def bitstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str]:
        code, out, err = here(monkeypatch, capfd, *args)
        assert "Traceback" not in err
        return code, out + err

    return run


def make_device(path: Path) -> None:
    """A twin of /dev/null, so that the real one is not at risk."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make a device")


def test_get_writes_into_a_device_a_pipe_and_the_target_of_a_link(
    bitstore: Command, tmp_path: Path, store: str
) -> None:
    make_device(tmp_path / "null")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "to-null").symlink_to("null")
    with os.fdopen(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        for name in ("null", "to-null", "pipe", "link", "/dev/stdout"):
            code, said = bitstore("get", DIGEST, "--store", store, "-o", name)
            assert (code, said) == (0, BODY.decode() if name == "/dev/stdout" else "")
        assert reader.read(100) == BODY
    assert stat.S_ISCHR((tmp_path / "null").lstat().st_mode)
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == BODY
    code, said = bitstore("get", DIGEST, "--store", store, "-o", "/dev/full")
    assert (code, said) == (2, "bitstore: cannot write the blob to /dev/full: No space left on device\n")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link to a folder", "loop"])
@pytest.mark.parametrize("name", [OUT, "x.parquet", "out/missing.txt", "out/failed.tsv", "out/invalid.tsv"])
def test_fetch_refuses_an_output_of_another_kind(
    bitstore: Command, tmp_path: Path, store: str, name: str, kind: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if kind == "device":
        make_device(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif name == OUT:
        pytest.skip("is what is right")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "shelf")
    before = path.lstat()
    to = OUT if name.startswith(OUT) else name
    code, said = bitstore("fetch", LIST, "-o", to, "--store", store, "--existing", "replace")
    assert code == 3, said
    assert path.name in said
    assert path.lstat()[:3] == before[:3]
    assert not list(tmp_path.rglob(".bitstore-*"))


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "loop", "link to nowhere"])
@pytest.mark.parametrize("existing", ["skip", "check", "replace"])
def test_a_special_file_named_like_a_digest_is_no_blob(
    bitstore: Command, tmp_path: Path, store: str, kind: str, existing: str
) -> None:
    (tmp_path / OUT).mkdir()
    path = tmp_path / OUT / DIGEST
    if kind == "device":
        make_device(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        (path / "deep").mkdir(parents=True)
    else:
        path.symlink_to(DIGEST if kind == "loop" else "no/where")
    (tmp_path / "shelf" / hashlib.sha1(b"other").hexdigest()).write_bytes(b"other")
    with (tmp_path / LIST).open("a") as file:
        file.write(f"{hashlib.sha1(b'other').hexdigest()}\n")
    before = path.lstat()
    code, said = bitstore("fetch", LIST, "-o", OUT, "--store", store, "--existing", existing)
    assert code == 2, said
    assert "found 1 blobs" in said and "failed: 1" in said and f"cannot write out/{DIGEST}: " in said
    assert path.lstat()[:3] == before[:3]
    assert (tmp_path / OUT / "failed.tsv").read_text().startswith(f"{DIGEST}\tcannot write ")
    assert (tmp_path / OUT / hashlib.sha1(b"other").hexdigest()).read_bytes() == b"other"


def test_fetch_writes_through_links(bitstore: Command, tmp_path: Path, store: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / OUT).mkdir()
    for name in (f"{OUT}/{DIGEST}", f"{OUT}/missing.txt", "x.parquet", OUT + "/invalid.tsv"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere" / Path(name).name)
    (tmp_path / "elsewhere/invalid.tsv").write_text("of an earlier run\n")
    with (tmp_path / LIST).open("a") as file:
        file.write(f"{ABSENT}\n")
    assert bitstore("fetch", LIST, "-o", OUT, "--store", store)[0] == 1
    assert bitstore("fetch", LIST, "-o", "x.parquet", "--store", store)[0] == 1
    assert (tmp_path / "elsewhere" / DIGEST).read_bytes() == BODY
    assert (tmp_path / "elsewhere/missing.txt").read_text() == f"{ABSENT}\n"
    assert pq.read_table(tmp_path / "elsewhere/x.parquet")["data"].to_pylist() == [BODY]
    assert not (tmp_path / "elsewhere/invalid.tsv").exists()
    assert all((tmp_path / name).is_symlink() for name in (f"{OUT}/{DIGEST}", f"{OUT}/missing.txt", "x.parquet"))


def test_outputs_may_have_names_as_long_as_the_file_system_takes(bitstore: Command, tmp_path: Path, store: str) -> None:
    with (tmp_path / LIST).open("a") as file:
        file.write(f"{ABSENT}\nno digest\n")
    assert bitstore("get", DIGEST, "--store", store, "-o", "a" * 255) == (0, "")
    name = "b" * 247 + ".parquet"
    code, said = bitstore("fetch", LIST, "-o", name, "--store", store)
    assert code == 1, said
    assert (tmp_path / name).is_file()
    assert sorted(path.name[-11:] for path in tmp_path.glob("b*.t*")) == ["invalid.tsv", "missing.txt"]
    assert bitstore("fetch", LIST, "-o", "c" * 255, "--store", store)[0] == 1


def test_outputs_may_have_names_that_are_not_utf8(bitstore: Command, tmp_path: Path, store: str) -> None:
    name = os.fsdecode(b"\xff")
    for number in (0, 1):
        code, said = bitstore("warm", LIST, "--store", store, "--cache", name, "--ledger", f"ledger{name}")
        assert code == 0 and ("known by the ledger" in said) == bool(number), said
    for to in (name, f"{name}.parquet"):
        code, said = bitstore("fetch", LIST, "-o", to, "--store", store)
        assert code == 0 and (tmp_path / to).exists(), said


def test_a_link_to_a_folder_without_rights_spoils_one_blob(tmp_path: Path, store: str) -> None:
    (tmp_path / OUT).mkdir()
    (tmp_path / "shut").mkdir(0)
    (tmp_path / OUT / DIGEST).symlink_to("../shut/blob")
    command = [*COMMAND, "fetch", LIST, "-o", OUT, "--store", store]
    # Also the tests' own user may be one whom rights do not stop.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run([*drop, *command], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert b"stopped" not in done.stderr
    assert (tmp_path / OUT / "failed.tsv").read_text() == f"{DIGEST}\tcannot write out/{DIGEST}: Permission denied\n"


def test_a_retry_from_a_pipe_writes_its_failures_beside_the_blobs(tmp_path: Path, api: CountedAPI) -> None:
    api.rules.add(Answer(403))
    line = f"{sys.executable} -m bitstore fetch --retry <(printf '{DIGEST}\\tx\\n') -o out --store {api.url}/blob/"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert b"bitstore fetch --retry out/failed.tsv -o out" in done.stderr
    assert (tmp_path / "out/failed.tsv").read_text().startswith(f"{DIGEST}\t")


# ---------------------------------------------------------------------------- causes and progress


def test_fetch_names_the_causes_and_stops_where_everything_fails_for_one(
    bitstore: Command, tmp_path: Path, api: CountedAPI
) -> None:
    digests = [hashlib.sha1(str(number).encode()).hexdigest() for number in range(300)]
    (tmp_path / LIST).write_text("".join(f"{digest}\n" for digest in digests))
    api.rules.add(Answer(403))
    stores = ("--store", f"{api.url}/{{digest[:2]}}/{{digest}}")
    code, said = bitstore("fetch", LIST, "-o", OUT, *stores)
    failed = (tmp_path / OUT / "failed.tsv").read_text().splitlines()
    assert (code, len(failed)) == (2, 100)
    assert said.startswith("stopped: ") and "stopped because: 100 lookups in a row failed for one cause: " in said
    (cause,) = (line for line in said.splitlines() if line.startswith("  100 x "))
    assert "403" in cause and cause.endswith(f"(the first: {failed[0].split(chr(9))[0]})")
    assert all(line.count("403") == 1 and "Sha1Composite" not in line for line in failed)

    code, said = bitstore("fetch", LIST, "-o", OUT, *stores, "--max-failures", "0")
    assert code == 2 and "failed: 300" in said and "  300 x " in said and "stopped" not in said


def test_a_success_between_failures_lets_fetch_continue(bitstore: Command, tmp_path: Path, api: CountedAPI) -> None:
    blobs = {hashlib.sha1(str(number).encode()).hexdigest(): str(number).encode() for number in range(40)}
    good = list(blobs)[::4]
    api.blobs.update({digest: blobs[digest] for digest in good})
    api.rules.add(Answer(403), path="|".join(set(blobs).difference(good)))
    (tmp_path / LIST).write_text("".join(f"{digest}\n" for digest in blobs))
    args = ("fetch", LIST, "-o", OUT, "--store", f"{api.url}/blob/", "--in-flight", "1")
    code, said = bitstore(*args, "--max-failures", "4")
    assert code == 2 and "found 10 blobs" in said and "failed: 30" in said and "stopped" not in said
    assert "stopped: " in bitstore(*args, "--max-failures", "3")[1]


def test_fetch_without_a_terminal_prints_a_line_every_ten_seconds(
    tmp_path: Path, store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    clock, blobs = HandClock(), {hashlib.sha1(bytes([n])).hexdigest(): bytes([n]) for n in range(25)}

    class Slow(Sha1Store):
        def get(self, uri: str) -> bytes:
            clock.now += 1
            return blobs[uri]

    composite = Sha1Composite()
    composite.append_source(Slow(FileRaw(), store), name="slow")
    (tmp_path / LIST).write_text("".join(f"{digest}\n" for digest in blobs))
    entries = HashList(str(tmp_path / LIST))
    target = output(tmp_path / OUT, algorithm=entries.algorithm, fan_out=0, existing="skip")
    listings = Listings(*(Listing(target.report_path(name)) for name in ("a", "b", "c")))
    run(composite, entries, output=target, listings=listings, total=25, in_flight=1, clock=clock)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2, lines
    assert all(line.startswith("fetch: ") and " of 25 (" in line and "blobs/s" in line for line in lines)
