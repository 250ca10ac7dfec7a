"""bitstore on Ray: the blobs of a dataset of digests, fetched by `ray.data.map_batches`.

Importing this starts no Ray and imports none: that happens when a dataset is given to `fetch_blobs`.
"""

from __future__ import annotations

from ray_integration.data import FetchBlobs, fetch_blobs
from ray_integration.node import VersionMismatch
from ray_integration.pool import NodePool, PoolError

__all__ = ["FetchBlobs", "NodePool", "PoolError", "VersionMismatch", "fetch_blobs"]
