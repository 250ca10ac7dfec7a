"""Three sources in the wrong order: which is asked first is learned, for each kind of blob by itself.

    python examples/learned_order.py

The sources are folders of this machine, in place of buckets.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from bitstore import FileRaw, LearnedOrder, Sha1Composite, Sha1Store


def folder_of(root: Path, name: str, blobs: dict[str, bytes]) -> Sha1Store:
    """A source."""
    (root / name).mkdir()
    for digest, data in blobs.items():
        (root / name / digest).write_bytes(data)
    return Sha1Store(FileRaw(), f"{(root / name).as_uri()}/", verify=True)


def made(kind: str) -> dict[str, bytes]:
    """Blobs of one kind, by digest."""
    return {hashlib.sha1(data).hexdigest(): data for data in (f"{kind} {n}".encode() for n in range(300))}


papers, pages = made("paper"), made("page")

with tempfile.TemporaryDirectory() as scratch:
    root = Path(scratch)
    order = LearnedOrder()  # with path="learned.json" later processes begin with what this one has learned
    store = Sha1Composite(order=order)
    store.append_source(folder_of(root, "old", {}), name="old")
    store.append_source(folder_of(root, "crawl", pages), name="crawl")
    store.append_source(folder_of(root, "library", papers), name="library")

    for cohort, blobs in (("papers", papers), ("pages", pages)):
        order.cohort = cohort
        assert all(blob.found for blob in store.get_many(blobs, in_flight=8))

    asked = sum(tier.hits + tier.misses for tier in store.stats().values())
    print(f"{asked / 600:.2f} questions for each blob")
    assert asked < 1.3 * 600

    first = {row.cohort: row for row in store.ranking() if row.place == 1}
    for cohort, row in first.items():
        print(f"{cohort}: {row.tier} {row.why}")
    assert (first["papers"].tier, first["pages"].tier) == ("library", "crawl")
