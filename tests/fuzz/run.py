"""Fuzz for a while: `python -m tests.fuzz.run --seconds 60 [--keep] [TARGET...]`.

It is guided by coverage where atheris is installed; elsewhere it changes the committed inputs by chance.
`--keep` writes what was found to be of use into the committed corpus.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import mutate
from tests.fuzz.corpus import load, minimised, save
from tests.fuzz.targets import TARGETS

__all__ = ["GUIDED", "guided", "main"]

GUIDED = importlib.util.find_spec("atheris") is not None


def guided(name: str, inputs: list[bytes], seconds: int) -> tuple[int, list[bytes]]:
    """Fuzz one target with atheris; how many inputs it tried, and which of them led to new code.

    Raises
    ------
    mutate.Broken
        It found an input that fails.
    """
    with tempfile.TemporaryDirectory(prefix="bitstore-corpus-") as folder:
        for number, each in enumerate(inputs):
            Path(folder, f"given-{number}").write_bytes(each)
        command = [sys.executable, "-m", "tests.fuzz.guided", name, folder, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + 300)
        failed = sorted(Path(folder).glob("failed-*"))
        if failed or done.returncode:
            sys.stderr.write(done.stdout[-3000:] + done.stderr[-3000:])
            raise mutate.Broken(name, failed[0].read_bytes() if failed else b"")
        found = [path.read_bytes() for path in Path(folder).iterdir()]
    match = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    return int(match[1]) if match else 0, found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="in all")
    parser.add_argument("--keep", action="store_true", help="write what is of use into the committed corpus")
    asked = parser.parse_args()
    names = asked.targets or list(TARGETS)
    if not GUIDED:
        print("atheris is not installed: random changes of the committed inputs only")
    for name in names:
        given = load(name)
        share = max(1, asked.seconds // len(names))
        if GUIDED:
            tried, found = guided(name, given, share)
            if asked.keep:
                save(name, minimised(TARGETS[name], found, always=given))
        else:
            tried = mutate.run(name, TARGETS[name], given, seed=0, count=10**9, seconds=share)
        print(f"{name}: {tried} inputs, none fails")


if __name__ == "__main__":
    main()
