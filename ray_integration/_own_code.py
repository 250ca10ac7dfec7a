"""The modules in which a store's own code is written, and whether another process has the same."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pickle
import site
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Mapping
from hashlib import blake2b
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["Changed", "changed_code", "own_code", "stamp_of"]

_OURS = ("bitstore", "ray_integration", "epic")  # these have a version


class Changed(NamedTuple):
    """A module whose source differs."""

    # Its dotted name.
    module: str
    # The hash of its source in this process, and where the pool was made.
    here: str
    expected: str


def own_code(store: Any) -> dict[str, str]:
    """The hash of the source of each module that `store` brings of its user's code, by name.

    Those are the modules of the classes and functions that its pickle refers to, with the classes' bases, and what
    these modules hold of other modules in turn. Of what is installed (in `site-packages`, where the libraries are) only
    the package of a class with `get` and `is_valid` counts. Python's own library and bitstore never do, and what a
    script or a notebook defines travels with the pickle. A module without a source has no hash.
    """
    from ray import cloudpickle

    dumps: Callable[[Any], bytes] = cloudpickle.dumps
    registered: Callable[[], set[str]] = cloudpickle.list_registry_pickle_by_value
    data = dumps(store)
    finder = _Finder(io.BytesIO(data))
    finder.load()
    hashes: dict[str, str] = {}
    # Packages that count although they are installed.
    roots = {
        _top(kind.__module__)
        for value in finder.found
        for kind in (value.__mro__ if isinstance(value, type) else ())
        if callable(getattr(kind, "get", None)) and callable(getattr(kind, "is_valid", None))
    }
    waiting = [name for value in finder.found for name in _modules_of(value)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or not _counts(name, roots):
            continue
        seen.add(name)
        if (told := _hash(name)) is not None:
            hashes[name] = told
        waiting.extend(_neighbours(sys.modules[name]))
    # Modules whose code travels in the pickle: other processes need not have them.
    for package in registered():
        for name in list(sys.modules):
            if (name == package or name.startswith(f"{package}.")) and name.encode() in data:
                hashes.pop(name, None)
                hashes[f"{name} by value"] = _hash(name) or ""
    return dict(sorted(hashes.items()))


def stamp_of(code: Mapping[str, str]) -> str:
    """A few characters that stand for all of `own_code`; empty if there is none."""
    text = "\n".join(f"{name} {told}" for name, told in sorted(code.items()))
    return blake2b(text.encode(), digest_size=6).hexdigest() if code else ""


def changed_code(code: Mapping[str, str]) -> Changed | None:
    """The first module of `own_code` of another process whose source here is another; None if there is none.

    A module that is not found here, or has no source, is not compared: unpickling the store tells.
    """
    for name, expected in code.items():
        here = _hash(name)
        if here is not None and here != expected:
            return Changed(name, here, expected)
    return None


class _Finder(pickle.Unpickler):
    """Notes which classes, functions and modules a pickle refers to by name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.found: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        value = super().find_class(module, name)
        self.found.append(value)
        # What the functions of a script refer to as a module.
        return self._import if name == "subimport" else value

    def _import(self, name: str) -> ModuleType:
        module = importlib.import_module(name)
        self.found.append(module)
        return module


def _modules_of(value: Any) -> Iterator[str]:
    if isinstance(value, ModuleType):
        yield value.__name__
    elif isinstance(value, type):
        yield from (kind.__module__ for kind in value.__mro__)
    elif callable(value) and isinstance(name := getattr(value, "__module__", None), str):
        yield name


def _neighbours(module: ModuleType) -> Iterator[str]:
    for value in list(vars(module).values()):
        with contextlib.suppress(Exception):  # a stand-in for something else may do as it likes
            yield from list(_modules_of(value))


def _top(name: str) -> str:
    return name.partition(".")[0]


def _counts(name: str, roots: Collection[str]) -> bool:
    top = _top(name)
    if top in ("__main__", "__mp_main__", *_OURS) or top in sys.stdlib_module_names:
        return False
    origin = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(origin, str) and (top in roots or not origin.startswith(_INSTALLED))


def _hash(name: str) -> str | None:
    """The hash of a module's source, whatever its line ends; None if there is no such module, or no source."""
    try:
        spec = importlib.util.find_spec(name)
        source = spec.loader.get_source(name) if spec is not None else None  # type: ignore[union-attr]
    except Exception:  # of packages on the way, which are executed, and of loaders of any kind
        return None
    return None if source is None else blake2b(source.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


# Where packages are installed.
_INSTALLED = tuple(
    folder + os.sep
    for folder in {
        *(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib", "stdlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
