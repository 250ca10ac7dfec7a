"""A model of a disk cache that several processes share, some of which are killed (hypothesis).

Orders go to one process after the other, or to all of them at once; a process may be killed before it answers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.stores import sha1
from tests.test_models import bounded

PROCESSES = 4
BOUND = 3000
BLOBS = {sha1(text.encode()): text for text in [*(letter * 700 for letter in "abcdef"), "g" * 2900, ""]}
PLAIN = ["key-1", "key-2", "https://host/a?b"]  # keys that are no digests: their values may change
VALUES = ["v", "w" * 900, "x" * 1500]


class Crew:
    """The processes. They outlive an example of hypothesis: starting one takes longer than a hundred orders."""

    def __init__(self) -> None:
        self.workers = [self._start() for _ in range(PROCESSES)]

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.cache_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )

    def order(self, number: int, **order: Any) -> None:
        pipe = self.workers[number].stdin
        assert pipe is not None
        pipe.write(json.dumps(order) + "\n")
        pipe.flush()

    def answer(self, number: int) -> Any:
        pipe = self.workers[number].stdout
        assert pipe is not None
        line = pipe.readline()
        assert line, f"worker {number} ended with {self.workers[number].wait()}"
        return json.loads(line)

    def kill(self, number: int) -> None:
        """Kill it, whatever it is doing, and start another in its place."""
        self._end(self.workers[number])
        self.workers[number] = self._start()

    def close(self) -> None:
        for worker in self.workers:
            self._end(worker)

    @staticmethod
    def _end(worker: subprocess.Popen[str]) -> None:
        worker.kill()
        worker.communicate()


numbers = st.integers(0, PROCESSES - 1)
pairs = st.one_of(
    st.sampled_from(sorted(BLOBS)).map(lambda digest: (digest, BLOBS[digest])),
    st.tuples(st.sampled_from(PLAIN), st.integers(0, len(VALUES) - 1).map(VALUES.__getitem__)),
)
orders = st.one_of(
    st.tuples(st.just("put"), pairs), st.tuples(st.just("get"), pairs), st.tuples(st.just("delete"), pairs)
)


class SharedCacheModel(RuleBasedStateMachine):
    """It may forget, but what any process reads was put by one of them, and the bound holds for all together."""

    crew: Crew

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="bitstore-crew-"))
        self.may_hold: dict[str, set[str]] = {}
        for number in range(PROCESSES):
            self.open(number)

    def open(self, number: int) -> None:
        self.crew.order(number, do="open", folder=str(self.home / "cache"), size=BOUND)
        assert self.crew.answer(number) is None

    def teardown(self) -> None:
        assert [path.name for path in self.home.iterdir()] in ([], ["cache"])
        shutil.rmtree(self.home)

    def send(self, number: int, do: str, key: str, data: str) -> None:
        if do == "put":
            self.may_hold.setdefault(key, set()).add(data)
        self.crew.order(number, do=do, key=key, data=data)

    def check(self, do: str, key: str, answer: Any) -> None:
        if do == "get" and answer is not None:
            assert answer in self.may_hold.get(key, set())

    @rule(number=numbers, order=orders)
    def one_after_the_other(self, number: int, order: tuple[str, tuple[str, str]]) -> None:
        do, (key, data) = order
        self.send(number, do, key, data)
        self.check(do, key, self.crew.answer(number))
        if do == "delete":
            self.may_hold.pop(key, None)

    @rule(number=numbers, other=numbers, pair=pairs)
    def what_one_puts_another_reads(self, number: int, other: int, pair: tuple[str, str]) -> None:
        key, data = pair
        for who, do in ((number, "delete"), (number, "put"), (other, "get")):
            self.send(who, do, key, data)
            answer = self.crew.answer(who)
        assert answer == data  # alone it fits, so it was kept
        self.may_hold[key] = {data}

    @rule(given=st.lists(orders, min_size=PROCESSES, max_size=PROCESSES))
    def all_at_once(self, given: list[tuple[str, tuple[str, str]]]) -> None:
        for number, (do, (key, data)) in enumerate(given):
            self.send(number, do, key, data)
        for number, (do, (key, _)) in enumerate(given):
            self.check(do, key, self.crew.answer(number))

    @rule(number=numbers, order=orders, given=st.lists(orders, max_size=PROCESSES - 1))
    def killed_among_others(
        self, number: int, order: tuple[str, tuple[str, str]], given: list[tuple[str, tuple[str, str]]]
    ) -> None:
        others = [other for other in range(PROCESSES) if other != number][: len(given)]
        for other, (do, (key, data)) in zip(others, given, strict=True):
            self.send(other, do, key, data)
        self.send(number, order[0], *order[1])
        self.crew.kill(number)
        for other, (do, (key, _)) in zip(others, given, strict=True):
            self.check(do, key, self.crew.answer(other))
        self.open(number)

    @rule(number=numbers, size=st.sampled_from([0, 800, BOUND]))
    def pruned(self, number: int, size: int) -> None:
        self.crew.order(number, do="prune", size=size)
        assert self.crew.answer(number) <= size
        assert self.bytes_on_disk() <= size

    def bytes_on_disk(self) -> int:
        folder = self.home / "cache"
        return sum(
            path.stat().st_size for top in ("sha1", "keys") for path in (folder / top).rglob("*") if path.is_file()
        )

    @invariant()
    def bound_is_kept(self) -> None:
        assert self.bytes_on_disk() <= BOUND

    @invariant()
    def files_are_whole(self) -> None:
        for path in (self.home / "cache" / "sha1").rglob("*"):
            assert not path.is_file() or path.read_text() == BLOBS[path.name]


@pytest.fixture(autouse=True, scope="module")
def crew() -> Iterator[None]:
    SharedCacheModel.crew = Crew()
    yield
    SharedCacheModel.crew.close()


TestSharedCache = SharedCacheModel.TestCase
TestSharedCache.settings = bounded(25, 25)
