"""In which order free sources are asked: as they were appended, or as was learned from what they have answered."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from bitstore._support.checks import ChecksOptions

__all__ = ["EXPLORE", "LearnedOrder", "Order", "check_hedge", "order_of"]

EXPLORE: Final = 0.05
"""Share of the lookups that ask another source first, to learn what it has."""

Cohort: TypeAlias = "str | Callable[[Any], str]"


class LearnedOrder(ChecksOptions):
    """The order of free sources, learned from what they have answered: `Sha1Composite(order=LearnedOrder())`.

    Sources that were appended one after another, with no cache and no paid source between them, are asked by their hits
    over their cost: the source with the most hits for its requests and its seconds comes first. Caches and paid sources
    stay where they are. A source that an index lets pass by costs nothing.

    Parameters
    ----------
    explore
        Share of the lookups, from 0 to 0.5, that ask another source first, in turn. What a source has that is asked
        late, and what has changed, is learned by that. 0: only what the present order shows is learned.
    cohort
        What lookups have in common that the order is learned for: a text, which may be set before each job, or a
        function that returns it for the key of a lookup. Each cohort has an order of its own; of more than 256 the
        least recently used one is forgotten.
    path
        File in which processes leave what they have learned for later ones; None: each process begins with the order
        in which the sources were appended. It is read at the first lookup and written when the process ends.
    seed
        Seed of the random numbers that choose the lookups which explore; None: any.

    Raises
    ------
    ValueError
        `explore` is no share from 0 to 0.5.
    TypeError
        `cohort` is neither a text nor a function.
    """

    def __init__(
        self,
        *,
        explore: float = EXPLORE,
        cohort: str | Callable[[Any], str] | None = None,
        path: str | os.PathLike[str] | None = None,
        seed: int | None = None,
    ) -> None:
        share: Any = explore
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 0.5:
            raise ValueError(f"explore={explore!r}: expected a share of the lookups from 0 to 0.5")
        self.explore = float(share)
        self.cohort = cohort
        self.path = None if path is None else os.fspath(path)
        self.seed = seed

    @property
    def cohort(self) -> str | Callable[[Any], str] | None:
        """What the order of the next lookups is learned for. It may be set at any time."""
        return self._cohort

    @cohort.setter
    def cohort(self, cohort: str | Callable[[Any], str] | None) -> None:
        if cohort is not None and not isinstance(cohort, str) and not callable(cohort):
            raise TypeError(f"cohort={cohort!r}: expected a text, or a function of the key that returns one")
        self._cohort = cohort

    def __repr__(self) -> str:
        return f"LearnedOrder(explore={self.explore}, cohort={self.cohort!r}, path={self.path!r})"


Order: TypeAlias = 'Literal["written", "learned"] | LearnedOrder'


def order_of(order: Any) -> LearnedOrder | None:
    """What an option `order` says; None: the order in which tiers were appended. Raises ValueError for other values."""
    if isinstance(order, LearnedOrder):
        return order
    if order == "written":
        return None
    if order == "learned":
        return LearnedOrder()
    raise ValueError(f"order={order!r}: expected 'written', 'learned' or a LearnedOrder")


def check_hedge(share: Any) -> float | None:
    """The option `hedge`; None: no lookup is hedged. Raises ValueError unless it is a share above 0 and up to 0.5."""
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 0.5:
        raise ValueError(f"hedge={share!r}: expected a share of the lookups above 0 and up to 0.5; None: no hedge")
    return float(share)
