"""Credentials for S3: each entry of a list, as it is in this process.

boto3 supplies the session, so that profiles, roles, SSO, environment and config files mean what they mean
everywhere else. It is imported at first use, and not at all where the environment and the arguments say everything.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

from bitstore._raw.s3_environment import Keys, endpoint_of_environment, plain

__all__ = ["ANONYMOUS", "Credentials", "Identity", "Keys", "Unusable", "as_list", "show"]

ANONYMOUS = "anonymous"
Credentials: TypeAlias = "dict[str, Any] | str | None"

_LONGEST_AGE = 60.0  # seconds that keys which can change are used before the session is asked again
_SHORTEST_AGE = 1.0  # of keys that are about to expire: asking for every single request would make all of them wait
_SHOWN = ("profile_name", "region_name")


class Unusable(Exception):
    """From these credentials no request can be signed; the text says why."""


@dataclass(frozen=True, slots=True)
class Where:
    """What the caller said about the service; None: what the session's configuration says."""

    endpoint_url: str | None
    region: str | None
    addressing_style: str | None


class Identity:
    """One usable entry of a list of credentials.

    Attributes
    ----------
    name
        Which entry this is, for messages; never a secret.
    endpoint, region, addressing_style
        Where requests go.
    """

    __slots__ = ("_source", "addressing_style", "endpoint", "name", "region")

    def __init__(self, entry: Credentials, where: Where) -> None:
        self.name = show(entry)
        self._source: Any = None
        if entry == ANONYMOUS:
            settings = _anonymous_settings(where)
        else:
            self._source, settings = _session_settings(entry, where)
        self.endpoint, self.region, self.addressing_style = settings

    def keys(self) -> tuple[Keys | None, float]:
        """The keys to sign with (None: do not sign) and the seconds for which they may be used unasked.

        May refresh them, which blocks. botocore lets one thread refresh while the others wait for it or, as
        long as the old keys are good, go on with them.
        """
        if self._source is None:
            return None, float("inf")
        if isinstance(self._source, Keys):
            return self._source, float("inf")
        from botocore.credentials import RefreshableCredentials

        try:
            frozen = self._source.get_frozen_credentials()
        except Exception as error:  # whatever a credential provider raises (network, files, SSO): no keys
            raise Unusable(f"{self.name}: the credentials could not be refreshed: {_brief(error)}") from error
        if not frozen.access_key or not frozen.secret_key:
            raise Unusable(f"{self.name}: the access key id or the secret access key is empty")
        keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
        if not isinstance(self._source, RefreshableCredentials):
            return keys, float("inf")
        return keys, min(_LONGEST_AGE, max(_SHORTEST_AGE, _seconds_left(self._source) / 2))


class Entry:
    """A place in the list of credentials: its identity once made, or why it could not be made."""

    __slots__ = ("_entry", "_identity", "_refusal", "_renewed", "_tried", "_where")

    AGAIN_AFTER = 10.0  # seconds before something that did not help is tried again

    def __init__(self, entry: Credentials, where: Where) -> None:
        self._entry = entry
        self._where = where
        self._identity: Identity | None = None
        self._refusal: Unusable | None = None
        self._tried = self._renewed = float("-inf")

    def identity(self) -> Identity:
        """The identity of this entry. Blocks; not thread-safe: boto3's sessions are made under the caller's lock."""
        if self._identity is not None:
            return self._identity
        now = time.monotonic()
        # A wrong entry costs its attempt once in a while and not at every lookup.
        if self._refusal is None or now - self._tried > self.AGAIN_AFTER:
            self._tried = now
            try:
                self._identity, self._refusal = Identity(self._entry, self._where), None
            except Unusable as refusal:
                self._refusal = refusal
        if self._identity is None:
            assert self._refusal is not None
            raise Unusable(str(self._refusal)) from self._refusal.__cause__
        return self._identity

    def renew(self, used: Identity) -> bool:
        """Build the identity anew after its keys were refused as expired; False where that was just done."""
        if self._identity is not used:
            return True  # another thread has done it meanwhile
        now = time.monotonic()
        if now - self._renewed < self.AGAIN_AFTER:
            return False
        self._renewed = now
        self._identity = None
        return True


def as_list(credentials: Any) -> list[Any]:
    """A list of credentials from one of them or several."""
    return list(credentials) if isinstance(credentials, (list, tuple)) else [credentials]


def show(entry: Any) -> str:
    """An entry for people: names, never keys."""
    if entry is None:
        return "default credentials"
    if entry == ANONYMOUS:
        return repr(ANONYMOUS)
    if isinstance(entry, dict):
        told = [f"{key!r}: {entry[key]!r}" if key in _SHOWN else f"{key!r}: ..." for key in entry]
        return "{" + ", ".join(told) + "}"
    return f"<{type(entry).__name__}>"


def _anonymous_settings(where: Where) -> tuple[str, str, str]:
    if where.endpoint_url is None:
        try:
            import botocore.session
            from botocore import UNSIGNED
            from botocore.config import Config
        except ImportError:
            pass  # without boto3 its environment variables still count
        else:
            return _client_settings(botocore.session.Session(), where, Config(signature_version=UNSIGNED))
    region = where.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    address = where.endpoint_url or endpoint_of_environment() or f"https://s3.{region}.amazonaws.com"
    return address.rstrip("/"), region, where.addressing_style or "auto"


def _session_settings(entry: Any, where: Where) -> tuple[Any, tuple[str, str, str]]:
    if entry is not None and not isinstance(entry, dict):
        raise Unusable(
            f"credentials are None, 'anonymous' or a dict of arguments of boto3.Session, not {type(entry).__name__}"
        )
    known = plain(entry, where.endpoint_url, where.region)
    if known is not None:
        return known.keys, (known.endpoint.rstrip("/"), known.region, where.addressing_style or "auto")
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise Unusable("boto3 is not installed: pip install 'epic-bitstore[aws]'") from error
    name = show(entry)
    try:
        session = boto3.Session(**(entry or {}))
        source = session.get_credentials()
    except Exception as error:  # unknown profile, unknown argument, broken config file: all make the entry unusable
        raise Unusable(f"{name}: {_brief(error)}") from error
    if source is None:
        raise Unusable(
            f"{name}: boto3 finds no credentials (environment, profile, role); for public buckets use S3Raw.anonymous()"
        )
    return source, _client_settings(session, where, Config())


def _client_settings(session: Any, where: Where, config: Any) -> tuple[str, str, str]:
    """Endpoint, region and addressing style as a client of this session would have them."""
    make = session.client if hasattr(session, "client") else session.create_client
    configured = session.region_name if hasattr(session, "region_name") else session.get_config_variable("region")
    # boto3 itself reads AWS_DEFAULT_REGION only, the other SDKs AWS_REGION.
    region = where.region or configured or os.environ.get("AWS_REGION") or None
    try:
        client = make("s3", region_name=region, endpoint_url=where.endpoint_url, config=config)
    except Exception as error:  # a broken config file, an impossible region or endpoint
        raise Unusable(f"no S3 client can be made: {_brief(error)}") from error
    meta = client.meta
    style = where.addressing_style or (meta.config.s3 or {}).get("addressing_style") or "auto"
    region = meta.region_name if meta.region_name not in (None, "aws-global") else "us-east-1"
    address: str = meta.endpoint_url
    client.close()
    return address.rstrip("/"), str(region), str(style)


def _seconds_left(source: Any) -> float:
    """Until the keys expire; botocore keeps that to itself, so where it no longer tells, the longest age holds."""
    expiry = getattr(source, "_expiry_time", None)
    if not isinstance(expiry, datetime) or expiry.tzinfo is None:
        return float("inf")
    return (expiry - datetime.now(timezone.utc)).total_seconds()


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
