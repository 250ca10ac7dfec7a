"""Key templates: where in a bucket the blob of a digest lies."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from bitstore._support.once import warn_once
from bitstore._support.redact import redact_url

if TYPE_CHECKING:
    from bitstore.store import Store

__all__ = ["KeyTemplate", "check_fits", "key_template", "note_absent", "note_found"]

logger = logging.getLogger("bitstore")

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PLAIN = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch
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
        # Number of the group that is the whole digest in the regular expression; None: there are slices alone.
        fields_of = [part for part in self._parts if isinstance(part, slice)]
        self._whole = fields_of.index(slice(None)) + 1 if slice(None) in fields_of else None
        # What the URLs of all blobs begin with.
        self.start = self._parts[0] if isinstance(self._parts[0], str) else ""
        # Whether nothing behind the start needs percent-encoding, in whatever store.
        self.is_plain = all(isinstance(part, slice) or _PLAIN(part) for part in self._parts[1:])
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
        return self.start.rpartition("/")[0] + "/"

    @property
    def pattern(self) -> str:
        """The template in full, also where it was given as a prefix; without passwords and signatures."""
        return self.shown + "{digest}" if self._prefix is not None else self.shown

    def url(self, digest: str) -> str:
        """The URL of `digest` (lower-case hexadecimal)."""
        if self._prefix is not None:
            return self._prefix + digest
        return "".join([part if isinstance(part, str) else digest[part] for part in self._parts])

    @property
    def ends_in_digest(self) -> bool:
        """Whether the digest itself is all that follows the start."""
        return self._prefix is not None

    def rest(self, digest: str) -> str:
        """What follows the start in the URL of `digest`."""
        return digest if self._prefix is not None else self.url(digest)[len(self.start) :]

    def digest_of(self, url: str, length: int) -> str | None:
        """The digest of `length` characters that has this URL; None: no digest has.

        The paths of file URLs are compared as what they stand for, however they are percent-encoded.
        """
        found = _inverse(self, length)(self._plain(url))
        if found is None:
            return None
        if self._whole is not None:  # as nearly all templates have it: keys are read by the million
            digest = found[self._whole]
            return digest if len(found.groups()) == 1 or self._plain(self.url(digest)) == self._plain(url) else None
        places: dict[int, str] = {}
        for part, text in zip((part for part in self._parts if isinstance(part, slice)), found.groups(), strict=True):
            for place, character in zip(range(length)[part], text, strict=True):
                if places.setdefault(place, character) != character:
                    return None
        return "".join(places[place] for place in range(length))

    def _plain(self, text: str) -> str:
        """A URL or a part of one, of a file without percent-encoding and the name of this machine."""
        if not self.start.lower().startswith("file://"):
            return text
        return unquote(re.sub("^file://localhost/", "file:///", text, flags=re.IGNORECASE), errors="surrogateescape")

    def expression(self, length: int) -> str:
        """A regular expression of the URLs of digests of `length` characters, each slice of the digest as a group."""
        return "".join(
            re.escape(self._plain(part)) if isinstance(part, str) else f"([0-9a-f]{{{len(range(length)[part])}}})"
            for part in self._parts
        )

    def __repr__(self) -> str:
        return f"KeyTemplate({self.shown!r})"


@lru_cache(maxsize=64)
def _inverse(template: KeyTemplate, length: int) -> Callable[[str], re.Match[str] | None]:
    return re.compile(template.expression(length)).fullmatch


@lru_cache(maxsize=1024)
def key_template(text: str) -> KeyTemplate:
    """The compiled template of `text`. `DigestStore.prefix` may change at any time, so it is looked up per use."""
    return KeyTemplate(text)


def check_fits(base_store: Store, prefix: str, length: int) -> None:
    """Raise ValueError where `prefix` and a digest are no URL for one of the library's own raw stores.

    Else each single lookup would fail for it. What stores of others take is for them to say.
    """
    from bitstore._raw.base import RawStore

    template = key_template(prefix)
    if not callable(getattr(base_store, "get", None)):
        raise TypeError(f"expected a store addressed by URL, such as S3Raw(), got {base_store!r}")
    own = isinstance(base_store, RawStore) and type(base_store).__module__.startswith("bitstore.")
    if own and not base_store.is_valid(template.url("0" * length)):
        raise ValueError(
            f"{template.shown!r} plus a digest is no URL that {type(base_store).__name__} takes: {base_store.URI_HINT}"
        )


_found_under: set[str] = set()  # prefixes without a slash under which something was found


def note_found(template: KeyTemplate) -> None:
    """Keep in mind that blobs lie under a prefix without a slash: `note_absent` is silent from now on."""
    _found_under.add(template.text)


def note_absent(template: KeyTemplate, digest: str) -> None:
    """Warn of a prefix without its slash under which nothing was found so far."""
    if template.text not in _found_under:
        text = "nothing found under '%s': digests are appended to it as it is (%s); for a folder write '%s/'"
        url = redact_url(template.url(digest.lower()))
        warn_once(logger, ("prefix", template.text), text, template.shown, url, template.shown)
