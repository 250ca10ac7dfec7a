"""Amazon S3, and everything that speaks its REST API.

Protocol: https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from binascii import b2a_base64
from collections.abc import Callable
from functools import partial
from typing import Any

from bitstore._lookup.retry import Rate, Retry, send
from bitstore._raw.base import (
    CONNECT_TIMEOUT,
    DEFAULT_RETRY,
    RANGE_THRESHOLD,
    STALL_TIMEOUT,
    WireStore,
    blob_bytes,
    endpoint,
    in_header,
    options,
)
from bitstore._raw.parts import in_parts
from bitstore._raw.problems import Problem, transfer_problem
from bitstore._raw.s3_client import S3Client
from bitstore._raw.s3_credentials import ANONYMOUS, Credentials, Entry, Where, as_list, show
from bitstore._raw.s3_exchange import REGION, Asked, exchange
from bitstore._raw.s3_routes import Route, Routes
from bitstore._support.compat import warn_of_unused
from bitstore.steps import Call, Found, Request, Response, Sink, Steps, TransferError, Write

__all__ = ["ANONYMOUS", "S3Raw"]

# Group 2: a key that needs no percent-encoding, as keys made of digests are. Group 3: any other.
# NUL, CR and LF are refused, and half surrogates, which have no UTF-8.
_URL = re.compile(
    r"s3://([A-Za-z0-9][A-Za-z0-9._-]{0,254})/(?:([A-Za-z0-9/_.~-]+)|([^\x00\r\n\ud800-\udfff]+))"
).fullmatch

_HASH_INLINE = 1024 * 1024  # bytes; hashing more than this holds up a transfer thread for milliseconds
_STYLES = (None, "auto", "path", "virtual")

_DEFAULTS: dict[str, Any] = {
    "endpoint_url": None,
    "region": None,
    "addressing_style": None,
    "forbidden_is_missing": False,
    "requester_pays": False,
    "acl": None,
    "storage_class": None,
    "server_side_encryption": None,
    "kms_key_id": None,
    "max_blob_size": None,
    "range_threshold": RANGE_THRESHOLD,
    "connect_timeout": CONNECT_TIMEOUT,
    "stall_timeout": STALL_TIMEOUT,
    "total_timeout": None,
    "ca_bundle": None,
    "retry": DEFAULT_RETRY,
    "limit": None,
}

_INSTEAD = "give the constructor a client (client=...), or an address (endpoint_url=...) and credentials"
_OLD_HOOKS = dict.fromkeys(("_s3_client", "_try_different_credentials", "_anonymous_client"), _INSTEAD)


class S3Raw(WireStore[Routes]):
    """Objects of S3 buckets, by `s3://bucket/key`.

    Parameters
    ----------
    credentials
        None: what boto3 finds by itself. `"anonymous"`: send unsigned requests. A dict: arguments of
        `boto3.Session` (`profile_name`, `aws_access_key_id`, ...). A list of these: tried in this order;
        the one that a bucket lets in is remembered for that bucket.
    client
        A boto3 S3 client to use instead. Everything about credentials and connections is then its business.
    endpoint_url
        Address of a service other than Amazon's; None: what the configuration of boto3 says.
    region
        Region that requests are signed for; None: what the configuration says. Buckets elsewhere are noticed.
    addressing_style
        `"virtual"` puts the bucket into the host name, `"path"` into the path; `"auto"` is virtual on AWS
        where the name allows it.
    forbidden_is_missing
        Count 403 AccessDenied as missing: S3 answers so for a missing key to those who may not list the bucket.
    requester_pays
        Agree to pay for requests to buckets of others.
    acl, storage_class, server_side_encryption, kms_key_id
        Sent with writes if given, such as `"bucket-owner-full-control"`, `"STANDARD_IA"`, `"aws:kms"`.
    max_blob_size
        Give up on larger blobs: bytes, or a size such as `"1GB"`; None: no limit. A blob is held in memory, so name
        one where the server is not yours: its answer may have no end.
    range_threshold
        Blobs above this size are fetched in several ranges at once; None: never. Does not concern `client`.
    connect_timeout
        Seconds to wait for a connection, the look-up of its name included.
    stall_timeout
        Seconds without a byte, before the first as between two, or with fewer than 100 bytes in each, after which a
        try is given up. To bound a whole lookup, use `timeout=` of `get_many` and of a composite's `get`.
    total_timeout
        Seconds that one try may take in all; None: as long as bytes come.
    ca_bundle
        Path of a PEM file of certificate authorities; None: what the environment says (`AWS_CA_BUNDLE` for S3,
        `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`), else those of certifi.
    proxy
        URL of an HTTP proxy; None: what the environment says; `""`: none.
    retry
        How often and how long transient failures are tried again.
    limit
        Bound on the requests per second: a `RateLimit`, or on a Ray cluster a `ray_integration.ClusterRate`. It counts
        what this library sends, so it cannot go with `client`.
    """

    URI_HINT = "s3://bucket/key"
    _BUNDLE_VARIABLE = "AWS_CA_BUNDLE"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        warn_of_unused(cls, _OLD_HOOKS)

    def __init__(
        self,
        credentials: Credentials | list[Credentials] | tuple[Credentials, ...] = None,
        *,
        client: Any = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        addressing_style: str | None = None,
        forbidden_is_missing: bool = False,
        requester_pays: bool = False,
        acl: str | None = None,
        storage_class: str | None = None,
        server_side_encryption: str | None = None,
        kms_key_id: str | None = None,
        max_blob_size: int | str | None = None,
        range_threshold: int | str | None = RANGE_THRESHOLD,
        connect_timeout: float = CONNECT_TIMEOUT,
        stall_timeout: float = STALL_TIMEOUT,
        total_timeout: float | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        retry: Retry | None = None,
        limit: Rate | None = None,
    ) -> None:
        super().__init__(
            forbidden_is_missing=forbidden_is_missing,
            max_blob_size=max_blob_size,
            range_threshold=range_threshold,
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            total_timeout=total_timeout,
            ca_bundle=ca_bundle,
            proxy=proxy,
            retry=retry,
            limit=limit,
        )
        if addressing_style not in _STYLES:
            raise ValueError(f"addressing_style is 'auto', 'path' or 'virtual', not {addressing_style!r}")
        if region is not None and not REGION(region):
            raise ValueError(f"region must look like 'eu-west-1', not {region!r}")
        self._credentials = as_list(credentials)
        if client is not None and limit is not None:
            raise ValueError("limit and client exclude each other: the requests of a client cannot be counted")
        self.client = client
        self.endpoint_url = endpoint(endpoint_url)
        self.region = region
        self.addressing_style = addressing_style
        self.requester_pays = requester_pays
        self.acl = in_header("acl", acl)
        self.storage_class = in_header("storage_class", storage_class)
        self.server_side_encryption = in_header("server_side_encryption", server_side_encryption)
        self.kms_key_id = in_header("kms_key_id", kms_key_id)

    @classmethod
    def anonymous(cls) -> S3Raw:
        """A store that signs nothing, for public buckets."""
        return cls(ANONYMOUS)

    @property
    def credentials(self) -> list[Any]:
        """The credentials to try, in order. Setting it makes the store start anew with the new ones."""
        return self._credentials

    @credentials.setter
    def credentials(self, credentials: Any) -> None:
        self._credentials = as_list(credentials)
        self._forget()

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is `s3://bucket/key`."""
        return isinstance(uri, str) and _URL(uri) is not None

    # ------------------------------------------------------------------ lookups as steps

    def get_steps(self, uri: Any) -> Steps[Found]:
        match = _URL(uri) if isinstance(uri, str) else None
        if match is None:
            self._refuse(uri)
        bucket, key, awkward = match.groups()
        if self.client is not None:
            found = yield Call(self._caller().get, bucket, key or awkward, self._max_bytes)
            if isinstance(found, Problem):
                self._fail_or_missing(uri, found)
            return Found(found, self.label)
        route = self._state().remembered.get(bucket)
        if key is not None and route is not None and route.fresh_until > time.monotonic():
            # The hot path: nothing here may block or lock.
            try:
                response: Response = yield from send(
                    Request(route.profile, route.prefix + key), self.retry, self._tally
                )
            except TransferError as error:
                answer: Response | Problem = transfer_problem(error, self._max_bytes)
            else:
                if response.status == 200:
                    return Found(response.body, self.label)
                answer = yield from self._ask(bucket, key, first=(route, response))
        else:
            answer = yield from self._ask(bucket, key or awkward)
        data: Any = answer
        if isinstance(answer, Response):
            data = answer.body
        elif answer.too_large and self._splits:
            data = yield from in_parts(partial(self._ask_part, bucket, key or awkward), limit=self._max_bytes)
        if isinstance(data, Problem):
            self._fail_or_missing(uri, data)
        return Found(data, self.label)

    def _streaming(self, uri: Any, sink: Sink) -> Callable[[], Steps[Response | Problem]] | None:
        bucket, key = self._split(uri)
        return (
            None if self.client is not None else lambda: self._ask(bucket, key, limit=self._max_bytes or 0, sink=sink)
        )

    def _ask_part(self, bucket: str, key: str, headers: tuple[str, ...], limit: int) -> Steps[Response | Problem]:
        return self._ask(bucket, key, headers=headers, want_headers=True, limit=limit)

    def exists_steps(self, uri: Any) -> Steps[bool]:
        bucket, key = self._split(uri)
        if self.client is not None:
            answer: Any = yield Call(self._caller().etag, bucket, key)
        else:
            answer = yield from self._ask(bucket, key, method="HEAD", want_headers=True)
        if not isinstance(answer, Problem):
            return True
        if answer.code == "InvalidRange":  # asked for the first byte of an empty blob
            return True
        if self._missing(answer):
            return False
        self._fail(f"HEAD {uri}", answer)

    def version_steps(self, uri: Any) -> Steps[str | None]:
        bucket, key = self._split(uri)
        if self.client is not None:
            answer: Any = yield Call(self._caller().etag, bucket, key)
        else:
            answer = yield from self._ask(bucket, key, method="HEAD", want_headers=True)
        if isinstance(answer, Response):
            return answer.headers.get("etag")
        if not isinstance(answer, Problem):
            return str(answer) if answer is not None else None
        if self._missing(answer):
            return None
        self._fail(f"HEAD {uri}", answer)

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        bucket, key = self._split(uri)
        body = blob_bytes(data)
        for attempt in (1, 2):
            if self.client is not None:
                answer: Any = yield Call(self._caller().put, bucket, key, body, self._put_arguments(write))
            else:
                answer = yield from self._put_once(bucket, key, body, write)
            conflict = isinstance(answer, Problem) and answer.code == "ConditionalRequestConflict"
            # A conflict means that another write was under way: the second answer tells how that ended.
            if not conflict or attempt == 2:
                break
        if not isinstance(answer, Problem):
            return
        conditional = write.only_if_absent or write.replacing is not None
        if conditional and (answer.status == 412 or answer.code == "ConditionalRequestConflict"):
            return  # somebody else has written meanwhile, which is what was wanted
        if write.replacing is not None and answer.code == "NoSuchKey":
            return
        self._fail(f"PUT {uri}", answer)

    def _put_once(self, bucket: str, key: str, body: bytes, write: Write) -> Steps[Response | Problem]:
        if len(body) <= _HASH_INLINE:
            digest = _sha256(body)
        else:
            digest = yield Call(_sha256, body)
        headers = [
            "Content-Type: application/octet-stream",
            f"x-amz-content-sha256: {digest.hex()}",
            # The same once more in words that services check which do not look at the line above.
            f"x-amz-checksum-sha256: {b2a_base64(digest, newline=False).decode()}",
        ]
        for name, value in (
            ("x-amz-acl", self.acl),
            ("x-amz-storage-class", self.storage_class),
            ("x-amz-server-side-encryption", self.server_side_encryption),
            ("x-amz-server-side-encryption-aws-kms-key-id", self.kms_key_id),
            ("If-None-Match", "*" if write.only_if_absent else None),
            ("If-Match", write.replacing),
        ):
            if value is not None:
                headers.append(f"{name}: {value}")
        return (yield from self._ask(bucket, key, method="PUT", body=body, headers=tuple(headers)))

    def _ask(
        self,
        bucket: str,
        key: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: tuple[str, ...] = (),
        want_headers: bool = False,
        limit: int | None = None,
        sink: Sink | None = None,
        first: tuple[Route, Response] | None = None,
    ) -> Steps[Response | Problem]:
        asked = Asked(bucket, key, method, body, headers, want_headers, limit, self._max_bytes, sink)
        return exchange(self._state(), asked, self.retry, self._tally, first)

    # ------------------------------------------------------------------ configuration

    def _split(self, uri: Any) -> tuple[str, str]:
        match = _URL(uri) if isinstance(uri, str) else None
        if match is None:
            self._refuse(uri)
        return match[1], match[2] or match[3]

    def _new_state(self) -> Routes:
        where = Where(self.endpoint_url, self.region, self.addressing_style)
        headers = ("x-amz-request-payer: requester",) if self.requester_pays else ()
        return Routes([Entry(entry, where) for entry in self._credentials], self._profile, headers)

    def _caller(self) -> S3Client:
        return S3Client(self.client, requester_pays=self.requester_pays)

    def _put_arguments(self, write: Write) -> dict[str, str]:
        arguments = {
            "ACL": self.acl,
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.server_side_encryption,
            "SSEKMSKeyId": self.kms_key_id,
            "IfNoneMatch": "*" if write.only_if_absent else None,
            "IfMatch": write.replacing,
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def _told(self) -> list[str]:
        shown = [show(entry) if entry is not None else "None" for entry in self._credentials]
        credentials = [] if self._credentials == [None] else [shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"]
        client = [] if self.client is None else [f"client=<{type(self.client).__name__}>"]
        return [*credentials, *client, *options(self, _DEFAULTS)]


def _sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
