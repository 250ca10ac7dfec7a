"""The order in which tiers with a membership index are asked: those that surely lack the blob come last."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeAlias

from bitstore._tiers.chain import Tier, costs, has_index
from bitstore._tiers.question import Said
from bitstore._tiers.runtime import Live
from bitstore.evidence import Evidence
from bitstore.steps import Found, Steps

__all__ = ["as_asked", "asked_last", "asked_now"]

Link: TypeAlias = tuple[Tier, tuple[Tier, ...]]  # a tier, and the caches that keep what it returns
Look: TypeAlias = Callable[[Any, Any], Steps[Found]]


def asked_last(chain: Iterable[Link], key: Any, live: Live, said: Said | None = None) -> Generator[Link, None, None]:
    """The chain in the order in which its tiers are asked for `key`.

    A tier whose index denies the blob is put off: until a tier that costs money would be asked, or all others have
    been. A tier that proves it is not asked at the end, and then `said` knows how its absence is known. Tiers that were
    not asked are counted when it ends or is closed.

    Parameters
    ----------
    chain
        The tiers with what keeps what they return.
    key
        What is looked up.
    live
        Counts the tiers that were not asked.
    said
        What the tiers have said; None: nothing is collected.
    """
    late: list[tuple[Link, Evidence | None]] = []  # with the proof, where there is one
    try:
        for link in chain:
            tier = link[0]
            if late and tier.read and costs(tier.store):
                while late:
                    yield late.pop(0)[0]
            ask = getattr(tier.store, "denial", None) if tier.read and has_index(tier.store) else None
            denial = ask(key) if ask is not None and tier.store.is_valid(key) else None
            if denial is None:
                yield link
                continue
            proof = Evidence(tier.name, "index", str(denial), denial.covers_up_to) if denial.is_proof else None
            late.append((link, proof))
            if said is not None:
                said.spared += (tier.name,)
                said.log(tier, "put off: not in its index of ", denial.covers_up_to)
        while asked := next((each for each in late if each[1] is None), None):
            late.remove(asked)
            yield asked[0]
        for link, proof in late:
            if said is None or proof is None:
                continue
            said.missing += (link[0].name,)
            said.known = {**said.known, link[0].name: (proof,)}
    finally:
        for link, _ in late:
            live.counts[link[0].name].count("denied")


def as_asked(look: Look) -> Look:
    """`look`, which asks a store for the blob whatever its index says: that has been heard already."""

    def asked(store: Any, key: Any) -> Steps[Found]:
        return look(asked_now(store), key)

    return asked


def asked_now(store: Any) -> Any:
    """`store` as it is asked for each blob."""
    return store.without_index() if has_index(store) else store
