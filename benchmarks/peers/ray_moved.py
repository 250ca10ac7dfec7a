"""A class that adds blobs which actors on all nodes have already: what Ray needs to move rows between nodes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

from .ray_flow import connect, flow, mapped

DISTRIBUTIONS = ("ray", "pyarrow")

_PIECE_ROWS = 1024  # 16 MB, as node stores hand over


class Holder:
    """Hands over blobs, all in one chunk of memory that is used again. An actor class, one for each node."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.blobs = bytearray()

    def ready(self, rows: int) -> Any:
        """The bytes of so many blobs."""
        import pickle

        if len(self.blobs) != rows * self.size:
            self.blobs = bytearray(b"\1") * (rows * self.size)  # pages of their own, as blobs have
        return pickle.PickleBuffer(self.blobs)


class Moved:
    """Adds the columns that `fetch_blobs` adds. An equal share of the blobs comes from each node."""

    def __init__(self, size: int, holders: list[Any]) -> None:
        self.size = size
        self.holders = holders
        self.calls = 0

    def __call__(self, batch: Any) -> Any:
        """The batch with its blobs, which stay where Ray has put them."""
        import pyarrow
        import ray

        rows = batch.num_rows
        parts = [min(_PIECE_ROWS, rows - start) for start in range(0, rows, _PIECE_ROWS)]
        pieces = []
        for part in parts:
            self.calls += 1
            pieces.append(self.holders[self.calls % len(self.holders)].ready.remote(part))
        chunks = []
        for part, piece in zip(parts, ray.get(pieces), strict=True):
            ends = array("q", range(0, part * self.size + 1, self.size))
            memory = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(piece)]
            chunks.append(pyarrow.Array.from_buffers(pyarrow.large_binary(), part, memory))
        table = batch.append_column("data", pyarrow.chunked_array(chunks))
        table = table.append_column("source", pyarrow.array(["bucket"] * rows, pyarrow.string()))
        return table.append_column("error", pyarrow.nulls(rows, pyarrow.string()))


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    connect(job)
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    listed: Any = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["NodeID"] for node in listed if node["Alive"] and node["Resources"].get("CPU")]
    kind: Any = ray.remote(Holder)
    holders = [
        kind.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            job["size"]
        )
        for node in nodes
    ]

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        return flow(names, job, lambda dataset: mapped(dataset, Moved, job, job["size"], holders))

    return fetch
