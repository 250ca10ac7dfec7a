"""Old imports keep working: what was defined in this module."""

from bitstore import (
    InvalidDataFound,
    Sha1APISource,
    Sha1Cache,
    Sha1Composite,
    Sha1FormatMixin,
    Sha1Store,
    VerifySha1Mixin,
)

__all__ = [
    "InvalidDataFound",
    "Sha1APISource",
    "Sha1Cache",
    "Sha1Composite",
    "Sha1FormatMixin",
    "Sha1Store",
    "VerifySha1Mixin",
]
