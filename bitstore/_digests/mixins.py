"""What all stores that are addressed by digest have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from bitstore._support.compat import ClassLogger
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.errors import InvalidDataFound, InvalidURI

__all__ = ["DigestFormatMixin", "VerifyDigestMixin"]


class DigestFormatMixin:
    """For stores whose URIs are digests of `algorithm` (`"sha1"`, `"sha256"`, `"md5"`)."""

    algorithm: str = "sha256"
    URI_HINT: ClassVar[str | None] = None  # None: made from the algorithm

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a digest, as text or as bytes (raw, or of its text). TypeError unless it is one of these."""
        kind = digest_algorithm(self.algorithm)
        return kind.is_digest(kind.text(uri)) is not None

    def canonical(self, uri: Any) -> Any:
        """The digest as a str in lower case."""
        self._check_valid(uri)
        return self._text(uri).lower()

    def _check_valid(self, uri: Any) -> None:
        if not self.is_valid(self._text(uri)):
            raise InvalidURI(self, self._text(uri), hint=self.URI_HINT or self._hint())

    def _text(self, uri: Any) -> Any:
        """A digest in bytes as text; a str as it is, and so is what `is_valid` has to refuse."""
        if isinstance(uri, str):
            return uri
        try:
            return digest_algorithm(self.algorithm).text(uri)
        except TypeError:
            return uri

    def _hint(self) -> str:
        return f"<{self.algorithm}>, {digest_algorithm(self.algorithm).length} hexadecimal characters"


class VerifyDigestMixin:
    """For stores that check that bytes match the digest they were found under."""

    algorithm: str = "sha256"
    logger: Any = ClassLogger()

    def _verify_data(self, data: Any, digest: str) -> Any:
        """`data` itself, if it has this digest; else raises `InvalidDataFound`."""
        try:
            actual = digest_algorithm(self.algorithm).of(data)
        except TypeError:
            raise TypeError(
                f"{type(self).__name__} has a {type(data).__name__} for {digest}, and verify=True needs bytes"
            ) from None
        self._verify_digest(actual, digest)
        return data

    def _verify_digest(self, actual: str, digest: str) -> None:
        if actual != digest and actual != digest.lower():
            raise InvalidDataFound(self, digest, f"its bytes have the {self.algorithm} {actual}")
