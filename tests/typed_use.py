"""What a type checker sees of the public API: checked by mypy, and by pyright in `make wheel-test`."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_type

from bitstore import Blob, Composite, DigestStore, S3Raw, Sha1APISource, Sha1Composite, Stats, Store


class Client:
    """A user's client."""

    def get_bytes(self, digest: str) -> bytes | None:
        """The bytes."""
        return digest.encode()


class MyAPI(Sha1APISource):
    """Names its arguments as it likes."""

    def __init__(self, client: Client) -> None:
        super().__init__(verify=True)
        self.client = client

    def api_get(self, sha1: str) -> bytes | None:
        """The bytes."""
        return self.client.get_bytes(sha1)


class Mine(Store):
    """Names its arguments as it likes."""

    def is_valid(self, key: str) -> bool:
        """Any text."""
        return bool(key)

    def get(self, key: str) -> bytes:
        """The bytes."""
        return key.encode()

    def put(self, key: str, blob: bytes) -> None:
        """Nothing is kept."""


def fetch(store: Sha1Composite, raw: S3Raw, digest: str) -> bytes:
    """Returns what `get` returns without a cast."""
    store.append_cache(Mine())
    store.append_source(MyAPI(Client()))
    assert_type(store.get_many([digest]), Iterator[Blob])
    assert_type(store.stats(), Stats)
    assert_type(store.download(digest, "blob"), str)
    assert_type(raw.get("s3://bucket/key"), bytes)
    return store.get(digest)


def others(store: Composite, digests: DigestStore) -> tuple[bytes, bytes]:
    """Composites and digest stores return bytes."""
    return store.get("x", timeout=3), digests.get("x")


def sizes(blobs: Iterator[Blob]) -> list[int]:
    """Data of a blob is bytes where there is any."""
    return [len(blob.data) for blob in blobs if blob.data is not None]
