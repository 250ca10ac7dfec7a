"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["format_size", "parse_size", "rounded_size"]

_SIZE = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([a-z]{0,3})\s*", re.IGNORECASE | re.ASCII)
_DECIMAL = {"": 1, "b": 1} | {prefix + "b": 1000**power for power, prefix in enumerate("kmgtpe", start=1)}
_SHORT = {prefix: 1000**power for power, prefix in enumerate("kmgtpe", start=1)}
_BINARY = {prefix + "ib": 1024**power for power, prefix in enumerate("kmgtpe", start=1)}
_UNITS = _DECIMAL | _SHORT | _BINARY
_LIMIT = 2**63  # what a file size, and a 64-bit record, can hold


def parse_size(size: int | str, *, name: str = "size") -> int:
    """The number of bytes that `size` means.

    Parameters
    ----------
    size
        Bytes as an int, or a text such as `"200GB"`, `"512MiB"`, `"1.5 TB"` or `"4096"`. `kB`, `MB`, `GB`,
        `TB`, `PB`, `EB` are powers of 1000 (as are the bare letters), `KiB` to `EiB` powers of 1024; case does
        not matter. A fraction of a byte is cut off.
    name
        What the error message calls it.

    Raises
    ------
    ValueError
        `size` is not such a number, is negative, or is 8 EiB or more.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        count = size
    elif isinstance(size, str) and (match := _SIZE.fullmatch(size)) and match[2].lower() in _UNITS:
        count = int(Fraction(match[1]) * _UNITS[match[2].lower()])
    else:
        raise ValueError(f"{name} {size!r} is not a size: give bytes as an int, or a text like '200GB' or '512MiB'")
    if not 0 <= count < _LIMIT:
        raise ValueError(f"{name} {size!r} is out of range: it must be from 0 to less than 8 EiB")
    return count


def format_size(size: int) -> str:
    """`size` bytes as a text that `parse_size` reads back exactly, with a unit where one divides it well.

    Examples
    --------
    >>> format_size(200_000_000_000), format_size(512 * 1024**2), format_size(1_500_000), format_size(1_234_567)
    ('200GB', '512MiB', '1.5MB', '1234567B')
    """
    for letter in "EPTGMK":
        for unit in (letter + "iB", letter.replace("K", "k") + "B"):
            tenths, rest = divmod(size * 10, _UNITS[unit.lower()])
            # Tenths of a binary unit need not be whole bytes, so only whole ones are written.
            if size and not rest and tenths >= 10 and (tenths % 10 == 0 or "i" not in unit):
                whole, tenth = divmod(tenths, 10)
                return f"{whole}.{tenth}{unit}" if tenth else f"{whole}{unit}"
    return f"{size}B"


def rounded_size(count: int) -> str:
    """`count` bytes, rounded for reading, such as `1.5 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
