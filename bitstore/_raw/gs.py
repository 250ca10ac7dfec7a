"""Google Cloud Storage by its JSON API (https://cloud.google.com/storage/docs/json_api/v1)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bitstore._raw.asked import Asked
from bitstore._raw.bucket import BucketStore
from bitstore._raw.credentials import Unusable, obtained
from bitstore._raw.gs_client import GSClient
from bitstore._raw.gs_credentials import ANONYMOUS, Token, emulator, show
from bitstore._raw.listing import Listing, gcs_listing, gcs_query
from bitstore._raw.meanings import asks_for_less, gcs_problem
from bitstore._raw.options import Option, endpoint, in_header
from bitstore._raw.problems import Problem, unasked, without, without_credentials
from bitstore._raw.service import service_of
from bitstore._raw.wire_options import WireOptions
from bitstore._support.compat import warn_of_unused
from bitstore.steps import Call, FileBody, Profile, Request, Response, Steps, Stored, Write

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bitstore._money.price import Price

__all__ = ["ANONYMOUS", "GSRaw"]

_ENDPOINT = "https://storage.googleapis.com"
_METADATA_BYTES = 64 * 1024
_ENCODE_INLINE = 1024 * 1024  # bytes; hashing and copying more than this holds up a transfer thread

_OLD_HOOKS = {
    "_gs_client": "give the constructor a client (client=...), or an address (endpoint_url=...) and credentials"
}


class GSOptions(WireOptions, total=False):
    """The options of `GSRaw`."""

    client: Any
    endpoint_url: str | None
    user_project: str | None


class _State:
    """What one process has: where requests go, the token, and the profile that carries it (`signed`)."""

    __slots__ = ("anonymous", "endpoint", "signed", "token")

    def __init__(self, endpoint: str, credentials: Any, profile: Profile) -> None:
        self.endpoint = endpoint
        self.token = Token(credentials)
        self.anonymous = credentials == ANONYMOUS
        # One attribute for both, so that threads never see a token with another's profile.
        self.signed: tuple[str | None, Profile] = (None, profile)


class GSRaw(BucketStore[_State]):
    """Objects of Google Cloud Storage buckets, by `gs://bucket/key`.

    Parameters
    ----------
    credentials
        None: what google-auth finds by itself; none at all where STORAGE_EMULATOR_HOST is set. `"anonymous"`:
        send no token. Otherwise a google-auth credentials object, or a dict with the fields of a service
        account's key file.
    client
        A google-cloud-storage client to use instead. Everything about credentials and connections is then
        its business.
    endpoint_url
        Address of the service; None: STORAGE_EMULATOR_HOST, or Google's.
    forbidden_is_missing
        Count 403 (without a token 401) as missing, where it speaks of `storage.objects.*`: the service answers so for
        a missing object without the right to list the bucket. Refusals of other kinds stay failures.
    user_project
        The project that pays for requests to buckets of others.
    missing_bucket, max_blob_size, range_threshold, connect_timeout, stall_timeout, total_timeout, ca_bundle, proxy,
    retry, limit, price
        As for `S3Raw`.
    """

    _list_right = "the right storage.objects.list (or storage.objects.get itself)"
    URI_HINT = "gs://bucket/key"
    # Bucket names may hold dots and underscores; NUL, CR and LF are refused in keys, and half surrogates (no UTF-8).
    _URLS = re.compile(r"gs://([A-Za-z0-9][A-Za-z0-9._-]{0,221})/([^\x00\r\n\ud800-\udfff]+)")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        warn_of_unused(cls, _OLD_HOOKS)

    client = Option[Any](None)
    endpoint_url = Option["str | None"](None, endpoint)
    user_project = Option["str | None"](None, in_header)

    def __init__(self, credentials: Any = None, **options: Unpack[GSOptions]) -> None:
        self._credentials = credentials
        super().__init__(**options)

    @classmethod
    def anonymous(cls) -> GSRaw:
        """A store that sends no token, for public buckets."""
        return cls(ANONYMOUS)

    @property
    def credentials(self) -> Any:
        """The identity that asks. New ones act from the next request on."""
        return self._credentials

    @credentials.setter
    def credentials(self, credentials: Any) -> None:
        self._credentials = credentials
        self._options_changed()

    # ------------------------------------------------------------------ lookups as steps

    def _place(self, uri: Any) -> tuple[str, str]:
        match = self._match(uri)
        return match[1], match[2]

    def first_requests(self, start: str, hash_with: str | None) -> Callable[[str], Request] | None:
        state, path = self._state(), _path_of_start(start)
        if path is None or not self._has_express or state.token.fresh_until <= time.monotonic():
            return None
        profile, prefix = self._signed(state, state.token.value), f"{state.endpoint}{path}"
        query = f"?alt=media{self._billing()}"
        return lambda rest: Request(profile, f"{prefix}{rest.replace('/', '%2F')}{query}", hash_with=hash_with)

    @staticmethod
    def _is_refusal(answer: Response) -> bool:
        return asks_for_less(answer)

    def plainly_missing(self, answer: Response) -> bool:
        return answer.status == 404 and gcs_problem(answer).missing

    def _ask_head(self, place: tuple[str, str]) -> Steps[Response | Problem]:
        # What limits blobs does not concern what is said about them.
        return self._ask(Asked(place, query="fields=generation,size,etag,contentEncoding", limit=_METADATA_BYTES))

    def _version(self, head: Response) -> str | None:
        # The generation rather than the ETag: the service compares it on every kind of upload.
        try:
            return str(json.loads(head.body)["generation"])
        except (ValueError, LookupError, TypeError, RecursionError):
            self._fail("HEAD", Problem(200, message="the metadata of the object holds no generation"))

    def _stored(self, url: str, head: Response) -> Stored:
        self._version(head)  # which raises where the answer is about no object
        said = json.loads(head.body)
        size = str(said.get("size", ""))
        return Stored(
            url, int(size) if size.isdecimal() else None, said.get("etag") or None, said.get("contentEncoding") or None
        )

    def _write(self, place: tuple[str, str], body: bytes | FileBody, write: Write) -> Steps[Response | Problem]:
        generation = self._generation(write)
        if self.client is not None:
            data = (yield Call(body.whole)) if isinstance(body, FileBody) else body
            answer: Response | Problem = yield Call(self._caller().put, *place, data, generation)
            return answer
        boundary = secrets.token_hex(16)
        content: bytes | FileBody
        if isinstance(body, FileBody) or len(body) <= _ENCODE_INLINE:
            content = _multipart(place[1], body, boundary)
        else:
            content = yield Call(_multipart, place[1], body, boundary)
        query = "uploadType=multipart" + ("" if generation is None else f"&ifGenerationMatch={generation}")
        headers = (f"Content-Type: multipart/related; boundary={boundary}",)
        return (yield from self._ask(Asked(place, "POST", content, headers, query)))

    def _ask(self, asked: Asked) -> Steps[Response | Problem]:
        if self.client is not None:
            answer: Response | Problem = yield Call(self._caller().ask, asked, self._sizes.most)
            return answer
        state = self._state()
        token = state.token
        url = state.endpoint + self._path(asked)
        renewed = False
        while True:
            if token.fresh_until <= time.monotonic():
                try:
                    yield from obtained(self.retry, token.refresh)
                except Unusable as error:
                    problem = Problem(message=str(error), cause=error, refused=True)
                    return without_credentials(problem) if error.outage else problem
            used = token.value
            response = yield from self._send(asked, asked.request(self._signed(state, used), url))
            if isinstance(response, Problem):
                return response
            if 200 <= response.status < 300:
                return response if asked.fits(response.status) else unasked(response.status)
            problem = gcs_problem(response)
            problem.message = without(problem.message, (used,))
            if problem.expired and not renewed and not state.anonymous:
                renewed = True
                try:
                    if (yield from obtained(self.retry, token.renew, used)):
                        continue
                except Unusable as error:
                    problem.message += f" ({error})"
                    problem = without_credentials(problem) if error.outage else problem
            return problem

    def _signed(self, state: _State, token: str | None) -> Profile:
        of, profile = state.signed
        if of != token:
            profile = self._signed_profile(*state.token.headers(token))
            state.signed = (token, profile)
        return profile

    def _signed_profile(self, *headers: str) -> Profile:
        return self._profile(headers=headers)

    def _list_query(self, prefix: str, **page: Any) -> str:
        return gcs_query(prefix, **page)

    def _page(self, body: bytes, bucket: str) -> Listing | None:
        return gcs_listing(body, bucket)

    # ------------------------------------------------------------------ configuration

    def known_service(self) -> str | None:
        return None if self.client is not None else service_of(self.endpoint_url or emulator() or _ENDPOINT)

    def known_price(self) -> Price | None:
        named = self.endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST")
        if self.price is not None or named or self._credentials == ANONYMOUS:
            return self.price  # requests without a token, or to another service, are not on a bill of Google
        from bitstore._money.price import Price

        return Price.of("gs-standard")

    def _path(self, asked: Asked) -> str:
        bucket, key = asked.place
        if not key:
            return f"/storage/v1/b/{bucket}/o?{asked.query}{self._billing()}"
        if asked.method == "POST":
            return f"/upload/storage/v1/b/{bucket}/o?{asked.query}{self._billing()}"
        # quote() leaves dots alone, but an object may be called "..".
        quoted = quote(key, safe="") if key.strip(".") else key.replace(".", "%2E")
        query = asked.query or ("" if asked.method == "DELETE" else "alt=media")
        return f"/storage/v1/b/{bucket}/o/{quoted}?{query}{self._billing()}"

    def _billing(self) -> str:
        return "" if self.user_project is None else f"&userProject={quote(self.user_project, safe='')}"

    def _generation(self, write: Write) -> int | None:
        if write.only_if_absent:
            return 0
        if write.replacing is None:
            return None
        if not write.replacing.isdecimal():
            raise ValueError(f"Write.replacing of a GSRaw is a generation number, not {write.replacing!r}")
        return int(write.replacing)

    def _new_state(self) -> _State:
        address = emulator()
        credentials = ANONYMOUS if self._credentials is None and address is not None else self._credentials
        return _State(self.endpoint_url or address or _ENDPOINT, credentials, self._signed_profile())

    def _caller(self) -> GSClient:
        return GSClient(self.client, user_project=self.user_project)

    def _shown_facts(self) -> dict[str, Any]:
        return {"credentials": show(self._credentials), **super()._shown_facts()}

    def _shown_arguments(self) -> list[str]:
        credentials = [] if self._credentials is None else [show(self._credentials)]
        return [*credentials, *super()._shown_arguments()]


@lru_cache(maxsize=256)
def _path_of_start(start: str) -> str | None:
    """What the paths of objects begin with whose URLs begin so; None: the bucket may go on behind the start."""
    match = GSRaw._URLS.fullmatch(f"{start}0")
    return None if match is None else f"/storage/v1/b/{match[1]}/o/{quote(match[2][:-1], safe='')}"


def _multipart(key: str, body: bytes | FileBody, boundary: str) -> bytes | FileBody:
    """An upload in one request whose hash the service checks.

    Of the upload kinds this is the one that takes preconditions everywhere, emulators included
    (https://cloud.google.com/storage/docs/uploading-objects#uploading-an-object).
    """
    digest = body.hashes["md5"] if isinstance(body, FileBody) else hashlib.md5(body, usedforsecurity=False).digest()
    metadata = json.dumps({"name": key, "md5Hash": base64.b64encode(digest).decode()})
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n"
    part = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    before, behind = (head + part).encode(), f"\r\n--{boundary}--\r\n".encode()
    return body.between(before, behind) if isinstance(body, FileBody) else b"".join((before, body, behind))
