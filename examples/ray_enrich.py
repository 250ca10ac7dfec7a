"""Enrich a dataset from an API that costs money: each digest is paid for once, however often and wherever it occurs.

Run it as it is: python examples/ray_enrich.py
It uses the cluster that RAY_ADDRESS names or that runs on this machine, or else starts a Ray here
(RAY_ADDRESS=local: always). In your own code the API is yours, and the cache above
it is a bucket that all nodes can reach.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow
import ray

from bitstore import FileRaw, Sha1APISource, Sha1Cache, Sha1Composite
from ray_integration import NodePool, fetch_blobs

CALLS: Counter[str] = Counter()


class PretendAPI(BaseHTTPRequestHandler):
    """Knows what is on each picture, except on those whose digest begins with 0. Counts what you would pay for."""

    def do_GET(self) -> None:
        """Answer `/labels/<digest>`."""
        digest = self.path.rpartition("/")[2]
        CALLS[digest] += 1
        answer = json.dumps({"label": "cat" if int(digest, 16) % 2 else "dog"}).encode()
        self.send_response(404 if digest.startswith("0") else 200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Labels(Sha1APISource):
    """The API as a store: digest in, bytes out."""

    def __init__(self, address: str) -> None:
        super().__init__()  # no verify=True: what comes back is about the blob, not the blob itself
        self.address = address

    def api_get(self, digest: str) -> bytes | None:
        """Ask the API; None: it says that it has nothing."""
        try:
            with urllib.request.urlopen(f"{self.address}/labels/{digest}", timeout=30) as answer:
                label: bytes = answer.read()
                return label
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise  # anything else: failed, not missing


def parse(batch: pyarrow.Table) -> pyarrow.Table:
    """The answers as a column."""
    labels = [None if data is None else json.loads(data)["label"] for data in batch.column("data").to_pylist()]
    return batch.drop_columns(["data"]).append_column("label", pyarrow.array(labels, pyarrow.string()))


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), PretendAPI)
    Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        store = Sha1Composite()
        store.append_cache(Sha1Cache(FileRaw(), Path(folder).as_uri() + "/labels/"), name="paid for")
        store.append_source(Labels(f"http://127.0.0.1:{server.server_port}"), name="API")

        digests = [hashlib.sha1(f"picture {number}".encode()).hexdigest() for number in range(200)]
        rows = [{"sha1": digests[row % 200], "shop": row} for row in range(1000)]  # each picture in five shops

        ray.init(include_dashboard=False, log_to_driver=False)
        try:
            with NodePool(store, private=True) as pool:
                for attempt in ("first", "second"):
                    ds = fetch_blobs(ray.data.from_items(rows), store, pool=pool, routing="owner", batch_size=250)
                    table = ds.map_batches(parse, batch_format="pyarrow").to_pandas()
                    asked = sum(CALLS[digest] for digest in digests if not digest.startswith("0"))
                    unlabelled = int(table["label"].isna().sum())
                    print(f"{attempt}: {len(table)} rows, {unlabelled} without a label, {asked} answers paid for")
                print(pool.stats().groupby("tier")[["hits", "misses", "failures"]].sum().to_string())
        finally:
            ray.shutdown()
            server.shutdown()


if __name__ == "__main__":
    main()
