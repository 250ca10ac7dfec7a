"""Building an index from any number of digests in bounded memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal

from bitstore._support.atomic import Draft
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.index import _fuse, _sorted
from bitstore.index._file import DamagedIndex, SectionWriter
from bitstore.index._index import Index
from bitstore.index._keys import PAIR, pairs_of, pairs_of_many, require_numpy
from bitstore.index._writes import begin, prune

if TYPE_CHECKING:
    from typing_extensions import Self

    from bitstore.index._keys import Pairs

__all__ = ["IndexBuilder", "write_file"]

_IN_MEMORY = 1 << 22  # pairs (64 MiB) that are held before they are sorted and put aside
_BUCKETS = 256  # by the first byte: so many parts of the digests are sorted one after the other
_PAIR_BYTES = 16


class IndexBuilder:
    """Collects digests and writes them as a membership index. Doubles are harmless.

    Parameters
    ----------
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`.
    folder
        Where digests are put aside that do not fit into 64 MiB of memory: 16 bytes each. None: the folder for temporary
        files of this machine.

    Raises
    ------
    ImportError
        NumPy is not installed.
    """

    def __init__(self, algorithm: str, *, folder: str | os.PathLike[str] | None = None) -> None:
        require_numpy()
        self._algorithm = digest_algorithm(algorithm)
        self._folder = folder
        self._held: list[Pairs] = []
        self._waiting = 0  # pairs in `_held`
        self._aside: IO[bytes] | None = None  # sorted runs, one after the other
        self._runs: list[
            Any
        ] = []  # of each run: where in the file each bucket begins, in pairs, and where the last ends
        self.count = 0  # digests added, doubles among them

    def add(self, digests: Iterable[Any]) -> None:
        """Add digests: text in either case, with or without `sha1://`, or raw bytes.

        Raises
        ------
        TypeError
            `digests` is one digest.
        ValueError
            One of them is no digest of the algorithm; the text names it. Those before it may have been added.
        """
        if isinstance(digests, (str, bytes)):
            raise TypeError("expected an iterable of digests, got one: add([digest])")
        for pairs in pairs_of_many(digests, self._algorithm):
            self._take(pairs)

    def add_raw(self, digests: Any) -> None:
        """Add raw digests that stand one after the other in a buffer of bytes. ValueError: its length does not fit."""
        size = self._algorithm.length // 2
        raw = memoryview(digests).cast("B")
        if len(raw) % size:
            raise ValueError(f"{len(raw)} bytes are no whole number of digests of {size} bytes")
        step = _IN_MEMORY * size
        for start in range(0, len(raw), step):
            self._take(pairs_of(raw[start : start + step], size))

    def _take(self, pairs: Pairs) -> None:
        self._held.append(pairs)
        self._waiting += len(pairs)
        self.count += len(pairs)
        if self._waiting >= _IN_MEMORY:
            self._put_aside()

    def _put_aside(self) -> None:
        numpy = require_numpy()
        pairs = numpy.concatenate(self._held)
        self._held, self._waiting = [], 0
        # By the first byte alone: the rest is sorted when its bucket is written.
        tops = (pairs["a"] >> numpy.uint64(56)).astype(numpy.uint8)
        pairs = pairs[numpy.argsort(tops, kind="stable")]
        if self._aside is None:
            self._aside = tempfile.TemporaryFile(dir=self._folder, prefix="bitstore-index-")  # noqa: SIM115
        start = self._aside.seek(0, os.SEEK_END) // _PAIR_BYTES
        self._aside.write(pairs.tobytes())
        ends = numpy.cumsum(numpy.bincount(tops, minlength=_BUCKETS))
        self._runs.append([start, *(start + ends).tolist()])

    def _buckets(self) -> Iterator[Pairs]:
        """All pairs in ascending order."""
        numpy = require_numpy()
        if self._aside is None:
            if self._held:
                yield _ordered(numpy, numpy.concatenate(self._held))
            return
        if self._held:
            self._put_aside()
        for bucket in range(_BUCKETS):
            pieces = [self._read(numpy, run[bucket], run[bucket + 1]) for run in self._runs]
            yield _ordered(numpy, numpy.concatenate(pieces))

    def _read(self, numpy: Any, start: int, end: int) -> Pairs:
        assert self._aside is not None
        self._aside.seek(_PAIR_BYTES * start)
        pairs: Pairs = numpy.frombuffer(self._aside.read(_PAIR_BYTES * (end - start)), dtype=PAIR)
        return pairs

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        layout: Literal["sorted", "fuse"] = "sorted",
        source: str = "",
        service: str = "",
        covers_up_to: datetime | None = None,
        coverage: str = "whole",
    ) -> None:
        """Write the index. The file is whole under its name, or not there.

        Stores that use the index note what they write in a file beside it, `NAME.added`, which this begins.

        Parameters
        ----------
        path
            The file; one that is there is replaced.
        layout
            `"sorted"`: 8 bytes a digest, and merges with others. `"fuse"`: 18 bits a digest, wrong for one digest in
            65,536 that is not there.
        source
            What the digests were taken from, in words or as a URL without secrets.
        service
            Where `source` is a bucket: which service was listed, such as `"s3.amazonaws.com"` or `"minio:9000"`. To a
            store that asks another one the index is no proof. `""`: not known.
        covers_up_to
            A moment: what the source has got later may be missing. None: the moment of this call.
        coverage
            `"whole"`, or which part of the source the digests are.

        Raises
        ------
        ValueError
            `layout` is none of these, `covers_up_to` has no time zone, or the digests are not spread as digests are.
        OSError
            The file cannot be written.
        """
        kinds: Any = {"sorted": (_sorted.LAYOUT, _sorted.write_sorted), "fuse": (_fuse.LAYOUT, _fuse.write_fuse)}
        if layout not in kinds:
            raise ValueError(f"layout={layout!r}: choose sorted or fuse")
        number, write = kinds[layout]
        with contextlib.suppress(OSError, DamagedIndex):  # then the index only orders, and a store says why
            begin(Path(path))
        told = _told(self._algorithm.name, source, service, covers_up_to, coverage)
        with write_file(path) as out:
            out.finish(number, {**told, **write(out, self._buckets(), self.count)})

    def close(self) -> None:
        """Let go of what was collected."""
        self._held, self._runs = [], []
        if self._aside is not None:
            self._aside.close()
            self._aside = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def write_file(path: str | os.PathLike[str]) -> Iterator[SectionWriter]:
    """While entered, a new index file is written; without an error it then has its name."""
    with Draft(Path(path)) as draft, open(draft.path, "xb") as file:
        yield SectionWriter(file)
        draft.publish()
    with contextlib.suppress(OSError, DamagedIndex), Index(path) as index:  # what stays there does no harm
        prune(Path(path), index.holds_raw, index.info.covers_up_to)


def _told(algorithm: str, source: str, service: str, covers_up_to: datetime | None, coverage: str) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    covers = now if covers_up_to is None else covers_up_to
    if covers.tzinfo is None:
        raise ValueError(f"covers_up_to={covers}: give it a time zone, such as datetime.now(timezone.utc)")
    return {
        "algorithm": algorithm,
        "source": source,
        "service": service,
        "made_at": now.isoformat(timespec="seconds"),
        # To the microsecond, because it is compared with the moment from which writes are noted.
        "covers_up_to": covers.astimezone(timezone.utc).isoformat(),
        "coverage": coverage,
    }


def _ordered(numpy: Any, pairs: Pairs) -> Pairs:
    ordered: Pairs = pairs[numpy.argsort(pairs["a"], kind="stable")]
    return ordered
