"""Runs benchmarks by name: `python benchmarks/run.py [--quick] [CASE ...]`; `--help` lists them."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Make the checkout importable, then do as the command line says."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.command import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
