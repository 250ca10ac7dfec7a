"""A store addressed by digest, over a raw store and a prefix or key template."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bitstore._digests.codings import looks_coded
from bitstore._digests.compression import codec
from bitstore._digests.expands import Expands
from bitstore._digests.indexed import MAX_AGE, Indexed
from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._digests.template import check_fits, key_template, note_absent, note_found
from bitstore._lookup.asking import (
    counts_of,
    scope_of,
    steps_of_describe,
    steps_of_exists,
    steps_of_get,
    steps_of_put,
    steps_of_version,
)
from bitstore._lookup.download import steps_of_download, verified
from bitstore._lookup.opened import Opened, steps_of_open
from bitstore._lookup.partial import Partial
from bitstore._lookup.run import run
from bitstore._support.checks import ChecksOptions
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.redact import redact_url
from bitstore._support.sizes import format_size
from bitstore.errors import InvalidDataFound, NotFoundInStore
from bitstore.outline import Outline, outline_of
from bitstore.steps import (
    OVERWRITE,
    Call,
    FileBody,
    Found,
    Request,
    RequestCounts,
    Response,
    Scope,
    Steps,
    Stored,
    Write,
)
from bitstore.store import Store

if TYPE_CHECKING:
    from bitstore.index import Index

__all__ = ["DigestStore"]

_HASH_INLINE = 1024 * 1024  # bytes; hashing more than this holds up the transfers of others for milliseconds


class DigestStore(Indexed, Expands, ChecksOptions, DigestFormatMixin, VerifyDigestMixin, Store):
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
        `"gzip"`, `"zlib"` or `"zstd"` if the bucket holds compressed bytes; the digest is of the expanded ones. With
        `verify`, what matches its digest is taken in either form, so a bucket may hold some blobs plain. Bytes that
        look like gzip are tried in both forms also without `compression`. `put` writes the form that is named.
    max_blob_size
        Bytes beyond which a blob is not expanded (a number or a size such as `"2GB"`).
    index
        A membership index of the store (`bitstore index build`), its path or an `Index`. In a composite, a store that
        surely lacks a blob is asked last: before a paid tier, or before the blob is called missing. Most blobs are
        found elsewhere by then. What is written through stores with this index is noted beside it.
    index_max_age
        Seconds after the moment up to which the index covers the store: then it is no proof any more.
    recheck
        Ask before a blob is called missing. False: what the index proves to be absent is missing without a request.
        Before a paid tier is asked, the store is asked in any case.

    Attributes
    ----------
    base_store, prefix, verify, compression, max_blob_size, index_max_age, recheck
        As given; they may be set at any time, and act from the next call on.
    index
        Path of the index; None: the store has none.

    Raises
    ------
    ValueError
        An option cannot be, or the index is that of another store.

    Notes
    -----
    A digest is text (either case), or bytes: the raw digest, or its text. Scalars of NumPy and Arrow are taken too.
    """

    verify: bool = False
    _scope: Scope | None = None
    takes_files = True  # `put_steps` takes a `FileBody` in place of bytes
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
        index: str | os.PathLike[str] | Index | None = None,
        index_max_age: float = MAX_AGE,
        recheck: bool = True,
    ) -> None:
        if algorithm is not None:
            self.algorithm = digest_algorithm(algorithm).name
        check_fits(base_store, prefix, digest_algorithm(self.algorithm).length)
        self.base_store = base_store
        self.prefix = prefix
        self.verify = verify
        self.compression = compression
        self.max_blob_size = max_blob_size
        self._use_index(index, index_max_age, recheck)

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

    def first_requests(self) -> Callable[[str], Request | None] | None:
        """What makes the request that `get_steps` of a digest begins with, where the body is the blob as it is.

        For the express lane, as the two methods below. It takes a digest in lower case, and returns None where that is
        not asked for so. It holds for a moment. None: there is none now.
        """
        template = key_template(self.prefix)
        if self._compression is not None or not template.is_plain:
            return None
        make: Callable[[str], Request] | None = self.base_store.first_requests(  # type: ignore[attr-defined]
            template.start, self.algorithm if self.verify else None
        )
        if make is None or (self._membership is None and template.ends_in_digest):
            return make
        rest, denial = template.rest, None if self._membership is None else self.denial

        def first(digest: str) -> Request | None:
            # What the index denies is put off by the steps of the composite.
            return make(rest(digest)) if denial is None or denial(digest) is None else None

        return first

    def plainly_found(self, answer: Response, digest: str) -> bool:
        """Whether an answer with status 200 to this request is the blob; False: `get_steps` has to say."""
        template = key_template(self.prefix)
        if template.lacks_slash:
            note_found(template)
        if not self.verify:
            return self._compression is None and not looks_coded(answer.body)
        actual = answer.digest
        if actual is None:
            if len(answer.body) > _HASH_INLINE:
                return False
            actual = digest_algorithm(self.algorithm).of(answer.body)
        return actual == digest

    def plainly_missing(self, answer: Response) -> bool:
        """Whether an answer to this request says that the blob is missing; False: `get_steps` has to say."""
        missing: bool = self.base_store.plainly_missing(answer)  # type: ignore[attr-defined]
        return missing and not key_template(self.prefix).lacks_slash

    def get_steps(self, digest: str) -> Steps[Found]:
        template = key_template(self.prefix)
        digest = self._text(digest)
        if self._membership is not None:
            self._deny(digest.lower())
        try:
            hash_with = self.algorithm if self.verify else None
            found = yield from steps_of_get(self.base_store, template.url(digest.lower()), hash_with)
        except InvalidDataFound:
            raise
        except NotFoundInStore as error:
            yield from self._absent(digest)
            raise NotFoundInStore(self, digest) from error
        if template.lacks_slash:
            note_found(template)
        received = found.data
        if not (self.verify or self.compression is not None or (isinstance(received, bytes) and looks_coded(received))):
            return Found(received, template.shown, found.etag, found.matched)
        if found.digest == digest.lower() and self.verify:
            data = received
        elif len(received) <= _HASH_INLINE:
            data = self._decoded(received, digest)
        else:
            data = yield Call(self._decoded, received, digest)
        return Found(data, template.shown, found.etag, found.matched or self.verify)

    def download_steps(self, digest: str, partial: Partial) -> Steps[Found]:
        digest = self._text(digest)
        if self._membership is not None:
            self._deny(digest.lower())
        return (
            yield from verified(self, self.algorithm, digest.lower(), partial, lambda: self._bring(digest, partial))
        )

    def _bring(self, digest: str, partial: Partial) -> Steps[Found]:
        if self.compression is not None:  # only whole blobs are expanded: this one passes through memory
            found = yield from self.get_steps(digest)
            yield Call(partial.fill, found.data)
            return found
        found = yield from self._from_base(steps_of_download, digest, partial)
        if found.data is partial and looks_coded((yield Call(partial.head))):
            form = yield Call(self._form_of_file, partial, digest)
            if form is not None:
                yield Call(partial.fill, form)
        return Found(found.data, self.label)

    def open_steps(self, digest: str, verify: bool | None = None) -> Steps[Found]:
        digest = self._text(digest)
        if self._membership is not None:
            self._deny(digest.lower())
        if verify and not self.verify:
            checking = copy.copy(self)
            checking.verify = True
            return (yield from checking.get_steps(digest))
        if (self.verify if verify is None else verify) or self.compression is not None:
            return (yield from self.get_steps(digest))
        found = yield from self._from_base(steps_of_open, digest, False)
        data = found.data
        if isinstance(data, Opened):
            if looks_coded((yield Call(data.head))):
                data.file.close()
                return (yield from self.get_steps(digest))
        else:  # it came whole, so it costs nothing to check it as the store says
            data = yield Call(self._decoded, data, digest)
        return Found(data, self.label, found.etag)

    def _from_base(self, ask: Callable[..., Steps[Found]], digest: str, *args: Any) -> Steps[Found]:
        """What `ask` finds in the base store. What that lacks, this store lacks, as in `get_steps`."""
        try:
            return (yield from ask(self.base_store, self._url(digest), *args))
        except InvalidDataFound:
            raise
        except NotFoundInStore as error:
            yield from self._absent(digest)
            raise NotFoundInStore(self, digest) from error

    def _absent(self, digest: str) -> Steps[None]:
        """Raise `StoreNotAvailable` where not only a blob is absent, but the folder of all of them."""
        template = key_template(self.prefix)
        steps = getattr(self.base_store, "container_steps", None)
        if steps is not None:
            yield from steps(template.folder, made_by_writes=self._makes_container)
        if template.lacks_slash:
            note_absent(template, digest)

    def exists_steps(self, digest: str) -> Steps[bool]:
        if self._membership is not None and not self.recheck:
            denial = self.denial(self._text(digest).lower())
            if denial is not None and denial.is_proof:
                return False
        there = yield from steps_of_exists(self.base_store, self._url(digest))
        if not there:
            yield from self._absent(self._text(digest))
        elif (template := key_template(self.prefix)).lacks_slash:
            note_found(template)
        return there

    def describe_steps(self, digest: str) -> Steps[Stored | None]:
        stored = yield from steps_of_describe(self.base_store, self._url(digest))
        if stored is None:
            yield from self._absent(self._text(digest))
            return None
        return stored._replace(url=stored.url or redact_url(self._url(digest)), compression=self.compression)

    def put_steps(self, digest: str, data: Any, write: Write) -> Steps[None]:
        url = self._url(digest)
        packer = codec(self.compression)
        if isinstance(data, FileBody) and (packer is not None or not getattr(self.base_store, "takes_files", False)):
            data = yield Call(data.whole)
        if isinstance(data, FileBody):
            self._verify_digest(data.hashes[self.algorithm].hex(), self._text(digest))
        elif self.verify:
            self._verify_data(data, self._text(digest))
        if packer is not None:
            data = yield Call(packer.compress, data)
        if self._membership is not None:
            yield from self._note_steps(self._text(digest).lower())
        yield from steps_of_put(self.base_store, url, data, write)

    def version_steps(self, digest: str) -> Steps[str | None]:
        return (yield from steps_of_version(self.base_store, self._url(digest)))

    def outline(self) -> Outline:
        """Where the blobs lie, and what is said about them; then the facts of the base store."""
        template = key_template(self.prefix)
        below = outline_of(self.base_store)
        own: dict[str, Any] = {"keys": template.pattern, "verify": bool(self.verify)}
        if self.compression is not None:
            own["compression"] = self.compression
        if self.max_blob_size != Expands._max_blob_size:
            own["largest blob"] = format_size(self.max_blob_size)
        own |= self._index_facts()
        facts = {**own, **{name: value for name, value in below.facts.items() if name not in own}}
        return Outline(self.label, f"{type(self).__name__} over {below.kind}", facts=facts, parts=below.parts)

    def __repr__(self) -> str:
        extra = "".join(
            f", {name}={value!r}"
            for name, value in (("verify", self.verify), ("compression", self.compression))
            if value
        )
        return f"{type(self).__name__}({self.base_store!r}, {self.label!r}{extra})"
