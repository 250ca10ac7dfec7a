"""Which column of a table holds the digests."""

from __future__ import annotations

from collections.abc import Sequence

from bitstore._digests.lists.rows import ListError
from bitstore._frames.digest_column import guessed_column, plain_name
from bitstore._support.digests import ALGORITHMS

__all__ = ["algorithm_of", "digest_column"]


def digest_column(names: Sequence[str], source: str, wanted: str | None, algorithm: str | None) -> str:
    """The name of the column that holds the digests.

    Parameters
    ----------
    names
        All columns of the table.
    source
        Name of the list, for errors.
    wanted
        The column that the user has named; None: the one called like the algorithm (any of them, if `algorithm` is
        None), else the one called `digest` or `hash`. Upper case, blanks and dashes make no difference for these.
    algorithm
        Name of the algorithm, if it is known.

    Raises
    ------
    ListError
        No column has the name, or several have.
    """
    found = [name for name in names if name == wanted] if wanted is not None else guessed_column(names, algorithm)
    if len(found) == 1:
        return found[0]
    columns = f"{source} has the columns {', '.join(map(repr, names)) or '(none)'}"
    if wanted is not None:
        raise ListError(f"{columns}, and {len(found) or 'no'} {wanted!r}" + (": rename all but one" if found else ""))
    if found and len(set(found)) == 1:
        raise ListError(f"{columns}, of which {len(found)} are called {found[0]!r}: rename all but one")
    if found:
        raise ListError(
            f"{columns}, of which {', '.join(map(repr, found))} may hold the digests: say which does (--column)"
        )
    raise ListError(f"{columns}: say which of them holds the digests (--column)")


def algorithm_of(column: str) -> str | None:
    """The algorithm that a column is called like, if any."""
    return name if (name := plain_name(column)) in ALGORITHMS else None
