"""Key templates: where in a bucket the blob of a digest lies."""

from __future__ import annotations

import re
from functools import lru_cache

from bitstore._support.redact import redact_url

__all__ = ["KeyTemplate", "key_template"]

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_SLICE = re.compile(r"digest(?:\[([0-9]*):([0-9]*)\])?")


class KeyTemplate:
    """A prefix, or a pattern with `{digest}` or slices of it.

    `"s3://bucket/files/"` stands for `"s3://bucket/files/{digest}"`;
    `"gs://bucket/{digest[:2]}/{digest}.gz"` spreads blobs over folders. `{{` and `}}` are literal braces.

    Parameters
    ----------
    text
        The prefix or pattern.

    Raises
    ------
    ValueError
        There are braces, but no `{digest}`; or a field is something else.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"expected a prefix or key template as str, got {type(text).__name__}")
        self.text = text
        # The text without passwords and signatures, for errors and statistics.
        self.shown = redact_url(text)
        self._parts: list[str | slice] = []
        covered = 0
        fields = 0
        for match in _FIELD.finditer(text):
            self._parts.append(text[covered : match.start()])
            covered = match.end()
            token = match[0]
            if token in ("{{", "}}"):
                self._parts.append(token[0])
                continue
            field = None if match[1] is None else _SLICE.fullmatch(match[1])
            if field is None:
                raise ValueError(
                    f"key template {self.shown!r}: {token!r} is not a field; "
                    "write {digest}, or a slice such as {digest[:2]}, and {{ }} for literal braces"
                )
            start, stop = field[1], field[2]
            self._parts.append(slice(int(start) if start else None, int(stop) if stop else None))
            fields += 1
        self._parts.append(text[covered:])
        if fields == 0:
            if covered:
                raise ValueError(f"key template {self.shown!r} names no {{digest}}: every blob would get the same key")
            self._parts.append(slice(None))
        elif not self._covers_digest():
            raise ValueError(
                f"key template {self.shown!r} does not contain the whole {{digest}}: two blobs would share a key"
            )
        self._parts = [part for part in self._parts if part != ""]
        # By far the most templates are a plain prefix, and this is done for every blob at every tier.
        self._prefix = text if fields == 0 else None
        # A plain prefix whose end looks like the name of a folder, and to which digests are appended as it is.
        self.lacks_slash = fields == 0 and text[-1:].isalnum()

    def _covers_digest(self) -> bool:
        longest = 128
        seen: set[int] = set()
        for part in self._parts:
            if isinstance(part, slice):
                seen.update(range(longest)[part])
        return len(seen) == longest

    @property
    def folder(self) -> str:
        """The URL of the folder that all blobs have in common."""
        first = self._parts[0] if self._parts and isinstance(self._parts[0], str) else ""
        return first.rpartition("/")[0] + "/"

    def url(self, digest: str) -> str:
        """The URL of `digest` (lower-case hexadecimal)."""
        if self._prefix is not None:
            return self._prefix + digest
        return "".join([part if isinstance(part, str) else digest[part] for part in self._parts])

    def __repr__(self) -> str:
        return f"KeyTemplate({self.shown!r})"


@lru_cache(maxsize=1024)
def key_template(text: str) -> KeyTemplate:
    """The compiled template of `text`. `DigestStore.prefix` may change at any time, so it is looked up per use."""
    return KeyTemplate(text)
