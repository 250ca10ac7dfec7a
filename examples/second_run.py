"""A nightly job over a growing list: what the API said it lacks is not paid for again the next night.

    python examples/second_run.py

The API is pretended on this machine: it has 70 % of the blobs, and bills each call.
"""

from __future__ import annotations

import hashlib
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from pretend import Answer, service  # type: ignore[import-not-found]

from bitstore import FileRaw, MissLedger, NotFoundInStore, RemembersMisses, Sha1APISource, Sha1Cache, Sha1Composite

BLOBS = {hashlib.sha1(data).hexdigest(): data for data in (f"blob {n}".encode() for n in range(200))}
SOLD = dict(list(BLOBS.items())[:140])
calls = 0


class PaidAPI(Sha1APISource):
    """An API that is paid per call."""

    def __init__(self, address: str) -> None:
        super().__init__(verify=True)
        self.address = address

    def api_get(self, digest: str) -> bytes | None:
        """The blob; None where the API says that it lacks it."""
        try:
            with urllib.request.urlopen(f"{self.address}/{digest}", timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise  # a failure, which is not remembered


def pretend(_: str, path: str, __: bytes) -> Answer:
    """The API."""
    global calls
    calls += 1
    data = SOLD.get(path[1:])
    return (404, b"", {}) if data is None else (200, data, {})


def night(address: str, folder: Path) -> Sha1Composite:
    """The job of one night, as a process of its own would make it."""
    store = Sha1Composite()
    store.append_cache(Sha1Cache(FileRaw(), f"{folder.as_uri()}/bought/"), name="bought")
    # On a cluster: MissLedger(path, share=SharedMisses(S3Raw(), "s3://bucket/misses/"))
    ledger = MissLedger(folder / "misses.sqlite")
    store.append_source(RemembersMisses(PaidAPI(address), ledger, name="paid-api", lifetime="30 days"), name="API")
    missing = sum(blob.missing for blob in store.get_many(BLOBS))
    print(f"{missing} missing, {calls} calls in all, {store.stats()['API'].remembered} answered by the ledger")
    return store


with tempfile.TemporaryDirectory() as scratch, service(pretend) as address:
    folder = Path(scratch)
    (folder / "bought").mkdir()
    night(address, folder)
    assert calls == 200
    store = night(address, folder)
    assert calls == 200, "the second night pays for nothing"
    [unknown] = store.get_many(list(BLOBS)[-1:])
    assert isinstance(unknown.error, NotFoundInStore)
    print(unknown.error.why)
