"""Objects of a store of obstore, the Python binding of Rust's object_store (https://developmentseed.org/obstore)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from bitstore._raw.foreign import ForeignRaw, Look, is_obstore, says_outage, says_refusal, secrets_in, told
from bitstore._raw.meanings import s3_problem
from bitstore._raw.problems import Problem
from bitstore._support.redact import redact_url
from bitstore.errors import BitstoreError, NotFoundInStore
from bitstore.steps import Response, Write

__all__ = ["ObstoreRaw"]

_ANSWER = re.compile(r"non-2xx status code: (\d{3})[^:]*: ?(.*)", re.DOTALL)
_PART_OF_PATH = re.compile(r"(?!\.{1,2}(?:/|$))[^\x00-\x1f/\x7f\ud800-\udfff]+")
_KEY = re.compile(rf"{_PART_OF_PATH.pattern}(?:/{_PART_OF_PATH.pattern})*").fullmatch
_REMOTE = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}
_CONTAINERS = ("bucket", "container", "container_name", "azure_container_name")


class ObstoreRaw(ForeignRaw):
    """Objects of a store of obstore, by URLs below the one that the store stands for.

    Parameters
    ----------
    store
        Such as `obstore.store.S3Store("bucket")`. Retries, time-outs and credentials are its own.
    url
        What every URL of this store begins with; the rest is the key. None: `s3://bucket/` for an `S3Store`, `gs://`,
        `az://`, `file://`, `memory://` and the address of an `HTTPStore` likewise, with the store's prefix.
    missing_bucket
        `"failure"`: a bucket that is not there is an error, because every blob would be missing; so is the folder of
        a `LocalStore`. `"missing"`: all its blobs count as missing.

    Raises
    ------
    TypeError
        `store` is no store of obstore.
    ValueError
        `url` is no URL, or what the store stands for cannot be told.

    Notes
    -----
    obstore's threads do not survive a fork: in a child of a process that has used such a store, each lookup fails and
    says so. Start processes by `spawn` or `forkserver`. A `MemoryStore` does not pickle.
    """

    URI_HINT = "a URL below that of the store"

    def __init__(
        self, store: Any, *, url: str | None = None, missing_bucket: Literal["failure", "missing"] = "failure"
    ) -> None:
        if isinstance(store, type) or not is_obstore(store):
            raise TypeError(f"expected a store of obstore, such as obstore.store.S3Store('bucket'), not {store!r}")
        self.store = store
        begins: Any = _url_of(store) if url is None else url
        if not isinstance(begins, str) or "://" not in begins:
            raise ValueError(f"url must look like 's3://bucket/', not {begins!r}")
        self.url: str = begins
        if not self.url.endswith("/"):
            self.url += "/"
        self._kind = type(store).__name__
        self._configure({"missing_bucket": missing_bucket})

    def is_valid(self, uri: Any) -> bool:
        """Whether `uri` is below the store's URL, by a key that obstore takes: no empty part, no `.` and no `..`."""
        return isinstance(uri, str) and uri.startswith(self.url) and _KEY(uri, len(self.url)) is not None

    def _hint(self) -> str:
        return f"{redact_url(self.url)}key"

    def _key(self, uri: str) -> str:
        """The key of a URL. Raises where this process cannot use obstore."""
        self._check_fork()
        return uri[len(self.url) :]

    # ------------------------------------------------------------------ blocking calls

    def _read(self, uri: str) -> bytes:
        import obstore

        got = obstore.get(self.store, self._key(uri))
        size = got.meta["size"]
        data = got.bytes().to_bytes()
        if len(data) != size:
            raise self._failure(uri, f"{len(data)} bytes came of {size}")
        return data

    def _look(self, uri: str) -> Look:
        import obstore

        key = self._key(uri)
        try:
            meta = obstore.head(self.store, key)
        except Exception as error:
            if self._kind not in _REMOTE or not _says_absent(error):
                raise
            # An answer to HEAD has no body that tells whether it is the blob that is missing, or the bucket.
            obstore.get(self.store, key, options={"range": (0, 1)})
            meta = obstore.head(self.store, key)
        etag = meta["e_tag"]
        return Look(meta["size"], etag if etag and not etag.startswith("W/") else None, etag)

    def _part(self, uri: str, start: int, end: int, seen: Look) -> bytes | None:
        import obstore
        from obstore.exceptions import PreconditionError

        try:
            got = obstore.get(self.store, self._key(uri), options={"range": (start, end), "if_match": seen.version})
        except PreconditionError:
            return None
        same = got.meta["e_tag"] == seen.version and got.meta["size"] == seen.size and tuple(got.range) == (start, end)
        return got.bytes().to_bytes() if same else None

    def _write(self, uri: str, body: bytes, write: Write) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        key = self._key(uri)
        mode: Any = "create" if write.only_if_absent else "overwrite"
        if write.replacing is not None:
            mode = {"e_tag": write.replacing}
        try:
            obstore.put(self.store, key, body, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            if write.only_if_absent:
                self._check_readable(uri)
        except (NotImplementedError, NotSupportedError):
            if mode == "overwrite":
                raise
            seen = self._seen(uri)
            if (seen is None) if write.only_if_absent else (seen is not None and seen.version == write.replacing):
                obstore.put(self.store, key, body, use_multipart=False)

    def _seen(self, uri: str) -> Look | None:
        try:
            return self._look(uri)
        except Exception as error:
            if not _says_absent(error):
                raise
            return None

    # ------------------------------------------------------------------ what errors mean

    def _meaning(self, uri: str, error: Exception) -> BitstoreError:
        text = str(error).partition("\n\nDebug source")[0]
        problem = _problem(text) if self._kind in _REMOTE else None
        if _says_absent(error):
            if problem is not None and problem.no_bucket:
                return self._no_bucket(uri, self.url)
            if problem is None or problem.missing or problem.code == "BlobNotFound":
                return self._missing(uri)
        refused = says_refusal(error) and not (problem is not None and problem.archived)
        failure = self._failure(uri, told(error) if problem is None else str(problem), refused=refused)
        failure.unreachable = says_outage(error)
        failure.definite = problem is not None and problem.definite
        return failure

    def _secrets(self) -> Iterator[str]:
        for name in ("config", "client_options"):
            yield from secrets_in(getattr(self.store, name, None))

    def _missing(self, uri: str) -> BitstoreError:
        if self._kind == "LocalStore" and not Path(self.store.prefix or "/").is_dir():
            return self._no_bucket(uri, self.url)
        return NotFoundInStore(self, redact_url(uri))

    def __repr__(self) -> str:
        shown = ", ".join([f"<{self._kind} {redact_url(self.url)}>", *self._shown_arguments()])
        return f"{type(self).__name__}({shown})"


def _says_absent(error: Exception) -> bool:
    # Older releases have an error of their own for it.
    return isinstance(error, FileNotFoundError) or type(error).__name__ == "NotFoundError"


def _problem(text: str) -> Problem | None:
    """What the answer of the service means that obstore quotes; None: it quotes none."""
    answer = _ANSWER.search(text)
    return None if answer is None else s3_problem(Response(int(answer[1]), answer[2].strip().encode(), {}, 0.0))


def _url_of(store: Any) -> str:
    kind, prefix = type(store).__name__, str(getattr(store, "prefix", None) or "")
    if kind == "MemoryStore":
        return "memory://"
    if kind == "LocalStore":
        return f"file://{prefix or '/'}"
    if kind == "HTTPStore":
        return str(store.url)
    config = dict(getattr(store, "config", None) or {})
    container = next((config[name] for name in _CONTAINERS if name in config), None)
    if kind in _REMOTE and container:
        return "/".join([f"{_REMOTE[kind]}://{container}", *([prefix] if prefix else [])])
    raise ValueError(f"what URLs {kind} stands for is not known: give url='s3://bucket/', say")
