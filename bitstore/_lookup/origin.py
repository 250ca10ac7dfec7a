"""The version of a blob of which a partial file has the beginning, as a file next to it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Origin"]

_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)").fullmatch
_STRONG = re.compile(r"(?!W/)[\x21-\x7e]+").fullmatch  # an ETag by which two answers are known to be of the same bytes


class Origin(NamedTuple):
    """What the bytes of a partial file are the beginning of.

    Attributes
    ----------
    url
        A hash of the URL.
    etag
        The strong ETag that the server gave with the first byte.
    size
        Bytes of the whole; None: the server did not say.
    """

    url: str
    etag: str
    size: int | None

    @classmethod
    def of_answer(cls, url: str, headers: Mapping[str, str]) -> Origin | None:
        """What the headers of a whole answer name; None: no version that can be asked for again."""
        etag, length = headers.get("etag", ""), headers.get("content-length", "")
        return cls(url, etag, int(length) if _LENGTH(length) else None) if _STRONG(etag) else None

    @classmethod
    def read(cls, path: Path) -> Origin | None:
        """What the file at `path` says; None: nothing that makes sense."""
        try:
            found = json.loads(path.read_text())
            etag, url, size = found["etag"], found["url"], found["size"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        sound = isinstance(url, str) and isinstance(etag, str) and _STRONG(etag)
        return cls(url, etag, size) if sound and (size is None or isinstance(size, int)) else None

    def write(self, path: Path) -> None:
        """Say it in the file at `path`."""
        path.write_text(json.dumps(self._asdict()))

    def explains(self, url: str, length: int) -> bool:
        """Whether `length` bytes can be a beginning of what is at `url`."""
        return self.url == url and length <= (self.size or length)

    def goes_on(self, headers: Mapping[str, str], start: int) -> bool:
        """Whether the headers of a partial answer are of this version, and of its bytes from `start` on."""
        extent = _CONTENT_RANGE(headers.get("content-range", ""))
        return headers.get("etag") == self.etag and extent is not None and int(extent[1]) == start
