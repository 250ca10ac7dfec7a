"""How what a bucket holds becomes a blob: as it is, or expanded; with a check, the form that matches the digest."""

from __future__ import annotations

from typing import Any

from bitstore._digests.codings import other_forms
from bitstore._digests.compression import BadCompression, TooLarge, codec
from bitstore._digests.mixins import VerifyDigestMixin
from bitstore._lookup.partial import Partial
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.sizes import parse_size
from bitstore.errors import InvalidDataFound, StoreNotAvailable

__all__ = ["Expands"]


class Expands(VerifyDigestMixin):
    """Base of stores whose bytes may be compressed. It has an `algorithm`, and says whether to `verify`."""

    algorithm: str
    verify: bool
    # Name of a codec; None: the bucket's bytes are those of the blobs.
    _compression: str | None = None
    # Bytes beyond which a blob is not expanded.
    _max_blob_size: int = 5 * 1024**4

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

    def _form_of_file(self, partial: Partial, digest: str) -> bytes | None:
        """The blob, where the file's bytes are not it but expand to it."""
        if partial.digest(self.algorithm) == digest.lower():
            return None
        received = partial.whole()
        return self._other_form(received, received, digest)
