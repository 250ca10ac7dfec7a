"""Words that CONTRIBUTING.md rules out: the subject of a sentence is a noun of the code, and words are plain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULED_OUT = re.compile(
    r"\b(anew|told of|gone on with|whoever|somebody|someone|nobody|who|whom|he|himself)\b", re.IGNORECASE
)
# A name that begins with one of these has lost its subject: `test_of_s3`, `test_what_others_hold_is_found`.
NO_SUBJECT = re.compile(
    r"test_(after|also|and|as|at|before|both|but|by|for|from|if|in|its?|nor|not|of|on|or|that|their|these|they|this|those"
    r"|to|unless|until|what|when|where|while|who|with|within|without)_"
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


def test_each_test_name_says_subject_and_expectation() -> None:
    riddles = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                words = node.name.split("_")[1:]
                if len(words) < 4 or NO_SUBJECT.match(node.name) or RULED_OUT.search(" ".join(words)):
                    riddles.append(f"{path.name}:{node.lineno} {node.name}")
    assert riddles == [], "a name is a sentence of four words at least that begins with its subject"
