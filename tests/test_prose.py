"""Words that CONTRIBUTING.md rules out: the subject of a sentence is a noun of the code, and words are plain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULED_OUT = re.compile(
    r"\b(anew|told of|gone on with|whoever|somebody|someone|nobody|who|whom|he|himself)\b", re.IGNORECASE
)
FOLDERS = ("bitstore", "ray_integration", "epic", "examples")
FILES = sorted(
    [
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
    ]
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_and_docs_use_no_word_that_is_ruled_out(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [
        f"{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if RULED_OUT.search(line.replace("pycurl.NOBODY", ""))
    ] == []
