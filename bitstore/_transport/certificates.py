"""Which certificates of servers are trusted: the same for every transport, on every Python."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bitstore.steps import Profile

if TYPE_CHECKING:
    import ssl

__all__ = ["authorities", "context"]


def authorities(profile: Profile) -> str:
    """The file or folder of certificate authorities that counts for a profile."""
    return profile.ca_bundle or _usual()


def _usual() -> str:
    import certifi

    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            return path
    return certifi.where()


@cache
def context(bundle: str) -> ssl.SSLContext:
    """What `ssl` needs to judge certificates as libcurl does.

    Python's own default differs by version: since 3.13 it is strict (VERIFY_X509_STRICT), and refuses an authority
    without a key identifier, as companies have them. libcurl is not strict, and trusts any certificate of the bundle
    (a file or folder), a root or not.

    Raises
    ------
    OSError, ValueError
        There is no such bundle.
    """
    import ssl

    folder = Path(bundle).is_dir()
    made = ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    made.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    # Where there is a common name alone, libcurl takes the last one, and OpenSSL any: such a server is libcurl's.
    made.hostname_checks_common_name = False
    made.set_alpn_protocols(["http/1.1"])
    return made
