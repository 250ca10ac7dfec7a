"""One run of `bitstore put`: each file hashed, looked for, written and looked at again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from bitstore._cli.inputs import Input
from bitstore._digests.remembers import unwrapped
from bitstore._lookup.asking import methods_of, scope_of, steps_of_describe, steps_of_get, steps_of_put
from bitstore._lookup.batch import get_many
from bitstore._lookup.options import LookupOptions
from bitstore._lookup.run import run
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._tiers.chain import Tier, costs
from bitstore._tiers.composite import Composite
from bitstore.blob import Blob
from bitstore.config import ConfigError
from bitstore.errors import InvalidDataFound, NotFoundInStore, WriteConflict
from bitstore.steps import OVERWRITE, Call, FileBody, Found, Steps, Stored, Write
from bitstore.store import Store

__all__ = ["CHECKS", "Check", "Put", "Putting", "put_all", "writable_tier"]

Check: TypeAlias = Literal["auto", "read", "size", "none"]
CHECKS: tuple[Check, ...] = get_args(Check)

_IN_MEMORY = 1 << 20  # bytes; a larger file is read twice: to be hashed, and to be sent
_READ_BACK = 16 << 20  # bytes that are read back unless told otherwise
_AT_ONCE = 16  # files under way, each of `_READ_BACK` at most
_IF_ABSENT = Write(only_if_absent=True)


class Put(NamedTuple):
    """What became of a file that was put."""

    digest: str
    # False: it was there before.
    written: bool
    # Bytes of the file.
    size: int
    # What was looked at in the store: all bytes, or their number; None: nothing.
    checked: Literal["read", "size"] | None
    # Where it lies; None: the store names no address.
    url: str | None


def writable_tier(store: Composite, name: str | None) -> Tier:
    """The tier that takes files: the one called `name`, or the first source that can be written, else shared cache.

    Raises
    ------
    ConfigError
        There is none.
    """
    tiers = {tier.name: tier for tier in store.tiers}
    able = {key: tier for key, tier in tiers.items() if _is_writable(tier.store)}
    if name is not None:
        if name not in able:
            what = "cannot be written" if name in tiers else "is no tier"
            raise ConfigError(f"--tier {name!r} {what}: choose one of {', '.join(able) or '(none can be written)'}")
        return able[name]
    shared = [tier for tier in able.values() if scope_of(tier.store) == "shared"]
    if not shared:
        raise ConfigError(
            f"no tier takes files ({', '.join(tiers)}): a store in a bucket or folder does, or a cache named by --tier"
        )
    return next((tier for tier in shared if not tier.is_cache), shared[0])


def _is_writable(store: Any) -> bool:
    store = unwrapped(store)
    own = getattr(type(store), "put", Store.put) is not Store.put or methods_of(store).put_steps
    lasts = scope_of(store) != "process"  # what a memory holds is gone with the command
    return own and lasts and not isinstance(store, Composite) and not costs(store)


class Putting:
    """The tier that files are put into, as a batch sees it: each lookup stores one file.

    Parameters
    ----------
    tier
        The tier.
    algorithm
        Name of the algorithm of the digests.
    replace
        Write also what is there.
    check
        `"read"`: read each blob back and compare the digest; `"size"`: compare the size; `"none"`; `"auto"`: read back
        up to 16 MiB, and compare the size of what is larger.
    """

    def __init__(self, tier: Tier, algorithm: str, *, replace: bool, check: Check) -> None:
        self._store = tier.store
        self.label = tier.name
        self._algorithm = digest_algorithm(algorithm)
        self._replace = replace
        self._check = check

    def __str__(self) -> str:
        return self.label

    def canonical(self, item: Input) -> Input:
        """The file itself."""
        return item

    def get_steps(self, item: Input) -> Steps[Found]:
        """Steps that store the file, and end in a `Put`."""
        body: bytes | FileBody = yield Call(_body, item)
        size = body.size if isinstance(body, FileBody) else len(body)
        if isinstance(body, FileBody):
            digest = body.hashes[self._algorithm.name].hex()
        else:
            digest = yield Call(self._algorithm.of, body)
        there = None if self._replace else (yield from self._there(digest))
        if there is None:
            if isinstance(body, FileBody) and not getattr(self._store, "takes_files", False):
                body = yield Call(body.whole)
            yield from steps_of_put(self._store, digest, body, OVERWRITE if self._replace else _IF_ABSENT)  # type: ignore[arg-type]
        elif not _fits(there, size):
            raise WriteConflict(
                self.label, f"{digest} is there with {there.size} bytes instead of {size}: --existing replace"
            )
        del body  # it is read back, and need not be held twice
        checked, stored = yield from self._checked(digest, size, there)
        return Found(Put(digest, there is None, size, checked, stored.url if stored else None), self.label)

    def _there(self, digest: str) -> Steps[Stored | None]:
        try:
            return (yield from steps_of_describe(self._store, digest))
        except NotFoundInStore as error:
            if not error.why:
                raise
            return None  # a ledger says so: if it is there all the same, the write finds it, and withdraws the miss

    def _checked(
        self, digest: str, size: int, there: Stored | None
    ) -> Steps[tuple[Literal["read", "size"] | None, Stored | None]]:
        check = self._check
        # A disk cache leaves out what it has no room for, without an error.
        if check == "none" and scope_of(self._store) == "shared":
            return None, there
        if check == "read" or (check == "auto" and there is None and size <= _READ_BACK):
            found = yield from steps_of_get(self._store, digest)
            if (yield Call(self._algorithm.of, found.data)) != digest:
                raise InvalidDataFound(
                    self.label, digest, "what is stored under it has other bytes: --existing replace"
                )
            return "read", there
        stored = there if there is not None else (yield from steps_of_describe(self._store, digest))
        if stored is None or not _fits(stored, size):
            raise WriteConflict(self.label, f"{digest} was written, and is not there with its {size} bytes")
        if check == "none":
            return None, stored
        return (None if stored.size is None or stored.compression else "size"), stored


def _fits(stored: Stored, size: int) -> bool:
    """Whether what is stored may be a blob of `size` bytes, by its own size."""
    return stored.size in (None, size) or stored.compression is not None or stored.encoding is not None


def _body(item: Input) -> bytes | FileBody:
    small = item.path.stat().st_size <= _IN_MEMORY
    return item.path.read_bytes() if small else FileBody(item.path)


def put_all(
    putting: Putting, items: Iterator[Input], take: Callable[[Blob], None], *, in_flight: int | None
) -> Iterator[Blob]:
    """Put files, and yield what became of each, in no order.

    Parameters
    ----------
    take
        Takes what became of a large file: such are put one after another, so that memory is bounded.
    in_flight
        The most files at once; None: chosen by the library.
    """

    def small() -> Iterator[Input]:
        for item in items:
            if item.size <= _READ_BACK:
                yield item
            else:
                take(_alone(putting, item))

    options = LookupOptions(in_flight=in_flight or _AT_ONCE)
    answers = get_many(putting, small(), options, ordered=False, errors="return")
    with contextlib.closing(answers):  # type: ignore[type-var]
        yield from answers


def _alone(putting: Putting, item: Input) -> Blob:
    try:
        found = run(putting.get_steps(item))
    except Exception as error:  # an answer of its own, as in a batch
        return Blob(0, item, None, None, error)
    return Blob(0, item, found.data, found.source)
