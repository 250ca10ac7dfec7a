"""What composites of several processes tell each other of the sources that they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitstore._tiers.composite import Composite

__all__ = ["hear", "learned_of"]


def learned_of(store: Any) -> dict[str, Any] | None:
    """What this process has learned of the sources of a composite, by cohort; None: it learns no order."""
    turns = store._turns(store._live()) if isinstance(store, Composite) else None
    return None if turns is None else turns.learned.export()


def hear(store: Any, told: Sequence[dict[str, Any]]) -> None:
    """Let a composite take what others have learned (`learned_of`), in place of what they had told before.

    Raises ValueError where it is no such.
    """
    if isinstance(store, Composite) and (turns := store._turns(store._live())) is not None:
        turns.learned.hear(told, "cluster")
