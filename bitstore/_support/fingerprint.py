"""Whether two stores are configured alike, across processes and machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

__all__ = ["fingerprint", "set_or_drop"]

_SECRET = re.compile(
    r"secret|passw|token|(private|api|access|account|shared|subscription|auth)[-_]?key$|api[-_]?key|authorization"
    r"|^(x-)?auth$|cookie|signature",
    re.IGNORECASE,
)
# Only what can be nothing else: an address may well differ in a `key=`, and then it is of another store.
_PARAMETER = re.compile(r"([?&][\w.-]*(?:sig|signature|secret|token|passw\w*|api_?key)=)[^&#\s]+", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/?#@\s]*@")
_HIDDEN = "hidden"


def fingerprint(store: Any, *, paid: bool = True) -> str:
    """32 hexadecimal characters that are the same for stores of the same configuration, and for no others.

    What counts is what pickling a store keeps. Values that are secret by their name (passwords, tokens, secret keys)
    do not count, so that nothing of them can be read out of the fingerprint; names of identities do (access key
    ids, profiles), so that stores that act for different users differ. A class or function counts by its name, and by
    its code too if it is of a script or notebook, where the same name may mean another thing elsewhere. If something
    in a store can only be told from others by its address in memory, no two such stores are alike.

    Parameters
    ----------
    store
        Any store.
    paid
        Whether prices and budgets count: values whose class says `part_of_store = False`.
    """
    return blake2b(_Writer(paid).form(store).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def set_or_drop(store: Any, name: str, value: Any) -> None:
    """Set an attribute whose class has None for it; None drops it, so that it is as if it had never been set."""
    if value is None:
        store.__dict__.pop(name, None)
    else:
        setattr(store, name, value)


class _Writer:
    """Writes a configuration as text."""

    def __init__(self, paid: bool) -> None:
        self._paid = paid
        # With the object itself: while it is kept here, no other can have its id.
        self._seen: dict[int, tuple[Any, str]] = {}

    def form(self, value: Any) -> str:
        if value is None or isinstance(value, (bool, int, float, complex, bytes, bytearray)):
            return f"{type(value).__name__}:{value!r}"
        if isinstance(value, str) and not isinstance(value, Enum):
            return f"str:{_PARAMETER.sub(_HIDDEN, _USERINFO.sub('//', value))!r}"
        if (before := self._seen.get(id(value))) is not None:
            return before[1]
        self._seen[id(value)] = value, f"itself, a {_name(type(value))}"  # ends cycles
        told = self._form(value)
        self._seen[id(value)] = value, told
        return told

    def _form(self, value: Any) -> str:
        if isinstance(value, Enum):
            return f"{_name(type(value))}.{value.name}"
        if isinstance(value, PurePath):
            return f"path:{str(value)!r}"
        if isinstance(value, Mapping):
            return self._pairs(_name(type(value)), value.items())
        if isinstance(value, (list, tuple)):
            return f"{_name(type(value))}[{','.join([self.form(item) for item in value])}]"
        if isinstance(value, (set, frozenset)):
            return f"{_name(type(value))}{{{','.join(sorted(self.form(item) for item in value))}}}"
        return self._form_of_code(value) if _is_code(value) else self._form_of_object(value)

    def _form_of_code(self, value: Any) -> str:
        if isinstance(value, MethodType):
            return f"method:{value.__func__.__qualname__} of {self.form(value.__self__)}"
        if isinstance(value, CodeType):
            # Not its line numbers: a comment more makes no other store.
            return f"code:{value.co_code.hex()},{value.co_names!r},{self.form(value.co_consts)}"
        name = _name(value)
        if isinstance(value, FunctionType):
            free = zip(value.__code__.co_freevars, map(_content, value.__closure__ or ()), strict=True)
            cells = [_HIDDEN if _is_secret(name, content) else self.form(content) for name, content in free]
            if value.__module__ == "__main__" or "<" in value.__qualname__:
                name += self.form(value.__code__) + self.form(value.__defaults__) + self.form(value.__kwdefaults__)
            return f"{name}({','.join(cells)})"
        if isinstance(value, type) and value.__module__ == "__main__":
            own = {key: item for key, item in vars(value).items() if _is_written(key, item)}
            bases = ",".join(self.form(base) for base in value.__bases__)
            return self._pairs(f"{name}({bases})", own.items())
        return name

    def _form_of_object(self, value: Any) -> str:
        kind = self.form(type(value)) if type(value).__module__ == "__main__" else _name(type(value))
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # it cannot be told what it is, so it is like no other
            return f"{kind} at {id(value)}"
        if isinstance(reduced, str):
            return f"{kind}:{reduced}"
        parts = [self.form(item) for item in reduced[1] if item is not type(value)]
        if len(reduced) > 2 and reduced[2] is not None:
            parts.append(self.form(reduced[2]))
        parts += [self.form(list(items)) for items in reduced[3:5] if items is not None]
        return f"{kind}({','.join(parts)})"

    def _pairs(self, kind: str, items: Iterable[tuple[Any, Any]]) -> str:
        # In the order of their names, because equal configurations may have been written in any.
        parts = [item for item in items if self._paid or getattr(type(item[1]), "part_of_store", True)]
        ordered = sorted(parts, key=lambda item: str(item[0]))
        told = [f"{self.form(key)}={_HIDDEN if _is_secret(key, value) else self.form(value)}" for key, value in ordered]
        return f"{kind}{{{','.join(told)}}}"


def _is_secret(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, (str, bytes, tuple)) and _SECRET.search(key) is not None


def _is_code(value: Any) -> bool:
    return isinstance(value, (type, FunctionType, BuiltinFunctionType, MethodType, CodeType, ModuleType))


def _is_written(key: str, value: Any) -> bool:
    """Whether an attribute of a class is in its source, and not made by Python."""
    return key != "_abc_impl" and (not key.startswith("__") or isinstance(value, FunctionType))


def _name(value: Any) -> str:
    module: Callable[..., Any] | str = getattr(value, "__module__", "")
    return f"{module}.{getattr(value, '__qualname__', getattr(value, '__name__', value))}"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
