"""Which node store a digest belongs to: rendezvous hashing, as pure functions.

Each member has a score for each digest, and the one with the highest owns it. All processes that know the same members
agree on the owner without a message, and when a member goes, only its own digests move, each to its second highest.

The method: D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
Networking 6(1), 1998. The mixing function is that of SplitMix64 (G. Steele, D. Lea and C. Flood, OOPSLA 2014).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy

    Numbers: TypeAlias = numpy.ndarray[Any, numpy.dtype[numpy.uint64]]

__all__ = ["place", "ranked", "split", "successors"]


def split(digests: Sequence[str], members: Collection[str]) -> dict[str, list[int]]:
    """The positions in `digests` that each of the members owns; members that own none are left out.

    Neither the process nor the order of the members matters. A digest must be given in its canonical form:
    other spellings of it belong to other members.

    Parameters
    ----------
    digests
        Any texts. The cost is one hash for each, and a few array operations for each member.
    members
        Their names, each different.

    Raises
    ------
    ValueError
        There are digests but no members.
    """
    import numpy

    if not digests:
        return {}
    names = sorted(members)
    if not names:
        raise ValueError("there is no member that could own a digest")
    keys = _keys(digests)
    owners = numpy.zeros(len(digests), dtype=numpy.intp)
    best = _scores(keys, names[0])
    for index, name in enumerate(names[1:], 1):
        scores = _scores(keys, name)
        better = scores > best  # at a tie the first by name stays
        owners[better] = index
        numpy.maximum(best, scores, out=best)
    order = numpy.argsort(owners, kind="stable")
    ends = numpy.searchsorted(owners[order], numpy.arange(len(names) + 1))
    return {
        name: order[start:stop].tolist()
        for name, start, stop in zip(names, ends, ends[1:], strict=False)
        if stop > start
    }


def successors(digest: str, members: Collection[str]) -> list[str]:
    """All members in the order in which they own `digest`: each when those before it are gone."""
    keys = _keys([digest])
    return sorted(members, key=lambda name: (-int(_scores(keys, name)[0]), name))


def ranked(digests: Sequence[str], members: Sequence[str]) -> list[list[int]]:
    """For each digest the indexes of all `members` in the order in which they own it, as in `successors`."""
    import numpy

    keys = _keys(digests) if digests else numpy.empty(0, numpy.uint64)
    order = sorted(range(len(members)), key=members.__getitem__)  # at a tie the first by name comes first
    table = numpy.empty((len(digests), len(members)), numpy.uint64)
    for column, index in enumerate(order):
        table[:, column] = ~_scores(keys, members[index])
    by_rank = numpy.argsort(table, axis=1, kind="stable")
    ranks: list[list[int]] = numpy.asarray(order, numpy.intp)[by_rank].tolist()
    return ranks


def place(name: str) -> str:
    """What a node store is ranked by: its node and worker, and not its pool."""
    return "-" + "-".join(name.rsplit("-", 2)[1:])


def _keys(digests: Sequence[str]) -> Numbers:
    # Hashed once more, because a store may be asked for any texts, and digests may be chosen with intent.
    import numpy

    return numpy.frombuffer(b"".join([_hash(digest) for digest in digests]), dtype="<u8").astype(numpy.uint64)


def _scores(keys: Numbers, member: str) -> Numbers:
    import numpy

    mixed = keys ^ numpy.uint64(int.from_bytes(_hash(member), "little"))
    mixed ^= mixed >> numpy.uint64(30)
    mixed *= numpy.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> numpy.uint64(27)
    mixed *= numpy.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> numpy.uint64(31)
    return mixed


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
