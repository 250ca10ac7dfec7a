"""S3 settings that are plain to see, in arguments and environment variables, so that boto3 is not needed for them.

Importing boto3 and asking it costs a quarter of a second of CPU: much for a process that lives for one batch, and
paid at the same moment by all workers of a cluster's node.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Keys", "Plain", "endpoint_of_environment", "plain"]

_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_REGION = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
# Whoever sets these wants something of boto3 that only boto3 does.
_NEEDS_BOTO3 = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION", "AWS_DATA_PATH")
_ARGUMENTS = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region_name"}
_FILES = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))


class Keys(NamedTuple):
    """What signs a request."""

    access_key: str
    secret_key: str
    token: str | None


class Plain(NamedTuple):
    """All there is to know about a service and its caller."""

    keys: Keys
    endpoint: str
    region: str


def plain(entry: Mapping[str, Any] | None, endpoint: str | None, region: str | None) -> Plain | None:
    """What boto3 would make of `entry`, a mapping of arguments of its `Session`; None where boto3 has to say.

    That is wherever a profile is named, a config file has something to add, no endpoint is named (the addresses of
    Amazon's own are data of boto3's), a value is missing, or one looks wrong, of which boto3 has the better message.
    """
    given = dict(entry or {})
    named = os.environ.get
    if any(map(named, _NEEDS_BOTO3)) or not given.keys() <= _ARGUMENTS or any(map(_says_something, _FILES)):
        return None
    if given.keys() <= {"region_name"}:
        access_key, secret_key = named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY")
        token = named("AWS_SECURITY_TOKEN") or named("AWS_SESSION_TOKEN")
    else:
        access_key, secret_key = given.get("aws_access_key_id"), given.get("aws_secret_access_key")
        token = given.get("aws_session_token")
    # boto3 itself reads AWS_DEFAULT_REGION only, the other SDKs AWS_REGION.
    chosen = (region, given.get("region_name"), named("AWS_DEFAULT_REGION"), named("AWS_REGION"), "us-east-1")
    region = next(each for each in chosen if each)
    address = endpoint_of_environment() if endpoint is None else endpoint
    texts = (access_key, secret_key, token or "", region, address)
    if not all(isinstance(text, str) for text in texts) or not (access_key and secret_key and address):
        return None
    if not _ENDPOINT.fullmatch(address) or not _REGION.fullmatch(region):
        return None
    return Plain(Keys(access_key, secret_key, token or None), address, region)


def endpoint_of_environment() -> str | None:
    """The address of S3 that the environment names, if it does."""
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _says_something(file: tuple[str, str]) -> bool:
    variable, usual = file
    path = os.environ.get(variable) or usual
    if path == os.devnull:
        return False
    try:
        found = Path(path).expanduser().stat()
    except FileNotFoundError:
        return False
    except (OSError, RuntimeError):  # not to be read, or nobody's home; boto3 will say what is wrong
        return True
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)  # a pipe has no size, but something to say
