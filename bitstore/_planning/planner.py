"""Makes a plan: from what is known without a request, from a sample, and from the rates of earlier lookups."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from bitstore._planning.asking import Answer, Asking
from bitstore._planning.gathering import Gathered, Place, gathered
from bitstore._planning.interval import NONE, Interval
from bitstore._planning.plan import Plan
from bitstore._planning.route import Leg, Part, Routes, parts_of
from bitstore._planning.tier_cost import TierCost, total_money
from bitstore._planning.weights import Totals
from bitstore._raw.wire import WireStore
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._tiers.chain import Chain
from bitstore.store import Store

__all__ = ["MOST_ROUTES", "SAMPLE", "plan"]

SAMPLE = 1000
MOST_ROUTES = 200_000  # digests whose way is looked at one by one: of more, so many at random
_SIZES = 100  # digests of a tier whose index has them, that are looked for because of their sizes


def plan(
    chain: Chain, digests: Iterable[Any], *, sample: int, seed: int | None, timeout: float | None, in_flight: int | None
) -> Plan:
    """What looking up `digests` in `chain`, a composite of digests, will come to; see `DigestComposite.plan`."""
    if isinstance(sample, bool) or sample < 0:
        raise ValueError(f"sample={sample!r}: expected how many digests are looked for, at least 0")
    distinct, invalid = _distinct(digests, getattr(chain, "algorithm", "sha256"))
    dice = random.Random(seed)
    parts = parts_of(chain)
    looked = distinct if len(distinct) <= MOST_ROUTES else dice.sample(distinct, MOST_ROUTES)
    ways = Routes(parts)
    routes = {
        blob.uri: blob.data for blob in _asked(ways, looked, errors="raise", timeout=timeout, in_flight=in_flight)
    }
    scale = len(distinct) / len(looked) if looked else 1.0
    kinds: dict[tuple[Leg, ...], list[str]] = defaultdict(list)
    for digest, legs in routes.items():
        kinds[legs].append(digest)
    chosen = _chosen(kinds, parts, sample, dice)
    answers = _Answers(parts, len(chosen))
    for blob in _asked(Asking(parts, routes), chosen, errors="return", timeout=timeout, in_flight=in_flight):
        answers.take(routes[blob.uri], blob)
    counts = _stats(chain)
    learned = {number: counts.get(part.name, (0, 0)) for number, part in enumerate(parts)}
    totals = Totals(learned)
    for legs, members in kinds.items():
        population = round(len(members) * scale)
        got = answers.by_kind.get(legs, [])
        if not _is_open(legs, parts):
            totals.add_sample(population, legs, [legs] * population)
        elif got:
            totals.add_sample(population, legs, got)
        else:
            totals.add_unknown(population, legs)
    places, stores = {}, {}
    for number, found in ways.places.items():
        asked = [place for place in found if isinstance(place.store, WireStore)]  # files take no request
        stores[number] = _only_store(asked)
        took = gathered(asked or found, *parts[number].store.read_ahead_room)
        places[number] = took._replace(blobs=len(found), requests=took.requests if asked else NONE)
    return _assembled(
        parts, totals, answers, learned, places, stores, digests=len(distinct), invalid=invalid, looked=len(looked)
    )


class _Answers:
    """What the sample has said."""

    def __init__(self, parts: list[Part], sampled: int) -> None:
        self._parts = parts
        self.sampled = sampled
        # By what was known before: the ways as they have turned out.
        self.by_kind: dict[tuple[Leg, ...], list[tuple[Leg, ...]]] = defaultdict(list)
        # By the number of a tier: sizes of blobs that it has; how many digests it was asked for.
        self.sizes: dict[int, list[int]] = defaultdict(list)
        self.asked: Counter[int] = Counter()
        self.failures: dict[int, tuple[int, str]] = {}

    def take(self, legs: tuple[Leg, ...], blob: Any) -> None:
        """Take in one answer; what was out of time tells nothing."""
        if blob.error is not None:
            self.sampled -= 1
            return
        answer: Answer = blob.data
        if _is_open(legs, self._parts):
            self.by_kind[legs].append(answer.legs)
        for before, leg in zip(legs, answer.legs, strict=False):
            if before.kind == "open":
                self.asked[leg.part] += 1
        last = answer.legs[-1] if answer.legs else None
        if last is not None and last.kind == "held" and answer.size is not None:
            self.sizes[last.part].append(answer.size)
        for part, reason in answer.failed:
            self.failures[part] = self.failures.get(part, (0, ""))[0] + 1, reason


def _asked(store: Any, digests: list[str], **options: Any) -> Iterable[Any]:
    blobs: Any = Store.get_many(store, digests, **options)
    with closing(blobs):
        yield from blobs


def _distinct(digests: Iterable[Any], algorithm: str) -> tuple[list[str], int]:
    """Each digest once, in a fixed order, and how many entries are none."""
    kind = digest_algorithm(algorithm)
    found: set[str] = set()
    invalid = 0
    for value in digests:
        digest, _ = kind.read(value)
        if digest is None:
            invalid += 1
        else:
            found.add(digest)
    return sorted(found), invalid


def _is_open(legs: tuple[Leg, ...], parts: list[Part]) -> bool:
    return any(leg.kind == "open" and not parts[leg.part].is_local for leg in legs)


def _chosen(
    kinds: Mapping[tuple[Leg, ...], list[str]], parts: list[Part], sample: int, dice: random.Random
) -> list[str]:
    """The digests to be looked for: of each kind with open questions its part, and some more for their sizes."""
    chosen: list[str] = []
    open_ones = {legs: members for legs, members in kinds.items() if _is_open(legs, parts)}
    total = sum(map(len, open_ones.values()))
    for members in open_ones.values():
        chosen += dice.sample(members, min(len(members), -(-sample * len(members) // total)))
    del chosen[sample:]
    rest = sample - len(chosen)
    for legs, members in kinds.items():
        sure = legs not in open_ones and legs and legs[-1].kind == "held" and not parts[legs[-1].part].is_local
        if sure and rest:
            more = dice.sample(members, min(len(members), _SIZES, rest))
            chosen += more
            rest -= len(more)
    return chosen


def _stats(chain: Chain, prefix: str = "") -> dict[str, tuple[int, int]]:
    """Of how many lookups each tier has answered how many, as this process has seen it: the hits, and all."""
    found: dict[str, tuple[int, int]] = {}
    for tier, stats in zip(chain.tiers, chain.stats().values(), strict=True):
        if isinstance(tier.store, Chain):
            found |= _stats(tier.store, f"{prefix}{tier.name}/")
        found[prefix + tier.name] = stats.hits, stats.hits + stats.misses
    return found


def _only_store(places: list[Place]) -> Any:
    """The raw store that reads them all; None: several do, of which each may have its price."""
    found = {id(place.store): place.store for place in places}
    return next(iter(found.values())) if len(found) == 1 else None


def _basis(number: int, part: Part, answers: _Answers, learned: int) -> str:
    """How it is known what a tier answers, in words; `learned`: how many lookups have asked it."""
    if part.is_local:
        return "a look at it"
    if hasattr(part.store, "place_steps") and not answers.asked[number]:
        return "its table"
    told = ["its index"] if getattr(part.store, "index", None) is not None else []
    if answers.asked[number]:
        told.append(f"a sample of {answers.asked[number]:,}")
    elif not told:
        told.append(f"{learned:,} earlier lookups" if learned else "nothing is known")
    return " and ".join(told)


def _assembled(
    parts: list[Part],
    totals: Totals,
    answers: _Answers,
    learned: Mapping[int, tuple[int, int]],
    places: Mapping[int, Gathered],
    stores: Mapping[int, Any],
    *,
    digests: int,
    invalid: int,
    looked: int,
) -> Plan:
    notes = [
        f"{parts[number].name} could not say for {count:,} of the sample, which count as missing there: {reason}"
        for number, (count, reason) in answers.failures.items()
    ]
    if looked < digests:
        notes.append(f"the ways of {looked:,} digests were looked at, chosen at random")
    written: dict[int, Interval] = {}
    for number, part in enumerate(parts):
        for keeper in part.keepers:
            written[keeper] = written.get(keeper, NONE).plus(totals.hits.get(number, NONE))
    pooled = [size for sizes in answers.sizes.values() for size in sizes]
    costs = [
        TierCost(
            part,
            totals.asked.get(number, NONE),
            totals.hits.get(number, NONE),
            written.get(number, NONE),
            answers.sizes.get(number) or pooled,
            places.get(number),
            stores.get(number),
        )
        for number, part in enumerate(parts)
    ]
    notes += [note for cost in costs for note in cost.notes()]
    tiers = tuple(
        cost.planned(_basis(number, parts[number], answers, learned[number][1])) for number, cost in enumerate(costs)
    )
    sizes = [tier.bytes for tier in tiers]
    return Plan(
        digests=digests,
        invalid=invalid,
        sampled=answers.sampled,
        tiers=tiers,
        missing=totals.missing,
        bytes=None if None in sizes else _sum([size for size in sizes if size is not None]),
        money=total_money([tier.money for tier in tiers]),
        notes=tuple(notes),
        limited_to=Interval(*(max(values) for values in zip(NONE, *(cost.seconds() for cost in costs), strict=True))),
    )


def _sum(intervals: Iterable[Interval]) -> Interval:
    total = NONE
    for interval in intervals:
        total = total.plus(interval)
    return total
