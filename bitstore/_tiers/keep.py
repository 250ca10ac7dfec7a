"""What a composite found, kept in its caches; and whether it is known that they cannot keep it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import Any

from bitstore._lookup.asking import steps_of_put, steps_of_version
from bitstore._support.once import warn_once
from bitstore._tiers.chain import Tier, costs
from bitstore._tiers.runtime import Live, Unwritten
from bitstore.errors import AccessDenied, NotFoundInStore, StoreNotAvailable, WriteConflict, described
from bitstore.steps import OVERWRITE, Cancelled, Steps, Write
from bitstore.store import Store

__all__ = ["cannot_keep_steps", "keep_steps"]

# What a cache raises for one blob: bytes that do not match, data that it does not take. Others may be kept.
_OF_THE_BLOB = (NotFoundInStore, TypeError, ValueError, WriteConflict)

# Errors of a file system that another blob would meet as well: full, not writable, not there, broken.
_OF_THE_DISK = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EIO,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
        errno.ESTALE,
    }
)

logger = logging.getLogger("bitstore")

_KEEP = Write(only_if_absent=True)


def keep_steps(
    live: Live, origin: Tier, keepers: tuple[Tier, ...], key: Any, data: Any, bad: tuple[Tier, ...]
) -> Steps[None]:
    """Write what a lookup has found into caches, as steps. Whatever they do, the lookup has its bytes.

    Parameters
    ----------
    live
        Counts what becomes of it.
    origin
        Where the bytes come from.
    keepers
        The caches.
    key, data
        The blob.
    bad
        Those caches that hold other bytes under this name, which did not match.
    """
    for tier in keepers:
        cache = tier.store
        stats = live.counts[tier.name]
        breaker = live.writers[tier.name]
        ticket: int | None = None
        try:
            if (_takes_only_bytes(cache) and not isinstance(data, bytes)) or not cache.is_valid(key):
                continue
            ticket = breaker.admit()
            if ticket is None and not costs(origin.store):  # what was paid for is worth a try
                stats.count("write_failures")
                continue
            if tier in bad:
                yield from steps_of_put(cache, key, data, (yield from _replacement(cache, key)))
            else:
                yield from steps_of_put(cache, key, data, _KEEP)
        except (Cancelled, GeneratorExit) as end:
            if ticket is not None:
                breaker.abandoned(ticket)
            if isinstance(end, GeneratorExit):
                raise
            stats.count("write_failures")
            return  # the bytes are here, so the lookup is in time although the cache is not
        except Exception as error:  # a cache that cannot keep never fails a lookup that has its bytes
            stats.count("write_failures")
            _failed(live, tier, ticket, (key, data), error, paid=costs(origin.store))
        else:
            breaker.succeeded()
            live.is_back(tier.name)
            stats.count("writes")


def cannot_keep_steps(
    live: Live, keepers: tuple[Tier, ...], key: Any, failures: Mapping[str, BaseException]
) -> Steps[dict[str, BaseException] | None]:
    """Why no cache can keep the blob of `key`, by the name of the cache; None: one can, or none should.

    Only what is known counts. A cache that could not keep a blob is given that blob once more, unless its breaker is
    open: so a cache that is back is noticed without another call of a paid source. `failures` are the errors of this
    lookup: a cache whose bucket does not exist cannot keep anything either.
    """
    reasons: dict[str, BaseException] = {}
    for tier in keepers:
        if not tier.store.is_valid(key):
            continue
        reason = failures.get(tier.name)
        if not getattr(reason, "no_container", False):
            tables = (table[tier.name] for table in (live.refused, live.doubted) if tier.name in table)
            refused = next((error for table in tables if (error := table.get(key)) is not None), None)
            reason = refused or (yield from _unwritable(live, tier))
        if reason is None:
            return None
        reasons[tier.name] = reason
    return reasons or None


def _unwritable(live: Live, tier: Tier) -> Steps[Exception | None]:
    """Why `tier` takes no blob, after another attempt; None: it does, or is to be tried with the next blob."""
    unwritten = live.unwritable.get(tier.name)
    if unwritten is None:
        return None
    breaker = live.writers[tier.name]
    probe = breaker.state != "closed"
    ticket = breaker.admit()
    if ticket is None:
        return unwritten.error
    if unwritten.data is None:
        breaker.abandoned(ticket)
        return None
    try:
        yield from steps_of_put(tier.store, unwritten.key, unwritten.data, _KEEP)
    except (Cancelled, GeneratorExit):
        breaker.abandoned(ticket)
        raise
    except Exception as error:  # as in `keep_steps`
        breaker.failed(ticket, error)
        unwritten.error = error
        if probe and not _is_of_the_cache(error):
            live.doubted[tier.name][unwritten.key] = error
            unwritten.probes += 1
            # Another blob is the test, ever more rarely, because it has to be paid for: at probe 1, 2, 4, 8 and so on.
            if unwritten.probes & (unwritten.probes - 1) == 0:
                unwritten.data = None
        return error
    breaker.succeeded()
    live.is_back(tier.name)
    live.counts[tier.name].count("writes")
    return None


def _failed(live: Live, tier: Tier, ticket: int | None, blob: tuple[Any, Any], error: Exception, *, paid: bool) -> None:
    """Note that `tier` could not keep `blob`, and warn of it once."""
    key, data = blob
    breaker = live.writers[tier.name]
    conflict = isinstance(error, WriteConflict)
    if conflict:
        live.counts[tier.name].count("conflicts")
    if isinstance(error, _OF_THE_BLOB):
        if ticket is not None:
            breaker.abandoned(ticket)
        if paid:
            live.refused[tier.name][key] = error
    else:
        if ticket is not None:
            breaker.failed(ticket, error)
        if paid or breaker.state != "closed":
            unwritten = live.unwritable.setdefault(tier.name, Unwritten(key, data, error))
            if unwritten.data is None:
                unwritten.key, unwritten.data, unwritten.error = key, data, error
    warn_once(
        logger,
        ("could not keep", tier.name, type(error)),
        "cache %s could not keep a blob%s (%s); %s, further failures are only counted",
        tier.name,
        " that it had called missing" if conflict else " that was paid for" if paid else "",
        described(error),
        "what cannot be kept is not paid for again unless pay_unkept=True" if paid else "lookups go on",
    )


def _is_of_the_cache(error: Exception) -> bool:
    """Whether another blob would fare the same."""
    cause = error if error.__cause__ is None else error.__cause__
    return (
        isinstance(error, AccessDenied)
        or (isinstance(error, StoreNotAvailable) and (error.unreachable or error.no_container))
        or (isinstance(cause, OSError) and cause.errno in _OF_THE_DISK)
    )


def _takes_only_bytes(cache: Store) -> bool:
    return bool(getattr(cache, "bytes_only", False))


def _replacement(cache: Store, key: Any) -> Steps[Write]:
    """How to overwrite the bad copy, and nothing but it, where the cache tells its version."""
    version = yield from steps_of_version(cache, key)
    return Write(replacing=version) if version else OVERWRITE
