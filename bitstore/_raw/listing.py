"""What lies under a prefix, a page at a time.

Lookups never list. It is for looking after a bucket: `ListObjectsV2` of S3
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html), `objects.list` of Google Cloud Storage
(https://cloud.google.com/storage/docs/json_api/v1/objects/list).
"""

from __future__ import annotations

import html
import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

__all__ = ["Listed", "Listing", "gcs_listing", "gcs_query", "s3_buckets", "s3_listing", "s3_query"]

_PART = re.compile(r"<(Contents|CommonPrefixes)>(.*?)</\1>", re.DOTALL)
_FIELD = re.compile(r"<(Key|Size|ETag|Prefix)>([^<]*)</\1>")
_BUCKET = re.compile(r"<Bucket>.*?<Name>([^<]*)</Name>.*?</Bucket>", re.DOTALL)
_NEXT = re.compile(r"<NextContinuationToken>([^<]*)</NextContinuationToken>")
_CUT = re.compile(r"<IsTruncated>true</IsTruncated>")
_ENCODED = re.compile(r"<EncodingType>url</EncodingType>")
_RESULT = re.compile(r"<ListBucketResult(?:\s[^>]*)?(?:/>|>.*</ListBucketResult>)\s*\Z", re.DOTALL)


class Listed(NamedTuple):
    """An object in a listing."""

    url: str
    size: int  # bytes as stored
    etag: str  # as the service names the version, in quotation marks; empty: it was not named


class Listing(NamedTuple):
    """A page of a listing."""

    objects: tuple[Listed, ...]
    # URLs with their last slash; empty unless one level was asked for.
    folders: tuple[str, ...]
    # What asks for the next page; None: this is the last one.
    after: str | None


def s3_query(prefix: str, *, one_level: bool, most: int, after: str | None, beyond: str | None = None) -> str:
    """The query of a page, with its names in the order in which they are signed; of keys behind `beyond` alone."""
    options = {
        "continuation-token": after,
        "delimiter": "/" if one_level else None,
        "encoding-type": "url",  # else keys with control characters would break the XML
        "list-type": "2",
        "max-keys": str(most),
        "prefix": prefix,
        "start-after": beyond,
    }
    return _query(options)


def s3_listing(body: bytes, bucket: str) -> Listing | None:
    """The page that `body` holds; None: it is something else, or is cut and does not say how to go on."""
    text = body.decode("utf-8", "replace")
    if _RESULT.search(text) is None:
        return None
    encoded = _ENCODED.search(text) is not None

    def url(key: str) -> str:
        plain = html.unescape(key)
        # A plus is a blank to Amazon's encoding, which percent-encodes a plus.
        return f"s3://{bucket}/{unquote(plain.replace('+', ' ')) if encoded else plain}"

    objects, folders = [], []
    for kind, inner in _PART.findall(text):
        fields = dict(_FIELD.findall(inner))
        if kind == "CommonPrefixes":
            folders.append(url(fields.get("Prefix", "")))
        else:
            size = fields.get("Size", "")
            etag = html.unescape(fields.get("ETag", ""))
            objects.append(Listed(url(fields.get("Key", "")), int(size) if size.isdecimal() else 0, etag))
    found = _NEXT.search(text)
    if found is None and _CUT.search(text) is not None:  # taken for the whole, it would make all others missing
        return None
    return Listing(tuple(objects), tuple(folders), html.unescape(found[1]) if found else None)


def s3_buckets(body: bytes) -> list[str]:
    """The names in a list of buckets."""
    return _BUCKET.findall(body.decode("utf-8", "replace"))


def gcs_query(prefix: str, *, one_level: bool, most: int, after: str | None, beyond: str | None = None) -> str:
    """The query of a page; of keys from `beyond` on alone, which is one of them."""
    options = {
        "delimiter": "/" if one_level else None,
        "fields": "items(name,size,etag),prefixes,nextPageToken",
        "maxResults": str(most),
        "pageToken": after,
        "prefix": prefix,
        "startOffset": beyond,
    }
    return _query(options)


def gcs_listing(body: bytes, bucket: str) -> Listing | None:
    """The page that `body` holds; None: it is something else."""
    try:
        page: dict[str, Any] = json.loads(body)
        objects = tuple(
            Listed(f"gs://{bucket}/{item['name']}", int(item.get("size", 0)), str(item.get("etag", "")))
            for item in page.get("items", ())
        )
        folders = tuple(f"gs://{bucket}/{prefix}" for prefix in page.get("prefixes", ()))
        return Listing(objects, folders, page.get("nextPageToken") or None)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _query(options: dict[str, str | None]) -> str:
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in options.items() if value is not None)
