"""A list of keys of a bucket or of paths: each is mapped back to the digest that has it by a key template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote

from bitstore._digests.hash_list import HashList, ListError
from bitstore._digests.lists.lines import Line
from bitstore._digests.lists.rows import Refused, Row, Rows
from bitstore._digests.template import KeyTemplate
from bitstore._indexing.reading import Reading
from bitstore._support.digests import ALGORITHMS, Algorithm, as_text
from bitstore.index import IndexBuilder

__all__ = ["KeyList"]

_PORTION = 65_536  # entries
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match


class KeyList(HashList):
    """The keys in a file: text with a key on each line, or a column of a table. They are streamed, never held.

    Parameters
    ----------
    source
        A path, or `-` for standard input.
    template
        Which keys are those of digests. An entry is a whole URL, or a key of the template's bucket; of files, a path.
    column
        Column of a table, or key of JSON objects; None: text, with a key on each line.
    algorithm
        What the digests must be; None: what most of the first keys are.

    Raises
    ------
    ListError
        The file cannot be read, has no such column, or its first keys are those of no digest.
    """

    def __init__(self, source: str, template: KeyTemplate, *, column: str | None, algorithm: str | None) -> None:
        self._template = template
        self._root = "/".join([*template.start.split("/")[:3], ""])
        super().__init__(source, column=column, algorithm=algorithm)

    def add_to(self, builder: IndexBuilder, reading: Reading) -> None:
        """Add the digests of all keys; other keys are counted. Raises `ListError` where the list breaks off."""
        rows = iter(self._rows)
        while portion := list(islice(rows, _PORTION)):
            digests = [digest for row in portion if (digest := self._digest(row, self.algorithm)) is not None]
            builder.add(digests)
            reading.add(len(digests), len(portion) - len(digests))

    def _text_rows(self, lines: Iterator[Line], algorithm: str | None) -> Rows:
        if self._column is not None:
            return super()._text_rows(lines, algorithm)
        return (Row(line.number, line.text, line.text if line.whole else Refused("too long")) for line in lines)

    def _choose(self, sample: list[Row], wanted: Algorithm | None) -> Algorithm:
        kinds = ALGORITHMS.values() if wanted is None else (wanted,)
        counts = {kind: sum(self._digest(row, kind) is not None for row in sample) for kind in kinds}
        best = max(counts, key=lambda kind: counts[kind])
        if counts[best] or wanted is not None:
            return best
        first = f", such as {sample[0].text!r:.80}" if sample else ""
        raise ListError(
            f"none of the first {len(sample):,} keys of {self._source} is a digest below {self._template.shown}"
            f"{first}: is --template right? --algorithm names the digests ({', '.join(ALGORITHMS)}) to go on"
        )

    def _digest(self, row: Row, kind: Algorithm) -> str | None:
        text = None if isinstance(row.value, Refused) else as_text(row.value)
        if text is None:
            return None
        if not _URL(text):
            is_path = self._root.lower() == "file:///"
            text = self._root + (quote(text.removeprefix("/")) if is_path else text)
        return self._template.digest_of(text, kind.length)
