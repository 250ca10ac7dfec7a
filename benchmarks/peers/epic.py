"""epic-bitstore 1.1.0 as its README has it: `ultimap` over threads, here with `verify=True`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

DISTRIBUTIONS = ("epic-bitstore", "ultima", "boto3")


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    library: Any = importlib.import_module("epic.bitstore")
    ultimap: Any = importlib.import_module("ultima").ultimap
    # The address comes to it by AWS_ENDPOINT_URL_S3, which boto3 reads.
    store = library.Sha1Composite()
    for bucket in job.get("buckets", [job.get("bucket")]):
        store.append_source(library.Sha1Store(library.S3Raw(), f"s3://{bucket}/", verify=True))

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        blobs = size = 0
        for data in ultimap(store.get, names, backend="threading", n_workers=job["threads"]):
            blobs += 1
            size += len(data)
        return {"blobs": blobs, "bytes": size}

    return fetch
