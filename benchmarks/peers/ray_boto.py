"""What one writes by hand: a class for `map_batches` with a boto3 client and a pool of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .ray_flow import connect, flow, mapped

DISTRIBUTIONS = ("boto3", "botocore", "urllib3", "ray")


class Fetch:
    """Adds a column with the blobs."""

    def __init__(self, url: str, bucket: str, threads: int) -> None:
        import boto3
        from botocore.config import Config

        self._client = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=threads))
        self._bucket = bucket
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self, batch: Any) -> Any:
        """The batch, with its blobs."""
        import pyarrow

        blobs = list(self._pool.map(self._get, batch.column("sha1").to_pylist()))
        return batch.append_column("data", pyarrow.array(blobs, pyarrow.large_binary()))

    def _get(self, name: str) -> bytes:
        data: bytes = self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        return data


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    connect(job)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        return flow(
            names,
            job,
            lambda dataset: mapped(dataset, Fetch, job, job["url"], job["bucket"], job["threads"], rows=job["rows"]),
        )

    return fetch
