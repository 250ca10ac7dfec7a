"""Lists that are tables of text: CSV with a header, and JSON lines. One column holds the digests."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from bitstore._digests.lists.header import digest_column
from bitstore._digests.lists.lines import Line
from bitstore._digests.lists.rows import LONGEST, ListError, Refused, Row, Rows
from bitstore._frames.digest_column import guessed_column
from bitstore._support.digests import ALGORITHMS, as_text

__all__ = ["as_csv", "as_json"]

_DELIMITERS = ",;\t|"
_OBJECTS = 1000  # objects in which the key of the digests is looked for
_SHOWN = 200  # characters of a row that has no value to show


def as_csv(
    lines: Iterator[Line], first: Line, source: str, wanted: str | None, algorithm: str | None
) -> tuple[Rows, str] | None:
    """The rows below a header, and the name of the column that holds the digests; None: `first` is no header.

    Parameters
    ----------
    lines
        The header `first`, and the lines below it.
    wanted, algorithm
        See `digest_column`.
    """
    rows = [_fields(first.text, delimiter) for delimiter in _DELIMITERS]
    names = max(rows, key=len)
    delimiter = _DELIMITERS[rows.index(names)]
    if not first.whole or any(kind.parse(name) is not None for kind in ALGORITHMS.values() for name in names):
        return None
    if wanted is None and not guessed_column(names, algorithm):
        return None
    name = digest_column(names, source, wanted, algorithm)
    return _csv_rows(lines, delimiter, names, names.index(name), source), name


def _fields(text: str, delimiter: str) -> list[str]:
    try:
        row = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error:
        return []
    return [name.strip() for name in row]


def _csv_rows(lines: Iterator[Line], delimiter: str, names: list[str], column: int, source: str) -> Rows:
    number = next(lines).number  # of the line that was read last
    whole = True  # whether all lines of the row were read in full

    def texts() -> Iterator[str]:
        nonlocal number, whole
        for line in lines:
            number = line.number
            whole = whole and line.whole
            yield line.text + "\n"

    reader = csv.reader(texts(), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        begun, whole = number, True
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ListError(f"{source} breaks off in the row after line {begun}: {error}") from error
        if fields is None:
            return
        if not fields or fields[0].startswith("#"):
            continue
        text = fields[column].strip() if column < len(fields) else ""
        value: Any = text or Refused(f"no value in the column {names[column]!r}")
        if not whole:
            value = Refused(f"longer than {LONGEST} characters")
        elif any(fields[len(names) :]):
            value = Refused(f"{len(fields)} fields, and the header has {len(names)}")
        elif any("\n" in field for field in fields) and _several(fields):
            value = Refused("quotes around several lines with digests")
        yield Row(number, text or delimiter.join(fields)[:_SHOWN], value)


def _several(fields: list[str]) -> bool:
    """Whether quotes have made one row of several, such as two stray quotes in different lines."""
    words = (word for field in fields if "\n" in field for word in re.split(r"[\s\"',;|]+", field))
    return any(kind.parse(word) is not None for word in words for kind in ALGORITHMS.values())


def as_json(
    lines: Iterator[Line], first: Line, source: str, wanted: str | None, algorithm: str | None
) -> tuple[Rows, str | None]:
    """The lines of JSON lines, and the key of the digests; None: the lines are texts.

    Raises
    ------
    ListError
        `first` is something else, such as the beginning of an array or of an object of several lines.
    """
    found: Any
    kind, found = _parsed(first.text) if first.whole else ("bad", None)
    if kind not in ("object", "text"):
        raise ListError(
            f"{source} is JSON, but not one object on each line (JSON lines): jq -c makes them, as in jq -c '.[]'"
        )
    key = None
    if kind == "object":
        begun = [next(lines)]
        names = [name for name, _ in found]
        # Writers such as Spark leave a key out whose value is null, so the first objects may lack it.
        while not _has_column(names, wanted, algorithm) and len(begun) < _OBJECTS:
            line = next(lines, None)
            if line is None:
                break
            begun.append(line)
            _, pairs = _parsed(line.text)
            names += [name for name, _ in pairs if name not in names] if isinstance(pairs, _Pairs) else []
        key = digest_column(names, source, wanted, algorithm)
        lines = itertools.chain(begun, lines)
    elif wanted is not None:
        raise ListError(f"{source} has texts and no objects on its lines, so it has no key {wanted!r}")
    return (_json_row(line, key) for line in lines), key


def _parsed(text: str) -> tuple[str, Any]:
    """Kind and value of a JSON line: an object as its pairs, a text as itself."""
    found: Any
    try:
        found = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return "bad", None
    if isinstance(found, _Pairs):
        return "object", found
    return ("text" if isinstance(found, str) else "other"), found


def _has_column(names: list[str], wanted: str | None, algorithm: str | None) -> bool:
    return wanted in names if wanted is not None else bool(guessed_column(names, algorithm))


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON, whose keys may repeat."""


def _json_row(line: Line, key: str | None) -> Row:
    number, text, whole = line
    found: Any
    value: Any
    kind, found = _parsed(text) if whole else ("bad", None)
    if not whole:
        value = Refused(f"longer than {LONGEST} characters")
    elif text[0] not in '{"' or kind == "text":
        value = found if kind == "text" else text  # a bare digest is one, whatever JSON it would be
    elif kind != "object":
        value = Refused("not a JSON object")
    else:
        values = [value for name, value in found if name == key]
        value = values[0] if len(values) == 1 else Refused(f"{len(values) or 'no'} values of {key!r}")
    shown = as_text(value)
    if shown is None:
        shown = text if isinstance(value, (Refused, _Pairs, list)) else json.dumps(value)
    return Row(number, shown[:_SHOWN], value)
