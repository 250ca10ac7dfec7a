"""Claim 10: a membership index is built and asked by the million, also one digest after the other."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.envs import HERE
from benchmarks.results import Result, Verdict

_PROMISED = 100_000_000  # digests
_PORTION = 1_000_000  # digests that are made, added or asked for at a time
_ALONE = 200_000  # digests that are asked for one after the other
_ABSENT = 8  # portions of absent digests that are asked for
_BYTES = 20


def run(bench: Bench) -> Result:
    """Measure."""
    count = 2_000_000 if bench.quick else _PROMISED
    result = Result("index", 10, f"Membership indexes of {count:,} SHA-1 digests; half of those asked for are absent")
    result.columns = (
        "layout",
        "built in s",
        "peak MB",
        "bytes a digest",
        "batch, million/s",
        "one by one/s",
        "a store/s",
    )
    for layout in ("sorted", "fuse"):
        folder = bench.scratch(f"index-{layout}")
        command = [sys.executable, "-m", "benchmarks.cases.index", str(folder), str(count), layout]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            result.verdicts.append(Verdict(f"{layout}: {done.stderr.strip().splitlines()[-1]}", None))
            continue
        told: dict[str, float] = json.loads(done.stdout)
        result.raw[layout] = [told]
        figures = (told["seconds"], told["peak_mb"], told["bytes"], told["batch"] / 1e6, told["alone"], told["store"])
        result.table.append((layout, *(f"{figure:,.1f}" for figure in figures)))
        result.verdicts += [
            Verdict(f"{layout}: digests built per second", count / told["seconds"], least=_PROMISED / 180),
            Verdict(f"{layout}: MB of memory at the peak of the build", told["peak_mb"], most=4000),
            Verdict(f"{layout}: lookups/s a core, in batches", told["batch"], least=2_000_000),
            Verdict(f"{layout}: lookups/s a core, one by one", told["alone"], least=200_000),
            Verdict(f"{layout}: digests that are there and are denied", told["denied"], most=0),
            Verdict(f"{layout}: of a million absent digests, so many may be there", told["false"], most=20),
            Verdict(f"{layout}: ms until it is open", told["open_ms"], most=10),
        ]
        if layout == "fuse":
            result.verdicts.append(Verdict("fuse: bits a digest", 8 * told["bytes"], most=19))
    if count < _PROMISED:
        result.notes.append(f"The promises are of {_PROMISED:,} digests; this run has {count:,}, to be quick.")
    return result


def _rate(work: Callable[[], object], count: int) -> float:
    begun = time.process_time()
    work()
    return count / (time.process_time() - begun)


def _absent() -> list[bytes]:
    drawn = os.urandom(_BYTES * _PORTION)
    return [drawn[at : at + _BYTES] for at in range(0, len(drawn), _BYTES)]


def _measured(folder: Path, count: int, layout: Any) -> dict[str, float]:
    from bitstore import FileRaw, Sha1Store
    from bitstore.index import Index, IndexBuilder

    path = folder / "x.idx"
    spent, held = 0.0, b""
    with IndexBuilder("sha1", folder=folder) as builder:
        for start in range(0, count, _PORTION):
            held = os.urandom(_BYTES * min(_PORTION, count - start))  # as uniform as digests are
            begun = time.monotonic()
            builder.add_raw(held)
            spent += time.monotonic() - begun
        begun = time.monotonic()
        builder.write(path, layout=layout, source="file:///x/{digest}")
        spent += time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    there = [held[at : at + _BYTES] for at in range(0, len(held), _BYTES)]
    asked = [*there, *(os.urandom(_BYTES) for _ in there)]
    store = Sha1Store(FileRaw(), "file:///x/", index=path)
    begun = time.perf_counter()
    Index(path).close()
    open_ms = 1000 * (time.perf_counter() - begun)
    with Index(path) as index:
        answers = index.holds_many(asked)  # also verifies what is read for the first time
        batch = _rate(lambda: index.holds_many(asked), len(asked))
        texts = [digest.hex() for digest in asked[:: max(1, len(asked) // _ALONE)]]
        alone = _rate(lambda: [text in index for text in texts], len(texts))
        through = _rate(lambda: [store.denial(text) for text in texts], len(texts))
        denied = len(there) - int(answers[: len(there)].sum())
        false = int(sum(index.holds_many(_absent()).sum() for _ in range(_ABSENT))) / (_ABSENT * _PORTION / 1e6)
    size = path.stat().st_size / count
    return {
        "seconds": spent, "peak_mb": peak, "bytes": size, "batch": batch, "alone": alone, "store": through,
        "denied": denied, "false": false, "open_ms": open_ms,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_measured(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
