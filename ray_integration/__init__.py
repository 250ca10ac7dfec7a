"""bitstore on Ray: the blobs of a dataset of digests, fetched by `ray.data.map_batches`.

Importing this starts no Ray and imports none: that happens when a dataset is given to `fetch_blobs`.
"""

from __future__ import annotations

from bitstore._warming.report import WarmReport
from ray_integration.data import FetchBlobs
from ray_integration.dataset import fetch_blobs
from ray_integration.limits import ClusterLimit
from ray_integration.node import VersionMismatch
from ray_integration.placement import CannotBePlaced
from ray_integration.pool import NodePool, PoolError
from ray_integration.rates import ClusterRate
from ray_integration.warm import warm

__all__ = [
    "CannotBePlaced",
    "ClusterLimit",
    "ClusterRate",
    "FetchBlobs",
    "NodePool",
    "PoolError",
    "VersionMismatch",
    "WarmReport",
    "fetch_blobs",
    "warm",
]
