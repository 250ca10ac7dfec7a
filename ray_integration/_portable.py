"""Whether a store can be sent to Ray's workers, and if not, which attribute is to blame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from bitstore._tiers.composite import Composite

__all__ = ["check_portable"]

_DEEPEST = 30


def check_portable(store: Any, what: str = "the store") -> None:
    """Raise TypeError unless `store`, or what else it is, survives a trip through Ray's pickle.

    The error names the innermost attribute (or captured variable, or global) that does not.
    """
    from ray import cloudpickle

    dumps: Callable[[Any], bytes] = cloudpickle.dumps
    try:
        data = dumps(store)
    except Exception as error:  # whatever a user's object raises when it is pickled
        path, culprit = _innermost(what.removeprefix("the "), store, dumps)
        raise TypeError(
            f"{what} cannot be sent to Ray's workers: {path} ({_kind(culprit)}) does not pickle: {error}. "
            "Make it where it is used, at first use, or leave it out of the state that __getstate__ returns."
        ) from error
    try:
        cloudpickle.loads(data)
    except Exception as error:  # likewise, when it is unpickled
        raise TypeError(
            f"{what} cannot be sent to Ray's workers: {_kind(store)} pickles, but unpickling it fails: "
            f"{type(error).__name__}: {error}"
        ) from error


def _innermost(path: str, found: Any, dumps: Callable[[Any], bytes]) -> tuple[str, Any]:
    """Follow what does not pickle inwards as far as it goes."""
    seen = {id(found)}
    for _ in range(_DEEPEST):
        for label, part in _parts(found):
            if id(part) not in seen and not _pickles(part, dumps):
                seen.add(id(part))
                path, found = path + label, part
                break
        else:
            return path, found
    return path, found


def _pickles(part: Any, dumps: Callable[[Any], bytes]) -> bool:
    try:
        dumps(part)
    except Exception:  # that it fails is the answer
        return False
    return True


def _parts(whole: Any) -> Iterator[tuple[str, Any]]:
    """What pickling `whole` pickles besides, with how to write the way there."""
    if isinstance(whole, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in whole.items())
    elif isinstance(whole, (list, tuple)):
        yield from ((f"[{index}]", value) for index, value in enumerate(whole))
    elif isinstance(whole, (set, frozenset)):
        yield from (("{...}", value) for value in whole)
    elif isinstance(whole, MethodType):
        yield ".__self__", whole.__self__
        yield from _parts(whole.__func__)
    elif isinstance(whole, FunctionType):
        yield from _parts_of_function(whole)
    elif isinstance(whole, type):
        # Only classes of a script or a notebook are pickled by value.
        yield from ((f".{name}", value) for name, value in vars(whole).items() if not name.startswith("__"))
    elif not isinstance(whole, ModuleType):
        yield from _parts_of_object(whole)


def _parts_of_object(whole: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(whole, Composite):  # a composite: its tiers by their names, as its user knows them
        yield from ((f".tiers[{tier.name!r}]", tier.store) for tier in whole.tiers)
    try:
        reduced = whole.__reduce_ex__(4)
    except Exception:  # it refuses of itself, so nothing inside it is to blame
        return
    if not isinstance(reduced, tuple):
        return
    state = reduced[2] if len(reduced) > 2 else None
    # With __slots__ the state is a pair: the instance's dict and its slots.
    for attributes in state if isinstance(state, tuple) else (state,):
        if isinstance(attributes, dict):
            yield from ((f".{name}", value) for name, value in attributes.items())
    yield from (
        (f".__reduce__()[{index}]", value) for index, value in enumerate(reduced[1]) if value is not type(whole)
    )
    items = reduced[3] if len(reduced) > 3 else None
    yield from ((f"[{index}]", value) for index, value in enumerate(items or ()))
    yield f".{type(whole).__name__}", type(whole)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" -> variable '{name}'", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield f" -> global '{name}'", function.__globals__[name]


def _names(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*(_names(constant) for constant in inner))


def _kind(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
