"""Blobs far above 64 MB: in memory, and streamed to a file where the contestant can do that."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DISTRIBUTIONS = ("obstore",)


def start(job: dict[str, Any]) -> Callable[[Iterator[str]], dict[str, Any]]:
    get = _HOW[job["how"]](job)

    def fetch(names: Iterator[str]) -> dict[str, Any]:
        sizes = [get(name) for name in names]
        return {"blobs": len(sizes), "bytes": sum(sizes)}

    return fetch


def _store(job: dict[str, Any]) -> Any:
    from bitstore import S3Raw, Sha1Store

    return Sha1Store(S3Raw(endpoint_url=job["url"]), f"s3://{job['bucket']}/", verify=job["verify"])


def _ours_get(job: dict[str, Any]) -> Callable[[str], int]:
    store = _store(job)
    return lambda name: len(store.get(name))


def _ours_download(job: dict[str, Any]) -> Callable[[str], int]:
    store = _store(job)

    def get(name: str) -> int:
        path = Path(job["folder"]) / name
        store.download(name, path)
        size = path.stat().st_size
        path.unlink()
        return size

    return get


def _obstore_get(job: dict[str, Any]) -> Callable[[str], int]:
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
    return lambda name: len(obstore.get(store, name).bytes())


_HOW = {"ours": _ours_get, "download": _ours_download, "obstore": _obstore_get}
