"""Blobs for PyTorch's DataLoader: a dataset by position, and a stream.

    loader = DataLoader(BlobDataset(store, digests, decode=to_tensor), batch_size=64, shuffle=True, num_workers=4)

PyTorch itself is imported where a `BlobStream` is made, if it is installed, and nowhere else.
"""

from __future__ import annotations

from bitstore.torch._dataset import BlobDataset
from bitstore.torch._stream import BlobStream

__all__ = ["BlobDataset", "BlobStream"]
