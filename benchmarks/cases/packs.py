"""Packs: 4 KB blobs in objects of 64 MB against single files, written on one machine and read 30 ms away."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks import rounds
from benchmarks.bench import Bench
from benchmarks.contestant import Contestant
from benchmarks.results import Result, Verdict

__all__ = ["reads", "writes"]

_SIZE = 4096


def writes(bench: Bench) -> Result:
    """New 4 KB blobs, one process, neither waits for the disk."""
    count = 20_000 if bench.quick else 40_000
    folder = bench.scratch("packs-writes")
    # A bucket takes nothing of the disk to which blobs are written.
    bucket = Path(tempfile.mkdtemp(prefix="bitstore-bench-", dir="/dev/shm" if Path("/dev/shm").is_dir() else folder))

    def writer(name: str, kind: str, count: int) -> Contestant:
        job = {"writer": kind, "folder": str(folder), "bucket": str(bucket), "size": _SIZE}
        return Contestant(name, "packs", job, count=count, warm_up=count // 4)

    ours, files = writer("PackCache", "packs", count), writer("DiskCache, a file each", "files", count)
    floor = writer("SHA-1 and one write into a file, no cache", "floor", count)
    try:
        through = rounds.run([ours, files, floor], rounds=bench.rounds, seconds=bench.seconds)
    finally:
        shutil.rmtree(bucket)
    result = Result("packs-writes", 11, "Writes of new 4 KB blobs by one process, packs published meanwhile")
    result.add(through, ours)
    puts = [turn.told["blobs"] / turn.told["puts"] for turn in ours.turns]
    result.verdicts = [
        Verdict("writes/s, times single files", rounds.rate_ratio(ours, files), least=10),
        Verdict("blobs for each PUT", min(puts), least=100),
    ]
    most = rounds.rate_ratio(floor, files)
    result.notes.append(
        f"A loop that only hashes each blob and appends it to a file writes {most:.1f} times as many as single files: "
        "the most that a cache could do which checks its blobs, and has them in a file before it returns."
    )
    return result


def reads(bench: Bench) -> Result:
    """The same 4 KB blobs, as members of packs and as objects, from an origin that takes 30 ms for each answer."""
    result = Result("packs-reads", 11, "Reads of 4 KB blobs, 30 ms until each answer")
    if bench.origin.slow_url is None:
        result.verdicts = [Verdict("this nginx has no Lua, so it cannot answer late", None)]
        return result
    names, table = _packed(bench, 20_000 if bench.quick else 40_000)

    def reader(name: str, threads: int, packed: bool, warm_up: int) -> Contestant:
        job = {"url": bench.origin.slow_url, "bucket": "tiny", "names": str(names), "size": _SIZE, "threads": threads}
        return Contestant(name, "packs", {**job, **({"table": str(table)} if packed else {})}, warm_up=warm_up)

    pairs = []
    for what, threads, few in (("get, one thread", 1, 50), ("get, 16 threads", 16, 500), ("get_many", 0, 4000)):
        pairs.append((reader(f"packs, {what}", threads, True, 8000), reader(f"objects, {what}", threads, False, few)))
    everybody = [each for pair in pairs for each in pair]
    through = rounds.run(everybody, rounds=bench.rounds, seconds=bench.seconds)
    result.add(through, pairs[0][0])
    # A batch of single objects hides the latency; then both take a processor, and little else is left to save.
    result.verdicts = [
        Verdict(
            f"blobs/s, times {files.name}", rounds.rate_ratio(ours, files), least=1 if files is pairs[-1][1] else 20
        )
        for ours, files in pairs
    ]
    result.notes.append("Blobs are asked for in the order in which they were written; all are verified.")
    return result


def _packed(bench: Bench, count: int) -> tuple[Path, Path]:
    """Blobs as objects of a bucket, and in packs there: their names in order, and the table of the packs."""
    from bitstore import FileRaw, PackCache
    from bitstore.references import ReferenceTable, write_references

    job = bench.tiny(count)
    names = Path(job["names"])
    root = bench.origin.root / "tiny"
    cache = PackCache(
        FileRaw(), f"file://{root}/", folder=bench.scratch("packs-made"), algorithm="sha1", refresh=3600.0
    )
    for name in names.read_text().split():
        cache.put(name, (root / name).read_bytes())
    cache.flush()
    rows = (row for path in root.glob("*.bitrefs") for row in ReferenceTable(path))
    table = bench.folder / "tiny.bitrefs"
    write_references(table, rows, "sha1")
    return names, table
