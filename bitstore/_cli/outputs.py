"""Where fetched blobs go: a folder of files, or one Parquet file. Nothing half-written gets a final name."""

from __future__ import annotations

import errno
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, TypeAlias

from bitstore._support.atomic import Draft, fitting_name, sweep, write_whole
from bitstore._support.digests import Algorithm
from bitstore.errors import BitstoreError

__all__ = ["Existing", "Folder", "Output", "OutputError", "ParquetFile", "Unfit", "output"]

Existing: TypeAlias = Literal["skip", "check", "replace"]

_GROUP_BYTES = 64_000_000
_GROUP_ROWS = 16_384
# A name that something else has, or that cannot be: other blobs can be written.
_TAKEN = frozenset({errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR})
_MOST_BYTES = 2**31 - 2**20  # what one value of a Parquet page can hold, with some room for its header


class OutputError(BitstoreError):
    """The output cannot be written."""


class Unfit(BitstoreError):
    """One blob cannot be written here, others can."""


class Output(ABC):
    """Takes blobs.

    Attributes
    ----------
    path
        What the user named.
    """

    path: Path

    def has(self, digest: str) -> bool:
        """Whether `digest` need not be fetched."""
        return False

    @abstractmethod
    def write(self, digest: str, data: bytes, source: str) -> None:
        """Take one blob. Raises `OutputError`, after which only `close` may be called; `Unfit` for this blob."""

    def close(self, *, complete: bool) -> Path | None:
        """Finish. Returns where the blobs are if not under `path`, for a run that is not `complete`."""
        return None

    @abstractmethod
    def report_path(self, name: str) -> Path:
        """Where the report called `name` (such as `missing.txt`) belongs."""


def output(path: Path, *, algorithm: Algorithm, fan_out: int, existing: Existing) -> Output:
    """The output that `path` means: a Parquet file if it ends in `.parquet`, else a folder.

    Raises
    ------
    OutputError
        Nothing can be written there.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        if fan_out:
            raise OutputError(f"--fan-out spreads files over folders, and {path} is one Parquet file")
        return ParquetFile(path, existing=existing)
    return Folder(path, algorithm=algorithm, fan_out=fan_out, existing=existing)


class Folder(Output):
    """A file for each blob, named by its digest.

    Parameters
    ----------
    path
        The folder; made if needed.
    fan_out
        How many leading characters of a digest name a folder between; 0: none.
    existing
        What becomes of a file that is there: `"skip"` it, `"check"` its digest first, `"replace"` it.
    """

    def __init__(self, path: Path, *, algorithm: Algorithm, fan_out: int, existing: Existing) -> None:
        self.path = path
        self._algorithm = algorithm
        self._fan_out = fan_out
        self._existing = existing
        self._folders: set[Path] = {path}
        self._empty = algorithm.of(b"")
        try:
            path.mkdir(parents=True, exist_ok=True)
            sweep(path)
            with Draft(path / "any") as draft:
                draft.write(b"")
        except OSError as error:
            raise OutputError(f"cannot write into the folder {path}: {error.strerror or error}") from error

    def has(self, digest: str) -> bool:
        """Whether its file is there, and is right as far as `existing` asks for that."""
        if self._existing == "replace":
            return False
        path = self._file(digest)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # what else has the name is no blob
                return False
            if self._existing == "check":
                with path.open("rb") as file:
                    return self._algorithm.of_pieces(lambda: file.read(1 << 20)) == digest
            # Files appear whole, so only a power cut can spoil one; it mostly leaves nothing in it.
            return status.st_size > 0 or digest == self._empty
        except OSError:
            return False

    def write(self, digest: str, data: bytes, source: str) -> None:
        """Write one file. Raises `OutputError`; `Unfit` if a folder, pipe or device has its name."""
        path = self._file(digest)
        try:
            if path.parent not in self._folders:
                path.parent.mkdir(exist_ok=True)
                sweep(path.parent)
                self._folders.add(path.parent)
            write_whole(path, data)
        except OSError as error:
            message = f"cannot write {path}: {error.strerror or error}"
            if error.errno in _TAKEN or (error.errno in (errno.ENOENT, errno.EACCES) and path.is_symlink()):
                raise Unfit(message) from error
            raise OutputError(message) from error

    def report_path(self, name: str) -> Path:
        """In the folder itself."""
        return self.path / name

    def _file(self, digest: str) -> Path:
        return self.path / digest[: self._fan_out] / digest if self._fan_out else self.path / digest


class ParquetFile(Output):
    """A row for each blob: `digest` (string), `data` (large_binary), `source` (string, the tier that had it).

    Parameters
    ----------
    path
        The file; it appears when all is done.
    existing
        `"replace"`: there may be such a file.
    """

    def __init__(self, path: Path, *, existing: Existing) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise OutputError(f"to write {path} needs pyarrow: pip install 'epic-bitstore[cli]'") from error
        self.path = path
        self._pa: Any = pa
        self._schema = pa.schema([("digest", pa.string()), ("data", pa.large_binary()), ("source", pa.string())])
        self._rows: list[tuple[str, bytes, str]] = []
        self._bytes = 0
        self._written = 0
        self._broken = False
        try:
            if path.is_dir():
                raise OutputError(f"{path} is a folder, though its name says that it is a Parquet file")
            self._draft = Draft(path)
            if path.exists() and existing != "replace":
                raise OutputError(f"{path} is there already: name another file, or say --existing replace")
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            self._writer: Any = pq.ParquetWriter(
                self._draft.path,
                self._schema,
                compression="zstd",
                use_dictionary=["source"],
                write_statistics=["digest"],
            )
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, digest: str, data: bytes, source: str) -> None:
        """Add one row. Rows go to the disk in groups of some 64 MB. Raises `OutputError`, `Unfit`."""
        if len(data) > _MOST_BYTES:
            raise Unfit(f"{len(data)} bytes are too many for one value of a Parquet file: fetch it into a folder")
        self._rows.append((digest, data, source))
        self._bytes += len(data)
        if self._bytes >= _GROUP_BYTES or len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def close(self, *, complete: bool) -> Path | None:
        """Write the file's end. What an incomplete run has is put into `<name>.partial.parquet`."""
        try:
            with self._draft:
                if self._rows and not self._broken:
                    self._flush()
                self._writer.close()
                if self._broken or not (complete or self._written):
                    return None
                if complete:
                    self._draft.publish()
                    return None
                final = self._draft.target
                suffix = f".partial{final.suffix}"
                partial = final.with_name(fitting_name(final.parent, final.stem, suffix))
                self._draft.publish(partial)
        except OSError as error:
            if self._broken:
                return None  # its first error is the report
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        return partial

    def report_path(self, name: str) -> Path:
        """Beside the file, and named like it."""
        return self.path.with_name(fitting_name(self.path.parent, self.path.stem, f".{name}"))

    def _flush(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        pa = self._pa
        columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(self._schema)]
        try:
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=len(rows))
        except OSError as error:
            self._broken = True
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._written += len(rows)
