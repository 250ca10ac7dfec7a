"""Tiers of a configuration file, other than those with a URL: what they may say, and the stores they stand for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from bitstore._caches.disk import DiskCache
from bitstore._caches.memory import MemoryCache
from bitstore._digests.api_source import DigestAPISource
from bitstore._digests.mixins import VerifyDigestMixin
from bitstore._limits.calls import WAIT, CallLimit
from bitstore.config._expand import expand_home, expand_path
from bitstore.store import Store

__all__ = ["Context", "DiskTier", "LimitTable", "MemoryTier", "PythonTier", "ReadTier", "Tier"]


@dataclass(frozen=True)
class Context:
    """What the tiers of one file share."""

    # Name of the algorithm of the digests.
    algorithm: str
    # Folder in which relative paths begin.
    folder: Path
    # Whether the tiers are those of a file; else of a command line, in which the shell has expanded variables.
    from_file: bool = True
    # Raw stores made so far, by class and options: tiers with equal options share credentials and connections.
    raw_stores: dict[str, Store] = field(default_factory=dict)

    def path(self, text: str, key: str) -> str:
        """`text` as an absolute path; `~` and, in a file, `$VARIABLE` are expanded, or ValueError names them."""
        if not text.strip():
            raise ValueError(f"{key} is empty: name a file or folder, or leave it out")
        path = expand_path(text, key) if self.from_file else expand_home(text, key)
        return str((self.folder / path).absolute())


class Tier(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every tier has."""

    # The kind of tier, for errors.
    what: ClassVar[str] = "a tier"

    # Name of the tier in statistics and errors.
    name: str

    @property
    def is_cache(self) -> bool:
        """Whether lookups keep in the tier what the tiers below it return."""
        return True

    def append_options(self) -> dict[str, Any]:
        """Keyword arguments of `append_cache` or `append_source`."""
        return {}

    def store(self, context: Context) -> Store:
        """The store. Raises ValueError, which names the key, for a value that makes no sense."""
        raise NotImplementedError


class DiskTier(Tier, kw_only=True):
    """A folder on this machine, as a cache."""

    what: ClassVar[str] = 'a tier with cache = "disk"'

    cache: str
    path: str | None = None
    max_size: int | str | None = None
    verify: bool = True

    def store(self, context: Context) -> Store:
        """The `DiskCache`."""
        options: dict[str, Any] = {} if self.max_size is None else {"max_size": self.max_size}
        return DiskCache(None if self.path is None else context.path(self.path, "path"), verify=self.verify, **options)


class MemoryTier(Tier, kw_only=True):
    """Memory of the process, as a cache."""

    what: ClassVar[str] = 'a tier with cache = "memory"'

    cache: str
    max_size: int | str = "256MB"

    def store(self, context: Context) -> Store:
        """The `MemoryCache`."""
        return MemoryCache(self.max_size)


class ReadTier(Tier, kw_only=True):
    """A tier that is a source unless it says `cache = true`."""

    cache: bool = False
    read: bool | None = None
    cache_result: bool | None = None

    @property
    def is_cache(self) -> bool:
        """Whether the file says so."""
        return self.cache

    def append_options(self) -> dict[str, Any]:
        """`read` of a cache, `cache_result` of a source. ValueError if it is the other way round."""
        if self.cache:
            if self.cache_result is not None:
                raise ValueError("cache_result belongs to a source, and this tier is a cache (cache = true)")
            return {} if self.read is None else {"read": self.read}
        if self.read is not None:
            raise ValueError("read belongs to a cache, and this tier is a source (no cache = true)")
        return {} if self.cache_result is None else {"cache_result": self.cache_result}


class LimitTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an API source may do: see `CallLimit`."""

    what: ClassVar[str] = "a limit table"

    name: str
    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None
    budget: int | None = None
    state: str | None = None
    wait: float = WAIT

    def limit(self, context: Context) -> CallLimit:
        """The limit that the table describes."""
        state = None if self.state is None else context.path(self.state, "state")
        return CallLimit(**{**msgspec.structs.asdict(self), "state": state})


class PythonTier(ReadTier, kw_only=True):
    """A store that a user's own function makes."""

    what: ClassVar[str] = "a tier with python = ..."

    python: str
    verify: bool | None = None
    limit: LimitTable | None = None
    remember_missing: float | None = None

    def store(self, context: Context) -> Store:
        """What the function returns, with the options of an API source that the file gives."""
        store = self._made()
        for key, value in (
            ("limit", None if self.limit is None else self.limit.limit(context)),
            ("remember_missing", self.remember_missing),
        ):
            if value is not None:
                if not isinstance(store, DigestAPISource):
                    raise ValueError(f"{key}: {type(store).__name__} does not have it, because it is no API source")
                setattr(store, key, value)
        return store

    def _made(self) -> Store:
        module, colon, name = self.python.partition(":")
        if not (colon and all(part.isidentifier() for part in [*module.split("."), *name.split(".")])):
            raise ValueError(f"python = {self.python!r}: expected 'package.module:function'")
        try:
            found: Any = importlib.import_module(module)
            try:
                for part in name.split("."):
                    found = getattr(found, part)
            except AttributeError as error:
                raise ValueError(f"python = {self.python!r}: {error}") from error
            store: Store = found()
        except ModuleNotFoundError as error:
            raise ValueError(f"python = {self.python!r}: {error} (is it installed, or on PYTHONPATH?)") from error
        except (Exception, SystemExit) as error:  # the tier's name must stand beside any error of a user's module
            raise ValueError(f"python = {self.python!r} raised {type(error).__name__}: {error}") from error
        # Stores of a file verify unless it says otherwise; others have no such attribute.
        if isinstance(store, VerifyDigestMixin):
            store.verify = self.verify is not False  # type: ignore[attr-defined]
        elif self.verify is not None:
            raise ValueError(f"verify: {type(store).__name__} does not have it; add VerifyDigestMixin, or leave it out")
        return store
