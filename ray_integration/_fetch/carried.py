"""Functions and classes for `map_batches` that say what a worker lacks, and what to do.

Ray pickles what an importable module defines as a reference. A worker without this library (or without the module of a
user's store) cannot follow it, and ends with fifty lines of Ray's own, which do not say what to do. What is defined
inside of a function is pickled with its code, so it begins to run there all the same, and can say it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ray_integration._cluster import LACKS

__all__ = ["carried_class", "carried_function"]


class _Packed:
    """A value that is bytes to whatever unpickles it.

    It holds the value itself where it was made, and so keeps a private pool as long as the dataset.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        from ray import cloudpickle

        dumps: Callable[[Any], bytes] = cloudpickle.dumps
        return bytes, (dumps(self.value),)


def carried_class(kind: type, arguments: dict[str, Any]) -> tuple[type, dict[str, Any]]:
    """A class that does what `kind` does, a callable class whose calls are generators; and the arguments for it."""
    open_packed = _opener()

    class Carried:
        def __init__(self, packed: Any) -> None:
            kind, arguments = open_packed(packed)
            self._call = kind(**arguments)

        def __call__(self, batch: Any) -> Iterator[Any]:
            yield from self._call(batch)

    # What Ray's plans and progress bars call it.
    Carried.__name__ = Carried.__qualname__ = kind.__name__
    return Carried, {"packed": _Packed((kind, arguments))}


def carried_function(function: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """A function that does what `function` does. It is unpickled with each block, so it is for small ones."""
    open_packed = _opener()
    packed = _Packed(function)

    def call(batch: Any) -> Any:
        return open_packed(packed)(batch)

    call.__name__ = call.__qualname__ = name
    return call


def _opener() -> Callable[[Any], Any]:
    """What unpickles a `_Packed`; it needs nothing of this library."""
    lacks = LACKS  # which travels with the function

    def open_packed(packed: Any) -> Any:
        from ray import cloudpickle

        try:
            return cloudpickle.loads(packed) if isinstance(packed, bytes) else packed.value
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(lacks % (error.name or error)) from None

    return open_packed
