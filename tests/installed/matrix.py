"""Runs the tests on each Python of this machine and writes docs/matrix.md: `make matrix`.

Each Python has an environment of its own below build/matrix, installed from the lock of the tests and kept for the
next time. With `--select` only some tests run, and the page stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests.installed.environment import Environment, Failed, interpreters, pins, run

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "matrix.md"
WORK = ROOT / "build" / "matrix"
LOCKS = ROOT / "requirements"
HEAD = """# The tests on each Python

Written by `make matrix`, which runs the whole suite on each Python that the machine has. The workflow runs it on all of
them, 3.14 too, for every change.

| Python | machine | passed | failed | skipped | minutes | day |
|---|---|---:|---:|---:|---:|---|
"""


def environment(version: str, base: Path) -> Environment:
    """The environment of one Python; made unless it is there and up to date."""
    locks = [LOCKS / "test.txt", LOCKS / "test-source.txt"]
    sources = sorted((ROOT / "bitstore" / "_transport" / "native" / "src").iterdir())
    files = [*locks, ROOT / "pyproject.toml", ROOT / "hatch_build.py", *sources]
    inputs = b"".join(path.read_bytes() for path in files)
    state = hashlib.sha256(inputs + str(base).encode()).hexdigest()
    folder = WORK / version
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == state:
        return Environment(folder, None)
    shutil.rmtree(folder, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    made = Environment(folder, base)
    made.install_pins(pins(locks[0]).values())
    made.pip("install", "--require-hashes", "--no-deps", "--no-build-isolation", "-r", locks[1])
    made.pip("install", "--no-index", "--no-deps", "--no-build-isolation", "-e", ROOT)
    stamp.write_text(state)
    return made


def tested(version: str, base: Path, select: list[str]) -> tuple[str, bool]:
    """A row of the table, and whether no test failed."""
    began = time.monotonic()
    python = environment(version, base).python
    report = WORK / f"{version}.xml"
    report.unlink(missing_ok=True)
    command: list[str | Path] = [
        python,
        "-m",
        "pytest",
        "-q",
        "-n",
        "3",
        "--dist",
        "loadfile",
        f"--junitxml={report}",
        *select,
    ]
    subprocess.run(command, cwd=ROOT, check=False)
    if not report.exists():
        raise Failed("pytest wrote no report")
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for name in counts:
            counts[name] += int(suite.get(name, 0))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    exact = run(python, "-c", "import platform; print(platform.python_version())", folder=ROOT).strip()
    minutes = (time.monotonic() - began) / 60
    cells = [exact, f"{platform.system()} {platform.machine()}", passed, failed, counts["skipped"], f"{minutes:.0f}",
             time.strftime("%Y-%m-%d")]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", failed == 0 and passed > 0


def main() -> int:
    """Run the tests; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make matrix ARGS=...", description=__doc__)
    parser.add_argument("--select", nargs="+", default=[], help="files or tests; without it the whole suite")
    parser.add_argument("--python", nargs="+", help="versions, such as 3.10; without it all that the machine has")
    options = parser.parse_args()
    rows, well = [], True
    for version, base in interpreters():
        if options.python and version not in options.python:
            continue
        try:
            row, passed = tested(version, base, options.select)
        except Failed as error:
            row, passed = f"| {version} | it could not be tried: {str(error).splitlines()[0]} |", False
        rows.append(row)
        well = well and passed
    table = HEAD + "\n".join(rows) + "\n"
    print(table)
    if not options.select and not options.python:
        PAGE.write_text(table)
    return 0 if well and rows else 1


if __name__ == "__main__":
    sys.exit(main())
