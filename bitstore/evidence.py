"""How it is known that a tier lacks a blob."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

__all__ = ["Evidence"]


class Evidence(NamedTuple):
    """What the absence of one blob in one tier rests on. As a text, it says so in words.

    Attributes
    ----------
    tier
        Name of the tier. Of a composite within a composite: `"outer > inner"`.
    how
        `"asked"`: the tier was asked in this lookup, and said no. `"index"`: its index denies the blob, and so do the
        writes that were noted since. `"remembered"`: it has said no before, which still holds.
    why
        In words; empty: the tier was asked just now.
    moment
        Up to when the index covers the tier; None: it is not about an index.
    """

    tier: str
    how: Literal["asked", "index", "remembered"]
    why: str = ""
    moment: datetime | None = None

    def __str__(self) -> str:
        return self.why or "asked just now"
