"""Lists of text: their encoding and separators, and the lines that programs for checksums print."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from bitstore._digests.lists.rows import LONGEST, ListError, Refused, Row, Rows
from bitstore._support.digests import ALGORITHMS

__all__ = ["Line", "digest_lines", "ends_with_nul", "failure_lines", "split_lines"]

_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\0\0\xfe\xff": "UTF-32"}
_HEX = "[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}"
# What sha1sum and its kin print: https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html.
# Others, such as `md5 -r` of the BSDs, leave one blank.
_SUM = re.compile(rf"\\?({_HEX}) [ *]?(.+)", re.DOTALL).fullmatch
# What `sha1sum --tag`, the BSDs ("SHA1 (name) = ...") and openssl ("SHA2-256(name)= ...", "(stdin)= ...") print.
_TAG = re.compile(r"\\?([A-Za-z0-9/_-]*) ?\(.*\) ?= ?([0-9a-fA-F]+)", re.DOTALL).fullmatch
_BEGINS_WITH_DIGEST = re.compile(rf"[\r\n]\\?(?:{_HEX})\b").search
_is_digest = re.compile(_HEX).fullmatch
_TAGS = {"sha1": "sha1", "sha256": "sha256", "sha2256": "sha256", "md5": "md5"}


class Line(NamedTuple):
    """One line of text."""

    # Number of the line, from 1.
    number: int
    # The line without white space around it; of a line that is too long its beginning.
    text: str
    # Whether `text` is all of the line.
    whole: bool


def split_lines(pieces: Iterator[bytes], head: bytes, source: str) -> Iterator[Line]:
    """The lines of a text in UTF-8 that are not blank. What ends lines is LF, CR LF, CR or, where it begins so, NUL.

    Parameters
    ----------
    pieces
        All of the text.
    head
        Its beginning, to look at.
    source
        Name of the list, for errors.

    Raises
    ------
    ListError
        The text is UTF-16 or UTF-32.
    """
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    even, odd = head[:64:2], head[1:64:2]
    if encoding is None and len(odd) > 2 and ((all(even) and not any(odd)) or (all(odd) and not any(even))):
        encoding = "UTF-16"
    if encoding is not None:
        raise ListError(f"{source} is {encoding} text: save it as UTF-8")
    return _split(pieces, "\0" if ends_with_nul(head) else "\n")


def ends_with_nul(head: bytes) -> bool:
    """Whether what ends the lines of a text that begins with `head` is NUL."""
    record, nul, _ = head.partition(b"\0")
    if not nul or not record:  # a file of nothing but NUL is what a crash of a machine leaves
        return False
    text = record.decode("utf-8-sig", "replace")
    # The names of files that `sha1sum -z` prints may have several lines; a text with a NUL somewhere has more digests.
    one_sum = (_SUM(text) or _TAG(text)) is not None and _BEGINS_WITH_DIGEST(text) is None
    return one_sum or not re.search("[\r\n]", text)


def _split(pieces: Iterator[bytes], separator: str) -> Iterator[Line]:
    decoder: Any = codecs.getincrementaldecoder("utf-8-sig")("backslashreplace")
    if separator == "\n":
        decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
    number = 0
    rest = ""  # of the last line, whose end has not come yet
    whole = True  # false: `rest` is the beginning of a line that is too long
    final = False
    while not final:
        piece = next(pieces, b"")
        final = not piece
        lines = decoder.decode(piece, final=final).split(separator)
        for line in lines[:-1]:
            number += 1
            text = (rest + line if whole else rest).strip("\ufeff \t\n\r\v\f")
            if text:
                yield Line(number, text[:LONGEST], whole and len(text) <= LONGEST)
            rest, whole = "", True
        if whole:
            rest += lines[-1]
            whole = len(rest) <= LONGEST
    if text := rest.strip("\ufeff \t\n\r\v\f"):
        yield Line(number + 1, text[:LONGEST], whole)


def digest_lines(lines: Iterator[Line]) -> Rows:
    """Lines that are a digest or what a program for checksums prints. Those that begin with `#` are comments."""
    for number, text, whole in lines:
        if text[0] == "#":
            continue
        if not whole:
            yield Row(number, text, Refused(f"longer than {LONGEST} characters"))
        elif " " in text or "(" in text:
            yield _sum(number, text)
        else:
            yield Row(number, text, text)


def failure_lines(lines: Iterator[Line]) -> Rows:
    """Lines of a `failed.tsv`: a digest, a tab and an error."""
    for number, text, _ in lines:
        digest = text.partition("\t")[0]
        yield Row(number, digest, digest)


def _sum(number: int, text: str) -> Row:
    if (found := _SUM(text)) is not None:
        digest, name = found[1], found[2]
        one_blank = text[found.end(1) + 1] not in " *"
        words = name.split()
        other = (one_blank and words != [digest]) or len(words) > 1
        if (other and all(map(_is_digest, words))) or _BEGINS_WITH_DIGEST(text):
            return Row(number, text, Refused("two digests on one line"))
        return Row(number, digest, digest)
    if (found := _TAG(text)) is None:
        return Row(number, text, text)
    tag, digest = found[1], found[2]
    if tag:
        known = _TAGS.get(tag.lower().replace("-", "").replace("_", ""))
        if known is None:
            return Row(number, text, Refused(f"a digest of {tag}, which is none of {', '.join(ALGORITHMS)}"))
        if len(digest) != ALGORITHMS[known].length:
            return Row(number, text, Refused(f"{len(digest)} characters, and a digest of {tag} is longer or shorter"))
    return Row(number, digest, digest)
