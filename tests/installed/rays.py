"""The Rays that the Ray tests run on in `make matrix`: lowest, middle and newest, each with old and new frames.

The newest of everything is what `requirements/test.txt` pins. Each other release has a small lock of its own, whose
pins take the place of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.installed.environment import pins

__all__ = ["PYTHON", "Setup", "setups", "version_of"]

LOCKS = Path(__file__).parent.parent.parent / "requirements"
PYTHON = "3.11"  # the version of Python that has wheels of the lowest and of the newest of all these
_RAYS = ("lowest", "middle", "newest")
_FRAMES = ("lowest", "newest")


class Setup(NamedTuple):
    """One environment of the matrix."""

    # "lowest", "middle" or "newest".
    ray: str
    # "lowest" or "newest": pandas, pyarrow and NumPy.
    frames: str
    # The locks whose pins take the place of those of `requirements/test.txt`.
    locks: list[Path]

    @property
    def name(self) -> str:
        """For a folder."""
        return f"ray-{self.ray}-frames-{self.frames}"


def setups() -> Iterator[Setup]:
    """All of them."""
    for ray in _RAYS:
        for frames in _FRAMES:
            names = [f"{kind}-{which}" for kind, which in (("ray", ray), ("frames", frames)) if which != "newest"]
            if (ray, frames) == ("lowest", "newest"):
                names.append("pandas-2")  # Rays before 2.55 themselves fail with pandas 3
            elif ray != "lowest" and frames == "lowest":
                names.append("pyarrow-17")  # and later ones with pyarrow before 17
            yield Setup(ray, frames, [LOCKS / f"{name}.txt" for name in names])


def version_of(package: str, setup: Setup) -> str:
    """The version that a setup pins for Python 3.11."""
    entry = ""
    for lock in (LOCKS / "test.txt", *setup.locks):
        entry = pins(lock).get(package, entry)
    for version, marker in re.findall(r"^\S+?==(\S+)(?: ; (.*?))?(?: \\)?$", entry, re.MULTILINE):
        if not marker or ">= '3.11'" in marker or "== '3.11.*'" in marker:
            return str(version)
    raise ValueError(f"{setup.name} pins no {package} for Python {PYTHON}")
