"""Warm the caches for a list of hashes with Ray, then read them in epochs; here on this machine: nothing else is asked.

Run it as it is: python examples/warm_then_train.py
In your own code the composite has your buckets and your API, and `ray.init()` finds your cluster.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import ray

from bitstore import DiskCache, FileRaw, Sha1APISource, Sha1Cache, Sha1Composite, Sha1Store
from ray_integration import NodePool, fetch_blobs, warm


class CountedAPI(Sha1APISource):
    """A pretend API that costs money: each call is a line of its bill."""

    def __init__(self, vendor: Path, bill: Path) -> None:
        super().__init__(verify=True)
        self.vendor = vendor
        self.bill = bill

    def api_get(self, digest: str) -> bytes | None:
        """The bytes; None: it does not have them."""
        with self.bill.open("a") as file:
            file.write(f"{digest}\n")
        file_of_blob = self.vendor / digest
        return file_of_blob.read_bytes() if file_of_blob.exists() else None


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # A list of 600 hashes: 500 are in a "bucket", and the last hundred only the API has.
        bucket, vendor, paid = Path(folder, "bucket"), Path(folder, "vendor"), Path(folder, "paid")
        bill = Path(folder, "bill")
        bucket.mkdir()
        vendor.mkdir()
        hashes = []
        for number in range(600):
            data = f"blob {number}".encode()
            hashes.append(hashlib.sha1(data).hexdigest())
            (bucket if number < 500 else vendor).joinpath(hashes[-1]).write_bytes(data)

        store = Sha1Composite()
        store.append_cache(DiskCache(f"{folder}/cache", max_size="1GB"), name="disk")
        store.append_source(Sha1Store(FileRaw(), bucket.as_uri() + "/", verify=True), name="bucket")
        store.append_cache(Sha1Cache(FileRaw(), paid.as_uri() + "/"), name="paid for")
        store.append_store(CountedAPI(vendor, bill), name="api")

        ray.init(include_dashboard=False, log_to_driver=False)
        try:
            with NodePool(store, private=True) as pool:
                print(warm(hashes, store, target="owner", ledger=f"{folder}/ledger", pool=pool))

                for epoch in range(2):
                    listed = ray.data.from_items([{"sha1": sha1} for sha1 in hashes])
                    size, sources = 0, set()
                    for row in fetch_blobs(listed, store, pool=pool, routing="owner").iter_rows():  # your training
                        size += len(row["data"])
                        sources.add(row["source"])
                    print(f"epoch {epoch}: {size} bytes, all from {sources}")
            print(f"paid calls: {len(bill.read_text().split())}")
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
