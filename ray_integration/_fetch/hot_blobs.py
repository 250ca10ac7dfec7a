"""Hot blobs, as the process that needs them gets them: by its own node, which takes them from others in a tree."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from cachetools import LRUCache

from ray_integration._peers.chains import spreading
from ray_integration._pool.members import Members

__all__ = ["HotBlobs"]

_MOST = 65_536  # digests that are known to be hot


class HotBlobs:
    """What owners have said to be hot. For one thread.

    Parameters
    ----------
    members
        The node stores.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._known: LRUCache[str, bool] = LRUCache(_MOST)

    def note(self, digests: Iterable[str]) -> None:
        """These are hot."""
        for digest in digests:
            self._known[digest] = True

    def parted(self, digests: Sequence[str], positions: list[int]) -> tuple[list[int], list[int]]:
        """The positions of digests that are not known to be hot, and the others."""
        if not self._known:
            return positions, []
        hot = [position for position in positions if digests[position] in self._known]
        known = set(hot)
        return [position for position in positions if position not in known], hot

    def nearest(self, names: Collection[str]) -> str | None:
        """The node store of this node that takes hot blobs; None: there is none."""
        return next((name for name in sorted(names) if self._members.is_here(name)), None)

    def ways(self, digests: Iterable[str], nearest: str, names: Sequence[str]) -> dict[str, Any]:
        """From which node stores `nearest` takes each of the digests."""
        return {digest: spreading(digest, nearest, names) for digest in digests}
