"""The check of a store: each of its tiers, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bitstore._caches.disk import DiskCache
from bitstore._digests.remembers import unwrapped
from bitstore._digests.store import DigestStore
from bitstore._doctor.buckets import check_bucket, place_of, quick
from bitstore._doctor.local import check_disk_cache, check_own, check_paid
from bitstore._doctor.membership import check_index
from bitstore._doctor.questions import Questions, Wishes
from bitstore._doctor.reports import CheckReport, SampleCheck, TierCheck
from bitstore._lookup.asking import canonical_of, label_of, scope_of
from bitstore._support.checks import check_seconds
from bitstore._tiers.chain import Chain, is_paid
from bitstore.outline import outline_of

__all__ = ["check", "checks"]


def check(
    store: Any,
    digests: Iterable[Any] | str | bytes = (),
    *,
    write: bool = False,
    paid: bool = False,
    timeout: float = 20.0,
) -> CheckReport:
    """Find out what is wrong with a store before a long run: `print(bitstore.check(store))`.

    Each tier is reached, and asked for a blob that cannot be there, by GET and by HEAD. It is listed, where the service
    lists, and one blob that is there is read. Nothing is written unless `write` says so, and nothing is paid for unless
    `paid` does. Lookups, statistics and circuit breakers of the store are left alone.

    Parameters
    ----------
    store
        A composite, or any store.
    digests
        Sample digests (of a store addressed by URL: URLs) to look for in each tier; one, or several.
    write
        Write a probe of 41 bytes, read it and delete it again: in caches, and in a store that is given by itself. Its
        name is its own digest. Where the right to delete is lacking it stays, and the report says where.
    paid
        Ask paid sources as well: for each sample digest, else once for a digest that they cannot have.
    timeout
        Seconds for one question; a tier that is silent is asked only one.

    Returns
    -------
    CheckReport
        What was found out about each tier, with faults, advice and the least rights to ask for.

    Raises
    ------
    InvalidURI
        A sample is not a name that the store understands.
    TypeError
        `store` has no `is_valid` and `get`.
    ValueError
        `timeout` is no number of seconds above 0.
    """
    return CheckReport(list(checks(store, digests, write=write, paid=paid, timeout=timeout)))


def checks(
    store: Any, digests: Iterable[Any] | str | bytes = (), *, write: bool, paid: bool, timeout: float
) -> Iterator[TierCheck]:
    """What `check` finds out about each tier, as soon as it is known."""
    check_seconds("timeout", timeout)
    if not (callable(getattr(store, "get", None)) and hasattr(store, "is_valid")):
        raise TypeError(f"expected a store with 'is_valid' and 'get', got {store!r}")
    if isinstance(digests, (str, bytes)):
        digests = [digests]
    samples = tuple(dict.fromkeys(map(canonical_of(store), digests)))
    wishes = Wishes(samples, write=write, paid=paid, timeout=timeout)
    return _tiers(store, wishes, getattr(store, "algorithm", None))


def _tiers(store: Any, wishes: Wishes, algorithm: Any, above: str = "") -> Iterator[TierCheck]:
    if not isinstance(store, Chain):
        yield _checked(store, TierCheck(label_of(store), outline_of(store).kind), wishes, algorithm)
        return
    for tier in store.tiers:
        name = f"{above}{tier.name}"
        if isinstance(tier.store, Chain):
            yield from _tiers(tier.store, wishes, getattr(tier.store, "algorithm", algorithm), f"{name} > ")
        else:
            yield _checked(tier.store, TierCheck(name, outline_of(tier.store).kind, tier.role), wishes, algorithm)


def _checked(store: Any, check: TierCheck, wishes: Wishes, algorithm: Any) -> TierCheck:
    store = unwrapped(store)  # what a ledger of misses remembers is nothing to be checked
    writes = wishes.write if check.role is None else check.role.startswith("cache")
    named = algorithm if isinstance(algorithm, str) else getattr(store, "algorithm", None)
    if named is None and isinstance(store, DiskCache):
        named = "sha1"  # by itself it takes any key
    questions = Questions(quick(store), check, place_of(store, wishes.samples, writes=writes), wishes, named)
    if is_paid(store):
        check_paid(questions, store)
    elif isinstance(store, DigestStore):
        check_bucket(questions, questions.store)
    elif isinstance(store, DiskCache):
        check_disk_cache(questions, store)
    elif scope_of(store) == "process":
        check.reached = check.may_read = check.may_write = True
        questions.samples(None)
    else:
        check_own(questions, store)
    check_index(check, store)
    questions.settle()
    told = {sample.digest for sample in check.samples}
    for digest in wishes.samples:
        if digest not in told:  # a tier that is out has not said that it lacks the blob
            why = "not asked, because of what is wrong with the tier" if check.asked else None
            state: Any = "failed" if check.asked else "not asked"
            check.samples.append(SampleCheck(str(digest), state, questions.url(digest), why))
    return check
