"""A dataset of digests through Ray Data, watched from its driver: when the first output comes, and all others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["connect", "flow", "mapped", "uris"]


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
    from then on, until all but the last actors are done; and the same at each output (`steps`: rows, seconds, CPU).
    """
    import pyarrow
    import ray.data

    texts = [prefix + name for name in names]
    tables = [
        pyarrow.table({column: pyarrow.array(texts[start : start + job["rows"]], pyarrow.string())})
        for start in range(0, len(texts), job["rows"])
    ]
    cpu = _Cpu(job["raylets"])
    started = time.perf_counter()
    dataset = add(ray.data.from_arrow(tables))
    rows = size = 0
    steps: list[tuple[int, float, float]] = []
    for bundle in dataset.iter_internal_ref_bundles():
        count = bundle.num_rows() or 0
        if count:
            rows += count
            size += bundle.size_bytes()
            steps.append((rows, time.perf_counter() - started, cpu.seconds()))
        del bundle
    # Rows that have no blob have few bytes. What the blobs have besides their bytes (digests, offsets, names) is less
    # than 256 a row.
    wanted = rows * job["size"]
    whole = wanted <= size <= wanted + 256 * rows
    # When the first output comes, the other actors have theirs nearly ready. That as much may be nearly ready at the
    # end, the last outputs do not count.
    actors = job["actors"]
    first, last = steps[0], steps[-actors if len(steps) > actors else -1]
    return {
        "blobs": rows,
        "bytes": wanted if whole or not job.get("checked", True) else size,
        "first": first[1],
        "rows_after": last[0] - first[0],
        "seconds_after": last[1] - first[1],
        "cpu_after": last[2] - first[2],
        "steps": steps,
    }


def mapped(dataset: Any, cls: type, job: dict[str, Any], *args: Any, rows: int = 4096) -> Any:
    """`dataset` through a class, in as many actors as `fetch_blobs` takes, by batches of so many rows."""
    import ray.data

    return dataset.map_batches(
        cls,
        fn_constructor_args=args,
        compute=ray.data.ActorPoolStrategy(size=job["actors"]),
        num_cpus=0.01,
        batch_size=rows,
        batch_format="pyarrow",
    )


def uris(job: dict[str, Any]) -> str:
    """What comes before a digest in a URI of the bucket."""
    return f"s3://{job['bucket']}/"


class _Cpu:
    """CPU seconds of this process and of the nodes: raylets and their workers, also those that have ended."""

    def __init__(self, raylets: list[int]) -> None:
        self._raylets = raylets
        self._ticks: dict[tuple[int, str], int] = {}  # what each process had used when it was last seen

    def seconds(self) -> float:
        """The sum by now."""
        found = dict(_processes()) if self._raylets else {}
        family = set(self._raylets)
        grown = True
        while grown:
            more = {pid for pid, (parent, _, _) in found.items() if parent in family} - family
            family |= more
            grown = bool(more)
        for pid in family & found.keys():
            _, began, ticks = found[pid]
            self._ticks[pid, began] = ticks
        own = os.times()
        return own.user + own.system + sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")


def _processes() -> Iterator[tuple[int, tuple[int, str, int]]]:
    """Of each process: its id, its parent, when it began, and the ticks of CPU that it has used."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # pid (name) state ppid ...; the name may hold anything, so what follows its last bracket counts
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            yield int(entry.name), (int(fields[1]), fields[19], int(fields[11]) + int(fields[12]))
