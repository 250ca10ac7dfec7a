"""Options of raw stores: public attributes that are checked whenever they are set, and act from the next request on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bitstore._support.redact import redact_url

__all__ = ["ConstructorSignature", "Option", "endpoint", "in_header", "one_of", "options_of"]

_UNFIT = re.compile(r"[^\x20-\x7e]")

T = TypeVar("T")


def _as_given(name: str, value: Any) -> Any:
    return value


class Option(Generic[T]):
    """A public attribute of a store. Its value is checked when it is set, by the constructor or later.

    It has no `__get__`, so that a value is read from the store's own dict as fast as any attribute.

    Parameters
    ----------
    default
        The value where the constructor is given none.
    check
        Makes the value to keep from the option's name and the value given. Raises TypeError or ValueError.
    """

    name = ""  # of the attribute

    def __init__(self, default: Any = None, check: Callable[[str, Any], T] = _as_given) -> None:
        self.default = default
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, store: Any, value: Any) -> None:
        before = dict(store.__dict__)
        store.__dict__[self.name] = self.check(self.name, value)
        try:
            store._options_changed()
        except BaseException:
            store.__dict__.clear()
            store.__dict__.update(before)
            raise

    if TYPE_CHECKING:

        def __get__(self, store: Any, owner: type | None = None) -> T: ...


class ConstructorSignature:
    """What `inspect.signature` shows of a class: the parameters of its `__init__`, with each option by its name."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        constructor: Any = owner.__init__  # type: ignore[misc]
        _, *parameters = inspect.signature(constructor).parameters.values()
        if parameters and str(parameters[-1].annotation).startswith("Unpack["):
            parameters[-1:] = [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
                for name, option in options_of(owner).items()
            ]
        return inspect.Signature(parameters)


def options_of(cls: type) -> dict[str, Option[Any]]:
    """The options of a class by name: its own ones first, then those of its bases."""
    found: dict[str, Option[Any]] = {}
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, Option):
                found.setdefault(name, value)
    return found


def in_header(name: str, value: Any) -> str | None:
    """`value`, fit to be sent in a header. Raises `ValueError` for what could break out of one."""
    if value is not None and (not isinstance(value, str) or not value or _UNFIT.search(value)):
        raise ValueError(f"{name} must be a text of ASCII characters, without control characters")
    return None if value is None else str(value)


def endpoint(name: str, url: Any) -> str | None:
    """`url` without its trailing slash. Raises `ValueError` unless it is an http(s) address without a password."""
    if url is None:
        return None
    if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s\x00-\x1f/?#@]+(/[^\s\x00-\x1f?#]*)?", url):
        raise ValueError(f"{name} must look like 'https://host:port', not {redact_url(str(url))!r}")
    return str(url).rstrip("/")


def one_of(*values: Any) -> Callable[[str, Any], Any]:
    """A check that lets only `values` pass."""
    texts = [repr(value) for value in values if value is not None]
    told = f"{', '.join(texts[:-1])} or {texts[-1]}"

    def check(name: str, value: Any) -> Any:
        if value not in values:
            raise ValueError(f"{name} is {told}, not {value!r}")
        return value

    return check
