"""Public attributes that only the constructor sets."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

__all__ = ["Fixed"]

T = TypeVar("T")


class Fixed(Generic[T]):
    """An attribute whose first value stays, because other objects have been made from it.

    Setting it again raises AttributeError, so that no change is ignored in silence.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Fixed[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Fixed[T] | T:
        if instance is None:
            return self
        try:
            value: T = vars(instance)[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        return value

    def __set__(self, instance: Any, value: T) -> None:
        if self._name in vars(instance):
            kind = type(instance).__name__
            raise AttributeError(f"{kind}.{self._name} cannot be changed: make another {kind}, and use that instead")
        vars(instance)[self._name] = value
