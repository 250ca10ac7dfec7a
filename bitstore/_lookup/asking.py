"""How any store is asked: by its own steps where its class has them, else by one blocking call.

Nothing here knows the class `Store`, so the engine (batches, downloads) stands below it. The methods by which stores
are asked are described in `bitstore.steps` (`GetsInSteps` and its kin); a store need not inherit from anything.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from bitstore.errors import InvalidDataFound, NotFoundInStore
from bitstore.steps import OVERWRITE, Call, Found, RequestCounts, Scope, Steps, Stored, Write

__all__ = [
    "Errors",
    "Methods",
    "canonical_of",
    "counts_of",
    "label_of",
    "methods_of",
    "scope_of",
    "size_of",
    "steps_of_describe",
    "steps_of_exists",
    "steps_of_get",
    "steps_of_key",
    "steps_of_put",
    "steps_of_range",
    "steps_of_version",
]

Errors: TypeAlias = Literal["return", "raise", "ignore", "log"]


class Methods(NamedTuple):
    """By which methods the stores of one class are asked. False: by the blocking method, where there is one."""

    get_steps: bool
    # The class's `get_steps` for which its `hashed_steps` stand; None: they do not.
    hashed_steps: Any
    key_steps: bool
    download_steps: bool
    open_steps: bool
    range_steps: bool
    exists_steps: bool
    describe_steps: bool
    put_steps: bool
    version_steps: bool


def methods_of(store: Any) -> Methods:
    """By which methods `store` is asked: as its class says, unless the object has a `get` of its own."""
    cls: Any = type(store)
    methods = _methods_of_class(cls)
    own = getattr(store, "__dict__", ())  # of a wrapped or patched object: they are meant
    if "get" in own:
        return methods._replace(
            get_steps=False,
            hashed_steps=None,
            key_steps=False,
            download_steps=False,
            open_steps=False,
            range_steps=False,
        )
    if "get_steps" in own:
        return methods._replace(hashed_steps=None)
    return methods


@lru_cache(maxsize=1024)
def _methods_of_class(cls: Any) -> Methods:
    get_steps = _wins(cls, "get_steps", "get")
    return Methods(
        get_steps=get_steps,
        hashed_steps=cls.get_steps if get_steps and _wins(cls, "hashed_steps", "get_steps") else None,
        key_steps=get_steps and _wins(cls, "key_steps", "get_steps"),
        download_steps=_wins(cls, "download_steps", "get"),
        open_steps=_wins(cls, "open_steps", "get"),
        range_steps=_wins(cls, "range_steps", "get"),
        exists_steps=_wins(cls, "exists_steps", "exists"),
        describe_steps=_wins(cls, "describe_steps", "exists"),
        put_steps=_wins(cls, "put_steps", "put"),
        version_steps=callable(getattr(cls, "version_steps", None)),
    )


def _wins(cls: type, steps: str, method: str) -> bool:
    # A subclass that overrides only `get` means its `get`: the steps of its base class must not bypass it.
    for base in cls.__mro__:
        if steps in vars(base):
            return True
        if method in vars(base):
            return False
    return False


def steps_of_get(store: Any, uri: Any, hash_with: str | None = None) -> Steps[Found]:
    """The lookup of `uri` as steps: the store's own ones, or one blocking call of its `get`.

    `uri` is valid: the caller has asked the store's `is_valid` or `canonical`. A store may hash the blob on the way by
    the algorithm `hash_with`, see `Found.digest`.
    """
    methods = methods_of(store)
    steps: Steps[Found]
    if hash_with is not None and methods.hashed_steps is not None and type(store).get_steps is methods.hashed_steps:
        steps = store.hashed_steps(uri, hash_with)
    elif methods.get_steps:
        steps = store.get_steps(uri)
    else:
        steps = _call_get(store, uri)
    return steps


def steps_of_key(store: Any) -> Callable[..., Steps[Found]] | None:
    """A composite's own lookup, as steps, of what its `canonical` returned. None: use `steps_of_get`.

    After the key it may be given the names of tiers not to ask, because they have just said that they lack the blob.
    """
    if not methods_of(store).key_steps:
        return None
    steps: Callable[..., Steps[Found]] | None = getattr(store, "key_steps_of_batch", None)  # asked once a batch
    return store.key_steps if steps is None else steps


def steps_of_exists(store: Any, uri: Any) -> Steps[bool]:
    """Whether `store` holds `uri`, as steps."""
    if methods_of(store).exists_steps:
        steps: Steps[bool] = store.exists_steps(uri)
        return steps
    return _call(store.exists, uri) if hasattr(store, "exists") else _exists_by_get(store, uri)


def steps_of_describe(store: Any, uri: Any) -> Steps[Stored | None]:
    """What `store` says about the blob of `uri`, as steps; None: it holds none. Only `describe_steps` says details."""
    if methods_of(store).describe_steps:
        steps: Steps[Stored | None] = store.describe_steps(uri)
        return steps
    return _described_by_exists(store, uri)


def steps_of_range(store: Any, uri: Any, start: int, end: int) -> Steps[bytes]:
    """Bytes `start` up to `end` of what `store` holds, as steps; fewer where that ends before."""
    if methods_of(store).range_steps:
        steps: Steps[bytes] = store.range_steps(uri, start, end)
        return steps
    return _range_of_get(store, uri, start, end)


def steps_of_put(store: Any, uri: Any, data: bytes, write: Write = OVERWRITE) -> Steps[None]:
    """The write of `data` as steps. A store that has only `put` overwrites, whatever `write` says."""
    if methods_of(store).put_steps:
        steps: Steps[None] = store.put_steps(uri, data, write)
        return steps
    return _call(store.put, uri, data)


def steps_of_version(store: Any, uri: Any) -> Steps[str | None]:
    """The version of the present copy, for `Write(replacing=...)`; None: there is no copy, or the store tells none."""
    if not methods_of(store).version_steps:
        return None
    version: str | None = yield from store.version_steps(uri)
    return version


def canonical_of(store: Any) -> Callable[[Any], Any]:
    """The store's `canonical`; a store without one has a single spelling of each URI."""
    canonical: Callable[[Any], Any] = getattr(store, "canonical", _itself)
    return canonical


def label_of(store: Any) -> str:
    """A short name of the store for statistics and messages: its `label`, or the name of its class."""
    return str(getattr(store, "label", type(store).__name__))


def size_of(data: Any) -> int:
    """Bytes of a blob; 0 for other data of a user's store."""
    return bytes.__len__(data) if isinstance(data, bytes) else 0  # a subclass may say anything about its length


def scope_of(store: Any) -> Scope:
    """The store's `scope`. `"shared"`, the default, where an attribute of this name means something else."""
    scope: Any = getattr(store, "scope", "shared")
    return scope if isinstance(scope, str) and scope in get_args(Scope) else "shared"  # type: ignore[return-value]


def counts_of(store: Any) -> RequestCounts | None:
    """What the store's `counts` returns, if it has such a method and keeps counts of requests."""
    counts = getattr(store, "counts", None)
    try:
        found = counts() if callable(counts) else None
    except Exception:  # a store of a user may have a method of this name that is no such thing: statistics go on
        return None
    return found if isinstance(found, RequestCounts) else None


def _itself(uri: Any) -> Any:
    return uri


def _call_get(store: Any, uri: Any) -> Steps[Found]:
    data = yield Call(store.get, uri)
    return Found(data, label_of(store))


def _exists_by_get(store: Any, uri: Any) -> Steps[bool]:
    try:
        yield Call(store.get, uri)
    except InvalidDataFound:  # there is something, and not the blob
        raise
    except NotFoundInStore:
        return False
    return True


def _described_by_exists(store: Any, uri: Any) -> Steps[Stored | None]:
    return Stored() if (yield from steps_of_exists(store, uri)) else None


def _call(function: Any, *args: Any) -> Steps[Any]:
    return (yield Call(function, *args))


def _range_of_get(store: Any, uri: Any, start: int, end: int) -> Steps[bytes]:
    found = yield from steps_of_get(store, uri)
    return bytes(found.data[start:end])
