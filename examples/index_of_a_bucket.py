"""Fewer requests by a membership index: what an archive surely lacks is not asked for.

    python examples/index_of_a_bucket.py

The archive has a tenth of the blobs, and its mirror elsewhere most of the rest. Each request costs, also for what is
not there. The two servers are pretended on this machine.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

from pretend import Answer, service  # type: ignore[import-not-found]

from bitstore import HTTPRaw, NotFoundInStore, Sha1Composite, Sha1Store
from bitstore.index import IndexBuilder

BLOBS = {hashlib.sha1(data).hexdigest(): data for data in (f"blob {number}".encode() for number in range(1000))}
HELD = {"archive": list(BLOBS)[:100], "mirror": list(BLOBS)[100:900]}  # the last hundred are nowhere
REQUESTS: Counter[str] = Counter()


def server(method: str, path: str, _: bytes) -> Answer:
    """`GET /<bucket>/<digest>`."""
    bucket, digest = path.split("/")[1:]
    REQUESTS[bucket] += 1
    return (200, BLOBS[digest], {}) if digest in HELD[bucket] else (404, b"", {})


def chain(address: str, **options: object) -> Sha1Composite:
    store = Sha1Composite()
    store.append_source(Sha1Store(HTTPRaw(), f"{address}/archive/", **options), name="archive")  # type: ignore[arg-type]
    store.append_source(Sha1Store(HTTPRaw(), f"{address}/mirror/"), name="mirror")
    return store


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, service(server) as address:
        index = Path(folder, "archive.idx")
        with IndexBuilder("sha1") as builder:  # as `bitstore index build` does from a listing or an inventory
            builder.add(HELD["archive"])
            builder.write(index, source=f"{address}/archive/")
        for name, options in (
            ("without an index", {}),
            ("with an index", {"index": index}),
            ("recheck=False", {"index": index, "recheck": False}),
        ):
            REQUESTS.clear()
            store = chain(address, **options)
            found = sum(blob.found for blob in store.get_many(BLOBS))
            print(f"{name}: {found} found by {REQUESTS['archive']} + {REQUESTS['mirror']} requests")
        try:
            store.get(list(BLOBS)[-1])
        except NotFoundInStore as error:
            for evidence in error.evidence:
                print(f"{evidence.tier}: {str(evidence).partition(' of ')[0]}")


if __name__ == "__main__":
    main()
