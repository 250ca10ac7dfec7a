"""A dataset of blobs for PyTorch: the cache is warmed before the training, and a batch is one lookup of many digests.

    python examples/torch_dataset.py

`torch.utils.data.DataLoader(BlobDataset(store, hashes), batch_size=64, num_workers=2)` is all it takes. Without PyTorch
this script does what the DataLoader does, in processes of its own.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bitstore import DiskCache, FileRaw, Sha256Composite, Sha256Store
from bitstore.torch import BlobDataset


def number(data: bytes) -> int:
    """A sample of a blob's bytes, made in the worker: for you, the pixels of an image."""
    return int(data.split()[1])


def batches(dataset: BlobDataset, size: int) -> Any:
    """One epoch in random order, as lists of samples."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        order = random.sample(range(len(dataset)), len(dataset))
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        with multiprocessing.get_context("spawn").Pool(2) as workers:
            yield from workers.imap(dataset.__getitems__, parts)
    else:
        yield from DataLoader(dataset, size, shuffle=True, num_workers=2, collate_fn=list)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Sha256Store(FileRaw(), f"file://{folder}/bucket/", verify=True)
        made = [f"sample {number}".encode() for number in range(500)]
        hashes = [hashlib.sha256(data).hexdigest() for data in made]
        for digest, data in zip(hashes, made, strict=True):
            source.put(digest, data)
        store = Sha256Composite()
        cache = DiskCache(Path(folder, "cache"), max_size="100MB")
        store.append_cache(cache)
        store.append_source(source)
        # The job before the training; for long lists `bitstore warm` notes in a ledger how far it has come.
        absent = [blob.uri for blob in store.get_many(hashes) if not blob.found]
        assert not absent
        shutil.rmtree(Path(folder, "bucket"))  # no epoch needs the bucket
        for epoch in (1, 2):
            dataset = BlobDataset(store, hashes, decode=number, targets=range(500))
            seen = [sample for batch in batches(dataset, 64) for sample in batch]
            assert sorted(seen) == [(number, number) for number in range(500)]
            print(f"epoch {epoch}: {len(seen)} samples, {cache.verify_all().checked} blobs in the cache")


if __name__ == "__main__":
    main()
