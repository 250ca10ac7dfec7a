"""What the membership indexes of the caches have, so that it need not be asked for."""

from __future__ import annotations

import time
from typing import Any

from bitstore._tiers.composite import Composite
from bitstore._warming.parts import Target, filled
from bitstore.index import Index

__all__ = ["Indexes"]


class Indexes:
    """The indexes of all caches that a warming fills.

    An index says what was there when it was made. A cache from which blobs are deleted has less by now.

    Parameters
    ----------
    store
        The store that is warmed.
    target
        What is warmed.

    Raises
    ------
    ValueError
        A cache has no index, or one that cannot be used, is older than its `index_max_age`, or takes absent blobs for
        present (the layout `fuse`).
    """

    def __init__(self, store: Composite, target: Target) -> None:
        self._indexes: list[Index] = []
        for name, found in filled(store, target).items():
            cache: Any = found
            state = getattr(cache, "index_state", None)
            if state is None:
                raise ValueError(
                    f"the indexes of all caches would be trusted, and '{name}' has none: give it one (index=)"
                )
            if state.info is None:
                raise ValueError(f"the index of '{name}' cannot be trusted: {state.trouble}")
            if state.info.layout != "sorted":
                raise ValueError(
                    f"the index of '{name}' cannot be trusted: the layout {state.info.layout} takes 1 absent blob in "
                    "65,536 for present; build it as sorted"
                )
            age = time.time() - state.info.covers_up_to.timestamp()
            if age > cache.index_max_age:
                raise ValueError(
                    f"the index of '{name}' cannot be trusted: it covers up to {age:,.0f} seconds ago, and "
                    f"index_max_age is {cache.index_max_age:,.0f}"
                )
            self._indexes.append(Index(cache.index))

    def lacked(self, digests: list[str]) -> list[str]:
        """Those of the digests that some index lacks. Raises `DamagedIndex`."""
        if not digests:
            return []
        held: Any = True
        for index in self._indexes:
            held = held & index.holds_many(digests)
        return [digest for digest, there in zip(digests, held.tolist(), strict=True) if not there]
