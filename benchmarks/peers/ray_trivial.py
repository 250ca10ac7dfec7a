"""A class that does nothing, in as many actors as `fetch_blobs` would take: what Ray itself needs to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .ray_flow import connect, flow

DISTRIBUTIONS = ("ray",)


class Nothing:
    """Gives back what it gets."""

    def __call__(self, batch: Any) -> Any:
        """The batch."""
        return batch


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    connect(job)
    import ray.data

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        return flow(
            names,
            {**job, "checked": False},
            lambda dataset: dataset.map_batches(
                Nothing,
                compute=ray.data.ActorPoolStrategy(size=job["actors"]),
                num_cpus=0.01,
                batch_size=4096,
                batch_format="pyarrow",
            ),
        )

    return fetch
