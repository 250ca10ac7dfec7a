"""The committed inputs of each target: a text file of bytes literals, one a line, in `corpus/`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import bitstore

__all__ = ["load", "minimised", "save"]

FOLDER = Path(__file__).parent / "corpus"
_LIBRARY = str(Path(bitstore.__file__).parent)


def load(name: str) -> list[bytes]:
    """The inputs of the target called `name`, in the order of the file."""
    return [ast.literal_eval(line) for line in (FOLDER / f"{name}.txt").read_text(encoding="ascii").splitlines()]


def save(name: str, inputs: Iterable[bytes]) -> None:
    """Write the inputs of a target, shortest first."""
    lines = [repr(each) + "\n" for each in sorted(set(inputs), key=lambda each: (len(each), each))]
    (FOLDER / f"{name}.txt").write_text("".join(lines), encoding="ascii")


def minimised(target: Callable[[bytes], None], inputs: Iterable[bytes], *, always: Iterable[bytes] = ()) -> list[bytes]:
    """`always`, and those of `inputs`, shortest first, that run a line of the library which none before them ran."""
    kept: list[bytes] = []
    seen: set[tuple[str, int]] = set()
    for each in [*always, *sorted(set(inputs), key=len)]:
        lines = _lines(target, each)
        if lines - seen or each in always:
            kept.append(each)
            seen |= lines
    return kept


def _lines(target: Callable[[bytes], None], data: bytes) -> set[tuple[str, int]]:
    lines: set[tuple[str, int]] = set()

    def within(frame: FrameType, event: str, _: Any) -> Any:
        # Pairs of lines would be finer, and keep several times as many inputs.
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return within

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        return within if frame.f_code.co_filename.startswith(_LIBRARY) else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        target(data)
    finally:
        sys.settrace(before)
    return lines
