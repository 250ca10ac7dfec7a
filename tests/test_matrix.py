"""The matrix of Rays is that of the bounds which pyproject.toml declares, and its page has it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.installed import matrix, rays
from tests.installed.environment import pins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
SETUPS = {setup.name: setup for setup in rays.setups()}
LOWEST = SETUPS["ray-lowest-frames-lowest"]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@pytest.mark.parametrize("package", ["ray", "pandas", "pyarrow"])
def test_the_lowest_versions_of_the_matrix_are_the_declared_bounds(package: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (bound,) = (found[1] for line in extras["ray"] if (found := re.match(rf"{package}(?:\[.*\])?>=([\d.]+)$", line)))
    assert rays.version_of(package, LOWEST).removesuffix(".0").removesuffix(".0") == bound.removesuffix(".0")


def test_the_middle_ray_lies_between_the_lowest_and_the_newest() -> None:
    versions = {setup.ray: numbers(rays.version_of("ray", setup)) for setup in SETUPS.values()}
    assert versions["lowest"] < versions["middle"] < versions["newest"]
    newest = rays.version_of("ray", SETUPS["ray-newest-frames-newest"])
    assert f"ray=={newest}" in pins(ROOT / "requirements" / "test.txt")["ray"]


def test_locks_of_the_matrix_name_no_address_and_hash_every_pin() -> None:
    for lock in {lock for setup in SETUPS.values() for lock in setup.locks}:
        assert "://" not in lock.read_text()
        assert all("--hash=sha256:" in entry for entry in pins(lock).values())


def test_the_rows_of_a_table_are_kept_until_it_is_written_again() -> None:
    page = matrix.PYTHONS + "| 3.11 |\n| 3.12 |\n" + matrix.RAYS + "| 2.52 |\n"
    assert matrix.rows_of(matrix.PYTHONS, page) == ["| 3.11 |", "| 3.12 |"]
    assert matrix.rows_of(matrix.RAYS, page) == ["| 2.52 |"]
    assert matrix.rows_of(matrix.RAYS, matrix.PYTHONS + "| 3.11 |\n") == []
