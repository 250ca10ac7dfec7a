"""What the environment says of S3 is understood as boto3 does, without boto3 wherever it says everything."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bitstore import GSRaw, S3Raw
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


def test_the_service_has_one_name_by_whichever_way_its_address_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*credentials: Any, **options: Any) -> str | None:
        return S3Raw([*credentials] or None, **options).known_service()

    assert asked() == asked("anonymous") == asked(region="eu-west-1") == "s3.amazonaws.com"
    assert asked(region="cn-north-1") == "s3.amazonaws.com.cn"
    for address, service in (
        ("https://s3.dualstack.eu-west-1.amazonaws.com/", "s3.amazonaws.com"),
        ("https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", "s3.amazonaws.com"),
        ("https://s3.us-gov-west-1.amazonaws.com", "s3.us-gov.amazonaws.com"),
        ("https://s3.amazonaws.com.evil.example", "s3.amazonaws.com.evil.example"),
        ("https://MinIO.example:443/", "minio.example"),
        ("http://[::1]:9000/s3/", "[::1]:9000/s3"),
    ):
        assert asked(endpoint_url=address) == asked({"aws_access_key_id": "x"}, endpoint_url=address) == service
    assert GSRaw().known_service() == S3Raw(endpoint_url="https://storage.googleapis.com").known_service()
    assert asked(client=SimpleNamespace(meta=SimpleNamespace(endpoint_url="http://h:9"))) == "h:9"
    config = tmp_path / "config"
    services = "[services s]\ns3 =\n  endpoint_url = http://of-services:9000\n"
    config.write_text(f"[profile p]\nendpoint_url = http://of-p:9000\n[profile s]\nservices = s\n{services}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert asked({"profile_name": "p"}) == "of-p:9000" and asked({"profile_name": "s"}) == "of-services:9000"
    assert asked() == "s3.amazonaws.com" and asked({"profile_name": "none"}) is None
    assert asked({"profile_name": "p"}, None) is None  # of two, either may be asked
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert asked() == "of-p:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://of-environment:9000")
    assert asked() == "of-environment:9000"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert asked() == "s3.amazonaws.com"
