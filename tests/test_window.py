"""The window of a batch: how far it reads ahead, what it takes for the same key, and what it does with odd errors."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from bitstore import LookupFailed, NotFoundInStore, Store, StoreNotAvailable
from bitstore._lookup.task import Task
from bitstore._lookup.timers import Timers
from bitstore._support import clock
from tests.stores import Shelf, blobs
from tests.waiting import wait_until

MEGABYTE = 1024 * 1024


def megabytes(count: int) -> dict[str, bytes]:
    """Blobs of 1 MiB each, by a name."""
    return {f"key {number}": number.to_bytes(4, "big") * (MEGABYTE // 4) for number in range(count)}


class Counted:
    """An iterable of inputs that counts how many have been read."""

    def __init__(self, inputs: Iterable[Any]) -> None:
        self._inputs = inputs
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for each in self._inputs:
            self.read += 1
            yield each


class AnyKey(Store):
    """A store that takes every key and answers with its `repr`; the lookups of the first round wait at a gate."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.asked: list[Any] = []

    def is_valid(self, uri: Any) -> bool:
        return True

    def get(self, uri: Any) -> bytes:
        self.asked.append(uri)
        self.shelf.entered.release()
        assert self.shelf.gate is None or self.shelf.gate.wait(60)
        return repr(uri).encode()


class Incomparable:
    """A key with a hash, whose comparison fails."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")

    def __repr__(self) -> str:
        return "Incomparable()"


@pytest.mark.parametrize("ordered", [True, False])
def test_each_answer_names_position_and_text_of_its_input(ordered: bool) -> None:
    held = blobs(30)
    wanted: list[Any] = [*held, "lost", *held, "not-for-shelves", *list(held)[::-1]]
    answers = list(Shelf(held).get_many(wanted, ordered=ordered, in_flight=7))
    if ordered:
        assert [blob.index for blob in answers] == list(range(len(wanted)))
    assert sorted((blob.index, blob.uri) for blob in answers) == list(enumerate(wanted))
    assert all(blob.data == held.get(blob.uri) for blob in answers)
    assert [type(blob.error) for blob in sorted(answers, key=lambda blob: blob.index) if blob.uri not in held] == [
        NotFoundInStore,
        type(next(iter(Shelf().get_many(["not-for-shelves"]))).error),
    ]


@pytest.mark.parametrize("ordered", [True, False])
def test_the_window_stays_full_and_never_exceeds_in_flight(ordered: bool) -> None:
    held = blobs(400, size=20)
    shelf = Shelf(held)
    inputs = Counted(held)
    answers = shelf.get_many(inputs, ordered=ordered, in_flight=80)
    for taken, _ in enumerate(answers, 1):
        assert inputs.read - taken < 80
        if taken >= 80:  # nothing is refilled for less than an eighth of the window
            assert inputs.read >= min(400, taken + 80 - 2 * 10)
        # All answers are here before the next one is taken: to read on must not wait for that.
        wait_until(lambda: len(shelf.asked) == inputs.read)
    assert inputs.read == 400


@pytest.mark.parametrize("ordered", [True, False])
def test_blobs_held_are_bounded_by_their_bytes_and_the_window_does_not_shrink(ordered: bool) -> None:
    held = megabytes(60)
    inputs = Counted([*held, *held])  # the second time they are other lookups, or inputs of the same ones
    ahead = []
    for taken, _ in enumerate(Shelf(held).get_many(inputs, ordered=ordered, max_bytes=10 * MEGABYTE, in_flight=100), 1):
        ahead.append(inputs.read - taken)
    assert max(ahead) <= 16  # before the size of any blob is known
    assert max(ahead[20:]) <= 10
    assert max(ahead[60:100]) >= 8


@pytest.mark.parametrize("ordered", [True, False])
def test_bytes_of_a_blob_for_several_inputs_count_once(ordered: bool) -> None:
    held = megabytes(40)
    inputs = Counted([digest for digest in held for _ in range(4)])
    ahead = []
    for taken, _ in enumerate(Shelf(held).get_many(inputs, ordered=ordered, max_bytes=8 * MEGABYTE, in_flight=100), 1):
        ahead.append(inputs.read - taken)
    assert 6 <= max(ahead[40:140]) <= 8 * 4 + 4


@pytest.mark.parametrize(
    ("keys", "lookups"),
    [
        pytest.param([("a", 1), ("a", 1), ("a", 2)], 2, id="equal keys are one lookup"),
        pytest.param([["a"], ["a"]], 2, id="keys without a hash"),
        pytest.param([Incomparable(), Incomparable()], 2, id="keys that do not compare"),
        pytest.param([1, True, "1"], 2, id="numbers that are equal, and a text"),
    ],
)
def test_keys_that_are_no_text_are_looked_up_once_if_they_are_equal(keys: list[Any], lookups: int) -> None:
    store = AnyKey()
    store.shelf.gate = threading.Event()
    inputs = Counted(keys)

    def release() -> None:
        wait_until(lambda: inputs.read == len(keys) and len(store.asked) >= lookups)
        store.shelf.gate.set()

    releasing = threading.Thread(target=release)
    releasing.start()
    answers = list(store.get_many(inputs, ordered=True))
    releasing.join()
    assert [id(blob.uri) for blob in answers] == list(map(id, keys)) and all(blob.found for blob in answers)
    assert len(store.asked) == lookups


def test_a_store_of_a_user_is_asked_again_after_the_pause_that_its_error_names() -> None:
    class Flaky(Shelf):
        def get(self, uri: str) -> bytes:
            if not self.asked:
                self.asked.append(uri)
                raise LookupFailed(self, uri, [("inner", StoreNotAvailable("inner", "busy"))], retry_in=0.01)
            return super().get(uri)

    store = Flaky({"key": b"data"})
    [blob] = store.get_many(["key"])
    assert blob.data == b"data" and store.asked == ["key", "key"]


def test_an_exit_raised_in_a_store_is_a_failure_of_its_blob_alone() -> None:
    class Leaves(Shelf):
        def get(self, uri: str) -> bytes:
            if uri == "bad":
                raise SystemExit("over")
            return super().get(uri)

    store = Leaves({"good": b"data"})
    bad, good = store.get_many(["bad", "good"], ordered=True)
    assert good.data == b"data"
    assert isinstance(bad.error, StoreNotAvailable)
    assert "Leaves" in str(bad.error) and "SystemExit('over')" in str(bad.error)


def test_a_lookup_out_of_time_names_the_store_and_the_limit() -> None:
    shelf = Shelf({"key": b"data"}, gated=True)
    try:
        [blob] = shelf.get_many(["key"], timeout=0.05)
    finally:
        shelf.gate.set()
    assert isinstance(blob.error, StoreNotAvailable)
    assert "Shelf" in str(blob.error) and "no answer within 0.05 s" in str(blob.error)


@pytest.mark.parametrize("taken", [1, 20])
def test_a_batch_that_ends_lets_go_of_the_inputs_of_its_caller(taken: int) -> None:
    class Inputs:
        def __iter__(self) -> Inputs:
            return self

        def __next__(self) -> str:
            return next(names)

    held = blobs(20)
    names = iter(held)
    inputs = Inputs()
    gone = weakref.ref(inputs)
    answers: Any = Shelf(held).get_many(inputs, in_flight=5)
    for _ in range(taken):
        next(answers)
    window = answers.gi_frame.f_locals["window"]  # as the last lookup refers to it, in a thread that has ended it
    answers.close()
    del inputs, answers
    gc.collect()
    assert window is not None and gone() is None


def test_each_lookup_has_its_time_from_its_own_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though those that are submitted together have one timer."""
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    over: list[float | None] = []
    timers = Timers()
    tasks = [Task(iter(()), lambda ended: None) for _ in range(4)]  # type: ignore[arg-type]
    for number, task in enumerate(tasks):
        task.until = 10.0 + number
    timers.at_limits(lambda task: over.append(task.until), tasks)
    del tasks[1:3], task, number
    for now[0], expected in ((9.0, []), (10.5, [10.0]), (11.5, [10.0]), (20.0, [10.0, 13.0])):
        timers.run_due()
        assert over == expected
    assert timers.pause(60.0) == 60.0


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("waits", ["batch", "await"])
def test_blobs_that_were_taken_are_let_go_of_while_another_lookup_goes_on(waits: str, timeout: float | None) -> None:
    """By the transfer thread, which sleeps until that one has an answer, and by the time limits of those that ended."""
    hanging = Shelf({"key": b"data"}, gated=True)
    other = threading.Thread(target=lambda: list(hanging.get_many(["key"])))
    other.start()
    try:
        assert hanging.entered.acquire(timeout=60)
        store = Shelf(megabytes(3))
        found: list[bytes] = []
        if waits == "batch":
            found += [blob.data or b"" for blob in store.get_many(list(store.held), timeout=timeout)]
        else:

            async def taken(shelf: Shelf) -> list[bytes]:
                return [await shelf.aget(key, timeout=timeout) for key in shelf.held]

            found += asyncio.run(taken(store))
        store.held.clear()
        gone = weakref.ref(store)
        del store

        def let_go() -> bool:
            gc.collect()
            # The references that count are the list, the argument of `getrefcount` and the variable of this loop.
            return gone() is None and [sys.getrefcount(data) for data in found] == [3, 3, 3]

        wait_until(let_go)  # a worker lets go of a call a moment after it has delivered its result
    finally:
        hanging.gate.set()
        other.join()
