"""S3 settings in arguments and environment variables, read without boto3 where these say everything.

Importing boto3 and asking it costs a quarter of a second of CPU: much for a process that lives for one batch, and
paid at the same moment by all workers of a cluster's node.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DEFAULT_REGION", "Keys", "Service", "anonymous_service", "nothing_else", "plain", "usual_endpoint"]

DEFAULT_REGION = "us-east-1"
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_REGION = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
# Set, they ask something that only boto3 does.
_NEEDS_BOTO3 = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION", "AWS_DATA_PATH")
_ARGUMENTS = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region_name"}
_FILES = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
_CHECKSUMS = {"when_supported": True, "when_required": False}


class Keys(NamedTuple):
    """What signs a request."""

    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Service:
    """Where requests go, and how the configuration wants them."""

    endpoint: str  # URL without a slash at its end
    region: str  # of requests to buckets whose region is not known
    addressing_style: str  # auto, path or virtual
    accelerate: bool = False  # by the endpoints of S3 Transfer Acceleration
    checksums: bool = True  # writes carry one although the service does not require it
    ca_bundle: str | None = None  # file or folder of certificate authorities, from a profile

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", self.endpoint.rstrip("/"))


def plain(
    entry: Mapping[str, Any] | None, endpoint: str | None, region: str | None, addressing_style: str | None
) -> tuple[Keys, Service] | None:
    """What boto3 would make of `entry`, a mapping of arguments of its `Session`; None where boto3 has to say.

    That is wherever a profile is named, a config file has something to add, no endpoint is named (the addresses of
    Amazon's own are data of boto3's), a value is missing, or one looks wrong, of which boto3 has the better message.
    """
    given = dict(entry or {})
    named = os.environ.get
    if not nothing_else() or not given.keys() <= _ARGUMENTS:
        return None
    if given.keys() <= {"region_name"}:
        access_key, secret_key = named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY")
        token = named("AWS_SECURITY_TOKEN") or named("AWS_SESSION_TOKEN")
    else:
        access_key, secret_key = given.get("aws_access_key_id"), given.get("aws_secret_access_key")
        token = given.get("aws_session_token")
    region = region or given.get("region_name") or _region_of_environment()
    address = _endpoint_of_environment() if endpoint is None else endpoint
    checksums = _checksums_of_environment()
    texts = (access_key, secret_key, token or "", region, address)
    if not all(isinstance(text, str) for text in texts) or not (access_key and secret_key and address):
        return None
    if not _ENDPOINT.fullmatch(address) or not _REGION.fullmatch(region) or checksums is None:
        return None
    service = Service(address, region, addressing_style or "auto", checksums=checksums)
    return Keys(access_key, secret_key, token or None), service


def anonymous_service(endpoint: str | None, region: str | None, addressing_style: str | None) -> Service:
    """The service of unsigned requests as arguments and environment name it, without boto3 and its files."""
    region = region or _region_of_environment()
    address = endpoint or _endpoint_of_environment() or f"https://s3.{region}.amazonaws.com"
    return Service(address, region, addressing_style or "auto", checksums=_checksums_of_environment() is not False)


def nothing_else() -> bool:
    """Whether no profile and no config file of boto3 has anything to say."""
    return not any(map(os.environ.get, _NEEDS_BOTO3)) and not any(map(_says_something, _FILES))


def _region_of_environment() -> str:
    """The region that the environment names, or the first one of all."""
    # boto3 itself reads AWS_DEFAULT_REGION only, the other SDKs AWS_REGION.
    return os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or DEFAULT_REGION


def _endpoint_of_environment() -> str | None:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def usual_endpoint(entry: Any, region: str | None) -> str:
    """The address that is asked where no option names one: that of the environment or a profile, else Amazon's own.

    Raises what boto3 raises for a profile that is missing, or a config file that cannot be read.
    """
    given = dict(entry) if isinstance(entry, Mapping) else {}
    if address := _endpoint_of_environment():
        return address
    region = region or given.get("region_name")
    if not nothing_else() or "profile_name" in given or "botocore_session" in given:
        try:
            import botocore.session
            from botocore.configprovider import ConfiguredEndpointProvider
        except ImportError:
            return _address_of(region)  # the first request says that it is not installed
        session = given.get("botocore_session") or botocore.session.Session(profile=given.get("profile_name"))
        if not session.get_config_variable("ignore_configured_endpoint_urls"):
            files, profile = session.full_config, session.get_scoped_config()
            address = ConfiguredEndpointProvider(full_config=files, scoped_config=profile, client_name="s3").provide()
            if address:
                return str(address)
        region = region or session.get_config_variable("region")
    return _address_of(region)


def _address_of(region: str | None) -> str:
    """The address of Amazon's own service in a region; None: in that of the environment."""
    region = region or _region_of_environment()
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _checksums_of_environment() -> bool | None:
    """None: the variable holds neither of the two values."""
    return _CHECKSUMS.get(os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported").lower())


def _says_something(file: tuple[str, str]) -> bool:
    variable, usual = file
    path = os.environ.get(variable) or usual
    if path == os.devnull:
        return False
    try:
        found = Path(path).expanduser().stat()
    except FileNotFoundError:
        return False
    except (OSError, RuntimeError):  # unreadable, or the home of no user; boto3 will say what is wrong
        return True
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)  # a pipe has no size, but something to say
