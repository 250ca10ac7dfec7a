"""`bitstore init`: what it writes loads, means what was said, and never takes the place of a file unasked."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import re
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore import DiskCache, Sha256Composite
from bitstore.config import load
from bitstore.config._written import Place, written
from tests.test_cli import COMMAND, Ran, bitstore  # noqa: F401  (a fixture)
from tests.test_config_keys import check
from tests.test_config_keys import tomllib as tomllib

Run = Callable[..., Ran]
DATA = b"hello"


def test_urls_become_a_file_that_works(bitstore: Run, tmp_path: Path) -> None:  # noqa: F811
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    digest = hashlib.sha256(DATA).hexdigest()
    (shelf / digest).write_bytes(DATA)
    url = shelf.as_uri() + "/"
    done = bitstore("init", url, "s3://bucket/{digest[:2]}/{digest}", "--algorithm", "sha256", "--cache", "kept")
    assert (done.code, done.out) == (0, b""), done.err
    assert "bitstore.toml" in done.err
    store = load(tmp_path / "bitstore.toml")
    assert isinstance(store, Sha256Composite)
    disk, files, bucket = store.sources
    assert isinstance(disk, DiskCache)
    assert disk.folder == tmp_path / "kept"
    assert [files.prefix, bucket.prefix] == [url, "s3://bucket/{digest[:2]}/{digest}"]  # type: ignore[attr-defined]
    assert list(store.stats()) == ["disk cache", str(shelf).strip("/"), "bucket"]
    assert bitstore("get", digest).out == DATA
    text = (tmp_path / "bitstore.toml").read_text()
    check(text)
    # What stands there as a comment is right as well, one line at a time.
    lines = text.splitlines()
    commented = [line for line in lines if line.startswith("# ") and " = " in line and "load(" not in line]
    assert len(commented) > 4
    for line in commented:
        check("\n".join(each.removeprefix("# ") if each is line else each for each in lines))


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_is_there_is_kept_unless_forced(force: bool, bitstore: Run, tmp_path: Path) -> None:  # noqa: F811
    for name in ("bitstore.toml", "linked.toml"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "link.toml").symlink_to("linked.toml")
    (tmp_path / "nowhere.toml").symlink_to("gone.toml")
    for name in ("bitstore.toml", "link.toml", "nowhere.toml"):
        words = ["init", "s3://bucket/f/", "--algorithm", "sha1", "-o", name]
        done = bitstore(*words, *(["--force"] if force else []))
        assert done.code == (0 if force else 3), done.err
        assert ("--force" in done.err) is not force
        if force:
            assert load(tmp_path / name).algorithm == "sha1"
    assert (tmp_path / "link.toml").is_symlink()
    assert ((tmp_path / "linked.toml").read_text() == "mine") is not force
    assert (tmp_path / "gone.toml").exists() is force


def test_the_schema_is_written_beside_it_for_editors(bitstore: Run, tmp_path: Path) -> None:  # noqa: F811
    words = ("init", "gs://bucket/f/", "--algorithm", "md5", "--schema")
    assert bitstore(*words).code == 0
    first, *_ = (tmp_path / "bitstore.toml").read_text().splitlines()
    assert (tmp_path / first.removeprefix("#:schema ")).is_file()
    load(tmp_path / "bitstore.toml")
    (tmp_path / "bitstore.toml").unlink()
    assert "bitstore.schema.json is there already" in bitstore(*words).err


def test_standard_output_gets_the_text_alone(bitstore: Run, tmp_path: Path) -> None:  # noqa: F811
    done = bitstore("init", "https://host/f/", "--algorithm", "sha1", "-o", "-")
    assert (done.code, done.err) == (0, "")
    assert tomllib.loads(done.out.decode())["tier"][0]["url"] == "https://host/f/"
    assert not (tmp_path / "bitstore.toml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing says where the blobs are"),
        (["s3://b/f/"], "give --algorithm, one of sha1"),
        (["s3://b/f/", "--algorithm", "sha3"], "--algorithm sha3: choose one of sha1"),
        (["s3://b", "--algorithm", "sha1"], "'s3://b' plus a digest is no URL"),
        (["", "--algorithm", "sha1"], "a URL is empty"),
        (["ftp://b/", "--algorithm", "sha1"], "its scheme is unknown"),
        (["blobs", "--algorithm", "sha1"], "has no scheme: begin with one of s3://"),
        (["https://u:hush-hush@h/f/", "--algorithm", "sha1"], r"\*\*\*@h/f/: no secret belongs into the file"),
        (["https://h/f/{digest}?sig=hush-hush", "--algorithm", "sha1"], "no secret belongs into the file"),
        (["s3://b/{digset}", "--algorithm", "sha1"], "'{digset}' is not a field"),
        (["no_such_module:API", "--algorithm", "sha1"], "No module named 'no_such_module'"),
        (["s3://b/f/", "--algorithm", "sha1", "--max-size", "5GB"], "--max-size goes with --cache"),
        (["s3://b/f/", "--algorithm", "sha1", "--cache", "c", "--max-size", "5 parrots"], "is not a size"),
        (["gs://b/f/", "--algorithm", "sha1", "--profile", "x"], "--profile goes with none of these URLs"),
        (["s3://b/f/", "--algorithm", "sha1", "--compression", "rar"], "unknown compression 'rar'"),
        (["s3://b/f/", "--algorithm", "sha1", "-o", "no/x.toml"], "there is no folder no"),
        (["s3://b/f/", "--algorithm", "sha1", "-o", "."], "'.' is a folder"),
        (["s3://b/f/", "--algorithm", "sha1", "-o", "-", "--schema"], "--schema writes beside a file"),
        ([b"s3://b/\xff/", "--algorithm", "sha1"], "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_is_refused_and_not_written(
    words: list[Any],
    message: str,
    bitstore: Run,  # noqa: F811
    tmp_path: Path,
) -> None:
    before = sorted(tmp_path.iterdir())
    done = bitstore("init", *map(os.fsdecode, words))
    assert done.code == 3, done.err
    assert re.search(message, done.err), done.err
    assert "hush" not in done.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "url",
    [
        "s3://b/a b/", "s3://b/$HOME/", "s3://b/$$/", "gs://b/$X/{{x}}/{digest}", "s3://b/'\"\\\x7f\t/",
        "https://h/$HOME/a/", "file:///tmp/$HOME/", "file:///tmp/~/", "s3://b/Größe/😀/",
    ],
)  # fmt: skip
def test_an_odd_url_means_the_same_in_the_file(url: str, bitstore: Run, tmp_path: Path) -> None:  # noqa: F811
    done = bitstore("init", url, "--algorithm", "sha1", "--cache", "$HOME/c'", "-o", "x y.toml")
    assert done.code == 0, done.err
    disk, store = load(tmp_path / "x y.toml").sources
    assert store.prefix == url  # type: ignore[attr-defined]
    assert disk.folder == tmp_path / "$HOME/c'"  # type: ignore[attr-defined]


def test_a_class_may_stand_among_the_urls(bitstore: Run, tmp_path: Path) -> None:  # noqa: F811
    root = str(Path(__file__).parents[1])
    done = bitstore(
        "init", "s3://b/f/", "tests.test_config_keys:Paid", "--algorithm", "sha1", "--profile", "p",
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert done.code == 0, done.err
    bucket, paid = load(tmp_path / "bitstore.toml").sources
    assert bucket.base_store.credentials == [{"profile_name": "p"}]  # type: ignore[attr-defined]
    assert type(paid).__name__ == "Paid"


def test_two_of_one_name_are_told_apart() -> None:
    text = written([Place("s3://b/"), Place("gs://b/"), Place("s3://b/{digest}.gz")], algorithm="sha1", name="x")
    assert [tier["name"] for tier in tomllib.loads(text)["tier"]] == ["b", "b #2", "b #3"]


class Terminal:
    """The command at a terminal of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        ours, its = pty.openpty()
        self._ours = ours
        self._process = subprocess.Popen(
            [*COMMAND, "init", *words],
            cwd=folder,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(its, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(its)
        self.seen = ""
        self._answered = 0  # length of `seen` up to the last question

    def answer(self, question: str, answer: str) -> None:
        """Wait for the question, and answer it."""
        while (found := self.seen.find(question, self._answered)) < 0:
            self.seen += os.read(self._ours, 4096).decode()
        self._answered = found + len(question)
        os.write(self._ours, answer.encode())

    def end_by(self, question: str, key: str) -> int:
        """Wait for the question, and press a key until the command ends. Returns the exit code.

        A key may come between the question and the wait for an answer, where the terminal is being prepared: Python
        heeds a signal there only with the next key.
        """
        self.answer(question, key)
        for _ in range(60):
            try:
                self._process.wait(1)
                break
            except subprocess.TimeoutExpired:
                os.write(self._ours, key.encode())
        return self.end()

    def end(self) -> int:
        """Read to the end. Returns the exit code."""
        try:
            while more := os.read(self._ours, 4096):
                self.seen += more.decode()
        except OSError:  # how Linux tells the end of a terminal
            pass
        os.close(self._ours)
        return self._process.wait(30)


def test_questions_are_asked_until_they_are_answered(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.answer("Which hashes", "sha3\n")
    terminal.answer("choose one of", "sha256\n")
    terminal.answer("URL 1", "s3://bucket\n")
    terminal.answer("is no URL", "s3://bucket/f/\n")
    terminal.answer("Profile", "-\n")
    terminal.answer("URL 2", "gs://other/{digest}\n")
    terminal.answer("URL 3", "\n")
    terminal.answer("Folder", "kept\n")
    terminal.answer("may hold", "much\n")
    terminal.answer("is not a size", "1GB\n")
    assert terminal.end() == 0, terminal.seen
    disk, bucket, other = load(tmp_path / "bitstore.toml").sources
    assert isinstance(disk, DiskCache)
    assert (disk.folder, disk.max_size) == (tmp_path / "kept", 10**9)
    assert bucket.base_store.credentials == ["anonymous"]  # type: ignore[attr-defined]
    assert other.prefix == "gs://other/{digest}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_an_interrupted_question_writes_nothing(key: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "s3://bucket/f/")
    assert terminal.end_by("Which hashes", key) == 130
    assert not list(tmp_path.iterdir())
