"""Figures of the long tests, one JSON line each, for the page that tells of their last run."""

from __future__ import annotations

import json
import os
import time

__all__ = ["record"]


def record(name: str, **figures: float | str) -> None:
    """Append the figures of one test to the file that BITSTORE_SOAK_REPORT names; without it, do nothing."""
    path = os.environ.get("BITSTORE_SOAK_REPORT")
    if path:
        line = json.dumps({"test": name, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **figures})
        with open(path, "a", encoding="utf-8") as file:  # in one write, so several tests may share the file
            file.write(line + "\n")
