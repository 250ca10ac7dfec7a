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
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from bitstore._lookup.retry import send
from bitstore._raw.asked import Asked
from bitstore._raw.bucket import BucketStore
from bitstore._raw.listing import Listing, s3_buckets, s3_listing, s3_query
from bitstore._raw.meanings import s3_problem
from bitstore._raw.options import Option, endpoint, in_header, one_of
from bitstore._raw.problems import Problem, transfer_problem
from bitstore._raw.s3_client import S3Client
from bitstore._raw.s3_credentials import ANONYMOUS, Credentials, Entry, Where, as_list, show
from bitstore._raw.s3_environment import usual_endpoint
from bitstore._raw.s3_exchange import REGION, exchange
from bitstore._raw.s3_routes import Routes
from bitstore._raw.service import service_of
from bitstore._raw.wire_options import WireOptions
from bitstore._support.compat import warn_of_unused
from bitstore.errors import InvalidURI
from bitstore.steps import Call, FileBody, Found, Request, Response, Steps, TransferError, Write

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bitstore._money.price import Price

__all__ = ["ANONYMOUS", "S3Raw"]

# Group 2: a key that needs no percent-encoding, as keys made of digests are. Group 3: any other.
# NUL, CR and LF are refused, and half surrogates, which have no UTF-8.
_URLS = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{0,254})/(?:([A-Za-z0-9/_.~-]+)|([^\x00\r\n\ud800-\udfff]+))")
_URL = _URLS.fullmatch

_HASH_INLINE = 1024 * 1024  # bytes; hashing more than this holds up a transfer thread for milliseconds
_INSTEAD = "give the constructor a client (client=...), or an address (endpoint_url=...) and credentials"
_OLD_HOOKS = dict.fromkeys(("_s3_client", "_try_different_credentials", "_anonymous_client"), _INSTEAD)


class S3Options(WireOptions, total=False):
    """The options of `S3Raw`."""

    client: Any
    endpoint_url: str | None
    region: str | None
    addressing_style: str | None
    requester_pays: bool
    acl: str | None
    storage_class: str | None
    server_side_encryption: str | None
    kms_key_id: str | None
    request_checksum_calculation: Literal["when_supported", "when_required"] | None


def _region(name: str, region: Any) -> str | None:
    if region is not None and not (isinstance(region, str) and REGION(region)):
        raise ValueError(f"{name} must look like 'eu-west-1', not {region!r}")
    return region


class S3Raw(BucketStore[Routes]):
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
        Count 403 AccessDenied as missing, where it is about the read of this object: S3 answers so for a missing key
        without the right to list the bucket. Refusals of other kinds (a KMS key, a closed account) stay failures.
    requester_pays
        Agree to pay for requests to buckets of others.
    acl, storage_class, server_side_encryption, kms_key_id
        Sent with writes if given, such as `"bucket-owner-full-control"`, `"STANDARD_IA"`, `"aws:kms"`.
    request_checksum_calculation
        `"when_required"`: writes carry no `x-amz-checksum-sha256`, which some services refuse. None: what
        AWS_REQUEST_CHECKSUM_CALCULATION or the profile says, else `"when_supported"`.
    missing_bucket
        `"failure"`: a bucket that is not there is an error, because a slip in its name would make every blob missing.
        `"missing"`: all its blobs count as missing.
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
    price
        What the service asks: a `Price`, the name of a storage class (`"s3-standard-ia"`), or `"free"`; None: unknown.
        A `Budget` counts by it.
    """

    URI_HINT = "s3://bucket/key"
    _URLS = _URLS
    _list_right = "the right s3:ListBucket (or s3:GetObject itself)"
    _BUNDLE_VARIABLE = "AWS_CA_BUNDLE"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        warn_of_unused(cls, _OLD_HOOKS)

    client = Option[Any](None)
    endpoint_url = Option["str | None"](None, endpoint)
    region = Option["str | None"](None, _region)
    addressing_style = Option["str | None"](None, one_of(None, "auto", "path", "virtual"))
    requester_pays = Option[bool](False)
    acl = Option["str | None"](None, in_header)
    storage_class = Option["str | None"](None, in_header)
    server_side_encryption = Option["str | None"](None, in_header)
    kms_key_id = Option["str | None"](None, in_header)
    request_checksum_calculation = Option["str | None"](None, one_of(None, "when_supported", "when_required"))

    def __init__(
        self,
        credentials: Credentials | list[Credentials] | tuple[Credentials, ...] = None,
        **options: Unpack[S3Options],
    ) -> None:
        self._credentials = as_list(credentials)
        super().__init__(**options)

    @classmethod
    def anonymous(cls) -> S3Raw:
        """A store that signs nothing, for public buckets."""
        return cls(ANONYMOUS)

    @property
    def credentials(self) -> list[Any]:
        """The credentials to try, in order: a copy. A new list that is set acts from the next request on."""
        return list(self._credentials)

    @credentials.setter
    def credentials(self, credentials: Any) -> None:
        self._credentials = as_list(credentials)
        self._options_changed()

    def _refuse(self, uri: Any) -> NoReturn:
        if isinstance(uri, str) and uri.startswith("s3://arn:"):
            raise InvalidURI(self, uri, hint="an access point is addressed by its alias: s3://alias-s3alias/key")
        super()._refuse(uri)

    # ------------------------------------------------------------------ lookups as steps

    def _get_steps(self, uri: Any, hash_with: str | None) -> Steps[Found]:
        match = _URL(uri) if isinstance(uri, str) else None
        if match is None:
            self._refuse(uri)
        bucket, key = match[1], match[2]  # another key than a plain one goes the long way
        route = self._state().remembered.get(bucket) if self.client is None else None
        if route is None or key is None or route.fresh_until <= time.monotonic():
            return (yield from super()._get_steps(uri, hash_with))
        # The hot path: nothing here may block or lock.
        place = (bucket, key)
        answer: Response | Problem
        try:
            request = Request(route.profile, route.prefix + key, hash_with=hash_with)
            response: Response = yield from send(request, self.retry, self._tally)
        except TransferError as error:
            answer = transfer_problem(error, self._sizes.most)
        else:
            if response.status == 200:
                return Found(response.body, self.label, digest=response.digest)
            asked = Asked(place, hash_with=hash_with)
            answer = yield from exchange(self._state(), asked, self._send, self.retry, (route, response))
        return (yield from self._found(uri, place, answer, hash_with))

    def first_requests(self, start: str, hash_with: str | None) -> Callable[[str], Request] | None:
        place = _plain_start(start)
        if place is None or not self._has_express:
            return None
        route = self._state().remembered.get(place[0])
        if route is None or route.doubt or route.fresh_until <= time.monotonic():
            return None
        profile, prefix = route.profile, route.prefix + place[1]
        return lambda rest: Request(profile, prefix + rest, hash_with=hash_with)

    def plainly_missing(self, answer: Response) -> bool:
        return answer.status == 404 and s3_problem(answer).missing

    def _place(self, uri: Any) -> tuple[str, str]:
        match = self._match(uri)
        return match[1], match[2] or match[3]

    def _ask(self, asked: Asked) -> Steps[Response | Problem]:
        if self.client is not None:
            caller = S3Client(self.client, requester_pays=self.requester_pays)
            answer: Response | Problem = yield Call(caller.ask, asked, self._sizes.most)
            return answer
        return (yield from exchange(self._state(), asked, self._send, self.retry))

    def _write(self, place: tuple[str, str], body: bytes | FileBody, write: Write) -> Steps[Response | Problem]:
        if isinstance(body, FileBody):
            digest = body.hashes["sha256"]
        elif len(body) <= _HASH_INLINE:
            digest = _sha256(body)
        else:
            digest = yield Call(_sha256, body)
        headers = {
            "Content-Type": "application/octet-stream",
            "x-amz-content-sha256": digest.hex(),
            # The digest again, in a header that is checked by services which do not check the one above.
            "x-amz-checksum-sha256": b2a_base64(digest, newline=False).decode(),
            "x-amz-acl": self.acl,
            "x-amz-storage-class": self.storage_class,
            "x-amz-server-side-encryption": self.server_side_encryption,
            "x-amz-server-side-encryption-aws-kms-key-id": self.kms_key_id,
            "If-None-Match": "*" if write.only_if_absent else None,
            "If-Match": write.replacing,
        }
        return (yield from self._state().features.ask(self._ask, Asked(place, "PUT", body), place[0], headers))

    def _list_query(self, prefix: str, **page: Any) -> str:
        return s3_query(prefix, **page)

    def _page(self, body: bytes, bucket: str) -> Listing | None:
        return s3_listing(body, bucket)

    def bucket_steps(self, bucket: str) -> Steps[list[str]]:
        """Steps to the names of the buckets of the account that asked for `bucket`; none where it may not list them.

        Protocol: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
        """
        route = self._state().remembered.get(bucket) if self.client is None else None
        if route is None or route.keys is None:
            return []
        request = Request(route.profile, f"{route.identity.service.endpoint}/", want_headers=True)
        try:
            response: Response = yield from send(request, self.retry, self._tally)
        except TransferError:
            return []
        return s3_buckets(response.body) if response.status == 200 else []

    # ------------------------------------------------------------------ configuration

    def _new_state(self) -> Routes:
        where = Where(self.endpoint_url, self.region, self.addressing_style)
        headers = ("x-amz-request-payer: requester",) if self.requester_pays else ()
        routes = Routes([Entry(entry, where) for entry in self._credentials], self._profile, headers)
        if self.request_checksum_calculation is not None:
            routes.checksums = self.request_checksum_calculation == "when_supported"
        return routes

    def known_service(self) -> str | None:
        if self.client is not None:
            address = getattr(getattr(self.client, "meta", None), "endpoint_url", None)
            return None if address is None else service_of(str(address))
        try:
            entries = self._credentials
            found = {service_of(self.endpoint_url or usual_endpoint(entry, self.region)) for entry in entries}
        except Exception:  # a missing profile, an unreadable config file: the first request says what is wrong
            return None
        return found.pop() if len(found) == 1 else None

    def known_price(self) -> Price | None:
        named = self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if self.price is not None or named or self._credentials == [ANONYMOUS]:
            return self.price  # unsigned requests, and those to another service, are not on a bill of Amazon
        if "amazonaws.com" not in (self.known_service() or "amazonaws.com"):  # a profile or a client names another
            return None
        from bitstore._money.price import Price

        return Price.of("s3-standard")

    def _shown_facts(self) -> dict[str, Any]:
        return {"credentials": ", ".join(map(show, self._credentials)), **super()._shown_facts()}

    def _shown_arguments(self) -> list[str]:
        told = [show(entry) if entry is not None else "None" for entry in self._credentials]
        credentials = [] if self._credentials == [None] else [told[0] if len(told) == 1 else f"[{', '.join(told)}]"]
        return [*credentials, *super()._shown_arguments()]


@lru_cache(maxsize=256)
def _plain_start(start: str) -> tuple[str, str] | None:
    """Bucket and first part of the key, where URLs that begin so need no percent-encoding; else None."""
    match = _URL(f"{start}0")
    return None if match is None or match[2] is None else (match[1], match[2][:-1])


def _sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
