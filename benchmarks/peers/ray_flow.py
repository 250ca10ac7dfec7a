"""A dataset of digests through Ray Data, watched from its driver: when the first output comes, and all others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["connect", "flow", "uris"]


def connect(job: dict[str, Any]) -> None:
    """Become a driver of the cluster."""
    import logging

    import ray
    import ray.data

    ray.init(address=job["address"], log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def flow(
    names: Iterator[str], job: dict[str, Any], add: Callable[[Any], Any], *, column: str = "sha1", prefix: str = ""
) -> dict[str, Any]:
    """Run `add` over a dataset of `names`, in blocks of `job["rows"]`, and count what comes out.

    The blocks stay where they are made and are let go at once: what reads them would cost all contestants the same.
    Returned besides the counts: `first` (seconds until the first output), and rows, seconds and the cluster's CPU
    from then on; and the same at each output (`steps`: rows, seconds, CPU).
    """
    import pyarrow
    import ray.data

    texts = [prefix + name for name in names]
    tables = [
        pyarrow.table({column: pyarrow.array(texts[start : start + job["rows"]], pyarrow.string())})
        for start in range(0, len(texts), job["rows"])
    ]
    raylets = job.get("raylets", [])
    started = time.perf_counter()
    dataset = add(ray.data.from_arrow(tables))
    rows = size = 0
    steps: list[tuple[int, float, float]] = []
    for bundle in dataset.iter_internal_ref_bundles():
        count = bundle.num_rows() or 0
        if count:
            rows += count
            size += bundle.size_bytes()
            steps.append((rows, time.perf_counter() - started, _cpu(raylets)))
        del bundle
    # Rows that have no blob have few bytes. What the blobs have besides their bytes (digests, offsets, names) is less
    # than 256 a row.
    wanted = rows * job["size"]
    whole = wanted <= size <= wanted + 256 * rows
    first, last = steps[0], steps[-1]
    return {
        "blobs": rows,
        "bytes": wanted if whole or not job.get("checked", True) else size,
        "first": first[1],
        "rows_after": last[0] - first[0],
        "seconds_after": last[1] - first[1],
        "cpu_after": last[2] - first[2],
        "steps": steps,
    }


def uris(job: dict[str, Any]) -> str:
    """What comes before a digest in a URI of the bucket."""
    return f"s3://{job['bucket']}/"


def _cpu(raylets: list[int]) -> float:
    """CPU seconds of this process, and of the nodes: raylets, their workers, and their workers that have ended."""
    own = os.times()
    if not raylets:
        return own.user + own.system
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # pid (name) state ppid ...; the name may hold anything, so what follows its last bracket counts
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            pid = int(entry.name)
            parents[pid] = int(fields[1])
            used[pid] = sum(int(field) for field in fields[11:15])  # its own, and of children that it has waited for
    family = set(raylets)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    ticks = sum(used.get(pid, 0) for pid in family)
    return own.user + own.system + ticks / os.sysconf("SC_CLK_TCK")
