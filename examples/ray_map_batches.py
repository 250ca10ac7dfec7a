"""Work on blobs in `map_batches`, without ever keeping them: sizes and first bytes of a thousand blobs, by hash.

Run it as it is: python examples/ray_map_batches.py
It uses the cluster that RAY_ADDRESS names or that runs on this machine, or else starts a Ray here
(RAY_ADDRESS=local: always). In your own code the composite has your buckets.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pyarrow
import ray

from bitstore import FileRaw, MemoryCache, Sha1Composite, Sha1Store
from ray_integration import FetchBlobs


def describe(batch: pyarrow.Table) -> pyarrow.Table:
    """Your own work: here, the size and the beginning of each blob. Only that goes on, not the blob."""
    blobs = batch.column("data").to_pylist()  # None where there is none; `error` says why
    described = batch.drop_columns(["data"])
    described = described.append_column("size", pyarrow.array([None if blob is None else len(blob) for blob in blobs]))
    return described.append_column("head", pyarrow.array([None if blob is None else blob[:4] for blob in blobs]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bucket = Path(folder, "bucket")
        bucket.mkdir()
        hashes = ["0" * 40]  # no tier has this one
        for number in range(1000):
            data = f"{number:04} {'x' * number}".encode()
            hashes.append(hashlib.sha1(data).hexdigest())
            (bucket / hashes[-1]).write_bytes(data)

        store = Sha1Composite()
        store.append_cache(MemoryCache("64MB"))
        store.append_source(Sha1Store(FileRaw(), bucket.as_uri() + "/", verify=True), name="bucket")

        ray.init(include_dashboard=False, log_to_driver=False)
        try:
            ds: ray.data.Dataset = ray.data.from_items([{"sha1": sha1} for sha1 in hashes])
            ds = ds.map_batches(
                FetchBlobs,  # what `fetch_blobs(ds, store)` sets up for you
                fn_constructor_kwargs={"store": store, "column": "sha1"},
                compute=ray.data.ActorPoolStrategy(size=1),  # few are enough: each has many lookups under way
                num_cpus=0,  # they wait for the network, and must not starve the tasks that read
                batch_size=256,
                batch_format="pyarrow",
            )
            rows = ds.map_batches(describe, batch_format="pyarrow").take_all()
            found = [row for row in rows if row["error"] is None]
            assert {row["head"] for row in found} == {f"{number:04}".encode() for number in range(1000)}
            print(f"{len(found)} of {len(rows)} blobs, {sum(row['size'] for row in found):,} bytes")
            print(*(row["error"] for row in rows if row["error"] is not None))
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
