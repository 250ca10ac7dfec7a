"""Where a cluster keeps misses: Parquet files below a prefix of a bucket or folder, which all nodes see."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bitstore._lookup.run import run
from bitstore._misses.entries import EVERY, Entry, SourceName
from bitstore._support.checks import ChecksOptions, check_seconds
from bitstore._support.redact import redact_url
from bitstore.errors import NotFoundInStore, StoreNotAvailable
from bitstore.steps import OVERWRITE, Steps, Together

__all__ = ["SharedMisses"]

REFRESH = 60.0
_SUFFIX = ".misses.parquet"
_AT_ONCE = 64  # parts that are read at once
_ABOUT = b"bitstore.misses"
_VERSION = 1
_COLUMNS = ("source", "algorithm", "digest", "at", "reason")


class SharedMisses(ChecksOptions):
    """Where the nodes of a cluster share what their ledgers know: `MissLedger(path, share=SharedMisses(...))`.

    Each process writes Parquet files of its own below the prefix, which no other process changes; all nodes read them
    when they begin and from time to time. They are merged without loss, in any order. pyarrow is needed
    (`epic-bitstore[ray]`). The columns are `source`, `algorithm`, `digest` (null: all of the source), `at` (when the
    source was asked) and `reason` (null: misses up to `at` do not count, because the blob was put, say).

    Parameters
    ----------
    raw
        A raw store that lists and writes, such as `S3Raw()`, `GSRaw()` or `FileRaw()`.
    prefix
        URL prefix below which nothing else lies, such as `"s3://bucket/misses/"`.
    refresh
        Seconds after which what other nodes have written is read again.

    Raises
    ------
    TypeError
        `raw` cannot list and write.
    ValueError
        `prefix` is no URL of the raw store that ends in a slash, or `refresh` is no number of seconds.
    """

    def __init__(self, raw: Any, prefix: Any, *, refresh: float = REFRESH) -> None:
        if not (callable(getattr(raw, "list_steps", None)) and callable(getattr(raw, "put_steps", None))):
            raise TypeError(f"{raw!r} cannot be shared: S3Raw, GSRaw and FileRaw list and write")
        if not (isinstance(prefix, str) and prefix.endswith("/") and raw.is_valid(f"{prefix}-")):
            shown = redact_url(prefix) if isinstance(prefix, str) else prefix
            raise ValueError(f"prefix={shown!r}: give a prefix of {type(raw).__name__} ({raw.URI_HINT}) that ends in /")
        check_seconds("refresh", refresh)
        self.raw = raw
        self.prefix: str = prefix
        self.refresh = refresh

    @property
    def shown(self) -> str:
        """The prefix, without passwords and signatures."""
        return redact_url(self.prefix)

    def names(self) -> list[str]:
        """Names of the parts that are there, in their order. Raises `StoreNotAvailable`."""
        found: list[str] = []
        after: str | None = None
        while True:
            try:
                page = run(self.raw.list_steps(self.prefix, most=1000, after=after))
            except StoreNotAvailable as error:
                if isinstance(error.__cause__, FileNotFoundError):  # a folder that the first part will make
                    return []
                raise
            found += [item.url[len(self.prefix) :] for item in page.objects if item.url.endswith(_SUFFIX)]
            if page.after is None:
                return sorted(found)
            if page.after == after:
                raise StoreNotAvailable(self.raw, f"LIST {self.prefix}: the listing does not come to an end")
            after = page.after

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, list[Entry] | None]]:
        """The content of each of these parts; None: it is not there any longer, and a later one has it.

        Raises
        ------
        StoreNotAvailable
            A part cannot be read, or is damaged.
        """
        for begin in range(0, len(names), _AT_ONCE):
            some = names[begin : begin + _AT_ONCE]
            got: dict[str, bytes | None] = {}
            run(self._together(some, got))
            for name in some:
                data = got[name]
                yield name, None if data is None else self._entries(name, data)

    def write(self, name: str, entries: Iterable[Entry]) -> None:
        """Write a part. Raises `StoreNotAvailable`."""
        pa, pq = _arrow(self.prefix)
        rows = [
            (source.name, source.algorithm, None if digest == EVERY else digest.hex(), at, reason)
            for source, digest, at, reason in entries
        ]
        schema = pa.schema(
            [(name, pa.timestamp("us", "UTC") if name == "at" else pa.string()) for name in _COLUMNS],
            metadata={_ABOUT: json.dumps({"version": _VERSION})},
        )
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
        made = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), made, compression="zstd")
        run(self.raw.put_steps(self.prefix + name, made.getvalue(), OVERWRITE))

    def delete(self, name: str) -> None:
        """Delete a part that a later one contains. Raises `StoreNotAvailable`."""
        if callable(getattr(self.raw, "delete_steps", None)):
            run(self.raw.delete_steps(self.prefix + name))

    def part_name(self, writer: str, number: int, version: int) -> str:
        """The name of a part. A later version of a part contains the earlier ones."""
        return f"{writer}-{number:06d}-{version:06d}{_SUFFIX}"

    def _together(self, names: Sequence[str], got: dict[str, bytes | None]) -> Steps[None]:
        yield Together([self._get(name, got) for name in names])

    def _get(self, name: str, got: dict[str, bytes | None]) -> Steps[None]:
        try:
            found = yield from self.raw.get_steps(self.prefix + name)
        except NotFoundInStore:
            got[name] = None
        else:
            got[name] = found.data

    def _entries(self, name: str, data: bytes) -> list[Entry]:
        pa, pq = _arrow(self.prefix)
        try:
            table = pq.read_table(io.BytesIO(data))
            about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"null"))
            if not isinstance(about, dict) or about.get("version") != _VERSION:
                raise ValueError(f"it is no part of a ledger of misses of version {_VERSION}")
            columns = [table.column(column) for column in _COLUMNS]
            columns[3] = columns[3].cast(pa.int64())
            if any(columns[number].null_count for number in (0, 1, 3)):
                raise ValueError("a row has no source, no algorithm or no time")
            return [
                Entry(SourceName(source, algorithm), EVERY if digest is None else bytes.fromhex(digest), at, reason)
                for source, algorithm, digest, at, reason in zip(*(each.to_pylist() for each in columns), strict=True)
            ]
        except (pa.ArrowException, ValueError, LookupError, TypeError, OSError) as error:
            failure = StoreNotAvailable(
                self.raw, f"the shared misses in {redact_url(self.prefix + name)} cannot be read: {error}; delete it"
            )
            failure.definite = True
            raise failure from error

    def __repr__(self) -> str:
        refresh = "" if self.refresh == REFRESH else f", refresh={self.refresh!r}"
        return f"{type(self).__name__}({self.raw!r}, {self.shown!r}{refresh})"


def _arrow(prefix: str) -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        failure = StoreNotAvailable(
            redact_url(prefix), "shared misses are Parquet, which needs pyarrow: pip install 'epic-bitstore[ray]'"
        )
        failure.definite = True
        raise failure from error
    return pa, pq
