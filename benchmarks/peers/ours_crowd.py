"""bitstore in several processes at once: what sharing the cores costs, without Ray."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import ours

DISTRIBUTIONS = ours.DISTRIBUTIONS


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    """Start `job["processes"]` processes, each with a store of its own, which fetch in batches of `job["rows"]`."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for _ in range(job["processes"]):
        near, far = context.Pipe()
        context.Process(target=_serve, args=(far, job), daemon=True).start()
        pipes.append(near)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        wanted = list(names)
        started = time.perf_counter()
        for number, pipe in enumerate(pipes):
            pipe.send(wanted[number :: len(pipes)])
        told = [pipe.recv() for pipe in pipes]
        sums = {name: sum(each[name] for each in told) for name in ("blobs", "bytes", "cpu")}
        return {**sums, "seconds": time.perf_counter() - started}

    return fetch


def _serve(pipe: Any, job: dict[str, Any]) -> None:
    get_many = ours.start(job)
    while True:
        try:
            names = iter(pipe.recv())
        except EOFError:
            return
        used = time.process_time()
        blobs = size = 0
        while batch := list(itertools.islice(names, job["rows"])):
            told = get_many(iter(batch))
            blobs += told["blobs"]
            size += told["bytes"]
        pipe.send({"blobs": blobs, "bytes": size, "cpu": time.process_time() - used})
