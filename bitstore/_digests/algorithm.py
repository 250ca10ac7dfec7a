"""Digests: the hashes that name blobs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bitstore.errors import BitstoreError

__all__ = ["ALGORITHMS", "Algorithm", "algorithm"]


@dataclass(frozen=True)
class Algorithm:
    """A hash algorithm whose hexadecimal digests name blobs.

    Attributes
    ----------
    name
        Name in `hashlib`, and scheme of its URIs (`sha1://<hex>`).
    length
        Hexadecimal characters of a digest.
    is_digest
        Whether a str is exactly one digest (either case, nothing around it). Returns None or a match.
    """

    name: str
    length: int
    is_digest: Callable[[str], Any] = field(init=False, repr=False, compare=False)
    _is_uri: Callable[[str], Any] = field(init=False, repr=False, compare=False)
    _new: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # fullmatch and [0-9a-f], because `$` lets a newline pass and `\\d` lets other scripts' digits pass
        digest = f"[0-9a-fA-F]{{{self.length}}}"
        object.__setattr__(self, "is_digest", re.compile(digest).fullmatch)
        object.__setattr__(self, "_is_uri", re.compile(f"(?:{self.name}://)?({digest})").fullmatch)
        object.__setattr__(self, "_new", getattr(hashlib, self.name))

    def __reduce__(self) -> tuple[Any, ...]:
        return algorithm, (self.name,)

    def parse(self, uri: str) -> str | None:
        """The lower-case digest in `<hex>` or `<name>://<hex>`; None if it is neither. TypeError unless a str."""
        if not isinstance(uri, str):
            raise TypeError(f"expected a {self.name} digest as str, got {type(uri).__name__}")
        match = self._is_uri(uri)
        return None if match is None else match[1].lower()

    def of(self, data: bytes) -> str:
        """The digest of `data`, in lower case."""
        digest: str = self._new(data).hexdigest()
        return digest


ALGORITHMS = {item.name: item for item in (Algorithm("sha1", 40), Algorithm("sha256", 64), Algorithm("md5", 32))}


class UnknownAlgorithm(BitstoreError, ValueError):
    """A hash algorithm that this library does not know."""

    def __init__(self, name: object) -> None:
        super().__init__(f"unknown digest algorithm {name!r}: choose one of {', '.join(ALGORITHMS)}", name)


def algorithm(name: str) -> Algorithm:
    """The algorithm called `name`: `"sha1"`, `"sha256"` or `"md5"`."""
    try:
        return ALGORITHMS[name]
    except (KeyError, TypeError):
        raise UnknownAlgorithm(name) from None
