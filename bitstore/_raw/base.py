"""What all stores that are addressed by URL share: options, and the blocking methods over their steps."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NoReturn

from bitstore._lookup.run import run
from bitstore._raw.options import ConstructorSignature, options_of
from bitstore._support.checks import ChecksOptions, check_options
from bitstore._support.redact import redact_url
from bitstore.errors import InvalidURI
from bitstore.outline import Outline
from bitstore.steps import OVERWRITE, FileBody, Found, Steps, Stored, Write
from bitstore.store import Store

__all__ = ["RawStore", "blob_bytes"]


class RawStore(ChecksOptions, Store):
    """A store addressed by URL, whose lookup is written as steps."""

    bytes_only = True
    takes_files = False  # whether `put_steps` takes a `FileBody` in place of bytes
    __signature__ = ConstructorSignature()

    def _configure(self, given: dict[str, Any]) -> None:
        """Set every option: to its value in `given`, else to its default."""
        options = options_of(type(self))
        check_options(type(self), options, given)
        for name, option in options.items():
            self.__dict__[name] = option.check(name, given.get(name, option.default))
        self._options_changed()

    def _options_changed(self) -> None:
        """Let the present values of the options act. Raises ValueError for two that exclude each other."""

    @abstractmethod
    def get_steps(self, uri: Any) -> Steps[Found]: ...

    @abstractmethod
    def exists_steps(self, uri: Any) -> Steps[bool]: ...

    def describe_steps(self, uri: Any) -> Steps[Stored | None]:
        """What is said about `uri`; a subclass that knows more than its address says so."""
        return Stored(redact_url(uri)) if (yield from self.exists_steps(uri)) else None

    @abstractmethod
    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]: ...

    @abstractmethod
    def version_steps(self, uri: Any) -> Steps[str | None]:
        """The version to give to `Write(replacing=...)` to overwrite the present copy; None: there is no copy."""

    # The steps are taken from here and not through `bitstore._lookup.asking`: a subclass whose `get`
    # calls `super().get()` would be asked again by that.
    def get(self, uri: Any) -> bytes:
        """The bytes stored under `uri`.

        Raises
        ------
        TypeError
            `uri` is not a str.
        InvalidURI
            `uri` is not a URL of this store.
        NotFoundInStore
            The store says that it does not hold the blob.
        StoreNotAvailable
            The store could not say; the reason tells why.
        """
        self._check_valid(uri)
        data: bytes = run(self.get_steps(uri)).data
        return data

    def exists(self, uri: Any) -> bool:
        """Whether the store holds `uri`, without fetching it. Raises what `get` raises, except `NotFoundInStore`."""
        self._check_valid(uri)
        return run(self.exists_steps(uri))

    def put(self, uri: Any, data: bytes) -> None:
        """Keep `data` (bytes, bytearray or memoryview) under `uri`, in place of what is there.

        Raises
        ------
        TypeError, InvalidURI
            As for `get`; also where `data` is not bytes.
        StoreNotAvailable
            The blob was not written, or the answer that it was has been lost.
        """
        self._check_valid(uri)
        run(self.put_steps(uri, data, OVERWRITE))

    def _check_valid(self, uri: Any) -> None:
        if not self.is_valid(uri):
            self._refuse(uri)

    def _refuse(self, uri: Any) -> NoReturn:
        if not isinstance(uri, str):
            raise TypeError(f"{type(self).__name__} expected a str such as '{self.URI_HINT}', not {type(uri).__name__}")
        raise InvalidURI(self, redact_url(uri), hint=self._hint())

    def _hint(self) -> str | None:
        return self.URI_HINT

    def outline(self) -> Outline:
        """The options that differ from their defaults, without secrets."""
        return Outline(self.label, type(self).__name__, facts=self._shown_facts())

    def _shown_facts(self) -> dict[str, Any]:
        """What `outline` tells, by name."""
        options = options_of(type(self)).items()
        return {
            name: value if isinstance(value, (str, int, float, bool)) else redact_url(repr(value))
            for name, option in options
            if (value := getattr(self, name)) != option.default and name not in self._hidden
        }

    def _shown_arguments(self) -> list[str]:
        """The arguments of a constructor call that makes this store, without secrets and defaults."""
        options = options_of(type(self)).items()
        return [
            f"{name}={value!r}"
            for name, option in options
            if (value := getattr(self, name)) != option.default and name not in self._hidden
        ]

    _hidden: frozenset[str] = frozenset()  # names of options whose values are not for messages

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._shown_arguments())})"


def blob_bytes(data: Any) -> bytes | FileBody:
    """`data` as bytes, or the file whose bytes it stands for. Raises `TypeError` for anything else."""
    if isinstance(data, (bytes, FileBody)):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"a blob is bytes, not {type(data).__name__}")
