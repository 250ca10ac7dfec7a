"""What subclasses written for the published library expect of its classes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

__all__ = ["ClassLogger", "warn_of_unused"]


class ClassLogger:
    """A class attribute whose value is the logger of the class that it is read from, named by module and class.

    Not a property, because a class or an object may have a `logger` of its own.
    """

    def __get__(self, instance: object, owner: type) -> logging.Logger:
        return logging.getLogger(f"{owner.__module__}.{owner.__qualname__}")


def warn_of_unused(cls: type, hooks: Mapping[str, str]) -> None:
    """Warn where the class that is being defined overrides one of `hooks`, which nothing calls any more.

    Aloud, because the store would ask with other credentials, or another service, than its author meant.

    Parameters
    ----------
    cls
        The class, in its `__init_subclass__`.
    hooks
        What to do instead, by the name of the method.
    """
    named: Any = vars(cls)
    for name, instead in hooks.items():
        if name in named:
            # To the line of the class statement: this, `__init_subclass__` and ABCMeta stand between.
            warnings.warn(f"{cls.__qualname__}.{name} is never used: {instead}", UserWarning, stacklevel=4)
