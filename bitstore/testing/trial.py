"""What the checks share: the store on trial, names and blobs for it, and how to say what is wrong."""

from __future__ import annotations

import contextlib
import pickle
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from bitstore._support.digests import ALGORITHMS
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.blob import Blob
from bitstore.store import Store

__all__ = ["DIGESTS", "Trial", "many", "must", "raises", "same", "survives"]

DIGESTS = tuple(ALGORITHMS)


def must(condition: object, otherwise: str) -> None:
    """Raise AssertionError with the text `otherwise` unless `condition`, also under `python -O`."""
    if not condition:
        raise AssertionError(otherwise)


@dataclass
class Trial:
    """The store to check, and what was said about it."""

    make: Callable[[], Any]
    addresses: str
    placed_by: Callable[[Any, bytes], object] | None
    unreachable: Callable[[], Any] | None
    wrong: Sequence[str] | None
    keys: Sequence[str]
    big: int
    secrets: Sequence[str]
    shared: bool
    limit: float
    conditions: bool

    def __post_init__(self) -> None:
        self._number = count()
        self._salt = secrets.token_hex(8)

    @property
    def by_digest(self) -> bool:
        """Whether names are digests rather than URLs."""
        return self.addresses in DIGESTS

    @property
    def writable(self) -> bool:
        """Whether the store's own `put` is to be used, and checked."""
        return self.placed_by is None

    def name(self, data: bytes, key: str | None = None) -> str:
        """The name of `data`: its digest, or a URL of a key that was not used before."""
        if self.by_digest:
            return digest_algorithm(self.addresses).of(data)
        return f"{self.addresses}{self._salt}-{next(self._number)}/{'blob' if key is None else key}"

    def absent(self) -> str:
        """The name of a blob that is nowhere."""
        return self.name(secrets.token_bytes(20))

    def place(self, store: Any, data: bytes, key: str | None = None) -> str:
        """Put `data` where `store` finds it; returns its name."""
        name = self.name(data, key)
        (store.put if self.placed_by is None else self.placed_by)(name, data)
        return name

    def place_some(self, store: Any, number: int = 5) -> dict[str, bytes]:
        """Put different small blobs; returns them by name."""
        blobs = [secrets.token_bytes(50 + position) for position in range(number)]
        return {self.place(store, data): data for data in blobs}

    def other(self, store: Any) -> Any:
        """Another store that sees the same blobs."""
        return self.make() if self.shared else store


def same(found: object, expected: bytes, what: str) -> None:
    """`found` must be bytes, and these."""
    if not isinstance(found, bytes):
        raise AssertionError(f"get returned {type(found).__name__} instead of bytes for {what}")
    must(found == expected, f"get returned {brief(found)} instead of {brief(expected)} for {what}")


def brief(data: bytes) -> str:
    return repr(data) if len(data) < 40 else f"{len(data)} bytes (md5 {ALGORITHMS['md5'].of(data)})"


@contextlib.contextmanager
def raises(kinds: type[BaseException] | tuple[type[BaseException], ...], what: str) -> Iterator[list[BaseException]]:
    """Expect one of `kinds` out of the block; it is in the list afterwards."""
    caught: list[BaseException] = []
    wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    except Exception as error:
        raise AssertionError(f"{what} raised {type(error).__name__} ({error}) instead of {wanted}") from error
    else:
        raise AssertionError(f"{what} raised nothing instead of {wanted}")


def survives(error: BaseException) -> None:
    """`error` must come out of pickle as it went in."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception as problem:
        raise AssertionError(f"its {type(error).__name__} does not pickle ({problem})") from problem
    must(type(copy) is type(error), f"its {type(error).__name__} becomes {type(copy).__name__} in pickle")
    must(str(copy) == str(error), f"its {type(error).__name__} loses its text in pickle: {error} became {copy}")


def many(store: Any, names: Iterable[Any], **options: Any) -> Iterator[Blob]:
    """`get_many` of the store; a duck-typed one has none of its own, and is served all the same."""
    method: Callable[..., Iterator[Blob]] = getattr(store, "get_many", partial(Store.get_many, store))
    return method(names, **options)
