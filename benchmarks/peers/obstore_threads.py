"""obstore, blocking, in looping threads. It verifies nothing; with `verify` in the job, `hashlib` does here."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from .threads import looping

DISTRIBUTIONS = ("obstore",)


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    obstore: Any = importlib.import_module("obstore")
    stores: Any = importlib.import_module("obstore.store")
    store = stores.S3Store(
        job["bucket"],
        endpoint=job["url"],
        access_key_id="bench",
        secret_access_key="bench",
        region="us-east-1",
        virtual_hosted_style_request=False,
        metadata_endpoint="http://127.0.0.1:9",
        client_options={"allow_http": True},
    )

    def get(name: str) -> int:
        return len(obstore.get(store, name).bytes())

    def get_verified(name: str) -> int:
        data = obstore.get(store, name).bytes()
        if hashlib.sha1(data, usedforsecurity=False).hexdigest() != name:
            raise ValueError(f"{name}: other bytes")
        return len(data)

    return lambda names: looping(get_verified if job.get("verify") else get, names, job["threads"])
