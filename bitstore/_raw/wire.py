"""Raw stores behind HTTP: their options, and what is done once for all of them over a few hooks of each."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, NoReturn, TypeVar

from bitstore._lookup.opened import FIRST_BYTES, Opened, PinnedFile
from bitstore._lookup.partial import Partial
from bitstore._lookup.retry import ASK_FOR_LESS, Retry, TransferCounts, send
from bitstore._raw.asked import Asked
from bitstore._raw.base import RawStore, blob_bytes
from bitstore._raw.options import Option, one_of
from bitstore._raw.parts import Ask, Body, in_parts, into, range_of, version_of
from bitstore._raw.problems import Problem, transfer_problem, without
from bitstore._raw.wire_options import (
    RETRY,
    bundle,
    price,
    proxy_secrets,
    proxy_url,
    rate,
    retries,
    seconds,
    seconds_or_none,
    size,
    threshold,
)
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._support.redact import redact_url
from bitstore._support.sizes import parse_size
from bitstore.errors import AccessDenied, NotFoundInStore, StoreNotAvailable, WriteConflict
from bitstore.steps import (
    TOO_LARGE,
    Call,
    FileBody,
    Found,
    Profile,
    Request,
    Response,
    Room,
    Signer,
    Steps,
    Stored,
    TransferError,
    Write,
)

if TYPE_CHECKING:
    from bitstore._money.price import Price

__all__ = ["WireStore"]

_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
_TOLD = frozenset({"PUT", "DELETE", "LIST"})  # what an error names beside the address; all others are reads of a blob
_CONFLICTS = frozenset({"ConditionalRequestConflict", "OperationAborted"})  # another write is under way

S = TypeVar("S")


class _Sizes(NamedTuple):
    """What the options about sizes come to, in bytes."""

    most: int | None  # of a blob; None: no limit
    first: int | None  # of the answer to the first request, which gives up on a larger body before any of it
    splits: bool  # whether a larger blob is then fetched in parts


class WireStore(KeepsPerProcess, RawStore, Generic[S]):
    """A raw store behind HTTP.

    `S` is the state that each process builds for itself on first use (credentials, what was learned about
    buckets). It is never pickled, and never inherited through fork: a lock of the parent may be held for
    ever in a child.
    """

    # Matches the URLs of this store, their bucket and key (HTTPRaw: scheme, host and the rest) as groups.
    _URLS: ClassVar[re.Pattern[str]]
    _BUNDLE_VARIABLE: ClassVar[str | None] = None  # of the environment, where the service's own tools heed one
    _list_right: ClassVar[str] = "the right to list"  # that tells a missing blob from a refused one
    _hidden = frozenset({"client", "proxy"})

    forbidden_is_missing = Option[bool](False)
    missing_bucket = Option[Literal["failure", "missing"]]("failure", one_of("failure", "missing"))
    max_blob_size = Option["int | str | None"](None, size)
    range_threshold = Option["int | str | None"]("64MB", threshold)
    connect_timeout = Option[float](5.0, seconds)
    stall_timeout = Option[float](15.0, seconds)
    total_timeout = Option["float | None"](None, seconds_or_none)
    ca_bundle = Option["str | None"](None, bundle)
    proxy = Option["str | None"](None, proxy_url)
    retry = Option[Retry](RETRY, retries)
    limit = Option[Any](None, rate)
    price = Option["Price | None"](None, price)

    takes_files = True
    client: Any = None  # of the caller, instead of our own requests (`BucketStore`)
    _sizes: _Sizes
    _till: Any = None  # what requests are paid with; None: they are counted against no budget

    def __init__(self, **options: Any) -> None:
        self._tally = TransferCounts(is_refusal=self._is_refusal)
        self._states: PerProcess[S] = PerProcess()
        self._configure(options)

    def _options_changed(self) -> None:
        most = None if self.max_blob_size is None else parse_size(self.max_blob_size, name="max_blob_size")
        threshold = self.range_threshold
        first = None if threshold is None else parse_size(threshold, name="range_threshold")
        splits = first is not None and (most is None or first < most)
        self._sizes = _Sizes(most, first if splits else most, splits)
        self._tally.rate = self.limit
        if self._till is not None:
            self.pay_from(self._till.budget, self._till.name)
        self._states = PerProcess()  # built again at the next use, from what the options say now

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is a URL of this store, as `get` takes it."""
        return isinstance(uri, str) and self._URLS.fullmatch(uri) is not None

    def _match(self, uri: Any) -> re.Match[str]:
        match = self._URLS.fullmatch(uri) if isinstance(uri, str) else None
        if match is None:
            self._refuse(uri)
        return match

    # ------------------------------------------------------------------ hooks of each kind of store

    @abstractmethod
    def _place(self, uri: Any) -> Any:
        """The object that `uri` names. Raises `InvalidURI` or TypeError where it names none."""

    @abstractmethod
    def _ask(self, asked: Asked) -> Steps[Response | Problem]:
        """One exchange, with all retries and remedies."""

    def _asking(self, place: Any) -> Ask:
        """What asks for parts of an object."""

        def ask(headers: tuple[str, ...], limit: int, room: Room | None = None) -> Steps[Response | Problem]:
            return self._ask(Asked(place, headers=headers, want_headers=True, limit=limit, room=room))

        return ask

    def _ask_head(self, place: Any) -> Steps[Response | Problem]:
        """Ask for what is said about an object, without its bytes."""
        return self._ask(Asked(place, "HEAD", want_headers=True))

    def _version(self, head: Response) -> str | None:
        """The version that the answer to `_ask_head` names."""
        return head.headers.get("etag")

    def _stored(self, url: str, head: Response) -> Stored:
        """What the answer to `_ask_head` says about the object at `url`."""
        headers = head.headers
        # Where one byte was asked for, the length of the answer is not that of the object.
        length = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "")
        return Stored(
            url, int(length) if _LENGTH(length) else None, headers.get("etag"), headers.get("content-encoding")
        )

    @abstractmethod
    def _write(self, place: Any, body: bytes | FileBody, write: Write) -> Steps[Response | Problem]:
        """One write."""

    @abstractmethod
    def _new_state(self) -> S: ...

    @abstractmethod
    def first_requests(self, start: str, hash_with: str | None) -> Callable[[str], Request] | None:
        """What makes the request that the `get_steps` of a URL begins with; None: they begin otherwise now.

        For the express lane: an answer to it with status 200 has the blob as its body. It takes the rest of a URL,
        which needs no percent-encoding, and holds for a moment: addresses and credentials may change.

        Parameters
        ----------
        start
            What all URLs begin with.
        hash_with
            That of the requests.
        """

    @staticmethod
    def _is_refusal(answer: Response) -> bool:
        """Whether an answer asks for fewer requests."""
        return answer.status in ASK_FOR_LESS

    @abstractmethod
    def plainly_missing(self, answer: Response) -> bool:
        """Whether an answer to that request, with status 404 or 410, means that the blob is missing."""

    @property
    def _has_express(self) -> bool:
        """Whether nothing is in the way of a request of `first_requests`."""
        tally = self._tally
        return self.client is None and tally.rate is None and tally.till is None and not tally.eased

    # ------------------------------------------------------------------ lookups as steps

    def get_steps(self, uri: Any) -> Steps[Found]:
        return self._get_steps(uri, None)

    def hashed_steps(self, uri: Any, algorithm: str) -> Steps[Found]:
        """Steps to the blob of `uri`, which may be hashed on the way by this algorithm: `Found.digest`."""
        return self._get_steps(uri, algorithm)

    def _get_steps(self, uri: Any, hash_with: str | None) -> Steps[Found]:
        place = self._place(uri)
        answer = yield from self._ask(Asked(place, hash_with=hash_with))
        return (yield from self._found(uri, place, answer, hash_with))

    def _found(self, uri: Any, place: Any, answer: Response | Problem, hash_with: str | None) -> Steps[Found]:
        """What the first answer comes to: a blob above the threshold is fetched in parts."""
        whole: Body | Problem = answer if isinstance(answer, Problem) else Body(answer.body, answer.digest)
        if isinstance(whole, Problem) and whole.too_large and self._sizes.splits and self.client is None:
            whole = yield from in_parts(
                self._asking(place),
                limit=self._sizes.most,
                hash_with=hash_with,
            )
        if isinstance(whole, Problem):
            self._fail_or_missing(uri, whole)
        return Found(whole.data, self.label, digest=whole.digest)

    def download_steps(self, uri: Any, partial: Partial) -> Steps[Found]:
        if self.client is not None:  # only through memory
            found = yield from self.get_steps(uri)
            yield Call(partial.fill, found.data)
            return found
        asked = Asked(self._place(uri), limit=self._sizes.most or 0, sink=partial)
        partial.expect(uri)
        problem = yield from into(partial, lambda: self._ask(asked))
        if problem is not None:
            self._fail_or_missing(uri, problem)
        return Found(partial, self.label)

    def open_steps(self, uri: Any, verify: bool | None = None) -> Steps[Found]:
        place = self._place(uri)
        if self.client is not None or self.range_threshold is None:
            return (yield from self.get_steps(uri))
        blob = yield from version_of(
            self._asking(place),
            limit=self._sizes.most,
            first=FIRST_BYTES,
        )
        if blob is None:
            return (yield from self.get_steps(uri))
        if isinstance(blob, Problem):
            self._fail_or_missing(uri, blob)
        if isinstance(blob, bytes):
            return Found(blob, self.label)
        version = blob

        def read(start: int, end: int) -> Steps[bytes]:
            data = yield from version.span(start, end)
            if isinstance(data, Problem):
                self._fail(f"GET {uri}", data)
            return data

        return Found(Opened(PinnedFile(self._redacted(uri), blob.size, read, len(blob.first))), self.label)

    def range_steps(self, uri: Any, start: int, end: int) -> Steps[bytes]:
        place = self._place(uri)
        if self.client is not None:  # only whole objects come by a client of the caller
            found = yield from self.get_steps(uri)
            whole: bytes = found.data
            return whole[start:end]
        data = yield from range_of(self._asking(place), start, end)
        if isinstance(data, Problem):
            self._fail_or_missing(uri, data)
        return data

    def exists_steps(self, uri: Any) -> Steps[bool]:
        return (yield from self._head(uri)) is not None

    def version_steps(self, uri: Any) -> Steps[str | None]:
        head = yield from self._head(uri)
        return None if head is None else self._version(head)

    def describe_steps(self, uri: Any) -> Steps[Stored | None]:
        head = yield from self._head(uri)
        return None if head is None else self._stored(redact_url(uri), head)

    def _head(self, uri: Any) -> Steps[Response | None]:
        answer = yield from self._ask_head(self._place(uri))
        if isinstance(answer, Response):
            return answer
        if self._missing(answer):
            return None
        self._fail(f"HEAD {uri}", answer)

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        place = self._place(uri)
        body = blob_bytes(data)
        for _ in range(2):
            answer = yield from self._write(place, body, write)
            # A conflict means that another write was under way: the second answer tells how that ended.
            if not (isinstance(answer, Problem) and answer.code in _CONFLICTS):
                break
        if isinstance(answer, Response):
            return
        conditional = write.only_if_absent or write.replacing is not None
        if conditional and (answer.status == 412 or answer.code in _CONFLICTS):
            if write.only_if_absent:
                yield from self._check_readable(uri, answer)
            return  # another writer was first, which is what was wanted
        if write.replacing is not None and answer.missing:
            return
        self._fail(f"PUT {uri}", answer)

    def delete_steps(self, uri: Any) -> Steps[None]:
        """Steps that delete an object; one that is not there is deleted already."""
        if self.client is not None:
            raise StoreNotAvailable(self, f"DELETE {uri}: the store deletes only by itself, not with client=")
        answer = yield from self._ask(Asked(self._place(uri), "DELETE"))
        if isinstance(answer, Problem) and not answer.missing:
            self._fail(f"DELETE {uri}", answer)

    def _check_readable(self, uri: Any, conflict: Problem) -> Steps[None]:
        """Raise where a name is taken that has no blob to read: else each lookup would take it for missing again."""
        head = yield from self._ask_head(self._place(uri))
        if isinstance(head, Problem) and not (head.unreachable or head.status in (405, 501)):
            reason = f"it was not written: the name is taken ({conflict}), and what is there cannot be read ({head})"
            text = without(reason, proxy_secrets(self.proxy))
            raise WriteConflict(self, self._redacted(f"PUT {uri}: {text}")) from conflict.cause

    def _send(self, asked: Asked, request: Request) -> Steps[Response | Problem]:
        """Send one request; what is no whole answer is a problem already."""
        try:
            response: Response = yield from send(request, self.retry, self._tally)
        except TransferError as error:
            if asked.probe and error.code == TOO_LARGE:  # all of it, although one byte was asked for
                return Response(200, b"", error.headers, 0.0)
            return transfer_problem(error, self._sizes.most)
        if asked.probe and response.status == 416 and request.headers:  # an empty object has no first byte
            asked = asked._replace(headers=())
            return (yield from self._send(asked, asked.request(request.profile, request.url)))
        return response

    # ------------------------------------------------------------------ what requests cost

    def pay_from(self, budget: Any, name: str) -> None:
        """Count all requests against `budget` (a `Budget`; None: against none), as those of the tier `name`.

        Tiers that share the store are on the receipt together, by all of their names.
        """
        if self._till is not None and self._till.budget is budget:
            names = dict.fromkeys([*self._till.name.split(", "), *name.split(", ")])
            name = ", ".join(names)
        self._till = None if budget is None else budget.till(name, self.known_price(), paid=False)
        self._tally.till = self._till

    def known_price(self) -> Price | None:
        """The price of requests: the one given, else what the service is known to ask; None: nothing is known."""
        return self.price

    def known_service(self) -> str | None:
        """Name of the service that is asked, where URLs do not say it; None: they do, or it is not known."""
        return None

    def splits_at(self) -> tuple[int, bool]:
        """Bytes above which a blob is fetched in parts, and whether it is at all."""
        return self._sizes.first or 0, self._sizes.splits

    # ------------------------------------------------------------------ state and configuration

    def stats(self) -> dict[str, int]:
        """Counts of this process: `requests` sent, and how many of them were `retries`."""
        return {"requests": self._tally.requests, "retries": self._tally.retries}

    def counts(self) -> TransferCounts:
        """The counts of this process, for `Composite.stats`."""
        return self._tally

    def _state(self) -> S:
        return self._states.get() or self._states.set_once(self._new_state())

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_tally", None)
        if state.get("price") is None:  # what does not matter is no part of a fingerprint
            state.pop("price", None)
        if state.get("_till") is None:
            state.pop("_till", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.setdefault("price", None)
        self._tally = TransferCounts(self.limit, self._till, self._is_refusal)

    def _profile(
        self, *, headers: Sequence[str] = (), signer: Signer | None = None, ca_bundle: str | None = None
    ) -> Profile:
        return Profile(
            headers=tuple(headers),
            signer=signer,
            connect_timeout=self.connect_timeout,
            stall_timeout=self.stall_timeout,
            total_timeout=self.total_timeout,
            ca_bundle=self.ca_bundle or os.environ.get(self._BUNDLE_VARIABLE or "") or ca_bundle,
            proxy=self.proxy,
            max_bytes=self._sizes.first,
        )

    def _shown_facts(self) -> dict[str, Any]:
        facts = {"proxy": redact_url(self.proxy)} if self.proxy else {}
        return {**facts, **super()._shown_facts()}

    # ------------------------------------------------------------------ what a problem means

    def _fail(self, what: str, problem: Problem) -> NoReturn:
        """Raise what `problem` means, other than a missing blob."""
        method, _, uri = what.partition(" ")
        subject = what if method in _TOLD or not uri else uri
        text = without(str(problem), proxy_secrets(self.proxy))
        if problem.no_bucket:
            text = self._no_container(uri, text)
        elif problem.forbidden and method not in _TOLD:
            text += (
                f"; {self._list_right} is lacking, without which a missing blob is refused, too. "
                "Grant it, or count such refusals as missing: forbidden_is_missing=True"
            )
        failure = (AccessDenied if problem.refused else StoreNotAvailable)(self, self._redacted(f"{subject}: {text}"))
        failure.unreachable = problem.unreachable
        failure.definite = problem.definite
        failure.no_container = problem.no_bucket
        failure.overrun = problem.asks_for_less and self._tally.is_eased
        raise failure from problem.cause

    def _no_container(self, uri: str, text: str) -> str:
        """What to say where all blobs are absent, with the bucket of `uri`; `text` is the server's answer."""
        bucket = "/".join(uri.split("/", 3)[:3])
        return f"there is no bucket {bucket} ({text}); if its blobs are to count as missing: missing_bucket='missing'"

    def _redacted(self, text: str) -> str:
        """`text` without secrets that URLs of this kind may have in them."""
        return text

    def _missing(self, problem: Problem) -> bool:
        if problem.no_bucket:
            return self.missing_bucket == "missing"
        return problem.missing or (problem.forbidden and self.forbidden_is_missing)

    def _fail_or_missing(self, uri: str, problem: Problem) -> NoReturn:
        if self._missing(problem):
            raise NotFoundInStore(self, self._redacted(uri)) from problem.cause
        self._fail(f"GET {uri}", problem)
