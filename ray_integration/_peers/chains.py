"""Which other node stores may have a blob on their disks, as pure functions of their names."""

from __future__ import annotations

from collections.abc import Sequence

from ray_integration._peers.rendezvous import place, ranked

__all__ = ["FAN", "previous_owners", "spreading"]

FAN = 4  # node stores that take a hot blob from the same one


def previous_owners(
    digests: Sequence[str], me: str, older: Sequence[str], leaving: Sequence[str]
) -> list[tuple[list[str], list[str]]]:
    """For each digest the node stores that owned it before `me`, in the order in which to ask them.

    A node store that leaves owned what it outranks `me` for. Before `me` came, the first of the `older` ones was the
    owner, and knows the owners before itself.

    Parameters
    ----------
    digests
        In canonical form.
    me
        Name of the node store that has become the owner.
    older
        Names of the node stores that were there before `me`.
    leaving
        Names of the node stores that leave.

    Returns
    -------
    list of (list of str, list of str)
        Which to ask; and which to ask besides if the last of those does not answer.
    """
    others = [name for name in dict.fromkeys([*leaving, *older]) if name != me]
    gone, before = set(leaving), set(older)
    found: list[tuple[list[str], list[str]]] = []
    everyone = [me, *others]
    for ranks in ranked(digests, [place(name) for name in everyone]):
        names = [everyone[index] for index in ranks]
        mine = names.index(me)
        above = [name for name in names[:mine] if name in gone]
        if any(name not in gone for name in names[:mine]):  # an older one is the owner still
            found.append((above, []))
            continue
        below = [name for name in names[mine + 1 :] if name in before]
        found.append(([*above, *below[:1]], below[1:2]))
    return found


def spreading(digest: str, me: str, members: Sequence[str]) -> list[str]:
    """The way of a hot blob to `me`, backwards: which one has it first, where that one takes it, up to the owner.

    The members make a tree in the order in which they own the digest, each with `FAN` below it. Empty: `me` is the
    owner, or no member.
    """
    (ranks,) = ranked([digest], [place(name) for name in members])
    names = [members[index] for index in ranks]
    if me not in names:
        return names[:1]
    index = names.index(me)
    way: list[str] = []
    while index:
        index = (index - 1) // FAN
        way.append(names[index])
    return way
