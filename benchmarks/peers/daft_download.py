"""daft: the `download` expression over a column of URLs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

DISTRIBUTIONS = ("daft",)


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    daft: Any = importlib.import_module("daft")
    io: Any = importlib.import_module("daft.io")
    config = io.IOConfig(
        s3=io.S3Config(
            endpoint_url=job["url"],
            key_id="bench",
            access_key="bench",
            region_name="us-east-1",
            use_ssl=False,
            force_virtual_addressing=False,
        )
    )
    download: Any = importlib.import_module("daft.functions").download
    connections = job["threads"]

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        frame = daft.from_pydict({"url": [f"s3://{job['bucket']}/{name}" for name in names]})
        frame = frame.select(download(daft.col("url"), max_connections=connections, io_config=config))
        column = frame.collect().to_arrow().column(0)
        sizes = [len(value.as_py()) for value in column]
        return {"blobs": len(sizes), "bytes": sum(sizes)}

    return fetch
