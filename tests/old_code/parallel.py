"""Old code as a program: maps hashes through a composite with ultima and prints what came out, as JSON.

Arguments, as JSON: module ("epic.bitstore" or "bitstore"), backend, used (whether the parent has used the
store before), s3, gcs (URL prefixes), api (URL), hashes, errors.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import urllib.error
import urllib.request
from typing import Any

TOLD = json.loads(sys.argv[1])  # a spawned process gets the arguments of its parent
library: Any = importlib.import_module(TOLD["module"])


class MyAPIStore(library.Sha1APISource):  # type: ignore[misc]
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def api_get(self, sha1: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"{self.url}/blob/{sha1}", timeout=60) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def main() -> None:
    from ultima import ultimap

    store = library.Sha1Composite()
    store.append_source(library.Sha1Store(library.S3Raw(), TOLD["s3"]))
    store.append_source(library.Sha1Store(library.GSRaw(), TOLD["gcs"]))
    store.append_source(MyAPIStore(TOLD["api"]))
    hashes = TOLD["hashes"]
    if TOLD["used"]:
        for sha1 in hashes[:3]:
            store.get(sha1)
        list(store.get_many(hashes[:10]))
    answers = ultimap(
        store.get, hashes, backend=TOLD["backend"], n_workers=3, ordered=True, errors=TOLD.get("errors", "raise")
    )
    told = [
        hashlib.sha1(answer).hexdigest() if isinstance(answer, bytes) else f"{type(answer).__name__}: {answer}"
        for answer in answers
    ]
    # The parent goes on as before.
    if TOLD["used"]:
        told.append(hashlib.sha1(store.get(hashes[0])).hexdigest())
    print(json.dumps(told))


if __name__ == "__main__":
    main()
