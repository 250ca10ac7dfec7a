"""Large blobs: as several ranges at once, or into a file from where its bytes end.

Ranges and preconditions: https://www.rfc-editor.org/rfc/rfc9110#name-range-requests. What makes it safe is the
ETag: every part must name the one of the first, so that no two versions of a blob are ever mixed.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from bitstore._lookup.partial import Partial
from bitstore._raw.problems import Problem, too_large
from bitstore._support.digests import algorithm
from bitstore._transport.whole import Whole
from bitstore.steps import Call, Response, Room, Steps, Together

__all__ = ["PART_BYTES", "Ask", "Body", "Version", "in_parts", "into", "range_of", "version_of"]

PART_BYTES = 8 * 1024 * 1024
_AT_ONCE = 8  # parts of one blob
_INLINE = 1024 * 1024  # bytes; hashing more than this holds up the transfers of others for milliseconds


class Ask(Protocol):
    """Asks for a blob or a part of it, with all retries and remedies."""

    def __call__(self, headers: tuple[str, ...], limit: int, room: Room | None = None) -> Steps[Response | Problem]:
        """Ask with these header lines; `limit`: bytes of the body at most, 0: any number; `room`: for the part."""


_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})").fullmatch


class Body(NamedTuple):
    """The bytes of a blob, and their digest in lower-case hexadecimal; None: it was not computed on the way."""

    data: bytes
    digest: str | None


class _Changed(Exception):
    """The server holds another version of the blob by now."""


class _Stopped(Exception):
    """One part failed, so the others need not come."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def in_parts(ask: Ask, *, limit: int | None, hash_with: str | None = None) -> Steps[Body | Problem]:
    """The whole blob, by ranges of `PART_BYTES`.

    By one plain request where the server knows no ranges or no ETags, refuses them, or has another ETag each time.

    Never holds much more than the blob itself: parts are put together in order as they come.

    Parameters
    ----------
    ask
        Sends one request, with all its retries and remedies.
    limit
        The most bytes that a blob may have; None: no limit.
    hash_with
        Algorithm by which the parts are hashed as they come; None: by none.
    """
    for _ in (1, 2):
        blob = yield from version_of(ask, limit=limit, first=PART_BYTES)
        if blob is None or (isinstance(blob, Problem) and blob.missing):
            break
        if not isinstance(blob, Version):
            return blob if isinstance(blob, Problem) else Body(blob, None)
        try:
            return (yield from _span(blob, 0, blob.size, hash_with))
        except _Changed:
            continue
        except _Stopped as stopped:
            if _refuses(stopped.problem):
                break
            return stopped.problem
    whole = yield from ask((), limit or 0)
    return Body(whole.body, whole.digest) if isinstance(whole, Response) else whole


class Version:
    """One version of a blob on a server, of which parts are asked for.

    Parameters
    ----------
    ask
        Asks for parts.
    etag
        The strong ETag that every part must name.
    size
        Bytes of the whole.
    first
        Bytes that have come already.
    at
        Where in the whole these begin.
    """

    def __init__(self, ask: Ask, etag: str, size: int, first: bytes, at: int = 0) -> None:
        self.ask, self.etag, self.size, self.first, self.at = ask, etag, size, first, at

    def span(self, start: int, end: int) -> Steps[bytes | Problem]:
        """The bytes from `start` up to `end`, or what went wrong: also that the blob is another one by now."""
        try:
            return (yield from _span(self, start, end)).data
        except _Changed:
            return Problem(message="the blob was replaced while it was read")
        except _Stopped as stopped:
            if stopped.problem.missing:
                return Problem(stopped.problem.status, message="the blob was deleted while it was read")
            return stopped.problem


def version_of(ask: Ask, *, limit: int | None, first: int) -> Steps[Version | bytes | Problem | None]:
    """The present version of a blob, by a request for its first `first` bytes; the blob itself where that is all of it.

    None: the server gives no parts that can be known to belong together, so all must be asked for at once.

    Parameters
    ----------
    ask
        Sends one request, with all its retries and remedies.
    limit
        The most bytes that a blob may have; None: no limit.
    first
        How many bytes are asked for.
    """
    answer = yield from ask((f"Range: bytes=0-{first - 1}",), first)
    if isinstance(answer, Problem):
        return None if answer.too_large or (_refuses(answer) and not answer.missing) else answer
    if answer.status != 206:
        return answer.body
    etag = answer.headers.get("etag", "")
    extent = _extent(answer)
    if extent is None or extent[:2] != (0, len(answer.body)) or not etag or etag.startswith("W/"):
        return None
    if limit is not None and extent[2] > limit:
        return too_large(limit)
    return answer.body if extent[1] == extent[2] else Version(ask, etag, extent[2], answer.body)


def range_of(ask: Ask, start: int, end: int) -> Steps[bytes | Problem]:
    """Bytes `start` up to `end` of the present version of an object; fewer where the object ends before.

    By one request; what is longer than `PART_BYTES` comes as several parts of one version.

    Parameters
    ----------
    ask
        Sends one request, with all its retries and remedies.
    start, end
        Positions in the object, `end` behind `start`.
    """
    first = min(end, start + PART_BYTES)
    answer = yield from ask((f"Range: bytes={start}-{first - 1}",), first - start)
    if isinstance(answer, Problem):
        if answer.too_large:
            return Problem(message="the server sent more than the range that was asked for: it knows no ranges")
        if answer.status == 416:
            answer.message = f"the object ends before byte {start}"
        return answer
    if answer.status != 206:
        return answer.body[start:end]
    extent = _extent(answer)
    if extent is None or extent[0] != start or extent[1] > first or len(answer.body) != extent[1] - start:
        return Problem(answer.status, message=f"not the range that was asked for, bytes {start} to {first - 1}")
    end = min(end, extent[2])
    if extent[1] == end:
        return answer.body
    etag = answer.headers.get("etag", "")
    if not etag or etag.startswith("W/"):
        answer = yield from ask((f"Range: bytes={start}-{end - 1}",), end - start)
        if isinstance(answer, Problem):
            return answer
        whole = answer.status == 206 and _extent(answer) == (start, end, extent[2]) and len(answer.body) == end - start
        return answer.body if whole else Problem(answer.status, message="not the range that was asked for")
    return (yield from Version(ask, etag, extent[2], answer.body, start).span(start, end))


def into(partial: Partial, ask: Callable[[], Steps[Response | Problem]]) -> Steps[Problem | None]:
    """Bring the whole blob into `partial`, from where its bytes end. Returns what went wrong, if anything.

    Raises
    ------
    CannotWrite
        The disk does not take it.
    """
    for _ in range(3):
        if partial.complete:
            return None
        answer = yield from ask()
        partial.check()
        if isinstance(answer, Response):
            partial.ended(answer.status, answer.headers)
            return None
        if not (partial.stale or (partial.size and _refuses(answer))):
            return answer
        partial.restart()  # it was the beginning of another version, or the server continues none
    return Problem(message="the blob was replaced while it was read, again and again")


def _refuses(problem: Problem) -> bool:
    """Whether a server that has the blob may refuse only that a part of it was asked for."""
    return problem.status == 501 or (400 <= problem.status < 500 and problem.status not in (401, 403))


def _span(blob: Version, start: int, end: int, hash_with: str | None = None) -> Steps[Body]:
    """The bytes from `start` up to `end` of one version of a blob, by ranges of `PART_BYTES`."""
    here = blob.first[start - blob.at : end - blob.at]
    parts = _Parts(end - start, hash_with)
    parts.add(0, here)
    to_come = range(start + len(here), end, PART_BYTES)
    begins = iter(to_come)
    workers = [_worker(blob, start, end, begins, parts) for _ in range(min(_AT_ONCE, len(to_come)))]
    if workers:
        yield Together(workers)
    return parts.body() if hash_with is None or end - start <= _INLINE else (yield Call(parts.body))


def _worker(blob: Version, first: int, until: int, begins: Iterator[int], parts: _Parts) -> Steps[None]:
    """Bring parts of the bytes from `first` up to `until`, as long as there are any."""
    etag, total = blob.etag, blob.size
    for start in begins:
        end = min(start + PART_BYTES, until)
        lines = f"Range: bytes={start}-{end - 1}", f"If-Match: {etag}"
        answer = yield from blob.ask(lines, end - start, parts.room(start - first))
        if isinstance(answer, Problem):
            if answer.status in (412, 416) or answer.too_large:
                raise _Changed
            raise _Stopped(answer)
        if (
            answer.status != 206
            or answer.headers.get("etag") != etag
            or _extent(answer) != (start, end, total)
            or len(answer.body) != end - start
        ):
            raise _Changed
        parts.add(start - first, answer.body)
        del answer  # its bytes are soon among the others, and must not be held twice
        if parts.wants_hashing and end - start > _INLINE:
            yield Call(parts.hash)


class _Parts:
    """The parts of a blob of `size` bytes, put together in the order of their bytes.

    They are hashed while others come where the whole blob has its memory from the beginning: else each would be held
    beside its copy until then.
    """

    def __init__(self, size: int, hash_with: str | None) -> None:
        self._whole = Whole(size)
        self._end = 0  # where the bytes end that are in their place
        self._early: dict[int, bytes | memoryview] = {}  # parts behind them, by where they begin
        self._state = None if hash_with is None else algorithm(hash_with).new()
        self._unhashed: deque[memoryview] = deque()
        self._hashing = threading.Lock()

    @property
    def wants_hashing(self) -> bool:
        """Whether `hash` has something to do."""
        return bool(self._unhashed)

    def room(self, start: int) -> Room | None:
        """Where a transport may receive a part."""
        return self._whole.room(start)

    def add(self, start: int, part: bytes | memoryview) -> None:
        """Take a part, in any order."""
        self._early[start] = part
        # Always in the transfer thread: the memory of a buffer that grows in several threads is kept by each.
        while (following := self._early.pop(self._end, None)) is not None:
            placed = self._whole.put(self._end, following)
            self._end += len(following)
            if self._state is not None and placed is not None:
                self._unhashed.append(placed)

    def hash(self) -> None:
        """Hash what is in its place. May take milliseconds.

        While another thread does that, it returns at once: that thread hashes these bytes, too, or `body` does.
        """
        if self._hashing.acquire(blocking=False):
            try:
                self._hash()
            finally:
                self._hashing.release()

    def body(self) -> Body:
        """All bytes, after the last part was added. Hashing them may take milliseconds."""
        whole = self._whole.bytes()
        if self._state is None:
            return Body(whole, None)
        with self._hashing:
            self._hash()
        if not self._whole.in_place:
            self._state.update(whole)
        return Body(whole, self._state.hexdigest())

    def _hash(self) -> None:
        while self._state is not None and self._unhashed:
            self._state.update(self._unhashed.popleft())


def _extent(response: Response) -> tuple[int, int, int] | None:
    """First byte, end (the byte after the last) and size of the whole; None where the answer does not say."""
    match = _CONTENT_RANGE(response.headers.get("content-range", ""))
    if match is None:
        return None
    start, last, total = map(int, match.groups())
    return (start, last + 1, total) if start <= last < total else None
