"""Clean virtual environments, installed from hashed locks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["Environment", "Failed", "interpreters", "pins", "run"]

# What a shell may have set, and what would let the checkout, or another environment, into a clean one.
_FOREIGN = re.compile(r"PYTHON(?!HASHSEED)|VIRTUAL_ENV|BITSTORE_|AWS_|GOOGLE_|RAY_|STORAGE_EMULATOR_HOST")


class Failed(Exception):
    """A command ended with an error; the text is the end of what it printed."""


def run(*command: str | Path, folder: Path, seconds: float = 600, **variables: str) -> str:
    """What a command prints. Raises `Failed`."""
    kept = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={**kept, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(map(str, command))}: not done after {seconds:.0f} s") from error
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def pins(lock: Path) -> dict[str, str]:
    """The entries of a lock (pin, marker and hashes), by name; several of one name are one text."""
    entries: dict[str, str] = {}
    for entry in re.findall(r"^\S.*(?:\n[ \t]+.*)*", lock.read_text(), re.MULTILINE):
        if found := re.match(r"([A-Za-z0-9._-]+)(\[.*?\])?==", entry):
            name = re.sub(r"[-_.]+", "-", found[1]).lower()
            entries[name] = entries.get(name, "") + entry + "\n"
    return entries


def interpreters() -> Iterator[tuple[str, Path]]:
    """Each Python from 3.10 on that this machine has, as its version (`3.12`) and path: one of each version."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep)]
    folders += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/*/bin"))]
    for minor in range(10, 20):
        for folder in folders:
            path = Path(folder) / f"python3.{minor}"
            if path.is_file():
                told = subprocess.run([path, "-c", "import ssl, sys; print(sys.version_info[1])"], capture_output=True)
                if told.stdout.strip() == str(minor).encode():  # a shim of pyenv may name a Python that is not there
                    yield f"3.{minor}", path
                    break


class Environment:
    """A virtual environment with nothing in it but what its methods install."""

    def __init__(self, folder: Path, base: Path | str | None = sys.executable) -> None:
        """Make it with the Python `base`; None: it is there."""
        self.folder = folder
        self.python = folder / "bin" / "python"
        if base is not None:
            run(base, "-m", "venv", folder, folder=folder.parent)

    def pip(self, *arguments: str | Path) -> str:
        """Run pip."""
        quiet = ["--quiet"] if arguments[0] != "check" else []  # which says by its output what is wrong
        options = [*quiet, "--disable-pip-version-check", *arguments]
        return run(self.python, "-m", "pip", *options, folder=self.folder, seconds=1200)

    def install_pins(self, entries: Iterable[str]) -> None:
        """Install the wheels of entries of a lock, and nothing else."""
        file = self.folder / "requirements.txt"
        file.write_text("".join(entries))
        self.pip("install", "--require-hashes", "--no-deps", "--no-compile", "--only-binary", ":all:", "-r", file)

    def install_wheel(self, wheel: Path) -> None:
        """Install a wheel of this project; what it needs is there already, and `pip check` sees to that."""
        self.pip("install", "--no-index", "--no-deps", wheel)
        self.pip("check")

    @property
    def packages(self) -> Path:
        """The folder of its site-packages."""
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found
