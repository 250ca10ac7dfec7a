"""Blobs as files: streamed to the disk in bounded memory, verified, and resumed where an earlier download ended."""

from __future__ import annotations

import os
from typing import Any

from bitstore._lookup.asking import canonical_of, methods_of, steps_of_get
from bitstore._lookup.options import check_timeout
from bitstore._lookup.partial import CannotWrite, Partial
from bitstore._lookup.run import run
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Call, Cancelled, Found, Steps

__all__ = ["download", "steps_of_download", "steps_of_file", "through_memory", "verified"]


def download(store: Any, uri: Any, path: str | os.PathLike[str], *, timeout: float | None, verify: bool) -> str:
    """Write one blob to the file `path`, as `Store.download` does."""
    check_timeout(timeout)
    try:
        return run(steps_of_file(store, uri, path, verify), timeout=timeout)
    except Cancelled:
        raise StoreNotAvailable(store, f"no answer within {timeout} s") from None


def steps_of_file(store: Any, uri: Any, path: str | os.PathLike[str], verify: bool) -> Steps[str]:
    """Bring the blob of `uri` into the file `path`; the result is the name of the store that had it.

    The few system calls that open the file and give it its name are no steps of their own: a lookup that is given up
    must know whether it has the file.
    """
    key = canonical_of(store)(uri)
    partial = Partial(path, verify=verify)
    try:
        with partial.open():
            try:
                found = yield from steps_of_download(store, key, partial)
            except NotFoundInStore:
                partial.discard()
                raise
            except BaseException:
                if not partial.size:  # nothing to resume from
                    partial.discard()
                raise
            partial.finish()
    except CannotWrite as failure:
        raise failure.error from None
    return found.source


def steps_of_download(store: Any, uri: Any, partial: Partial) -> Steps[Found]:
    """Bring the blob of `uri` into `partial`, as steps: the store's own ones, or its `get`.

    What is found has the partial file as its data where the blob went straight there, else the bytes.
    """
    if methods_of(store).download_steps:
        steps: Steps[Found] = store.download_steps(uri, partial)
        return steps
    return through_memory(store, uri, partial)


def through_memory(store: Any, uri: Any, partial: Partial) -> Steps[Found]:
    """Bring the blob of `uri` into `partial` by way of `get`, for stores without `download_steps`."""
    found = yield from steps_of_get(store, uri)
    yield Call(partial.fill, found.data)
    return found


def verified(store: Any, algorithm: str, digest: str, partial: Partial, look: Any) -> Steps[Found]:
    """The steps that `look()` makes, and then the check that the file has this digest. Raises `InvalidDataFound`.

    A file of which a part is from an earlier download may have been damaged meanwhile: then all of it is fetched again.
    """
    while True:
        found: Found = yield from look()
        if not partial.verify or partial.checked == (algorithm, digest):
            return found
        actual = yield Call(partial.digest, algorithm)
        if actual == digest:
            partial.checked = (algorithm, digest)
            return found
        again = partial.resumed
        partial.restart()
        if not again:
            raise InvalidDataFound(store, digest, f"its bytes have the {algorithm} {actual}")
