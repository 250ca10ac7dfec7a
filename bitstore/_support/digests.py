"""The hash algorithms whose digests name blobs, and how a caller's value is read as a digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

__all__ = ["ALGORITHMS", "CHECKSUM", "Algorithm", "algorithm", "as_text", "is_null"]


@dataclass(frozen=True)
class Algorithm:
    """A hash algorithm whose hexadecimal digests name blobs."""

    # Name in `hashlib`, and scheme of the URIs (`sha1://<hex>`).
    name: str
    # Makes a hash object, from the first bytes if they are given.
    new: Callable[..., Any] = field(repr=False, compare=False)
    # Hexadecimal characters of a digest.
    length: int = field(init=False)
    # Whether a str is exactly one digest (either case, nothing around it): a match or None.
    is_digest: Callable[[str], re.Match[str] | None] = field(init=False, repr=False, compare=False)
    _is_uri: Callable[[str], re.Match[str] | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        length = 2 * self.new().digest_size
        # fullmatch and [0-9a-f], because `$` lets a newline pass and `\\d` lets other scripts' digits pass
        digest = f"[0-9a-fA-F]{{{length}}}"
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "is_digest", re.compile(digest).fullmatch)
        object.__setattr__(self, "_is_uri", re.compile(f"(?:{self.name}://)?({digest})").fullmatch)

    def __reduce__(self) -> tuple[Any, ...]:
        return algorithm, (self.name,)

    def of(self, data: bytes) -> str:
        """The digest of `data`, in lower case."""
        digest: str = self.new(data).hexdigest()
        return digest

    def of_pieces(self, read: Callable[[], bytes]) -> str:
        """The digest of what `read` returns, called until it returns nothing."""
        state = self.new()
        while piece := read():
            state.update(piece)
        digest: str = state.hexdigest()
        return digest

    def text(self, value: Any) -> str:
        """`value` as text, whether or not that is a digest.

        Parameters
        ----------
        value
            A str; bytes or another buffer of single bytes, which hold the raw digest or its text; or one of these as
            a scalar of NumPy or Arrow.

        Raises
        ------
        TypeError
            `value` is something else, such as None or a number.
        """
        if isinstance(value, str):
            return value
        data = _plain(value)
        if isinstance(data, bytes) and 2 * len(data) == self.length and not _is_md5_text(data):
            return data.hex()
        text = as_text(data)
        if text is None:
            raise TypeError(f"expected a {self.name} digest as bytes or str, got {_kind(value)}")
        return text

    def parse(self, value: Any) -> str | None:
        """The lower-case digest that `value` names, bare or as `<name>://<hex>`; None if it names none.

        `value` and TypeError: see `text`.
        """
        match = self._is_uri(value if isinstance(value, str) else self.text(value))
        return None if match is None else match[1].lower()

    def read(self, value: Any) -> tuple[str | None, str]:
        """The lower-case digest that `value` names, and ""; or None, and the reason. Never raises."""
        if isinstance(value, str) and (match := self._is_uri(value)) is not None:
            return match[1].lower(), ""
        if is_null(value):
            return None, "null"
        try:
            digest = self.parse(value)
        except (TypeError, ValueError) as error:  # ValueError: a memoryview that was released
            return None, str(error)
        if digest is not None:
            return digest, ""
        for other in ALGORITHMS.values():
            if other is not self and other.parse(value) is not None:
                return None, f"the length is that of {other.name}, not of {self.name}"
        return None, f"not a digest: a {self.name} has {self.length} hexadecimal characters"


# hashlib's functions refuse md5 and sha1 on hardened systems, unless the use is declared to be harmless.
ALGORITHMS = {
    name: Algorithm(name, partial(getattr(hashlib, name), usedforsecurity=False)) for name in ("sha1", "sha256", "md5")
}
# What guards bytes that never matched their digest: see `bitstore._caches`. It names no blobs.
CHECKSUM = Algorithm("checksum", partial(hashlib.blake2b, digest_size=16))


def algorithm(name: str) -> Algorithm:
    """The algorithm called `name`: `"sha1"`, `"sha256"` or `"md5"`. ValueError for anything else."""
    try:
        return ALGORITHMS[name]
    except (KeyError, TypeError):
        raise ValueError(f"unknown digest algorithm {name!r}: choose one of {', '.join(ALGORITHMS)}") from None


def as_text(value: Any) -> str | None:
    """A str, a buffer of bytes or a scalar of these as text, with escapes for what is not UTF-8; None: neither."""
    data = _plain(value)
    return data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data


def is_null(value: Any) -> bool:
    """Whether `value` is what a table says for a cell without a value: None, NaN, NaT, `pandas.NA`, an Arrow null."""
    if isinstance(value, (str, bytes)):  # by far the most
        return False
    if value is None or type(value).__name__ in ("NAType", "NaTType", "NullScalar"):
        return True
    try:
        return is_null(value.as_py()) if hasattr(value, "as_py") else bool(value != value)
    except (TypeError, ValueError):  # an array compares to an array; text of Arrow that is not UTF-8
        return False


def _plain(value: Any) -> str | bytes | None:
    """`value` as str or bytes, if it is text or a buffer of single bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return bytes(value)
    if hasattr(value, "as_py"):  # of Arrow
        try:
            value = value.as_py()
        except UnicodeDecodeError:
            value = value.as_buffer()
        return None if hasattr(value, "as_py") else _plain(value)
    if getattr(getattr(value, "dtype", None), "kind", "") == "V":  # numpy.void: bytes of any length
        return bytes(value.tobytes())
    try:
        view = memoryview(value)
    except TypeError:
        return None
    # A number of NumPy is a buffer as well, of which 16 bytes would pass for an md5.
    return view.tobytes() if view.itemsize == 1 and view.format in ("B", "b", "c") else None


def _is_md5_text(data: bytes) -> bool:
    # Both a raw sha256 and the text of an md5 have 32 bytes; only one of 10**38 digests consists of such characters.
    return len(data) == 32 and ALGORITHMS["md5"].is_digest(data.decode("ascii", "replace")) is not None


def _kind(value: Any) -> str:
    kind = type(value)
    return f"{kind.__name__} {value!r:.40}" if isinstance(value, (int, float)) else kind.__name__
