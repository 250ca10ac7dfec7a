"""What the command tells about itself: help with examples that parse, completion in a shell, and a light start."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from bitstore._cli.commands import app
from bitstore._cli.table import COMMANDS as TABLE
from tests.test_import import HEAVY, run

SLOW = {*HEAVY, "rich", "opentelemetry", "obstore", "polars"} - {"typer"}


def commands(found: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands and groups, by the words that name them."""
    yield path, found
    if hasattr(found, "list_commands"):
        for name in found.list_commands(None):
            yield from commands(found.get_command(None, name), *path, name)


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_list_of_commands_says_what_their_help_begins_with() -> None:
    for name, row in TABLE.items():
        words = " ".join((COMMANDS[name,].help or "").split())
        assert words.startswith(row.help.rstrip(".")), name


def examples(command: Any) -> list[str]:
    marked = re.search(r"Examples:\n\n\x08\n(.*?)\n\n", command.epilog or "", re.DOTALL)
    return [] if marked is None else [line.strip() for line in marked[1].splitlines()]


def test_the_page_of_commands_describes_each_command() -> None:
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
    told = set(re.findall(r"^\| `bitstore ([\w ]+)` \|", page, re.MULTILINE))
    assert told == {" ".join(path) for path, command in COMMANDS.items() if not hasattr(command, "commands")}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_examples_of_the_help_are_lines_that_the_command_takes(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    lines = examples(command)
    assert lines or (hasattr(command, "commands") and path)
    for line in lines:
        words = shlex.split(line.partition(" | ")[0])
        assert words[0] == "bitstore"
        named = max((known for known in COMMANDS if tuple(words[1 : len(known) + 1]) == known), key=len)
        assert named == path or not path
        if "--help" not in words:
            COMMANDS[named].make_context("bitstore", words[len(named) + 1 :])  # which parses, and runs nothing


@pytest.mark.parametrize("path", [path for path in COMMANDS if not hasattr(COMMANDS[path], "commands")], ids=" ".join)
def test_every_command_has_the_common_options(path: tuple[str, ...]) -> None:
    options = {name for parameter in COMMANDS[path].params for name in parameter.opts}
    assert {"--json", "--verbose", "-v", "--quiet"} <= options
    assert not options & {"--store"} or {"--profile", "--region", "--endpoint-url", "--config"} <= options
    assert not options & {"--in-flight"} or "--max-failures" in options


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    (tmp_path / "bitstore").write_text(f'#!/bin/sh\nexec {sys.executable} -m bitstore "$@"\n')
    (tmp_path / "bitstore").chmod(0o755)
    script = """
    bitstore --install-completion bash >/dev/null && source ~/.bashrc || exit
    for line in 'fe' 'cache pru' 'fetch --endp' 'fetch --existing sk' 'warm --target ' 'fetch --algorithm sha2'; do
        IFS=' ' read -ra COMP_WORDS <<<"bitstore $line"
        [[ $line = *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        $(complete -p bitstore | sed 's/.*-F \\([a-z_]*\\).*/\\1/') bitstore
        echo "${COMPREPLY[*]}"
    done
    """
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "fetch", "prune", "--endpoint-url", "skip", "shared owner local", "sha256"
    ], done.stderr  # fmt: skip


def test_a_mistyped_command_is_answered_with_the_right_one() -> None:
    done = subprocess.run([sys.executable, "-m", "bitstore", "fetsh"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "fetch" in done.stderr


@pytest.mark.parametrize("words", ["--version", "--help", "fetch --help", "cache --help", "--show-completion bash"])
def test_the_command_starts_without_what_takes_long_to_import(words: str) -> None:
    code = f"""
import sys
sys.argv = ["bitstore", *{words.split()}]
from bitstore._cli import main
assert main() == 0
print(*sys.modules)
"""
    loaded = run(code).splitlines()[-1].split()
    assert "bitstore._cli.commands" in loaded
    assert {name.partition(".")[0] for name in loaded} & SLOW == set()
    if words.startswith("--"):  # what no command is needed for imports none
        assert not {"bitstore.config", "msgspec", "pycurl"} & set(loaded)
