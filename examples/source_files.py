"""Source files by hash, next to the rows of a Parquet table: Software Heritage's mirror first, its API for the rest.

    python examples/source_files.py

The archive is pretended on this machine; the real one: `S3Raw.anonymous()` and https://archive.softwareheritage.org.
"""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import time
from typing import Any
from urllib import error, request

import ray
from pretend import Answer, service  # type: ignore[import-not-found]
from pyarrow import parquet, table

from bitstore import ANONYMOUS, DiskCache, S3Raw, Sha1APISource, Sha1Composite, Sha1Store, TooManyRequests
from ray_integration import fetch_blobs

FILES = {hashlib.sha1(text).hexdigest(): text for text in (f"# café {n}\n".encode("latin-1") for n in range(100))}
IN_THE_MIRROR = list(FILES)[:95]
CALLS: list[str] = []  # of the API


class Archive(Sha1APISource):
    """The archive's API: few calls an hour, so it comes last, and its answers are kept."""

    def __init__(self, address: str) -> None:
        super().__init__(verify=True, remember_missing=3600)
        self.address = address

    def api_get(self, digest: str) -> bytes | None:
        """The bytes; None where the archive says that it lacks them."""
        try:
            with request.urlopen(f"{self.address}/api/1/content/sha1:{digest}/raw/", timeout=30) as answer:
                return bytes(answer.read())
        except error.HTTPError as refused:
            if refused.code == 404:
                return None
            if refused.code == 429:  # the header says when calls are allowed again
                raise TooManyRequests(float(refused.headers["X-RateLimit-Reset"]) - time.time()) from refused
            raise


def decoded(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the text of its file, by the encoding that the table names."""
    return {**row, "text": None if row["kind"] else row["data"].decode(row["src_encoding"])}


def pretend(_: str, path: str, __: bytes) -> Answer:
    """The mirror's bucket, compressed; or the API, which has every file and refuses its first call."""
    digest = path.removesuffix("/raw/")[-40:]
    if path.startswith("/softwareheritage/"):
        here = digest in IN_THE_MIRROR
        return (200, gzip.compress(FILES[digest]), {}) if here else (404, b"<Error><Code>NoSuchKey</Code></Error>", {})
    CALLS.append(digest)
    if len(CALLS) == 1:
        return 429, b"", {"X-RateLimit-Reset": str(int(time.time()) + 1)}
    return (200, FILES[digest], {}) if digest in FILES else (404, b"", {})


with tempfile.TemporaryDirectory() as folder, service(pretend) as address, ray.init(include_dashboard=False):
    files = table({"blob_id": [*FILES, "0" * 40], "src_encoding": ["ISO-8859-1"] * 101, "row": range(101)})
    parquet.write_table(files, f"{folder}/files.parquet")
    bucket = S3Raw(ANONYMOUS, endpoint_url=address, region="us-east-1")
    mirror = Sha1Store(bucket, "s3://softwareheritage/content/", compression="gzip", verify=True)
    store = Sha1Composite()
    store.append_cache(DiskCache(f"{folder}/cache", max_size="1GB"))
    store.append_source(mirror, name="mirror")
    store.append_source(Archive(address), name="archive")
    ds = fetch_blobs(ray.data.read_parquet(f"{folder}/files.parquet"), store, "blob_id", kind_column="kind")
    ds.map(decoded).write_parquet(f"{folder}/texts")
    rows = parquet.read_table(f"{folder}/texts").to_pylist()
print(sum(row["text"] == f"# café {row['row']}\n" for row in rows), "texts,", len(CALLS), "calls of the API")
print(*[f"row {row['row']}: {row['kind']}" for row in rows if row["kind"]])
