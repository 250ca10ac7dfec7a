"""The other node stores of a pool, as one of them calls them."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import Any

from ray_integration._cluster import NAMESPACE

__all__ = ["PEERS", "Mates"]

PEERS = "peers"  # concurrency group of the calls of other node stores, which wait for nothing but a disk

# Seconds for which a node store that did not answer is not asked; doubled with each further loss, up to the most.
_LEFT_ALONE = 10.0
_LEFT_ALONE_MOST = 320.0


class Mates:
    """Calls other node stores by their names, and leaves those alone that do not answer. For one thread."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._lost: dict[str, float] = {}  # the time until which a node store is left alone, by the monotonic clock
        self._strikes: Counter[str] = Counter()  # losses since the last answer

    def call(self, name: str, method: str, *args: Any, **options: Any) -> Any | None:
        """What the call will return, as an object reference; None: the node store is not there, or is left alone."""
        import ray

        if time.monotonic() < self._lost.get(name, 0.0):
            return None
        try:
            if name not in self._handles:
                self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
            return getattr(self._handles[name], method).options(concurrency_group=PEERS).remote(*args, **options)
        except (ValueError, ray.exceptions.RayError):
            self.lose(name)
            return None

    def lose(self, name: str) -> None:
        """Leave a node store alone that did not answer."""
        self._handles.pop(name, None)  # another may be made under the same name
        self._strikes[name] += 1
        left_alone = min(_LEFT_ALONE * 2 ** (self._strikes[name] - 1), _LEFT_ALONE_MOST)
        self._lost[name] = time.monotonic() + left_alone

    def heard(self, name: str) -> None:
        """A node store has answered."""
        self._strikes.pop(name, None)
        with contextlib.suppress(KeyError):
            del self._lost[name]
