"""Writes docs/reference.md: every public name with the first line of its docstring. `python -m tests.reference`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import get_origin

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"
MODULES = [
    "bitstore",
    "bitstore.config",
    "bitstore.fsspec",
    "bitstore.index",
    "bitstore.observe",
    "bitstore.references",
    "bitstore.steps",
    "bitstore.testing",
    "bitstore.torch",
    "ray_integration",
]
HEAD = """# Every public name

Written by `python -m tests.reference`, checked by `tests/test_reference.py`. `help(NAME)` tells the parameters and the
errors. `epic.bitstore` has the names of `bitstore`, for old imports. What is not listed here may change at any time.
"""


def public_names(module: str) -> list[str]:
    """The names that a module exports, in order."""
    return sorted(importlib.import_module(module).__all__)


def summary(module: str, name: str) -> str:
    """The first line of a name's docstring; a constant's value or type."""
    value = getattr(importlib.import_module(module), name)
    # An alias such as `Steps` passes for a class on Python 3.10.
    if get_origin(value) is None and (inspect.isclass(value) or inspect.isroutine(value)):
        assert value.__doc__, f"{module}.{name} has no docstring"
        return str(inspect.cleandoc(value.__doc__).split("\n\n")[0].replace("\n", " "))
    short = repr(value) if len(repr(value)) < 20 else type(value).__name__
    return f"A constant: `{short}`."


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for module in MODULES:
        lines = [f"| `{name}` | {summary(module, name)} |" for name in public_names(module)]
        parts.append("\n".join([f"## {module}\n", "| name | what it is |", "|---|---|", *lines]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
