"""Files that are whole or not there: what a name may be, and what a kill, a link, a pipe or a device does."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bitstore import FileRaw, StoreNotAvailable
from bitstore._lookup.asking import steps_of_put
from bitstore._lookup.run import run
from bitstore._support.atomic import DRAFTS, Draft, fitting_name, is_special, write_into, write_whole
from bitstore.steps import Write

BODY = b"the bytes"


def put(path: Path, data: bytes) -> None:
    FileRaw().put(path.as_uri(), data)


def put_if_absent(path: Path, data: bytes) -> None:
    run(steps_of_put(FileRaw(), path.as_uri(), data, Write(only_if_absent=True)))


def download(path: Path, data: bytes) -> None:
    source = path.parent / "source"
    source.write_bytes(data)
    try:
        FileRaw().download(source.as_uri(), path)
    finally:
        source.unlink()


Writer = Callable[[Path, bytes], None]
WRITERS: list[Writer] = [write_whole, put, download]


@pytest.mark.parametrize("write", [*WRITERS, put_if_absent])
@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "x"])
def test_each_name_that_the_file_system_takes_can_be_written(tmp_path: Path, write: Writer, name: str) -> None:
    write(tmp_path / name, BODY)
    assert (tmp_path / name).read_bytes() == BODY
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("write", WRITERS)
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, write: Writer) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/real").write_bytes(b"old")
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to("deep/real")
    (tmp_path / "dangling").symlink_to("deep/new")
    for name, real in (("first", "deep/real"), ("dangling", "deep/new")):
        write(tmp_path / name, BODY)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / real).read_bytes() == BODY
    assert sorted(os.listdir(tmp_path / "deep")) == ["new", "real"]


def make_special(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/full")
    elif kind == "descriptor":
        path.symlink_to("/dev/stderr")


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device", "descriptor"])
@pytest.mark.parametrize("write", [*WRITERS, put_if_absent])
def test_a_special_file_or_folder_is_never_replaced(tmp_path: Path, write: Writer, kind: str) -> None:
    path = tmp_path / "there"
    make_special(path, kind)
    before = path.lstat()
    with pytest.raises((OSError, StoreNotAvailable)):
        write(path, BODY)
    assert path.lstat()[:3] == before[:3]
    assert os.listdir(tmp_path) == ["there"]


def test_writes_into_a_device_and_a_pipe_arrive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_into(tmp_path / "pipe", BODY)
    assert os.read(reader, 100) == BODY
    os.close(reader)
    assert is_special(tmp_path / "pipe") and is_special(Path("/dev/null")) and not is_special(tmp_path)
    write_into(Path("/dev/null"), BODY)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_into(Path("/dev/full"), BODY)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_a_write_to_an_open_descriptor_continues_at_its_position(tmp_path: Path, name: str) -> None:
    """As with `>>`: to open the name would write over the beginning, to replace it would lose the redirection."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    log = tmp_path / "log"
    log.write_bytes(b"before ")
    imports = "from pathlib import Path; from bitstore._support.atomic import write_into"
    code = f"{imports}; write_into(Path({name!r}), b'it')"
    with log.open("ab") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, cwd=tmp_path, timeout=60, env=os.environ)
    assert log.read_bytes() == b"before it"


KILLED = """
import os, signal, sys
from pathlib import Path
from bitstore._support.atomic import write_whole
calls = 0
def bomb(event, args):
    global calls
    if event in ("open", "os.rename", "os.remove", "os.link") and "target" in str(Path.cwd()):
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(bomb)
write_whole(Path("file"), b"new" * 100_000)
"""


def test_a_kill_at_any_step_leaves_a_whole_file(tmp_path: Path) -> None:
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    codes = []
    for step in range(1, 6):
        done = subprocess.run([sys.executable, "-c", KILLED, str(step)], cwd=folder, timeout=60, check=False)
        codes.append(done.returncode)
        assert (folder / "file").read_bytes() in (b"old", b"new" * 100_000)
    assert codes[0] == -signal.SIGKILL and codes[-1] == 0
    assert {path.name for path in folder.iterdir()} == {"file", *(path.name for path in folder.glob(DRAFTS))}


def test_a_draft_that_is_not_published_is_deleted(tmp_path: Path) -> None:
    with Draft(tmp_path / "file") as draft:
        draft.write(BODY)
        assert os.listdir(tmp_path) == [draft.path.name]
    assert os.listdir(tmp_path) == []


def test_shortened_names_fit_the_file_system_and_differ(tmp_path: Path) -> None:
    assert fitting_name(tmp_path, "short", ".missing.txt") == "short.missing.txt"
    names = {fitting_name(tmp_path, stem, ".missing.txt") for stem in ("a" * 250, "a" * 249 + "b", "é" * 125)}
    assert len(names) == 3
    assert all(name.endswith(".missing.txt") and len(os.fsencode(name)) <= 255 for name in names)
