"""Which process this is.

A pid does not tell: containers repeat pids, and so do long chains of forks. So each process holds an
object of its own, and whatever must not outlive a fork (locks that a thread of the parent may hold,
what it has counted or read) is kept under that object.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KeepsPerProcess", "PerProcess", "Process", "current", "hold_after_fork"]


class Process:
    """The identity of one process, from its start (or its fork) to its end."""

    __slots__ = ("token",)

    def __init__(self) -> None:
        self.token = os.urandom(6).hex()  # part of file names, where pids would be ambiguous


_current = Process()


def current() -> Process:
    """The identity of the calling process."""
    return _current


_holders: list[Callable[[], object]] = []
_held: list[object] = []  # grows with each fork in the line of this process's ancestors


def hold_after_fork(parents: Callable[[], object]) -> None:
    """Hold what `parents()` returns in every forked child until the child ends.

    For what must not be freed in a child, because that would close connections that the parent uses.
    """
    _holders.append(parents)


def _renew() -> None:
    global _current
    _held.extend([parents() for parents in _holders])
    _current = Process()


os.register_at_fork(after_in_child=_renew)

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One value for each process: a forked child does not see that of its parent."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Process, T] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, ()  # a copy knows nothing yet

    def get(self) -> T | None:
        """The value of this process, or None."""
        return self._values.get(_current)

    def set_once(self, value: T) -> T:
        """Make `value` that of this process, unless another thread was first; return the one that counts."""
        # No lock, because a lock could come locked out of a fork: `setdefault` is atomic, so one value wins.
        value = self._values.setdefault(_current, value)
        for process in list(self._values):
            if process is not _current:
                self._values.pop(process, None)
        return value


class KeepsPerProcess:
    """Base of classes with a `PerProcess` among their attributes: a copy begins with an empty one, as a pickle does."""

    __slots__ = ()

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        state: Any = self.__reduce_ex__(4)[2]  # what `__getstate__` returns, on every Python
        if hasattr(twin, "__setstate__"):
            twin.__setstate__(state)
        elif state:
            twin.__dict__.update(state)
        for name, value in twin.__dict__.items():
            if type(value) is PerProcess:
                twin.__dict__[name] = PerProcess()
        return twin
