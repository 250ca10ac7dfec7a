"""Draws the headline: `plot.py FILE.svg`, with the bars as JSON on its input. Runs in the environment `plot`."""

from __future__ import annotations

import importlib
import json
import sys
from statistics import median
from typing import Any

_OURS, _FLOOR, _OTHERS = "#0b6e4f", "#9db4ab", "#c8c8c8"


def main() -> None:
    """Draw."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bitstore"
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    bars = sorted(json.load(sys.stdin), key=lambda bar: median(bar["rate"]))
    names = [bar["name"].replace(", verified", "\n(verified)") for bar in bars]
    colours = [
        _OURS if name.startswith("bitstore") else _FLOOR if name.startswith("bare") else _OTHERS for name in names
    ]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 0.52 * len(bars) + 1), sharey=True, layout="constrained")
    for axis, kind, title in zip(
        axes, ("rate", "cpu"), ("blobs per second (more is better)", "CPU µs per blob (less is better)"), strict=True
    ):
        middles = [median(bar[kind]) for bar in bars]
        lows = [middle - min(bar[kind]) for middle, bar in zip(middles, bars, strict=True)]
        highs = [max(bar[kind]) - middle for middle, bar in zip(middles, bars, strict=True)]
        axis.barh(names, middles, color=colours, xerr=[lows, highs], error_kw={"lw": 0.8, "ecolor": "#666666"})
        for row, (middle, high) in enumerate(zip(middles, highs, strict=True)):
            axis.annotate(f" {middle:,.0f}", (middle + high, row), va="center", fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
        axis.tick_params(labelsize=8)
    figure.suptitle("Fetching 16 KB blobs from one bucket (nginx on the same machine)", fontsize=11)
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
