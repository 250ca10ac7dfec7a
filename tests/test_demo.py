"""`bitstore demo`, and that it would notice if what it says were false."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bitstore import Sha1Composite
from bitstore._cli.demo import demo
from bitstore._cli.pretend import World


@pytest.mark.ray
def test_the_demo_shows_its_claims_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "t"), "RAY_TMPDIR": "/tmp"}  # Ray's sockets need a short path
    done = subprocess.run(
        [sys.executable, "-m", "bitstore", "demo", "--blobs", "2000"],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert "FALSE" not in out
    assert out.count("[ok]") == 5
    assert "hits: bucket 1 800, bucket 2 600, bucket 3 400, paid API 200" in out  # here, cold
    assert "hits: API cache 200, bucket 1 800, bucket 2 600, bucket 3 400" in out  # on Ray, cold
    assert out.count("hits: disk cache 2,000\n") == 2
    assert "[ok] the paid API was asked once per hash: 200 calls for 200 hashes, in 4 passes" in out
    assert len(re.findall(r"2,000 blobs in [0-9.]+ s \([0-9,]+ blobs/s, [0-9,]+ MB/s\)", out)) == 4
    assert not [path for path in (tmp_path / "t").iterdir() if path.name.startswith("bitstore")]


@pytest.mark.parametrize(
    ("spoil", "claim"),
    [
        ("api", "the paid API was asked once per hash"),
        ("cache", "a second pass hits nothing but the disk cache"),
        ("bytes", "every pass brought every blob once, and each byte was right"),
        ("place", "the first pass found each blob in the store that holds it"),
    ],
)
def test_the_demo_reports_a_false_claim(monkeypatch: pytest.MonkeyPatch, spoil: str, claim: str) -> None:
    make, fill = World.store, World.fill

    def store(self: World, cache: str) -> Sha1Composite:
        if spoil == "cache":  # each pass begins with an empty disk cache
            self.passes = getattr(self, "passes", 0) + 1  # type: ignore[attr-defined]
            return make(self, f"{cache}-{self.passes}")  # type: ignore[attr-defined]
        return make(self, cache)

    def spoiled(self: World, blobs: int) -> None:
        fill(self, blobs)
        victim = next((self.root / "bucket-1/files").iterdir())
        if spoil == "api":
            self.api.api_get(victim.name)  # paid for although a bucket has it
        elif spoil == "bytes":
            victim.write_bytes(b"other bytes")
        elif spoil == "place":
            (self.root / "api" / victim.name).write_bytes(victim.read_bytes())
            victim.unlink()

    monkeypatch.setattr(World, "store", store)
    monkeypatch.setattr(World, "fill", spoiled)
    lines: list[str] = []
    assert not demo(blobs=100, ray=False, say=lines.append)
    assert [line for line in lines if line.startswith(f"  [FALSE] {claim}")]


def test_the_demo_with_keep_leaves_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lines: list[str] = []
    assert demo(blobs=100, ray=False, keep=True, say=lines.append)
    (kept,) = tmp_path.iterdir()
    assert lines[-1] == f"kept: {kept}"
    assert (kept / "api-calls.txt").read_text().count("\n") == 10
