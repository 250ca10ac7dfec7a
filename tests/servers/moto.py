"""moto as a second S3 server, with identity and access management where a test asks for it."""

from __future__ import annotations

import json
import secrets
import sys
import urllib.request
from typing import Any, ClassVar

from tests.servers.process import ProgramServer, free_ports
from tests.servers.s3 import REGION, Identity, boto3_client

__all__ = ["MotoServer"]

_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


class MotoServer(ProgramServer):
    """One moto server.

    Parameters
    ----------
    auth
        Check signatures and the users' policies. Without it everybody may do everything.
    """

    name: ClassVar[str] = "moto"
    region: ClassVar[str] = REGION

    def __init__(self, *, auth: bool = False) -> None:
        super().__init__()
        self.auth = auth
        self.port = 0
        self.admin = Identity("admin")

    @property
    def endpoint_url(self) -> str:
        """Where all services answer."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, identity: Identity | None = None, *, service: str = "s3") -> Any:
        """A boto3 client, for the administrator unless told otherwise."""
        return boto3_client(service, self.endpoint_url, identity or self.admin)

    def create_bucket(self, name: str | None = None) -> str:
        """Make a bucket (with a fresh name unless given)."""
        name = name or f"bucket-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def add_user(self, name: str, *statements: dict[str, Any]) -> Identity:
        """Make a user with one policy of these statements, such as `{"Effect": "Allow", "Action": ..., ...}`."""
        iam = self.client(service="iam")
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return Identity(name, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])

    def _command(self) -> list[str]:
        (self.port,) = free_ports(1)
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def _is_ready(self) -> bool:
        # It says so itself, once the port is its own: an answer alone might come from a stranger on that port.
        if b"Running on" not in self.log.read_bytes():
            return False
        with urllib.request.urlopen(f"{self.endpoint_url}/moto-api/", timeout=10) as answer:
            return bool(answer.status == 200)

    def _prepare(self) -> None:
        if not self.auth:
            return
        # moto lets the first N requests pass unchecked; the users must exist before N becomes 0.
        self.admin = self.add_user("admin", _ALL)
        # With any other content type the body would be taken for a form.
        headers = {"Content-Type": "text/plain"}
        url = f"{self.endpoint_url}/moto-api/reset-auth"
        with urllib.request.urlopen(urllib.request.Request(url, b"0", headers, method="POST"), timeout=10):
            pass
