"""What one `[[tier]]` of a configuration file may say, and the store that it stands for."""

from __future__ import annotations

import difflib
import importlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from bitstore.digest import algorithm
from bitstore.hashed import (
    DigestStore,
    Md5Cache,
    Md5Store,
    Sha1Cache,
    Sha1Store,
    Sha256Cache,
    Sha256Store,
    VerifyDigestMixin,
)
from bitstore.store import Store
from bitstore.transfer.retry import Retry

__all__ = ["Context", "Tier", "convert", "tier"]

_STORES = {"sha1": Sha1Store, "sha256": Sha256Store, "md5": Md5Store}
_CACHES = {"sha1": Sha1Cache, "sha256": Sha256Cache, "md5": Md5Cache}
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_USERINFO = re.compile(r"//[^/?#]*@")
_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)


@dataclass(frozen=True)
class Context:
    """What the tiers of one file share.

    Attributes
    ----------
    algorithm
        Name of the digests' algorithm.
    folder
        Where relative paths begin.
    raw_stores
        Raw stores made so far, by class and options: tiers with the same ones share credentials and connections.
    """

    algorithm: str
    folder: Path
    raw_stores: dict[str, Store] = field(default_factory=dict)

    def path(self, text: str) -> str:
        """`text` as an absolute path; `~` is the user's home."""
        return str((self.folder / Path(text).expanduser()).absolute())


class Tier(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every tier has.

    Attributes
    ----------
    name
        Its name in statistics and errors.
    is_cache
        Whether it keeps what the tiers below it return.
    """

    what: ClassVar[str] = "a tier"

    name: str

    @property
    def is_cache(self) -> bool:
        """Whether lookups fill it."""
        return True

    def append_options(self) -> dict[str, Any]:
        """Keyword arguments of `append_cache` or `append_source`."""
        return {}

    def store(self, context: Context) -> Store:
        """The store. Raises ValueError, which names the key, for a value that makes no sense."""
        raise NotImplementedError


class DiskTier(Tier, kw_only=True):
    """A folder on this machine, as a cache."""

    what: ClassVar[str] = 'a tier with cache = "disk"'

    cache: str
    path: str | None = None
    max_size: int | str | None = None
    verify: bool = True

    def store(self, context: Context) -> Store:
        from bitstore.caches.disk import DiskCache

        options: dict[str, Any] = {} if self.max_size is None else {"max_size": self.max_size}
        return DiskCache(None if self.path is None else context.path(self.path), verify=self.verify, **options)


class MemoryTier(Tier, kw_only=True):
    """Memory of the process, as a cache."""

    what: ClassVar[str] = 'a tier with cache = "memory"'

    cache: str
    max_size: int | str = "256MB"

    def store(self, context: Context) -> Store:
        from bitstore.caches.memory import MemoryCache

        return MemoryCache(self.max_size)


class _ReadTier(Tier, kw_only=True):
    """A tier that is a source unless it says `cache = true`."""

    cache: bool = False
    read: bool | None = None
    cache_result: bool | None = None

    @property
    def is_cache(self) -> bool:
        return self.cache

    def append_options(self) -> dict[str, Any]:
        if self.cache:
            if self.cache_result is not None:
                raise ValueError("cache_result belongs to a source, and this tier is a cache (cache = true)")
            return {} if self.read is None else {"read": self.read}
        if self.read is not None:
            raise ValueError("read belongs to a cache, and this tier is a source (no cache = true)")
        return {} if self.cache_result is None else {"cache_result": self.cache_result}


class PythonTier(_ReadTier, kw_only=True):
    """Whatever store a user's own function makes."""

    what: ClassVar[str] = "a tier with python = ..."

    python: str
    verify: bool | None = None

    def store(self, context: Context) -> Store:
        module, colon, name = self.python.partition(":")
        if not (colon and all(part.isidentifier() for part in [*module.split("."), *name.split(".")])):
            raise ValueError(f"python = {self.python!r}: expected 'package.module:function'")
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except ImportError as error:
            raise ValueError(f"python = {self.python!r}: {error} (is it installed, or on PYTHONPATH?)") from error
        except AttributeError as error:
            raise ValueError(f"python = {self.python!r}: {error}") from error
        try:
            store: Store = found()
        except Exception as error:  # whatever their function raises, the tier's name must stand beside it
            raise ValueError(f"python = {self.python!r} raised {type(error).__name__}: {error}") from error
        # Stores of a file verify unless it says otherwise; one that knows nothing of it cannot be told.
        if isinstance(store, VerifyDigestMixin):
            store.verify = self.verify is not False  # type: ignore[attr-defined]
        elif self.verify is not None:
            raise ValueError(f"verify: {type(store).__name__} does not have it; add VerifyDigestMixin, or leave it out")
        return store


class RetryTable(msgspec.Struct, forbid_unknown_fields=True):
    """How often and how long to try: see `Retry`."""

    what: ClassVar[str] = "a retry table"

    attempts: int = Retry().attempts
    first_delay: float = Retry().first_delay
    longest_delay: float = Retry().longest_delay
    budget: float = Retry().budget


class _URLTier(_ReadTier, kw_only=True):
    """A raw store and a prefix or key template."""

    not_raw: ClassVar[frozenset[str]] = frozenset(
        {"name", "url", "cache", "read", "cache_result", "verify", "compression"}
    )

    url: str
    verify: bool = True
    compression: str | None = None
    max_blob_size: int | str | None = None

    def raw_class(self) -> type[Store]:
        raise NotImplementedError

    def raw_options(self, context: Context) -> dict[str, Any]:
        """Keyword arguments of the raw store: those that the file gives."""
        options = {key: getattr(self, key) for key in self.__struct_fields__ if key not in self.not_raw}
        return {key: value for key, value in options.items() if value is not None}

    def store(self, context: Context) -> Store:
        raw_class, options = self.raw_class(), self.raw_options(context)
        key = repr((raw_class, sorted(options.items())))
        raw = context.raw_stores.get(key)
        if raw is None:
            raw = context.raw_stores[key] = raw_class(**options)
        limit: dict[str, Any] = {} if self.max_blob_size is None else {"max_blob_size": self.max_blob_size}
        make: type[DigestStore] = (_CACHES if self.cache else _STORES)[context.algorithm]
        store = make(raw, self.url, self.verify, compression=self.compression, **limit)
        if not raw.is_valid(store.url("0" * algorithm(context.algorithm).length)):
            shown = _USERINFO.sub("//***@", self.url)
            raise ValueError(f"url = {shown!r} plus a digest is no URL that {raw_class.__name__} takes: {raw.URI_HINT}")
        return store


class FileTier(_URLTier, kw_only=True):
    """Files of this machine."""

    what: ClassVar[str] = "a tier with a file:// URL"

    def raw_class(self) -> type[Store]:
        from bitstore.raw.file import FileRaw

        return FileRaw

    def raw_options(self, context: Context) -> dict[str, Any]:
        return {}


class _WireTier(_URLTier, kw_only=True):
    """What all stores behind HTTP know."""

    forbidden_is_missing: bool | None = None
    connect_timeout: float | None = None
    stall_timeout: float | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    retry: RetryTable | None = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        if self.ca_bundle is not None:
            options["ca_bundle"] = context.path(self.ca_bundle)
        if self.retry is not None:
            options["retry"] = Retry(**msgspec.structs.asdict(self.retry))
        return options


class S3Tier(_WireTier, kw_only=True):
    """A bucket of Amazon S3, or of what speaks like it."""

    what: ClassVar[str] = "a tier with an s3:// URL"

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

    def raw_class(self) -> type[Store]:
        from bitstore.raw.s3 import S3Raw

        return S3Raw

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        profile, anonymous = options.pop("profile", None), options.pop("anonymous")
        if profile and anonymous:
            raise ValueError("profile and anonymous exclude each other: leave one out")
        if profile or anonymous:
            options["credentials"] = "anonymous" if anonymous else {"profile_name": profile}
        return options


class GSTier(_WireTier, kw_only=True):
    """A bucket of Google Cloud Storage."""

    what: ClassVar[str] = "a tier with a gs:// URL"

    anonymous: bool = False
    endpoint_url: str | None = None
    user_project: str | None = None

    def raw_class(self) -> type[Store]:
        from bitstore.raw.gs import GSRaw

        return GSRaw

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        if options.pop("anonymous"):
            options["credentials"] = "anonymous"
        return options


class HTTPTier(_WireTier, kw_only=True):
    """Any web server."""

    what: ClassVar[str] = "a tier with an http(s):// URL"

    headers: dict[str, str] | None = None
    follow_redirects: int | None = None

    def raw_class(self) -> type[Store]:
        from bitstore.raw.http import HTTPRaw

        return HTTPRaw

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        if self.headers is not None:
            options["headers"] = {name: _expanded(name, value) for name, value in self.headers.items()}
        return options


_LOCAL: dict[str, type[Tier]] = {"disk": DiskTier, "memory": MemoryTier}
_SCHEMES: dict[str, type[Tier]] = {"s3": S3Tier, "gs": GSTier, "http": HTTPTier, "https": HTTPTier, "file": FileTier}


def tier(table: dict[str, Any]) -> Tier:
    """The checked form of one `[[tier]]`. Raises ValueError that names the key and what would be right."""
    checked: Tier = convert(table, _kind(table))
    return checked


def convert(table: dict[str, Any], kind: type[Any]) -> Any:
    """`table` as a `kind`, with errors that a person can act on: raises ValueError."""
    known = list(kind.__struct_fields__)
    if isinstance(table.get("retry"), dict) and "retry" in known:
        convert(table["retry"], RetryTable)
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"unknown key {key!r}{meant}; {kind.what} takes: {', '.join(known)}")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        text, place = (match[1], f"{match[2]}: ") if match and match[2] else (str(error), "")
        raise ValueError(place + text.replace(" | null", "").replace("`", "").replace("Expected", "expected")) from None


def _kind(table: dict[str, Any]) -> type[Tier]:
    cache = table.get("cache")
    local = isinstance(cache, str)
    places = [key for key in ("url", "python") if key in table] + (["cache"] if local else [])
    if len(places) != 1:
        begun = f"{' and '.join(places)} exclude each other" if places else "nothing says where its blobs are"
        raise ValueError(
            f"{begun}: give either url = 's3://bucket/prefix/', or cache = 'disk' (with path), "
            "or cache = 'memory', or python = 'package.module:function'"
        )
    if local:
        if cache not in _LOCAL:
            raise ValueError(f"cache = {cache!r}: choose 'disk' or 'memory', or with a url true or false")
        return _LOCAL[cache]
    if "python" in table:
        return PythonTier
    url = table["url"]
    if not isinstance(url, str):
        raise ValueError(f"url: expected str, got {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise ValueError(
            f"url = {url!r}: its scheme is unknown; choose one of {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    return _SCHEMES[scheme.lower()]


def _expanded(header: str, value: str) -> str:
    def look_up(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ValueError(f"headers: the environment variable {match[1]} is not set, and {header} needs it")
        return found

    return _VARIABLE.sub(look_up, value)
