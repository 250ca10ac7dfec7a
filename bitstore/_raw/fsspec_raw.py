"""Files of any fsspec file system as a store (https://filesystem-spec.readthedocs.io)."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import pickle
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from bitstore._raw.foreign import ForeignRaw, Look, is_obstore, says_outage, says_refusal, secrets_in, told
from bitstore._support import clock
from bitstore._support.per_process import KeepsPerProcess, PerProcess
from bitstore._support.redact import redact_url
from bitstore.errors import BitstoreError, NotFoundInStore, StoreNotAvailable
from bitstore.steps import Steps, Write

__all__ = ["FsspecRaw", "version_in"]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\x00\r\n\ud800-\udfff]*[^\x00\r\n\ud800-\udfff/])").fullmatch
# Protocols of object stores: the first part of a path is a bucket, which no write makes.
_BUCKETS = frozenset(
    ["s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "obs", "cos", "tos", "r2", "b2"]
)
# Protocols of folders, whose files grow while they are written: these get their name when they are whole.
_FOLDERS = frozenset({"file", "local", "sftp", "ssh", "smb"})
_HTTP = frozenset({"http", "https"})
_LOCAL = frozenset({"file", "local"})
# What file systems call the fields that change with each write.
_VERSIONS = (
    "ETag", "etag", "e_tag", "generation", "version_id", "VersionId", "md5Hash", "content_md5", "Content-MD5", "Digest",
    "mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modified", "created", "ino",
)  # fmt: skip
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist|container does not exist", re.IGNORECASE)
_SAYS_ABSENT = re.compile(r"404|no ?such|not ?found|does ?n[o']t exist", re.IGNORECASE)
_BUCKET_KNOWN = 60.0  # seconds for which a bucket that was there is believed to be there


def version_in(info: Mapping[str, Any]) -> str | None:
    """A text that is another one after each write of the file which `info` describes; None: it tells no version."""
    told = {name: str(info[name]) for name in _VERSIONS if info.get(name) is not None}
    return hashlib.sha256(repr((info.get("size"), told)).encode()).hexdigest()[:32] if told else None


class FsspecRaw(KeepsPerProcess, ForeignRaw):
    """Files of an fsspec file system, by `protocol://path` as that file system takes it.

    Only the file system's word that a file is not there makes a blob missing; every other error is a failure. What it
    has listed before is not believed: it is asked again. Conditions of writes are kept as far as it knows any.

    Parameters
    ----------
    fs
        The file system, such as `fsspec.filesystem("s3")`. A forked process makes one of its own from the same
        arguments, as a pickled store does.
    missing_bucket
        `"failure"`: a bucket that is not there is an error, because every blob would be missing; so is a local folder
        of a digest store. `"missing"`: all blobs in it count as missing.

    Raises
    ------
    TypeError
        `fs` is no file system of fsspec, or one made with `asynchronous=True`.
    """

    URI_HINT = "protocol://path, of the file system's own protocol"

    def __init__(self, fs: Any, *, missing_bucket: Literal["failure", "missing"] = "failure") -> None:
        if isinstance(fs, type) or not (hasattr(fs, "cat_file") and hasattr(fs, "protocol")):
            raise TypeError(f"expected a file system, such as fsspec.filesystem('s3'), not {fs!r}")
        if getattr(fs, "asynchronous", False):
            raise TypeError(f"{type(fs).__name__} was made with asynchronous=True: its calls must block")
        self._given = fs
        self._own: PerProcess[Any] = PerProcess()
        self._own.set_once(fs)
        self._buckets: dict[str, float] = {}  # those that were there, and until when that is believed
        self._configure({"missing_bucket": missing_bucket})

    @property
    def fs(self) -> Any:
        """The file system of this process."""
        if is_obstore(self._given):  # the file system of that library
            self._check_fork()
        fs = self._own.get()
        # Sockets and event loops do not survive a fork: a child makes its own from the arguments.
        return self._own.set_once(pickle.loads(pickle.dumps(self._given))) if fs is None else fs

    @property
    def _protocols(self) -> frozenset[str]:
        protocol = self._given.protocol
        return frozenset([protocol] if isinstance(protocol, str) else protocol)

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is `protocol://path` of this file system, and no folder."""
        match = _URL(uri) if isinstance(uri, str) else None
        return match is not None and match[1] in self._protocols

    # ------------------------------------------------------------------ blocking calls

    def _read(self, uri: str) -> bytes:
        data = self._fresh(uri, self.fs.cat_file)
        return data if type(data) is bytes else bytes(data)

    def _look(self, uri: str) -> Look:
        if self._protocols & _HTTP:  # whose `info` says of every failure that the file is not there
            self.fs.cat_file(uri, start=0, end=1)
            return Look(None, None)
        self.fs.invalidate_cache(uri)
        info = self.fs.info(uri)
        if info.get("type") == "directory":
            error = (IsADirectoryError if self._protocols & _LOCAL else FileNotFoundError)(uri)
            raise error
        return Look(info.get("size"), version_in(info), next((info[x] for x in ("ETag", "etag") if info.get(x)), None))

    def _part(self, uri: str, start: int, end: int, seen: Look) -> bytes | None:
        try:
            data: Any = self.fs.cat_file(uri, start=start, end=end)
        except Exception:
            if self._version(uri) == (seen.version or ""):
                raise
            return None  # such as a shorter one, in which there is no such part
        return bytes(data) if self._look(uri).version == seen.version else None

    def _fresh(self, uri: str, ask: Any) -> Any:
        try:
            return ask(uri)
        except FileNotFoundError:
            if not getattr(self.fs, "dircache", None):
                raise
            self.fs.invalidate_cache(uri)  # an old listing may have said so
            return ask(uri)

    def _write(self, uri: str, body: bytes, write: Write) -> None:
        if write.replacing is not None and self._version(uri) != write.replacing:
            return
        if self._protocols & _FOLDERS:
            self._write_whole(uri, body, write)
        elif write.only_if_absent and "mode" in inspect.signature(self.fs.pipe_file).parameters:
            try:
                self.fs.pipe_file(uri, body, mode="create")
            except FileExistsError:
                self._check_readable(uri)
        elif not (write.only_if_absent and self._version(uri) is not None):
            self.fs.pipe_file(uri, body)

    def _write_whole(self, uri: str, body: bytes, write: Write) -> None:
        if write.only_if_absent and self._version(uri) is not None:
            return
        folder = uri.rpartition("/")[0]
        self.fs.makedirs(folder, exist_ok=True)
        draft = f"{folder}/.bitstore-{secrets.token_hex(8)}"
        try:
            self.fs.pipe_file(draft, body)
            self.fs.mv(draft, uri)
        except BaseException:
            with contextlib.suppress(Exception):
                self.fs.rm_file(draft)
            raise

    def _version(self, uri: str) -> str | None:
        """The version of the present copy, "" where it tells none; None: there is no copy."""
        try:
            return self._look(uri).version or ""
        except FileNotFoundError:
            return None

    # ------------------------------------------------------------------ what errors mean

    def _meaning(self, uri: str, error: Exception) -> BitstoreError:
        cause = error.__cause__
        bucket = "/".join(uri.split("/", 3)[:3])
        if _NO_BUCKET.search(f"{error} {cause}"):
            return self._no_bucket(uri, bucket)
        if not isinstance(error, FileNotFoundError):
            failure = self._failure(uri, told(error), refused=says_refusal(error))
            failure.unreachable = says_outage(error)
            return failure
        if not (cause is None or isinstance(cause, (FileNotFoundError, KeyError))) and not _SAYS_ABSENT.search(
            f"{type(cause).__name__} {cause}"
        ):
            # Some file systems turn every error into this one.
            return self._failure(uri, f"{told(error)} ({told(cause)})")
        if self._protocols & _HTTP and uri not in str(error):
            return self._failure(uri, told(error))  # of a file of this machine, such as of certificates
        return self._without_bucket(uri, bucket) or NotFoundInStore(self, redact_url(uri))

    def _secrets(self) -> Iterator[str]:
        return secrets_in(getattr(self._given, "storage_options", None))

    def _without_bucket(self, uri: str, bucket: str) -> BitstoreError | None:
        if not (self._protocols & _BUCKETS) or self._buckets.get(bucket, 0.0) > clock.monotonic():
            return None
        try:
            self.fs.info(bucket)
        except FileNotFoundError:
            return self._no_bucket(uri, bucket)
        except PermissionError:
            return None  # it cannot be told, as without the right to list
        except Exception as error:  # of any kind: then the absence is not certain either
            return self._failure(uri, f"whether there is a bucket {bucket} is unknown: {told(error)}")
        self._buckets[bucket] = clock.monotonic() + _BUCKET_KNOWN
        return None

    def container_steps(self, uri: str, *, made_by_writes: bool) -> Steps[None]:
        """Steps that raise `StoreNotAvailable` where the local folder of all URLs that begin with `uri` is not there.

        Parameters
        ----------
        uri
            The URL of the folder.
        made_by_writes
            The store is a cache, whose first write makes the folder: then the folder above it must be there.
        """
        yield from ()
        if self.missing_bucket == "failure" and self._protocols & _LOCAL:
            folder = Path(uri.partition("://")[2])
            folder = folder.parent if made_by_writes else folder
            if not folder.is_dir():
                error = self._no_bucket(uri, str(folder))
                assert isinstance(error, StoreNotAvailable)
                raise error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_buckets": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._own.set_once(self._given)

    def __repr__(self) -> str:
        shown = ", ".join([f"<{type(self._given).__name__}>", *self._shown_arguments()])
        return f"{type(self).__name__}({shown})"
