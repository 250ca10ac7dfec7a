"""Training with PyTorch itself, which `make soak` installs where there is a build for CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

from bitstore import DiskCache, HTTPRaw, Sha1Composite, Sha1Store
from bitstore.torch import BlobDataset, BlobStream
from ray_integration import FetchBlobs, fetch_blobs
from tests.servers.web_folder import WebFolder
from tests.stores import sha1

torch: Any = pytest.importorskip("torch")
DataLoader: Any = torch.utils.data.DataLoader

pytestmark = [pytest.mark.soak, pytest.mark.timeout(200)]

ROOT = Path(__file__).parent.parent
SHAPE = (8, 8)
ARRAYS = numpy.arange(100 * 64, dtype="f4").reshape(100, *SHAPE)
DIGESTS = [sha1(array.tobytes()) for array in ARRAYS]


def tensor(data: bytes) -> Any:
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(SHAPE)


@pytest.fixture
def web() -> Iterator[WebFolder]:
    with WebFolder() as server:
        server.files |= {f"/{digest}": array.tobytes() for digest, array in zip(DIGESTS, ARRAYS, strict=True)}
        yield server


@pytest.fixture
def store(web: WebFolder, tmp_path: Path) -> Sha1Composite:
    made = Sha1Composite()
    made.append_cache(DiskCache(tmp_path / "cache", "1GB"), name="disk")
    made.append_source(Sha1Store(HTTPRaw(), f"{web.url}/", verify=True), name="web")
    return made


def seen(loader: Any) -> list[int]:
    found = []
    for arrays, targets in loader:
        assert torch.equal(arrays, torch.from_numpy(ARRAYS[targets.numpy()]))
        found += targets.tolist()
    return found


WORKERS: list[dict[str, Any]] = [
    {"num_workers": 0},
    {"num_workers": 2, "multiprocessing_context": "fork"},
    {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True},
]


@pytest.mark.parametrize("workers", WORKERS, ids=lambda options: str(options.get("multiprocessing_context")))
@pytest.mark.parametrize("kind", [BlobDataset, BlobStream])
def test_epochs_of_a_loader_ask_the_server_once_for_each_blob(
    store: Any, web: WebFolder, kind: Any, workers: dict[str, Any]
) -> None:
    by_position = kind is BlobDataset
    options = {} if by_position else {"shuffle": 1}
    dataset = kind(store, DIGESTS, decode=tensor, targets=torch.arange(100), **options)
    loader = DataLoader(dataset, batch_size=16, shuffle=True if by_position else None, **workers)
    epochs = []
    for epoch in range(3):
        if not by_position and not workers.get("persistent_workers"):
            dataset.set_epoch(epoch)
        epochs.append(seen(loader))
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    counts = Counter(request.target for request in web.requests)
    # Workers share no lookups, so two may ask for a blob before one has kept it.
    assert set(counts) == {f"/{digest}" for digest in DIGESTS}
    asked = len(web.requests)
    seen(loader)
    assert len(web.requests) == asked


def test_an_error_of_a_worker_names_the_digest(store: Any) -> None:
    loader = DataLoader(BlobDataset(store, [*DIGESTS[:3], "0" * 40]), batch_size=4, num_workers=1)
    with pytest.raises(Exception, match="0" * 40):
        list(loader)


def test_a_stream_is_an_iterable_dataset_also_after_its_travel(store: Any) -> None:
    import pickle

    class Mine(BlobStream):
        """A stream of a user's."""

    stream = pickle.loads(pickle.dumps(BlobStream(store, DIGESTS)))
    for made in (stream, BlobStream(store, DIGESTS), Mine(store, DIGESTS)):
        assert isinstance(made, torch.utils.data.IterableDataset)
        assert isinstance(made, BlobStream)
        assert len(list(DataLoader(made, batch_size=30))) == 4


def test_tensors_of_equal_blobs_are_in_the_memory_of_the_column(store: Any) -> None:
    (piece,) = FetchBlobs(store, decoded_type=("float32", SHAPE))(pyarrow.table({"sha1": DIGESTS}))
    (chunk,) = piece.column("data").chunks
    made = torch.as_tensor(chunk.to_numpy())
    buffer = chunk.buffers()[-1]
    assert torch.equal(made, torch.from_numpy(ARRAYS))
    assert buffer.address <= made.data_ptr() < buffer.address + buffer.size


@pytest.mark.ray
def test_batches_of_torch_are_in_the_memory_of_the_block(shared_ray: Any, store: Any, web: WebFolder) -> None:
    import ray.data

    listed = ray.data.from_items([{"sha1": digest, "number": number} for number, digest in enumerate(DIGESTS)])
    fetched = fetch_blobs(listed, store, decoded_type=("float32", SHAPE), errors="raise")
    shown = fetched.select_columns(["number", "data"])
    for _ in range(2):
        found = []
        for batch in shown.iter_torch_batches(batch_size=32):
            assert torch.equal(batch["data"], torch.from_numpy(ARRAYS[batch["number"].numpy()]))
            found += batch["number"].tolist()
        assert sorted(found) == list(range(100))
        assert len(web.requests) == 100

    class Collate(ray.data.collate_fn.ArrowBatchCollateFn):
        def __call__(self, batch: Any) -> Any:
            (chunk,) = batch.column("data").chunks
            made = torch.as_tensor(chunk.to_numpy())
            buffer = chunk.buffers()[-1]
            return made, buffer.address <= made.data_ptr() < buffer.address + buffer.size

    told: Any = shown.limit(32).iter_torch_batches(batch_size=None, collate_fn=Collate())
    assert [(tuple(made.shape), shares) for made, shares in told] == [((32, *SHAPE), True)]


@pytest.mark.ray
def test_the_training_example_learns_with_torch() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "ray_train.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "with PyTorch" in done.stdout and "on 1 GPUs" in done.stdout
