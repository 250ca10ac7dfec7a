"""Outputs of builds by SHA-256, from a Bazel cache to the disks of a cluster before the jobs that need them begin.

    python examples/build_cache.py

The cache is pretended on this machine. Each output is fetched from it once for the whole cluster, however many jobs,
processes and nodes ask for it afterwards. With one node, as here, all outputs are on its disk.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter

import pyarrow
import ray
from pretend import Answer, service  # type: ignore[import-not-found]

from bitstore import DiskCache, HTTPRaw, Sha256Composite, Sha256Store
from ray_integration import NodePool, fetch_blobs, warm

OUTPUTS = {hashlib.sha256(data).hexdigest(): data for data in (f"object file {n}".encode() for n in range(300))}
LOST = "0" * 64  # named by an action, but evicted from the cache
GETS: Counter[str] = Counter()


def bazel(method: str, path: str, _: bytes) -> Answer:
    """`GET /cas/<sha256>`, as bazel-remote answers it."""
    digest = path.removeprefix("/cas/")
    GETS[digest] += method == "GET"
    return (200, OUTPUTS[digest], {}) if digest in OUTPUTS else (404, b"Not found", {})


def linked(batch: pyarrow.Table) -> pyarrow.Table:
    """The work of a job: here, the size of what its action links."""
    sizes = [len(data) if data is not None else 0 for data in batch["data"].to_pylist()]
    return batch.drop_columns(["data"]).append_column("size", pyarrow.array(sizes))


def job(number: int, store: Sha256Composite, pool: NodePool) -> str:
    """A job that needs two thirds of the outputs; jobs overlap."""
    needed = [*list(OUTPUTS)[100 * number : 100 * number + 200], LOST]
    rows = ray.data.from_items([{"sha256": digest} for digest in needed])
    blobs = fetch_blobs(rows, store, "sha256", pool=pool, routing="owner", kind_column="kind", patience=0)
    table = blobs.map_batches(linked, batch_format="pyarrow").to_pandas()
    kinds = table["kind"].value_counts().to_dict()
    return f"job {number}: {table['size'].sum()} bytes from {set(table['source'].dropna())}, without: {kinds}"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        service(bazel) as address,
        ray.init(include_dashboard=False, log_to_driver=False),
    ):
        store = Sha256Composite()
        store.append_cache(DiskCache(f"{folder}/disk", max_size="10GB"), name="disk")
        store.append_source(Sha256Store(HTTPRaw(), f"{address}/cas/", verify=True), name="bazel")
        with NodePool(store, private=True) as pool:
            print(warm([*OUTPUTS, LOST], store, target="owner", ledger=f"{folder}/ledger", pool=pool))
            for number in (0, 1):
                print(job(number, store, pool))
    print("fetched more than once:", [digest for digest in OUTPUTS if GETS[digest] > 1])


if __name__ == "__main__":
    main()
