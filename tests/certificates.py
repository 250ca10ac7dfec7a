"""Certificates of an authority that is trusted by nobody else."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["issued"]


def issued(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate authority made anew, and a certificate of the server at `address` with its key, in `folder`."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    end = start + datetime.timedelta(days=3)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = x509.CertificateBuilder().subject_name(name("our authority")).issuer_name(name("our authority"))
    root = root.public_key(root_key.public_key()).serial_number(1).not_valid_before(start).not_valid_after(end)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = x509.CertificateBuilder().subject_name(name("our server")).issuer_name(name("our authority"))
    leaf = leaf.public_key(key.public_key()).serial_number(2).not_valid_before(start).not_valid_after(end)
    alternative = x509.IPAddress(ipaddress.ip_address(address))
    leaf = leaf.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    pem = serialization.Encoding.PEM
    bundle, server = folder / "bundle.pem", folder / "server.pem"
    bundle.write_bytes(root.sign(root_key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    server.write_bytes(private + leaf.sign(root_key, hashes.SHA256()).public_bytes(pem))
    return bundle, server
