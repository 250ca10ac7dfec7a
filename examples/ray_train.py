"""Train with Ray Data: pictures are decoded where the blobs are, and the second epoch reads the disks of nodes.

Run it as it is: python examples/ray_train.py (with PyTorch if it is installed, else with NumPy)
It uses the cluster that RAY_ADDRESS names, or else starts a Ray here that pretends to have a GPU.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy
import ray

from bitstore import DiskCache, FileRaw, Sha1Composite, Sha1Store
from ray_integration import NodePool, fetch_blobs

SHAPE = (8, 8)


def picture(data: bytes) -> Any:
    """For you: the pixels of an image, by `PIL.Image.open`. It runs in the process that has the blob."""
    return numpy.frombuffer(data, "uint8").reshape(SHAPE).astype("float32") / 255


class Loss:
    """A model's trial on batches, with as many GPUs as it asks for. For you: what embeds, or labels."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        guessed = batch["data"].reshape(len(batch["data"]), -1) @ self.weights
        return {"wrong": abs(guessed - batch["bright"]) > 0.1}


def train(epochs: list[Any]) -> Any:
    """The weights of a linear model that tells how bright a picture is."""
    try:
        import torch
    except ImportError:
        weights = numpy.zeros(64, "float32")
        for epoch in epochs:
            for batch in epoch.iter_batches(batch_size=64):
                pictures = batch["data"].reshape(-1, 64)
                wrong = pictures @ weights - batch["bright"]
                weights -= 0.05 * (pictures.T @ wrong).astype("float32") / len(wrong)
        print("with NumPy")
        return weights
    model = torch.nn.Linear(64, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025)
    for epoch in epochs:
        for batch in epoch.iter_torch_batches(batch_size=64):  # tensors in the memory of Ray's blocks
            optimizer.zero_grad()
            guessed = model(batch["data"].flatten(1)).squeeze(1)
            torch.nn.functional.mse_loss(guessed, batch["bright"].float()).backward()
            optimizer.step()
    print("with PyTorch")
    return model.weight.detach().numpy()[0]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bucket = Path(folder, "bucket")
        bucket.mkdir()
        rows = []
        pixels = numpy.random.default_rng(1)
        for number in range(512):
            blob = pixels.integers(0, 256, SHAPE, "uint8") // (1 + number % 4)
            digest = hashlib.sha1(blob.tobytes()).hexdigest()
            (bucket / digest).write_bytes(blob.tobytes())
            rows.append({"sha1": digest, "bright": float(blob.mean()) / 255})

        store = Sha1Composite()
        store.append_cache(DiskCache(f"{folder}/cache", max_size="1GB"), name="disk")
        store.append_source(Sha1Store(FileRaw(), bucket.as_uri() + "/", verify=True), name="bucket")

        here: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"address": "local", "num_gpus": 1}
        ray.init(include_dashboard=False, log_to_driver=False, **here)
        try:
            gpus = int(any("GPU" in node["Resources"] for node in ray.nodes()))  # type: ignore[no-untyped-call]
            with NodePool(store, private=True) as pool:
                listed = ray.data.from_items(rows)
                fetched = fetch_blobs(
                    listed, store, pool=pool, decode=picture, decoded_type=("float32", SHAPE), errors="raise"
                )
                pictures = fetched.select_columns(["data", "bright"])
                weights = train([pictures.random_shuffle(seed=epoch) for epoch in range(2)])
                tried = pictures.map_batches(
                    Loss,
                    fn_constructor_args=[weights],
                    compute=ray.data.ActorPoolStrategy(size=1),
                    num_gpus=gpus,  # it begins while blobs are still being fetched, and waits for no download itself
                    batch_size=128,
                )
                wrong = sum(int(batch["wrong"].sum()) for batch in tried.iter_batches())
                hits = pool.stats().groupby("tier")["hits"].sum()
            print(f"{wrong} of {len(rows)} are wrong, on {gpus} GPUs")
            print(f"from the bucket: {hits['bucket']}, from disks: {hits['disk']}")
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
