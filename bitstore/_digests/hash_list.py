"""Lists of digests: text, tables and Parquet, also compressed. They are streamed, never held."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bitstore._digests.lists.expand import PIECE, BadStream, expanded, with_head
from bitstore._digests.lists.following import Following, Mark
from bitstore._digests.lists.header import algorithm_of
from bitstore._digests.lists.lines import Line, digest_lines, failure_lines, split_lines
from bitstore._digests.lists.parquet import MAGIC, read_parquet
from bitstore._digests.lists.rows import ListError, Refused, Row, Rows
from bitstore._digests.lists.tables import as_csv, as_json
from bitstore._support.digests import ALGORITHMS, Algorithm
from bitstore._support.digests import algorithm as digest_algorithm

__all__ = ["Entry", "HashList", "ListError"]

_SAMPLE = 1000  # rows that are looked at before anything begins
_SHOWN = 70  # characters of a row in an error


class Entry(NamedTuple):
    """One line of a text file, or row of a table."""

    # Number of the line or row, from 1.
    number: int
    # What the row holds, for people.
    text: str
    # The digest in lower case; None if the row has none.
    digest: str | None
    # Why the row has no digest; "" if it has one.
    reason: str = ""


class HashList:
    """The digests in a file: the entries of one algorithm, and what else its rows hold with the reason.

    Formats, which are known by their content: text with a digest on each line (or what sha1sum, the BSDs' md5 and
    openssl print), lines ended by LF, CR LF, CR or NUL; CSV with a header; JSON lines; Parquet. Text may be compressed
    with gzip, zstd, xz or bzip2.

    Parameters
    ----------
    source
        A path, or `-` for standard input.
    column
        Column of a table, or key of JSON objects; None: the one called like the algorithm, `digest` or `hash`.
    algorithm
        What the digests must be; None: what most of the first rows are.
    failures
        The list is a `failed.tsv`: digests are followed by a tab and an error.
    following
        What was read of the list before, and is left out; None: all of it is read.

    Raises
    ------
    ListError
        The file cannot be read, is no list, has no such column or several, or holds digests of another algorithm.
    """

    def __init__(
        self,
        source: str,
        *,
        column: str | None = None,
        algorithm: str | None = None,
        failures: bool = False,
        following: Following | None = None,
    ) -> None:
        self._source = source
        # What was read of the list before, and is left out; None: all of it is read.
        self.following = following
        self._column = column
        self._chosen: str | None = None  # column or key of a table of text that is read
        self._failures = failures
        # Whether the file is a table, in which a row without a digest is a bad row and not a sign of another format.
        self._table = False
        # Algorithm that the chosen column is called like.
        self._named: str | None = None
        # Column of a Parquet file that is read; None: the list is no Parquet file.
        self.parquet_column: str | None = None
        # Number of rows, as the format says it or the length of the file lets it be estimated; None: unknown.
        self.total: int | None = None
        try:
            wanted = None if algorithm is None else digest_algorithm(algorithm)
        except ValueError as error:
            raise ListError(str(error)) from None
        try:
            self._rows = self._open(algorithm)
            sample = list(itertools.islice(self._rows, _SAMPLE))
        except (OSError, BadStream) as error:
            raise ListError(f"cannot read {self._source}: {error}") from error
        before = None if following is None or (following.changed and sample) else following.mark
        if before is not None and wanted in (None, digest_algorithm(before.algorithm)):
            self.algorithm = digest_algorithm(before.algorithm)  # whatever stands in the new lines
        else:
            self.algorithm = self._choose(sample, wanted)
        if following is not None:
            following.length = self.algorithm.length
        self._rows = itertools.chain(sample, self._rows)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, once. Raises `ListError` where the file breaks off."""
        read = self.algorithm.read
        number = 0
        skipped = 0 if self.following is None else self.following.skipped
        try:
            for row, text, value in self._rows:
                number = row + skipped
                if isinstance(value, Refused):
                    yield Entry(number, text, None, value.reason)
                else:
                    yield Entry(number, text, *read(value))
        except (OSError, BadStream) as error:
            raise ListError(f"{self._source} breaks off after line {number}: {error}") from error

    def mark(self) -> Mark:
        """How far the list was read, once it was read to its end. It is a list that is followed."""
        assert self.following is not None
        return self.following.made(self.algorithm.name, self.parquet_column or self._chosen)

    def _open(self, algorithm: str | None) -> Rows:
        source = self._source
        if source == "-" and sys.stdin is None:
            raise ListError("cannot read the list from standard input: it is closed")
        try:
            stream: Any = sys.stdin.buffer if source == "-" else open(source, "rb")  # noqa: SIM115
            pieces = _pieces(stream)
            head, pieces = with_head(pieces, len(MAGIC))
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            raise ListError(f"cannot read the list {source}: {getattr(error, 'strerror', None) or error}") from error
        if head.startswith(MAGIC):
            if source == "-":
                raise ListError("a Parquet file cannot be read from standard input: give its path")
            stream.close()
            if not Path(source).is_file():
                raise ListError(f"{source} is a pipe with a Parquet file: give the path of the file itself")
            if self.following is not None:
                with open(source, "rb") as whole:
                    if self.following.is_same(whole):
                        return iter(())
            rows, name, self.total = read_parquet(source, self._column, algorithm)
            self._table, self._named = True, algorithm_of(name)
            self.parquet_column = name
            return rows
        following = self.following
        if following is None:
            pieces, packed = expanded(pieces)
        else:
            if not Path(source).is_file():
                raise ListError(f"{source} is no file, so what was added to it since it was read is unknown")
            pieces, packed = following.pieces(open(source, "rb")), True  # noqa: SIM115
        head, pieces = with_head(pieces, PIECE)
        if following is not None and following.mark is not None and not following.changed:
            self._column = self._column or following.mark.column
        if head[257:262] == b"ustar":  # https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
            raise ListError(f"{source} is a tar archive: give the list that is in it")
        if following is not None and following.left is not None:
            end = max(b"\n", b"\r", b"\0", key=head.count)
            self.total = following.left * head.count(end) // max(1, head.rfind(end) + 1)
        if not packed and source != "-" and Path(source).is_file():
            end = max(b"\n", b"\r", b"\0", key=head.count)
            self.total = max(1, Path(source).stat().st_size * head.count(end) // max(1, head.rfind(end) + 1))
        return self._text_rows(split_lines(pieces, head, source), algorithm)

    def _text_rows(self, lines: Iterator[Line], algorithm: str | None) -> Rows:
        if self._failures:
            return failure_lines(lines)
        first = next((line for line in lines if not line.text.startswith("#")), None)
        if first is None:
            return iter(())
        lines = itertools.chain([first], lines)
        found: tuple[Rows, str | None] | None
        if _is_json(first.text):
            found = as_json(lines, first, self._source, self._column, algorithm)
        else:
            found = as_csv(lines, first, self._source, self._column, algorithm)
        if found is not None:
            rows, name = found
            self._table, self._named = True, algorithm_of(name or "")
            self._chosen = name
            if self.following is not None and not _is_json(first.text):
                self.following.header_lines = first.number
            return rows
        if self._column is not None:
            raise ListError(f"{self._source} is no table with a header, so it has no column {self._column!r}")
        return digest_lines(lines)

    def _choose(self, sample: list[Row], wanted: Algorithm | None) -> Algorithm:
        """The algorithm of the list, by its first rows."""
        counts = Counter(kind for row in sample for kind in ALGORITHMS.values() if _has_digest(row, kind))
        if not counts and sample and not self._table:
            raise ListError(
                f"{self._source} begins with no {', '.join(ALGORITHMS)} digest but with {sample[0].text[:_SHOWN]!r}: "
                "a list has a digest on each line, or is a table with a header (--column)"
            )
        if wanted is not None:
            if counts and wanted not in counts:
                kinds = " and ".join(kind.name for kind in counts)
                raise ListError(f"{self._source} holds {kinds} digests, but the stores are asked for {wanted.name}")
            return wanted
        if counts:
            ((best, count), *_) = counts.most_common()
            if 2 * count <= counts.total():
                kinds = " and ".join(f"{count} {kind.name}" for kind, count in counts.most_common())
                raise ListError(f"{self._source} holds {kinds} digests: say which are meant (--algorithm)")
            return best
        if self._named is not None:
            return digest_algorithm(self._named)
        known = ", ".join(ALGORITHMS)
        what = "has no digest in its first rows" if sample else "is empty"
        raise ListError(f"{self._source} {what}: name the algorithm ({known}; --algorithm) to go on")


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(PIECE):
            yield piece


def _is_json(text: str) -> bool:
    """Whether a file that begins with the line `text` is JSON, of whatever form."""
    if text[0] == '"':  # or a quoted header of CSV
        return any(kind.parse(text.strip('"')) is not None for kind in ALGORITHMS.values())
    return text[0] == "{" or (text[0] == "[" and text[1:].lstrip()[:1] in ("", '"', "{", "["))


def _has_digest(row: Row, kind: Algorithm) -> bool:
    return not isinstance(row.value, Refused) and kind.read(row.value)[0] is not None
