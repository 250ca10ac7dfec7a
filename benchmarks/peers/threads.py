"""Threads that take names from one queue until it is empty: the fastest way to use a blocking client."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

__all__ = ["looping"]


def looping(get: Callable[[str], int], names: Iterable[str], threads: int) -> dict[str, int]:
    """Call `get`, which returns a number of bytes, for each name. Raises what a `get` has raised."""
    queue = deque(names)
    came: list[tuple[int, int]] = []
    errors: list[BaseException] = []

    def loop() -> None:
        blobs = size = 0
        try:
            while not errors:
                try:
                    name = queue.popleft()
                except IndexError:
                    break
                size += get(name)
                blobs += 1
        except BaseException as error:  # raised below, in the thread that waits for these
            errors.append(error)
        came.append((blobs, size))

    running = [threading.Thread(target=loop, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
    return {"blobs": sum(blobs for blobs, _ in came), "bytes": sum(size for _, size in came)}
