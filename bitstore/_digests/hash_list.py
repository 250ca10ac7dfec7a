"""Lists of digests: text, gzip-compressed text, or a Parquet column. They are streamed, never held."""

from __future__ import annotations

import gzip
import io
import itertools
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bitstore._support.digests import ALGORITHMS, Algorithm
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.errors import BitstoreError

__all__ = ["Entry", "HashList", "ListError"]

_SAMPLE = 1000  # entries that are looked at before anything begins
_LONGEST_LINE = 65536  # bytes; a file that is no list may be one endless line
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_NOT_UTF_8 = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\0\0\xfe\xff": "UTF-32"}
# A line of sha1sum and its kin: https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html
_SUM = re.compile(r"\\?([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}) [ *].+").fullmatch
_BUFFER = 1 << 20  # bytes; without a buffer all of a row group's column is read at once


class ListError(BitstoreError, ValueError):
    """A list of digests cannot be read."""


class Entry(NamedTuple):
    """One line of a text file, or row of a Parquet file.

    Attributes
    ----------
    number
        Which line or row, from 1.
    text
        What stands there.
    digest
        The digest in lower case; None if it is none.
    """

    number: int
    text: str
    digest: str | None


class HashList:
    """The digests in a file: one a line, or the lines that sha1sum and its kin print, or a column.

    Parameters
    ----------
    source
        A path, or `-` for standard input.
    column
        Column of a Parquet file; None: the one called like the algorithm, `digest` or `hash`.
    algorithm
        What the digests must be; None: what the first good line is.
    failures
        The list is a `failed.tsv`: digests are followed by a tab and an error.

    Raises
    ------
    ListError
        It cannot be read, has no such column, or holds digests of another algorithm.
    """

    def __init__(
        self, source: str, *, column: str | None = None, algorithm: str | None = None, failures: bool = False
    ) -> None:
        self._source = source
        self._failures = failures
        self._sums = False  # lines are longer than digests
        self.total: int | None = None
        self._texts = self._open(column, algorithm)
        try:
            sample = list(itertools.islice(self._texts, _SAMPLE))
        except ListError:
            raise
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ListError(f"cannot read {self._source}: {error}") from error
        self.algorithm = self._check([text for _, text in sample], algorithm)
        if self.total is None:
            self.total = self._estimate()
        self._texts = itertools.chain(sample, self._texts)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, once. Raises `ListError` where the file breaks off."""
        parse = self.algorithm.parse
        number = 0
        try:
            for number, text in self._texts:
                yield Entry(number, text, parse(text))
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ListError(f"{self._source} breaks off after line {number}: {error}") from error

    def _open(self, column: str | None, algorithm: str | None) -> Iterator[tuple[int, str]]:
        try:
            stream: Any = sys.stdin.buffer if self._source == "-" else open(self._source, "rb")  # noqa: SIM115
            start = stream.peek(4)[:4]
        except OSError as error:
            raise ListError(f"cannot read the list {self._source}: {error.strerror or error}") from error
        if start == _PARQUET:
            if self._source == "-":
                raise ListError("a Parquet file cannot be read from standard input: give its path")
            stream.close()
            return self._rows(column, algorithm)
        for mark, encoding in _NOT_UTF_8.items():
            if start.startswith(mark):
                stream.close()
                raise ListError(f"{self._source} is {encoding} text: save it as UTF-8")
        if column is not None:
            raise ListError(f"{self._source} is no Parquet file, so it has no column {column!r}")
        if start[:2] == _GZIP:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=stream))
        return self._lines(stream)

    def _lines(self, stream: BinaryIO) -> Iterator[tuple[int, str]]:
        with stream:
            for number in itertools.count(1):
                line = stream.readline(_LONGEST_LINE)
                if not line:
                    return
                rest = line
                while not rest.endswith(b"\n") and len(rest) == _LONGEST_LINE:
                    rest = stream.readline(_LONGEST_LINE)
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace").strip()
                if self._failures:
                    text = text.partition("\t")[0]
                elif " " in text and (match := _SUM(text)) is not None:
                    text = match[1]
                    self._sums = True
                if text and not text.startswith("#"):
                    yield number, text

    def _rows(self, column: str | None, algorithm: str | None) -> Iterator[tuple[int, str]]:
        try:
            import pyarrow as pa
            from pyarrow.parquet import ParquetFile
        except ImportError as error:
            raise ListError(f"{self._source} is a Parquet file: pip install 'epic-bitstore[cli]' to read it") from error
        try:
            file = ParquetFile(self._source, buffer_size=_BUFFER)
            schema = file.schema_arrow
        except Exception as error:  # a broken file makes pyarrow raise errors of all kinds, Unicode errors among them
            raise ListError(f"cannot read the Parquet file {self._source}: {error}") from error
        name = _column(self._source, schema.names, column, algorithm)
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(check(kind) for check in _string_checks(pa)):
            raise ListError(f"column {name!r} of {self._source} holds {kind}: expected text, or the digests as bytes")
        self.total = file.metadata.num_rows
        return self._values(file, name)

    def _values(self, file: Any, name: str) -> Iterator[tuple[int, str]]:
        number = 0
        batches = file.iter_batches(columns=[name], batch_size=16384)
        while True:
            try:
                batch = next(batches, None)
                values = [] if batch is None else batch.column(0).to_pylist()
            except Exception as error:  # as above
                raise ListError(f"{self._source} breaks off after row {number}: {error}") from error
            if batch is None:
                return
            for value in values:
                number += 1
                yield number, "null" if value is None else value if isinstance(value, str) else _text(value)

    def _check(self, texts: list[str], wanted: str | None) -> Algorithm:
        """The algorithm of the list, by its first entries."""
        kinds = [kind for text in texts for kind in ALGORITHMS.values() if kind.parse(text) is not None]
        if wanted is None:
            if not kinds:
                known = ", ".join(ALGORITHMS)
                if not texts:
                    raise ListError(f"{self._source} is empty: name the algorithm ({known}; --algorithm) to go on")
                raise ListError(
                    f"{self._source} begins with no {known} digest but with {texts[0][:70]!r}: "
                    "a list has a digest on each line; if such lines may come later, name the algorithm (--algorithm)"
                )
            return kinds[0]
        try:
            algorithm = digest_algorithm(wanted)
        except ValueError as error:
            raise ListError(str(error)) from None
        if kinds and algorithm not in kinds:
            raise ListError(f"{self._source} holds {kinds[0].name} digests, but the stores are asked for {wanted}")
        return algorithm

    def _estimate(self) -> int | None:
        path = Path(self._source)
        if self._source == "-" or not path.is_file() or self._failures or self._sums or path.suffix == ".gz":
            return None
        return max(1, path.stat().st_size // (self.algorithm.length + 1))


def _column(source: str, names: list[str], column: str | None, algorithm: str | None) -> str:
    told = f"{source} has the columns {', '.join(map(repr, names)) or '(none)'}"
    if column is not None:
        if column not in names:
            raise ListError(f"{told}, and no {column!r}")
        return column
    guesses: Iterable[str] = (*([algorithm] if algorithm else ALGORITHMS), "digest", "hash")
    for guess in guesses:
        for name in names:
            if name.lower() == guess:
                return name
    raise ListError(f"{told}: say which of them holds the digests (--column)")


def _string_checks(pa: Any) -> list[Any]:
    types = pa.types
    names = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary")
    return [getattr(types, f"is_{name}") for name in names if hasattr(types, f"is_{name}")]


def _text(value: bytes) -> str:
    # Digests as bytes: either the raw 16, 20 or 32 of them, or their hexadecimal form.
    for kind in ALGORITHMS.values():
        if 2 * len(value) == kind.length:
            return kind.text(value)
    return value.decode("utf-8", errors="replace")
