"""`--json`, `-v`, `--quiet`: what commands write to which stream, in words and as objects."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitstore import MissLedger, NotFoundInStore, RemembersMisses
from bitstore._cli import main
from bitstore._cli.lines import Line, Run
from bitstore.config import load
from bitstore.index import IndexBuilder
from tests.stores import API
from tests.test_cli_help import COMMANDS as EVERY

BODY = b"a blob"
DIGEST = hashlib.sha1(BODY).hexdigest()
ABSENT = "0" * 40
PAGE = Path(__file__).parents[1] / "docs" / "json-lines.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a shelf, a configuration, lists, and a cache."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / DIGEST).write_bytes(BODY)
    (tmp_path / "list").write_text(f"{DIGEST}\n{ABSENT}\nnonsense\n")
    (tmp_path / "b.toml").write_text(
        f'algorithm = "sha1"\n[[tier]]\nname = "disk"\ncache = "disk"\npath = "cache"\n[[tier]]\nname = "shelf"\n'
        f'url = "{(tmp_path / "shelf").as_uri()}/"\n'
    )
    assert load(tmp_path / "b.toml").get(DIGEST) == BODY
    shelf = f'url = "{(tmp_path / "shelf").as_uri()}/"\n'
    (tmp_path / "learned.toml").write_text(
        f'algorithm = "sha1"\norder = "learned"\n[[tier]]\nname = "one"\n{shelf}[[tier]]\nname = "two"\n{shelf}'
    )
    with IndexBuilder("sha1") as builder:
        builder.add([DIGEST])
        builder.write(tmp_path / "held.idx")
    with pytest.raises(NotFoundInStore):
        RemembersMisses(API({}), MissLedger(tmp_path / "misses.sqlite"), name="api").get(ABSENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Said:
    """What the command did that is run in this process, which takes less time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, line: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["bitstore", *shlex.split(line)])
        code = main()
        out, err = self._capfd.readouterr()
        return code, out, err


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Said:
    return Said(monkeypatch, capfd)


def documented() -> dict[str, set[str]]:
    """The keys of each type that the page has a table of."""
    tables: dict[str, set[str]] = {}
    table = r"^\| `?([\w -]+?)`? \| \|\n\|---\|---\|\n((?:\|.*\n)+)"
    for kind, rows in re.findall(table, PAGE.read_text(), re.MULTILINE):
        tables[kind] = {key for row in rows.splitlines() for key in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    common = tables.pop("every report")
    return {kind: keys | common if "command" in keys else keys for kind, keys in tables.items()}


def test_the_page_documents_each_type_and_key() -> None:
    kinds: list[Any] = [*Line.__subclasses__(), *Run.__subclasses__()]
    kinds.remove(Run)
    assert {kind.__struct_config__.tag: set(kind.__struct_fields__) for kind in kinds} == documented()


COMMANDS = [
    ("version", 0, ["version"]),
    (f"get {DIGEST.upper()} -o one --config b.toml", 0, ["blob"]),
    (f"get {DIGEST} --config b.toml", 3, ["error"]),
    (f"get {ABSENT} -o one --config b.toml", 1, ["error"]),
    ("fetch list -o out --config b.toml", 1, ["outcome", "outcome", "outcome", "report"]),
    ("fetch none -o out --config b.toml", 3, ["error"]),
    ("plan list --config b.toml", 0, ["plan"]),
    ("plan none --config b.toml", 3, ["error"]),
    ("warm list --config b.toml", 1, ["outcome", "outcome", "outcome", "report"]),
    ("warm list --dry-run --config b.toml", 1, ["outcome", "outcome", "outcome", "report"]),
    ("exists list --config b.toml", 1, ["outcome", "outcome", "outcome", "report"]),
    (f"locate {DIGEST} --config b.toml", 0, ["location", "location"]),
    ("put list --config b.toml", 0, ["put", "report"]),
    ("verify --config b.toml", 0, ["verified", "verification"]),
    ("index build list -o x.idx", 1, ["index", "index-build"]),
    ("index build none -o x.idx", 3, ["error"]),
    ("index show held.idx", 0, ["index"]),
    ("index check list", 1, ["index-check"]),
    ("index merge held.idx held.idx -o y.idx", 0, ["index"]),
    ("index ask held.idx list", 1, ["outcome", "outcome", "outcome", "report"]),
    ("misses show misses.sqlite", 0, ["miss-source"]),
    ("misses export misses.sqlite", 0, ["miss"]),
    ("misses export misses.sqlite -o m.csv", 0, ["miss-export"]),
    ("misses export misses.sqlite -o m", 3, ["error"]),
    ("misses forget misses.sqlite --all", 0, ["forgotten"]),
    ("cache stats cache", 0, ["cache"]),
    ("cache stats none", 3, ["error"]),
    ("cache verify cache", 0, ["cache-check"]),
    ("cache prune cache --max-size 1MB", 0, ["cache"]),
    ("cache clear cache --yes", 0, ["cache"]),
    ("cluster 127.0.0.1:1", 3, ["error"]),
    ("init s3://b/f/ --algorithm sha1", 0, ["config"]),
    ("init s3://b/f/ --algorithm sha1 -o -", 3, ["error"]),
    ("init", 3, ["error"]),
    (f"check --digest {DIGEST} --config b.toml", 0, ["tier-check", "tier-check", "check"]),
    (f"check list --write --digest {ABSENT} --config b.toml", 1, ["tier-check", "tier-check", "check"]),
    ("check --store http://127.0.0.1:9/", 2, ["tier-check", "check"]),
    ("check --digest nonsense --config b.toml", 3, ["error"]),
    ("check --algorithm sha1 --config b.toml", 3, ["error"]),
    ("show --config b.toml", 0, ["outline"]),
    ("show --order --config b.toml", 0, ["outline"]),
    ("show --order --config learned.toml", 0, ["outline", "order", "order"]),
    ("show --config none.toml", 3, ["error"]),
    ("demo --blobs 100 --no-ray", 0, ["pass", "pass", "claim", "claim", "claim", "claim"]),
]


def test_each_command_is_in_the_table() -> None:
    lines = [f"{line} " for line, _, _ in COMMANDS]
    found = {" ".join(path) for path, command in EVERY.items() if not hasattr(command, "list_commands")}
    assert {name for name in found if any(line.startswith(f"{name} ") for line in lines)} == found


@pytest.mark.parametrize(("line", "code", "kinds"), COMMANDS)
def test_json_is_all_that_standard_output_gets(place: Path, said: Said, line: str, code: int, kinds: list[str]) -> None:
    returned, out, err = said(f"{line} --json")
    objects = [json.loads(text) for text in out.splitlines()]
    assert (returned, [found["type"] for found in objects]) == (code, kinds), err
    for found in objects:
        assert found.keys() == {"type", *documented()[found["type"]]}
    if kinds == ["error"]:
        assert (objects[0]["exit_code"], f"bitstore: {objects[0]['message']}\n") == (code, err)


def test_outcomes_and_reports_are_objects_in_json(place: Path, said: Said) -> None:
    _, out, err = said("fetch list -o out --config b.toml --json")
    *outcomes, report = map(json.loads, out.splitlines())
    assert sorted((found["kind"], found["digest"], found["source"], found["bytes"]) for found in outcomes) == [
        ("found", DIGEST, "disk", len(BODY)),
        ("invalid", "nonsense", None, None),
        ("missing", ABSENT, None, None),
    ]
    counts = {key: report[key] for key in ("found", "missing", "failed", "invalid", "there", "complete", "by_tier")}
    assert counts == {
        "found": 1, "missing": 1, "failed": 0, "invalid": 1, "there": 0, "complete": True, "by_tier": {"disk": 1}
    }  # fmt: skip
    assert err == ""
    assert '"kind": "there"' in said("fetch list -o out --config b.toml --json")[1]


def test_a_file_whose_name_is_no_text_is_named_in_json(place: Path, said: Said) -> None:
    name = "b\udcff\xe4"
    code, out, _ = said(f"get {DIGEST} --config b.toml --json -o {name}")
    assert (code, json.loads(out)["file"], out.isascii()) == (0, name, True)


def test_quiet_and_verbose_change_only_the_messages(place: Path, said: Said) -> None:
    assert said("fetch list -o out --config b.toml --quiet") == (1, "", "")
    assert said(f"get {ABSENT} --config b.toml -q")[2].startswith(f"bitstore: {ABSENT} is missing")
    assert said("cache stats cache -q")[1] == "6 B (6 bytes)\n"
    plain, more, most = (said(f"get {DIGEST} -o one --config b.toml{more}")[2] for more in ("", " -v", " -vv"))
    assert (plain, more) == ("", "info: the configuration is b.toml\n")
    assert f"debug: {DIGEST}: disk: " in most
    assert said(f"get {DIGEST} -o one --config b.toml") == (0, "", "")  # the level is what it was
    code, _, err = said(f"get {DIGEST} --config b.toml -v --quiet")
    assert (code, err) == (3, "bitstore: --quiet and --verbose exclude each other: leave one out\n")


def test_standard_output_may_lack_letters_or_be_full(place: Path) -> None:
    text = (place / "b.toml").read_text().replace('"shelf"', '"caf\u00e9 \u65e5"', 1)
    (place / "b.toml").write_text(text.split("[[tier]]")[0] + "[[tier]]" + text.split("[[tier]]")[2], encoding="utf-8")
    command = f"{sys.executable} -m bitstore"
    line = f"{command} exists list --config b.toml -q; {command} fetch none -o out --json >/dev/full; echo $?"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert done.stdout == f"{DIGEST}\tcaf\\xe9 \\u65e5\n3\n"
    assert "unexpected" not in done.stderr


def test_a_check_in_words_ends_with_a_code_for_scripts(place: Path, said: Said) -> None:
    code, out, err = said(f"check --digest {DIGEST} --config b.toml --write")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "1. cache disk (DiskCache): good"
    assert f"    {DIGEST}: found at {(place / 'shelf').as_uri()}/{DIGEST}" in out.splitlines()
    assert out.splitlines()[-1] == "2 of 2 tiers good"
    url = (place / "shelf").as_uri()
    code, out, _ = said(f"check --store {url} --quiet")  # without the slash
    assert (code, "FAULT prefix-without-slash" in out) == (2, True)
    code, out, _ = said(f"check --store {url}/ --digest {ABSENT} --quiet")
    assert (code, out) == (1, "1 of 1 tier good, 1 sample in no tier that was asked\n")
    code, out, _ = said(f"check --store {url}/ --digest {hashlib.sha256(BODY).hexdigest()}")
    assert (code, "other-algorithm" in out) == (2, True)  # the digest says sha256, and the keys are sha1
    for wrong in ("--column x", "--algorithm crc32 --store file:///x/", "--timeout 0", "none.txt"):
        assert said(f"check {'' if 'store' in wrong else '--config b.toml '}{wrong}")[0] == 3


def test_a_tree_is_drawn_with_what_the_terminal_knows(place: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = said("show --config b.toml")
    assert (code, err) == (0, "")
    assert "├─ 1. cache disk (DiskCache)" in out
    (place / "cache\udce4").mkdir()
    for encoding, branch in (("utf-8", "├─ 1."), ("latin-1", "|- 1.")):
        monkeypatch.setattr(sys, "stdout", open(1, "w", encoding=encoding, closefd=False))  # noqa: SIM115
        code, out, _ = said("show --store file:///x/ --cache cache\udce4")
        assert (code, branch in out, "cache\\udce4" in out) == (0, True, True)


@pytest.mark.parametrize("command", ["fetch list -o out", "exists list -o out"])
def test_a_reader_of_json_that_leaves_loses_no_listing(place: Path, command: str) -> None:
    (place / "list").write_text("".join(f"{number:040x}\n" for number in range(50)))
    reading, writing = os.pipe()
    os.close(reading)
    words = [*command.split(), "--config", "b.toml", "--json", "--report", "out/r.json"]
    done = subprocess.run([sys.executable, "-m", "bitstore", *words], stdout=writing, timeout=60, check=False)
    os.close(writing)
    assert done.returncode == 128 + signal.SIGPIPE
    report = json.loads((place / "out/r.json").read_text())
    assert (report["complete"], report["stopped"]) == (False, "cannot write to standard output: Broken pipe")
    assert (place / "out/missing.txt").read_text().count("\n") == report["missing"] > 0
