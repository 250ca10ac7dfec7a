"""A Ray cluster of several nodes on this machine, for contestants that are drivers of it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.envs import HERE

__all__ = ["Nodes"]

_STORE_BYTES = 600 << 20  # of each node, in shared memory


class Nodes:
    """A head that takes no work and nodes with two CPUs each, while the block runs.

    Parameters
    ----------
    count
        How many nodes.
    url
        The origin, as the nodes' environment names it to SDKs.

    Attributes
    ----------
    address
        For `ray.init` in other processes.
    raylets
        Process ids of the nodes' raylets, whose descendants the workers are.
    """

    def __init__(self, count: int, url: str) -> None:
        self._count = count
        self._url = url
        # Short, because a socket's path has 107 characters at most.
        self._folder = Path(tempfile.mkdtemp(prefix="bs-ray-"))
        self._before = dict(os.environ)
        self._cluster: Any = None
        self.address = ""
        self.raylets: list[int] = []

    def __enter__(self) -> Nodes:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        # What Ray starts inherits it: made-up keys, no configuration of the user's, no telemetry.
        for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "BITSTORE_", "RAY_"))]:
            del os.environ[name]
        os.environ.update(
            PYTHONPATH=os.pathsep.join([str(HERE.parent), str(HERE)]),
            AWS_ACCESS_KEY_ID="bench",
            AWS_SECRET_ACCESS_KEY="bench",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_REGION="us-east-1",
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            AWS_ENDPOINT_URL=self._url,
            AWS_ALLOW_HTTP="true",
            AWS_EC2_METADATA_DISABLED="true",
            NO_GCE_CHECK="true",
            GCE_METADATA_HOST="127.0.0.1:9",
            RAY_USAGE_STATS_ENABLED="0",
        )
        if sys.path[0] != str(HERE.parent):
            sys.path.insert(0, str(HERE.parent))
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": 200 << 20,
                "include_dashboard": False,
                "temp_dir": str(self._folder / "ray"),
                # It looks at the whole machine, where other programs may take what memory they like.
                "_system_config": {"memory_monitor_refresh_ms": 0},
            },
        )
        self.address = self._cluster.address
        for number in range(self._count):
            node = self._cluster.add_node(
                wait=False,
                num_cpus=2,
                object_store_memory=_STORE_BYTES,
                env_vars={"BITSTORE_CACHE_DIR": str(self._folder / f"n{number}")},
            )
            self.raylets.append(node.all_processes["raylet"][0].process.pid)
        self._cluster.wait_for_nodes()

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        try:
            if self._cluster is not None:
                self._cluster.shutdown()
        finally:
            os.environ.clear()
            os.environ.update(self._before)
            shutil.rmtree(self._folder, ignore_errors=True)
