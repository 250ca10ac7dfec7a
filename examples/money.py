"""Plan a job, give it a budget, and see what it came to: a bucket that bills requests, and an API that bills calls."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from pretend import Answer, service  # type: ignore[import-not-found]

import bitstore
from bitstore import Budget, Price, Sha1APISource, Sha1Composite, Sha1Store

BLOBS = [f"blob {number}".encode() * 50 for number in range(2000)]
DIGESTS = [hashlib.sha1(blob).hexdigest() for blob in BLOBS]
BY_DIGEST = dict(zip(DIGESTS, BLOBS, strict=True))
BUCKET = Price(per_1000_reads="0.0004 USD", egress_per_gb="0.09 USD")


class Shop(Sha1APISource):
    """An API that asks for half a cent for each call."""

    def __init__(self, url: str) -> None:
        super().__init__(verify=True, price="0.005 USD")
        self.url = url

    def api_get(self, digest: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"{self.url}/shop/{digest}") as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def main(url: str, folder: Path) -> None:
    store = Sha1Composite()
    store.append_cache(bitstore.DiskCache(folder / "cache", "1GB"), name="disk")
    store.append_source(Sha1Store(bitstore.HTTPRaw(price=BUCKET), f"{url}/bucket/"), name="bucket")
    store.append_source(Shop(url), name="shop")

    plan = store.plan(DIGESTS, sample=500, seed=1)
    assert plan.money is not None
    print(f"planned: {plan.money}, {plan.hours(per_second=100).expected:.3f} hours")

    receipts = folder / "receipts.sqlite"
    store.budget = Budget("0.5 USD", state=receipts)  # too little: the job stops before it would be passed
    for digest in DIGESTS:
        try:
            store.get(digest)
        except bitstore.LookupFailed as error:
            if not any(isinstance(cause, bitstore.BudgetReached) for _, cause in error.failures):
                raise
            print(f"stopped: {store.budget.spent} of {store.budget}")
            break

    store.budget = Budget("2 USD", state=receipts)  # resumed: the cache has what was paid for
    found = sum(blob.found for blob in store.get_many(DIGESTS))
    print(f"found {found} of {len(DIGESTS)}")
    for name, spent in store.budget.receipt().items():
        print(f"{name}: {spent}")


def answer(method: str, path: str, body: bytes) -> Answer:
    """What the pretended services say: the bucket has nine in ten blobs, the shop all."""
    digest = path.rpartition("/")[2]
    has = path.startswith("/shop/") or int(digest[:2], 16) < 230
    return (200, BY_DIGEST[digest], {}) if has else (404, b"not here", {})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, service(answer) as address:
        main(address, Path(scratch))
