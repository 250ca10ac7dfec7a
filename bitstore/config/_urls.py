"""Tiers of a configuration file that have a URL: what they may say, and the stores they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

import msgspec

from bitstore._digests.compression import CODECS
from bitstore._digests.named import FAMILIES
from bitstore._digests.store import DigestStore
from bitstore._limits.rates import RateLimit
from bitstore._lookup.retry import Retry
from bitstore._raw.file import FileRaw
from bitstore._raw.gs import GSRaw
from bitstore._raw.http import HTTPRaw
from bitstore._raw.lfs import LFSRaw
from bitstore._raw.s3 import S3Raw
from bitstore._support.redact import redact_url
from bitstore.config._expand import expand_home, expand_variables
from bitstore.config._money import PRICE, PriceTable, price_of
from bitstore.config._packs import PacksTable
from bitstore.config._references import ReferencesTable
from bitstore.config._tier import SIZE, Context, ReadTier, Table, about
from bitstore.store import Store

__all__ = ["ABSENCE", "SCHEMES", "FileTier", "GSTier", "HTTPTier", "LFSTier", "RetryTable", "S3Tier", "URLTier"]

ABSENCE = ["failure", "missing"]


class RetryTable(Table, kw_only=True):
    """How often and how long transient failures are tried again: see `Retry`."""

    what: ClassVar[str] = "a retry table"

    attempts: Annotated[int, about("How many times a request may be sent in all.", minimum=1)] = 4
    first_delay: Annotated[float, about("Seconds: the upper bound of the first pause.", minimum=0)] = 0.1
    longest_delay: Annotated[float, about("Seconds: the upper bound of any pause.", minimum=0)] = 5.0
    budget: Annotated[float, about("Seconds after which no further try is begun.", minimum=0)] = 30.0


class URLTier(ReadTier, kw_only=True):
    """A raw store and a prefix or key template."""

    # Class of the raw store.
    raw: ClassVar[type[Store]]

    url: str
    verify: Annotated[bool, about("Whether bytes must match their digest.")] = True
    compression: Annotated[
        str | None,
        about(
            "How the stored bytes are compressed; digests are of the expanded ones. With verify, plain ones do too.",
            enum=[*CODECS],
        ),
    ] = None
    max_blob_size: Annotated[
        int | str | None,
        about("Give up on larger blobs: a number of bytes, or a size such as `1GB`; default: no limit.", pattern=SIZE),
    ] = None
    references: Annotated[
        ReferencesTable | None,
        about("A table that says where each blob lies; `url` is what its relative URLs are appended to."),
    ] = None
    index: Annotated[
        str | None, about("Path of a membership index: a tier that surely lacks a blob is asked last.", minLength=1)
    ] = None
    index_max_age: Annotated[
        float | None, about("Seconds after which an index is no proof; default: two days.", exclusiveMinimum=0)
    ] = None
    recheck: Annotated[
        bool | None,
        about("`false`: what the index proves to be absent is missing without a request, unless a paid tier follows."),
    ] = None
    packs: Annotated[
        PacksTable | None,
        about("Of a cache: blobs are kept in packs, many of them in one object; `url` is the folder of the packs."),
    ] = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        """Keyword arguments of the raw store: those that the file gives."""
        common = {*URLTier.__struct_fields__} - {"max_blob_size"}
        options = {key: getattr(self, key) for key in self.__struct_fields__ if key not in common}
        return {key: value for key, value in options.items() if value is not None}

    def prefix(self, context: Context) -> str:
        """The URL prefix or key template, in a file with its environment variables expanded."""
        return expand_variables(self.url, "url", encode=_in_template) if context.from_file else self.url

    def raw_store(self, context: Context) -> Store:
        """The raw store, which tiers with equal options share."""
        raw: Store = context.once(self.raw.__name__, self.raw_options(context), self.raw)
        return raw

    def store(self, context: Context) -> Store:
        raw = self.raw_store(context)
        limit: dict[str, Any] = {} if self.max_blob_size is None else {"max_blob_size": self.max_blob_size}
        if self.references is not None:
            return self._by_references(self.references, raw, context, limit)
        if self.packs is not None:
            return self._in_packs(self.packs, raw, context)
        limit |= self._index_options(context)
        family = FAMILIES[context.algorithm]
        make: type[DigestStore] = family.cache if self.cache else family.store
        return make(raw, self.prefix(context), self.verify, compression=self.compression, **limit)

    def _by_references(self, table: ReferencesTable, raw: Store, context: Context, limit: dict[str, Any]) -> Store:
        url = self.prefix(context)
        for given, why in (
            (self.cache, "cache = true excludes references: what is in a table cannot be written"),
            (self.index, "index excludes references: the table itself says what is there"),
            (self.compression, "compression excludes references: what lies there is expanded where it has to be"),
            ("{" in url, "url: with references it is no key template, but what relative URLs are appended to"),
            (self.packs, "references and packs exclude each other"),
            (isinstance(raw, LFSRaw), "references: a Git LFS server gives whole blobs by their digests alone"),
        ):
            if given:
                raise ValueError(why)
        scheme = url.partition("://")[0].lower()
        schemes = ("http", "https") if scheme in ("http", "https") else (scheme,)
        options = {"raw": dict.fromkeys(schemes, raw), "verify": self.verify, **limit}
        return table.store(context, url, options)

    def _index_options(self, context: Context) -> dict[str, Any]:
        index = None if self.index is None else context.path(self.index, "index")
        options = {"index": index, "index_max_age": self.index_max_age, "recheck": self.recheck}
        return {key: value for key, value in options.items() if value is not None}

    def _in_packs(self, table: PacksTable, raw: Store, context: Context) -> Store:
        for given, why in (
            (not self.cache, "packs belong to a cache (cache = true); a source of packs is one by references"),
            (self.index, "index excludes packs: each pack has an index of its own"),
            (self.compression, "compression excludes packs: blobs lie in them as they are"),
            (self.max_blob_size, "max_blob_size excludes packs: a pack takes what it is given"),
        ):
            if given:
                raise ValueError(why)
        return table.store(context, raw, self.prefix(context), verify=self.verify)


class FileTier(URLTier, kw_only=True):
    """Files of this machine."""

    what: ClassVar[str] = "a tier with a file:// URL"
    raw: ClassVar[type[Store]] = FileRaw

    url: Annotated[str, about("A prefix or key template; `~` is a home folder.", pattern="^[fF][iI][lL][eE]://")]
    root: Annotated[str | None, about("Only files below this folder.", minLength=1)] = None
    missing_folder: Annotated[
        str | None,
        about("What a folder that is not there means: `failure`, or all of its blobs are `missing`.", enum=ABSENCE),
    ] = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        options.pop("max_blob_size", None)
        if self.root is not None:
            options["root"] = context.path(self.root, "root")
        return options

    def prefix(self, context: Context) -> str:
        """`file:///...` with the home and variables that the file names expanded."""
        if not context.from_file:
            return self.url
        scheme, separator, path = expand_variables(self.url, "url", encode=quote).partition("://")
        if path.lstrip("/").startswith("~"):
            user, slash, rest = path.lstrip("/").partition("/")
            path = f"{quote(str(expand_home(user, 'url')))}{slash}{rest}"
        return f"{scheme}{separator}{path}"


class _WireTier(URLTier, kw_only=True):
    """What all stores behind HTTP know."""

    forbidden_is_missing: Annotated[
        bool | None, about("Whether a refusal to read an object counts as missing: without the right to list.")
    ] = None
    missing_bucket: Annotated[
        str | None,
        about("What a bucket that is not there means: `failure`, or all of its blobs are `missing`.", enum=ABSENCE),
    ] = None
    range_threshold: Annotated[
        int | str | None, about("Blobs above this size are fetched in several ranges at once.", pattern=SIZE)
    ] = None
    connect_timeout: Annotated[float | None, about("Seconds to wait for a connection.", exclusiveMinimum=0)] = None
    stall_timeout: Annotated[
        float | None, about("Seconds without a byte, after which a try ends.", exclusiveMinimum=0)
    ] = None
    total_timeout: Annotated[float | None, about("Seconds that one try may take in all.", exclusiveMinimum=0)] = None
    ca_bundle: Annotated[str | None, about("Path of a PEM file or folder of certificate authorities.", minLength=1)] = (
        None
    )
    proxy: Annotated[str | None, about('URL of an HTTP proxy; `""`: none, whatever the environment says.')] = None
    retry: Annotated[RetryTable | None, about("How often and how long transient failures are tried again.")] = None
    price: Annotated[str | PriceTable | None, about(PRICE)] = None
    requests_per_second: Annotated[
        float | None, about("The most requests per second of one process.", exclusiveMinimum=0)
    ] = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        per_second = options.pop("requests_per_second", None)
        if per_second is not None:
            if not per_second > 0:
                raise ValueError(f"requests_per_second = {per_second!r}: must be more than 0")
            options["limit"] = RateLimit(per_second=per_second)
        if self.price is not None:
            options["price"] = price_of(self.price)
        if self.retry is not None:
            options["retry"] = Retry(**msgspec.structs.asdict(self.retry))
        if self.ca_bundle is not None:
            options["ca_bundle"] = context.path(self.ca_bundle, "ca_bundle")
        return options


class S3Tier(_WireTier, kw_only=True):
    """A bucket of Amazon S3, or of what speaks like it."""

    what: ClassVar[str] = "a tier with an s3:// URL"
    raw: ClassVar[type[Store]] = S3Raw

    url: Annotated[
        str, about("A prefix or key template: `s3://bucket/files/`, `s3://bucket/{digest}.gz`.", pattern="^[sS]3://")
    ]
    profile: Annotated[
        str | list[str] | None,
        about("Profile of the AWS configuration. Several: the one that a bucket lets in is used for it.", minLength=1),
    ] = None
    anonymous: Annotated[bool, about("Whether requests are unsigned, for public buckets.")] = False
    endpoint_url: Annotated[str | None, about("Address of a service other than Amazon's.")] = None
    region: Annotated[str | None, about("Region that requests are signed for.")] = None
    addressing_style: Annotated[
        str | None, about("Where the bucket's name stands in requests.", enum=["auto", "path", "virtual"])
    ] = None
    requester_pays: Annotated[bool | None, about("Whether to pay for requests to buckets of others.")] = None
    acl: Annotated[str | None, about("Canned ACL of what is written.")] = None
    storage_class: Annotated[str | None, about("Storage class of what is written.")] = None
    server_side_encryption: Annotated[str | None, about("Encryption of what is written, such as `aws:kms`.")] = None
    kms_key_id: Annotated[str | None, about("Key of that encryption.")] = None
    request_checksum_calculation: Annotated[
        str | None,
        about("`when_required`: writes carry no checksum header.", enum=["when_supported", "when_required"]),
    ] = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        profile, anonymous = options.pop("profile", None), options.pop("anonymous")
        names = [profile] if isinstance(profile, str) else profile
        if names is not None and not all(names or [""]):
            raise ValueError("profile is empty: name a profile, or leave it out")
        if names and anonymous:
            raise ValueError("profile and anonymous exclude each other: leave one out")
        entries: list[Any] = ["anonymous"] if anonymous else [{"profile_name": name} for name in names or ()]
        if entries:
            options["credentials"] = entries if isinstance(profile, list) else entries[0]
        return options


class GSTier(_WireTier, kw_only=True):
    """A bucket of Google Cloud Storage."""

    what: ClassVar[str] = "a tier with a gs:// URL"
    raw: ClassVar[type[Store]] = GSRaw

    url: Annotated[
        str, about("A prefix or key template: `gs://bucket/files/`, `gs://bucket/{digest}.gz`.", pattern="^[gG][sS]://")
    ]
    key_file: Annotated[str | None, about("Path of a service account's key file (JSON).", minLength=1)] = None
    anonymous: Annotated[bool, about("Whether requests carry no token, for public buckets.")] = False
    endpoint_url: Annotated[str | None, about("Address of a service other than Google's.")] = None
    user_project: Annotated[str | None, about("The project that pays for requests to buckets of others.")] = None

    def raw_options(self, context: Context) -> dict[str, Any]:
        options = super().raw_options(context)
        key_file, anonymous = options.pop("key_file", None), options.pop("anonymous")
        if key_file is not None and anonymous:
            raise ValueError("key_file and anonymous exclude each other: leave one out")
        if key_file is not None:
            options["credentials"] = _fields_of(context.path(key_file, "key_file"))
        elif anonymous:
            options["credentials"] = "anonymous"
        return options


class HTTPTier(_WireTier, kw_only=True):
    """Any web server."""

    what: ClassVar[str] = "a tier with an http(s):// URL"
    raw: ClassVar[type[Store]] = HTTPRaw

    url: Annotated[str, about("A prefix or key template: `https://host/blobs/`.", pattern="^[hH][tT][tT][pP][sS]?://")]
    headers: Annotated[
        dict[str, str] | None, about("Headers of each request; `${NAME}` stands for an environment variable.")
    ] = None
    follow_redirects: Annotated[int | None, about("The most redirects that are followed.", minimum=0)] = None

    def prefix(self, context: Context) -> str:
        """The URL as it is: a dollar sign has no other meaning in the path of a web server."""
        if self.url.rstrip("/").endswith("/info/lfs"):  # nothing is found there, and all blobs would count as missing
            raise ValueError(f"url = {redact_url(self.url)!r} is a Git LFS server: write 'lfs+' in front of it")
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

    url: Annotated[
        str,
        about(
            "The LFS server: `lfs+https://host/repository.git/info/lfs/`.",
            pattern=r"^[lL][fF][sS]\+[hH][tT]{2}[pP][sS]?://",
        ),
    ]
    batch_size: Annotated[int | None, about("The most objects in one request.", minimum=1)] = None

    def prefix(self, context: Context) -> str:
        """The URL of the LFS server itself."""
        return self.url.partition("+")[2]


SCHEMES: dict[str, type[URLTier]] = {
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


def _fields_of(path: str) -> dict[str, Any]:
    """The fields of a service account's key file. Raises ValueError, which shows nothing of its content."""
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"key_file: cannot read {path}: {error.strerror}") from error
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or fields.get("type") != "service_account":
        raise ValueError(f"key_file: {path} is no key file of a service account")
    return fields
