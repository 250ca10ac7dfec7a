"""Packs as tar files without compression: a member for each blob, whose name is the digest.

The format is the *ustar interchange format* of POSIX
(https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06): a head of 512 bytes, the bytes of
the member, zeros up to a multiple of 512; two heads of zeros end the archive.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from bitstore._support.digests import ALGORITHMS

__all__ = ["END", "HEAD", "Member", "head_of", "member_at", "members", "padding_of"]

HEAD = 512  # bytes
END = bytes(2 * HEAD)
_MOST = 8**11 - 1  # bytes of a member
_SIZES = {2 * kind().digest_size: name for name, kind in ((each.name, each.new) for each in ALGORITHMS.values())}
# What stands in every head behind the name and the size: mode, owner and group before it; time, checksum, kind, magic.
_BEFORE = b"0000644\0000000000\0000000000\0"
_TIME = b"00000000000\0"
_BEHIND = (
    b" 0" + bytes(100) + b"ustar\0" + b"00" + bytes(32) + bytes(32) + b"0000000\0000000000\0" + bytes(155) + bytes(12)
)
_FIXED = sum(_BEFORE) + sum(_TIME) + sum(_BEHIND) - ord(" ") + 8 * ord(" ")  # the checksum counts as blanks

_UNNAMED = [bytes(100 - used) for used in range(101)]  # what fills the field of the name


class Member(NamedTuple):
    """A blob in a pack."""

    digest: str
    offset: int  # of its first byte
    size: int


def head_of(digest: str, size: int) -> bytes:
    """The head of a member. ValueError: a blob of that size has no place in a tar."""
    name = digest.encode()
    middle, fixed = _middle_of(size)
    return b"%b%b%b%06o\0%b" % (name, _UNNAMED[len(name)], middle, fixed + sum(name), _BEHIND)


@lru_cache(maxsize=1024)
def _middle_of(size: int) -> tuple[bytes, int]:
    """What stands between the name and the checksum, and the sum of all bytes but the name's."""
    if size > _MOST:
        raise ValueError(f"a blob of {size} bytes is too large for a pack: the most are {_MOST}")
    length = b"%011o\0" % size
    return _BEFORE + length + _TIME, _FIXED + sum(length)


def padding_of(size: int) -> int:
    """Zeros behind a member of so many bytes."""
    return -size % HEAD


def members(fd: int, size: int, begin: int = 0) -> Iterator[Member]:
    """The members in the first `size` bytes of a file, from the head at `begin` on, up to one that is not whole.

    Raises
    ------
    ValueError
        There is something else than the head of a blob, or the end.
    OSError
        The file cannot be read.
    """
    at = begin
    while at + HEAD <= size:
        head = os.pread(fd, HEAD, at)
        if len(head) < HEAD or not head.strip(b"\0"):
            return
        member = _member(head, at)
        if member.offset + member.size > size:
            return
        yield member
        at = member.offset + member.size + padding_of(member.size)


def member_at(fd: int, at: int) -> Member | None:
    """The member whose head begins at `at`; None: there is no such head. Raises OSError."""
    try:
        return _member(os.pread(fd, HEAD, at), at)
    except ValueError:
        return None


def _member(head: bytes, at: int) -> Member:
    digest = head[:100].rstrip(b"\0").decode("ascii", "replace")
    kind = _SIZES.get(len(digest))
    try:
        size = int(head[124:135], 8)
        known = kind is not None and ALGORITHMS[kind].is_digest(digest) is not None and head == head_of(digest, size)
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"there is no head of a blob at byte {at}")
    return Member(digest, at + HEAD, size)
