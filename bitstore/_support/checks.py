"""Options by keyword: one that does not exist is named, with those that do."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ChecksOptions", "check_options", "check_seconds"]

_LONGEST_SECONDS = 1_000_000


class _Constructor:
    """A class attribute: the signature of the constructor, which `__new__` would hide from `inspect` and `help`."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("an instance has no signature of its own")
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters)


class ChecksOptions:
    """Base of classes whose constructor refuses an unknown option by naming the known ones."""

    __slots__ = ()
    __signature__ = _Constructor()

    def __new__(cls, *_args: Any, **options: Any) -> Self:
        """Raise TypeError if the constructor has no option of one of these names."""
        parameters = inspect.signature(cls).parameters
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            check_options(cls, parameters, options)
        return super().__new__(cls)


def check_options(cls: type, known: Collection[str], given: Iterable[str]) -> None:
    """Raise TypeError if the constructor of `cls`, which has the options `known`, lacks one of the names given."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise TypeError(f"{cls.__name__} has no option {name!r}{hint}; it has: {', '.join(known) or 'none'}")


def check_seconds(name: str, value: Any, *, or_zero: bool = False) -> None:
    """Raise ValueError unless `value` is a number of seconds greater than 0; with `or_zero`, also 0."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= _LONGEST_SECONDS or not (value or or_zero):
        least = "of at least 0" if or_zero else "greater than 0"
        raise ValueError(f"{name} is a number of seconds {least} and at most 1,000,000, not {value!r}")
