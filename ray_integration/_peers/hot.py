"""Which blobs are asked for by most nodes at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

__all__ = ["Hot"]

_LEAST = 8  # calls in a window that make a digest hot, at least; on large clusters one for every second node
_WINDOW = 60.0  # seconds after which counting begins again
_MOST = 200_000  # digests that are counted in a window


class Hot:
    """Counts the calls in which an owner is asked for a digest. For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._until = 0.0  # when the window ends, by the monotonic clock

    def among(self, digests: Sequence[str], nodes: int) -> list[int]:
        """Count a call of another node for `digests`; the positions of those that are hot on so many nodes."""
        least = max(_LEAST, nodes // 2)
        with self._lock:
            now = time.monotonic()
            if now >= self._until or len(self._calls) > _MOST:
                self._calls.clear()
                self._until = now + _WINDOW
            self._calls.update(digests)
            calls = self._calls
            return [position for position, digest in enumerate(digests) if calls[digest] > least]
