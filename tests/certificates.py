"""Certificates of an authority that is trusted by nothing else."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Certificate", "issued", "server_tls"]

_NOW = datetime.datetime.now(datetime.timezone.utc)


class Certificate:
    """A new certificate with its key, signed by `issuer`, or by itself.

    Parameters
    ----------
    issuer
        What signs it.
    name
        Its common name.
    authority
        Whether it may sign others: True and False are said in a critical extension, "mildly" in another one; None
        says nothing.
    length
        Of the path below an authority; None: without a limit.
    addresses
        IP addresses and host names of the server.
    identified
        Whether it has key identifiers, as strict readers want them.
    days, since
        Until it expires, and since it is valid; from now.
    purpose
        Of the extended key usage.
    bits
        Of an RSA key; None: an elliptic curve.
    extensions
        Further ones, all of them critical.
    names
        More common names, which come before `name`.
    """

    def __init__(
        self,
        issuer: Self | None,
        name: str,
        *,
        authority: bool | str | None,
        length: int | None = None,
        addresses: tuple[str, ...] = (),
        identified: bool = False,
        days: int = 2,
        since: int = -30,
        purpose: x509.ObjectIdentifier | None = None,
        bits: int | None = None,
        extensions: tuple[x509.ExtensionType, ...] = (),
        names: tuple[str, ...] = (),
    ) -> None:
        self.key: Any = (
            ec.generate_private_key(ec.SECP256R1()) if bits is None else rsa.generate_private_key(65537, bits)
        )
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each) for each in (*names, name)])
        signer: Any = self if issuer is None else issuer
        builder = x509.CertificateBuilder().subject_name(self.name).issuer_name(signer.name)
        builder = builder.public_key(self.key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(_NOW + datetime.timedelta(days=since))
        builder = builder.not_valid_after(_NOW + datetime.timedelta(days=days))
        if authority is not None:
            constraints = x509.BasicConstraints(ca=bool(authority), path_length=length)
            builder = builder.add_extension(constraints, critical=authority != "mildly")
        if addresses:
            alternatives = x509.SubjectAlternativeName([_general(address) for address in addresses])
            builder = builder.add_extension(alternatives, critical=False)
        if identified:
            own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
            of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
            builder = builder.add_extension(own, critical=False).add_extension(of_issuer, critical=False)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        self.pem = builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def with_key(self) -> bytes:
        """The certificate behind its private key, as a server reads them."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private: bytes = self.key.private_bytes(encoding, form, serialization.NoEncryption())
        return private + self.pem


def _general(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def issued(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """A new certificate authority, and a certificate of the server at `address` with its key, in `folder`."""
    root = Certificate(None, "our authority", authority=True)
    leaf = Certificate(root, "our server", authority=None, addresses=(address,))
    bundle, server = folder / "bundle.pem", folder / "server.pem"
    bundle.write_bytes(root.pem)
    server.write_bytes(leaf.with_key())
    return bundle, server


def server_tls(certificate: Path) -> ssl.SSLContext:
    """TLS of a server with the certificate and the key in this file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
