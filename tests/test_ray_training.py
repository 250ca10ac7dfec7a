"""Epochs, shuffles and splits of a dataset with blobs read the nodes' disks: the server is asked once for each blob."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data

from bitstore import DiskCache, HTTPRaw, Sha1Composite, Sha1Store
from ray_integration import fetch_blobs
from tests.servers.web_folder import WebFolder
from tests.stores import sha1

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150), pytest.mark.usefixtures("shared_ray")]

SHAPE = (16, 16)
ARRAYS = [numpy.full(SHAPE, number, "i2") for number in range(120)]
BLOBS = {sha1(array.tobytes()): array.tobytes() for array in ARRAYS}


@pytest.fixture
def web() -> Iterator[WebFolder]:
    with WebFolder() as server:
        server.files |= {f"/{digest}": data for digest, data in BLOBS.items()}
        yield server


class Training:
    """A dataset over a disk cache, of arrays that are each full of their own number."""

    def __init__(self, web: WebFolder, folder: Path) -> None:
        self.web = web
        store = Sha1Composite()
        store.append_cache(DiskCache(folder / "cache", "1GB"), name="disk")
        store.append_source(Sha1Store(HTTPRaw(), f"{web.url}/", verify=True), name="web")
        listed = ray.data.from_items([{"sha1": digest} for digest in BLOBS]).repartition(2)
        fetched = fetch_blobs(listed, store, decoded_type=("int16", SHAPE), errors="raise")
        self.arrays: Any = fetched.select_columns(["data"])

    def numbers(self, batches: Any) -> list[int]:
        found = []
        for batch in batches:
            assert batch["data"].shape[1:] == SHAPE
            found += batch["data"][:, 0, 0].tolist()
        return found

    def check(self, found: list[int]) -> None:
        assert sorted(found) == list(range(120))
        assert Counter(request.target for request in self.web.requests) == {f"/{digest}": 1 for digest in BLOBS}


@pytest.fixture
def training(web: WebFolder, tmp_path: Path) -> Training:
    return Training(web, tmp_path)


@pytest.mark.soak
def test_shuffles_ask_the_server_once_for_each_blob(training: Training) -> None:
    for arrays in (training.arrays, training.arrays.random_shuffle(seed=1), training.arrays.randomize_block_order()):
        training.check(training.numbers(arrays.iter_batches(batch_size=32, local_shuffle_buffer_size=64)))


def test_epochs_of_a_split_ask_the_server_once_for_each_blob(training: Training) -> None:
    splits = training.arrays.streaming_split(2, equal=True)
    parts: list[list[list[int]]] = [[], []]

    def train(worker: int) -> None:
        for _ in range(2):
            parts[worker].append(training.numbers(splits[worker].iter_batches(batch_size=16)))

    workers = [threading.Thread(target=train, args=(worker,)) for worker in range(2)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join(100)
    for epoch in range(2):
        assert [len(part[epoch]) for part in parts] == [60, 60]
        training.check(parts[0][epoch] + parts[1][epoch])
