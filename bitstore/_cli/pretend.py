"""A made-up world for the demo: blobs, three stores that hold some of them, and an API that counts its calls."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bitstore._caches.disk import DiskCache
from bitstore._digests.named import Sha1APISource, Sha1Cache, Sha1Composite, Sha1Store
from bitstore._raw.file import FileRaw

__all__ = ["API_CACHE", "CACHE", "PAID", "PretendAPI", "World"]

CACHE, API_CACHE, PAID = "disk cache", "API cache", "paid API"  # names of tiers

_SEED = 20_26
_SMALLEST, _LARGEST = 1024, 64 * 1024  # bytes of a blob


class PretendAPI(Sha1APISource):
    """Stands for an API that costs money: answers from a folder, and counts its calls in all processes.

    Parameters
    ----------
    folder
        The blobs it has, by digest.
    calls
        A file that gets a line for each call.
    """

    def __init__(self, folder: Path, calls: Path) -> None:
        super().__init__(verify=True)
        self._folder = folder
        self._calls = calls

    def api_get(self, digest: str) -> bytes | None:
        """One call."""
        # O_APPEND: a line is written in one piece, whichever processes write at the same time.
        descriptor = os.open(self._calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{digest}\n".encode())
        finally:
            os.close(descriptor)
        try:
            return (self._folder / digest).read_bytes()
        except FileNotFoundError:
            return None

    def counted(self) -> Counter[str]:
        """How often each digest was asked for."""
        try:
            return Counter(self._calls.read_text().split())
        except FileNotFoundError:
            return Counter()


@dataclass
class World:
    """Blobs, and the stores that hold them, all below one folder.

    Attributes
    ----------
    root
        The folder.
    digests
        Of all blobs, in no order.
    homes
        How many blobs each store holds.
    size
        Bytes of all blobs.
    """

    root: Path
    digests: list[str] = field(default_factory=list)
    homes: Counter[str] = field(default_factory=Counter)
    size: int = 0  # bytes

    @property
    def api(self) -> PretendAPI:
        """The pretend API, which counts."""
        return PretendAPI(self.root / "api", self.root / "api-calls.txt")

    def store(self, cache: str) -> Sha1Composite:
        """All tiers, under the disk cache called `cache`."""
        raw = FileRaw(root=self.root)
        store = Sha1Composite()
        store.append_cache(DiskCache(self.root / cache, max_size="1GB"), name=CACHE)
        for name, tier in self._buckets(raw).items():
            store.append_source(tier, name=name)
        store.append_cache(Sha1Cache(raw, self._url("api-cache/"), verify=True), name=API_CACHE)
        store.append_source(self.api, name=PAID)
        return store

    def _buckets(self, raw: FileRaw) -> dict[str, Sha1Store]:
        return {
            "bucket 1": Sha1Store(raw, self._url("bucket-1/files/"), verify=True),
            "bucket 2": Sha1Store(raw, self._url("bucket-2/{digest[:2]}/{digest}.gz"), verify=True, compression="gzip"),
            "bucket 3": Sha1Store(raw, self._url("bucket-3/{digest[:3]}/{digest}"), verify=True),
        }

    def _url(self, path: str) -> str:
        # as_uri would quote the braces of a template, so only the folder is quoted, and braces in it doubled.
        return self.root.as_uri().replace("{", "{{").replace("}", "}}") + "/" + path

    def fill(self, blobs: int) -> None:
        """Make `blobs` blobs and put each into one place; the API gets every tenth."""
        chance = random.Random(_SEED)
        buckets = self._buckets(FileRaw(root=self.root))
        shares = [("bucket 1", 4), ("bucket 2", 3), ("bucket 3", 2), (PAID, 1)]
        places = [name for name, share in shares for _ in range(share)]
        (self.root / "api").mkdir()
        for number in range(blobs):
            data = chance.randbytes(chance.randint(_SMALLEST, _LARGEST))
            digest = hashlib.sha1(data).hexdigest()
            home = places[number % len(places)]
            if home == PAID:
                (self.root / "api" / digest).write_bytes(data)
            else:
                buckets[home].put(digest, data)
            self.digests.append(digest)
            self.homes[home] += 1
            self.size += len(data)
        chance.shuffle(self.digests)
