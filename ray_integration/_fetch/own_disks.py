"""Which node stores' disk caches a process reads by itself: those of its own node."""

from __future__ import annotations

from typing import Any

from ray_integration._cluster import CONTROL
from ray_integration._node.own_disk import OwnDisk
from ray_integration._pool.members import Members

__all__ = ["OwnDisks"]

_READ_BYTES = 16 << 20  # about as many are read before the consumer gets the first of them
_FIRST_WAIT = 1.0  # seconds that a node store may take to say which disk it has; after that it is asked by calls
_ANSWER = 5.0  # seconds that a node store may take to count what was read


class OwnDisks:
    """The disk caches of this node's node stores, as far as this process sees the same folder. For one thread.

    Parameters
    ----------
    members
        The node stores.
    store
        The store that they hold, without what this process cannot use.
    """

    def __init__(self, members: Members, store: Any) -> None:
        self._members = members
        self._store = store
        self._mine = OwnDisk.of(store)
        self._asked: dict[str, Any] = {}  # questions under way, by node store
        self._disks: dict[str, OwnDisk | None] = {}  # by node store that has said which disk it has
        self.hits = 0  # blobs read by this process
        self.share = 0.0  # hits among the lookups begun last

    def of(self, name: str) -> OwnDisk | None:
        """The disk cache of a node store that is read here; None: the node store is asked."""
        if self._mine is None or not self._members.is_here(name):
            return None
        if name not in self._disks and not self._learn(name):
            return None
        return self._disks[name]

    def bounded(self, room: int, mean: float) -> int:
        """How many of `room` lookups to begin: no more than bring some bytes from the disk, at `mean` bytes a blob."""
        expected = self.share * mean
        return room if expected * room <= _READ_BYTES else max(1, int(_READ_BYTES / expected))

    def report(self) -> None:
        """Let the node stores count what was read, so that their statistics are those of all lookups."""
        import ray

        for name, disk in self._disks.items():
            reads = None if disk is None else disk.taken()
            if reads is None or not self._members.is_known(name):
                continue
            call = self._members.handle(name).count_reads.options(concurrency_group=CONTROL).remote(reads)
            if not ray.wait([call], timeout=_ANSWER)[0]:
                self._members.lose(name)  # it hangs: do not wait for it with each batch

    def _learn(self, name: str) -> bool:
        """Whether it is known by now which disk a node store has."""
        import ray

        asked_before = name in self._asked
        if not asked_before:
            handle = self._members.handle(name)
            self._asked[name] = handle.own_disk.options(concurrency_group=CONTROL).remote()
        if not ray.wait([self._asked[name]], timeout=0 if asked_before else _FIRST_WAIT)[0]:
            return False
        try:
            place = ray.get(self._asked.pop(name))
        except ray.exceptions.RayError:
            return False
        if place is None and self._mine is not None and self._mine.place() is None:
            return False  # there is no folder yet
        disk = OwnDisk.of(self._store)
        self._disks[name] = disk if disk is not None and place is not None and disk.place() == place else None
        return True
