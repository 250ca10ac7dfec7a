"""s3fs: `cat` of many keys at once."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

DISTRIBUTIONS = ("s3fs", "aiobotocore", "aiohttp")

_AT_ONCE = 500  # keys given to one call; how many of them are under way at once is its own choice


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    s3fs: Any = importlib.import_module("s3fs")
    system = s3fs.S3FileSystem(key="bench", secret="bench", endpoint_url=job["url"], use_listings_cache=False)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        blobs = size = 0
        while part := list(itertools.islice(names, _AT_ONCE)):
            came = system.cat([f"{job['bucket']}/{name}" for name in part])
            blobs += len(came)
            size += sum(map(len, came.values()))
        return {"blobs": blobs, "bytes": size}

    return fetch
