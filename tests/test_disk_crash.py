"""The disk cache and processes that are killed: at each operation, at each system call, at random, in crowds."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bitstore import DiskCache
from tests.disk_workers import OPERATIONS
from tests.soak_report import record

ROOT = Path(__file__).parents[1]
WORK = ["put", "replace", "heal", "mend", "delete", "reclaim", "rotate", "recount", "prune", "clear"]


def run(module: str, *arguments: object, timeout: float = 250) -> Any:
    """Run a module of tests, and return what it prints."""
    command = [sys.executable, "-m", f"tests.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("put", "torn"),
        ("replace", "whole"),
        ("heal", "whole"),
        ("prune", "whole"),
        ("clear", "whole"),
        ("mend", "whole"),
        ("delete", "whole"),
        ("reclaim", "torn"),
        ("rotate", "torn"),
        ("recount", "whole"),
        ("put", "kept"),
        ("replace", "kept"),
        ("rotate", "kept"),
    ],
)
def test_a_kill_at_any_file_operation_leaves_a_sound_cache(tmp_path: Path, what: str, how: str) -> None:
    assert run("disk_workers", tmp_path / "cache", what, how) >= 10, "it was killed at many places"


def test_the_kill_test_knows_every_file_operation() -> None:
    """Whatever the cache calls of `os` is a place at which the tests kill it, or no file operation."""
    harmless = {"fspath", "geteuid", "getpid", "kill", "register_at_fork", "strerror", "urandom"}
    used = set()
    for path in (ROOT / "bitstore" / "_caches").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                holder = node.func.value
                if isinstance(holder, ast.Name) and holder.id == "os":
                    used.add(node.func.attr)
    assert used - harmless == set(OPERATIONS.split())


def test_random_kills_of_processes_break_no_bound(tmp_path: Path) -> None:
    figures = run("disk_crowd", "kills", tmp_path / "cache", 50, "--seed", time.time_ns())
    assert figures["kills"] >= 50
    assert figures["bytes_over_the_bound"] == 0


ENDLESS_WRITER = """
import hashlib, itertools, sys
from bitstore import DiskCache
cache = DiskCache(sys.argv[1], "1GB", algorithm="sha1")
for number in itertools.count():
    data = b"%d" % number * 1000
    digest = hashlib.sha1(data).hexdigest()
    cache.put(digest, data)
    print(digest, flush=True)
"""


def test_a_kept_blob_is_found_after_a_kill(tmp_path: Path) -> None:
    """Whole files are half of it: a cache that is empty after each crash keeps its promises, too, and is no use."""
    kept: set[str] = set()
    for _ in range(3):
        command = [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path / "cache")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            kept |= {writer.stdout.readline().strip() for _ in range(len(kept) + 300)}
            writer.kill()
    cache = DiskCache(tmp_path / "cache", "1GB", algorithm="sha1")
    assert len(kept) == 900
    assert all(hashlib.sha1(cache.get(digest)).hexdigest() == digest for digest in kept)


KILLED_BEFORE_IT_PUBLISHES = """
import os, signal, sys
from bitstore import DiskCache

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

os.rename = os.replace = os.link = die
DiskCache(sys.argv[1], 3000).put("large", b"x" * 2900)
"""


def test_the_reservation_of_a_killed_writer_is_freed(tmp_path: Path) -> None:
    """Nor is another process needed to clean up after it: those that are at work do."""
    cache = DiskCache(tmp_path / "cache", 3000)
    cache.put("small", b"v")
    command = [sys.executable, "-c", KILLED_BEFORE_IT_PUBLISHES, str(tmp_path / "cache")]
    killed = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    cache.put("other", b"w" * 900)
    assert cache.get("other") == b"w" * 900
    assert cache.stats()["bytes"] == 900 + (1 if cache.exists("small") else 0)


def test_many_processes_together_keep_the_bound(tmp_path: Path) -> None:
    figures = run("disk_crowd", "crowd", tmp_path / "cache", 8, "--processes", 16, "--seed", time.time_ns())
    assert figures["bytes_over_the_bound"] == 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("what", WORK)
def test_a_kill_at_any_system_call_leaves_a_sound_cache(tmp_path: Path, what: str) -> None:
    started = time.monotonic()
    kills = run("disk_workers", tmp_path / "cache", what, "strace", timeout=1500)
    assert kills >= 10, "it was killed at many places"
    record(f"disk: killed at every system call of {what}", kills=kills, seconds=round(time.monotonic() - started, 1))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_hundreds_of_random_kills_break_no_bound(tmp_path: Path) -> None:
    figures = run("disk_crowd", "kills", tmp_path / "cache", 500, "--seed", time.time_ns(), timeout=1500)
    assert figures["kills"] >= 500
    assert figures["bytes_over_the_bound"] == 0
    record("disk: processes killed at random", **figures)


@pytest.mark.soak
@pytest.mark.timeout(24 * 3600)
def test_many_processes_together_keep_the_bound_for_minutes(tmp_path: Path) -> None:
    seconds = float(os.environ.get("BITSTORE_SOAK_SECONDS", "600"))
    given = ("disk_crowd", "crowd", tmp_path / "cache", seconds, "--processes", 16, "--seed", time.time_ns())
    figures = run(*given, timeout=2 * seconds + 300)
    assert figures["bytes_over_the_bound"] == 0
    record("disk: many processes share a folder", **figures)
