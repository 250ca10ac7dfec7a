"""Tiers of a configuration file that have a URL: what they may say, and the stores they stand for."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from bitstore._digests.named import Md5Cache, Md5Store, Sha1Cache, Sha1Store, Sha256Cache, Sha256Store
from bitstore._digests.store import DigestStore
from bitstore._limits.rates import RateLimit
from bitstore._lookup.retry import Retry
from bitstore._raw.file import FileRaw
from bitstore._raw.gs import GSRaw
from bitstore._raw.http import HTTPRaw
from bitstore._raw.lfs import LFSRaw
from bitstore._raw.s3 import S3Raw
from bitstore.config._expand import expand_home, expand_variables
from bitstore.config._local import Context, ReadTier, Tier
from bitstore.store import Store

__all__ = ["SCHEMES"]

_STORES = {"sha1": Sha1Store, "sha256": Sha256Store, "md5": Md5Store}
_CACHES = {"sha1": Sha1Cache, "sha256": Sha256Cache, "md5": Md5Cache}


class _URLTier(ReadTier, kw_only=True):
    """A raw store and a prefix or key template."""

    not_raw: ClassVar[frozenset[str]] = frozenset(
        {"name", "url", "cache", "read", "cache_result", "verify", "compression"}
    )

    # Class of the raw store.
    raw: ClassVar[type[Store]]

    url: str
    verify: bool = True
    compression: str | None = None
    max_blob_size: int | str | None = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        """Keyword arguments of the raw store: those that the file gives."""
        options = {key: getattr(self, key) for key in self.__struct_fields__ if key not in self.not_raw}
        return {key: value for key, value in options.items() if value is not None}

    def prefix(self, context: Context) -> str:
        """The URL prefix or key template, in a file with its environment variables expanded."""
        return expand_variables(self.url, "url", encode=_in_template) if context.from_file else self.url

    def store(self, context: Context) -> Store:
        options = self.raw_options(context)
        key = repr((self.raw, sorted(options.items())))
        raw = context.raw_stores.get(key)
        if raw is None:
            raw = context.raw_stores[key] = self.raw(**options)
        limit: dict[str, Any] = {} if self.max_blob_size is None else {"max_blob_size": self.max_blob_size}
        make: type[DigestStore] = (_CACHES if self.cache else _STORES)[context.algorithm]
        return make(raw, self.prefix(context), self.verify, compression=self.compression, **limit)


class FileTier(_URLTier, kw_only=True):
    """Files of this machine."""

    what: ClassVar[str] = "a tier with a file:// URL"
    raw: ClassVar[type[Store]] = FileRaw

    missing_folder: str | None = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        return {} if self.missing_folder is None else {"missing_folder": self.missing_folder}

    def prefix(self, context: Context) -> str:
        """`file:///...` with the home and variables that the file names expanded."""
        if not context.from_file:
            return self.url
        scheme, separator, path = expand_variables(self.url, "url", encode=quote).partition("://")
        if path.lstrip("/").startswith("~"):
            user, slash, rest = path.lstrip("/").partition("/")
            path = f"{quote(str(expand_home(user, 'url')))}{slash}{rest}"
        return f"{scheme}{separator}{path}"


class _WireTier(_URLTier, kw_only=True):
    """What all stores behind HTTP know."""

    forbidden_is_missing: bool | None = None
    missing_bucket: str | None = None
    connect_timeout: float | None = None
    stall_timeout: float | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    retry: Retry | None = None
    requests_per_second: float | None = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        per_second = options.pop("requests_per_second", None)
        if per_second is not None:
            if not per_second > 0:
                raise ValueError(f"requests_per_second = {per_second!r}: must be more than 0")
            options["limit"] = RateLimit(per_second=per_second)
        if self.ca_bundle is not None:
            options["ca_bundle"] = context.path(self.ca_bundle, "ca_bundle")
        return options


class S3Tier(_WireTier, kw_only=True):
    """A bucket of Amazon S3, or of what speaks like it."""

    what: ClassVar[str] = "a tier with an s3:// URL"
    raw: ClassVar[type[Store]] = S3Raw

    profile: str | None = None
    anonymous: bool = False
    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: str | None = None
    requester_pays: bool | None = None
    acl: str | None = None
    storage_class: str | None = None
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    request_checksum_calculation: str | None = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        profile, anonymous = options.pop("profile", None), options.pop("anonymous")
        if profile == "":
            raise ValueError("profile is empty: name a profile, or leave it out")
        if profile and anonymous:
            raise ValueError("profile and anonymous exclude each other: leave one out")
        if profile or anonymous:
            options["credentials"] = "anonymous" if anonymous else {"profile_name": profile}
        return options


class GSTier(_WireTier, kw_only=True):
    """A bucket of Google Cloud Storage."""

    what: ClassVar[str] = "a tier with a gs:// URL"
    raw: ClassVar[type[Store]] = GSRaw

    anonymous: bool = False
    endpoint_url: str | None = None
    user_project: str | None = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        if options.pop("anonymous"):
            options["credentials"] = "anonymous"
        return options


class HTTPTier(_WireTier, kw_only=True):
    """Any web server."""

    what: ClassVar[str] = "a tier with an http(s):// URL"
    raw: ClassVar[type[Store]] = HTTPRaw

    headers: dict[str, str] | None = None
    follow_redirects: int | None = None

    def prefix(self, context: Context) -> str:
        """The URL as it is: a dollar sign has no other meaning in the path of a web server."""
        return self.url

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        if self.headers is not None:
            options["headers"] = {
                name: expand_variables(value, f"headers: {name}", only_in_braces=True)
                for name, value in self.headers.items()
            }
        return options


class LFSTier(HTTPTier, kw_only=True):
    """A Git LFS server, at `lfs+https://host/repository.git/info/lfs/`."""

    what: ClassVar[str] = "a tier with an lfs+http(s):// URL"
    raw: ClassVar[type[Store]] = LFSRaw

    batch_size: int | None = None

    def prefix(self, context: Context) -> str:
        """The URL of the LFS server itself."""
        return self.url.partition("+")[2]


SCHEMES: dict[str, type[Tier]] = {
    "s3": S3Tier,
    "gs": GSTier,
    "http": HTTPTier,
    "https": HTTPTier,
    "file": FileTier,
    "lfs+http": LFSTier,
    "lfs+https": LFSTier,
}


def _in_template(value: str) -> str:
    """`value` with its braces doubled, so that a key template takes them literally."""
    return value.replace("{", "{{").replace("}", "}}")
