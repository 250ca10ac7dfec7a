"""Runs the tests on each Python of this machine, and the Ray tests on each Ray; writes docs/matrix.md: `make matrix`.

Each has an environment of its own below build/matrix, installed from locks and kept for the next time. With `--select`
only some tests run, and the page stays as it is.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.installed import rays
from tests.installed.environment import Environment, Failed, interpreters, pins, run

__all__ = ["PAGE", "rows_of"]

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "matrix.md"
WORK = ROOT / "build" / "matrix"
LOCKS = ROOT / "requirements"
PYTHONS = """# The tests on each Python and each Ray

Written by `make matrix`, which runs the whole suite on each Python that the machine has. The workflow runs it on all of
them, 3.14 too, for every change.

| Python | machine | passed | failed | skipped | minutes | day |
|---|---|---:|---:|---:|---:|---|
"""
RAYS = """
The tests of Ray (`tests/test_ray_*.py`), on the lowest Ray that `pyproject.toml` permits, a middle one and the newest,
each with the lowest pandas and pyarrow and with the newest. What is deprecated is an error where this library calls it.

| Ray | pandas | pyarrow | Python | passed | failed | skipped | minutes | day |
|---|---|---|---|---:|---:|---:|---:|---|
"""


def environment(name: str, base: Path, overrides: Sequence[Path] = ()) -> Environment:
    """The environment of one row, with the pins of `overrides` in the place of the test lock's own.

    It is made unless it is there and up to date.
    """
    locks = [LOCKS / "test.txt", *overrides]
    source = LOCKS / "test-source.txt"
    native = sorted((ROOT / "bitstore" / "_transport" / "native" / "src").iterdir())
    files = [*locks, source, ROOT / "pyproject.toml", ROOT / "hatch_build.py", *native]
    inputs = b"".join(path.read_bytes() for path in files)
    state = hashlib.sha256(inputs + str(base).encode()).hexdigest()
    folder = WORK / name
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == state:
        return Environment(folder, None)
    shutil.rmtree(folder, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    made = Environment(folder, base)
    pinned: dict[str, str] = {}
    for lock in locks:
        pinned |= pins(lock)
    made.install_pins(pinned.values())
    made.pip("install", "--require-hashes", "--no-deps", "--no-build-isolation", "-r", source)
    made.pip("install", "--no-index", "--no-deps", "--no-build-isolation", "-e", ROOT)
    made.pip("check")
    stamp.write_text(state)
    return made


def tested(name: str, python: Path, select: Sequence[str]) -> tuple[list[object], bool]:
    """Passed, failed, skipped, minutes and day; and whether no test failed."""
    began = time.monotonic()
    report = WORK / f"{name}.xml"
    report.unlink(missing_ok=True)
    subprocess.run(
        [python, "-m", "pytest", "-q", "-n", "3", "--dist", "loadfile", f"--junitxml={report}", *select],
        cwd=ROOT,
        check=False,
    )
    if not report.exists():
        raise Failed("pytest wrote no report")
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for key in counts:
            counts[key] += int(suite.get(key, 0))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    minutes = (time.monotonic() - began) / 60
    cells = [passed, failed, counts["skipped"], f"{minutes:.0f}", time.strftime("%Y-%m-%d")]
    return cells, failed == 0 and passed > 0


def on_python(version: str, base: Path, select: Sequence[str]) -> tuple[list[object], bool]:
    """A row of the first table, and whether no test failed."""
    python = environment(version, base).python
    cells, passed = tested(version, python, select)
    exact = run(python, "-c", "import platform; print(platform.python_version())", folder=ROOT).strip()
    return [exact, f"{platform.system()} {platform.machine()}", *cells], passed


def on_ray(setup: rays.Setup, base: Path, select: Sequence[str]) -> tuple[list[object], bool]:
    """A row of the second table, and whether no test failed."""
    python = environment(setup.name, base, setup.locks).python
    selected = select or sorted(str(path) for path in (ROOT / "tests").glob("test_ray_*.py"))
    cells, passed = tested(setup.name, python, selected)
    versions = [rays.version_of(package, setup) for package in ("ray", "pandas", "pyarrow")]
    return [*versions, rays.PYTHON, *cells], passed


def table(trials: Iterator[tuple[str, Callable[[], tuple[list[object], bool]]]]) -> tuple[list[str], bool]:
    """The rows of all trials, and whether there are some and all went well."""
    rows, well = [], True
    for name, trial in trials:
        try:
            cells, passed = trial()
        except Failed as error:
            cells, passed = [name, f"it could not be tried: {str(error).splitlines()[0]}"], False
        rows.append(f"| {' | '.join(map(str, cells))} |")
        print(rows[-1], flush=True)
        well = well and passed
    return rows, well and bool(rows)


def rows_of(head: str, page: str) -> list[str]:
    """The rows that a page has below the head of a table."""
    below = page.partition(head.strip().splitlines()[-1] + "\n")[2]
    return below.partition("\n\n")[0].splitlines()


def main() -> int:
    """Run the tests; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make matrix ARGS=...", description=__doc__)
    parser.add_argument("--select", nargs="+", default=[], help="files, tests or options of pytest; without it all")
    parser.add_argument("--python", nargs="*", help="versions, such as 3.10, and no Ray; without names all there are")
    parser.add_argument(
        "--ray", nargs="*", help="setups, such as ray-lowest-frames-newest, and no other Python; without names all"
    )
    options = parser.parse_args()
    bases = dict(interpreters())
    every = options.python is None and options.ray is None
    page = PAGE.read_text()
    kept = {head: rows_of(head, page) for head in (PYTHONS, RAYS)}
    results = []
    if every or options.python is not None:
        pythons = (
            (version, lambda version=version, base=base: on_python(version, base, options.select))
            for version, base in bases.items()
            if not options.python or version in options.python
        )
        results.append((PYTHONS, bool(options.python), table(pythons)))
    if every or options.ray is not None:
        if rays.PYTHON not in bases:
            parser.error(f"the Rays are tried with Python {rays.PYTHON}, which this machine lacks")
        setups = (
            (setup.name, lambda setup=setup: on_ray(setup, bases[rays.PYTHON], options.select))
            for setup in rays.setups()
            if not options.ray or setup.name in options.ray
        )
        results.append((RAYS, bool(options.ray), table(setups)))
    for head, is_part, (rows, _) in results:
        print(head + "\n".join(rows))
        if not is_part and not options.select:
            kept[head] = rows
    PAGE.write_text("".join(head + "\n".join(rows) + "\n" for head, rows in kept.items()))
    return 0 if all(well for *_, (_, well) in results) else 1


if __name__ == "__main__":
    sys.exit(main())
