"""boto3: one client, a pool of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

DISTRIBUTIONS = ("boto3", "botocore", "urllib3")


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    import boto3
    from botocore.config import Config

    threads = job["threads"]
    # By default it keeps 10 connections, fewer than there are threads here: that would not be fair.
    client = boto3.client("s3", endpoint_url=job["url"], config=Config(max_pool_connections=max(10, threads)))
    bucket = job["bucket"]
    pool = ThreadPoolExecutor(threads)

    def get(name: str) -> int:
        return len(client.get_object(Bucket=bucket, Key=name)["Body"].read())

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        sizes = list(pool.map(get, names))
        return {"blobs": len(sizes), "bytes": sum(sizes)}

    return fetch
