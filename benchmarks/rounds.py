"""Rounds: all contestants take turns (A B C, A B C, ...), so that whatever else the machine does meets all alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from benchmarks.contestant import Contestant, Failed, Turn

__all__ = ["cpu_ratio", "paired", "rate_ratio", "run", "running"]


@contextmanager
def running(contestants: Sequence[Contestant]) -> Iterator[list[Contestant]]:
    """Start all contestants, and stop them in the end. One that cannot start is reported and left out."""
    ready = []
    try:
        for each in contestants:
            try:
                each.start()
                ready.append(each)
            except Failed as error:
                say(f"  left out: {error}")
        yield ready
    finally:
        for each in contestants:
            each.stop()


def run(contestants: Sequence[Contestant], *, rounds: int, seconds: float) -> list[Contestant]:
    """Warm all up, then let them take turns of about `seconds` each. Returns those that got through."""
    with running(contestants) as ready:
        for each in list(ready):
            try:
                _warm_up(each, seconds)
            except Failed as error:
                say(f"  left out: {error}")
                ready.remove(each)
        for number in range(rounds):
            for each in list(ready):
                try:
                    assert each.count is not None
                    each.turns.append(each.turn(each.count))
                except Failed as error:
                    say(f"  left out: {error}")
                    ready.remove(each)
            rates = ", ".join(f"{each.name} {each.turns[-1].rate:,.0f}" for each in ready)
            say(f"  round {number + 1}: {rates}")
        return ready


def _warm_up(each: Contestant, seconds: float) -> None:
    rate = each.turn(each.warm_up).rate
    if each.count is None:
        # Twice, because the first blobs pay for imports and connections.
        rate = each.turn(max(each.warm_up, int(rate * seconds / 4))).rate
        each.count = max(50, int(rate * seconds))


def paired(one: Contestant, other: Contestant, value: Callable[[Turn], float]) -> float:
    """The median, over the rounds, of `value` of one divided by that of the other in the same round."""
    pairs = zip(one.turns, other.turns, strict=False)
    return median(value(mine) / value(theirs) for mine, theirs in pairs)


def rate_ratio(one: Contestant, other: Contestant) -> float:
    """How many times as fast `one` is."""
    return paired(one, other, lambda turn: turn.rate)


def cpu_ratio(one: Contestant, other: Contestant) -> float:
    """How many times the CPU `one` takes per blob."""
    return paired(one, other, lambda turn: turn.cpu)


def say(text: str) -> None:
    """Wake the waiting thread."""
    print(text, file=sys.stderr, flush=True)
