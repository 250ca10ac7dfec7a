"""What processes do with a ledger of misses, in a module that others can import."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from bitstore import FileRaw, MissLedger, NotFoundInStore, RemembersMisses, Sha1Composite, Sha1Store, SharedMisses
from tests.limit_workers import LimitedAPI
from tests.stores import composed, sha1

__all__ = ["DIGESTS", "folder_source", "job", "run", "shared_in"]

DIGESTS = [sha1(f"{number}".encode()) for number in range(200)]


def job(url: str, ledger: MissLedger, *above: Any, **options: Any) -> Sha1Composite:
    """A composite over a paid API whose misses are remembered."""
    return composed(*above, RemembersMisses(LimitedAPI(url, None), ledger, name="api", **options))


def run(store: Sha1Composite, digests: list[str]) -> dict[str, int]:
    """How many of the blobs were found, missing, and failed."""
    told = {"found": 0, "missing": 0, "failed": 0}
    for blob in store.get_many(digests):
        told["found" if blob.found else "missing" if isinstance(blob.error, NotFoundInStore) else "failed"] += 1
    return told


def folder_source(folder: Path, ledger: MissLedger, **options: Any) -> RemembersMisses:
    """A free source in a folder, which can be written."""
    folder.mkdir(exist_ok=True)
    return RemembersMisses(Sha1Store(FileRaw(), f"file://{folder}/", verify=True), ledger, name="folder", **options)


def shared_in(folder: Path, **options: Any) -> SharedMisses:
    return SharedMisses(FileRaw(), f"file://{folder}/", **options)


def ask_until_killed(url: str, path: str, share: str) -> None:
    """Ask for one missing blob after another, and tell each that was reported as missing."""
    ledger = MissLedger(path, share=shared_in(Path(share)) if share else None)
    store = job(url, ledger)
    for number in range(1_000_000):
        digest = sha1(f"{os.getpid()} {number}".encode())
        try:
            store.get(digest)
        except NotFoundInStore:
            print(digest, flush=True)


def put_until_killed(folder: str, path: str) -> None:
    """Look up a blob that is missing and put it then, again and again; tells what was begun and what was put."""
    source = folder_source(Path(folder), MissLedger(path))
    for number in range(1_000_000):
        data = f"{os.getpid()} {number}".encode()
        for _ in range(2):
            try:
                source.get(sha1(data))
            except NotFoundInStore:
                continue
        print("begun", sha1(data), flush=True)
        source.put(sha1(data), data)
        print("put", sha1(data), flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
