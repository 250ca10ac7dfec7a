"""A thousand nodes and what goes wrong: a bucket that throttles, disks that are slow, nodes that are replaced.

`python -m benchmarks.strain` runs the real routing (rendezvous hashing, the time until a process looks at the list of
nodes again) and the real pacing (scheduler, pace, retries, breaker, rates) against a modelled bucket, modelled disks
and a modelled clock. It writes figures to `docs/images/strain.json`; `--table` prints the tables of `docs/cluster.md`
from that file. The figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.envs import HERE
from benchmarks.strained import disks, replaced, throttled

__all__ = ["FIGURES", "strain", "tables"]

FIGURES = HERE.parent / "docs" / "images" / "strain.json"

NODES = 1000
BUCKET = 5_500.0  # GETs a second that S3 promises for one partition of the keys
# What bounds the requests, by what the page calls it: the kind, the rate of the whole cluster, the seconds simulated.
LIMITS: dict[str, tuple[str, float, float]] = {
    "nothing": ("none", 1.0, 20.0),
    "`RateLimit` of a thousandth on each node": ("process", BUCKET, 10.0),
    "`ClusterRate` of as much": ("cluster", BUCKET, 10.0),
    "`ClusterRate` of twice as much": ("cluster", 2 * BUCKET, 10.0),
}
BATCH = 4096  # digests
SLOW = {"none": 0, "one": 1, "a tenth": NODES // 10}
REPLACED = (0.0, 0.1, 1 / 3)
_HEADS = {
    "throttled": ["what bounds the requests", "blobs/s, by what the bucket permits", "requests a blob", "rows failed",
                  "the slowest node, by the mean"],
    "disks": ["nodes whose disks read at a tenth of the rate", "rows/s, `local`", "rows/s, `owner`"],
    "replaced": ["nodes that die in an hour, each replaced", "fetched upstream, by distinct digest",
                 "… if owners asked no other disks", "requests to a node that was gone"],
}  # fmt: skip


def strain() -> dict[str, Any]:
    """All of it; takes some minutes."""
    return {
        "throttled": [
            {"limit": name, **throttled.run(NODES, kind, rate, bucket=BUCKET, seconds=seconds)}
            for name, (kind, rate, seconds) in LIMITS.items()
        ],
        "disks": [
            {"slow": name, **{way: disks.run(NODES, slow, way, BATCH) for way in ("local", "owner")}}
            for name, slow in SLOW.items()
        ],
        "replaced": [replaced.run(NODES, share, 3600.0, 100_000) for share in REPLACED],
    }


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """The lines of the page's tables."""
    cells: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "throttled": lambda row: [
            row["limit"],
            *(f"{row['served']:.0%}", f"{row['requests']:.1f}", f"{row['failed']:.0%}", f"{row['slowest']:.2f}"),
        ],
        "disks": lambda row: [row["slow"], f"{row['local']:.0%}", f"{row['owner']:.0%}"],
        "replaced": lambda row: [
            f"{row['replaced']:,} of {row['nodes']:,}",
            *(f"{row['upstream']:.3f}", f"{row['alone']:.3f}", f"{row['gone']:.2%}"),
        ],
    }
    for number, (name, head) in enumerate(_HEADS.items()):
        if number:
            yield ""
        yield f"| {' | '.join(head)} |"
        yield f"| --- |{' ---: |' * (len(head) - 1)}"
        for row in figures[name]:
            yield f"| {' | '.join(cells[name](row))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the tables of the last run, and simulate nothing")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the file of figures")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # of breakers that open
    if not options.table:
        options.figures.write_text(json.dumps(strain(), indent=1) + "\n")
    print("\n".join(tables(json.loads(options.figures.read_text()))))


if __name__ == "__main__":
    main()
