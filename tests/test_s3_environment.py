"""What the environment says of S3 is understood as boto3 does, without boto3 wherever it says everything."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitstore._raw import s3_credentials
from bitstore._raw.s3_credentials import Identity, Unusable, Where
from bitstore._raw.s3_environment import plain
from tests.servers import SeaweedS3

ENDPOINT = "http://127.0.0.1:9000"
KEYS = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret"}
ENTRIES: list[Any] = [
    None,
    {},
    {"region_name": "ap-south-1"},
    {"aws_access_key_id": "other", "aws_secret_access_key": "o"},
    {"aws_access_key_id": "other", "aws_secret_access_key": "o", "aws_session_token": "t", "region_name": "a-b-1"},
    {"aws_access_key_id": "half"},
    {"aws_access_key_id": 5, "aws_secret_access_key": "o"},
    {"profile_name": "nobody"},
    {"unknown": "argument"},
]


def told(entry: Any, where: Where) -> Any:
    """All that an entry comes to, or the reason why to nothing."""
    try:
        identity = Identity(entry, where)
        return identity.keys(), identity.service
    except Unusable as refusal:
        return str(refusal)


@pytest.mark.parametrize(
    ("environment", "understood"),
    [
        ({}, 4),
        (KEYS, 10),
        ({**KEYS, "AWS_SESSION_TOKEN": "token", "AWS_REGION": "us-west-1"}, 10),
        ({**KEYS, "AWS_SECURITY_TOKEN": "old", "AWS_SESSION_TOKEN": "new", "AWS_DEFAULT_REGION": "us-west-2"}, 10),
        ({**KEYS, "AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_S3": "http://s3:2/"}, 15),
        ({**KEYS, "AWS_ENDPOINT_URL": "http://all:1"}, 15),
        ({**KEYS, "AWS_ENDPOINT_URL": "http://all:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, 10),
        ({**KEYS, "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED"}, 10),
        ({**KEYS, "AWS_REQUEST_CHECKSUM_CALCULATION": "sometimes"}, 0),
        ({**KEYS, "AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, 10),
        ({**KEYS, "AWS_PROFILE": "nobody"}, 0),
        ({"AWS_ACCESS_KEY_ID": "half"}, 4),
    ],
)
def test_the_environment_means_the_same_without_boto3_as_with_it(
    environment: dict[str, str], understood: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # A client of boto3 costs a tenth of a second.
    wheres = [(None, None), (ENDPOINT, None), ("https://host/base/", "eu-west-3"), ("", None), ("ftp://host", None)]
    wheres += [("http://ho st", None), (ENDPOINT, "no region\n")]
    seen = 0
    for entry, (endpoint, region) in itertools.product(ENTRIES, wheres):
        if plain(entry, endpoint, region, None) is None:
            continue  # boto3 is asked
        seen += 1
        where = Where(endpoint, region, None)
        ours = told(entry, where)
        with monkeypatch.context() as patched:
            patched.setattr(s3_credentials, "plain", lambda *_: None)
            assert ours == told(entry, where)
    assert seen == understood


def test_an_environment_that_needs_boto3_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def known() -> bool:
        return plain(None, ENDPOINT, None, None) is not None

    assert not known()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    assert known()
    assert plain(None, None, None, None) is None  # Amazon's addresses are data of boto3's
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "x")
            assert not known(), name
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        with monkeypatch.context() as patched:
            file = tmp_path / name
            patched.setenv(name, str(file))
            assert known()
            file.write_text("")
            assert known()
            file.write_text("[default]\ns3 =\n  addressing_style = virtual\n")
            assert not known(), name
            patched.setenv(name, os.devnull)
            assert known()
            pipe = tmp_path / f"{name}.pipe"
            os.mkfifo(pipe)
            patched.setenv(name, str(pipe))
            assert not known(), name


def test_boto3_is_not_imported_for_keys_of_the_environment(s3: SeaweedS3, bucket: str) -> None:
    s3.put(bucket, "k", b"x")
    code = f"""
import sys
from bitstore._raw.s3 import S3Raw
assert S3Raw().get("s3://{bucket}/k") == b"x"
assert not {{"boto3", "botocore"}} & set(sys.modules)
"""
    reader = s3.reader
    environment = {**os.environ, "AWS_ENDPOINT_URL_S3": s3.endpoint_url}
    environment |= {"AWS_ACCESS_KEY_ID": reader.access_key, "AWS_SECRET_ACCESS_KEY": reader.secret_key}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
