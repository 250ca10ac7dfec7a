"""`fetch_blobs` with its default settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .ray_flow import connect, flow

DISTRIBUTIONS = ("ray", "pyarrow", "pycurl")


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    connect(job)
    from bitstore import DiskCache, S3Raw, Sha1Composite, Sha1Store
    from ray_integration import NodePool, fetch_blobs

    store = Sha1Composite()
    if job.get("cached", False):
        store.append_cache(DiskCache())
    store.append_source(Sha1Store(S3Raw(endpoint_url=job["url"]), f"s3://{job['bucket']}/", verify=True))
    pool = None if job["routing"] == "direct" else NodePool(store, private=True)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        return flow(
            names,
            job,
            lambda dataset: fetch_blobs(
                dataset, store, routing=job["routing"], pool=pool, errors="raise", batch_size=job.get("batch", 4096)
            ),
        )

    return fetch
