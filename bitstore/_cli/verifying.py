"""One run of `bitstore verify`: each object below a prefix is read, and compared with the digest in its key."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from bitstore._caches.disk import DiskCache
from bitstore._cli.runs import RunReport
from bitstore._digests.codings import looks_coded
from bitstore._digests.remembers import unwrapped
from bitstore._digests.store import DigestStore
from bitstore._digests.template import KeyTemplate, key_template
from bitstore._lookup.hashing import Hashing
from bitstore._lookup.run import run
from bitstore._support.digests import ALGORITHMS
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.redact import redact
from bitstore._tiers.composite import Composite
from bitstore.config import ConfigError
from bitstore.errors import InvalidDataFound, NotFoundInStore, StoreNotAvailable, reason_of
from bitstore.steps import Cancelled

__all__ = ["Checked", "Sampling", "VerifyReport", "algorithm_of", "hint", "listable_tier", "listed", "verify_all"]

Kind: TypeAlias = Literal["right", "wrong", "gone", "failed", "no digest"]

_ELSEWHERE = "is the prefix right? `bitstore check --store URL` names one that is"
_PAGE = 1000  # objects; buckets give no more at once
_PAGE_OF_FILES = 100_000  # a folder is looked through again for each page
_IN_MEMORY = 16 << 20  # bytes; larger objects are hashed one by one as they come


@dataclass(kw_only=True)
class VerifyReport(RunReport):
    """The counts of a run: `found` are right, `missing` were deleted meanwhile, `invalid` have no digest as key.

    Attributes
    ----------
    listed
        Objects that were listed.
    wrong
        Objects whose bytes do not match their key.
    reached
        URL up to which all objects are dealt with; None: not even the first one.
    """

    listed: int = 0
    wrong: int = 0
    reached: str | None = None

    @property
    def done(self) -> int:
        """How many objects are dealt with."""
        return self.asked + self.wrong + self.invalid

    @property
    def exit_code(self) -> int:
        """0: all right; 1: some are wrong, gone or no blobs, or nothing is there; 2: some could not be read."""
        code = super().exit_code
        return 1 if code == 0 and (self.wrong or not self.listed) else code


class Checked(NamedTuple):
    """What became of one object."""

    url: str
    kind: Kind
    # The digest in its key; None: there is none.
    digest: str | None
    # Bytes as stored.
    size: int
    # What is wrong, or why it could not be read; None: it is right.
    error: str | None = None


class Sampling:
    """Which objects are checked: all, `number` of them, or each with the chance `fraction`.

    Parameters
    ----------
    seed
        Objects and seed decide which are chosen, so a run can be repeated.
    """

    def __init__(self, *, number: int | None = None, fraction: float | None = None, seed: int = 0) -> None:
        self._number = number
        self._fraction = fraction
        self._seed = seed

    def chosen(self, objects: Iterable[_Object]) -> Iterator[_Object]:
        """Those of `objects` that are checked, in their order."""
        if self._number is not None:
            return iter(self._drawn(objects, self._number))
        fraction = self._fraction
        if fraction is not None:
            return (item for item in objects if self._chance(item.url) < fraction)
        return iter(objects)

    def _drawn(self, objects: Iterable[_Object], number: int) -> list[_Object]:
        # Each gets a random number, and those with the smallest are the sample: uniform, in one pass and little memory.
        chance = random.Random(self._seed)
        numbered = ((chance.random(), place, item) for place, item in enumerate(objects))
        return [item for _, place, item in sorted(heapq.nsmallest(number, numbered), key=lambda each: each[1])]

    def _chance(self, url: str) -> float:
        digest = hashlib.sha256(f"{self._seed} {url}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:7], "big") / (1 << 56)


class _Object:
    """One object of the listing."""

    __slots__ = ("digest", "done", "size", "url")

    def __init__(self, url: str, size: int, digest: str | None) -> None:
        self.url = url
        self.size = size
        self.digest = digest
        self.done = False  # whether it is dealt with


def listable_tier(store: Composite, name: str | None) -> DigestStore:
    """The store of the tier called `name`, or of the only one that can be listed.

    Raises
    ------
    ConfigError
        There is none, or several and no name.
    """
    tiers: dict[str, Any] = {tier.name: unwrapped(tier.store) for tier in store.tiers}
    able = {key: tier for key, tier in tiers.items() if _is_listable(tier)}
    if name is not None and name not in able:
        what = "cannot be listed" if name in tiers else "is no tier"
        other = "; `bitstore cache verify` checks a disk cache" if isinstance(tiers.get(name), DiskCache) else ""
        raise ConfigError(f"tier {name!r} {what}: choose one of {', '.join(able) or '(none can be listed)'}{other}")
    if name is None and len(able) != 1:
        what = f"--tier names the one that is meant: {', '.join(able)}" if able else "none of them can be listed"
        raise ConfigError(f"tiers {', '.join(tiers)}: {what}")
    found: DigestStore = able[name] if name is not None else next(iter(able.values()))
    return found


def _is_listable(store: Any) -> bool:
    return isinstance(store, DigestStore) and callable(getattr(store.base_store, "list_steps", None))


def algorithm_of(raw: Any, prefix: str) -> str:
    """Name of the algorithm of most of the first keys below a prefix or template. Raises ConfigError: of none."""
    template = key_template(prefix)
    page = run(raw.list_steps(template.start, most=_PAGE))
    counts = {
        name: sum(template.digest_of(item.url, kind.length) is not None for item in page.objects)
        for name, kind in ALGORITHMS.items()
    }
    best = max(counts, key=lambda name: counts[name])
    if not counts[best]:
        raise ConfigError(
            f"none of the first {len(page.objects):,} keys below {template.shown} is a digest: {hint(template)}; "
            f"--algorithm names the digests ({', '.join(ALGORITHMS)}) to go on"
        )
    return best


def hint(template: KeyTemplate) -> str:
    """What is mostly wrong where no key below a prefix is a digest."""
    return f"write '{template.shown}/' for a folder" if template.lacks_slash else _ELSEWHERE


def listed(store: DigestStore, report: VerifyReport, *, beyond: str | None) -> Iterator[_Object]:
    """All objects below the store's prefix, in the order of the listing; those behind the URL `beyond` alone."""
    template = key_template(store.prefix)
    length = digest_algorithm(store.algorithm).length
    raw: Any = store.base_store
    most = _PAGE_OF_FILES if template.start.lower().startswith("file:") else _PAGE
    start = {} if beyond is None else {"beyond": beyond}
    after: str | None = None
    while True:
        page = run(raw.list_steps(template.start, most=most, after=after, **start))
        for url, size, _ in page.objects:
            if url == beyond:  # some services begin with it
                continue
            report.listed += 1
            yield _Object(url, size, template.digest_of(url, length))
        if page.after is None:
            return
        if page.after == after:
            raise StoreNotAvailable(
                raw, f"LIST {template.shown}: the listing names the same page as the next one again"
            )
        after = page.after


def verify_all(
    store: DigestStore,
    objects: Iterator[_Object],
    report: VerifyReport,
    take: Callable[[Checked], None],
    *,
    shield: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    timeout: float | None,
    in_flight: int | None,
    max_failures: int | None,
) -> None:
    """Check objects, in bounded memory; what became of each goes to `take`, and the counts to `report`.

    Parameters
    ----------
    shield
        While entered, a signal waits.
    timeout, in_flight
        See `Store.get_many`.
    max_failures
        Failures of one cause in a row after which the run stops; None: it never stops for failures.
    """
    checking = copy.copy(store)
    checking.verify = True
    checking.recheck = True  # what was listed is read, whatever an index says
    under_way: deque[_Object] = deque()  # in the order of the listing; the first one is not done
    asked: deque[_Object] = deque()  # those of them that are looked up together, whose answers come in this order

    def ended(item: _Object, kind: Kind, error: str | None = None) -> None:
        with shield():
            item.done = True
            while under_way and under_way[0].done:
                report.reached = under_way.popleft().url
            _count(report, item, kind, error)
            report.stopped = report.causes.stop(max_failures)
            take(Checked(item.url, kind, item.digest, item.size, error))

    def small() -> Iterator[str]:
        for item in objects:
            under_way.append(item)
            if item.digest is None:
                ended(item, "no digest", "its key is not a digest of this store")
            elif item.size > _IN_MEMORY:
                ended(item, *_verdict(_hashed(checking, item.digest, timeout)))
            else:
                asked.append(item)
                yield item.digest
            if report.stopped is not None:
                return

    answers = checking.get_many(small(), ordered=True, timeout=timeout, in_flight=in_flight)
    with contextlib.closing(answers):  # type: ignore[type-var]
        for blob in answers:
            ended(asked.popleft(), *_verdict(blob.error))
            if report.stopped is not None:
                return


def _hashed(store: DigestStore, digest: str, timeout: float | None) -> Exception | None:
    """The error of one large object, which is hashed as it comes; None: it is right."""
    passing = Hashing(store.algorithm)
    try:
        try:
            run(store.download_steps(digest, passing), timeout=timeout)
        except InvalidDataFound:
            if not looks_coded(passing.beginning):
                raise
            run(store.get_steps(digest), timeout=timeout)  # as a whole: it may match when it is expanded
    except Cancelled:
        return StoreNotAvailable(store, f"no answer within {timeout} s")
    except Exception as error:
        return error
    return None


def _verdict(error: Exception | None) -> tuple[Kind, str | None]:
    if error is None:
        return "right", None
    if isinstance(error, InvalidDataFound):
        return "wrong", error.reason
    if isinstance(error, NotFoundInStore):
        return "gone", "it was listed, and is not there"
    return "failed", redact(reason_of(error))


def _count(report: VerifyReport, item: _Object, kind: Kind, error: str | None) -> None:
    if kind == "right":
        report.count_found("", item.size)
    elif kind == "gone":
        report.count_missing()
    elif kind == "failed":
        report.count_failed(item.url, error or "")
    elif kind == "no digest":
        report.invalid += 1
    else:
        report.wrong += 1
        report.causes.answered()
