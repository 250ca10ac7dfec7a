"""A membership index: which digests a source surely does not hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.index import _fuse, _sorted
from bitstore.index._file import DamagedIndex, IndexFile
from bitstore.index._keys import numbers, pairs_of_many, require_numpy

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Index", "IndexInfo"]

_LAYOUTS: Any = {_sorted.LAYOUT: ("sorted", _sorted.Sorted), _fuse.LAYOUT: ("fuse", _fuse.Fuse)}


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """What an index says of itself.

    Attributes
    ----------
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`.
    layout
        `"sorted"` or `"fuse"`.
    count
        Different digests.
    source
        What they were taken from.
    service
        Which service was listed (`"s3.amazonaws.com"`, host and port), where `source` does not say it. `""`: not known.
    made_at
        When the file was made.
    covers_up_to
        What the source has got later may be missing.
    coverage
        `"whole"`, or which part of the source the digests are.
    """

    algorithm: str
    layout: Literal["sorted", "fuse"]
    count: int
    source: str
    service: str = ""
    made_at: datetime
    covers_up_to: datetime
    coverage: str

    def as_dict(self) -> dict[str, Any]:
        """The values by name, the moments as texts of ISO 8601."""
        return {name: v.isoformat() if isinstance(v, datetime) else v for name, v in asdict(self).items()}


class Index:
    """An opened index. `digest in index` is False where the source surely did not hold the blob at `covers_up_to`.

    True means "it may": the layout `sorted` is wrong for one absent digest in 2**64 / count, `fuse` for one in 65,536.
    The file is mapped into memory, so that opening takes milliseconds and processes share its pages. Pickles as its
    path. Threads may share it.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    info
        What the file says of itself.

    Raises
    ------
    DamagedIndex
        The file is no index, or is cut or damaged. Damage within is found by the first lookup that would read it.
    OSError
        The file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = IndexFile(path)
        told = self._file.description
        try:
            layout, kind = _LAYOUTS[self._file.layout]
            self.info = IndexInfo(
                algorithm=told["algorithm"],
                layout=layout,
                count=told["count"],
                source=told["source"],
                service=str(told.get("service") or ""),  # older ones have none
                made_at=datetime.fromisoformat(told["made_at"]),
                covers_up_to=datetime.fromisoformat(told["covers_up_to"]),
                coverage=told["coverage"],
            )
            self._algorithm = digest_algorithm(self.info.algorithm)
            self._keys = kind(self._file)
        except (LookupError, TypeError, ValueError) as error:
            if isinstance(error, DamagedIndex):
                raise
            raise DamagedIndex(path, f"it does not describe itself as an index does ({error})") from error

    def __contains__(self, digest: Any) -> bool:
        """Whether the source may hold `digest`, in any form that stores take.

        Raises
        ------
        ValueError
            It is no digest of the index's algorithm.
        DamagedIndex
            The part of the file that would answer is damaged.
        """
        text = self._algorithm.parse(digest)
        if text is None:
            raise ValueError(f"{digest!r} is no digest of {self._algorithm.name}")
        return self.holds_raw(bytes.fromhex(text))

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def holds_raw(self, digest: bytes) -> bool:
        """Whether the source may hold the raw `digest`, which has the length of the algorithm: `in`, without a look.

        Raises `DamagedIndex`.
        """
        found: bool = self._keys.may_hold(*numbers(digest))
        return found

    def holds_many(self, digests: Iterable[Any]) -> Any:
        """For each of `digests` whether the source may hold it, as a NumPy array of bool. Raises what `in` raises."""
        numpy = require_numpy()
        if isinstance(digests, (str, bytes)):
            raise TypeError("expected an iterable of digests, got one: use `digest in index`")
        portions = [self._keys.may_hold_many(pairs) for pairs in pairs_of_many(digests, self._algorithm)]
        return numpy.concatenate(portions) if portions else numpy.zeros(0, dtype=bool)

    def __len__(self) -> int:
        return self.info.count

    def check(self) -> None:
        """Verify the whole file. Raises `DamagedIndex`."""
        self._file.check(0, self._file.size)

    def numbers(self) -> Any:
        """The first eight bytes of each digest as numbers in ascending order: a NumPy array of the file's memory.

        Raises
        ------
        ValueError
            The layout is not `sorted`.
        DamagedIndex
            A part of them is damaged.
        """
        if not isinstance(self._keys, _sorted.Sorted):
            raise ValueError(f"{self!r} holds no numbers: only the layout 'sorted' does")
        return self._keys.all_keys()

    def close(self) -> None:
        """Give the memory back; the index cannot be asked any more."""
        self._keys.release()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self._file.path),)

    def __repr__(self) -> str:
        return f"Index({str(self._file.path)!r}, {self.info.count} {self.info.algorithm} digests, {self.info.layout})"
