"""What all stores that are addressed by digest have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from bitstore._digests.algorithm import algorithm as digest_algorithm
from bitstore._support.compat import ClassLogger
from bitstore.errors import InvalidDataFound, InvalidURI

__all__ = ["DigestFormatMixin", "VerifyDigestMixin"]


class DigestFormatMixin:
    """For stores whose URIs are digests of `algorithm` (`"sha1"`, `"sha256"`, `"md5"`)."""

    algorithm: str = "sha256"
    URI_HINT: ClassVar[str | None] = None  # None: made from the algorithm

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a digest. TypeError unless a str."""
        if not isinstance(uri, str):
            raise TypeError(f"expected a {self.algorithm} digest as str, got {type(uri).__name__}")
        return digest_algorithm(self.algorithm).is_digest(uri) is not None

    def canonical(self, uri: Any) -> Any:
        """The digest in lower case."""
        self._check_valid(uri)
        return uri.lower()

    def _check_valid(self, uri: Any) -> None:
        if not self.is_valid(uri):
            raise InvalidURI(self, uri, hint=self.URI_HINT or self._hint())

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
        if actual != digest and actual != digest.lower():
            raise InvalidDataFound(self, digest, f"its bytes have the {self.algorithm} {actual}")
        return data
