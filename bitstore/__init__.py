"""Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them.

Names are imported at first use, so `import bitstore` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "2.0.0"

# Type checkers read the names where they are written. They must not see `__getattr__`: it would make every name valid.
if TYPE_CHECKING:
    from bitstore._names import *
else:
    import importlib.util
    from types import SimpleNamespace

    def _modules_by_name() -> dict[str, str]:
        """The module of each public name: what the imports in `_names.py` say, without importing any of them."""
        modules = {}

        def note(module, _globals, _locals, names, _level):
            modules.update(dict.fromkeys(names, module))
            return SimpleNamespace(**dict.fromkeys(names))

        spec = importlib.util.find_spec(f"{__name__}._names")
        exec(spec.loader.get_code(spec.name), {"__builtins__": {"__import__": note}})
        return modules

    _MODULES = _modules_by_name()
    # Modules that users name; `bitstore.config` works without an import of its own.
    _PUBLIC_MODULES = frozenset({"config", "fsspec", "index", "observe", "steps", "testing"})
    __all__ = sorted(_MODULES)

    def __getattr__(name: str) -> object:
        if name in _PUBLIC_MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
