"""Certificates of servers: every transport judges them alike, on every Python."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from bitstore._transport.certificates import context
from bitstore._transport.sockets.channel import Channel, Unreachable, dial
from bitstore._transport.transports import perform
from bitstore.steps import Profile, Request, TransferError
from tests.certificates import Certificate
from tests.raw_server import RawServer

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HERE = ("127.0.0.1",)
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
# The certificates in the bundle, those that the server sends besides its own, and the server's own.
Chain: TypeAlias = tuple[list[Certificate], list[Certificate], Certificate]


def chain(*, root_days: int = 2, **leaf: object) -> Chain:
    root = Certificate(None, "our authority", authority=True, identified=True, days=root_days)
    options = {"authority": False, "addresses": HERE, "identified": True, **leaf}
    return [root], [], Certificate(root, "our server", **options)  # type: ignore[arg-type]


def authority(kind: bool | str | None, *, identified: bool) -> Chain:
    root = Certificate(None, "our authority", authority=kind, identified=identified)
    return [root], [], Certificate(root, "our server", authority=False, addresses=HERE, identified=identified)


def between(*, anchored: str, signs: bool | None = True) -> Chain:
    """A certificate between the root and the server's; `anchored` says which of them is in the bundle."""
    root = Certificate(None, "our authority", authority=True, identified=True)
    middle = Certificate(root, "our department", authority=signs, identified=True)
    leaf = Certificate(middle, "our server", authority=False, addresses=HERE, identified=True)
    return [{"root": root, "middle": middle, "leaf": leaf}[anchored]], [middle], leaf


def by_itself() -> Chain:
    alone = Certificate(None, "our server", authority=False, addresses=HERE)
    return [alone], [], alone


CHAINS: dict[str, tuple[bool, Callable[[], Chain]]] = {
    "usual": (True, chain),
    "authority without a key identifier": (True, lambda: authority(True, identified=False)),
    "authority by an uncritical extension": (True, lambda: authority("mildly", identified=True)),
    "authority that does not say so": (False, lambda: authority(None, identified=True)),
    "authority without its right": (False, lambda: authority(False, identified=True)),
    "server without key identifiers": (True, lambda: chain(identified=False)),
    "server that says nothing": (True, lambda: chain(authority=None)),
    "server that is an authority": (True, lambda: chain(authority=True)),
    "server of a wildcard": (False, lambda: chain(addresses=("*.example",))),
    "certificate for clients": (False, lambda: chain(purpose=CLIENT)),
    "server that has expired": (False, lambda: chain(days=-1)),
    "authority that has expired": (False, lambda: chain(root_days=-1)),
    "by a root": (True, lambda: between(anchored="root")),
    "by a certificate between": (True, lambda: between(anchored="middle")),
    "by its own": (True, lambda: between(anchored="leaf")),
    "by one between that may not sign": (False, lambda: between(anchored="root", signs=None)),
    "by itself": (True, by_itself),
    "other address": (False, lambda: chain(addresses=("127.0.0.2",))),
    "name alone": (False, lambda: chain(addresses=())),
    "short key": (False, lambda: chain(bits=1024)),
}


def judged(host: str, chain_: Chain, folder: Path) -> tuple[str, str]:
    """What libcurl and our own connections make of a server at `host`: "trusted", or else."""
    anchors, besides, own = chain_
    bundle, mine = folder / "bundle.pem", folder / "server.pem"
    bundle.write_bytes(b"".join(each.pem for each in anchors))
    mine.write_bytes(own.with_key() + b"".join(each.pem for each in besides))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.set_ciphers("DEFAULT:@SECLEVEL=0")
    server_side.load_cert_chain(mine)
    libcurl = ours = "trusted"
    with RawServer(lambda peer, _, __: peer.sendall(HELLO), tls=server_side) as server:
        try:
            perform(Request(Profile(ca_bundle=str(bundle), proxy=""), f"https://{host}:{server.port}/key"))
        except TransferError as error:
            libcurl = str(error)
        try:
            channel = Channel(dial(socket.AF_INET, ("127.0.0.1", server.port)), context(str(bundle)), host)
            while not channel.ready():
                select.select([channel.fd], [], [], 0.01)
            channel.close()
        except Unreachable:
            ours = "not trusted"
    return libcurl, ours


@pytest.mark.parametrize("name", CHAINS)
def test_every_transport_judges_a_certificate_alike(name: str, tmp_path: Path) -> None:
    trusted, make = CHAINS[name]
    libcurl, ours = judged("127.0.0.1", make(), tmp_path)
    assert (libcurl == "trusted", ours == "trusted") == (trusted, trusted), (libcurl, ours)


@pytest.mark.parametrize(
    ("common_name", "addresses", "trusted"),
    [
        ("our server", ("localhost",), True),
        ("localhost", (), True),
        ("localhost", ("elsewhere",), False),
        ("localhost", ("127.0.0.1",), False),
        ("our server", ("*",), False),
        ("our server", ("l*",), False),
        ("our server", ("LOCALHOST",), True),
    ],
)
def test_every_transport_judges_the_name_in_a_certificate_alike(
    common_name: str, addresses: tuple[str, ...], trusted: bool, tmp_path: Path
) -> None:
    root = Certificate(None, "our authority", authority=True)
    leaf = Certificate(root, common_name, authority=None, addresses=addresses)
    libcurl, ours = judged("localhost", ([root], [], leaf), tmp_path)
    assert (libcurl == "trusted", ours == "trusted") == (trusted, trusted), (libcurl, ours)
