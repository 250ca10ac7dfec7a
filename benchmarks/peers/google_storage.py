"""google-cloud-storage, in looping threads, through the JSON API."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from .threads import looping

DISTRIBUTIONS = ("google-cloud-storage", "requests")


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    storage: Any = importlib.import_module("google.cloud.storage")
    adapters: Any = importlib.import_module("requests.adapters")
    anonymous: Any = importlib.import_module("google.auth.credentials").AnonymousCredentials()
    # It says for each blob that the server sent no checksum to compare.
    logging.getLogger("google").setLevel(logging.ERROR)
    client = storage.Client("bench", anonymous, client_options={"api_endpoint": job["url"]})
    # By default it keeps 10 connections: that would not be fair.
    client._http.mount("http://", adapters.HTTPAdapter(pool_maxsize=job["threads"]))
    bucket = client.bucket(job["bucket"])

    def get(name: str) -> int:
        return len(bucket.blob(name).download_as_bytes())

    return lambda names: looping(get, names, job["threads"])
