"""A folder with stores, configurations and a paid API, and the command that runs there, for tests of its commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, AnyStr

import pytest

from bitstore._cli import main
from bitstore._support import once
from tests.stores import sha1

__all__ = ["BOUGHT", "CALLS", "Scene", "here"]

CALLS = "calls.txt"  # a line for each call of the paid API

CONFIG = """
algorithm = "sha1"
[[tier]]
name = "disk"
cache = "disk"
path = "cache"
[[tier]]
name = "packed"
url = "{root}/packed/{{digest[:2]}}/{{digest}}.gz"
compression = "gzip"
[[tier]]
name = "shelf"
url = "{root}/shelf/"
"""
LOST = """
[[tier]]
name = "lost"
url = "{root}/no-such-folder/"
"""
PAID = """
[[tier]]
name = "api"
python = "paying:api"
"""
MODULE = """
from bitstore import Sha1APISource

class API(Sha1APISource):
    def api_get(self, digest):
        open("calls.txt", "a").write(digest + "\\n")
        return b"bought" if digest == "{bought}" else None

api = API
"""
BOUGHT = sha1(b"bought")


def here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[AnyStr], *words: object
) -> tuple[int, AnyStr, AnyStr]:
    """Exit code, standard output and standard error of the command, run in this process, which takes less time."""
    monkeypatch.setattr(sys, "argv", ["bitstore", *map(str, words)])
    once.given.clear()  # a process of its own would warn again
    code = main()
    out, err = capfd.readouterr()
    return code, out, err


class Scene:
    """The current folder, with stores and configurations, and the command that runs in this process."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        monkeypatch.chdir(root)
        monkeypatch.syspath_prepend(str(root))
        monkeypatch.delitem(sys.modules, "paying", raising=False)
        (root / "paying.py").write_text(MODULE.replace("{bought}", BOUGHT))
        for name, text in {"good": CONFIG, "lost": CONFIG + LOST, "paid": CONFIG + PAID}.items():
            (root / f"{name}.toml").write_text(text.format(root=root.as_uri()))
        (root / "packed").mkdir()
        (root / "shelf").mkdir()

    def __call__(self, *words: Any) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        return here(self._monkeypatch, self._capfd, *words)
