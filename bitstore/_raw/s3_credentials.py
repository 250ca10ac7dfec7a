"""Credentials for S3: each entry of a list, as it is in this process.

boto3 supplies the session, so that profiles, roles, SSO, environment and config files mean what they mean
everywhere else. It is imported at first use, and not at all where the environment and the arguments say everything.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

from bitstore._raw import credentials as common
from bitstore._raw.credentials import ANONYMOUS, CONNECT_LIMIT, READ_LIMIT, Guarded, Unusable, brief
from bitstore._raw.s3_environment import DEFAULT_REGION, Keys, Service, anonymous_service, nothing_else, plain
from bitstore._support.once import warn_once
from bitstore._support.redact import redact

__all__ = ["ANONYMOUS", "Credentials", "Entry", "Identity", "Keys", "Unusable", "Where", "as_list", "is_outage", "show"]

Credentials: TypeAlias = "dict[str, Any] | str | None"

logger = logging.getLogger("bitstore")

_LONGEST_AGE = 60.0  # seconds that keys which can change are used before the session is asked again
_SHORTEST_AGE = 1.0  # of keys that are about to expire: asking for every single request would make all of them wait
_SHOWN = ("profile_name", "region_name")

_TRANSIENT = frozenset({408, 425, 429})  # of HTTP statuses; all from 500 are besides
# Error codes of services that are overrun or out. Those of throttling: botocore/data/_retry.json.
_OUT = re.compile(r"throttl|too ?many ?requests|slow ?down|limit ?exceeded|request ?timeout|unavailable|internal", re.I)
# AssumeRoleWithWebIdentity could not reach the identity provider:
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
_IDENTITY_PROVIDER_OUT = "IDPCommunicationError"
# botocore's text for an answer of the container endpoint other than 200.
_CONTAINER_STATUS = re.compile(r"non 200 response ([0-9]{3})").search
# botocore's text where a service that gave keys before gives nothing (so it reports an instance's that is out).
_NOTHING_CAME = "response did not contain"


@dataclass(frozen=True, slots=True)
class Where:
    """What the caller said about the service; None: what the session's configuration says."""

    endpoint_url: str | None
    region: str | None
    addressing_style: str | None


class Identity:
    """One usable entry of a list of credentials."""

    __slots__ = ("_guarded", "_source", "name", "service")

    def __init__(self, entry: Credentials, where: Where) -> None:
        self.name = show(entry)  # which entry this is, for messages; never a secret
        self._source: Any = None  # None: sign nothing; `Keys`; or credentials of botocore
        self._guarded: Guarded[Keys] = Guarded()
        self.service: Service
        if entry == ANONYMOUS:
            self.service = _anonymous_service(where)
        else:
            self._source, self.service = _session_settings(entry, where)

    def keys(self) -> tuple[Keys | None, float]:
        """The keys to sign with (None: do not sign) and the seconds for which they may be used unasked.

        May refresh them, which blocks. botocore lets one thread refresh while the others wait for it or, as
        long as the old keys are good, go on with them. Raises `Unusable`.
        """
        if self._source is None or isinstance(self._source, Keys):
            return self._source, float("inf")
        from botocore.credentials import RefreshableCredentials

        if not isinstance(self._source, RefreshableCredentials):
            return self._frozen(), float("inf")
        keys = self._guarded.ask(self._frozen)
        return keys, min(_LONGEST_AGE, max(_SHORTEST_AGE, _seconds_left(self._source) / 2))

    def _frozen(self) -> Keys:
        try:
            frozen = self._source.get_frozen_credentials()
        except Exception as error:  # whatever a credential provider raises (network, files, SSO): no keys
            raise _unusable(f"{self.name}: the credentials could not be refreshed", error) from error
        if not frozen.access_key or not frozen.secret_key:
            raise Unusable(f"{self.name}: the access key id or the secret access key is empty")
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)


class Entry:
    """A place in the list of credentials: its identity once made, or why it could not be made.

    Its methods block and are not thread-safe: boto3's sessions are made under the caller's lock.
    """

    __slots__ = ("_entry", "_guarded", "_identity", "_where")

    def __init__(self, entry: Credentials, where: Where) -> None:
        self._entry = entry
        self._where = where
        self._identity: Identity | None = None
        self._guarded: Guarded[Identity] = Guarded()

    def identity(self) -> Identity:
        """The identity of this entry. Raises `Unusable`."""
        if self._identity is None:
            self._identity = self._guarded.ask(lambda: Identity(self._entry, self._where))
        return self._identity

    def renew(self, used: Identity) -> bool:
        """Build the identity again after its keys were refused as expired; False where that was just done."""
        if self._identity is not used:
            return True  # another thread has done it meanwhile
        if not self._guarded.may_renew():
            return False
        self._identity = None
        return True


def as_list(credentials: Any) -> list[Any]:
    """A list of credentials from one of them or several."""
    return list(credentials) if isinstance(credentials, (list, tuple)) else [credentials]


def show(entry: Any) -> str:
    """An entry as messages name it: names, never keys."""
    if not isinstance(entry, dict):
        return common.show(entry)
    items = [f"{key!r}: {entry[key]!r}" if key in _SHOWN else f"{key!r}: ..." for key in entry]
    return "{" + ", ".join(items) + "}"


def _anonymous_service(where: Where) -> Service:
    """The service of unsigned requests. These need no profile: one that is missing or unreadable does not count."""
    if where.endpoint_url is None or not nothing_else():
        try:
            import botocore.session
            from botocore import UNSIGNED
            from botocore.config import Config

            session = botocore.session.get_session()
            return _client_service(session, where, Config(signature_version=UNSIGNED))
        except ImportError:
            pass  # without boto3 its environment variables still count
        except Exception as error:  # a missing profile, a broken or unreadable config file, an impossible setting
            reason = redact(str(error) if isinstance(error, Unusable) else brief(error))
            warn_once(
                logger, ("anonymous", reason), "boto3's configuration does not count for %r: %s", ANONYMOUS, reason
            )
    return anonymous_service(where.endpoint_url, where.region, where.addressing_style)


def _session_settings(entry: Any, where: Where) -> tuple[Any, Service]:
    if entry is not None and not isinstance(entry, dict):
        raise Unusable(
            f"credentials are None, 'anonymous' or a dict of arguments of boto3.Session, not {type(entry).__name__}"
        )
    known = plain(entry, where.endpoint_url, where.region, where.addressing_style)
    if known is not None:
        return known
    try:
        import boto3
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise Unusable("boto3 is not installed: pip install 'epic-bitstore[aws]'") from error
    name = show(entry)
    arguments = dict(entry or {})
    try:
        if arguments.get("botocore_session") is None:
            arguments["botocore_session"] = botocore.session.get_session()
            # For the clients with which a session asks STS or SSO; it is asked again from here.
            limits = Config(connect_timeout=CONNECT_LIMIT, read_timeout=READ_LIMIT, retries={"total_max_attempts": 1})
            arguments["botocore_session"].set_default_client_config(limits)
        session = boto3.Session(**arguments)
        source = session.get_credentials()
        if source is not None:
            return source, _client_service(session, where, Config())
    except Unusable:
        raise
    except Exception as error:  # unknown profile, unknown argument, broken config file: all make the entry unusable
        raise _unusable(name, error) from error
    raise Unusable(
        f"{name}: boto3 finds no credentials (environment, profile, role); for public buckets use S3Raw.anonymous()"
    )


def _client_service(session: Any, where: Where, config: Any) -> Service:
    """The service as a client of this session would have it."""
    core = getattr(session, "_session", session)
    # boto3 itself reads AWS_DEFAULT_REGION only, the other SDKs AWS_REGION.
    region = where.region or core.get_config_variable("region") or os.environ.get("AWS_REGION") or None
    make = session.client if hasattr(session, "client") else session.create_client
    try:
        client = make("s3", region_name=region, endpoint_url=where.endpoint_url, config=config)
    except Exception as error:  # a broken config file, an impossible region or endpoint
        raise Unusable(f"no S3 client can be made: {brief(error)}") from error
    meta = client.meta
    s3 = meta.config.s3 or {}
    service = Service(
        str(meta.endpoint_url),
        str(meta.region_name if meta.region_name not in (None, "aws-global") else DEFAULT_REGION),
        where.addressing_style or str(s3.get("addressing_style") or "auto"),
        accelerate=bool(s3.get("use_accelerate_endpoint")),
        checksums=getattr(meta.config, "request_checksum_calculation", None) != "when_required",
        ca_bundle=core.get_config_variable("ca_bundle"),
    )
    client.close()
    return service


def _unusable(what: str, error: Exception) -> Unusable:
    return Unusable(f"{what}: {brief(error)}", outage=is_outage(error))


def is_outage(error: BaseException | None) -> bool:
    """Whether `error`, which came instead of keys, says that a service is out, overrun or silent."""
    from botocore import exceptions as known
    from botocore.parsers import ResponseParserError

    while error is not None:
        if isinstance(error, known.ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(error.response.get("Error", {}).get("Code", ""))
            return _passes(status) or code == _IDENTITY_PROVIDER_OUT or _OUT.search(code) is not None
        if isinstance(error, known.MetadataRetrievalError):
            answered = _CONTAINER_STATUS(str(error))
            return answered is None or _passes(int(answered[1]))  # no answer, or one that is not JSON
        if isinstance(error, (known.HTTPClientError, known.ConnectionError, ResponseParserError)):
            return True
        if isinstance(error, known.CredentialRetrievalError) and _NOTHING_CAME in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _passes(status: int) -> bool:
    return status in _TRANSIENT or status >= 500


def _seconds_left(source: Any) -> float:
    """Until the keys expire; botocore keeps that to itself, so where it no longer tells, the longest age holds."""
    expiry = getattr(source, "_expiry_time", None)
    if not isinstance(expiry, datetime) or expiry.tzinfo is None:
        return float("inf")
    return (expiry - datetime.now(timezone.utc)).total_seconds()
