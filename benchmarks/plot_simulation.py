"""Draws the simulation: `plot_simulation.py FIGURES.json FOLDER`. Runs in the environment `plot`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

_CORNERS = {"Balance": "upper left", "Movement": "lower left", "Re-fetch": "center right", "Cost": "upper left"}
_OURS, _OTHER, _IDEAL = "#0b6e4f", "#c0504d", "#9db4ab"


def main() -> None:
    """Draw."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    # Text as text, not as curves: a tenth of the size, and it can be searched.
    matplotlib.rcParams.update({"svg.hashsalt": "bitstore", "svg.fonttype": "none", "font.size": 9})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figures = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])

    def save(figure: Any, name: str) -> None:
        for axis in figure.axes:
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(frameon=False, loc=_CORNERS[axis.get_title().split()[0]])
        figure.savefig(folder / name, metadata={"Date": None})

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    rows = figures["balance"]
    counts = [row["nodes"] for row in rows]
    left.plot(counts, [row["fullest"] for row in rows], "o-", color=_OURS, label="fullest node")
    left.plot(counts, [row["emptiest"] for row in rows], "s-", color=_OURS, alpha=0.5, label="emptiest node")
    left.plot(counts, [row["expected"] for row in rows], "--", color=_IDEAL, label="fullest of a fair draw")
    left.set(xscale="log", xlabel="nodes", ylabel="digests, by the mean", title="Balance")
    rows = figures["churn"]
    counts = [row["nodes"] for row in rows]
    right.plot(counts, [row["leaves"] for row in rows], "o-", color=_OURS, label="one leaves")
    right.plot(counts, [row["joins"] for row in rows], "s--", color=_OURS, alpha=0.5, label="one joins")
    right.plot(counts, [1 / count for count in counts], ":", color="black", label="1/n")
    right.plot(counts, [row["modulo"] for row in rows], "x-", color=_OTHER, label="one leaves, with digest modulo n")
    right.set(xscale="log", yscale="log", xlabel="nodes", ylabel="share of digests that move", title="Movement")
    save(figure, "rendezvous.svg")

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    rolled = figures["rolling"]
    left.plot(rolled["step"], rolled["rendezvous"], "-", color=_OURS, label="rendezvous")
    left.plot(rolled["step"], rolled["modulo"], "-", color=_OTHER, label="digest modulo n")
    left.set(
        xlabel="nodes that left and joined, in turn",
        ylabel="share fetched again",
        yscale="log",
        title=f"Re-fetch while {rolled['nodes']} nodes are replaced",
    )
    rows = figures["cost"]
    counts = [row["nodes"] for row in rows]
    for portion, alpha in zip(rows[0]["microseconds"], (0.3, 0.5, 0.75, 1.0), strict=True):
        costs = [row["microseconds"][portion] for row in rows]
        right.plot(counts, costs, "o-", color=_OURS, alpha=alpha, label=f"{int(portion):,} together")
    right.set(xscale="log", yscale="log", xlabel="nodes", ylabel="CPU µs a digest", title="Cost of finding the owner")
    save(figure, "routing.svg")


if __name__ == "__main__":
    main()
