"""Options by keyword: one that does not exist is named, with those that do."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from numbers import Real
from typing import Any

__all__ = ["check_options", "check_seconds"]

_LONGEST_SECONDS = 1_000_000


def check_options(cls: type, given: Iterable[str]) -> None:
    """Raise TypeError if the constructor of `cls` has no option of one of these names."""
    # Of the function and not of the class: for that `inspect` would look at `__new__`, from where this is called.
    _, *parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    names = [parameter.name for parameter in parameters]
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise TypeError(f"{cls.__name__} has no option {name!r}{hint}; it has: {', '.join(names) or 'none'}")


def check_seconds(name: str, value: Any, *, or_zero: bool = False) -> None:
    """Raise ValueError unless `value` is a number of seconds greater than 0; with `or_zero`, also 0."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= _LONGEST_SECONDS or not (value or or_zero):
        least = "of at least 0" if or_zero else "greater than 0"
        raise ValueError(f"{name} is a number of seconds {least} and at most 1,000,000, not {value!r}")
