"""The results as files: JSON with all figures, a Markdown table, and a plot."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.envs import HERE, python_of
from benchmarks.results import Result, Verdict

__all__ = ["markdown", "verdict_line", "write"]


def verdict_line(verdict: Verdict) -> str:
    """One line for one claim."""
    if verdict.measured is None:
        return f"{verdict.word}: {verdict.text}"
    return f"{verdict.word}: {verdict.text}: {_number(verdict.measured)} (target: {verdict.target})"


def markdown(results: list[Result], machine: dict[str, Any], *, rounds: int) -> str:
    """All of it to read."""
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items())
    versions = {name: version for result in results for name, version in result.versions.items() if version != "?"}
    how = (
        f"Contestants took turns in {rounds} rounds, on this one machine together with the server; the figures are "
        "medians, ratios are medians of the ratios within each round. CPU is the client's alone."
    )
    lines = [
        "# Benchmarks",
        "",
        f"Machine: {facts}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.",
        how,
    ]
    for result in results:
        lines += ["", f"## Claim {result.claim}, `{result.name}`: {result.title}", ""]
        if result.table:
            lines += [_row(result.columns), _row(["---", *["---:"] * (len(result.columns) - 1)])]
            lines += [_row(row) for row in result.table] + [""]
        lines += [f"- **{verdict.word}**{verdict_line(verdict)[len(verdict.word) :]}" for verdict in result.verdicts]
        lines += [f"- {note}" for note in result.notes]
    return "\n".join(lines) + "\n"


def write(folder: Path, results: list[Result], machine: dict[str, Any], *, rounds: int, quick: bool) -> list[Path]:
    """Write the files and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    figures, table, plot = folder / "results.json", folder / "results.md", folder / "headline.svg"
    told = [
        {**asdict(result), "verdicts": [{**asdict(each), "verdict": each.word} for each in result.verdicts]}
        for result in results
    ]
    content = {"machine": machine, "rounds": rounds, "quick": quick, "results": told}
    figures.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    table.write_text(markdown(results, machine, rounds=rounds))
    written = [figures, table]
    headline = next((result for result in results if result.name == "headline" and result.raw), None)
    if headline is not None:
        bars = [
            {
                "name": name,
                "rate": [turn["blobs"] / turn["seconds"] for turn in turns],
                "cpu": [turn["cpu"] / turn["blobs"] * 1e6 for turn in turns],
            }
            for name, turns in headline.raw.items()
        ]
        subprocess.run(
            [python_of("plot"), HERE / "plot.py", plot], input=json.dumps(bars), text=True, check=True
        )  # fmt: skip
        written.append(plot)
    return written


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
