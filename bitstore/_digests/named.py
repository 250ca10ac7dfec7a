"""The classes that people name: each is a `Digest...` class with its algorithm set."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from bitstore._digests.api_source import DigestAPISource
from bitstore._digests.cache import DigestCache
from bitstore._digests.composite import DigestComposite
from bitstore._digests.mixins import DigestFormatMixin, VerifyDigestMixin
from bitstore._digests.store import DigestStore

__all__ = [
    "FAMILIES",
    "Family",
    "Md5APISource",
    "Md5Cache",
    "Md5Composite",
    "Md5Store",
    "Sha1APISource",
    "Sha1Cache",
    "Sha1Composite",
    "Sha1FormatMixin",
    "Sha1Store",
    "Sha256APISource",
    "Sha256Cache",
    "Sha256Composite",
    "Sha256Store",
    "VerifySha1Mixin",
]


class Sha1FormatMixin(DigestFormatMixin):
    """For stores whose URIs are SHA-1 digests."""

    algorithm = "sha1"
    URI_HINT: ClassVar[str | None] = "<sha1>"


class VerifySha1Mixin(VerifyDigestMixin):
    """For stores that check that bytes match their SHA-1."""

    algorithm = "sha1"


class Sha1Store(Sha1FormatMixin, VerifySha1Mixin, DigestStore):
    """`DigestStore` of SHA-1."""


class Sha1Cache(Sha1FormatMixin, VerifySha1Mixin, DigestCache):
    """`DigestCache` of SHA-1."""


class Sha1APISource(Sha1FormatMixin, VerifySha1Mixin, DigestAPISource):
    """`DigestAPISource` of SHA-1."""


class Sha1Composite(DigestComposite):
    """`DigestComposite` of SHA-1."""

    algorithm = "sha1"


class Sha256Store(DigestStore):
    """`DigestStore` of SHA-256."""

    algorithm = "sha256"


class Sha256Cache(DigestCache):
    """`DigestCache` of SHA-256."""

    algorithm = "sha256"


class Sha256APISource(DigestAPISource):
    """`DigestAPISource` of SHA-256."""

    algorithm = "sha256"


class Sha256Composite(DigestComposite):
    """`DigestComposite` of SHA-256."""

    algorithm = "sha256"


class Md5Store(DigestStore):
    """`DigestStore` of MD5."""

    algorithm = "md5"


class Md5Cache(DigestCache):
    """`DigestCache` of MD5."""

    algorithm = "md5"


class Md5APISource(DigestAPISource):
    """`DigestAPISource` of MD5."""

    algorithm = "md5"


class Md5Composite(DigestComposite):
    """`DigestComposite` of MD5."""

    algorithm = "md5"


class Family(NamedTuple):
    """The classes of one algorithm."""

    store: type[DigestStore]
    cache: type[DigestCache]
    composite: type[DigestComposite]


FAMILIES = {
    "sha1": Family(Sha1Store, Sha1Cache, Sha1Composite),
    "sha256": Family(Sha256Store, Sha256Cache, Sha256Composite),
    "md5": Family(Md5Store, Md5Cache, Md5Composite),
}
"""The classes of each algorithm, by its name."""

for _kind in (*FAMILIES["sha1"], *FAMILIES["sha256"], *FAMILIES["md5"], Sha1APISource, Sha256APISource, Md5APISource):
    if _kind.__doc__:  # there is none with python -OO
        # The parameters, attributes and notes of the base, so that `help` shows them for the class that people name.
        _base = next(base for base in _kind.__mro__ if f"`{base.__name__}`" in _kind.__doc__)
        _kind.__doc__ += "\n" + (_base.__doc__ or "").partition("\n")[2]
