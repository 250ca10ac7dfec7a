"""What the node stores of a pool say, all asked at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from bitstore._support.once import warn_once
from ray_integration._cluster import CONTROL

__all__ = ["Answers", "ask_all"]

logger = logging.getLogger("bitstore")

_ANSWER = 15.0  # seconds in which a node store has to answer


class Answers(NamedTuple):
    """The answers of node stores to some questions."""

    # By the name of the node store, in the order of the questions.
    told: dict[str, list[Any]]
    # Names of node stores that did not answer all of them.
    unanswered: list[str]


def ask_all(pool: str, handles: Mapping[str, Any], *methods: str, limit: float = _ANSWER) -> Answers:
    """Call these methods of all node stores, which take no parameters. A warning names those that do not answer.

    Parameters
    ----------
    pool
        Name of the pool, for the warning.
    handles
        The actors, by name.
    methods
        Names of methods.
    limit
        Seconds to wait for all of them together.
    """
    import ray

    calls = {
        name: [getattr(handle, method).options(concurrency_group=CONTROL).remote() for method in methods]
        for name, handle in handles.items()
    }
    every = [call for group in calls.values() for call in group]
    answered = set(ray.wait(every, num_returns=len(every), timeout=limit)[0] if every else [])
    told: dict[str, list[Any]] = {}
    for name, group in calls.items():
        with contextlib.suppress(ray.exceptions.RayError):  # gone meanwhile, and its counts with it
            if answered.issuperset(group):
                told[name] = ray.get(group, timeout=5)
    unanswered = sorted(calls.keys() - told.keys())
    if unanswered:
        names = ", ".join(unanswered)
        warn_once(logger, ("no counts", names), "pool %s: no counts from %s", pool, names)
    return Answers(told, unanswered)
