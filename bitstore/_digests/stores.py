"""Stores addressed by digest: over a raw store and a prefix, over an API, and composites of them."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from bitstore._digests.api_source import DigestAPISource
from bitstore._digests.codings import looks_coded, other_forms
from bitstore._digests.composite import DigestComposite
from bitstore._digests.compression import BadCompression, TooLarge, codec
from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._digests.template import KeyTemplate, key_template
from bitstore._lookup.asking import (
    counts_of,
    scope_of,
    steps_of_exists,
    steps_of_get,
    steps_of_put,
    steps_of_version,
)
from bitstore._lookup.download import steps_of_download, verified
from bitstore._lookup.partial import Partial
from bitstore._lookup.run import run
from bitstore._support.checks import ChecksOptions
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.once import warn_once
from bitstore._support.redact import redact_url
from bitstore._support.sizes import parse_size
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable, described
from bitstore.steps import OVERWRITE, Call, Found, RequestCounts, Scope, Steps, Write
from bitstore.store import Store

__all__ = [
    "DigestAPISource", "DigestCache", "DigestComposite", "DigestFormatMixin", "DigestStore", "VerifyDigestMixin",
    "Md5APISource", "Md5Cache", "Md5Composite", "Md5Store",
    "Sha1APISource", "Sha1Cache", "Sha1Composite", "Sha1FormatMixin", "Sha1Store", "VerifySha1Mixin",
    "Sha256APISource", "Sha256Cache", "Sha256Composite", "Sha256Store",
]  # fmt: skip

logger = logging.getLogger("bitstore")

_HASH_INLINE = 1024 * 1024  # bytes; hashing more than this holds up the transfers of others for milliseconds


_found_under: set[str] = set()  # prefixes without a slash under which something was found


def _point_out(template: KeyTemplate, digest: str) -> None:
    """Warn of a prefix without its slash under which nothing was found so far."""
    if template.text not in _found_under:
        text = "nothing found under '%s': digests are appended to it as it is (%s); for a folder write '%s/'"
        url = redact_url(template.url(digest.lower()))
        warn_once(logger, ("prefix", template.text), text, template.shown, url, template.shown)


def _may_be_coded(data: Any) -> bool:
    return isinstance(data, bytes) and looks_coded(data)


class DigestStore(ChecksOptions, DigestFormatMixin, VerifyDigestMixin, Store):
    """A raw store's part of blobs that are named by their digest.

    Parameters
    ----------
    base_store
        Any store addressed by URL.
    prefix
        URL prefix to which the lower-case digest is appended, or a key template such as
        `"gs://bucket/{digest[:2]}/{digest}.gz"` (`bitstore._digests.template.KeyTemplate`).
    verify
        Check that the (expanded) bytes match their digest, on get and put.
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`; default: that of the class.
    compression
        `"gzip"`, `"zlib"` or `"zstd"` if the bucket holds compressed bytes; the digest is of the expanded ones.
    max_blob_size
        Bytes beyond which a blob is not expanded (a number or a size such as `"2GB"`).

    Attributes
    ----------
    base_store, prefix, verify, compression, max_blob_size
        As given; they may be set at any time, and act from the next call on.

    Notes
    -----
    A digest is text (either case), or bytes: the raw digest, or its text. Scalars of NumPy and Arrow are taken too.
    """

    verify: bool = False
    _scope: Scope | None = None
    _compression: str | None = None
    _max_blob_size: int = 5 * 1024**4
    _makes_container = False  # whether the folder of the blobs is made by the first write

    def __init__(
        self,
        base_store: Store,
        prefix: str,
        verify: bool = False,
        *,
        algorithm: str | None = None,
        compression: str | None = None,
        max_blob_size: int | str = "5TiB",
    ) -> None:
        if algorithm is not None:
            self.algorithm = digest_algorithm(algorithm).name
        _check_fits(base_store, prefix, digest_algorithm(self.algorithm).length)
        self.base_store = base_store
        self.prefix = prefix
        self.verify = verify
        self.compression = compression
        self.max_blob_size = max_blob_size

    @property
    def compression(self) -> str | None:
        """Name of the codec of the bucket's bytes. ValueError where it is set to an unknown one."""
        return self._compression

    @compression.setter
    def compression(self, name: str | None) -> None:
        codec(name)
        self._compression = name

    @property
    def max_blob_size(self) -> int:
        """Bytes beyond which a blob is not expanded. May be set as a text."""
        return self._max_blob_size

    @max_blob_size.setter
    def max_blob_size(self, size: int | str) -> None:
        self._max_blob_size = parse_size(size, name="max_blob_size")

    @property
    def label(self) -> str:
        """The prefix or template, without passwords and signatures."""
        return key_template(self.prefix).shown

    @property
    def bytes_only(self) -> bool:  # type: ignore[override]
        """Whether the base store, or this one on its way there (to verify, to compress), takes nothing but bytes."""
        return self.verify or self.compression is not None or bool(getattr(self.base_store, "bytes_only", False))

    @property
    def scope(self) -> Scope:
        """That of the base store."""
        return scope_of(self.base_store) if self._scope is None else self._scope

    @scope.setter
    def scope(self, scope: Scope) -> None:
        self._scope = scope

    def counts(self) -> RequestCounts | None:
        """The counts of the base store."""
        return counts_of(self.base_store)

    def get(self, digest: str) -> bytes:
        """The bytes of `digest`, expanded if the bucket holds them compressed.

        Raises
        ------
        InvalidURI
            `digest` is not one.
        NotFoundInStore
            The base store said that it lacks the blob; `InvalidDataFound` if what it has does not match
            (with `verify`) or cannot be expanded.
        StoreNotAvailable
            The base store could not say.
        """
        self._check_valid(digest)
        data: bytes = run(self.get_steps(digest)).data
        return data

    def put(self, digest: str, data: bytes) -> None:
        """Keep `data` under `digest`. With `verify`, raises `InvalidDataFound` unless it matches."""
        self._check_valid(digest)
        run(self.put_steps(digest, data, OVERWRITE))

    def exists(self, digest: str) -> bool:
        """Whether the base store has something under `digest` (its bytes are not looked at)."""
        self._check_valid(digest)
        return run(self.exists_steps(digest))

    def url(self, digest: str) -> str:
        """The URL in the base store under which the blob of `digest` lies."""
        self._check_valid(digest)
        return self._url(digest)

    def _url(self, digest: str) -> str:
        return key_template(self.prefix).url(self._text(digest).lower())

    def get_steps(self, digest: str) -> Steps[Found]:
        template = key_template(self.prefix)
        digest = self._text(digest)
        try:
            found = yield from steps_of_get(self.base_store, template.url(digest.lower()))
        except InvalidDataFound:
            raise
        except NotFoundInStore as error:
            yield from self._check_container()
            if template.lacks_slash:
                _point_out(template, digest)
            raise NotFoundInStore(self, digest) from error
        if template.lacks_slash:
            _found_under.add(template.text)
        received = found.data
        if not (self.verify or self.compression is not None or _may_be_coded(received)):
            return Found(received, template.shown, found.etag, found.matched)
        if len(received) <= _HASH_INLINE:
            data = self._decoded(received, digest)
        else:
            data = yield Call(self._decoded, received, digest)
        return Found(data, template.shown, found.etag, found.matched or self.verify)

    def _decoded(self, received: Any, digest: str) -> Any:
        """The blob that was received, expanded or not: with `verify`, the form that matches the digest."""
        data = received
        try:
            if self.compression is not None:
                data = self._expand(received, digest)
            if not self.verify and (self.compression is not None or self._matches(data, digest)):
                return data
            if self.verify:
                return self._verify_data(data, digest)
        except InvalidDataFound:
            form = self._other_form(received, data, digest)
            if form is None:
                raise
            return form
        form = self._other_form(received, data, digest)
        return received if form is None else form

    def _other_form(self, received: Any, data: Any, digest: str) -> bytes | None:
        if not isinstance(received, bytes):
            return None
        if data is received and self.compression is not None:  # it could not be expanded
            return received if self._matches(received, digest) else None
        forms = other_forms(received, data, self.max_blob_size)
        return next((form for form in forms if self._matches(form, digest)), None)

    def _matches(self, data: Any, digest: str) -> bool:
        return digest_algorithm(self.algorithm).of(data) == digest.lower()

    def _expand(self, data: bytes, digest: str) -> bytes:
        expander = codec(self.compression)
        assert expander is not None
        try:
            return expander.expand(data, self.max_blob_size)
        except BadCompression as error:
            raise InvalidDataFound(self, digest, str(error)) from error
        except TooLarge as error:
            raise StoreNotAvailable(self, f"'{digest}' has {error} (max_blob_size)") from error

    def download_steps(self, digest: str, partial: Partial) -> Steps[Found]:
        digest = self._text(digest)
        return (
            yield from verified(self, self.algorithm, digest.lower(), partial, lambda: self._bring(digest, partial))
        )

    def _bring(self, digest: str, partial: Partial) -> Steps[Found]:
        if self.compression is not None:  # only whole blobs are expanded: this one passes through memory
            found = yield from self.get_steps(digest)
            yield Call(partial.fill, found.data)
            return found
        try:
            found = yield from steps_of_download(self.base_store, self._url(digest), partial)
        except InvalidDataFound:
            raise
        except NotFoundInStore as error:
            yield from self._check_container()
            raise NotFoundInStore(self, digest) from error
        if found.data is partial and looks_coded((yield Call(partial.head))):
            form = yield Call(self._form_of_file, partial, digest)
            if form is not None:
                yield Call(partial.fill, form)
        return Found(found.data, self.label)

    def _form_of_file(self, partial: Partial, digest: str) -> bytes | None:
        """The blob, where the file's bytes are not it but expand to it."""
        if partial.digest(self.algorithm) == digest.lower():
            return None
        received = partial.whole()
        return self._other_form(received, received, digest)

    def _check_container(self) -> Steps[None]:
        """Raise `StoreNotAvailable` where not only a blob is absent, but the folder of all of them."""
        steps = getattr(self.base_store, "container_steps", None)
        if steps is not None:
            yield from steps(key_template(self.prefix).folder, made_by_writes=self._makes_container)

    def exists_steps(self, digest: str) -> Steps[bool]:
        there = yield from steps_of_exists(self.base_store, self._url(digest))
        template = key_template(self.prefix)
        if not there:
            yield from self._check_container()
            if template.lacks_slash:
                _point_out(template, self._text(digest))
        elif template.lacks_slash:
            _found_under.add(template.text)
        return there

    def put_steps(self, digest: str, data: bytes, write: Write) -> Steps[None]:
        url = self._url(digest)
        if self.verify:
            self._verify_data(data, self._text(digest))
        packer = codec(self.compression)
        if packer is not None:
            data = yield Call(packer.compress, data)
        yield from steps_of_put(self.base_store, url, data, write)

    def version_steps(self, digest: str) -> Steps[str | None]:
        return (yield from steps_of_version(self.base_store, self._url(digest)))

    def __repr__(self) -> str:
        extra = "".join(
            f", {name}={value!r}"
            for name, value in (("verify", self.verify), ("compression", self.compression))
            if value
        )
        return f"{type(self).__name__}({self.base_store!r}, {self.label!r}{extra})"


class DigestCache(DigestStore):
    """A digest store whose `put` never raises for what the store did: a blob that cannot be kept is only logged.

    Inside a composite such failures are counted, and warned about once.
    """

    _makes_container = True

    def put(self, digest: str, data: bytes) -> None:
        """Keep `data` if possible. Raises only `InvalidURI` and TypeError, for an invalid `digest`."""
        self._check_valid(digest)
        try:
            super().put(digest, data)
        except Exception as error:  # the promise of this class
            cause = ("could not keep", self.label, type(error))
            warn_once(logger, cause, "%r could not keep %s: %s", self, digest, described(error))

    # A composite must see the failure to count it, and write as it means to: so it takes the steps, not this `put`.
    put_steps = DigestStore.put_steps


def _check_fits(base_store: Store, prefix: str, length: int) -> None:
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


class Sha1FormatMixin(DigestFormatMixin):
    """For stores whose URIs are SHA-1 digests."""

    algorithm = "sha1"
    URI_HINT: ClassVar[str | None] = "<sha1>"


class VerifySha1Mixin(VerifyDigestMixin):
    """For stores that check that bytes match their SHA-1."""

    algorithm = "sha1"


# The names that people use. Each is its `Digest...` class with the algorithm set.
# fmt: off
class Sha1Store(Sha1FormatMixin, VerifySha1Mixin, DigestStore): """`DigestStore` of SHA-1."""
class Sha1Cache(Sha1FormatMixin, VerifySha1Mixin, DigestCache): """`DigestCache` of SHA-1."""
class Sha1APISource(Sha1FormatMixin, VerifySha1Mixin, DigestAPISource): """`DigestAPISource` of SHA-1."""
class Sha1Composite(DigestComposite): """`DigestComposite` of SHA-1."""; algorithm = "sha1"
class Sha256Store(DigestStore): """`DigestStore` of SHA-256."""; algorithm = "sha256"
class Sha256Cache(DigestCache): """`DigestCache` of SHA-256."""; algorithm = "sha256"
class Sha256APISource(DigestAPISource): """`DigestAPISource` of SHA-256."""; algorithm = "sha256"
class Sha256Composite(DigestComposite): """`DigestComposite` of SHA-256."""; algorithm = "sha256"
class Md5Store(DigestStore): """`DigestStore` of MD5."""; algorithm = "md5"
class Md5Cache(DigestCache): """`DigestCache` of MD5."""; algorithm = "md5"
class Md5APISource(DigestAPISource): """`DigestAPISource` of MD5."""; algorithm = "md5"
class Md5Composite(DigestComposite): """`DigestComposite` of MD5."""; algorithm = "md5"
# fmt: on
