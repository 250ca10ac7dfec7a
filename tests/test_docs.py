"""The pages of docs/: their messages, defaults and plots are those of the code, and their Python runs."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

import bitstore
import ray_integration
from benchmarks import page
from benchmarks.command import CASES
from bitstore.observe._names import COUNTERS
from tests.test_readme import held, placed, run_on_ray  # noqa: F401  (a fixture)

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RAY_PAGES = ["ray.md", "cluster.md", "training.md"]  # in this order they are one program


def blocks(name: str) -> str:
    """All Python of a page, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL))


def cells(name: str) -> list[list[str]]:
    """The rows of a page's tables whose first cell is code, with the marks of code taken off."""
    rows = [line.strip("| ").split(" | ") for line in (DOCS / name).read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip("`") for cell in row] for row in rows]


def messages() -> list[str]:
    """Each text in the code, with `…` in place of what is filled in."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(map(text, node.values))
        return str(node.value) if isinstance(node, ast.Constant) else "…"

    files = [path for folder in ("bitstore", "ray_integration") for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    return [text(node) for node in nodes if isinstance(node, (ast.JoinedStr, ast.Constant))]


def test_messages_of_troubleshooting_are_in_the_code() -> None:
    known = "\0".join(messages())
    assert len(cells("troubleshooting.md")) > 40
    assert [row[0] for row in cells("troubleshooting.md") if row[0] not in known] == []


@pytest.mark.parametrize("row", cells("defaults.md"), ids=lambda row: row[0])
def test_each_default_on_the_page_equals_that_of_the_code(row: list[str]) -> None:
    called, name = row[0].rstrip(")").split("(")
    first, *method = called.split(".")
    function: Any = getattr(bitstore, first, None) or getattr(ray_integration, first)
    for attribute in method:
        function = getattr(function, attribute)
    assert repr(inspect.signature(function).parameters[name].default) == row[1]


def test_metrics_of_operations_are_exported() -> None:
    named = set(re.findall(r"ray_bitstore_(\w+)", (DOCS / "operations.md").read_text()))
    assert named
    assert named <= {f"{name}_total" for name in COUNTERS} | {"lookup_seconds", "breaker_open"}


def test_the_plots_show_the_recorded_results() -> None:
    drawn = page.plots()
    assert {path.stem.removeprefix("bench-") for path in drawn} == set(page.PLOTS)
    for path, svg in drawn.items():
        assert path.read_text() == svg, "python -m benchmarks.page draws it"


@pytest.mark.parametrize(
    "name", sorted(path.name for path in DOCS.glob("*.md") if blocks(path.name) and path.name not in RAY_PAGES)
)
def test_the_python_code_of_a_page_runs(
    name: str,
    held: dict[str, bytes],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(placed(blocks(name), tmp_path, next(iter(held))), {"hashes": list(held), "__name__": name})
    if name == "money.md":
        worked_out = (DOCS / name).read_text().partition("## Three jobs, worked out")[2]
        told = re.findall(r"```text\n(.*?)```", worked_out, re.DOTALL)
        assert len(told) == 4 and capsys.readouterr().out.endswith("".join(told))


def test_promises_name_tests_and_benchmarks_that_are_there() -> None:
    said = (DOCS / "promises.md").read_text()
    tests = set(re.findall(r"`(test_\w+\.py)`", said))
    assert len(tests) > 40 and [name for name in tests if not (ROOT / "tests" / name).exists()] == []
    money = said.partition("## Fewer requests, less money")[2].partition("\n## ")[0]
    printed = {name for row in money.splitlines() for name in re.findall(r"`([\w-]+)`", row.split(" | ")[-1])}
    assert len(printed) > 5 and printed <= CASES.keys()


@pytest.mark.ray
def test_the_python_code_of_pages_on_ray_runs(
    held: dict[str, bytes],  # noqa: F811
    tmp_path: Path,
    shared_ray: Any,
) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"sha1": list(held)}), tmp_path / "hashes.parquet")
    code = "\n".join(map(blocks, RAY_PAGES)).replace("ray.init()\n", "")
    said = run_on_ray(placed(code, tmp_path, next(iter(held))) + "\npool.shutdown()\n", tmp_path, shared_ray)
    assert "10 " in said
    assert pyarrow.parquet.read_table(tmp_path / "blobs").num_rows == 30
