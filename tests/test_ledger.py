from __future__ import annotations

import multiprocessing
import os
import random
import resource
from pathlib import Path
from typing import Any

import pytest

from bitstore._caches.ledger import Ledger
from bitstore._caches.records import COUNT, END, pack


def nothing() -> int:
    return 0


def ledger(path: Path, *, holds: int = 0, max_bytes: int = 1 << 20) -> Ledger:
    return Ledger(str(path / "ledger"), lambda: holds, max_bytes=max_bytes)


def newest(path: Path) -> Path:
    return max((path / "ledger").iterdir())


def test_all_ledgers_of_a_folder_show_one_total(tmp_path: Path) -> None:
    one, two = ledger(tmp_path), ledger(tmp_path)
    assert one.total() is None
    assert not (tmp_path / "ledger").exists(), "reading writes nothing"
    assert one.reserve(100) == 100
    assert two.reserve(30) == 130
    assert one.release(100, one.epoch) == 30
    assert two.total() == one.total() == 30
    assert newest(tmp_path).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o700


def test_a_new_ledger_begins_with_what_the_folder_holds(tmp_path: Path) -> None:
    assert ledger(tmp_path, holds=1000).reserve(1) == 1001
    assert ledger(tmp_path, holds=5).reserve(1) == 1002, "only the first one counts"


def test_a_writer_does_not_wait_for_later_writers(tmp_path: Path) -> None:
    one, two = ledger(tmp_path), ledger(tmp_path)
    one.reserve(10)
    write = os.write

    def late(fd: int, record: Any) -> int:
        written = write(fd, record)
        os.write = write
        two.reserve(500)  # lands between the record of `one` and its reading
        return written

    os.write = late
    try:
        assert one.reserve(10) == 20
    finally:
        os.write = write
    assert one.total() == 520


def test_generations_of_a_ledger_succeed_each_other_and_stay_small(tmp_path: Path) -> None:
    one, two, idle = (ledger(tmp_path, max_bytes=320) for _ in range(3))
    idle.reserve(0)
    for turn in range(1, 500):
        assert (one, two)[turn % 2].reserve(3) == 3 * turn
    assert idle.total() == 3 * 499
    assert idle.reserve(1) == 3 * 499 + 1
    files = sorted((tmp_path / "ledger").iterdir())
    assert len(files) <= 2
    assert files[-1].stat().st_size <= 320 + 64


def test_a_record_behind_the_end_of_a_generation_is_void_and_written_again(tmp_path: Path) -> None:
    one, late = ledger(tmp_path), ledger(tmp_path)
    one.reserve(10)
    late.reserve(10)
    with newest(tmp_path).open("ab") as file:  # its writer was killed before it made the next generation
        file.write(pack(END, 0, 0, 0))
    assert late.reserve(5) == 25
    assert one.reserve(5) == 30
    assert ledger(tmp_path).total() == 30
    assert len(list((tmp_path / "ledger").iterdir())) == 2


def test_a_record_that_is_cut_short_spoils_no_total(tmp_path: Path) -> None:
    one = ledger(tmp_path)
    one.reserve(10)
    size = newest(tmp_path).stat().st_size
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 7, size + 7))
            try:
                ledger(tmp_path).reserve(1000)
            except OSError:
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert newest(tmp_path).stat().st_size == size + 7
    assert one.total() == 10
    assert one.reserve(5) == 15
    assert ledger(tmp_path).reserve(5) == 20
    assert one.total() == 20


@pytest.mark.parametrize("damage", ["zeroed", "emptied", "start", "noise"])
def test_a_spoiled_ledger_file_is_replaced_by_a_count(tmp_path: Path, damage: str) -> None:
    one = ledger(tmp_path)
    for _ in range(20):
        one.reserve(10)
    path = newest(tmp_path)
    data = path.read_bytes()
    if damage == "zeroed":
        path.write_bytes(data[:100] + bytes(len(data) - 100))
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "start":
        path.write_bytes(bytes(32) + data[32:])
    else:
        path.write_bytes(data[:64] + random.Random(5).randbytes(200) + data[64:])
    fresh = ledger(tmp_path, holds=7000)
    assert fresh.total() is None
    assert fresh.reserve(1) == 7001
    assert ledger(tmp_path).reserve(1) == 7002


def test_a_ledger_deleted_between_writes_is_counted_again(tmp_path: Path) -> None:
    one, two = ledger(tmp_path, holds=300), ledger(tmp_path, holds=300)
    one.reserve(10)
    two.reserve(10)
    for path in (tmp_path / "ledger").iterdir():
        path.unlink()
    (tmp_path / "ledger").rmdir()
    assert one.reserve(10) == 310
    assert two.reserve(10) == 320, "the new file has the old one's name, and may have its inode"
    assert one.total() == 320


def test_a_ledger_deleted_during_a_write_is_counted_again(tmp_path: Path) -> None:
    one = ledger(tmp_path, holds=300)
    one.reserve(10)
    write = os.write

    def late(fd: int, record: Any) -> int:
        os.write = write
        newest(tmp_path).unlink()
        return write(fd, record)

    os.write = late
    try:
        assert one.reserve(10) == 310
    finally:
        os.write = write
    assert ledger(tmp_path).total() == 310


def test_a_count_corrects_the_total(tmp_path: Path) -> None:
    one, two = ledger(tmp_path), ledger(tmp_path)
    one.reserve(1000)
    begun = one.begin_count()
    two.reserve(50)  # while the files are looked at, which may or may not find this one
    assert one.end_count(200, begun) == 250
    assert two.total() == ledger(tmp_path).total() == 250
    begun = one.begin_count()
    assert one.end_count(700, begun, only_less=True) == 250
    assert one.end_count(700, begun) == 700


def test_a_release_that_a_count_may_include_already_is_void(tmp_path: Path) -> None:
    one, two = ledger(tmp_path), ledger(tmp_path)
    one.reserve(100)
    two.reserve(40)
    epoch = two.epoch  # two deletes its file now, and is slow to say so
    one.end_count(100, one.begin_count())
    assert two.release(40, epoch) == 100
    assert two.release(40, two.epoch) == 60


def test_a_count_that_overlaps_another_is_void(tmp_path: Path) -> None:
    one, two = ledger(tmp_path), ledger(tmp_path)
    one.reserve(1000)
    early, late = one.begin_count(), two.begin_count()
    assert one.end_count(500, early) == 500
    assert two.end_count(300, late) == 500
    with newest(tmp_path).open("ab") as file:  # a process looked just before the other had written its count
        file.write(pack(COUNT, 300, late.grown, late.epoch))
    assert one.total() == ledger(tmp_path).total() == 500


def churn(folder: str, seed: int, results: multiprocessing.Queue[int]) -> None:
    dice = random.Random(seed)
    mine = Ledger(folder, nothing, max_bytes=4096)
    held: list[int] = []
    for _ in range(1500):
        if held and dice.random() < 0.45:
            size = held.pop(dice.randrange(len(held)))
            mine.release(size, mine.epoch)
        else:
            size = dice.randrange(10**6)
            assert mine.reserve(size) >= size + sum(held)
            held.append(size)
    results.put(sum(held))


def test_processes_that_rotate_all_the_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    folder = str(tmp_path / "ledger")
    workers = [context.Process(target=churn, args=(folder, seed, results)) for seed in range(4)]
    for worker in workers:
        worker.start()
    held = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert Ledger(folder, nothing).total() == sum(held)
    assert int(newest(tmp_path).name) > 20, "it did rotate"


@pytest.mark.parametrize("stale", ["what it has read", "what it has listed"])
def test_a_generation_made_again_too_late_does_not_count(tmp_path: Path, stale: str) -> None:
    """A process about to make the next generation may do so long after: when it has been made, ended and deleted."""
    quick, slow = ledger(tmp_path, max_bytes=256), ledger(tmp_path, max_bytes=256)
    quick.reserve(0)
    if stale == "what it has read":
        assert slow.total() == 0
    epoch, count = quick.epoch, 0
    while int(newest(tmp_path).name) < 5:
        quick.reserve(1)
        count += 1
    quick.files.create(1, lambda: 0, 0, epoch)
    if stale == "what it has listed":
        look, listed = slow.files.newest, [1]
        slow.files.newest = lambda: listed.pop() if listed else look()  # type: ignore[method-assign]
    assert slow.reserve(10) == count + 10
    assert quick.total() == slow.total() == count + 10
