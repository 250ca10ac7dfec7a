"""A time limit holds whatever blocks: a user's store, a credential service, a disk."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore import Blob, Composite, FileRaw, Store
from bitstore._lookup.loops import loop
from bitstore._lookup.partial import Partial
from bitstore._lookup.run import run
from bitstore._lookup.workers import Workers
from bitstore.errors import LookupFailed, LookupTimedOut, StoreNotAvailable
from bitstore.steps import Call, Cancelled, Steps
from tests.stores import composed, with_tiers

DATA = b"some bytes"
KEY = hashlib.sha1(DATA).hexdigest()
SHORT = 0.05  # seconds


class Blocking(Store):
    """A user's store that does not answer before it is let go."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.asked = 0

    def is_valid(self, uri: Any) -> bool:
        return True

    def get(self, uri: Any) -> bytes:
        self.asked += 1
        self.gate.wait(60)
        return DATA


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end of the test, so that no thread outlives it by long."""
    opened = threading.Event()
    yield opened
    opened.set()


def test_a_lookup_gives_up_a_store_that_blocks(gate: threading.Event) -> None:
    store = Blocking(gate)
    with pytest.raises(LookupTimedOut):
        composed(store).get(KEY, timeout=SHORT)
    assert store.asked == 1 and not gate.is_set()


def test_a_nested_composite_and_a_download_give_up_a_store_that_blocks(gate: threading.Event, tmp_path: Path) -> None:
    inner = with_tiers(Composite(), Blocking(gate))
    with pytest.raises(LookupFailed):
        composed(inner).get(KEY, timeout=SHORT)
    with pytest.raises(StoreNotAvailable):
        composed(Blocking(gate)).download(KEY, tmp_path / "blob", timeout=SHORT)
    assert list(tmp_path.iterdir()) == [] and not gate.is_set()


def test_a_call_that_answers_in_time_gives_its_answer_or_its_error() -> None:
    def steps(function: Any) -> Steps[Any]:
        return (yield Call(function))

    def fail() -> None:
        raise KeyError("mine")

    assert run(steps(lambda: 7), timeout=60) == 7
    with pytest.raises(KeyError, match="mine"):
        run(steps(fail), timeout=60)


def test_many_calls_that_block_hold_up_no_other_call(gate: threading.Event) -> None:
    slow, chain = Blocking(gate), composed(Blocking(gate))
    for _ in range(40):  # more than a batch has threads
        with pytest.raises(LookupTimedOut):
            composed(slow).get(KEY, timeout=0.002)
    assert chain.stats() and not gate.is_set()
    gate.set()
    assert chain.get(KEY, timeout=60) == DATA


def test_a_batch_whose_calls_hang_holds_up_no_other_batch(gate: threading.Event) -> None:
    slow = composed(Blocking(gate))
    for _ in range(2):
        [blob] = slow.get_many([KEY], timeout=SHORT, patience=0)
        assert isinstance(blob.error, LookupTimedOut)
        if (driver := loop()._thread) is not None:
            driver.join(30)  # and with it the threads for calls are gone
    quick = Blocking(threading.Event())
    answers: list[Blob] = []
    quick.gate.set()
    thread = threading.Thread(target=lambda: answers.extend(composed(quick).get_many([KEY])), daemon=True)
    thread.start()
    thread.join(30)
    assert [blob.data for blob in answers] == [DATA] and not gate.is_set()


def test_hung_calls_of_a_batch_leave_threads_to_its_other_lookups(gate: threading.Event) -> None:
    """As many as there are threads hang; the lookups behind them are answered."""

    class Picky(Blocking):
        def get(self, uri: Any) -> bytes:
            return super().get(uri) if str(uri).startswith("hang") else DATA

    chain = with_tiers(Composite(), Picky(gate))
    keys = [f"hang {number}" for number in range(40)] + [f"key {number}" for number in range(40)]
    found = {blob.uri: blob for blob in chain.get_many(keys, timeout=1.0, in_flight=41, patience=0)}
    assert {key for key, blob in found.items() if blob.data == DATA} == set(keys[40:]) and not gate.is_set()


def test_a_call_that_is_given_up_frees_its_thread(gate: threading.Event) -> None:
    workers, done, begun = Workers(1), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait(60)

    job = workers.submit(hang, (), lambda *_: None)
    assert begun.wait(30)
    workers.submit(done.set, (), lambda *_: None)
    assert not done.is_set()
    workers.give_up(job)
    assert done.wait(30) and not gate.is_set()
    workers.stop()


def test_a_call_that_found_no_thread_in_time_is_not_made(gate: threading.Event) -> None:
    """It may cost money, and its answer would be lost."""
    workers, made, ended = Workers(1), threading.Event(), threading.Event()
    workers.submit(gate.wait, (60,), lambda *_: None)
    workers.give_up(workers.submit(made.set, (), lambda *_: None))
    gate.set()
    workers.submit(ended.set, (), lambda *_: None)
    assert ended.wait(30) and not made.is_set()
    workers.stop()


def test_a_file_that_is_still_written_keeps_its_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that ran out of time ends; the call that writes goes on, and must not write to another file."""
    writing, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    written: list[tuple[str, int]] = []
    pwrite = os.pwrite

    def slow(fd: int, data: Any, offset: int) -> int:
        writing.set()
        go_on.wait(60)
        written.append((str(Path(f"/proc/self/fd/{fd}").readlink()), pwrite(fd, data, offset)))
        return len(data)

    monkeypatch.setattr(os, "pwrite", slow)
    partial = Partial(tmp_path / "blob")

    def fill() -> None:
        partial.fill(DATA)
        ended.set()

    with partial.open():
        fd = partial._fd
        thread = threading.Thread(target=fill)
        thread.start()
        assert writing.wait(60)
    with open(tmp_path / "another", "wb") as other:
        assert other.fileno() != fd
        go_on.set()
        thread.join()
    assert ended.is_set() and written[0][0].startswith(str(tmp_path / ".bitstore-"))
    assert (tmp_path / "another").read_bytes() == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_file_that_is_still_read_keeps_its_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[str] = []
    file = tmp_path / "large"
    file.write_bytes(bytes(2 * 1024 * 1024))
    read = os.read

    def slow(fd: int, size: int) -> bytes:
        if threading.current_thread() is not threading.main_thread():
            reading.set()
            go_on.wait(60)
            seen.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
            ended.set()
        return read(fd, size)

    monkeypatch.setattr(os, "read", slow)
    with pytest.raises(Cancelled):
        run(FileRaw().get_steps(file.as_uri()), timeout=SHORT)
    assert reading.wait(60)
    with open(tmp_path / "another", "wb"):
        go_on.set()
        assert ended.wait(60)
    assert seen == [str(file)]
    monkeypatch.undo()
    assert run(FileRaw().get_steps(file.as_uri()), timeout=60).data == file.read_bytes()
