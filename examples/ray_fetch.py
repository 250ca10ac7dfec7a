"""Fetch the blobs of a dataset of hashes with Ray, here on this machine: nothing outside it is asked.

Run it as it is: python examples/ray_fetch.py
In your own code the composite has your buckets, and `ray.init()` finds your cluster.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import ray

from bitstore import DiskCache, FileRaw, Sha1Composite, Sha1Store
from ray_integration import fetch_blobs


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # A "bucket" with a thousand blobs, and a list of their hashes: one more than the bucket has.
        bucket = Path(folder, "bucket")
        bucket.mkdir()
        hashes = []
        for number in range(1000):
            data = f"blob {number}".encode()
            hashes.append(hashlib.sha1(data).hexdigest())
            (bucket / hashes[-1]).write_bytes(data)
        hashes.append("0" * 40)

        store = Sha1Composite()
        store.append_cache(DiskCache(f"{folder}/cache", max_size="1GB"))
        store.append_source(Sha1Store(FileRaw(), bucket.as_uri() + "/", verify=True), name="bucket")

        ray.init(include_dashboard=False, log_to_driver=False)
        try:
            ds = ray.data.from_items([{"sha1": sha1, "row": row} for row, sha1 in enumerate(hashes)])
            blobs = fetch_blobs(ds, store, column="sha1").materialize()  # the one line

            found = 0
            for row in blobs.iter_rows():
                if row["error"] is None:
                    found += 1
                    assert hashlib.sha1(row["data"]).hexdigest() == row["sha1"]
                else:
                    print(f"row {row['row']}: {row['error']}")
            print(f"{found} of {blobs.count()} blobs found")
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
