"""Fetch by hash from two folders behind a disk cache. Runs anywhere: `python examples/laptop.py`."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from bitstore import DiskCache, FileRaw, NotFoundInStore, Sha1Composite, Sha1Store

scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
ours = Sha1Store(FileRaw(), f"{folder.as_uri()}/ours/")
theirs = Sha1Store(FileRaw(), f"{folder.as_uri()}/theirs/{{digest[:2]}}/{{digest}}.gz", verify=True, compression="gzip")

store = Sha1Composite()
store.append_cache(DiskCache(folder / "cache", max_size="1GB"), name="disk cache")
store.append_source(ours, name="ours")
store.append_source(theirs, name="theirs")

blobs = [f"blob {number}".encode() for number in range(1000)]
hashes = [hashlib.sha1(blob).hexdigest() for blob in blobs]
for number, (sha1, data) in enumerate(zip(hashes, blobs, strict=True)):
    (theirs if number % 3 else ours).put(sha1, data)

assert store.get(hashes[7]) == b"blob 7"  # by now in the disk cache
for blob in store.get_many([*hashes, "0" * 40]):
    assert blob.found or isinstance(blob.error, NotFoundInStore), blob.error
for tier in store.stats().values():
    print(f"{tier.name:10} {tier.hits:4} hits {tier.misses:5} misses")
scratch.cleanup()
