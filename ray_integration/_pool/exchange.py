"""Node stores tell each other what they have learned of sources, so that none has to learn it alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from ray_integration._cluster import CONTROL

__all__ = ["PERIOD", "exchange"]

PERIOD: Final = 10.0
"""Seconds between two exchanges of one pool."""

_ANSWER: Final = 5.0  # seconds for all node stores together; those that are busy take part the next time


def exchange(handles: Mapping[str, Any]) -> bool:
    """Tell each node store what all others have counted. False: none of them learns an order.

    Parameters
    ----------
    handles
        The actors that answer, by name.
    """
    import ray

    calls = {handle.learned.options(concurrency_group=CONTROL).remote(): name for name, handle in handles.items()}
    answered, _ = ray.wait(list(calls), num_returns=len(calls), timeout=_ANSWER) if calls else ([], [])
    told: dict[str, Any] = {}
    learns = not answered
    for call in answered:
        with contextlib.suppress(ray.exceptions.RayError):  # gone meanwhile, and its counts with it
            counts = ray.get(call, timeout=_ANSWER)
            learns = learns or counts is not None
            if counts:
                told[calls[call]] = counts
    heard = []
    for name, handle in handles.items():
        others = [counts for other, counts in told.items() if other != name]
        if others:
            heard.append(handle.hear.options(concurrency_group=CONTROL).remote(others))
    if heard:
        ray.wait(heard, num_returns=len(heard), timeout=_ANSWER)
    return learns
