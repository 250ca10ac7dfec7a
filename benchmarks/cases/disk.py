"""Claim 6: the caches of one machine, against bare system calls, diskcache, and a dict under a lock."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks import crowd, rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict

_HOT = 2000
_SIZE = 16 * 1024
_NO_LIMIT = "1TB"


def reads(bench: Bench) -> Result:
    """Warm reads of 16 KB."""
    folder = bench.scratch("reads")
    crowd.hot(folder, count=_HOT, size=_SIZE)
    job = {
        "folder": folder,
        "other_folder": bench.folder / "diskcache-reads",
        "names": _names(bench, folder),
        "size": 16 * 1024,
    }
    bare = _reader("open+read", job, "open+read", verify=False)
    bare_hash = _reader("open+read+sha1", job, "open+read", verify=True)
    fast = _reader("DiskCache, unverified", job, "ours", verify=False)
    sure = _reader("DiskCache, verified", job, "ours", verify=True)
    other = Contestant("diskcache", "disk_read", {**job, "reader": "diskcache"}, "disk")
    everybody = [fast, bare, sure, bare_hash, other]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result = Result("disk-reads", 6, "Warm reads of 16 KB files, one thread")
    result.add(through, fast)
    result.left_out(everybody)
    result.verdicts = [
        Verdict("unverified reads/s, times open+read", rounds.rate_ratio(fast, bare), least=0.6),
        Verdict("verified reads/s, times open+read+sha1", rounds.rate_ratio(sure, bare_hash), least=0.7),
    ]
    return result


def writes(bench: Bench) -> Result:
    """Writes of new 16 KB blobs by 8 processes, into caches that are in use already."""
    count = 3200 if bench.quick else 8000
    held = 16000 if bench.quick else 32000  # several in each of the 4,096 folders, of which none is new or empty

    def writer(name: str, kind: str, max_size: int | str = _NO_LIMIT) -> Contestant:
        folder = bench.scratch(f"writes-{kind}")
        crowd.fill(folder, files=held, size=_SIZE, processes=os.cpu_count() or 1)
        if kind != "create+rename":
            crowd.count(folder)
        job = {"writer": kind, "processes": 8, "folder": folder, "max_size": max_size}
        return Contestant(name, "disk_write", job, count=count, warm_up=count)

    bare, ours = writer("create+rename", "create+rename"), writer("DiskCache", "ours")
    evicting = writer("DiskCache, evicting", "ours, evicting", held * _SIZE)
    job = {"writer": "diskcache", "processes": 8, "folder": bench.folder / "writes-diskcache"}
    other = Contestant("diskcache", "disk_write", job, "disk", count=count, warm_up=count)
    everybody = [ours, bare, evicting, other]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    for each in [bare, ours, evicting, other]:
        for turn in each.turns:  # a put that found no room is no write
            turn.told["blobs"] = turn.told["kept"]
    result = Result("disk-writes", 6, "Writes of new 16 KB blobs by 8 processes at once")
    result.add(through, ours)
    result.left_out(everybody)
    result.verdicts = [
        Verdict("writes/s, times create+rename", rounds.rate_ratio(ours, bare), least=0.5),
        Verdict("writes/s while evicting, times create+rename", rounds.rate_ratio(evicting, bare), least=0.3),
        Verdict("writes/s, times diskcache", rounds.rate_ratio(ours, other), least=4)
        if other in through
        else Verdict("diskcache could not take part", None),
    ]
    return result


def crowded(bench: Bench) -> Result:
    """A cache of 2 million small files: opening it, and reading 2,000 hot ones."""
    files = 100_000 if bench.quick else 2_000_000
    result = Result("disk-crowd", 6, f"A cache that holds {files:,} small files besides 2,000 hot ones of 16 KB")
    lacking = crowd.lacking(bench.folder, files)
    if lacking:
        result.verdicts = [Verdict(lacking, None)]
        return result
    quiet, busy = bench.scratch("quiet"), bench.scratch("crowd")
    try:
        digests = crowd.hot(quiet, count=_HOT, size=_SIZE)
        crowd.copy(quiet, busy, digests)
        rounds.say(f"  writing {files:,} files")
        crowd.fill(busy, files=files, size=None, processes=os.cpu_count() or 1)
        crowd.count(busy)
        job = {"folder": busy, "names": _names(bench, quiet)}
        among = _reader("hot files among them, verified", job, "ours", verify=True)
        alone = _reader("hot files alone, verified", {**job, "folder": quiet}, "ours", verify=True)
        opening = _reader("opening and one read", job, "opening", verify=True)
        opening_to_write = _reader("opening and one write", job, "opening to write", verify=True)
        opening_to_write.warm_up, opening_to_write.count = 3, 20
        everybody = [among, alone, opening, opening_to_write]
        through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
        result.add(through, among)
        result.verdicts = [
            Verdict("ms to open it and read a blob", 1000 / opening.rate, most=50),
            Verdict("ms to open it and write a blob", 1000 / opening_to_write.rate, most=50),
            Verdict("hot reads/s, times a cache of hot files alone", rounds.rate_ratio(among, alone), least=0.9),
        ]
    finally:
        shutil.rmtree(busy, ignore_errors=True)
    return result


def memory(bench: Bench) -> Result:
    """Hits in memory."""
    folder = bench.folder / "memory.txt"
    folder.write_text("\n".join(f"{number:040x}" for number in range(_HOT)))
    ours = Contestant("MemoryCache", "memory_read", {"names": folder, "reader": "ours"})
    bare = Contestant("dict under a lock", "memory_read", {"names": folder, "reader": "dict"})
    through = rounds.run([ours, bare], rounds=bench.rounds, seconds=bench.seconds)
    result = Result("memory", 6, "Hits in memory, one thread")
    result.add(through, ours)
    result.verdicts = [Verdict("seconds per hit, times a dict under a lock", 1 / rounds.rate_ratio(ours, bare), most=4)]
    return result


def _reader(name: str, job: dict[str, Any], kind: str, *, verify: bool) -> Contestant:
    return Contestant(name, "disk_read", {**job, "reader": kind, "verify": verify})


def _names(bench: Bench, folder: Path) -> Path:
    names = bench.folder / f"{folder.name}.txt"
    names.write_text("\n".join(path.name for path in (folder / "sha1").glob("*/*")))
    return names
