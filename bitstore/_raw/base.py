"""What all stores that are addressed by URL share: configuration, one state per process, the blocking methods."""

from __future__ import annotations

import logging
import os
import pickle
import re
from abc import abstractmethod
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn, TypeVar
from urllib.parse import unquote

from bitstore._lookup.partial import Partial
from bitstore._lookup.retry import Rate, Retry, Tally
from bitstore._lookup.run import run
from bitstore._raw.problems import Problem, without
from bitstore._raw.streams import into
from bitstore._support.checks import ChecksOptions, check_seconds
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._support.redact import redact_url
from bitstore.errors import AccessDenied, InvalidURI, NotFoundInStore, StoreNotAvailable
from bitstore.steps import OVERWRITE, Call, Found, Profile, Response, Signer, Sink, Steps, Write
from bitstore.store import Store

__all__ = ["CONNECT_TIMEOUT", "RANGE_THRESHOLD", "STALL_TIMEOUT", "RawStore", "WireStore", "blob_bytes", "in_header"]

CONNECT_TIMEOUT = 5.0
STALL_TIMEOUT = 15.0
RANGE_THRESHOLD = "64MB"
DEFAULT_RETRY = Retry()

logger = logging.getLogger("bitstore")

_UNFIT = re.compile(r"[^\x20-\x7e]")
_PRINTABLE = re.compile(r"[\x21-\x7e]*").fullmatch
_PROXY_USER = re.compile(r"(?:^|//)([^/?#:@]*):([^/?#]*)@")

R = TypeVar("R")


class RawStore(ChecksOptions, Store):
    """A store addressed by URL, whose lookup is written as steps."""

    bytes_only = True

    @abstractmethod
    def get_steps(self, uri: Any) -> Steps[Found]: ...

    @abstractmethod
    def exists_steps(self, uri: Any) -> Steps[bool]: ...

    @abstractmethod
    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]: ...

    @abstractmethod
    def version_steps(self, uri: Any) -> Steps[str | None]:
        """What `Write(replacing=...)` must be told to overwrite the present copy; None: there is no copy."""

    # The steps are taken from here and not through `bitstore.store.get_steps`: a subclass whose `get`
    # calls `super().get()` would be asked again by that.
    def get(self, uri: Any) -> bytes:
        """The bytes stored under `uri`.

        Raises
        ------
        TypeError
            `uri` is not a str.
        InvalidURI
            `uri` is not a URL of this store.
        NotFoundInStore
            The store says that it does not hold the blob.
        StoreNotAvailable
            The store could not say; the reason tells why.
        """
        self._check_valid(uri)
        data: bytes = run(self.get_steps(uri)).data
        return data

    def exists(self, uri: Any) -> bool:
        """Whether the store holds `uri`, without fetching it. Raises what `get` raises, except `NotFoundInStore`."""
        self._check_valid(uri)
        return run(self.exists_steps(uri))

    def put(self, uri: Any, data: bytes) -> None:
        """Keep `data` (bytes, bytearray or memoryview) under `uri`, in place of what is there.

        Raises
        ------
        TypeError, InvalidURI
            As for `get`; also where `data` is not bytes.
        StoreNotAvailable
            The blob was not written, or the answer that it was has been lost.
        """
        self._check_valid(uri)
        run(self.put_steps(uri, data, OVERWRITE))

    def _check_valid(self, uri: Any) -> None:
        if not self.is_valid(uri):
            self._refuse(uri)

    def _refuse(self, uri: Any) -> NoReturn:
        if not isinstance(uri, str):
            raise TypeError(f"{type(self).__name__} expected a str such as '{self.URI_HINT}', not {type(uri).__name__}")
        raise InvalidURI(self, redact_url(uri), hint=self._hint())

    def _hint(self) -> str | None:
        return self.URI_HINT


class WireStore(KeepsPerProcess, RawStore, Generic[R]):
    """A raw store behind HTTP.

    `R` is the state that each process builds for itself on first use (credentials, what was learned about
    buckets). It is never pickled, and never inherited through fork: a lock of the parent may be held for
    ever in a child.
    """

    _BUNDLE_VARIABLE: ClassVar[str | None] = None  # of the environment, where the service's own tools heed one

    def __init__(
        self,
        *,
        forbidden_is_missing: bool,
        max_blob_size: int | str | None,
        range_threshold: int | str | None,
        connect_timeout: float,
        stall_timeout: float,
        total_timeout: float | None,
        ca_bundle: str | os.PathLike[str] | None,
        proxy: str | None,
        retry: Retry | None,
        limit: Rate | None,
    ) -> None:
        check_seconds("connect_timeout", connect_timeout)
        check_seconds("stall_timeout", stall_timeout)
        if total_timeout is not None:
            check_seconds("total_timeout", total_timeout)
        _check_proxy(proxy)
        if ca_bundle is not None and not Path(ca_bundle).exists():
            raise ValueError(f"ca_bundle: there is no file or folder {os.fspath(ca_bundle)!r}")
        self.forbidden_is_missing = forbidden_is_missing
        self.max_blob_size = max_blob_size
        self.range_threshold = range_threshold
        self.connect_timeout = connect_timeout
        self.stall_timeout = stall_timeout
        self.total_timeout = total_timeout
        self.ca_bundle = None if ca_bundle is None else os.fspath(ca_bundle)
        self.proxy = proxy
        self.retry: Retry = _known_retry(retry)
        self._max_bytes = _size(max_blob_size, "max_blob_size")
        threshold = _size(range_threshold, "range_threshold")
        if threshold == 0:
            raise ValueError("range_threshold is a size of at least 1 byte, or None: fetch no blob in parts")
        # The first request for a blob gives up on a larger body as soon as its length is known, before any of it.
        self._splits = threshold is not None and (self._max_bytes is None or threshold < self._max_bytes)
        self._first_limit = threshold if self._splits else self._max_bytes
        if limit is not None and not hasattr(limit, "turn_steps"):
            raise TypeError(f"limit={limit!r}: expected a RateLimit or a ClusterRate")
        self.limit = limit
        self._tally = Tally(limit)
        self._states: PerProcess[R] = PerProcess()
        self._no_buckets: set[str] = set()  # that were told of

    def download_steps(self, uri: Any, partial: Partial) -> Steps[Found]:
        ask = self._streaming(uri, partial)
        if ask is None:
            found = yield from self.get_steps(uri)
            yield Call(partial.fill, found.data)
            return found
        partial.expect(uri)
        problem = yield from into(partial, ask)
        if problem is not None:
            self._fail_or_missing(uri, problem)
        return Found(partial, self.label)

    @abstractmethod
    def _streaming(self, uri: Any, sink: Sink) -> Callable[[], Steps[Response | Problem]] | None:
        """Asks for the blob into `sink`, with all retries and remedies; None: only through memory."""

    def stats(self) -> dict[str, int]:
        """Counts of this process: `requests` sent, and how many of them were `retries`."""
        return {"requests": self._tally.requests, "retries": self._tally.retries}

    @abstractmethod
    def _new_state(self) -> R: ...

    def _state(self) -> R:
        return self._states.get() or self._states.set_once(self._new_state())

    def _forget(self) -> None:
        """Build the state anew at the next use, because the configuration has changed."""
        self._states = PerProcess()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for mine in ("_tally", "_no_buckets"):
            state.pop(mine, None)
        if state.get("client") is not None:
            _check_pickles(self, state["client"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tally = Tally(self.limit)
        self._no_buckets = set()

    def counts(self) -> Tally:
        """The counts of this process, for `Composite.stats`."""
        return self._tally

    def _profile(
        self,
        *,
        headers: Sequence[str] = (),
        signer: Signer | None = None,
    ) -> Profile:
        return Profile(
            headers=tuple(headers),
            signer=signer,
            connect_timeout=self.connect_timeout,
            stall_timeout=self.stall_timeout,
            total_timeout=self.total_timeout,
            ca_bundle=self.ca_bundle or (os.environ.get(self._BUNDLE_VARIABLE) if self._BUNDLE_VARIABLE else None),
            proxy=self.proxy,
            max_bytes=self._first_limit,
        )

    def _fail(self, what: str, problem: Problem) -> NoReturn:
        """Raise what `problem` means, other than a missing blob."""
        reason = self._shown(f"{what}: {without(str(problem), _proxy_secrets(self.proxy))}")
        if problem.forbidden and not what.startswith("PUT"):
            reason += "; if here this is how a missing blob is answered, say forbidden_is_missing=True"
        kind = AccessDenied if problem.refused else StoreNotAvailable
        failure = kind(self, reason)
        failure.unreachable = problem.unreachable
        raise failure from problem.cause

    def _shown(self, text: str) -> str:
        """`text` without secrets that URLs of this kind may have in them."""
        return text

    def _missing(self, problem: Problem) -> bool:
        return problem.missing or (problem.forbidden and self.forbidden_is_missing)

    def _fail_or_missing(self, uri: str, problem: Problem) -> NoReturn:
        if self._missing(problem):
            if problem.no_bucket:
                self._tell_no_bucket(uri)
            raise NotFoundInStore(self, self._shown(uri)) from problem.cause
        self._fail(f"GET {uri}", problem)

    def _tell_no_bucket(self, uri: str) -> None:
        # The services call it missing, and so do we. But with a slip in a bucket's name all blobs are.
        bucket = "/".join(uri.split("/", 3)[:3])
        if bucket not in self._no_buckets:
            self._no_buckets.add(bucket)
            logger.warning("there is no bucket %s, so all of its blobs are missing", bucket)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._told())})"

    @abstractmethod
    def _told(self) -> list[str]:
        """The configuration that differs from the default, without secrets, as in a constructor call."""


def blob_bytes(data: Any) -> bytes:
    """`data` as bytes. Raises `TypeError` for anything that is not bytes-like."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"a blob is bytes, not {type(data).__name__}")


def in_header(name: str, value: Any) -> str | None:
    """`value`, fit to be sent in a header. Raises `ValueError` for what could break out of one."""
    if value is not None and (not isinstance(value, str) or not value or _UNFIT.search(value)):
        raise ValueError(f"{name} must be a text of ASCII characters, without control characters")
    return None if value is None else str(value)


def endpoint(url: Any) -> str | None:
    """`url` without its trailing slash. Raises `ValueError` unless it is an http(s) address without a password."""
    if url is None:
        return None
    if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s\x00-\x1f/?#@]+(/[^\s\x00-\x1f?#]*)?", url):
        raise ValueError(f"endpoint_url must look like 'https://host:port', not {redact_url(str(url))!r}")
    return str(url).rstrip("/")


def options(store: object, defaults: dict[str, Any]) -> list[str]:
    """`name=value` of each attribute that differs from its default."""
    return [f"{name}={value!r}" for name, default in defaults.items() if (value := getattr(store, name)) != default]


def _check_proxy(proxy: Any) -> None:
    if proxy is not None and (not isinstance(proxy, str) or not _PRINTABLE(proxy)):
        raise ValueError("proxy must look like 'http://host:port', without blanks and control characters")


def _known_retry(retry: Any) -> Retry:
    if retry is None:
        return DEFAULT_RETRY
    if not isinstance(retry, Retry):
        raise TypeError(f"retry is a Retry, such as Retry(attempts=2), not {type(retry).__name__}")
    return retry


def _size(size: int | str | None, name: str) -> int | None:
    if size is None:
        return None
    from bitstore._support.sizes import parse_size

    return parse_size(size, name=name)


def _proxy_secrets(proxy: str | None) -> list[str]:
    """The password in the URL of a proxy, and the form in which it is sent (Basic, RFC 7617)."""
    match = _PROXY_USER.search(proxy or "")
    if match is None:
        return []
    user, password = unquote(match[1]), unquote(match[2])
    return [b64encode(f"{user}:{password}".encode()).decode(), match[2], password]


def _check_pickles(store: Store, client: object) -> None:
    try:
        pickle.dumps(client)
    except Exception as error:  # clients fail to pickle in many ways (locks, sockets, closures): all mean the same
        raise TypeError(
            f"{type(store).__name__} cannot be pickled: its attribute 'client' holds a {type(client).__name__}, "
            "which does not pickle. Give it credentials and options instead of a client"
        ) from error
