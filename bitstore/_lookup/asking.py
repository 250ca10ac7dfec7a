"""How any store is asked: by its own steps where it has them, else by one blocking call.

Nothing here knows the class `Store`, so the engine (batches, downloads) stands below it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from bitstore.errors import NotFoundInStore
from bitstore.steps import Call, Found, Steps

__all__ = ["OVERWRITE", "Errors", "Write", "exists_steps", "get_steps", "has_steps", "key_steps", "put_steps"]

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


def get_steps(store: Any, uri: Any) -> Steps[Found]:
    """The lookup of `uri` as steps: the store's own ones, or one blocking call of its `get`.

    `uri` is valid: who calls this has asked the store's `is_valid` or `canonical`.
    """
    if has_steps(type(store), "get", "_get_steps") and "get" not in getattr(store, "__dict__", ()):
        steps: Steps[Found] = store._get_steps(uri)
        return steps
    return _call_get(store, uri)


def key_steps(store: Any) -> Callable[..., Steps[Found]] | None:
    """A composite's own lookup, as steps, of what its `canonical` returned. None where there is none: see `get_steps`.

    After the key it may be given the names of tiers not to ask, because they have just said that they lack the blob.
    """
    bypassed = "get" in getattr(store, "__dict__", ()) or not has_steps(type(store), "get", "_get_steps")
    if bypassed or not has_steps(type(store), "_get_steps", "_key_steps"):
        return None
    steps: Callable[..., Steps[Found]] = store._key_steps
    return steps


def exists_steps(store: Any, uri: Any) -> Steps[bool]:
    """Whether `store` holds `uri`, as steps."""
    if has_steps(type(store), "exists", "_exists_steps"):
        steps: Steps[bool] = store._exists_steps(uri)
        return steps
    return _call(store.exists, uri) if hasattr(store, "exists") else _exists_by_get(store, uri)


def put_steps(store: Any, uri: Any, data: bytes, write: Write = OVERWRITE) -> Steps[None]:
    """The write of `data` as steps. A store that has only `put` overwrites, whatever `write` says."""
    if has_steps(type(store), "put", "_put_steps"):
        steps: Steps[None] = store._put_steps(uri, data, write)
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


@lru_cache(maxsize=1024)
def has_steps(cls: type, method: str, steps: str) -> bool:
    # A subclass that overrides only `get` means its `get`: the steps of its base class must not bypass it.
    for base in cls.__mro__:
        if steps in vars(base):
            return True
        if method in vars(base):
            return False
    return False
