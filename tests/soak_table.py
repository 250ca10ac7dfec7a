"""Writes the figures of the last long run into the docs: `BITSTORE_SOAK_REPORT=FILE python -m tests.soak_table`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["BEGIN", "END", "PAGE", "filled", "table"]

PAGE = Path(__file__).parent.parent / "docs" / "promises.md"
BEGIN, END = "<!-- the figures begin -->", "<!-- the figures end -->"


def table(lines: list[dict[str, Any]]) -> str:
    """The last figures of each test, as Markdown."""
    newest = {str(line["test"]): line for line in lines}
    rows = ["| test | figures | when |", "|---|---|---|"]
    for name, line in sorted(newest.items()):
        told = [f"{key.replace('_', ' ')} {_figure(value)}" for key, value in line.items() if key not in ("test", "at")]
        rows.append(f"| {name} | {', '.join(told)} | {str(line.get('at', ''))[:10]} |")
    return "\n".join(rows)


def filled(page: str, figures: str) -> str:
    """The page with these figures between its two marks. ValueError if it has them not, or not in this order."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN!r} or {END!r}")
    return f"{head}{BEGIN}\n\n{figures}\n\n{END}{tail}"


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).replace("|", "/")


def main() -> None:
    report = Path(os.environ["BITSTORE_SOAK_REPORT"])
    if not report.exists():
        sys.exit(f"no test has written figures to {report}")
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines() if line.strip()]
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), table(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
