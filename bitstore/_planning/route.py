"""Which tiers a lookup would ask in which order, and what is known of their answers without a request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

from bitstore._lookup.asking import scope_of, steps_of_exists
from bitstore._planning.gathering import Place
from bitstore._tiers.chain import Chain, Tier, costs
from bitstore.steps import Found, Steps

__all__ = ["Kind", "Leg", "Part", "Routes", "parts_of"]

# What is known of the answer: the tier has the blob, or lacks it (and is asked, or need not be); only a request would
# tell; or only a call that costs money or quota would.
Kind: TypeAlias = Literal["held", "lacked", "skipped", "open", "paid"]


class Leg(NamedTuple):
    """One tier on the way of a lookup."""

    # The number of the tier, among all that have stores.
    part: int
    kind: Kind


class Part(NamedTuple):
    """A tier as it is planned for; those of a composite within the composite stand in its place."""

    name: str
    tier: Tier
    # Numbers of the caches that keep what it returns.
    keepers: tuple[int, ...]

    @property
    def store(self) -> Any:
        """Its store."""
        return self.tier.store

    @property
    def is_local(self) -> bool:
        """Whether it is a cache whose answers cost nothing: a disk, or memory."""
        return self.tier.is_cache and scope_of(self.store) != "shared" and not hasattr(self.store, "place_steps")


def parts_of(chain: Chain, prefix: str = "") -> list[Part]:
    """The tiers of `chain`, and of the composites in it."""
    parts: list[Part] = []
    numbers: dict[Tier, int] = {}
    for tier in chain.tiers:
        if isinstance(tier.store, Chain):
            inner = parts_of(tier.store, f"{prefix}{tier.name}/")
            own = tuple(numbers[keeper] for keeper in chain.keepers_of(tier) if keeper in numbers)
            shift = len(parts)
            parts += [part._replace(keepers=tuple(number + shift for number in part.keepers) + own) for part in inner]
        else:
            numbers[tier] = len(parts)
            own = tuple(numbers[keeper] for keeper in chain.keepers_of(tier) if keeper in numbers)
            parts.append(Part(prefix + tier.name, tier, own))
    return parts


class Routes:
    """The way of each lookup, as far as it is known without a request; as a store, for a batch.

    What it finds for a digest is a tuple of legs, up to the first tier that is known to have the blob.
    """

    label = "plan"

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts
        # By the number of a tier whose blobs are parts of objects: where those lie that a lookup might ask it for.
        self.places: dict[int, list[Place]] = defaultdict(list)

    def is_valid(self, uri: Any) -> bool:
        """True: the digests have been read already."""
        return True

    def canonical(self, uri: Any) -> Any:
        """The digest itself."""
        return uri

    def get_steps(self, digest: str) -> Steps[Found]:
        """Steps that end in the legs."""
        legs: list[Leg] = []
        for leg in self._in_order(digest):
            part = self._parts[leg.part]
            if leg.kind == "open" and hasattr(part.store, "place_steps"):
                leg = leg._replace(kind=(yield from self._placed(leg.part, digest)))
            elif part.is_local and leg.kind == "open":
                leg = leg._replace(kind="held" if (yield from self._has(part, digest)) else "lacked")
            elif leg.kind in ("open", "paid") and (yield from self._remembers(part, digest)):
                leg = leg._replace(kind="skipped")
            legs.append(leg)
            if leg.kind == "held":
                break
        return Found(tuple(legs), self.label)

    def _placed(self, number: int, digest: str) -> Steps[Kind]:
        """What the table of a tier says, without a request."""
        try:
            place = yield from self._parts[number].store.place_steps(digest)
        except Exception:  # a table that cannot be read: the sample says why
            return "open"
        if place is None:
            return "lacked"
        self.places[number].append(Place(*place))
        return "held"

    @staticmethod
    def _remembers(part: Part, digest: str) -> Steps[bool]:
        """Whether a ledger knows that the tier lacks the blob, so that it is not asked."""
        if not hasattr(part.store, "remembers_steps"):
            return False
        remembered: bool = yield from part.store.remembers_steps(digest)
        return remembered

    def _has(self, part: Part, digest: str) -> Steps[bool]:
        try:
            return (yield from steps_of_exists(part.store, digest))
        except Exception:  # a cache that fails is passed by a lookup as well
            return False

    def _in_order(self, digest: str) -> Iterator[Leg]:
        """The tiers as lookups ask them: what an index denies comes before the first paid tier, or at the end."""
        late: list[Leg] = []
        for number, part in enumerate(self._parts):
            store = part.store
            if not part.tier.read or not store.is_valid(digest):
                continue
            paid = costs(store)
            if paid:
                yield from late
                late = []
            denial = store.denial(digest) if getattr(store, "index", None) is not None else None
            if denial is not None:
                # What is no proof is asked for all the same, and before anything is paid for so is what is one.
                late.append(Leg(number, "lacked"))
            elif not paid and getattr(getattr(store, "index_state", None), "trouble", "none") is None:
                yield Leg(number, "held")
            else:
                yield Leg(number, "paid" if paid else "open")
        yield from (leg._replace(kind="skipped") if self._is_proof(leg, digest) else leg for leg in late)

    def _is_proof(self, leg: Leg, digest: str) -> bool:
        return bool(self._parts[leg.part].store.denial(digest).is_proof)
