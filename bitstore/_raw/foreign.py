"""What stores over the clients of other libraries share: blocking calls in worker threads, the meaning of errors."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from bitstore._lookup.opened import Opened, PinnedFile
from bitstore._raw.base import RawStore, blob_bytes
from bitstore._raw.options import Option, one_of
from bitstore._raw.problems import cut, without
from bitstore._support.per_process import Process, current
from bitstore._support.redact import redact_url
from bitstore.errors import AccessDenied, BitstoreError, NotFoundInStore, StoreNotAvailable, WriteConflict, described
from bitstore.steps import Call, Found, Steps, Stored, Write

__all__ = ["ForeignRaw", "Look", "is_obstore", "says_outage", "says_refusal", "secrets_in", "told"]

_OUTAGE = re.compile(r"error sending request|timed out|connect|status code: (?:429|502|503|504)", re.IGNORECASE)
_obstore_runtime: Process | None = None  # the process that has used obstore by one of these stores
_REFUSAL = re.compile(r"Permission|AccessDenied|Forbidden|Unauth")
_SECRET = re.compile(r"key|secret|token|pass|cred|auth|sign|session|header|cookie|connection", re.IGNORECASE)
_SHORTEST = 8  # characters; shorter values of options are no secrets

T = TypeVar("T")


def is_obstore(client: Any) -> bool:
    """Whether the class of a client, or a base of it, is one of obstore."""
    return any(base.__module__.partition(".")[0].lstrip("_") == "obstore" for base in type(client).__mro__)


def told(error: BaseException) -> str:
    """An error of another library in a line, without what looks like a secret and without its debugging part."""
    return cut(" ".join(described(error).partition("\n\nDebug source")[0].split()))


def secrets_in(options: Any, *, named: bool = False) -> Iterator[str]:
    """What options of a client hold that its service may repeat: texts under names such as `token` or `headers`."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            yield from secrets_in(value, named=named or _SECRET.search(str(name)) is not None)
    elif isinstance(options, (list, tuple)):
        for value in options:
            yield from secrets_in(value, named=named)
    elif named and isinstance(options, (str, bytes)):
        text = options if isinstance(options, str) else options.decode("latin-1")
        yield from (word for word in (text, *text.split()) if len(word) >= _SHORTEST)


def says_refusal(error: BaseException) -> bool:
    """Whether the class of an error is one for a lack of rights, in whatever library."""
    return isinstance(error, PermissionError) or _REFUSAL.search(type(error).__name__) is not None


def says_outage(error: BaseException) -> bool:
    """Whether an error says that the service could not be reached, or is overrun."""
    return isinstance(error, (ConnectionError, TimeoutError)) or _OUTAGE.search(told(error)) is not None


class Look(NamedTuple):
    """What a client says of an object without its bytes."""

    size: int | None
    version: str | None  # another one after each write; None: the client tells none
    etag: str | None = None


class ForeignRaw(RawStore):
    """A raw store over the client of another library, whose calls block.

    A subclass writes the blocking calls. Whatever they raise is read by `_meaning`.
    """

    missing_bucket = Option[Literal["failure", "missing"]]("failure", one_of("failure", "missing"))

    # ------------------------------------------------------------------ blocking calls, and what their errors mean

    @abstractmethod
    def _read(self, uri: str) -> bytes:
        """The whole object."""

    @abstractmethod
    def _look(self, uri: str) -> Look:
        """What is said of the object."""

    @abstractmethod
    def _part(self, uri: str, start: int, end: int, seen: Look) -> bytes | None:
        """Bytes of the version `seen`, from `start` up to `end`; None: it is another version by now."""

    @abstractmethod
    def _write(self, uri: str, body: bytes, write: Write) -> None:
        """One write."""

    @abstractmethod
    def _meaning(self, uri: str, error: Exception) -> BitstoreError:
        """`NotFoundInStore` where the error says for certain that the object is absent; else another one."""

    def _secrets(self) -> Iterable[str]:
        """What the client sends that no message may have in it, as a service may repeat it."""
        return ()

    def _masked(self, text: str) -> str:
        return without(text, self._secrets())

    def _tried(self, subject: str, uri: str, function: Callable[..., T], *args: Any) -> T:
        try:
            return function(uri, *args)
        except BitstoreError:
            raise
        except Exception as error:  # clients raise errors of any kind: what is no definite absence is a failure
            meant = self._meaning(uri, error)
            if isinstance(meant, NotFoundInStore) and subject:
                meant = StoreNotAvailable(self, self._masked(f"{subject}{redact_url(uri)}: {told(error)}"))
            raise meant from error

    def _check_fork(self) -> None:
        """Raise where the threads of obstore, which this process does not have, would be waited for without end."""
        global _obstore_runtime
        if _obstore_runtime is None:
            _obstore_runtime = current()
        elif _obstore_runtime is not current():
            failure = StoreNotAvailable(
                self, "obstore hangs in a process that was forked after it was used: start processes by spawn"
            )
            failure.definite = True
            raise failure

    def _check_readable(self, uri: str) -> None:
        """Raise `WriteConflict` where a name is taken that has no blob to read: lookups would take it for missing."""
        try:
            seen = self._look(uri)
            if seen.size and self._part(uri, 0, 1, seen) is None:
                return  # another write was under way
        except Exception as error:  # of the client, as in `_tried`
            reason = f"it was not written: the name is taken, and what is there cannot be read ({told(error)})"
            raise WriteConflict(self, self._masked(f"PUT {redact_url(uri)}: {reason}")) from error

    def _failure(self, uri: str, reason: str, *, refused: bool = False, no_bucket: bool = False) -> StoreNotAvailable:
        text = self._masked(f"{redact_url(uri)}: {reason}")
        failure = (AccessDenied if refused else StoreNotAvailable)(self, text)
        failure.definite = failure.no_container = no_bucket
        return failure

    def _no_bucket(self, uri: str, bucket: str) -> BitstoreError:
        if self.missing_bucket == "missing":
            return NotFoundInStore(self, redact_url(uri))
        advice = "if its blobs are to count as missing: missing_bucket='missing'"
        return self._failure(uri, f"there is no bucket {bucket}; {advice}", no_bucket=True)

    # ------------------------------------------------------------------ lookups as steps

    def get_steps(self, uri: Any) -> Steps[Found]:
        self._check_valid(uri)
        return Found((yield Call(self._tried, "", uri, self._read)), self.label)

    def range_steps(self, uri: Any, start: int, end: int) -> Steps[bytes]:
        self._check_valid(uri)
        seen: Look = yield Call(self._tried, "", uri, self._look)
        if seen.size is None:
            found = yield from self.get_steps(uri)
            whole: bytes = found.data
            return whole[start:end]
        end = min(end, seen.size)
        if start >= end:
            return b""
        data: bytes | None = yield Call(self._tried, "GET ", uri, self._part, start, end, seen)
        if data is None:
            raise self._failure(uri, "the object was replaced while it was read")
        return data

    def open_steps(self, uri: Any, verify: bool | None = None) -> Steps[Found]:
        self._check_valid(uri)
        seen: Look = yield Call(self._tried, "", uri, self._look)
        if seen.version is None or not seen.size:
            return (yield from self.get_steps(uri))

        def read(start: int, end: int) -> Steps[bytes]:
            data: bytes | None = yield Call(self._tried, "GET ", uri, self._part, start, end, seen)
            if data is None:
                raise self._failure(uri, "the blob was replaced while it was read")
            return data

        return Found(Opened(PinnedFile(redact_url(uri), seen.size, read)), self.label)

    def exists_steps(self, uri: Any) -> Steps[bool]:
        return (yield from self._there(uri)) is not None

    def version_steps(self, uri: Any) -> Steps[str | None]:
        seen = yield from self._there(uri)
        return None if seen is None else seen.version

    def describe_steps(self, uri: Any) -> Steps[Stored | None]:
        seen = yield from self._there(uri)
        return None if seen is None else Stored(redact_url(uri), seen.size, seen.etag)

    def _there(self, uri: Any) -> Steps[Look | None]:
        self._check_valid(uri)
        try:
            seen: Look = yield Call(self._tried, "", uri, self._look)
        except NotFoundInStore:
            return None
        return seen

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        self._check_valid(uri)
        yield Call(self._tried, "PUT ", uri, self._write, blob_bytes(data), write)
