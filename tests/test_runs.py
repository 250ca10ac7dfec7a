"""How a run of these tests ends, whatever a test does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_cluster import ROOT

FILES = {
    "dies": "import os\ndef test_passes(): pass\ndef test_dies(): os._exit(1)\ndef test_comes_after(): pass\n",
    "hangs": "import threading\ndef test_hangs(): threading.Event().wait()\ndef test_comes_after(): pass\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_test_that_ends_its_worker_fails_and_the_run_ends(name: str, tmp_path: Path) -> None:
    (tmp_path / "test_first.py").write_text(FILES[name])
    for number in range(4):
        (tmp_path / f"test_more_{number}.py").write_text("def test_passes(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 2\ntimeout_method = thread\n")
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", tmp_path / "pytest.ini", tmp_path],
        cwd=ROOT,
        env={**os.environ, "HYPOTHESIS_NO_PLUGINS": "1"},  # that of zarr, which imports all of it
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"crashed while running 'test_first.py::test_{name}'" in done.stdout
