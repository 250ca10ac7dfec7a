"""The figures of the long tests, on their way from the tests into the docs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak_report import record
from tests.soak_table import BEGIN, END, PAGE, filled, table


def test_recorded_figures_get_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "soak.jsonl"
    monkeypatch.setenv("BITSTORE_SOAK_REPORT", os.fspath(report))
    record("kills", kills=499, wrong_bytes=1)
    record("many | more", seconds=1234.56)
    record("kills", kills=500, wrong_bytes=0)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    page = filled(PAGE.read_text(encoding="utf-8"), table(lines))
    assert "| kills | kills 500, wrong bytes 0 | 20" in page and "499" not in table(lines)
    assert "seconds 1,234.6" in page
    assert filled(page, table(lines)) == page
    assert page.split(BEGIN)[0] == PAGE.read_text(encoding="utf-8").split(BEGIN)[0]


def test_a_page_without_its_marks_is_left_unchanged() -> None:
    for page in ("", BEGIN, END, END + BEGIN):
        with pytest.raises(ValueError, match="lacks"):
            filled(page, "x")


def test_a_run_without_figures_is_reported(tmp_path: Path) -> None:
    environment = {**os.environ, "BITSTORE_SOAK_REPORT": os.fspath(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-m", "tests.soak_table"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "no test has written figures" in done.stderr


def test_the_tests_named_on_the_soak_page_exist() -> None:
    for name in re.findall(r"`(test_\w+\.py)`", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent.parent / "tests" / name).is_file(), name
