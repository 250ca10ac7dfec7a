"""Asks other node stores for the blobs that lookups here lack, many in one call."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bitstore._support.digests import Algorithm
from bitstore._support.once import warn_once
from bitstore.errors import described
from ray_integration._peers.chains import previous_owners
from ray_integration._peers.hand_out import HandOut, Held
from ray_integration._peers.mates import Mates
from ray_integration._peers.questions import Question, Questions

__all__ = ["Asker"]

logger = logging.getLogger("bitstore")

_CALL = 1024  # digests in one call at most
_PATIENCE = 15.0  # seconds for which a call is waited for, and a lookup in progress that costs nothing
_PAID_PATIENCE = 600.0  # seconds for which a lookup in progress is waited for where it may be paid for
_SAMPLE = 256  # answers after which it is judged whether to go on asking
_SELDOM = 16  # going on is worth it where one of so many blobs is found
_QUIET, _QUIET_MOST = 10.0, 600.0  # seconds in which none is asked after that; doubled each time, up to the most


class Asker:
    """One thread that asks other node stores. All its methods may be called by any thread, and none waits.

    Parameters
    ----------
    me
        Name of this node store.
    older
        Names of the node stores that were there before it.
    questions
        What is sought.
    held
        The disks of this node.
    algorithm
        Of the digests.
    pays
        Whether lookups may cost money: then previous owners are asked in any case.
    """

    def __init__(
        self,
        me: str,
        older: Sequence[str],
        questions: Questions,
        held: Held,
        algorithm: Algorithm,
        *,
        pays: bool,
    ) -> None:
        self.older = tuple(name for name in older if name != me)
        # Names of node stores that leave.
        self.leaving: tuple[str, ...] = ()
        self._me = me
        self._questions = questions
        self._held = held
        self._algorithm = algorithm
        self._pays = pays
        self._mates = Mates()
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # What follows is for the thread alone, but for the time until which no older one is asked.
        self._quiet_until = 0.0
        self._quiet = _QUIET
        self._asked = self._found = 0
        self._new: list[Question] = []
        self._waiting: defaultdict[str, list[Question]] = defaultdict(list)  # by the node store to be asked
        self._calls: dict[str, _Call] = {}  # under way, one for each node store
        self._again: list[tuple[float, Question]] = []  # about lookups in progress elsewhere, and when

    def has_others(self) -> bool:
        """Whether there may be previous owners that have blobs."""
        return bool(self.leaving) or (bool(self.older) and (self._pays or time.monotonic() >= self._quiet_until))

    def ask(self, question: Question) -> None:
        """Ask a question, which lands some time later."""
        self._do(partial(self._new.append, question))

    def chains(self, digests: Sequence[str]) -> list[tuple[list[str], list[str]]]:
        """The previous owners of digests (see `previous_owners`)."""
        return previous_owners(digests, self._me, self.older, self.leaving)

    def _do(self, event: Callable[[], None]) -> None:
        self._events.put(event)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="bitstore-peers", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while True:
            events: list[Callable[[], None]] = []
            with contextlib.suppress(queue.Empty):
                events.append(self._events.get(timeout=self._pause()))
                while True:
                    events.append(self._events.get_nowait())
            for step in (*events, self._look_after, self._choose, self._call):
                try:
                    step()
                except Exception as error:  # what is wrong here must not keep lookups from going on upstream
                    warn_once(logger, ("peers", type(error)), "other node stores cannot be asked: %s", described(error))
                    self._give_up()

    def _pause(self) -> float | None:
        """Seconds until something is due; None: nothing is."""
        due = [call.until for call in self._calls.values()] + [at for at, _ in self._again]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _look_after(self) -> None:
        now = time.monotonic()
        for peer, call in list(self._calls.items()):
            if call.until <= now:
                self._lost(peer, call)
        due = [question for at, question in self._again if at <= now]
        self._again = [(at, question) for at, question in self._again if at > now]
        for question in due:
            self._waiting[question.asking].append(question)

    def _choose(self) -> None:
        """Find out which node stores to ask new questions."""
        unknown = [question for question in self._new if not question.way]
        for question, (chain, spare) in zip(unknown, self.chains([each.digest for each in unknown]), strict=True):
            self._questions.add(question, chain)
            question.spare = spare
        for question in self._new:
            self._next(question)
        self._new.clear()

    def _next(self, question: Question) -> None:
        peer = question.ask_next(time.monotonic())
        if peer is not None:
            self._waiting[peer].append(question)
        elif not self._questions.end(question):
            self._next(question)
        else:
            question.land()

    def _call(self) -> None:
        while ready := [peer for peer in self._waiting if peer not in self._calls]:
            for peer in ready:
                waiting = self._waiting.pop(peer)
                if waiting[_CALL:]:
                    self._waiting[peer] = waiting[_CALL:]
                self._call_one(peer, {question.digest: question for question in waiting[:_CALL]})

    def _call_one(self, peer: str, asked: dict[str, Question]) -> None:
        ways = {digest: way for digest, question in asked.items() if (way := question.onward(peer))}
        yours = [digest for digest, question in asked.items() if peer in question.yours]
        call = self._calls[peer] = _Call(asked, time.monotonic() + _PATIENCE)
        reference = self._mates.call(peer, "hand_out", list(asked), to=self._me, yours=yours, ways=ways)
        if reference is None:
            self._without_answer(call)
            del self._calls[peer]
            return
        reference.future().add_done_callback(lambda done: self._do(partial(self._told, peer, call, done)))

    # -- answers: each question stays in one of the tables until it is in another, so that `_give_up` finds it

    def _told(self, peer: str, call: _Call, done: Any) -> None:
        if self._calls.get(peer) is not call:
            return  # it was given up
        if done.exception() is not None:
            self._lost(peer, call)
            return
        self._mates.heard(peer)
        answer: HandOut = done.result()
        now = time.monotonic()
        left, busy = set(answer.left), set(answer.busy)
        for digest, question in call.asked.items():
            if digest in left:
                self._waiting[peer].append(question)
            elif digest in busy and now - question.begun < self._patience(question):
                self._again.append((now + question.pause(), question))
            else:
                self._answered(question, answer.found.get(digest), answer.elsewhere.get(digest, ()))
        del self._calls[peer]
        self._judge(len(call.asked) - len(left) - len(busy), len(answer.found))

    def _patience(self, question: Question) -> float:
        # A hot blob that does not come is asked for at its owner next, which knows what is paid for.
        return _PAID_PATIENCE if self._pays and not question.way else _PATIENCE

    def _answered(self, question: Question, data: bytes | None, elsewhere: Sequence[str]) -> None:
        if data is not None and self._algorithm.of(data) == question.digest:
            question.data = data
            if question.background:
                self._held.put(question.digest, data)
            self._questions.end(question)
            question.land()
            return
        question.wrong = question.wrong or data is not None
        if elsewhere and not question.way:
            self._questions.add(question, [name for name in elsewhere if name != self._me])
        self._next(question)

    def _judge(self, asked: int, found: int) -> None:
        """Stop asking for a while where little is found: most of what is sought is new to the cluster."""
        self._asked += asked
        self._found += found
        if self._asked < _SAMPLE:
            return
        if self._found * _SELDOM < self._asked:
            self._quiet_until = time.monotonic() + self._quiet
            self._quiet = min(2 * self._quiet, _QUIET_MOST)
        else:
            self._quiet = _QUIET
        self._asked = self._found = 0

    def _lost(self, peer: str, call: _Call) -> None:
        self._mates.lose(peer)
        self._without_answer(call)
        del self._calls[peer]

    def _without_answer(self, call: _Call) -> None:
        for question in call.asked.values():
            if not question.chain and question.spare:
                self._questions.add(question, question.spare)
                question.spare = []
            self._next(question)

    def _give_up(self) -> None:
        """Let all lookups resume without an answer."""
        calls, self._calls = self._calls, {}
        waiting, self._waiting = self._waiting, defaultdict(list)
        again, self._again = self._again, []
        new = self._new[:]
        self._new.clear()
        everyone = [
            *new,
            *(question for call in calls.values() for question in call.asked.values()),
            *(question for questions in waiting.values() for question in questions),
            *(question for _, question in again),
        ]
        for question in everyone:
            question.chain = []
            self._questions.end(question)
            if not question.landed:
                question.land()


class _Call:
    """A call of a node store that is under way."""

    __slots__ = ("asked", "until")

    def __init__(self, asked: dict[str, Question], until: float) -> None:
        # The questions that were sent, by digest.
        self.asked = asked
        # When it is given up, by the monotonic clock.
        self.until = until
