"""The keys in the files of an inventory, of S3 or Google Cloud Storage: CSV, ORC, Parquet; current versions alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bitstore._digests.template import KeyTemplate
from bitstore._indexing.insights import is_insights, read_insights
from bitstore._indexing.manifest import InventoryError, InventoryFile, Manifest, read_manifest
from bitstore._indexing.reading import Reading
from bitstore._support.digests import ALGORITHMS, Algorithm
from bitstore.errors import NotFoundInStore
from bitstore.index import IndexBuilder

__all__ = ["Inventory"]

_PIECE = 1 << 20  # bytes
_ROWS = 65_536
_KEYS = {"s3": "key", "gs": "name"}  # the columns with the keys
_SAMPLE = 1000  # keys by which the algorithm is chosen


class Inventory:
    """An inventory by its manifest.

    Parameters
    ----------
    place
        Path or URL of the manifest.
    raw
        The raw store of its URL; None: it is a path.

    Attributes
    ----------
    manifest
        What the manifest says.

    Raises
    ------
    InventoryError
        The manifest is none, or is damaged.
    OSError, StoreNotAvailable, NotFoundInStore
        It cannot be read.
    """

    def __init__(self, place: str, raw: Any = None) -> None:
        self._place = place
        self._raw = raw
        self._rows = 0  # that were read
        self.manifest = self._manifest()
        try:
            import pyarrow.orc  # noqa: F401 - which says what to install before anything is read
        except ImportError as error:
            raise InventoryError("to read an inventory needs pyarrow: pip install 'epic-bitstore[cli]'") from error

    def algorithm(self, template: KeyTemplate) -> Algorithm:
        """The algorithm of most of its first keys. Raises `InventoryError`: of none."""
        urls: list[str] = []
        with tempfile.TemporaryDirectory(prefix="bitstore-") as scratch:
            for file in self.manifest.files:
                for found in self._urls(file, Path(scratch)):
                    urls += found[: _SAMPLE - len(urls)]
                    if len(urls) >= _SAMPLE:
                        break
                if urls:
                    break
        counts = {
            name: sum(template.digest_of(url, kind.length) is not None for url in urls)
            for name, kind in ALGORITHMS.items()
        }
        best = max(counts, key=lambda name: counts[name])
        if not counts[best]:
            first = f", such as {urls[0]}" if urls else ""
            raise InventoryError(
                f"none of the first {len(urls):,} keys of {self._place} is a digest below {template.shown}{first}: "
                f"is --template right? --algorithm names the digests ({', '.join(ALGORITHMS)}) to go on"
            )
        return ALGORITHMS[best]

    def add_to(self, builder: IndexBuilder, template: KeyTemplate, algorithm: Algorithm, reading: Reading) -> None:
        """Add the digests of all keys. Raises what `digests` raises."""
        for digests, others in self.digests(template, algorithm):
            builder.add(digests)
            reading.add(len(digests), others)

    def digests(self, template: KeyTemplate, algorithm: Algorithm) -> Iterator[tuple[list[str], int]]:
        """The digests of all keys, some at a time, each time with the number of keys that are those of none.

        Raises
        ------
        InventoryError
            A file is not there, or damaged, or lacks a column.
        OSError, StoreNotAvailable
            A file cannot be read.
        """
        self._rows = 0
        with tempfile.TemporaryDirectory(prefix="bitstore-") as scratch:
            for file in self.manifest.files:
                for urls in self._urls(file, Path(scratch)):
                    found = [template.digest_of(url, algorithm.length) for url in urls]
                    digests = [digest for digest in found if digest is not None]
                    yield digests, len(found) - len(digests)
        if self.manifest.records not in (None, self._rows):
            raise InventoryError(
                f"the files of {self._place} have {self._rows:,} rows, and should have {self.manifest.records:,}"
            )

    # ------------------------------------------------------------------ files

    def _manifest(self) -> Manifest:
        data = self._read(self._place)
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        if is_insights(told):
            return read_insights(told, self._place)
        return read_manifest(data, self._place, checksum=self._checksum())

    def _read(self, place: str) -> bytes:
        if self._raw is None:
            return Path(place).read_bytes()
        data: bytes = self._raw.get(place)
        return data

    def _checksum(self) -> bytes | None:
        folder, slash, _ = self._place.rpartition("/")
        try:
            return self._read(f"{folder}{slash}manifest.checksum")
        except (FileNotFoundError, NotFoundInStore):
            return None

    def _local(self, file: InventoryFile, scratch: Path) -> Path:
        """The file on this machine, verified."""
        if self._raw is None:
            path = self._beside(file)
        else:
            path = scratch / "file"
            path.unlink(missing_ok=True)
            folder = self._place.rpartition("/")[0] if self._is_insights else "/".join(self._place.split("/")[:3])
            name = file.key.rpartition("/")[2] if self._is_insights else file.key
            try:
                self._raw.download(f"{folder}/{name}", path)
            except NotFoundInStore as error:
                raise InventoryError(f"{self._place} names {file.key}, which is not there: {error}") from error
        if file.md5 is None:
            return path
        state = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as opened:
            while piece := opened.read(_PIECE):
                state.update(piece)
        if state.hexdigest() != file.md5:
            raise InventoryError(f"{path if self._raw is None else file.key} does not match its MD5 in {self._place}")
        return path

    def _beside(self, file: InventoryFile) -> Path:
        """Where a copy of the file lies: as the bucket has it, or beside the manifest."""
        folder = Path(self._place).absolute().parent
        name = file.key.rpartition("/")[2]
        places = [*(parent / file.key for parent in (folder, *folder.parents)), folder.parent / "data" / name]
        for path in (*places, folder / "data" / name, folder / name):
            if path.is_file():
                return path
        raise InventoryError(
            f"{self._place} names {file.key}, which is not there: keep the folders as the bucket has them, or put the "
            f"file into {folder}"
        )

    @property
    def _is_insights(self) -> bool:
        return self.manifest.scheme == "gs"

    def _urls(self, file: InventoryFile, scratch: Path) -> Iterator[list[str]]:
        path = self._local(file, scratch)
        manifest = self.manifest
        read: Callable[[Path, Manifest], Iterator[Any]] = _READERS[manifest.format]
        encoded = manifest.format == "CSV" and not self._is_insights
        try:
            for table in read(path, manifest):
                self._rows += table.num_rows
                yield [
                    f"{manifest.scheme}://{bucket}/{key}" for bucket, key in _current(table, manifest, encoded=encoded)
                ]
        except InventoryError:
            raise
        except Exception as error:  # a broken file makes pyarrow raise errors of all kinds
            raise InventoryError(f"cannot read {file.key} of {self._place}: {error}") from error


def _csv(path: Path, manifest: Manifest) -> Iterator[Any]:
    import pyarrow
    from pyarrow import csv

    packing = None if manifest.scheme == "gs" else "gzip"
    with gzip.open(path) if packing else path.open("rb") as opened:
        if not opened.read(1):
            return
    wanted = _wanted(manifest.columns, manifest)
    options = csv.ConvertOptions(column_types={name: pyarrow.string() for name in wanted}, include_columns=wanted)
    rows = csv.ReadOptions(
        column_names=list(manifest.columns), block_size=1 << 23, skip_rows=1 if manifest.has_header else 0
    )
    parsing = csv.ParseOptions(delimiter=manifest.delimiter, newlines_in_values=True)
    with pyarrow.input_stream(str(path), compression=packing) as stream:
        yield from csv.open_csv(stream, read_options=rows, convert_options=options, parse_options=parsing)


def _parquet(path: Path, manifest: Manifest) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, buffer_size=_PIECE) as file:
        wanted = _wanted(file.schema_arrow.names, manifest)
        yield from file.iter_batches(columns=wanted, batch_size=_ROWS)


def _orc(path: Path, manifest: Manifest) -> Iterator[Any]:
    from pyarrow.orc import ORCFile

    file = ORCFile(str(path))
    wanted = _wanted(file.schema.names, manifest)
    for number in range(file.nstripes):
        stripe = file.read_stripe(number, columns=wanted)
        for start in range(0, stripe.num_rows, _ROWS):
            yield stripe.slice(start, _ROWS)


_READERS = {"CSV": _csv, "Parquet": _parquet, "ORC": _orc}


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _wanted(names: Any, manifest: Manifest) -> list[str]:
    """The columns that are read. Raises `InventoryError`: there are no keys, or versions that cannot be told apart."""
    known = {_plain(name): name for name in names}
    of_bucket = f"the inventory of {manifest.bucket or 'a bucket'}"
    key = _KEYS[manifest.scheme]
    if key not in known:
        raise InventoryError(f"{of_bucket} has no column {key.capitalize()}, but {', '.join(names)}")
    if "versionid" in known and "islatest" not in known:
        raise InventoryError(f"{of_bucket} has versions, and no column IsLatest")
    if manifest.bucket is None and "bucket" not in known:
        raise InventoryError("neither the manifest nor a column of the inventory says which bucket it is of")
    columns = [key, "islatest", "isdeletemarker"] if manifest.scheme == "s3" else [key, "bucket", "timedeleted"]
    return [known[name] for name in columns if name in known]


def _current(table: Any, manifest: Manifest, *, encoded: bool) -> list[tuple[str, str]]:
    """Bucket and key of current versions. `encoded`: keys are percent-encoded, with a plus for a blank."""
    columns = {_plain(name): table.column(number).to_pylist() for number, name in enumerate(table.schema.names)}
    keys: list[str] = columns[_KEYS[manifest.scheme]]
    buckets: list[Any] = [each or manifest.bucket for each in columns.get("bucket") or [None] * len(keys)]
    if not (all(keys) and all(buckets)):  # such a row may be that of any blob
        raise InventoryError("a row of the inventory says no key, or not of which bucket it is")
    if "timedeleted" in columns:
        rows = zip(buckets, keys, columns["timedeleted"], strict=True)
        return [(bucket, key) for bucket, key, deleted in rows if deleted in (None, "")]
    if "islatest" in columns:
        gone = columns.get("isdeletemarker") or [None] * len(keys)
        rows = zip(keys, columns["islatest"], gone, strict=True)
        keys = [key for key, latest, marker in rows if _not(latest, False) and _not(marker, True)]
    elif "isdeletemarker" in columns:
        keys = [key for key, marker in zip(keys, columns["isdeletemarker"], strict=True) if _not(marker, True)]
    if encoded:
        keys = [unquote(key.replace("+", " ")) if "%" in key or "+" in key else key for key in keys]
    return list(zip(buckets, keys, strict=False))


def _not(value: Any, other: bool) -> bool:
    """Whether a flag is not `other`; one without a value is not: a key too many does no harm."""
    return not (value is other or (isinstance(value, str) and value.lower() == str(other).lower()))
