"""What processes of a cluster warn of is heard where the job was started, once from each of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_cluster import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

# As in a container whose user is in no list of users: Python finds no home.
HOMELESS = """
import os, pwd
for name in ("HOME", "XDG_CACHE_HOME", "BITSTORE_CACHE_DIR"):
    os.environ.pop(name, None)
def lacks(*_):
    raise KeyError("uid not found")
pwd.getpwuid = lacks
"""

JOB = """
import sys
import ray, ray.data
from bitstore import DiskCache, Sha1Composite
from ray_integration import fetch_blobs
from tests.ray_stores import FullCache, MadeStore

store = Sha1Composite()
store.append_cache(DiskCache())
store.append_cache(FullCache(), name="full")
store.append_source(MadeStore(50), name="made")
ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20)
rows = [{"sha1": f"{number:040x}"} for number in range(300)]
for routing in ("direct", "local"):
    ds = fetch_blobs(ray.data.from_items(rows), store, routing=routing, actors=1, batch_size=50)
    print(routing, sorted({row["source"] for row in ds.take_all()}))
"""


def test_warnings_of_actors_and_node_stores_reach_the_driver_once_from_each(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOMELESS)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")},
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "RAY_DEDUP_LOGS": "0",
        "RAY_AUTH_MODE": "disabled",  # Ray keeps its token in the home folder, unless there is one already
    }
    done = subprocess.run(
        [sys.executable, "-c", JOB], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180
    )
    assert done.stdout.splitlines()[-2:] == ["direct ['made']", "local ['made']"], done.stderr
    heard = done.stdout + done.stderr
    for warning in ("could not keep a blob", "blobs are not kept"):
        # The name of the actor, and its process: one that fetches by itself, and one node store.
        writers = re.findall(rf"\((MapWorker|NodeStore)[^\n]*?pid=(\d+)\)[^\n]*{warning}", heard)
        assert {name for name, _ in writers} == {"MapWorker", "NodeStore"}, heard
        assert len(writers) == len(set(writers)), heard
