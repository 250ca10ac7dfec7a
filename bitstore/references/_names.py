"""Which columns of a table are the digest, the URL, the offset and the length."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

__all__ = ["PARTS", "check_columns", "chosen"]

PARTS = ("digest", "url", "offset", "length")
# What columns are called that the caller does not name, in the order in which they are looked for.
_USUAL = {
    "digest": ("digest", "hash", "checksum"),  # and first the name of the algorithm
    "url": ("url", "uri", "location", "path", "filename"),
    "offset": ("offset", "start"),
    "length": ("length", "size", "nbytes"),
}


def check_columns(columns: Mapping[str, str]) -> None:
    """Raise ValueError for a key of `columns` that is no part of a reference."""
    for part in columns:
        if part not in PARTS:
            raise ValueError(f"columns: {part!r} is none of {', '.join(PARTS)}")


def chosen(found: Sequence[str], columns: Mapping[str, str], algorithm: str, where: str) -> dict[str, str]:
    """The names of the columns by what they are; a table without offsets has whole objects, and no lengths.

    Parameters
    ----------
    found
        The columns that there are.
    columns
        Names that the caller gives, by part: `{"digest": "sha1_hex"}`.
    algorithm
        Name of the algorithm of the digests.
    where
        The table, for errors.

    Raises
    ------
    ValueError
        A column is not there, or no column has a usual name.
    """
    named: dict[str, str] = {}
    for part in PARTS:
        usual = (algorithm, *_USUAL[part]) if part == "digest" else _USUAL[part]
        if (given := columns.get(part)) is not None:
            if given not in found:
                close = difflib.get_close_matches(given, found, 1)
                meant = f" (did you mean {close[0]!r}?)" if close else ""
                raise ValueError(f"{where} has no column {given!r}{meant}; it has: {', '.join(found)}")
            named[part] = given
            continue
        lower = {name.lower(): name for name in reversed(found)}
        name = next((lower[each] for each in usual if each in lower), None)
        if name is not None:
            named[part] = name
        elif part in ("digest", "url"):
            raise ValueError(
                f"{where} has no column named {' or '.join(map(repr, usual))}, and has: {', '.join(found)}. "
                f"Say which one it is: columns={{{part!r}: ...}}"
            )
    if "offset" not in named:
        named.pop("length", None)
    elif "length" not in named:
        raise ValueError(f"{where} has offsets ({named['offset']!r}) and no lengths: columns={{'length': ...}}")
    return named
