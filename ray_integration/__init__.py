"""bitstore on Ray: the blobs of a dataset of digests, fetched by `ray.data.map_batches`.

Importing this starts no Ray and imports none: that happens when a dataset is given to `fetch_blobs`.
"""

from __future__ import annotations

from bitstore._warming.report import WarmReport
from ray_integration._fetch.batch_udf import FetchBlobs
from ray_integration._fetch.dataset import fetch_blobs
from ray_integration._fetch.placement import CannotBePlaced
from ray_integration._limits.cluster_budget import ClusterBudget
from ray_integration._limits.cluster_limit import ClusterLimit
from ray_integration._limits.cluster_rate import ClusterRate
from ray_integration._node.decoding import DecodeNotLoaded
from ray_integration._node.versions import VersionMismatch
from ray_integration._pool.pool import NodePool, PoolError
from ray_integration._pool.report import PoolReport
from ray_integration._warm.warm import warm

__all__ = [
    "CannotBePlaced",
    "ClusterBudget",
    "ClusterLimit",
    "ClusterRate",
    "DecodeNotLoaded",
    "FetchBlobs",
    "NodePool",
    "PoolError",
    "PoolReport",
    "VersionMismatch",
    "WarmReport",
    "fetch_blobs",
    "warm",
]
