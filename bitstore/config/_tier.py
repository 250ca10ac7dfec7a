"""What every tier of a configuration file has, and what the tiers of one file share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from bitstore._digests.remembers import LIFETIME
from bitstore.config._expand import expand_home, expand_path
from bitstore.store import Store

__all__ = ["SIZE", "Context", "MissesTable", "ReadTier", "Table", "Tier", "about"]

T = TypeVar("T")

SIZE = r"^\s*[0-9]{1,20}(\.[0-9]{1,20})?\s*([kKmMgGtTpPeE]?[bB]?|[kKmMgGtTpPeE][iI][bB])\s*$"
"""What a size in a text looks like, for the schema; `parse_size` reads it."""

SPAN = r"^\s*[0-9]{1,12}(\.[0-9]{1,12})?\s*[A-Za-z]{1,7}\s*$"
"""What a span of time in a text looks like, for the schema; `parse_span` reads it."""

_SHOWN = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"  # a text that can be shown


def about(text: str, **schema: Any) -> msgspec.Meta:
    """What a key means. `schema` are further keywords of JSON Schema: they inform editors, and check nothing here."""
    return msgspec.Meta(description=text, extra_json_schema=schema or None)


@dataclass(frozen=True)
class Context:
    """What the tiers of one file share."""

    # Name of the algorithm of the digests.
    algorithm: str
    # Folder in which relative paths begin.
    folder: Path
    # Whether the tiers are those of a file; else of a command line, in which the shell has expanded variables.
    from_file: bool = True
    # What was made so far, by class and options: raw stores with equal options share credentials and connections, and
    # equal limits count together.
    made: dict[str, Any] = field(default_factory=dict)

    def path(self, text: str, key: str) -> str:
        """`text` as an absolute path; `~` and, in a file, `$VARIABLE` are expanded, or ValueError names them."""
        if not text.strip():
            raise ValueError(f"{key} is empty: name a file or folder, or leave it out")
        path = expand_path(text, key) if self.from_file else expand_home(text, key)
        return str((self.folder / path).absolute())

    def once(self, kind: str, options: dict[str, Any], make: Callable[..., T]) -> T:
        """`make(**options)`; what was made of a `kind` with equal options before is returned again."""
        key = repr((kind, sorted(options.items())))
        if key not in self.made:
            self.made[key] = make(**options)
        made: T = self.made[key]
        return made


class Table(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A table of a configuration file: its fields are the keys that it takes."""

    # The kind of table, for errors.
    what: ClassVar[str] = "a table"


class Tier(Table, kw_only=True):
    """What every tier has."""

    what: ClassVar[str] = "a tier"

    name: Annotated[str, about("Name of the tier in statistics and errors.", pattern=_SHOWN)]
    read: Annotated[bool | None, about("Of a cache. `false`: it is written and never asked.")] = None

    @property
    def is_cache(self) -> bool:
        """Whether lookups keep in the tier what the tiers below it return."""
        return True

    def append_options(self) -> dict[str, Any]:
        """Keyword arguments of `append_cache` or `append_source`."""
        return {} if self.read is None else {"read": self.read}

    def store(self, context: Context) -> Store:
        """The store. Raises ValueError, which names the key, for a value that makes no sense."""
        raise NotImplementedError


class MissesTable(Table, kw_only=True):
    """A ledger of misses: see `MissLedger` and `RemembersMisses`."""

    what: ClassVar[str] = "a misses table"

    path: Annotated[str, about("Path of the ledger, which several sources may share.", minLength=1)]
    name: Annotated[
        str | None, about("Name of the source in the ledger; default: that of the tier.", pattern=_SHOWN)
    ] = None
    lifetime: Annotated[
        float | str,
        about("For how long a miss counts: seconds, or a text such as `12h`.", pattern=SPAN, exclusiveMinimum=0),
    ] = LIFETIME
    recheck: Annotated[bool, about("Whether the source is asked although a miss is known.")] = False
    share: Annotated[
        str | dict[str, Any] | None,
        about(
            "Where the nodes of a cluster share what they know: the URL of a prefix (`s3://`, `gs://`, `file://`), or "
            "a table of its `url` and what a tier of that URL says besides, such as `profile`."
        ),
    ] = None
    refresh: Annotated[
        float, about("Seconds after which what other nodes have written is read again.", exclusiveMinimum=0)
    ] = 60.0


class ReadTier(Tier, kw_only=True):
    """A tier that is a source unless it says `cache = true`."""

    cache: Annotated[bool, about("`true`: the tier is a cache, which keeps what the tiers below it return.")] = False
    cache_result: Annotated[
        bool | None,
        about(
            "Of a source. `false`: no cache keeps what it returns. `true`: the last cache does where none is above it."
        ),
    ] = None

    misses: Annotated[MissesTable | None, about("Of a source. A ledger remembers what it has said it lacks.")] = None

    @property
    def is_cache(self) -> bool:
        """Whether the file says so."""
        return self.cache

    def append_options(self) -> dict[str, Any]:
        """`read` of a cache, `cache_result` of a source. ValueError if it is the other way round."""
        if self.cache:
            if self.cache_result is not None:
                raise ValueError("cache_result belongs to a source, and this tier is a cache (cache = true)")
            return super().append_options()
        if self.read is not None:
            raise ValueError("read belongs to a cache, and this tier is a source (no cache = true)")
        return {} if self.cache_result is None else {"cache_result": self.cache_result}
