"""Certificates of servers: every transport judges them alike, on every Python."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cryptography.x509 import IPAddress, NameConstraints, ObjectIdentifier, UnrecognizedExtension
from cryptography.x509.oid import ExtendedKeyUsageOID

from bitstore._transport import transports
from bitstore._transport.transport import Declined
from bitstore.steps import Profile, Request, Response, TransferError
from tests.asker import Asker
from tests.certificates import Certificate
from tests.raw_server import RawServer
from tests.sockets import TRANSPORTS, only_by

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HERE = ("127.0.0.1",)
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
UNKNOWN = UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\5\0")
AROUND_HERE, ELSEWHERE = [
    NameConstraints([IPAddress(ip_network(network))], None) for network in ("127.0.0.0/8", "10.0.0.0/8")
]
# The certificates in the bundle, those that the server sends besides its own, and the server's own.
Chain: TypeAlias = tuple[list[Certificate], list[Certificate], Certificate]


def chain(*, root_days: int = 2, **leaf: Any) -> Chain:
    root = Certificate(None, "our authority", authority=True, identified=True, days=root_days)
    options = {"authority": False, "addresses": HERE, "identified": True, **leaf}
    return [root], [], Certificate(root, "our server", **options)


def authority(kind: bool | str | None, *, identified: bool) -> Chain:
    root = Certificate(None, "our authority", authority=kind, identified=identified)
    return [root], [], Certificate(root, "our server", authority=False, addresses=HERE, identified=identified)


def between(*, anchored: str, signs: bool | None = True, length: int | None = None, **options: Any) -> Chain:
    """A certificate between the root and the server's; `anchored` says which of them is in the bundle."""
    root = Certificate(None, "our authority", authority=True, identified=True, length=length)
    middle = Certificate(root, "our department", authority=signs, identified=True, **options)
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
    "key that is just long enough": (True, lambda: chain(bits=2048)),
    "valid from tomorrow on": (False, lambda: chain(since=1)),
    "with a critical extension that is unknown": (False, lambda: chain(extensions=(UNKNOWN,))),
    "by one between that has expired": (False, lambda: between(anchored="root", days=-1)),
    "by one between whose authority ends before": (False, lambda: between(anchored="root", length=0)),
    "by an authority for other addresses": (False, lambda: between(anchored="root", extensions=(ELSEWHERE,))),
    "by an authority for this address": (True, lambda: between(anchored="root", extensions=(AROUND_HERE,))),
}


def verdicts(host: str, chain_: Chain, folder: Path) -> dict[str, bool]:
    """Which transports trust a server at `host`, by themselves; each that does sends it a request, and no other."""
    anchors, besides, own = chain_
    bundle, mine = folder / "bundle.pem", folder / "server.pem"
    bundle.write_bytes(b"".join(each.pem for each in anchors))
    mine.write_bytes(own.with_key() + b"".join(each.pem for each in besides))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.set_ciphers("DEFAULT:@SECLEVEL=0")
    server_side.load_cert_chain(mine)
    found = {}
    with RawServer(lambda peer, _, __: peer.sendall(HELLO), tls=server_side) as server:
        request = Request(Profile(ca_bundle=str(bundle), proxy=""), f"https://{host}:{server.port}/key")
        for name in TRANSPORTS:
            found[name] = carried(name, request, ("127.0.0.1", server.port))
            assert len(server.heads) == sum(found.values()), found
    return found


def carried(name: str, request: Request, address: tuple[str, int]) -> bool:
    """Whether this transport alone, which may know the address, brings the answer."""
    if name == "libcurl":
        try:
            return transports.perform(request).status == 200
        except TransferError as error:
            if re.search("(?i)certificate|SSL", str(error)):
                return False
            raise
    asker = Asker(name, request.profile)
    asker.begin(request, address)
    outcome = asker.outcome()
    asker.close()
    assert isinstance(outcome, (Response, Declined)), outcome
    return isinstance(outcome, Response)


SHORT = """
import sys
from pathlib import Path
from tests.test_certificates import chain, verdicts
print(verdicts("127.0.0.1", chain(bits=1024), Path(sys.argv[1])))
"""


@pytest.mark.skipif("native" not in TRANSPORTS, reason="there is no native transport")
def test_a_short_key_is_refused_where_openssl_allows_it(tmp_path: Path) -> None:
    """As releases before 3.2 do by themselves."""
    conf = tmp_path / "openssl.cnf"
    conf.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nCipherString = DEFAULT:@SECLEVEL=1\n"
    )
    environment = {**os.environ, "OPENSSL_CONF": str(conf)}
    command = [sys.executable, "-c", SHORT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == str(dict.fromkeys(TRANSPORTS, False)), done


@pytest.fixture(autouse=True)
def _libcurl(monkeypatch: pytest.MonkeyPatch) -> None:
    only_by("libcurl", monkeypatch)  # it judges by itself


@pytest.mark.parametrize("name", CHAINS)
def test_every_transport_judges_a_certificate_alike(name: str, tmp_path: Path) -> None:
    trusted, make = CHAINS[name]
    assert verdicts("127.0.0.1", make(), tmp_path) == dict.fromkeys(TRANSPORTS, trusted)


@pytest.mark.parametrize(
    ("host", "common_names", "addresses", "trusted"),
    [
        ("localhost", ("our server",), ("localhost",), True),
        ("localhost", ("our server",), ("LOCALHOST",), True),
        ("localhost", ("localhost",), ("elsewhere",), False),
        ("localhost", ("localhost",), ("127.0.0.1",), False),
        ("localhost", ("our server",), ("*",), False),
        ("localhost", ("our server",), ("l*",), False),
        ("localhost", ("our server",), ("elsewhere", "localhost"), True),
        ("localhost", ("elsewhere", "localhost"), (), "libcurl"),
        ("localhost", ("localhost", "elsewhere"), (), False),
        ("127.0.0.1", ("127.0.0.1",), (), "libcurl"),
        ("a.localhost", ("our server",), ("*.localhost",), False),
        ("a.b.localhost", ("our server",), ("*.b.localhost",), True),
        ("a.b.localhost", ("our server",), ("*.localhost",), False),
        ("a.b.localhost", ("our server",), ("a*.b.localhost",), False),
        ("a.b.localhost", ("our server",), ("a.*.localhost",), False),
        ("b.localhost", ("our server",), ("*.b.localhost",), False),
        ("xn--a.b.localhost", ("our server",), ("*.b.localhost",), True),
        ("a_a.b.localhost", ("our server",), ("a_a.b.localhost",), True),
        ("A.b.localhost", ("our server",), ("a.B.localhost",), True),
    ],
)  # fmt: skip
def test_every_transport_judges_the_names_in_a_certificate_alike(
    host: str, common_names: tuple[str, ...], addresses: tuple[str, ...], trusted: bool | str, tmp_path: Path
) -> None:
    """A common name alone is enough for libcurl; the others leave such a server to it."""
    root = Certificate(None, "our authority", authority=True)
    leaf = Certificate(root, common_names[-1], names=common_names[:-1], authority=None, addresses=addresses)
    expected = {name: trusted == name if isinstance(trusted, str) else trusted for name in TRANSPORTS}
    assert verdicts(host, ([root], [], leaf), tmp_path) == expected
