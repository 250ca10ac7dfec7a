"""Python's garbage collector in processes that do nothing but fetch."""

from __future__ import annotations

import gc
import sys

__all__ = ["Warmth"]


class Warmth:
    """Spares the garbage collector of an actor what has been imported there.

    Each full collection looks at every object of the process, half a million of them with Ray Data: a fifth of an
    actor's CPU. What was made before its second batch stays for its whole life anyway; most of it is there before the
    first, which has the start of a job to wait for.
    """

    def __init__(self) -> None:
        self._calls = 0

    def reached(self) -> None:
        """A batch begins. Outside of Ray's actors nothing happens: the process is somebody else's."""
        self._calls += 1
        if self._calls <= 2 and _is_actor():
            gc.freeze()


def _is_actor() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
