"""A cache in memory."""

from __future__ import annotations

import threading

from cachetools import Cache, LRUCache

from bitstore._caches.local import LocalCache
from bitstore._support.per_process import PerProcess
from bitstore._support.sizes import format_size
from bitstore.errors import NotFoundInStore
from bitstore.outline import Outline
from bitstore.steps import OVERWRITE, Found, Scope, Steps, Stored, Write

__all__ = ["MemoryCache"]

_BYTES_PER_ENTRY = 256  # about what a key and its bookkeeping take besides the blob


class _Contents:
    """What one process holds."""

    __slots__ = ("blobs", "evicted", "hits", "lock", "misses", "skipped", "written")

    def __init__(self, max_size: int) -> None:
        self.lock = threading.Lock()
        self.blobs: LRUCache[str, bytes] = LRUCache(max_size, getsizeof=len)
        self.hits = self.misses = self.written = self.skipped = self.evicted = 0


class MemoryCache(LocalCache):
    """Keeps the blobs used last in the memory of this process.

    Threads share it; processes do not: a forked child and an unpickled copy start empty.

    Parameters
    ----------
    max_size
        The most bytes of blobs to hold: an int, or a text such as `"256MB"`. When a new blob has no room, those
        not used for longest go. Keys and bookkeeping come on top, so besides that at most one blob for each 256
        bytes of `max_size` is held (1,000 in any case), which tiny blobs reach first.

    Raises
    ------
    ValueError
        `max_size` is not a size, or is zero.
    """

    scope: Scope = "process"

    def __init__(self, max_size: int | str = "256MB") -> None:
        self._max_size = self._positive_size(max_size)
        self._contents: PerProcess[_Contents] = PerProcess()

    @property
    def max_size(self) -> int:
        """Bytes, as given."""
        return self._max_size

    def get(self, uri: str) -> bytes:
        """The bytes kept under `uri`.

        Raises
        ------
        InvalidURI
            `uri` is not a non-empty text.
        NotFoundInStore
            The cache does not hold it (any more).
        """
        contents = self._contents.get() or self._start()
        with contents.lock:
            try:
                data: bytes = contents.blobs[uri]
            except (KeyError, TypeError):  # TypeError: not hashable, so not a text either
                contents.misses += 1
            else:
                contents.hits += 1
                return data
        self._check_valid(uri)
        raise NotFoundInStore(self.label, uri)

    def put(self, uri: str, data: bytes) -> None:
        """Keep `data` under `uri`. A blob above `max_size` is not kept, and counted as skipped.

        Raises
        ------
        InvalidURI
            `uri` is not a non-empty text.
        TypeError
            `data` is not bytes.
        """
        data = self._checked(uri, data)
        contents = self._contents.get() or self._start()
        with contents.lock:
            blobs = contents.blobs
            held = len(blobs) - (blobs.pop(uri, None) is not None)
            if len(data) > self.max_size:
                contents.skipped += 1
                return
            blobs[uri] = data
            while len(blobs) > max(1000, self.max_size // _BYTES_PER_ENTRY):
                blobs.popitem()
            contents.written += 1
            contents.evicted += held + 1 - len(blobs)

    def exists(self, uri: str) -> bool:
        """Whether the cache holds `uri`. Does not count as a use of it."""
        self._check_valid(uri)
        contents = self._contents.get() or self._start()
        with contents.lock:
            return uri in contents.blobs

    def delete(self, uri: str) -> bool:
        """Drop `uri`; whether it was held."""
        self._check_valid(uri)
        contents = self._contents.get() or self._start()
        with contents.lock:
            return contents.blobs.pop(uri, None) is not None

    def clear(self) -> None:
        """Drop all blobs. The counters go on."""
        contents = self._contents.get() or self._start()
        with contents.lock:
            contents.blobs.clear()

    def stats(self) -> dict[str, int]:
        """Counters of this process: hits, misses, written, skipped, evicted; and what is held now: blobs, bytes."""
        contents = self._contents.get() or self._start()
        with contents.lock:
            return {
                "hits": contents.hits,
                "misses": contents.misses,
                "written": contents.written,
                "skipped": contents.skipped,
                "evicted": contents.evicted,
                "blobs": len(contents.blobs),
                "bytes": int(contents.blobs.currsize),
                "max_size": self.max_size,
            }

    def use_algorithm(self, name: str) -> None:
        """Do nothing: keys are texts here, of whichever algorithm."""

    @property
    def label(self) -> str:
        """A short name for statistics and error messages."""
        return "memory"

    def _start(self) -> _Contents:
        return self._contents.set_once(_Contents(self.max_size))

    # A lookup in memory never blocks, so its steps are none: it ends before the first one.
    answers_at_once = True

    def get_steps(self, uri: str) -> Steps[Found]:
        yield from ()
        return Found(MemoryCache.get(self, uri), self.label)

    def exists_steps(self, uri: str) -> Steps[bool]:
        yield from ()
        return MemoryCache.exists(self, uri)

    def describe_steps(self, uri: str) -> Steps[Stored | None]:
        yield from ()
        self._check_valid(uri)
        contents = self._contents.get() or self._start()
        with contents.lock:
            # The lookup of the base class does not count as a use.
            return Stored(size=len(Cache.__getitem__(contents.blobs, uri))) if uri in contents.blobs else None

    def put_steps(self, uri: str, data: bytes, write: Write = OVERWRITE) -> Steps[None]:
        yield from ()
        MemoryCache.put(self, uri, data)

    def outline(self) -> Outline:
        """Its size."""
        return Outline(self.label, type(self).__name__, facts={"largest size": format_size(self.max_size)})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_size={format_size(self.max_size)!r})"
