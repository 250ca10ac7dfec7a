"""Several indexes as one, such as a full listing and what has been written since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bitstore.index import _sorted
from bitstore.index._builder import write_file
from bitstore.index._index import Index, IndexInfo
from bitstore.index._keys import PAIR, require_numpy

if TYPE_CHECKING:
    from bitstore.index._keys import Pairs

__all__ = ["merge"]

_UNKNOWN = ("", "standard input")  # what an index says of a source that it cannot name
_PARTS = 256  # by their first byte: so many parts are merged one after the other


def merge(paths: Sequence[str | os.PathLike[str]], target: str | os.PathLike[str]) -> None:
    """Write the digests of several indexes of layout `sorted` as one.

    Several indexes of one source cover what the latest of them does. Of several sources the new index names all, and
    covers them up to the earliest of their moments: what one of them has got since is not known to be absent. Sources
    that are not named (standard input is no name) are different ones.

    Parameters
    ----------
    paths
        The files.
    target
        The new file; one that is there is replaced. It may be one of `paths`.

    Raises
    ------
    ValueError
        There are none, they are of different algorithms, or one has another layout.
    DamagedIndex, OSError
        As for `Index`.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(Index(path)) for path in paths]
        told = _told([index.info for index in opened])
        with write_file(target) as out:
            parts = _merged([index.numbers() for index in opened])
            written = _sorted.write_sorted(out, parts, sum(map(len, opened)))
            del parts  # it refers to the memory of the files, which are closed next
            out.finish(_sorted.LAYOUT, {**told, **written})


def _told(infos: list[IndexInfo]) -> dict[str, Any]:
    if not infos:
        raise ValueError("nothing to merge: name at least one index")
    if len({info.algorithm for info in infos}) > 1 or any(info.layout != "sorted" for info in infos):
        raise ValueError("only indexes of one algorithm and of the layout 'sorted' can be merged")
    latest: dict[tuple[str, str] | int, IndexInfo] = {}  # of each source
    for number, info in enumerate(infos):
        source = number if info.source in _UNKNOWN else (info.source, info.service)
        known = latest.setdefault(source, info)
        latest[source] = max(known, info, key=lambda each: each.covers_up_to)
    told = min(latest.values(), key=lambda info: info.covers_up_to).as_dict()
    del told["layout"]
    return {
        **told,
        "source": "; ".join(dict.fromkeys(info.source for info in infos if info.source)),
        # Of one that is not known, any service may be the one.
        "service": "; ".join(services) if all(services := dict.fromkeys(info.service for info in infos)) else "",
        "coverage": "; ".join(dict.fromkeys(info.coverage for info in infos)),
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _merged(arrays: list[Any]) -> Iterator[Pairs]:
    numpy = require_numpy()
    edges = [
        [*numpy.searchsorted(each, numpy.arange(_PARTS, dtype="<u8") << numpy.uint64(56)).tolist(), len(each)]
        for each in arrays
    ]
    for part in range(_PARTS):
        pieces = [each[ends[part] : ends[part + 1]] for each, ends in zip(arrays, edges, strict=True)]
        keys = numpy.unique(numpy.concatenate(pieces))
        pairs = numpy.zeros(len(keys), dtype=PAIR)
        pairs["a"] = keys
        yield pairs
