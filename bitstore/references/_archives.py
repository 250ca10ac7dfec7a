"""The members of archives as references: tar and zip as they are, WARC files plain or with each record compressed."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bitstore._support.digests import Algorithm
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.references._table import Reference
from bitstore.references._warc import payloads

__all__ = ["archive_members"]

_PIECE = 1 << 20
_LOCAL_HEAD = 30  # bytes of a member's head in a zip before its name; at 26 and 28 two lengths of what follows
_WARC_LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_LONGEST_HEAD = 1 << 20  # bytes of the head of a WARC record


def archive_members(
    path: str | os.PathLike[str], algorithm: str, *, url: str | None = None, named: bool = False
) -> Iterator[Reference]:
    """Where the members of an archive lie in it: of a tar without compression, a zip, or a WARC file (plain or gzip).

    Of a WARC file the payloads of all records that hold one: what an HTTP response brought, or the whole block.

    Parameters
    ----------
    path
        The archive on this machine, which is read once.
    algorithm
        `"sha1"`, `"sha256"` or `"md5"`.
    url
        Where the archive lies for those that read it; None: its file name, relative to the base URL of a source.
    named
        Each member's name, without folders and suffixes, is its digest: only the heads are read. Members of other names
        are left out. Not for WARC files.

    Raises
    ------
    ValueError
        It is none of these kinds, is cut or damaged, or is compressed as a whole, so that no member can be read alone.
    OSError
        The file cannot be read.
    """
    kind = digest_algorithm(algorithm)
    place = Path(path).name if url is None else url
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        try:
            if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                yield from _zip_members(file, kind, place, named)
            elif head[257:262] == b"ustar" or (head and tarfile.is_tarfile(path) and not _compressed(head)):
                file.seek(0)
                yield from _tar_members(file, kind, place, named)
            elif head.startswith(b"WARC/") or (head.startswith(b"\x1f\x8b") and _is_warc(file)):
                if named:
                    raise ValueError("records of WARC files have no names: named=False")
                yield from _warc_members(file, kind, place)
            else:
                raise ValueError(
                    "neither a tar without compression, nor a zip, nor a WARC file; of an archive that is compressed "
                    "as a whole no member can be read alone"
                )
        except (ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _compressed(head: bytes) -> bool:
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


def _digest_of_name(name: str, kind: Algorithm) -> str | None:
    stem = name.rpartition("/")[2].partition(".")[0]
    return stem.lower() if kind.is_digest(stem) else None


def _tar_members(file: BinaryIO, kind: Algorithm, url: str, named: bool) -> Iterator[Reference]:
    with tarfile.open(fileobj=file, mode="r:", ignore_zeros=False) as tar:
        for member in tar:
            if not member.isreg() or member.issparse():
                continue
            end = os.fstat(file.fileno()).st_size
            if member.offset_data + member.size > end:
                raise ValueError(f"it is cut within {member.name!r}")
            if named:
                digest = _digest_of_name(member.name, kind)
            else:
                inside = tar.extractfile(member)
                assert inside is not None
                digest = kind.of_pieces(lambda inside=inside: inside.read(_PIECE))  # type: ignore[misc]
            if digest is not None:
                yield Reference(digest, url, member.offset_data, member.size)


def _zip_members(file: BinaryIO, kind: Algorithm, url: str, named: bool) -> Iterator[Reference]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir() or member.flag_bits & 1:  # 1: encrypted
                continue
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename!r} is neither stored nor deflated")
            if named:
                digest = _digest_of_name(member.filename, kind)
            else:
                with archive.open(member) as inside:
                    digest = kind.of_pieces(lambda inside=inside: inside.read(_PIECE))  # type: ignore[misc]
            if digest is None:
                continue
            file.seek(member.header_offset)
            head = file.read(_LOCAL_HEAD)
            names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
            if len(head) != _LOCAL_HEAD or head[:4] != b"PK\x03\x04":
                raise ValueError(f"the head of {member.filename!r} is not where the directory says")
            yield Reference(digest, url, member.header_offset + _LOCAL_HEAD + names, member.compress_size)


def _is_warc(file: BinaryIO) -> bool:
    head = zlib.decompressobj(31).decompress(file.read(4096), 16)
    file.seek(0)
    return head.startswith(b"WARC/")


def _warc_members(file: BinaryIO, kind: Algorithm, url: str) -> Iterator[Reference]:
    """The payloads of all records. A compressed record is named as a whole: what is read expands and cuts it."""
    if file.read(2) == b"\x1f\x8b":
        file.seek(0)
        for start, end, record in _gzip_members(file):
            for payload in payloads(record):
                yield Reference(kind.of(payload), url, start, end - start)
        return
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    at = 0
    while at < size:
        file.seek(at)
        head, separator, _ = file.read(min(_LONGEST_HEAD, size - at)).partition(b"\r\n\r\n")
        length = _WARC_LENGTH.search(head)
        if not head.startswith(b"WARC/") or not separator or length is None:
            raise ValueError(f"there is no WARC record at byte {at}")
        begin = at + len(head) + 4
        end = begin + int(length[1])
        if end > size:
            raise ValueError(f"it is cut within the record at byte {at}")
        file.seek(at)
        for payload in payloads(file.read(end - at)):
            yield Reference(kind.of(payload), url, at, end - at)
        at = end + 4  # two line ends


def _gzip_members(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Where each member of a gzip file begins and ends, and what it expands to."""
    at = 0
    left = b""
    while left or (left := file.read(_PIECE)):
        expander = zlib.decompressobj(31)
        pieces = []
        start = at
        while not expander.eof:
            if not left and not (left := file.read(_PIECE)):
                raise ValueError(f"it is cut within the record at byte {start}")
            pieces.append(expander.decompress(left))
            at += len(left) - len(expander.unused_data)
            left = expander.unused_data
        yield start, at, b"".join(pieces)
