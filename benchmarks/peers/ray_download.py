"""Ray Data's own `download` (alpha), by obstore or by pyarrow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from .ray_flow import connect, flow, uris

DISTRIBUTIONS = ("ray", "obstore", "pyarrow")


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    filesystem: Any = None
    if job["by"] == "pyarrow":
        os.environ["RAY_DATA_USE_OBSTORE"] = "0"  # read when Ray Data is imported; it decides here, in the driver
    connect(job)
    if job["by"] == "pyarrow":
        from pyarrow.fs import S3FileSystem

        filesystem = S3FileSystem(
            access_key="bench",
            secret_key="bench",
            region="us-east-1",
            scheme="http",
            endpoint_override=job["url"].removeprefix("http://"),
        )
    from ray.data.expressions import download

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        return flow(
            names,
            job,
            lambda dataset: dataset.with_column("data", download("uri", filesystem=filesystem)),
            column="uri",
            prefix=uris(job),
        )

    return fetch
