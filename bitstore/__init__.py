"""Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them.

Names are imported at first use, so `import bitstore` costs next to nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "2.0.0.dev0"

if TYPE_CHECKING:
    from bitstore._caches.disk import DiskCache
    from bitstore._caches.memory import MemoryCache
    from bitstore._digests.stores import (
        DigestAPISource,
        DigestCache,
        DigestComposite,
        DigestFormatMixin,
        DigestStore,
        Md5APISource,
        Md5Cache,
        Md5Composite,
        Md5Store,
        Sha1APISource,
        Sha1Cache,
        Sha1Composite,
        Sha1FormatMixin,
        Sha1Store,
        Sha256APISource,
        Sha256Cache,
        Sha256Composite,
        Sha256Store,
        VerifyDigestMixin,
        VerifySha1Mixin,
    )
    from bitstore._limits.calls import CallLimit
    from bitstore._limits.rates import RateLimit
    from bitstore._lookup.retry import Retry
    from bitstore._raw.file import FileRaw
    from bitstore._raw.gs import GSRaw
    from bitstore._raw.http import HTTPRaw
    from bitstore._raw.s3 import ANONYMOUS, S3Raw
    from bitstore._tiers.composite import Composite
    from bitstore.blob import Blob
    from bitstore.errors import (
        AccessDenied,
        BitstoreError,
        InvalidDataFound,
        InvalidURI,
        LimitReached,
        LookupFailed,
        LookupTimedOut,
        NotFoundInStore,
        StoreNotAvailable,
        TooManyRequests,
    )
    from bitstore.store import Store

_MODULES = {
    "bitstore.blob": ("Blob",),
    "bitstore._caches.disk": ("DiskCache",),
    "bitstore._caches.memory": ("MemoryCache",),
    "bitstore._tiers.composite": ("Composite",),
    "bitstore.errors": (
        "AccessDenied", "BitstoreError", "InvalidDataFound", "InvalidURI", "LimitReached", "LookupFailed",
        "LookupTimedOut", "NotFoundInStore", "StoreNotAvailable", "TooManyRequests",
    ),
    "bitstore._digests.stores": (
        "DigestAPISource", "DigestCache", "DigestComposite", "DigestFormatMixin", "DigestStore",
        "Md5APISource", "Md5Cache", "Md5Composite", "Md5Store",
        "Sha1APISource", "Sha1Cache", "Sha1Composite", "Sha1FormatMixin", "Sha1Store",
        "Sha256APISource", "Sha256Cache", "Sha256Composite", "Sha256Store", "VerifyDigestMixin", "VerifySha1Mixin",
    ),
    "bitstore._limits.calls": ("CallLimit",),
    "bitstore._limits.rates": ("RateLimit",),
    "bitstore._raw.file": ("FileRaw",),
    "bitstore._raw.gs": ("GSRaw",),
    "bitstore._raw.http": ("HTTPRaw",),
    "bitstore._raw.s3": ("ANONYMOUS", "S3Raw"),
    "bitstore.store": ("Store",),
    "bitstore._lookup.retry": ("Retry",),
}  # fmt: skip
_HOME = {name: module for module, names in _MODULES.items() for name in names}

# Written out, because type checkers read it: it must name what `_MODULES` names.
__all__ = [
    "ANONYMOUS",
    "AccessDenied",
    "BitstoreError",
    "Blob",
    "CallLimit",
    "Composite",
    "DigestAPISource",
    "DigestCache",
    "DigestComposite",
    "DigestFormatMixin",
    "DigestStore",
    "DiskCache",
    "FileRaw",
    "GSRaw",
    "HTTPRaw",
    "InvalidDataFound",
    "InvalidURI",
    "LimitReached",
    "LookupFailed",
    "LookupTimedOut",
    "Md5APISource",
    "Md5Cache",
    "Md5Composite",
    "Md5Store",
    "MemoryCache",
    "NotFoundInStore",
    "RateLimit",
    "Retry",
    "S3Raw",
    "Sha1APISource",
    "Sha1Cache",
    "Sha1Composite",
    "Sha1FormatMixin",
    "Sha1Store",
    "Sha256APISource",
    "Sha256Cache",
    "Sha256Composite",
    "Sha256Store",
    "Store",
    "StoreNotAvailable",
    "TooManyRequests",
    "VerifyDigestMixin",
    "VerifySha1Mixin",
]

# A library is silent unless its user asks: https://docs.python.org/3/howto/logging.html#library-config
logging.getLogger("bitstore").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'bitstore' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
