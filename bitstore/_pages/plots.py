"""Plots as inline SVG, drawn here: no script, no font and no picture from elsewhere."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Bar", "bars", "columns", "short", "steps", "text"]

_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_WIDTH, _LEFT, _RIGHT = 480, 52, 26  # of a plot; from its sides to its frame
_TOP, _HEIGHT, _BOTTOM = 12, 150, 30  # above the frame, of the frame, below it
_LETTERS = 60  # of a line of a name


class Bar(NamedTuple):
    """One bar."""

    # What it is called, of any length.
    name: str
    # How long it is.
    value: int
    # A word for its colour: `plain`, or `bad`.
    look: str = "plain"


def text(value: object) -> str:
    """`value` as it can stand in HTML, in an attribute too."""
    return escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def short(value: float) -> str:
    """A number in few letters, such as 1.2k."""
    for power, letter in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g}{letter}"
    return f"{value:.3g}"


def steps(name: str, points: Sequence[tuple[float, float]]) -> str:
    """How a value went over time: seconds, and the value from the point before until then."""
    points = [point for point in points if all(map(math.isfinite, point))] or [(1.0, 0.0)]
    span = points[-1][0] or 1.0
    most = max(value for _, value in points)
    ticks = _ticks(most)
    top = ticks[-1] or 1.0
    at, path = 0.0, [f"M{_x(0)} {_y(0)}"]
    for seconds, value in points:
        path.append(f"L{_x(at / span)} {_y(value / top)}L{_x(seconds / span)} {_y(value / top)}")
        at = seconds
    line = "".join(path)
    unit, size = next((u, s) for u, s in (("h", 3600.0), ("min", 60.0), ("s", 1.0)) if span >= 3 * s or s == 1.0)
    marks = [(seconds * size, f"{short(seconds)} {unit}") for seconds in _ticks(span / size) if seconds * size <= span]
    return _svg(
        name,
        _TOP + _HEIGHT + _BOTTOM,
        [
            *_grid(ticks, top),
            *(f'<text class="tick mid" x="{_x(at / span)}" y="{_y(0) + 18}">{label}</text>' for at, label in marks),
            f'<path class="area plain" d="{line}L{_x(1)} {_y(0)}Z"/><path class="line plain" d="{line}"/>',
        ],
    )


def columns(name: str, found: Sequence[tuple[str, int]]) -> str:
    """How often each of some classes was met, in their order."""
    ticks = _ticks(max((count for _, count in found), default=0), whole=True)
    top = ticks[-1] or 1.0
    drawn, every = _grid(ticks, top), math.ceil(len(found) / 8) or 1
    wide = (_WIDTH - _LEFT - _RIGHT) / max(len(found), 1)
    for number, (label, count) in enumerate(found):
        left, high = _LEFT + wide * number, _HEIGHT * count / top
        drawn.append(
            f'<rect class="mark plain" x="{left + 1:.1f}" y="{_TOP + _HEIGHT - high:.1f}"'
            f' width="{max(wide - 2, 1):.1f}" height="{high:.1f}"><title>{text(label)}: {count:,}</title></rect>'
        )
        if number % every == 0:
            drawn.append(f'<text class="tick mid" x="{left + wide / 2:.1f}" y="{_y(0) + 18}">{text(label)}</text>')
    return _svg(name, _TOP + _HEIGHT + _BOTTOM, drawn)


def bars(name: str, found: Sequence[Bar], nothing: str) -> str:
    """A horizontal bar for each of some names; `nothing` is said where there is none."""
    most = max((bar.value for bar in found), default=0) or 1
    drawn = [] if found else [f'<text class="tick mid" x="{_WIDTH / 2}" y="20">{text(nothing)}</text>']
    top = 0
    for bar in found:
        lines = textwrap.wrap(bar.name, _LETTERS, max_lines=2, placeholder="…") or ["?"]
        long = max(1.5, (_WIDTH - 130) * bar.value / most)
        drawn += [f"<g><title>{text(bar.name)}: {bar.value:,}</title>"]
        drawn += [f'<text x="0" y="{top + 14 + 15 * at}">{text(line)}</text>' for at, line in enumerate(lines)]
        top += 15 * len(lines)
        drawn.append(
            f'<rect class="mark {bar.look}" x="0" y="{top + 5}" width="{long:.1f}" height="11" rx="2"/>'
            f'<text class="tick" x="{long + 6:.1f}" y="{top + 15}">{bar.value:,}</text></g>'
        )
        top += 24
    return _svg(name, max(top, 32), drawn)


def _x(share: float) -> str:
    return f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * share:.1f}"


def _y(share: float) -> float:
    return round(_TOP + _HEIGHT * (1 - share), 1)


def _ticks(most: float, *, whole: bool = False) -> list[float]:
    """Round numbers from 0 to `most` or a little more, at most 6."""
    if most <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(most))
    step = next(power * part for part in (0.2, 0.5, 1.0, 2.0) if power * part * 5 >= most)
    if whole:
        step = max(1.0, step)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _grid(ticks: Sequence[float], top: float) -> list[str]:
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(tick / top)}" y2="{_y(tick / top)}"/>'
        f'<text class="tick end" x="{_LEFT - 8}" y="{_y(tick / top) + 4}">{short(tick)}</text>'
        for tick in ticks
    ]


def _svg(name: str, height: int, drawn: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{text(name)}">'
    return "\n".join([head, *drawn, "</svg>"])
