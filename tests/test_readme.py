"""The README's code runs as it stands there, against real servers."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from google.cloud.exceptions import Conflict

from bitstore import NotFoundInStore
from tests.ray_cluster import leave_nothing
from tests.servers import FakeGCS, SeaweedS3
from tests.stores import blobs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(word: str) -> str:
    """The first block in which `word` occurs."""
    return str(next(text for text in BLOCKS if word in text))


FIRST, CACHE, LIMITS, RAY = (
    block("DiskCache("),
    block("MyAPIStore(Sha1APISource)"),
    block("CallLimit("),
    block("fetch_blobs(ds"),
)
KNOWN = "4bc39c7d87318382feb3cc5a684c767fbd913968"


@pytest.fixture
def held(aws_env: SeaweedS3, gcs_env: FakeGCS) -> dict[str, bytes]:
    """Blobs spread over the README's places."""
    made = blobs(30)
    client = aws_env.client()
    with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket="aws-customer-data")
    for name in ("my_project", "cache_for_api"):
        with contextlib.suppress(Conflict):
            gcs_env.create_bucket(name)
    for number, (digest, data) in enumerate(made.items()):
        if number % 3 == 0:
            aws_env.put("aws-customer-data", f"files/{digest}", data)
        elif number % 3 == 1:
            gcs_env.put("my_project", f"{digest[:2]}/{digest}.gz", gzip.compress(data))
    return made


def placed(code: str, folder: Path, known: str = KNOWN) -> str:
    """The code with its files in a folder that tests may write, and with a digest that is there."""
    return code.replace("/mnt/nvme/blobs", str(folder / "cache")).replace("/mnt/", f"{folder}/").replace(KNOWN, known)


def run_on_ray(code: str, folder: Path, shared_ray: Any) -> str:
    """What the code says as a program in `folder`, on the Ray that tests share."""
    env = {name: text for name, text in os.environ.items() if name.startswith(("AWS_", "GOOGLE_", "STORAGE_"))}
    options = {
        "address": shared_ray.address_info["gcs_address"],
        "log_to_driver": False,
        "runtime_env": {"env_vars": env},  # that Ray was started before the servers were named
    }
    program = folder / "program.py"
    for name in ("hashes.parquet", "blobs/"):  # the workers of that Ray are in another folder
        code = code.replace(f'"{name}"', f'"{folder}/{name}"')
    program.write_text(f"import ray; ray.init(**{options!r})\nhashes = []\n{code}")
    done = subprocess.run([sys.executable, program], cwd=folder, capture_output=True, text=True, timeout=240)
    leave_nothing()
    assert done.returncode == 0, done.stderr
    return done.stdout


class Client:
    def __init__(self, held: dict[str, bytes]) -> None:
        self.held = held
        self.calls: list[str] = []

    def get_bytes(self, digest: str) -> bytes | None:
        self.calls.append(digest)
        return self.held.get(digest)


def test_the_readme_runs_locally(held: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digests = list(held)
    client = Client(held)
    names: dict[str, Any] = {"hashes": digests, "client": client}
    exec(placed(FIRST, tmp_path, digests[0]), names)
    assert names["data"] == held[digests[0]]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 30
    assert sum(line.endswith("None") for line in printed) == 20  # the last ten are only in the API, which comes now
    exec(CACHE, names)
    for _ in range(2):
        assert {blob.uri: blob.data for blob in names["store"].get_many(digests)} == held
    assert sorted(client.calls) == sorted(digests[2::3])
    assert "/var/tmp/my-api.sqlite" in LIMITS
    exec(LIMITS.replace("/var/tmp/my-api.sqlite", str(tmp_path / "state" / "limits.sqlite")), names)
    assert names["source"].get(digests[2]) == held[digests[2]]
    for _ in range(2):
        with pytest.raises(NotFoundInStore):
            names["source"].get("0" * 40)
    assert client.calls[-2:] == [digests[2], "0" * 40]
    assert (tmp_path / "state" / "limits.sqlite").exists()


def test_the_readme_runs_on_ray(held: dict[str, bytes], tmp_path: Path, shared_ray: Any) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"sha1": list(held)}), tmp_path / "hashes.parquet")
    run_on_ray(placed(FIRST, tmp_path).replace("data = store.get", "lambda: store.get") + RAY, tmp_path, shared_ray)
    table = pyarrow.parquet.read_table(tmp_path / "blobs")
    rows = {row["sha1"]: row for row in table.to_pylist()}
    digests = list(held)
    assert set(rows) == set(digests)
    for number, digest in enumerate(digests):
        if number % 3 == 2:
            assert rows[digest]["data"] is None and rows[digest]["error"].startswith("missing: ")
        else:
            assert rows[digest]["data"] == held[digest] and rows[digest]["error"] is None
