"""What a composite found, kept in its caches."""

from __future__ import annotations

import logging
from typing import Any

from bitstore._lookup.asking import steps_of_put, steps_of_version
from bitstore._support.once import warn_once
from bitstore._tiers.chain import Tier, costs
from bitstore._tiers.runtime import Live
from bitstore.errors import described
from bitstore.steps import OVERWRITE, Cancelled, Steps, Write
from bitstore.store import Store

__all__ = ["keep_steps"]

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
            if ticket is not None:
                breaker.failed(ticket, error)
            warn_once(
                logger,
                ("could not keep", tier.name, type(error)),
                "cache %s could not keep a blob (%s); lookups go on, further failures are only counted",
                tier.name,
                described(error),
            )
        else:
            breaker.succeeded()
            stats.count("writes")


def _takes_only_bytes(cache: Store) -> bool:
    return bool(getattr(cache, "bytes_only", False))


def _replacement(cache: Store, key: Any) -> Steps[Write]:
    """How to overwrite the bad copy, and nothing but it, where the cache tells its version."""
    version = yield from steps_of_version(cache, key)
    return Write(replacing=version) if version else OVERWRITE
