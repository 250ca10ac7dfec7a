"""A warming of a hundred million digests: what its process holds, and that a killed one resumes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest

from bitstore._digests.hash_list import HashList
from bitstore._warming import Outcome, Warming
from tests.soak_report import record

COUNT = int(os.environ.get("BITSTORE_SOAK_WARM_COUNT", 10**8))
REPEATED = COUNT // 10  # entries at the end of the list that its beginning has too
PORTION = 1 << 16  # lines that are written at a time
MOST = 1 << 30  # bytes that the process may take, however long the list is


def fill(digests: Iterator[str]) -> Iterator[Outcome]:
    """Answer as a store would that has everything, so that the work of the warming's own process is what is left."""
    for digest in digests:
        yield Outcome(digest, "found", "canned", 1)


def warm(folder: Path) -> None:
    """One warming in a process of its own; tell what came of it."""
    import resource

    begun, entries = time.monotonic(), HashList(str(folder / "list.txt"))
    warming = Warming(
        algorithm=entries.algorithm, target="here", store_id="canned", ledger=folder / "ledger",
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    report = warming.run(entries, fill)
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {name: getattr(report, name) for name in ("given", "distinct", "settled", "found", "complete")}
    told |= {"peak": used.ru_maxrss * 1024, "cpu": used.ru_utime + used.ru_stime, "seconds": time.monotonic() - begun}
    print(json.dumps(told), flush=True)


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.test_warm_size", str(folder)], stdout=subprocess.PIPE, text=True
    )


def peak_of(process: subprocess.Popen[str]) -> int:
    """The most memory that a process that runs has had, in bytes."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def rows_of(ledger: Path) -> int:
    return sum(pyarrow.parquet.read_metadata(part).num_rows for part in ledger.glob("part-*.parquet"))


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a killed process is read from /proc")
@pytest.mark.timeout(3 * 3600)
def test_a_warming_of_a_hundred_million_digests_takes_bounded_memory_and_resumes(tmp_path: Path) -> None:
    with (tmp_path / "list.txt").open("w") as file:
        first = ""
        for start_at in range(0, COUNT - REPEATED, PORTION):
            text = os.urandom(20 * min(PORTION, COUNT - REPEATED - start_at)).hex()
            lines = "\n".join(text[at : at + 40] for at in range(0, len(text), 40)) + "\n"
            first = first or lines
            file.write(lines)
        left = REPEATED
        while left:
            part = first[: 41 * min(left, PORTION)]
            file.write(part)
            left -= len(part) // 41
    distinct = COUNT - REPEATED
    began, process = time.monotonic(), start(tmp_path)
    killed_peak = 0
    while rows_of(tmp_path / "ledger") < distinct // 4:
        assert process.poll() is None
        killed_peak = max(killed_peak, peak_of(process))
        time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_after, known = time.monotonic() - began, rows_of(tmp_path / "ledger")
    assert not list(tmp_path.glob("ledger/.bitstore-*")) or os.name == "nt"

    told = json.loads(start(tmp_path).communicate()[0])
    assert (told["given"], told["distinct"], told["complete"]) == (COUNT, distinct, True)
    assert (told["settled"], told["found"]) == (known, distinct - known)
    assert rows_of(tmp_path / "ledger") == distinct
    assert max(killed_peak, told["peak"]) < MOST
    size = sum(path.stat().st_size for path in (tmp_path / "ledger").iterdir())
    record(
        "warm at size", entries=COUNT, distinct=distinct, killed_after_s=round(killed_after), known=known,
        peak_killed_mb=killed_peak >> 20, peak_resumed_mb=told["peak"] >> 20, resumed_s=round(told["seconds"]),
        resumed_cpu_s=round(told["cpu"]), ledger_mb=size >> 20,
    )  # fmt: skip


if __name__ == "__main__":
    warm(Path(sys.argv[1]))
