"""The inventory of a bucket as the list of a warming, also on a schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from bitstore._cli.options import StoreOptions
from bitstore._cli.verify import store_of
from bitstore._digests.hash_list import Entry
from bitstore._digests.template import KeyTemplate, key_template
from bitstore._indexing.inventory import Inventory
from bitstore._indexing.manifest import InventoryError
from bitstore._support.digests import Algorithm
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._warming.since import Since, SinceError
from bitstore.config import ConfigError

__all__ = ["InventoryList", "SinceInventory", "is_inventory"]


def is_inventory(source: str) -> bool:
    """Whether a list is the manifest of an inventory: `manifest.json` of S3, `..._manifest.json` of Google."""
    return source.partition("?")[0].endswith("manifest.json")


class InventoryList:
    """The digests of the keys in an inventory.

    Parameters
    ----------
    source
        Path or URL of the manifest.
    template
        Which keys are those of digests.
    stores
        The options by which a bucket is asked that has the inventory.
    algorithm
        Name of the algorithm of the digests; None: what most of the first keys are.

    Attributes
    ----------
    others
        Keys so far that are no digests.

    Raises
    ------
    ConfigError
        There is no template, or it is one of another bucket.
    InventoryError
        The manifest is none, or is damaged.
    OSError, StoreNotAvailable, NotFoundInStore
        It cannot be read.
    """

    def __init__(self, source: str, template: str | None, stores: StoreOptions, algorithm: str | None) -> None:
        place, raw = source, None
        if source.lower().startswith("file://"):
            place = unquote(urlsplit(source).path)
        elif "://" in source:
            bucket = "/".join([*source.split("/")[:3], ""])
            alone = dataclasses.replace(stores, config=None, store=None, cache=None, compression=None)
            raw = store_of(alone, bucket, None, algorithm or "sha256").base_store
        self._inventory = Inventory(place, raw)
        manifest = self._inventory.manifest
        listed = f"{manifest.scheme}://" + ("" if manifest.bucket is None else f"{manifest.bucket}/")
        if template is None:
            raise ConfigError(f"--template says which keys of the inventory are digests, such as {listed}{'{digest}'}")
        self.template: KeyTemplate = key_template(template)
        if not self.template.start.startswith(listed):
            raise ConfigError(f"--template {self.template.shown}: the inventory is of keys below {listed}")
        self.begun: datetime = manifest.begun
        self.total: int | None = manifest.records
        self.others = 0
        self.algorithm: Algorithm = (
            self._inventory.algorithm(self.template) if algorithm is None else digest_algorithm(algorithm)
        )

    def __iter__(self) -> Iterator[Entry]:
        """An entry for each key of a digest.

        Raises `InventoryError` where the inventory breaks off or no key is that of a digest, OSError and
        `StoreNotAvailable`.
        """
        number = 0
        for digests, others in self._inventory.digests(self.template, self.algorithm):
            self.others += others
            for digest in digests:
                number += 1
                yield Entry(number, digest, digest)
        if not number and self.others:
            raise InventoryError(
                f"none of the {self.others:,} keys of the inventory is a digest below {self.template.shown}: "
                "is --template right?"
            )


class SinceInventory(Since):
    """What a warming does with the newest inventory of a bucket, once with each.

    Every inventory lists all keys. Which of them are new is known to the ledger of the warming.

    Parameters
    ----------
    path
        The file that notes which inventory was dealt with.
    inventory
        The newest one.
    target
        What is warmed.

    Raises
    ------
    SinceError
        As for `Since`; or a newer inventory was dealt with before.
    """

    def __init__(self, path: str, inventory: InventoryList, *, target: str) -> None:
        super().__init__(path, inventory.template.pattern, target=target)
        self._inventory = inventory
        known = str(self._known.get("begun", ""))
        begun = inventory.begun.isoformat()
        try:
            is_newer = bool(known) and datetime.fromisoformat(known) > inventory.begun
        except (TypeError, ValueError) as error:
            raise SinceError(f"{path} is damaged ({error!r}): delete it, and all is read again") from error
        self._is_known = known == begun
        if self._is_known:
            self.told = f"the inventory of {begun} was dealt with on {self._at}: nothing is new"
        elif is_newer:
            raise SinceError(f"{path}: the inventory of {known} was dealt with, and this is that of {begun}, older")
        else:
            self.told = f"the inventory of {begun}"

    @property
    def total(self) -> int | None:
        """About how many entries there are; None: unknown."""
        return len(self._again) if self._is_known else self._inventory.total

    def _mark_of(self, known: dict[str, Any]) -> None:
        return None

    def _entries(self) -> Iterator[Entry]:
        return iter(()) if self._is_known else iter(self._inventory)

    def _made(self) -> dict[str, Any]:
        return {"begun": self._inventory.begun.isoformat(), "algorithm": self._inventory.algorithm.name}
