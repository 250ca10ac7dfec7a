"""Many processes on one cache folder, watched from outside: killed at random, or left to run. Run as a module.

It forks its workers from one process without threads, so that a new one is there within a few milliseconds, and
prints its figures as JSON. It ends with an AssertionError as soon as a promise is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import mmap
import os
import pickle
import random
import re
import signal
import struct
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bitstore import NotFoundInStore, Sha1APISource, Sha1Composite
from bitstore._caches.disk import DiskCache
from bitstore._lookup.loops import loop
from tests.disk_workers import blob, final_files, is_whole, total_bytes
from tests.waiting import lookup_threads, wait_until

BOUND = 400_000
LARGEST = 30_000
LEDGER = 2 * (1 << 20) + 4096  # two generations, and the first record of a third
MARK = b"damaged on purpose"  # what a worker writes over the beginning of a file
EVERYBODY = "a key of all"
_KEPT = re.compile(r"/(sha1|keys|tmp|ledger(/[0-9]{16})?)( \(deleted\))?$")  # what a cache keeps open


class Board:
    """A few numbers of each worker, in memory that the forked processes share."""

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, 8 * (slots + 1))

    def count(self, slot: int) -> None:
        """One more operation of a worker. (No other worker writes to its slot.)"""
        struct.pack_into("<q", self._memory, 8 * slot, self.operations(slot) + 1)

    def operations(self, slot: int) -> int:
        """How many operations the workers of this slot have done."""
        return int(struct.unpack_from("<q", self._memory, 8 * slot)[0])

    def stop(self) -> None:
        """Tell all workers to end."""
        struct.pack_into("<q", self._memory, len(self._memory) - 8, 1)

    @property
    def stopped(self) -> bool:
        """Whether they have been told so."""
        return bool(struct.unpack_from("<q", self._memory, len(self._memory) - 8)[0])


class Worker:
    """One forked process that works until it is killed or told to stop."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(1)

    def stop(self) -> None:
        """Hold it where it is; returns when it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"a worker ended by itself: {status}"

    def go_on(self) -> None:
        """Let it run again."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert status == -signal.SIGKILL, f"a worker ended by itself: {status}"

    def join(self) -> None:
        """Wait until it has ended by itself."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert status == 0, f"a worker failed: {status}"

    def end(self) -> None:
        """Kill it, if it is still there: no worker must outlive a test that fails."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


class Watch:
    """Looks at the folder while no worker moves, and remembers the most that it has seen."""

    def __init__(self, folder: Path, max_size: int, workers: list[Worker]) -> None:
        self._folder = folder
        self._max_size = max_size
        self._workers = workers
        self.looks = self.most = self.drafts = self.besides = 0

    def look(self) -> None:
        """Hold all workers, and add up the files."""
        for worker in self._workers:
            worker.stop()
        try:
            held = total_bytes(self._folder)
            drafts = [found for found in map(_stat, _names(self._folder / "tmp")) if found and found.st_nlink == 1]
            aside = sum(found.st_size for found in map(_stat, _names(self._folder / "quarantine")) if found)
            ledger = sum(found.st_size for found in map(_stat, _names(self._folder / "ledger")) if found)
        finally:
            for worker in self._workers:
                worker.go_on()
        self.looks += 1
        self.most = max(self.most, held)
        self.drafts = max(self.drafts, len(drafts))
        self.besides = max(self.besides, sum(found.st_size for found in drafts) + aside)
        assert held <= self._max_size, f"{held} bytes of {self._max_size}"
        # What is put aside has its bound a moment later: each process may just be about to keep it.
        assert aside <= self._max_size // 64 + len(self._workers) * LARGEST, f"{aside} bytes in quarantine"
        assert ledger <= LEDGER, f"a ledger of {ledger} bytes"


def _names(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return path.lstat()
    return None


def check_at_rest(folder: Path, max_size: int) -> int:
    """Open the folder again, when no worker is left: all that must be true of it. Returns how many files it has."""
    files = final_files(folder)
    for path in files:
        assert is_whole(path) or path.read_bytes().startswith(MARK), f"{path} is not whole"
    held = total_bytes(folder)
    assert held <= max_size, f"{held} bytes of {max_size}"
    cache = DiskCache(folder, max_size, algorithm="sha1")
    known = cache.stats()["bytes"]
    assert known is None or known >= held, f"the ledger says {known} of {held} bytes"
    key, data = blob(-1, 1000)
    cache.put(key, data)
    assert cache.get(key) == data
    assert not _names(folder / "tmp"), "drafts of the dead are left"
    assert all(path.name.isdecimal() for path in _names(folder / "ledger")), "ledger files of the dead are left"
    assert cache.prune() == total_bytes(folder) <= max_size, "a count finds exactly what is there"
    assert {path.name for path in folder.iterdir()} <= {"sha1", "keys", "tmp", "ledger", "quarantine"}
    return len(files)


# -- killed at random


def churn(folder: Path, blobs: list[tuple[str, bytes]], seed: int, done: Callable[[], None]) -> None:
    """Use the cache in every way, for ever."""
    dice = random.Random(seed)
    cache = DiskCache(folder, BOUND, algorithm="sha1")
    values = {data for _, data in blobs}
    while True:
        key, data = dice.choice(blobs)
        action = dice.random()
        if action < 0.45:
            cache.put(key, data)
        elif action < 0.5:
            cache.put(EVERYBODY, data)
        elif action < 0.52:
            cache.delete(key)
        elif action < 0.54:
            with contextlib.suppress(OSError), open(folder / "sha1" / key[:3] / key, "r+b", buffering=0) as file:
                file.write(MARK)
            with contextlib.suppress(NotFoundInStore):
                assert cache.get(key) == data, "wrong bytes"  # put right by another worker in between
        elif action < 0.55:
            cache.prune(BOUND // 2)
        elif action < 0.555:
            cache.verify_all()
        elif action < 0.6:
            with contextlib.suppress(NotFoundInStore):
                assert cache.get(EVERYBODY) in values, "wrong bytes"
        else:
            with contextlib.suppress(NotFoundInStore):
                assert cache.get(key) == data, "wrong bytes"
        done()


def kills(folder: Path, count: int, processes: int, seed: int) -> dict[str, float]:
    """Kill `count` workers at random moments, each followed by a new one; all of them at once now and then."""
    dice = random.Random(seed)
    blobs = [blob(number, dice.randrange(len(MARK), LARGEST)) for number in range(100)]
    board = Board(processes)
    started = time.monotonic()

    def start(slot: int) -> Worker:
        born = dice.getrandbits(60)
        return Worker(lambda: churn(folder, blobs, born, lambda: board.count(slot)))

    workers = [start(slot) for slot in range(processes)]
    watch = Watch(folder, BOUND, workers)
    killed = reopened = 0
    try:
        while killed < count:
            time.sleep(dice.expovariate(1 / 0.05))  # any moment will do: that is the point
            if dice.random() < 0.3:
                watch.look()
            slots = range(processes) if dice.random() < 0.04 else [dice.randrange(processes)]
            for slot in slots:
                workers[slot].kill()
                killed += 1
            if len(slots) == processes:
                check_at_rest(folder, BOUND)
                reopened += 1
            for slot in slots:
                workers[slot] = start(slot)
        watch.look()
        for worker in workers:
            worker.kill()
    finally:
        for worker in workers:
            worker.end()
    files = check_at_rest(folder, BOUND)
    operations = sum(map(board.operations, range(processes)))
    assert operations > 10 * count, f"only {operations} operations"
    assert watch.most > BOUND // 4, "and it is made use of"
    return {
        "processes": processes,
        "kills": killed,
        "reopened": reopened + 1,
        "operations": operations,
        "wrong_bytes": 0,
        "bound": BOUND,
        "most_bytes": watch.most,
        "bytes_over_the_bound": max(0, watch.most - BOUND),
        "most_bytes_besides": watch.besides,
        "files_at_the_end": files,
        "looks": watch.looks,
        "seconds": round(time.monotonic() - started, 1),
    }


# -- left to run


class Paid(Sha1APISource):
    """A source that counts what each digest has cost this process."""

    def __init__(self, held: dict[str, bytes]) -> None:
        self.held = held
        self.calls: Counter[str] = Counter()

    def api_get(self, digest: str) -> bytes | None:
        self.calls[digest] += 1
        return self.held.get(digest)


def live(folder: Path, held: dict[str, bytes], seed: int, board: Board, slot: int, told: Path) -> None:
    """Look up, put and evict at random until told to stop; then tell what it has cost."""
    dice = random.Random(seed)
    small = DiskCache(folder / "small", BOUND, algorithm="sha1")
    paid = Paid(held)
    store = Sha1Composite()
    store.append_cache(small)
    store.append_cache(DiskCache(folder / "paid", "1GB"))  # evicts nothing: what was paid for stays
    store.append_source(paid)
    keys = list(held)

    def turn() -> None:
        nonlocal small
        key = dice.choice(keys)
        action = dice.random()
        if action < 0.5:
            assert store.get(key) == held[key], "wrong bytes"
        elif action < 0.53:
            for found in store.get_many(dice.choices(keys, k=20)):
                assert found.data == held[found.uri], "wrong bytes"
        elif action < 0.75:
            small.put(key, held[key])
        elif action < 0.98:
            with contextlib.suppress(NotFoundInStore):
                assert small.get(key) == held[key], "wrong bytes"
        elif action < 0.995:
            small.delete(key)
        elif action < 0.998:
            small = pickle.loads(pickle.dumps(small))
        elif action < 0.9995:
            small.prune(dice.randrange(BOUND))
        else:
            small.clear()

    loop()  # what it waits by stays open
    for _ in range(200):  # so that all threads and imports are there before they are counted
        turn()
    before = _open_things()
    while not board.stopped:
        turn()
        board.count(slot)
    gc.collect()
    after = _open_things()
    stats = store.stats()
    assert all(tier.failures == tier.write_failures == 0 for tier in stats.values()), stats
    told.write_text(
        json.dumps(
            {
                "descriptors": after[0] - before[0],
                "threads": after[1] - before[1],
                "calls": sum(paid.calls.values()),
                "most_calls": max(paid.calls.values(), default=0),
            }
        )
    )


def _open_things() -> tuple[int, int]:
    """Open descriptors and threads of this process, without those that caches keep and the pool for blocking calls."""
    wait_until(lambda: "bitstore-transfer" not in lookup_threads())  # it stays for a moment
    threads = threading.enumerate()
    pool = [thread for thread in threads if thread.name == "bitstore-worker"]
    assert len(pool) <= 32, f"{len(pool)} threads in the pool"
    descriptors = [_target(name) for name in os.listdir("/dev/fd")]
    kept = [target for target in descriptors if _KEPT.search(target)]
    assert len(kept) <= 15, f"at most five for each of three caches: {kept}"
    return len(descriptors) - len(kept), len(threads) - len(pool)


def _target(name: str) -> str:
    try:
        return os.readlink(f"/dev/fd/{name}")  # noqa: PTH115
    except OSError:
        return ""  # that with which we have listed them


def crowd(folder: Path, processes: int, seconds: float, seed: int) -> dict[str, float]:
    """Let the workers run for so long, and watch the bound all the time."""
    dice = random.Random(seed)
    held = dict(blob(number, dice.randrange(LARGEST)) for number in range(200))
    board = Board(processes)
    folder.mkdir(exist_ok=True)
    tales = [folder / f"told-{slot}" for slot in range(processes)]

    def start(slot: int) -> Worker:
        born = dice.getrandbits(60)
        return Worker(lambda: live(folder, held, born, board, slot, tales[slot]))

    workers = [start(slot) for slot in range(processes)]
    watch = Watch(folder / "small", BOUND, workers)
    started = time.monotonic()
    try:
        while time.monotonic() - started < seconds:
            watch.look()
            time.sleep(dice.uniform(0, 0.06))  # they must also get on with their work
        board.stop()
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            worker.end()
    took = time.monotonic() - started
    check_at_rest(folder / "small", BOUND)
    assert DiskCache(folder / "paid", "1GB").verify_all().damaged == 0
    told: list[dict[str, Any]] = [json.loads(path.read_text()) for path in tales]
    figures = {
        "processes": processes,
        "seconds": round(took, 1),
        "operations": sum(map(board.operations, range(processes))),
        "wrong_bytes": 0,
        "bound": BOUND,
        "most_bytes": watch.most,
        "bytes_over_the_bound": max(0, watch.most - BOUND),
        "most_bytes_besides": watch.besides,
        "looks": watch.looks,
        "descriptors_leaked": max(each["descriptors"] for each in told),
        "threads_leaked": max(each["threads"] for each in told),
        "digests": len(held),
        "api_calls": sum(each["calls"] for each in told),
        "most_calls_of_a_digest_in_a_process": max(each["most_calls"] for each in told),
    }
    assert watch.most > BOUND // 4, figures
    assert figures["descriptors_leaked"] <= 0 and figures["threads_leaked"] <= 0, figures
    assert figures["most_calls_of_a_digest_in_a_process"] <= 1, figures
    return figures


def main() -> None:
    """Do what the command line says, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["kills", "crowd"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("much", type=float, help="kills, or seconds")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what == "kills":
        figures = kills(given.folder, int(given.much), given.processes, given.seed)
    else:
        figures = crowd(given.folder, given.processes, given.much, given.seed)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
