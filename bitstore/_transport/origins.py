"""What transports keep for each server, and that it does not grow without a bound."""

from __future__ import annotations

from typing import TypeVar
from weakref import WeakKeyDictionary

from bitstore.steps import Profile

__all__ = ["MOST_KEYS", "Origins"]

MOST_KEYS = 256  # of one profile; the oldest is forgotten first

Key = TypeVar("Key")
Value = TypeVar("Value")


class Origins(WeakKeyDictionary[Profile, dict[Key, Value]]):
    """By profile: a value for each origin, or for each key that an origin is part of.

    `keep` adds to it. Threads may share one.
    """

    def keep(self, profile: Profile, key: Key, value: Value) -> None:
        """Set the value of a key; a profile with too many of them forgets the oldest."""
        kept = self.setdefault(profile, {})
        if key not in kept and len(kept) >= MOST_KEYS:
            kept.pop(next(iter(list(kept))), None)  # a copy: another thread may add one meanwhile
        kept[key] = value
