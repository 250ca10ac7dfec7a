"""Fetch blobs by content hash, from whatever mix of buckets, caches and paid APIs holds them.

Names are imported at first use, so `import bitstore` costs next to nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "2.0.0.dev0"

if TYPE_CHECKING:
    from bitstore.blob import Blob
    from bitstore.caches.disk import DiskCache
    from bitstore.caches.memory import MemoryCache
    from bitstore.composite import Composite
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
    from bitstore.hashed import (
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
    from bitstore.limits.calls import CallLimit
    from bitstore.limits.rates import RateLimit
    from bitstore.raw.file import FileRaw
    from bitstore.raw.gs import GSRaw
    from bitstore.raw.http import HTTPRaw
    from bitstore.raw.s3 import ANONYMOUS, S3Raw
    from bitstore.store import Store
    from bitstore.transfer.retry import Retry

_MODULES = {
    "bitstore.blob": ("Blob",),
    "bitstore.caches.disk": ("DiskCache",),
    "bitstore.caches.memory": ("MemoryCache",),
    "bitstore.composite": ("Composite",),
    "bitstore.errors": (
        "AccessDenied", "BitstoreError", "InvalidDataFound", "InvalidURI", "LimitReached", "LookupFailed",
        "LookupTimedOut", "NotFoundInStore", "StoreNotAvailable", "TooManyRequests",
    ),
    "bitstore.hashed": (
        "DigestAPISource", "DigestCache", "DigestComposite", "DigestFormatMixin", "DigestStore",
        "Md5APISource", "Md5Cache", "Md5Composite", "Md5Store",
        "Sha1APISource", "Sha1Cache", "Sha1Composite", "Sha1FormatMixin", "Sha1Store",
        "Sha256APISource", "Sha256Cache", "Sha256Composite", "Sha256Store", "VerifyDigestMixin", "VerifySha1Mixin",
    ),
    "bitstore.limits.calls": ("CallLimit",),
    "bitstore.limits.rates": ("RateLimit",),
    "bitstore.raw.file": ("FileRaw",),
    "bitstore.raw.gs": ("GSRaw",),
    "bitstore.raw.http": ("HTTPRaw",),
    "bitstore.raw.s3": ("ANONYMOUS", "S3Raw"),
    "bitstore.store": ("Store",),
    "bitstore.transfer.retry": ("Retry",),
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
