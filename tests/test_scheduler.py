"""The scheduler over transports that have no sockets: order, limits, declining, bars, abandoning."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import queue
import threading
import weakref
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any

import pytest

from bitstore._lookup.loop import Loop
from bitstore._lookup.retry import Retry, TransferCounts, send
from bitstore._lookup.task import Task
from bitstore._transport.bars import Bars
from bitstore._transport.budget import SocketBudget
from bitstore._transport.pace import Pace
from bitstore._transport.poller import Poller
from bitstore._transport.scheduler import Scheduler
from bitstore._transport.sockets.transport import FEW, Sockets
from bitstore._transport.transport import Declined, Ended, Exchange, Transport
from bitstore.steps import REFUSED, Profile, Request, Response, Sleep, Steps, Together, TransferError
from tests.fake_transport import OK, FakeTransport
from tests.waiting import wait_until

PROFILE = Profile()
BROKEN = TransferError(56, "reset")


def request(name: str = "/blob", profile: Profile = PROFILE) -> Request:
    return Request(profile, f"http://a.example{name}" if name.startswith("/") else name)


class Lookup:
    """Asks for one thing at a time, and notes what it gets."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.got: list[Any] = []


class World:
    """A scheduler over some transports, with a clock of its own that goes on by what the thread sleeps."""

    def __init__(self, *transports: FakeTransport, limit: int = 100) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.events: list[int] = []
        self.pace = Pace(first=limit, most=limit, clock=lambda: self.now)
        self.scheduler = Scheduler(transports, self.pace, self, clock=lambda: self.now)

    def turn(self, seconds: float = 5) -> None:
        for owner, outcome in self.scheduler.turn(seconds):
            assert owner.exchange is None
            owner.got.append(outcome)

    def wait(self, seconds: float) -> list[int]:
        self.slept.append(seconds)
        return self.events

    def ask(self, *names: str, profile: Profile = PROFILE) -> list[Lookup]:
        lookups = [Lookup() for _ in names]
        for lookup, name in zip(lookups, names, strict=True):
            self.scheduler.begin(lookup, request(name, profile))
        self.turn(0)
        return lookups


def urls(*names: str) -> list[str]:
    return [request(name).url for name in names]


# ---------------------------------------------------------------------- which transport


@pytest.mark.parametrize(
    ("first", "second", "outcome", "asked"),
    [
        (lambda: FakeTransport(answers=lambda _: OK), lambda: FakeTransport(), OK, (1, 0)),
        (lambda: FakeTransport(lambda _: False), lambda: FakeTransport(answers=lambda _: OK), OK, (1, 1)),
        (
            lambda: FakeTransport(answers=lambda _: Declined()),
            lambda: FakeTransport(answers=lambda _: OK),
            OK,
            (1, 1),
        ),
        (lambda: FakeTransport(least=101), lambda: FakeTransport(answers=lambda _: OK), OK, (0, 1)),
        (lambda: FakeTransport(least=100, answers=lambda _: OK), lambda: FakeTransport(), OK, (1, 0)),
        (lambda: FakeTransport(answers=lambda _: BROKEN), lambda: FakeTransport(), BROKEN, (1, 0)),
        (lambda: FakeTransport(lambda _: BROKEN), lambda: FakeTransport(), BROKEN, (1, 0)),
        (lambda: FakeTransport(lambda _: False), lambda: FakeTransport(lambda _: BROKEN), BROKEN, (1, 1)),
        (
            lambda: FakeTransport(answers=lambda _: Declined()),
            lambda: FakeTransport(answers=lambda _: BROKEN),
            BROKEN,
            (1, 1),
        ),
    ],
    ids=[
        "the first takes it",
        "the first declines at once",
        "the first declines later",
        "the first is for more at once",
        "the first is for as many at once",
        "it fails",
        "it is refused",
        "it is declined, then refused",
        "it is declined later, then fails",
    ],
)
def test_the_first_transport_that_takes_a_request_carries_it(
    first: Callable[[], FakeTransport], second: Callable[[], FakeTransport], outcome: Any, asked: tuple[int, int]
) -> None:
    one, two = first(), second()
    world = World(one, two)
    [lookup] = world.ask("/blob")
    world.turn(5)
    assert lookup.got == [outcome] and lookup.exchange is None and not world.scheduler.active
    assert (len(one.asked), len(two.asked)) == asked
    [again] = world.ask("/blob")  # nothing of the first exchange is left behind
    world.turn(5)
    assert again.got == [outcome] and (len(one.asked), len(two.asked)) == (2 * asked[0], 2 * asked[1])


def test_a_request_that_no_transport_takes_fails() -> None:
    world = World(FakeTransport(lambda _: False), FakeTransport(answers=lambda _: Declined()))
    [lookup] = world.ask("/blob")
    world.turn(5)
    [error] = lookup.got
    assert isinstance(error, TransferError) and error.code == REFUSED and not world.scheduler.active


def test_a_transport_that_declined_is_not_asked_for_the_exchange_again() -> None:
    first, second, third = FakeTransport(), FakeTransport(), FakeTransport(answers=lambda _: OK)
    world = World(first, second, third)
    [lookup] = world.ask("/blob")
    first.end(first.begun[0], Declined())
    world.turn(5)
    second.end(second.begun[0], Declined())
    world.turn(5)
    world.turn(5)
    assert lookup.got == [OK] and len(first.asked) == len(second.asked) == len(third.asked) == 1


# ---------------------------------------------------------------------- bars


def test_a_transport_is_barred_from_the_origin_and_profile_that_it_declined_for_a_while() -> None:
    first, second = FakeTransport(), FakeTransport()
    world = World(first, second)
    world.ask("/blob")
    first.end(first.begun[0], Declined(60))
    world.turn(5)
    world.ask("/other", "http://a.example:81/x", "https://a.example/x", "http://b.example/x")
    assert first.asked[1:] == ["http://a.example:81/x", "https://a.example/x", "http://b.example/x"]
    assert second.asked == urls("/blob", "/other")
    world.ask("/of another profile", profile=Profile())
    assert first.asked[-1].endswith("/of another profile")
    for later, barred in ((59.9, True), (60.0, False)):
        world.now = 1000.0 + later
        world.turn(5)
        world.ask("/later")
        assert (second if barred else first).asked[-1].endswith("/later")


def test_a_bar_of_a_transport_without_an_end_stays() -> None:
    first, second = FakeTransport(answers=lambda _: Declined(math.inf)), FakeTransport(answers=lambda _: OK)
    world = World(first, second)
    world.ask("/blob")
    world.turn(5)
    world.now += 1e9
    world.turn(5)
    [lookup] = world.ask("/blob")
    world.turn(5)
    assert lookup.got == [OK] and len(first.asked) == 1


def test_bars_are_bounded_and_end_with_their_profile() -> None:
    bars, profile = Bars(), Profile()
    for number in range(1000):
        bars.add(0, request(f"http://{number}.example/", profile), 5.0)
    held = [number for number in range(1000) if bars.hold(0, request(f"http://{number}.example/", profile), 1.0)]
    assert held == list(range(1000 - 256, 1000))
    assert not bars.hold(1, request("http://999.example/", profile), 1.0)
    assert not bars.hold(0, request("http://999.example/", profile), 5.0)
    del profile
    gc.collect()
    assert not bars._until


# ---------------------------------------------------------------------- how many, in which order


def test_requests_beyond_the_pace_wait_in_order() -> None:
    transport = FakeTransport()
    world = World(transport, limit=3)
    lookups = world.ask(*["/0", "/1", "/2", "/3", "/4", "/5"])
    assert transport.active == urls("/0", "/1", "/2") and world.scheduler.active == 3
    transport.end(transport.begun[1])
    world.turn(5)
    assert transport.active == urls("/0", "/2", "/3") and lookups[1].got == [OK]
    transport.end(transport.begun[0], BROKEN)
    transport.end(transport.begun[2], Declined())  # and no other transport takes it
    world.turn(5)
    world.turn(5)
    assert transport.active == urls("/3", "/4", "/5") and world.scheduler.active == 3


def test_a_free_place_goes_to_the_request_that_waited_longest() -> None:
    transport = FakeTransport()
    world = World(transport, limit=1)
    world.ask("/0", "/1")
    asked_just_then = Lookup()
    world.scheduler.abandon(transport.begun[0].owner)
    world.scheduler.begin(asked_just_then, request("/2"))
    world.turn(5)
    assert transport.active == urls("/1")


def test_a_thousand_refusals_in_a_row_do_not_recurse() -> None:
    transport = FakeTransport(lambda asked: asked.url.endswith("/0") or BROKEN)
    world = World(transport, limit=1)
    lookups = world.ask(*(f"/{number}" for number in range(5000)))
    transport.end(transport.begun[0])
    world.turn(5)
    assert [lookup.got for lookup in lookups] == [[OK], *[[BROKEN]] * 4999]


@pytest.mark.parametrize(("status", "slower"), [(200, False), (404, False), (500, False), (429, True), (503, True)])
def test_a_server_that_asks_for_less_slows_the_pace(status: int, slower: bool) -> None:
    world = World(FakeTransport(answers=lambda _: OK._replace(status=status)))
    world.ask("/blob")
    world.turn(5)
    assert (world.pace.limit < 100) == slower


def test_our_own_connections_allow_more_requests_at_once_than_libcurl() -> None:
    assert Sockets(Poller(), SocketBudget(8)).least == FEW + 1


def test_a_loop_that_is_dropped_closes_its_file_descriptors() -> None:
    driver = Loop(Pace())
    ends = driver._poller._read_end, driver._poller._write_end
    files = [os.fstat(end).st_ino for end in ends]
    del driver
    gc.collect()
    for end, file in zip(ends, files, strict=True):
        with contextlib.suppress(OSError):  # else another thread has opened something meanwhile
            assert os.fstat(end).st_ino != file


# ---------------------------------------------------------------------- several at once


def test_requests_that_begin_together_are_offered_to_the_first_transport_at_once() -> None:
    first, second = FakeTransport(lambda asked: "odd" not in asked.url, together=True), FakeTransport()
    world = World(first, second, limit=5)
    lookups = world.ask("/0", "/odd", "/1", "/2", "/3", "/4", "/5")
    assert first.groups == [urls("/0", "/odd", "/1", "/2", "/3")]
    assert first.active == urls("/0", "/1", "/2", "/3") and second.active == urls("/odd")
    assert world.scheduler.active == 5
    world.scheduler.abandon(lookups[0])
    world.scheduler.abandon(lookups[1])
    world.scheduler.abandon(lookups[5])
    assert [each.request.url for each in first.abandoned] == urls("/0") and second.active == []
    world.turn()
    assert first.active == urls("/1", "/2", "/3", "/5") and world.scheduler.active == 4
    for exchange in [*first.begun]:
        if exchange.carrier is first:
            first.end(exchange)
    world.turn()
    assert [lookup.got for lookup in lookups] == [[], [], [OK], [OK], [OK], [], [OK]] and not world.scheduler.active


@pytest.mark.parametrize("barred", [1, 2, 3])
def test_a_barred_transport_is_not_offered_several_requests_at_once(barred: int) -> None:
    first, second = FakeTransport(together=True), FakeTransport()
    world = World(first, second)
    world.ask("/blob")
    first.end(first.begun[0], Declined(60))
    world.turn()
    theirs = [f"/{number}" for number in range(barred)]
    others = [f"http://b.example/{number}" for number in range(2)]
    world.ask(*theirs, *others)
    assert first.groups == [others] and first.active == others and second.active == urls("/blob", *theirs)
    world.ask(*theirs)
    assert first.groups == [others] and second.active == urls("/blob", *theirs, *theirs)


def test_a_transport_for_more_at_once_is_not_offered_several() -> None:
    first, second = FakeTransport(together=True, least=101), FakeTransport()
    world = World(first, second)
    world.ask("/0", "/1")
    assert first.groups == [] and first.asked == [] and second.active == urls("/0", "/1")


def test_a_turn_that_breaks_down_after_answers_keeps_no_places() -> None:
    class Broken(FakeTransport):
        def turn(self, heard: Collection[int], now: float, room: int) -> Iterator[Ended]:
            yield from super().turn(heard, now, room)
            if self.begun:
                raise Defect

    transport = Broken(answers=lambda asked: OK)
    world = World(transport)
    with pytest.raises(Defect):
        world.ask("/0", "/1", "/2")
    world.scheduler.clear()
    assert world.scheduler.is_idle


# ---------------------------------------------------------------------- ahead


def test_requests_beyond_the_pace_are_taken_ahead_by_the_first_transport_alone() -> None:
    first, second = FakeTransport(lambda asked: "odd" not in asked.url, together=True, ahead=4), FakeTransport(ahead=9)
    world = World(first, second, limit=3)
    lookups = world.ask("/0", "/odd", "/1", "/2", "/3", "/4", "/5", "/6")
    assert first.active == urls("/0", "/1", "/2", "/3", "/4", "/5") and second.active == urls("/odd")
    assert first.rooms == [-4]  # so many of those that were taken have to wait
    for _ in range(4):
        for transport in (first, second):
            for exchange in [each for each in transport.begun if each.carrier is transport]:
                transport.end(exchange)
        world.turn()
    assert [lookup.got for lookup in lookups] == [[OK]] * 8 and world.scheduler.is_idle


def test_nothing_more_is_taken_ahead_past_a_request_that_was_left() -> None:
    first, second = FakeTransport(lambda asked: "odd" not in asked.url, together=True, ahead=4), FakeTransport()
    world = World(first, second, limit=3)
    world.ask("/0", "/1", "/2", "/3", "/odd", *(f"/later/{number}" for number in range(50)))
    begun = 0
    while not second.begun:  # one answer at a time, so that a place for the first in line is seldom free
        begun += 1
        assert begun <= 7  # as many as were taken
        first.end(next(each for each in first.begun if each.carrier is first))
        world.turn()
    assert second.active == urls("/odd")
    for exchange in [each for each in first.begun if each.carrier is first]:
        first.end(exchange)
    world.turn()
    assert len(first.active) == 2 + 4  # taken ahead again


def test_requests_taken_ahead_and_declined_wait_for_their_places() -> None:
    first, second = FakeTransport(together=True, ahead=32), FakeTransport()
    world = World(first, second, limit=8)
    lookups = world.ask(*(f"/{number}" for number in range(60)))
    for exchange in [*first.begun]:
        first.end(exchange, Declined(60))  # all of them, and those that come later
    most = 0
    while any(lookup.exchange is not None for lookup in lookups):
        world.turn()
        most = max(most, len(second.active))
        for exchange in [each for each in second.begun if each.carrier is second]:
            second.end(exchange)
    assert most == 8 and len(first.asked) == 8 + 32 and len(second.asked) == 60
    assert [lookup.got for lookup in lookups] == [[OK]] * 60 and world.scheduler.is_idle


def test_a_request_taken_ahead_is_abandoned_like_others() -> None:
    first = FakeTransport(together=True, ahead=2)
    world = World(first, limit=1)
    lookups = world.ask("/0", "/1", "/2")
    world.scheduler.abandon(lookups[2])
    assert [each.request.url for each in first.abandoned] == urls("/2") and world.scheduler.active == 2


def test_requests_taken_ahead_count_for_the_pace_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    first = FakeTransport(together=True, ahead=2)
    world = World(first, limit=2)
    counted: list[tuple[int, int, int]] = []
    monkeypatch.setattr(world.pace, "ended", lambda *numbers: counted.append(numbers))
    world.ask("/0", "/1", "/2", "/3")
    for end in (1, 3, 4):
        for exchange in first.begun[:end]:
            if exchange.carrier is first:
                first.end(exchange)
        world.turn()
    assert counted == [(1, 4, 1), (2, 8, 1), (1, 4, 0)]


# ---------------------------------------------------------------------- abandoning


def test_an_abandoned_exchange_ends_in_its_transport_and_makes_room() -> None:
    transport = FakeTransport()
    world = World(transport, limit=2)
    lookups = world.ask("/0", "/1", "/2")
    world.scheduler.abandon(lookups[0])
    assert [each.request.url for each in transport.abandoned] == urls("/0")
    world.scheduler.abandon(lookups[0])  # once more is nothing
    world.turn(5)
    assert transport.active == urls("/1", "/2") and lookups[0].got == [] and world.scheduler.active == 2


def test_requests_abandoned_together_do_not_start_each_other() -> None:
    transport = FakeTransport()
    world = World(transport, limit=2)
    lookups = world.ask(*(f"/{number}" for number in range(40)))
    for lookup in lookups:
        world.scheduler.abandon(lookup)
    assert world.scheduler.is_idle
    world.turn(5)
    assert len(transport.asked) == 2 and len(transport.abandoned) == 2 and not world.scheduler.active


# ---------------------------------------------------------------------- between transports, and the thread


def test_the_address_where_a_server_was_reached_is_passed_to_the_other_transports() -> None:
    first, second = FakeTransport(lambda _: False), FakeTransport()
    world = World(first, second)
    world.ask("/0", "/1", "/2")
    told, untold, broken = second.begun
    told.peer = broken.peer = ("127.0.0.7", 80)
    second.end(told)
    second.end(untold)
    second.end(broken, BROKEN)
    world.turn(5)
    assert first.learned == [(request("/0").url, "127.0.0.7", 80)] and second.learned == []


def test_the_thread_sleeps_as_transports_allow_and_passes_on_events() -> None:
    first, second = FakeTransport(), FakeTransport(patience=3)
    world = World(first, second)
    world.events = [7, 8]
    for wanted, slept in ((5, 3), (1, 1), (0, 0)):
        world.turn(wanted)
        assert world.slept[-1] == slept
    assert first.heard == second.heard == [7, 8] * 3


def test_the_budget_of_sockets_covers_all_transports() -> None:
    budget = SocketBudget(10)
    spared: list[str] = []
    first, second = budget.share(lambda: spared.append("first")), budget.share(lambda: spared.append("second"))
    assert first.most == second.most == 10
    first.taken = 4
    assert (first.most, second.most, second.claim(), spared) == (10, 6, 6, [])
    first.taken = 6
    assert second.claim() == 4 and spared == ["first"]
    assert first.claim() == 10 and spared == ["first"]


# ---------------------------------------------------------------------- a transfer thread over fake transports


def ended(loop: Loop, *tasks: Task) -> None:
    """Submit tasks and wait until all have ended."""
    over = threading.Semaphore(0)
    for task in tasks:
        task.deliver = lambda _: over.release()
    loop.submit(tasks)
    while not all(task.finished for task in tasks):
        assert over.acquire(timeout=30)


def asking(name: str) -> Steps[Response]:
    return send(request(name), Retry(first_delay=0.001), TransferCounts())


def loop_over(*transports: Transport) -> Loop:
    return Loop(Pace(), transports=lambda poller, budget: list(transports))


@pytest.mark.parametrize(
    ("outcomes", "asked"),
    [
        ([OK], 1),
        ([OK._replace(status=503), OK], 2),
        ([BROKEN, TransferError(28, "silence"), OK], 3),
        ([Declined(60), OK], 1),
    ],
)
def test_a_lookup_is_retried_over_every_transport(outcomes: list[Any], asked: int) -> None:
    left = list(outcomes)
    first = FakeTransport(answers=lambda _: left.pop(0))
    last = FakeTransport(answers=lambda _: OK)
    task = Task(asking("/blob"), print)
    ended(loop_over(first, last), task)
    assert task.result == OK and len(first.asked) == asked


def test_the_first_failure_of_several_together_ends_the_others() -> None:
    def answers(asked: Request) -> bool | TransferError:
        return TransferError(63, "too large") if asked.url.endswith("/bad") else True

    def together() -> Steps[Any]:
        return (yield Together([asking("/slow"), asking("/bad"), asking("/slow too")]))

    transport = FakeTransport(answers)
    loop = loop_over(transport)
    task = Task(together(), print)
    ended(loop, task)
    assert isinstance(task.error, TransferError) and task.error.code == 63
    assert not transport.active and not loop.scheduler.active


def test_steps_with_an_attribute_of_their_own_called_lane_are_resumed() -> None:
    class Counting(Generator[Any, Any, int]):
        lane = "left"

        def send(self, answer: Any) -> Any:
            raise StopIteration(7)

        def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
            raise error

    task = Task(Counting(), print)
    ended(loop_over(FakeTransport()), task)
    assert task.result == 7


def test_a_lookup_whose_time_is_up_ends_its_exchange() -> None:
    transport = FakeTransport()
    task = Task(asking("/slow"), print, 0.05)
    ended(loop_over(transport), task)
    assert type(task.error).__name__ == "Cancelled" and len(transport.abandoned) == 1


def test_a_request_abandoned_before_it_begins_is_not_kept() -> None:
    """What it was to send may be large, and the thread may not run again for hours."""
    profile = Profile()
    kept = weakref.ref(profile)
    abandoned = Task(send(request(profile=profile), Retry(), TransferCounts()), print)
    del profile
    both_sent = threading.Event()

    def holds() -> Steps[None]:
        assert both_sent.wait(30)
        yield Sleep(0)

    loop = loop_over(FakeTransport())
    loop.submit([Task(holds(), print)])
    loop.submit([abandoned])
    loop.cancel([abandoned], wait=False)
    del abandoned
    both_sent.set()
    wait_until(lambda: loop._thread is None)
    gc.collect()
    assert kept() is None


class Defect(Exception):
    pass


def test_a_defect_that_one_request_meets_ends_only_its_lookup() -> None:
    def takes(asked: Request) -> bool:
        if asked.url.endswith("/bad"):
            raise Defect
        return True

    loop = loop_over(FakeTransport(takes, answers=lambda _: OK))
    bad, good = Task(asking("/bad"), print), Task(asking("/good"), print)
    ended(loop, bad, good)
    assert isinstance(bad.error, Defect) and good.result == OK and not loop.scheduler.active


@pytest.mark.parametrize("barred", [True, False])
def test_requests_without_a_profile_end_only_their_lookups(barred: bool) -> None:
    def asks() -> Steps[Response]:
        no_profile: Any = None
        response: Response = yield Request(no_profile, "http://127.0.0.1:1/blob")
        return response

    def rests() -> Steps[str]:
        yield Sleep(0.1)
        return "rested"

    loop = Loop(Pace())
    if barred:
        loop.scheduler._bars.add(0, request(), math.inf)
    bad, good = [Task(asks(), print) for _ in range(3)], Task(rests(), print)
    ended(loop, good, *bad)
    assert good.result == "rested" and all(task.error is not None for task in bad)
    assert not loop.scheduler.active


def test_a_defect_of_the_thread_leaves_no_lookup_waiting() -> None:
    """Neither those under way nor one that was submitted just then."""

    class Broken(FakeTransport):
        def turn(self, heard: Collection[int], now: float, room: int) -> Iterator[Ended]:
            if self.begun and not late.finished and not self.abandoned:
                loop.submit([late])
                raise Defect
            return super().turn(heard, now, room)

    loop = loop_over(Broken(answers=lambda _: OK))
    late, *tasks = [Task(asking(name), print) for name in ("/late", "/0", "/1", "/2")]
    over = threading.Event()
    late.deliver = lambda _: over.set()
    raised: queue.SimpleQueue[Any] = queue.SimpleQueue()
    before, threading.excepthook = threading.excepthook, raised.put
    try:
        ended(loop, *tasks)
        assert raised.get(timeout=30).exc_type is Defect and over.wait(30)
    finally:
        threading.excepthook = before
    assert all(isinstance(task.error, Defect) for task in tasks) and late.result == OK and not loop.scheduler.active
