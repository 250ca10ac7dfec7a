"""Warnings reach people: printed in a plain script and in the logs of Ray's workers, each once a process."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

import bitstore
from bitstore import DiskCache, FileRaw, Sha1Cache, Sha1Composite, Sha1Store
from bitstore._support.once import warn_once
from tests.stores import as_cache, blobs, composed

ROOT = Path(bitstore.__file__).parent.parent
HELD = blobs(20)

SCRIPT = """
import pickle, sys
store = pickle.loads(sys.stdin.buffer.read())
for digest in sys.argv[1:]:
    copy = pickle.loads(pickle.dumps(store))  # as each task of a pool has
    assert copy.get(digest)
print("done")
"""


def cannot_write(folder: Path, kind: str) -> Sha1Composite:
    """A composite whose cache is below a file, so that it can keep nothing."""
    (folder / "source").mkdir()
    for digest, data in HELD.items():
        (folder / "source" / digest).write_bytes(data)
    below = folder / "file" / "cache"
    store = composed(
        as_cache(DiskCache(below, "1MB") if kind == "disk" else Sha1Cache(FileRaw(), f"file://{below}/")),
        Sha1Store(FileRaw(), f"file://{folder}/source/"),
    )
    (folder / "file").touch()
    return store


@pytest.mark.parametrize("kind", ["disk", "bucket"])
def test_a_plain_script_prints_once_that_its_cache_cannot_write(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *HELD],
        input=pickle.dumps(cannot_write(tmp_path, kind)),
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (0, b"done\n"), done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert f"{tmp_path}/file/cache" in line


def test_a_forked_child_warns_for_itself(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("bitstore")
    warn_once(logger, "cause", "in the parent")
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        logger.addHandler(handler := logging.StreamHandler(os.fdopen(writer, "w")))
        for _ in range(3):
            warn_once(logger, "cause", "in the child")
        handler.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        assert told.read() == "in the child\n"
    os.waitpid(child, 0)


def test_repeated_warnings_are_logged_at_a_lower_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bitstore")
    for number in range(3):
        warn_once(logging.getLogger("bitstore"), "cause", "number %d", number)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "number 0"),
        ("DEBUG", "number 1"),
        ("DEBUG", "number 2"),
    ]
    assert caplog.records[0].filename == "test_warnings.py"


def test_the_library_adds_no_log_handler() -> None:
    """In a process of its own, because other tests add handlers to this one."""
    code = (
        "import logging, bitstore, ray_integration\n"
        "for name in bitstore.__all__: getattr(bitstore, name)\n"
        "print(logging.getLogger('bitstore').handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_logs_of_ray_workers_have_a_warning_once(shared_ray: Any, tmp_path: Path) -> None:
    store = cannot_write(tmp_path, "disk")
    found: Any = ray.remote(lambda digest: (os.getpid(), store.get(digest)))
    answers = ray.get([found.remote(digest) for digest in HELD])
    assert [data for _, data in answers] == list(HELD.values())
    logs = Path(shared_ray.address_info["session_dir"]) / "logs"
    processes = {pid for pid, _ in answers}
    lines = [line for log in logs.glob("worker-*") for line in log.read_text().splitlines()]
    assert len([line for line in lines if f"{tmp_path}/file/cache could not keep" in line]) == len(processes)
