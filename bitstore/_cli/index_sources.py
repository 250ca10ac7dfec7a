"""What `bitstore index build` reads: a list, a live listing, an inventory."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bitstore._cli.inputs import readable
from bitstore._cli.options import StoreOptions
from bitstore._cli.verify import store_of
from bitstore._digests.store import DigestStore
from bitstore._digests.template import KeyTemplate, key_template
from bitstore._indexing.inventory import Inventory
from bitstore._indexing.key_list import KeyList
from bitstore._indexing.listing import Listing
from bitstore._indexing.lists import Refuse, add_list, list_moment, opened
from bitstore._indexing.reading import Reading
from bitstore._indexing.workplace import Workplace
from bitstore._support.digests import ALGORITHMS, Algorithm
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.redact import redact_url
from bitstore.config import ConfigError
from bitstore.index import IndexBuilder

__all__ = ["ReadOptions", "Source", "source_of"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How sources are read; None: the option is not given."""

    stores: StoreOptions
    tier: str | None
    column: str | None
    template: str | None
    moment: datetime | None


class Source(ABC):
    """One source of digests.

    Attributes
    ----------
    name
        What the index says of it; without secrets.
    service
        Which service was listed, where `name` does not say it; None: not known.
    algorithm
        The algorithm of its digests.
    total
        About how many entries it has; None: unknown.
    resumed
        Keys that an earlier run has listed.
    is_list
        Whether it is a list, of digests or of keys.
    started
        When its listing was begun; None: it is not listed live.
    """

    name: str
    service: str | None = None
    algorithm: Algorithm
    total: int | None = None
    resumed: int = 0
    is_list = False
    started: datetime | None = None

    @abstractmethod
    def add_to(self, builder: IndexBuilder, reading: Reading, refuse: Refuse) -> None:
        """Add its digests. Raises `BitstoreError` or OSError where not all of them can be had."""


class _ListSource(Source):
    """A list."""

    is_list = True

    def __init__(self, text: str, options: ReadOptions, algorithm: str | None) -> None:
        self._moment = options.moment or list_moment(text)
        self._column = options.column
        entries = opened(text, column=options.column, algorithm=algorithm)
        self._text = text
        self.name = "standard input" if text == "-" else readable(text)
        self.algorithm = entries.algorithm
        self.total = entries.total
        # The opened list; None: it is opened again when it is read, as there may be more lists than a process can open.
        self._entries = None if text != "-" and Path(text).is_file() else entries

    def add_to(self, builder: IndexBuilder, reading: Reading, refuse: Refuse) -> None:
        reading.covers(self._moment)
        entries = self._entries or opened(self._text, column=self._column, algorithm=self.algorithm.name)
        add_list(builder, self._text, entries, reading, refuse)


class _KeysSource(Source):
    """A list of keys."""

    is_list = True

    def __init__(self, text: str, template: KeyTemplate, options: ReadOptions, algorithm: str | None) -> None:
        self._moment = options.moment or list_moment(text)
        self._keys = KeyList(text, template, column=options.column, algorithm=algorithm)
        named = "standard input" if text == "-" else readable(text)
        self.name = f"{template.pattern} (keys {named})"
        self.algorithm = self._keys.algorithm
        self.total = self._keys.total

    def add_to(self, builder: IndexBuilder, reading: Reading, refuse: Refuse) -> None:
        reading.covers(self._moment)
        self._keys.add_to(builder, reading)


class _ListingSource(Source):
    """A live listing."""

    def __init__(self, store: DigestStore, workplace: Workplace) -> None:
        self._template = key_template(store.prefix)
        self.name = self._template.pattern
        self.algorithm = digest_algorithm(store.algorithm)
        raw: Any = store.base_store
        identity = f"{self.algorithm.name} {self._template.text} {raw!r}"
        self._listing = Listing(raw, self._template, self.algorithm.length, workplace, identity)
        self.service = _service_of(raw)
        self.resumed = self._listing.resumed
        self.started = self._listing.started

    def add_to(self, builder: IndexBuilder, reading: Reading, refuse: Refuse) -> None:
        reading.covers(self._listing.started)
        try:
            self._listing.run(reading)
            for raw in self._listing.digests():
                builder.add_raw(raw)
        finally:
            self._listing.close()


class _InventorySource(Source):
    """An inventory of a bucket."""

    def __init__(self, text: str, raw: Any, options: ReadOptions, algorithm: str | None) -> None:
        inventory = Inventory(text, raw)
        manifest = inventory.manifest
        bucket = f"{manifest.scheme}://" + ("" if manifest.bucket is None else f"{manifest.bucket}/")
        if options.template is None:
            raise ConfigError(
                f"--template says which keys of the inventory are digests, such as {bucket or 'gs://bucket/'}{{digest}}"
            )
        self._template: KeyTemplate = key_template(options.template)
        if not self._template.start.startswith(bucket):
            raise ConfigError(f"--template {self._template.shown}: the inventory is of keys below {bucket}")
        self.service = _service_of(raw)
        self._inventory = inventory
        self._moment = options.moment or manifest.begun
        self.name = f"{self._template.pattern} (inventory {redact_url(text)})"
        self.algorithm = inventory.algorithm(self._template) if algorithm is None else digest_algorithm(algorithm)

    def add_to(self, builder: IndexBuilder, reading: Reading, refuse: Refuse) -> None:
        reading.covers(self._moment)
        self._inventory.add_to(builder, self._template, self.algorithm, reading)


def _service_of(raw: Any) -> str | None:
    known = getattr(raw, "known_service", None)  # of folders there is none
    return None if known is None else known()


def source_of(text: str | None, options: ReadOptions, algorithm: str | None, workplace: Workplace) -> Source:
    """The source that an argument names; None: the tier of a configuration.

    Raises
    ------
    ConfigError, ListError, InventoryError
        There is no such source, or it is of other digests.
    OSError, StoreNotAvailable
        It cannot be read, or the folder of its listing cannot be written.
    """
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ConfigError(f"--algorithm {algorithm}: choose {', '.join(ALGORITHMS)}")
    if text is None:
        return _ListingSource(store_of(options.stores, None, options.tier, None), workplace)
    scheme, separator, rest = text.partition("://")
    if separator:
        text = f"{scheme.lower()}://{rest}"
        if not text.partition("?")[0].endswith("manifest.json"):
            return _ListingSource(store_of(options.stores, text, None, algorithm), workplace)
        if scheme.lower() == "file":
            return _InventorySource(unquote(urlsplit(text).path), None, options, algorithm)
        bucket = "/".join([*text.split("/")[:3], ""])
        raw = store_of(options.stores, bucket, None, algorithm or "sha256").base_store
        return _InventorySource(text, raw, options, algorithm)
    if text != "-" and Path(text).is_dir():
        url = Path(text).absolute().as_uri().replace("{", "{{").replace("}", "}}")
        return _ListingSource(store_of(options.stores, f"{url}/", None, algorithm), workplace)
    if text.endswith("manifest.json"):
        return _InventorySource(text, None, options, algorithm)
    if options.template is not None:
        return _KeysSource(text, key_template(options.template), options, algorithm)
    return _ListSource(text, options, algorithm)
