"""The thread that publishes the packs of a cache in the background, and the end of a process."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from typing import Protocol

from bitstore._support.once import warn_once
from bitstore.errors import described

__all__ = ["Publishes", "hold", "holds", "start"]

logger = logging.getLogger("bitstore")

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0  # seconds after a pack could not be published


class Publishes(Protocol):
    """A cache with packs to publish."""

    @property
    def label(self) -> str:
        """A short name."""

    @property
    def is_waiting(self) -> bool:
        """Whether blobs of this process are not published."""

    def publish_what_is_due(self) -> float:
        """Publish; returns the seconds until the next pack is due."""

    def finish(self) -> None:
        """Publish all, at the end of the process; never raises."""


# Caches with blobs that are not published: they live until those are.
_writing: set[Publishes] = set()
os.register_at_fork(after_in_child=_writing.clear)


@atexit.register
def _finish_all() -> None:
    for cache in list(_writing):
        cache.finish()


def holds(cache: Publishes) -> bool:
    """Whether a cache is kept. After a put it stays so: what lets it go looks afterwards whether blobs wait."""
    return cache in _writing


def hold(cache: Publishes) -> None:
    """Keep a cache while blobs of it are not published, and no longer."""
    _writing.discard(cache)
    if cache.is_waiting:  # asked after it was let go, as another thread may put a blob meanwhile
        _writing.add(cache)


def start(cache: Publishes, wake: threading.Event) -> threading.Thread:
    """Start the thread of a cache, which publishes at once what is due, and whenever `wake` is set."""
    reference = weakref.ref(cache, lambda _: wake.set())
    thread = threading.Thread(target=_publisher, args=(reference, wake), name="bitstore-packs", daemon=True)
    thread.start()
    return thread


def _publisher(of: weakref.ref[Publishes], wake: threading.Event) -> None:
    """Publish what is due, until the cache is gone."""
    pause = 0.0
    while (cache := of()) is not None:
        try:
            due = cache.publish_what_is_due()
            pause = 0.0
        except Exception as error:  # of any kind: the blobs are on the disk, and the next try may succeed
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            due = pause
            text = "%r could not publish a pack: %s; its blobs wait on this machine"
            warn_once(logger, ("publish", cache.label, type(error)), text, cache, described(error))
        hold(cache)
        del cache
        wake.wait(due)
        wake.clear()
