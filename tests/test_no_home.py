"""Processes without a home folder, as containers with `--user 54321` have them: a cache without a folder of its own
passes lookups through, with one warning, and every command works."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from bitstore import DiskCache, FileRaw, Sha1Store
from tests.stores import as_cache, as_source, composed

BODY = b"a blob"
DIGEST = hashlib.sha1(BODY).hexdigest()
WARNING = "disk: blobs are not kept, as there is no folder for them: "
# What a user id that the list of users lacks does; only root could become such a user here.
NOBODY = """
import pwd
def lacks(*_):
    raise KeyError("uid not found: 54321")
pwd.getpwuid = lacks
import logging, os, pickle, sys
logging.basicConfig(format="%(message)s")
"""


@pytest.fixture
def shelf(tmp_path: Path) -> str:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / DIGEST).write_bytes(BODY)
    return f"{(tmp_path / 'shelf').as_uri()}/"


def homeless(kind: str, folder: Path, code: str, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {name: text for name, text in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    if kind == "home is a file":
        env["HOME"] = "/dev/null"
    elif kind == "home is not there":
        env["HOME"] = "/proc/nowhere"
    command = [sys.executable, "-c", NOBODY + code, *args]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, timeout=120, env=env, check=False)


KINDS = ["no home", "home is a file"]

TWICE = f"""
from bitstore import DiskCache, NotFoundInStore
store = pickle.load(sys.stdin.buffer)
DiskCache()
print(store.get({DIGEST!r}), store.exists({DIGEST!r}), list(store.get_many([{DIGEST!r}]))[0].data, store)
try:
    store.get("0" * 40)
except NotFoundInStore:
    print("missing", store.stats()["disk"].as_dict())
"""

ALONE = """
from bitstore import DiskCache, NotFoundInStore, StoreNotAvailable
cache = DiskCache()
cache.put("key", b"data")
assert not cache.exists("key") and not cache.delete("key") and not cache.is_valid("key")
for look in (cache.get, cache.path):
    try:
        look("key")
    except NotFoundInStore:
        print("missing")
try:
    cache.folder
except StoreNotAvailable as error:
    print(error)
cache.clear()
print(cache.prune(), cache.verify_all(), cache.stats()["skipped"], repr(cache))
print(pickle.loads(pickle.dumps(cache)).label)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_composite_without_a_home_continues_with_one_warning(tmp_path: Path, shelf: str, kind: str) -> None:
    store = composed(as_cache(DiskCache(), "disk"), Sha1Store(FileRaw(), shelf, verify=True))
    done = homeless(kind, tmp_path, TWICE, stdin=pickle.dumps(store))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"b'a blob' True b'a blob' Sha1Composite[")
    assert b"missing {" in done.stdout and b"'writes': 0" in done.stdout and b"'failures': 0" in done.stdout
    assert done.stderr.decode().count(WARNING) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shelf"]  # and no folder called ~


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_cache_without_a_home_holds_nothing(tmp_path: Path, kind: str) -> None:
    done = homeless(kind, tmp_path, ALONE)
    assert done.returncode == 0, done.stderr
    told = done.stdout.decode().splitlines()
    assert told[:2] == ["missing", "missing"]
    assert told[2].startswith("there is no folder for it: ") and told[2].endswith("(disk is not available)")
    assert told[3] == "0 Verified(checked=0, damaged=0, bytes=0) 1 DiskCache(None, max_size='10GB')"
    assert told[4] == "disk"
    assert done.stderr.decode().count(WARNING) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_below_the_home_is_refused_by_name(tmp_path: Path) -> None:
    done = homeless("no home", tmp_path, "from bitstore import DiskCache\nDiskCache('~/blobs')")
    assert b"ValueError: cache folder '~/blobs': this process has no home folder" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_without_a_home_continues_without_the_cache(tmp_path: Path, shelf: str, kind: str) -> None:
    store = composed(as_cache(DiskCache(), "disk"), as_source(Sha1Store(FileRaw(), shelf, verify=True), "shelf"))
    code = "from ray_integration._node.usable import usable_part\nimport pickle\n"
    code += "store, told = usable_part(pickle.load(sys.stdin.buffer))\n"
    done = homeless(
        kind, tmp_path, f"{code}print(store.get({DIGEST!r}), list(store.stats()), told)", stdin=pickle.dumps(store)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"b'a blob' ['shelf'] [")
    assert b"goes on without its cache folder: there is no folder for it: " in done.stdout


# Runs one command after another, and prints the exit codes.
MAIN = """
import json
from bitstore._cli import main
codes = []
for line in json.loads(sys.argv[1]):
    sys.argv = ["bitstore", *line]
    codes.append(main())
open("codes", "w").write(json.dumps(codes))
"""


@pytest.mark.parametrize("kind", [*KINDS, "home is not there"])
@pytest.mark.parametrize("config", [True, False])
def test_every_command_works_without_a_home(tmp_path: Path, shelf: str, kind: str, config: bool) -> None:
    (tmp_path / "b.toml").write_text(
        f'algorithm = "sha1"\n[[tier]]\nname = "disk"\ncache = "disk"\n[[tier]]\nname = "shelf"\nurl = "{shelf}"\n'
    )
    (tmp_path / "list").write_text(f"{DIGEST}\n")
    stores = ["--config", "b.toml"] if config else ["--store", shelf, "--cache", "cache"]
    expected = [
        (["get", DIGEST, *stores], 0),
        (["fetch", "list", "-o", "out", *stores], 0),
        (["fetch", "list", "-o", "out.parquet", *stores], 0),
        (["warm", "list", *stores], 2 if config else 0),
        (["get", DIGEST], 3),
        (["cache", "stats", "cache"], 3 if config else 0),
        (["--version"], 0),
    ]
    done = homeless(kind, tmp_path, MAIN, json.dumps([args for args, _ in expected]))
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert json.loads((tmp_path / "codes").read_text()) == [code for _, code in expected], done.stderr
    assert (tmp_path / "out" / DIGEST).read_bytes() == BODY
    assert not (tmp_path / "~").exists()
