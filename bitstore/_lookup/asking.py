"""How any store is asked: by its own steps where it has them, else by one blocking call.

Nothing here knows the class `Store`, so the engine (batches, downloads) stands below it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from bitstore.errors import NotFoundInStore
from bitstore.steps import Call, Found, Steps

__all__ = [
    "OVERWRITE",
    "Errors",
    "Write",
    "has_own_steps",
    "steps_of_exists",
    "steps_of_get",
    "steps_of_key",
    "steps_of_put",
]

Errors: TypeAlias = Literal["return", "raise", "ignore", "log"]


class Write:
    """How a write treats what is there already.

    Attributes
    ----------
    only_if_absent
        Leave an existing blob alone (`If-None-Match: *`); finding one is a success.
    replacing
        Overwrite only the copy that has this ETag (`If-Match`); finding another is a success too,
        because somebody else has replaced the bad one meanwhile.
    """

    __slots__ = ("only_if_absent", "replacing")

    def __init__(self, *, only_if_absent: bool = False, replacing: str | None = None) -> None:
        self.only_if_absent = only_if_absent
        self.replacing = replacing


OVERWRITE = Write()


def steps_of_get(store: Any, uri: Any) -> Steps[Found]:
    """The lookup of `uri` as steps: the store's own ones, or one blocking call of its `get`.

    `uri` is valid: who calls this has asked the store's `is_valid` or `canonical`.
    """
    if has_own_steps(store, "get", "get_steps") and "get" not in getattr(store, "__dict__", ()):
        steps: Steps[Found] = store.get_steps(uri)
        return steps
    return _call_get(store, uri)


def steps_of_key(store: Any) -> Callable[..., Steps[Found]] | None:
    """A composite's own lookup, as steps, of what its `canonical` returned. None: it has none, see `steps_of_get`.

    After the key it may be given the names of tiers not to ask, because they have just said that they lack the blob.
    """
    bypassed = "get" in getattr(store, "__dict__", ()) or not has_own_steps(store, "get", "get_steps")
    if bypassed or not has_own_steps(store, "get_steps", "key_steps"):
        return None
    steps: Callable[..., Steps[Found]] = store.key_steps
    return steps


def steps_of_exists(store: Any, uri: Any) -> Steps[bool]:
    """Whether `store` holds `uri`, as steps."""
    if has_own_steps(store, "exists", "exists_steps"):
        steps: Steps[bool] = store.exists_steps(uri)
        return steps
    return _call(store.exists, uri) if hasattr(store, "exists") else _exists_by_get(store, uri)


def steps_of_put(store: Any, uri: Any, data: bytes, write: Write = OVERWRITE) -> Steps[None]:
    """The write of `data` as steps. A store that has only `put` overwrites, whatever `write` says."""
    if has_own_steps(store, "put", "put_steps"):
        steps: Steps[None] = store.put_steps(uri, data, write)
        return steps
    return _call(store.put, uri, data)


def _call_get(store: Any, uri: Any) -> Steps[Found]:
    data = yield Call(store.get, uri)
    return Found(data, getattr(store, "label", type(store).__name__))


def _exists_by_get(store: Any, uri: Any) -> Steps[bool]:
    try:
        yield Call(store.get, uri)
    except NotFoundInStore:
        return False
    return True


def _call(function: Any, *args: Any) -> Steps[Any]:
    return (yield Call(function, *args))


def has_own_steps(store: Any, method: str, steps: str) -> bool:
    """Whether `store` has steps that its `method` has not been overridden past."""
    cls: Any = type(store)
    return _class_has_own_steps(cls, method, steps)


@lru_cache(maxsize=1024)
def _class_has_own_steps(cls: Any, method: str, steps: str) -> bool:
    # A subclass that overrides only `get` means its `get`: the steps of its base class must not bypass it.
    for base in cls.__mro__:
        if steps in vars(base):
            return True
        if method in vars(base):
            return False
    return False
