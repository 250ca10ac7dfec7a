"""The contestants' virtual environments, made when first needed.

What can live beside bitstore runs in the environment of the checkout, with the versions of its lock. What cannot
(another botocore, another package of the same name), or has no business there, has one of its own under `.envs`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["HERE", "python_of"]

HERE = Path(__file__).resolve().parent
_ENVS = HERE / ".envs"


def python_of(name: str | None) -> Path:
    """The interpreter of the environment `name`, with what `requirements/<name>.txt` pins installed.

    None is the environment of the checkout. Raises `RuntimeError` where it cannot be installed.
    """
    if name is None:
        return Path(sys.executable)
    pins = HERE / "requirements" / f"{name}.txt"
    folder = _ENVS / name
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    stamp = folder / "installed"
    state = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != state:
        print(f"installing {pins.name} (once)", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _ENVS.mkdir(exist_ok=True)
        (_ENVS / ".gitignore").write_text("*\n")
        venv.create(folder, with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pins],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"pip could not install {pins.name}: {done.stderr.strip()[-600:]}")
        stamp.write_text(state)
    return python
