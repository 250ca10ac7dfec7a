"""Draws the plots of docs/benchmarks.md from the tables in `benchmarks/results`: `python -m benchmarks.page`."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parent.parent / "docs" / "images"
# The claims that are drawn, by the name in the heading of their table, and the column whose numbers are the bars.
PLOTS = {"headline": 1, "latency": 1, "large": 1, "disk-reads": 1, "disk-writes": 1, "cluster": 1}
_SECTION = re.compile(r"^## Claim \d+, `([\w-]+)`: (.*?)$\n\n((?:\|.*\n)+)", re.MULTILINE)
_ROW, _LEFT, _WIDTH = 24, 330, 760


def plots() -> dict[Path, str]:
    """Each picture's path and SVG."""
    drawn = {}
    for file in sorted(RESULTS.glob("*.md")):
        for name, title, table in _SECTION.findall(file.read_text()):
            if name in PLOTS:
                rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
                drawn[IMAGES / f"bench-{name}.svg"] = _svg(title, rows[0][PLOTS[name]], _bars(rows[2:], PLOTS[name]))
    return drawn


def _bars(rows: list[list[str]], column: int) -> list[tuple[str, float]]:
    return [(row[0], float(row[column].replace(",", ""))) for row in rows if row[column]]


def _svg(title: str, unit: str, bars: list[tuple[str, float]]) -> str:
    height = 50 + _ROW * len(bars)
    longest = max(value for _, value in bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="22" font-size="14">{escape(title)} ({escape(unit)})</text>',
    ]
    for number, (name, value) in enumerate(bars):
        top = 38 + _ROW * number
        length = round((_WIDTH - _LEFT - 80) * value / longest, 1)
        colour = "#0b6e4f" if re.match("bitstore|DiskCache|fetch_blobs", name) else "#c8c8c8"
        lines += [
            f'<text x="{_LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{length}" height="{_ROW - 6}" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 6}" y="{top + 13}">{value:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    for path, svg in plots().items():
        path.write_text(svg)
