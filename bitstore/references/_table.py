"""The file of a table of references: digests in order, and for each the number of its URL, an offset and a length.

The file is that of a membership index (`bitstore.index._file`) with the magic `BITREFER` and layout 1. Its sections,
each of which begins at a multiple of 8 bytes, are for n digests and m URLs:

    digests      n raw digests in ascending order
    offsets      n numbers of 8 bytes
    lengths      n numbers of 8 bytes; 2**64 - 1: the whole object
    URL numbers  n numbers of 4 bytes
    URL ends     m numbers of 8 bytes: where each URL ends in the text
    URL text     the URLs in UTF-8, one after the other
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from bitstore._support.atomic import Draft
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.index._file import BLOCK, DamagedIndex, IndexFile, SectionWriter

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "MAGIC",
    "WHOLE",
    "DamagedReferences",
    "Reference",
    "ReferenceTable",
    "checked",
    "write_columns",
    "write_references",
]

MAGIC = b"BITREFER"
WHOLE = (1 << 64) - 1  # a length: the whole object
_LAYOUT = 1
_MOST = (1 << 63) - 1  # bytes of an object
_MOST_MARKED = 1_000_000  # rows of a table whose beginnings are marked: that takes 0.2 s
_GUESSES = 6  # steps of a search that guesses by the digest's value, before it goes on by halves


class Reference(NamedTuple):
    """Where a blob lies.

    Attributes
    ----------
    digest
        Of the blob, in hexadecimal.
    url
        Of the object; without a scheme: relative to the base URL of the source that reads it.
    offset
        Where the blob begins in the object, in bytes.
    length
        Bytes of the blob there; None: the blob is the whole object.
    """

    digest: str
    url: str
    offset: int = 0
    length: int | None = None


class DamagedReferences(DamagedIndex):
    """A file is no table of references, or is cut or damaged: it says nothing about any blob."""


class _File(IndexFile):
    magic = MAGIC
    what = "table of references"
    error = DamagedReferences


def checked(url: Any, offset: Any, length: Any) -> tuple[str, int, int | None]:
    """The place of a row, in which a missing length stands for the whole object. Raises ValueError for an invalid one.

    A table that says neither offset nor length has None for them.
    """
    if not isinstance(url, str) or not url:
        raise ValueError(f"the URL is {url!r}: expected a text")
    if length is None and offset in (None, 0):
        return url, 0, None
    offset = 0 if offset is None else offset
    for name, number in (("offset", offset), ("length", length)):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MOST:
            raise ValueError(f"the {name} is {number!r}: expected a number of bytes")
    if offset + length > _MOST:
        raise ValueError(f"the part from {offset} on has {length} bytes: no object is so large")
    return url, offset, length


def write_references(
    path: str | os.PathLike[str],
    references: Iterable[Reference | tuple[Any, ...]],
    algorithm: str,
    *,
    source: str = "",
) -> int:
    """Write a table of references; returns how many digests it has. The file is whole under its name, or as before.

    All of them are held in memory, about 250 bytes each. Of several places of one digest the first one counts.

    Parameters
    ----------
    path
        The file.
    references
        `Reference` objects, or tuples of digest, URL, offset and length (the last two may be left out).
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`.
    source
        What the table was made of, for `ReferenceTable.source`.

    Raises
    ------
    ValueError
        A digest, URL, offset or length is invalid, or the algorithm is unknown.
    OSError
        The disk does not take it.
    """
    kind = digest_algorithm(algorithm)
    numbers: dict[str, int] = {}
    rows: dict[bytes, tuple[int, int, int]] = {}
    for position, row in enumerate(references):
        entry = Reference(*row)
        digest = kind.parse(entry.digest)
        if digest is None:
            raise ValueError(f"reference {position}: {entry.digest!r} is no digest of {kind.name}")
        try:
            url, offset, length = checked(entry.url, entry.offset, entry.length)
        except ValueError as error:
            raise ValueError(f"reference {position}, {digest}: {error}") from None
        number = numbers.setdefault(url, len(numbers))
        rows.setdefault(bytes.fromhex(digest), (number, offset, WHOLE if length is None else length))
    ordered = sorted(rows)
    write_columns(
        Path(path),
        kind.name,
        b"".join(ordered),
        array("Q", [rows[key][1] for key in ordered]),
        array("Q", [rows[key][2] for key in ordered]),
        array("I", [rows[key][0] for key in ordered]),
        [url.encode("utf-8", "surrogateescape") for url in numbers],
        {"source": source},
    )
    return len(ordered)


def write_columns(
    path: Path,
    algorithm: str,
    digests: Any,
    offsets: Any,
    lengths: Any,
    numbers: Any,
    urls: list[bytes],
    description: Mapping[str, Any],
) -> None:
    """Write a table whose columns are buffers already, of digests in ascending order, each of them once."""
    if sys.byteorder != "little" or array("I").itemsize != 4:
        raise OSError("tables of references are written on machines with little-endian numbers alone")
    ends = array("Q")
    end = 0
    for url in urls:
        end += len(url)
        ends.append(end)
    count = len(memoryview(digests).cast("B")) // (digest_algorithm(algorithm).length // 2)
    told = {
        "algorithm": algorithm,
        "count": count,
        "urls": len(urls),
        "text": end,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **description,
    }
    with Draft(path) as draft:
        with draft.path.open("xb") as file:
            out = SectionWriter(file)
            for column in (digests, offsets, lengths, numbers, ends):
                if len(column):
                    out.write(column)
                out.align()
            for url in urls:
                out.write(url)
            out.finish(_LAYOUT, told, MAGIC)
        draft.publish()


class ReferenceTable:
    """An opened table: `find` says where the blob of a digest lies.

    The file is mapped into memory, so that opening takes milliseconds and processes share its pages. Pickles as its
    path. Threads may share it.

    Parameters
    ----------
    path
        The file, as `write_references` makes it.

    Attributes
    ----------
    algorithm
        Name of the algorithm of the digests.
    source
        What the table was made of.

    Raises
    ------
    DamagedReferences
        The file is no table, or is cut or damaged. Damage within is found by the first lookup that would read it.
    OSError
        The file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = file = _File(path)
        told = self.description = file.description
        try:
            self.algorithm = digest_algorithm(told["algorithm"]).name
            self.source = str(told["source"])
            self._size = digest_algorithm(self.algorithm).length // 2
            self._count: int = told["count"]
            at = _aligned(self._size * self._count)
            self._offsets_at, self._lengths_at = at, at + 8 * self._count
            self._numbers_at = self._lengths_at + 8 * self._count
            self._ends_at = self._numbers_at + _aligned(4 * self._count)
            self._text_at = self._ends_at + 8 * told["urls"]
            if file.layout != _LAYOUT or self._text_at + told["text"] != file.size:
                raise ValueError("its sections do not fit its description")
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedReferences(path, f"it does not describe itself as a table does ({error})") from error
        self._offsets = file.section(self._offsets_at, self._lengths_at, "Q")
        self._lengths = file.section(self._lengths_at, self._numbers_at, "Q")
        self._numbers = file.section(self._numbers_at, self._numbers_at + 4 * self._count, "I")
        self._ends = file.section(self._ends_at, self._text_at, "Q")
        # A bit for each way in which a digest may begin, 1 where a row does; 8 to 16 bits a row. None: not made yet.
        self._marks: bytearray | None = None
        self._marks_shift = 64 - (8 * self._count).bit_length()  # bits of a digest's first 64 that have no part in it
        self._denied = 0  # lookups that went through the rows and found nothing
        self._last_url = (-1, "")
        self._urls: list[str] | None = None

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: Any) -> bool:
        return self.find(digest) is not None

    def find(self, digest: Any) -> Reference | None:
        """Where the blob of `digest` lies; None: the table does not name it.

        Raises
        ------
        ValueError
            It is no digest of the table's algorithm.
        DamagedReferences
            The part of the file that would answer is damaged.
        """
        text = digest_algorithm(self.algorithm).parse(digest)
        if text is None:
            raise ValueError(f"{digest!r} is no digest of {self.algorithm}")
        row = self.row(bytes.fromhex(text))
        return None if row is None else self.at(row)

    def lookup(self, digest: str) -> Reference | None:
        """`find` of a digest in lower case, which is one of the table's algorithm. Raises `DamagedReferences`."""
        row = self.row(bytes.fromhex(digest))
        return None if row is None else self.at(row)

    def row(self, key: bytes) -> int | None:
        """The row of a raw digest; None: there is none. Raises `DamagedReferences`."""
        value = int.from_bytes(key[:8], "big")
        if self._marks is not None:
            bit = value >> self._marks_shift
            if not self._marks[bit >> 3] >> (bit & 7) & 1:
                return None
        # Digests are uniform, so that the value of one says about where it is.
        size, view, known = self._size, self._file.view, self._file.known
        low, high = 0, self._count
        floor, ceiling = 0, 1 << 64
        guesses = _GUESSES
        while low < high:
            if guesses:
                guesses -= 1
                middle = low + (value - floor) * (high - low) // (ceiling - floor)
                middle = low if middle < low else high - 1 if middle >= high else middle
            else:
                middle = (low + high) >> 1
            at = middle * size
            if not (known[at // BLOCK] and known[(at + size - 1) // BLOCK]):
                self._file.check(at, at + size)
            found = bytes(view[at : at + size])
            if found == key:
                return middle
            if found < key:
                low, floor = middle + 1, int.from_bytes(found[:8], "big")
            else:
                high, ceiling = middle, int.from_bytes(found[:8], "big") + 1
        self._denied += 1
        if self._denied == self._count >> 3 and self._count <= _MOST_MARKED:
            self._mark()
        return None

    def _mark(self) -> None:
        """Mark how the rows begin, since many lookups find none: nine in ten of the next ones know it at once."""
        end = self._size * self._count
        try:
            self._file.check(0, end)
        except DamagedReferences:
            return  # a lookup that needs the damaged part says so
        marks, shift = bytearray(1 << 61 - self._marks_shift), self._marks_shift - 32
        for (begin,) in struct.iter_unpack(f">I{self._size - 4}x", self._file.view[:end]):
            marks[begin >> shift + 3] |= 1 << (begin >> shift & 7)
        self._marks = marks

    def columns(self) -> tuple[list[bytes], list[int], list[int], list[int]]:
        """Digests, numbers of their URLs, offsets and lengths (`WHOLE`: of no length). Raises `DamagedReferences`."""
        self.check()
        raw = bytes(self._file.view[: self._size * self._count])
        digests = [raw[at : at + self._size] for at in range(0, len(raw), self._size)]
        return digests, self._numbers.tolist(), self._offsets.tolist(), self._lengths.tolist()

    def at(self, row: int) -> Reference:
        """The reference in a row. Raises `DamagedReferences`."""
        check = self._file.check
        check(self._offsets_at + 8 * row, self._offsets_at + 8 * row + 8)
        check(self._lengths_at + 8 * row, self._lengths_at + 8 * row + 8)
        check(self._numbers_at + 4 * row, self._numbers_at + 4 * row + 4)
        start = row * self._size
        check(start, start + self._size)
        length = self._lengths[row]
        digest = bytes(self._file.view[start : start + self._size]).hex()
        url = self._url(self._numbers[row])
        return Reference(digest, url, self._offsets[row], None if length == WHOLE else length)

    def urls(self) -> list[str]:
        """All URLs, also those of no digest. Raises `DamagedReferences`."""
        if self._urls is None:
            self._urls = [self._url(number) for number in range(len(self._ends))]
        return self._urls

    def _url(self, number: int) -> str:
        last, url = self._last_url
        if last == number:
            return url
        at = self._ends_at + 8 * number
        self._file.check(max(at - 8, self._ends_at), at + 8)
        start, end = self._ends[number - 1] if number else 0, self._ends[number]
        self._file.check(self._text_at + start, self._text_at + end)
        text = bytes(self._file.view[self._text_at + start : self._text_at + end])
        url = text.decode("utf-8", "surrogateescape")
        self._last_url = number, url
        return url

    def __iter__(self) -> Any:
        return map(self.at, range(self._count))

    def check(self) -> None:
        """Verify the whole file. Raises `DamagedReferences`."""
        self._file.check(0, self._file.size)

    def close(self) -> None:
        """Give the memory back; the table cannot be asked any more."""
        for section in (self._offsets, self._lengths, self._numbers, self._ends):
            section.release()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self._file.path),)

    def __repr__(self) -> str:
        return f"ReferenceTable({str(self._file.path)!r}, {self._count} {self.algorithm} digests)"


def _aligned(size: int) -> int:
    return size + -size % 8
