"""Settings that other tools heed, and that are heeded here: docs/settings.md names the test of each."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from bitstore import AccessDenied, GSRaw, HTTPRaw, NotFoundInStore, Retry, S3Raw, StoreNotAvailable
from bitstore._raw.credentials import Unusable
from bitstore._raw.s3_credentials import Identity, Where
from bitstore._raw.s3_routes import Route
from bitstore._support import once
from bitstore._transport.proxies import Proxies
from tests.certificates import issued, server_tls
from tests.raw_server import RawServer
from tests.servers import Answer, CountedAPI, s3_error

ONCE = Retry(attempts=1)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith(("_proxy", "ca_bundle")) or name.startswith(("AWS_", "GOOGLE_", "SSL_CERT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def hello(peer: socket.socket, head: bytes, count: int) -> None:
    peer.sendall(HELLO)


URLS = [
    "http://example.com/k",
    "http://www.example.com:8080/k",
    "https://example.com/k",
    "http://127.0.0.1:9000/k",
    "http://127.0.0.1/k",
    "http://10.1.2.3/k",
    "http://[::1]:9000/k",
]
PROXY = "http://proxy:3128"
BYPASSES = [
    "",
    "*",
    "example.com",
    ".example.com",
    "example.com:8080",
    "EXAMPLE.com, localhost",
    "127.0.0.1",
    "10.0.0.0/8",
    "10.0.0.0/24,127.0.0.0/8",
    "com",
    "no/network",
]


class TestProxies:
    @pytest.mark.parametrize("no_proxy", BYPASSES)
    @pytest.mark.parametrize(
        "named",
        [
            {"HTTP_PROXY": PROXY},
            {"http_proxy": PROXY},
            {"HTTPS_PROXY": PROXY},
            {"ALL_PROXY": PROXY},
            {"HTTP_PROXY": "http://capitals", "http_proxy": PROXY},
            {"HTTP_PROXY": PROXY, "http_proxy": ""},
            {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"},
            {},
        ],
    )
    def test_proxies_of_the_environment_equal_those_of_requests(
        self, named: dict[str, str], no_proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {**named, "no_proxy": no_proxy}.items():
            monkeypatch.setenv(name, value)
        for url in URLS:
            peer = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or ""
            assert Proxies().of(url) == peer, url

    @pytest.mark.parametrize(
        ("no_proxy", "url", "bypassed"),
        [
            # requests compares ends of names, so that "ample.com" would name example.com: urllib.request does not.
            ("ample.com", "http://example.com/k", False),
            # requests heeds no port of an address, and no network of IPv6: urllib.request heeds the port.
            ("127.0.0.1:9000", "http://127.0.0.1:9000/k", True),
            ("127.0.0.1:9000", "http://127.0.0.1:9001/k", False),
            ("example.com:8080", "http://example.com/k", False),
            ("fd00::/8", "http://[fd12::1]/k", True),
            ("::1", "http://[::1]:9000/k", True),
            ("[::1]:9000", "http://[::1]:9000/k", True),
            ("10.0.0.0/8", "http://10.0.0.0.example.com/k", False),
            ("10.1.2.3/8", "http://10.9.9.9/k", True),
        ],
    )
    def test_no_proxy_excepts_hosts_ports_and_networks(
        self, no_proxy: str, url: str, bypassed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", PROXY)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert Proxies().of(url) == ("" if bypassed else PROXY)

    def test_http_proxy_in_capitals_serves_plain_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with RawServer(hello) as proxy, RawServer(hello) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            assert HTTPRaw(retry=ONCE).get(f"{server.url}/k") == b"hello"
            assert S3Raw("anonymous", endpoint_url=server.url, retry=ONCE).get("s3://b/k") == b"hello"
            assert [blob.data for blob in HTTPRaw(retry=ONCE).get_many([f"{server.url}/k"] * 2)] == [b"hello"] * 2
            assert server.heads == [] and len(proxy.heads) == 3

    def test_the_proxy_is_chosen_for_each_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One store, and so one pool of connections: the proxy is chosen for each request."""
        with RawServer(hello) as proxy, RawServer(hello) as server, RawServer(hello) as inside:
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.setenv("no_proxy", f"127.0.0.1:{inside.port}")
            store = HTTPRaw(retry=ONCE)
            for _ in range(2):
                for url in (server.url, inside.url):
                    assert store.get(f"{url}/k") == b"hello"
                    assert [blob.data for blob in store.get_many([f"{url}/k"])] == [b"hello"]
            assert (len(server.heads), len(proxy.heads), len(inside.heads)) == (0, 4, 4)

    def test_the_proxy_option_overrides_no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("no_proxy", "*")
        with RawServer(hello) as proxy:
            assert HTTPRaw(retry=ONCE, proxy=proxy.url).get("http://127.0.0.1:9/k") == b"hello"
            assert len(proxy.heads) == 1


@pytest.fixture
def hashed(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A folder with a certificate authority under the name by which OpenSSL looks for it, and a server's TLS."""
    bundle, mine = issued(tmp_path)
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("the openssl command makes the folder's names")
    folder = tmp_path / "authorities"
    folder.mkdir()
    command = [tool, "x509", "-hash", "-noout", "-in", str(bundle)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(bundle, folder / f"{name}.0")
    return folder, server_tls(mine)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE", None])
def test_certificate_authorities_may_be_a_folder(
    variable: str | None, hashed: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, context = hashed
    with RawServer(hello, tls=context) as server:
        empty = tmp_path / "empty"
        empty.mkdir()
        for trusted, works in ((folder, True), (empty, False)):
            if variable is not None:
                monkeypatch.setenv(variable, str(trusted))
            store = S3Raw(
                "anonymous", endpoint_url=server.url, retry=ONCE, ca_bundle=None if variable else str(trusted)
            )
            if works:
                assert store.get("s3://b/k") == b"hello"
                # libcurl first, then a connection of our own.
                for _ in range(2):
                    assert [blob.data for blob in store.get_many(["s3://b/k"])] == [b"hello"]
            else:
                with pytest.raises(StoreNotAvailable, match="certificate"):
                    store.get("s3://b/k")


# ---------------------------------------------------------------------- profiles


class Stop(Exception):
    """Ends a request of boto3 before it is sent."""


Way = tuple[str, str | None, bool] | None
BUCKETS = ["my-bucket", "dotted.name", "Upper_case"]


def as_boto3_goes(profile: str | None = None, *, unsigned: bool = False) -> list[Way]:
    """For each bucket the URL of an object, the authorities, and whether a write has a checksum; None: it refuses."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    seen: list[Any] = []

    def stop(request: Any, **_: Any) -> None:
        seen.append(request)
        raise Stop

    def way(bucket: str) -> Way:
        seen.clear()
        try:
            for ask in (client.get_object, lambda **kwargs: client.put_object(**kwargs, Body=b"x")):
                with contextlib.suppress(Stop):
                    ask(Bucket=bucket, Key="k")
        except Exception:
            return None
        checksums = any(name.lower().startswith(("x-amz-checksum-", "x-amz-trailer")) for name in seen[1].headers)
        verify = client._endpoint.http_session._verify
        return seen[0].url, verify if isinstance(verify, str) else None, checksums

    try:
        config = Config(signature_version=UNSIGNED) if unsigned else None
        client = boto3.Session(profile_name=profile).client("s3", config=config)
    except Exception:
        return [None] * len(BUCKETS)
    client.meta.events.register("before-send.s3", stop)
    return [way(bucket) for bucket in BUCKETS]


def as_we_go(credentials: Any) -> list[Way]:
    def way(bucket: str) -> Way:
        try:
            route = Route(bucket, 0, identity, identity.service.region)
        except Unusable:
            return None
        return route.url("k"), identity.service.ca_bundle, identity.service.checksums

    try:
        identity = Identity(credentials, Where(None, None, None))
    except Unusable:
        return [None] * len(BUCKETS)
    return [way(bucket) for bucket in BUCKETS]


REGION = "region = eu-west-1\n"
ACCELERATE = "s3 =\n  use_accelerate_endpoint = true\n"
PROFILES = [
    REGION,
    REGION + "use_fips_endpoint = true\n",
    "region = us-east-1\nuse_fips_endpoint = true\n",
    "region = us-gov-west-1\nuse_fips_endpoint = true\n",
    REGION + "use_dualstack_endpoint = true\n",
    REGION + "use_dualstack_endpoint = true\nuse_fips_endpoint = true\n",
    REGION + "s3 =\n  use_dualstack_endpoint = true\n",
    REGION + ACCELERATE,
    REGION + ACCELERATE + "  addressing_style = path\n",
    REGION + "use_dualstack_endpoint = true\n" + ACCELERATE,
    REGION + "use_fips_endpoint = true\n" + ACCELERATE,
    "region = cn-north-1\n" + ACCELERATE,
    REGION + "endpoint_url = http://127.0.0.1:9000\n" + ACCELERATE,
    REGION + "endpoint_url = https://s3-accelerate.amazonaws.com\n",
    REGION + "endpoint_url = http://127.0.0.1:9000\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n",
    REGION + "s3 =\n  addressing_style = path\n",
    REGION + "s3 =\n  addressing_style = virtual\n",
    REGION + "s3 =\n  addressing_style = nonsense\n",
    REGION + "endpoint_url = http://minio.test:9000\ns3 =\n  addressing_style = virtual\n",
    REGION + "endpoint_url = https://minio.test\ns3 =\n  addressing_style = virtual\n",
    REGION + "endpoint_url = http://minio.test:9000\nignore_configured_endpoint_urls = true\n",
    REGION + "services = mine\n[services mine]\ns3 =\n  endpoint_url = http://127.0.0.1:7\n",
    REGION + "ca_bundle = /company/ca.pem\n",
    REGION + "request_checksum_calculation = when_required\n",
    REGION + "request_checksum_calculation = when_supported\n",
    REGION + "request_checksum_calculation = nonsense\n",
]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of profiles, to be written."""
    file = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    return file


class TestProfiles:
    @pytest.mark.parametrize("profile", PROFILES)
    def test_profiles_are_followed_as_by_boto3(self, profile: str, config: Path) -> None:
        config.write_text("[profile p]\naws_access_key_id = A\naws_secret_access_key = B\n" + profile)
        assert as_we_go({"profile_name": "p"}) == as_boto3_goes("p")

    @pytest.mark.parametrize("profile", [each for each in PROFILES if "nonsense" not in each][::3])
    def test_profiles_hold_for_anonymous_use(self, profile: str, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config.write_text("[profile p]\n" + profile)
        monkeypatch.setenv("AWS_PROFILE", "p")
        assert as_we_go("anonymous") == as_boto3_goes(unsigned=True)

    @pytest.mark.parametrize(
        "named",
        [
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"},
            {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"},
            {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
        ],
    )
    def test_aws_variables_are_read_as_by_boto3(self, named: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {
            **named,
            "AWS_ACCESS_KEY_ID": "A",
            "AWS_SECRET_ACCESS_KEY": "B",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }.items():
            monkeypatch.setenv(name, value)
        assert as_we_go(None) == as_boto3_goes()

    def test_certificate_authorities_of_a_profile_are_trusted(self, config: Path, tmp_path: Path) -> None:
        bundle, mine = issued(tmp_path)
        with RawServer(hello, tls=server_tls(mine)) as server:
            keys = "aws_access_key_id = A\naws_secret_access_key = B\nregion = us-east-1\n"
            config.write_text(
                f"[profile p]\n{keys}endpoint_url = {server.url}\nca_bundle = {bundle}\n"
                f"[profile q]\n{keys}endpoint_url = {server.url}\n"
            )
            assert S3Raw({"profile_name": "p"}, retry=ONCE).get("s3://b/k") == b"hello"
            with pytest.raises(StoreNotAvailable, match="certificate"):
                S3Raw({"profile_name": "q"}, retry=ONCE).get("s3://b/k")

    def test_a_profile_can_limit_checksums_to_where_required(self, config: Path) -> None:
        with RawServer(hello) as server:
            keys = "aws_access_key_id = A\naws_secret_access_key = B\nregion = us-east-1\n"
            config.write_text(
                f"[profile p]\n{keys}endpoint_url = {server.url}\nrequest_checksum_calculation = when_required\n"
                f"[profile q]\n{keys}endpoint_url = {server.url}\n"
            )
            for profile, sent in (("p", False), ("q", True)):
                S3Raw({"profile_name": profile}, retry=ONCE).put("s3://b/k", b"")
                assert (b"x-amz-checksum-sha256" in server.heads[-1].lower()) is sent


# ---------------------------------------------------------------------- projects


class TestQuotaProject:
    def project(self, head: bytes) -> str | None:
        lines = [line.partition(b":") for line in head.split(b"\r\n")]
        found = [value.strip().decode() for name, _, value in lines if name.lower() == b"x-goog-user-project"]
        return found[0] if found else None

    def as_google_sends(self, credentials: Any) -> str | None:
        headers: dict[str, str] = {}
        credentials.apply(headers)
        return headers.get("x-goog-user-project")

    @pytest.mark.parametrize("project", ["who-pays", None])
    def test_the_quota_project_is_sent_as_by_googles_client(self, project: str | None) -> None:
        from google.oauth2.credentials import Credentials

        credentials: Any = Credentials("token", quota_project_id=project)  # type: ignore[no-untyped-call]
        with RawServer(hello) as server:
            store = GSRaw(credentials, endpoint_url=server.url, retry=ONCE)
            store.get("gs://b/k")
            store.user_project = "another"
            store.get("gs://b/k")
            assert [self.project(head) for head in server.heads] == [project, project]
            assert self.as_google_sends(credentials) == project
            assert b"userProject=another" in server.heads[1]

    @pytest.mark.parametrize("variable", [None, "of-the-environment"])
    def test_the_quota_project_of_a_file_or_the_environment_is_sent(
        self, variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import google.auth

        file = tmp_path / "adc.json"
        user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
        file.write_text(json.dumps({**user, "quota_project_id": "of-the-file"}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        if variable is not None:
            monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", variable)
        credentials: Any = google.auth.default()[0]
        with CountedAPI() as tokens, RawServer(hello) as server:
            monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{tokens.url}/token")
            tokens.rules.add(Answer(200, b'{"access_token": "t", "expires_in": 3600}'))
            GSRaw(endpoint_url=server.url, retry=ONCE).get("gs://b/k")
            credentials.token = "t"
            assert self.project(server.heads[0]) == self.as_google_sends(credentials) == (variable or "of-the-file")


# ---------------------------------------------------------------------- endpoints that hold the bucket's name


class TestEndpointWithTheBucketsName:
    """Consoles of R2 and MinIO show such addresses. The bucket's name is added to them, so nothing is found there."""

    def test_a_404_of_an_endpoint_with_the_bucket_name_is_no_absence(self) -> None:
        with CountedAPI() as server:
            server.rules.add(s3_error(404, "NoSuchKey"))
            store = S3Raw("anonymous", endpoint_url=f"{server.url}/blobs", retry=ONCE)
            for ask in (store.get, store.exists):
                with pytest.raises(StoreNotAvailable, match=r"ends in the name of the bucket.*leave /blobs out"):
                    ask("s3://blobs/k")
            with pytest.raises(NotFoundInStore):
                store.get("s3://other/k")

    def test_a_blob_of_an_endpoint_with_the_bucket_name_is_found(self) -> None:
        with CountedAPI() as server:
            server.rules.add(Answer(200, b"x"), path="^/blobs/blobs/k")
            assert S3Raw("anonymous", endpoint_url=f"{server.url}/blobs").get("s3://blobs/k") == b"x"

    @pytest.mark.parametrize(
        ("endpoint", "doubted"),
        [
            ("https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/blobs", True),
            ("https://blobs.0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", True),
            ("https://blobs.s3.eu-west-1.amazonaws.com", True),
            ("https://blobs.fra1.digitaloceanspaces.com", True),
            ("https://blobs.example.com", False),  # the name of a server
            ("https://example.com/s3/blobs-of-all", False),
            ("https://s3.eu-west-1.amazonaws.com", False),
        ],
    )
    def test_an_endpoint_with_the_bucket_name_is_in_doubt(self, endpoint: str, doubted: bool) -> None:
        identity = Identity("anonymous", Where(endpoint, None, None))
        assert bool(Route("blobs", 0, identity, "us-east-1").doubt) is doubted


# ---------------------------------------------------------------------- settings that are broken


PROCESS = "[default]\ncredential_process = "
SSO = "[default]\nsso_account_id = 1\nsso_role_name = r\n"
BROKEN: dict[str, tuple[dict[str, str], str | bytes | None, str]] = {
    "no such profile": ({"AWS_PROFILE": "nobody"}, None, "nobody"),
    "a folder": ({"AWS_CONFIG_FILE": "{folder}"}, None, "."),
    "no INI": ({}, "[profile p\nregion: x", "config"),
    "no UTF-8": ({}, b"[default]\nregion = \xff\xfe\n", "."),
    "no S3 settings": ({}, "[default]\ns3 = nonsense\n", "."),
    "credentials are no INI": ({"AWS_SHARED_CREDENTIALS_FILE": "{config}"}, "[default\n", "config"),
    "no region": ({"AWS_DEFAULT_REGION": "not a region\n"}, None, "."),
    "endpoint": ({"AWS_ENDPOINT_URL_S3": "ftp:// nowhere"}, None, "."),
    "process fails": (
        {},
        PROCESS + "{python} -c 'raise SystemExit(\"no keys today\")'\n",
        "no keys",
    ),
    "process babbles": ({}, PROCESS + "echo hello\n", "."),
    "no process": ({}, PROCESS + "/no/such/program\n", "no/such"),
    "SSO": (
        {},
        "[default]\nsso_start_url = https://x\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r\n",
        "SSO",
    ),
    "SSO session": ({}, SSO + "sso_session = gone\n", "gone"),
    "role": ({}, "[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = gone\n", "gone"),
    "token file": (
        {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such"},
        None,
        "no/such",
    ),
    "container": ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/"}, None, "Unsupported host"),
    "nothing": ({}, None, "boto3 finds no credentials"),
}


class TestBrokenSettings:
    """No other library's exception gets out: it says what is broken in the text of ours."""

    def prepare(self, case: str, config: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        named, text, told = BROKEN[case]
        if isinstance(text, bytes):
            config.write_bytes(text)
        elif text is not None:
            config.write_text(text.replace("{python}", sys.executable))
        for name, value in named.items():
            monkeypatch.setenv(name, value.format(folder=config.parent, config=config))
        return told

    @pytest.mark.parametrize("case", BROKEN)
    def test_broken_settings_of_s3_are_access_denied_with_the_reason(
        self, case: str, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = self.prepare(case, config, monkeypatch)
        with RawServer(hello) as server:
            store = S3Raw(proxy=server.url, retry=ONCE)
            for ask in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
                with pytest.raises(AccessDenied, match=told):
                    ask("s3://b/k")
            assert server.heads == []

    @pytest.mark.parametrize("case", BROKEN)
    @pytest.mark.parametrize("named", [True, False])
    def test_broken_settings_do_not_count_for_anonymous_access(
        self, case: str, named: bool, config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.prepare(case, config, monkeypatch)
        monkeypatch.setattr(once, "given", {})
        with RawServer(hello) as server, caplog.at_level(logging.WARNING, "bitstore"):
            if named:
                store = S3Raw("anonymous", endpoint_url=server.url, retry=ONCE)
            elif case in ("endpoint", "no region"):
                pytest.skip("then there is no address")
            else:
                monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
                store = S3Raw("anonymous", retry=ONCE)
            assert store.get("s3://b/k") == b"hello"
        assert len(caplog.records) <= 1
        if case in ("no such profile", "no INI"):
            assert "boto3's configuration does not count for 'anonymous'" in caplog.text

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (None, "no-such-file|was not found"),
            ("{", "json"),
            ("[]", "."),
            ("{}", "type"),
            ('{"type": "service_account"}', "service account|service_account"),
            ('{"type": "authorized_user"}', "refresh_token|authorized"),
            ('{"type": "external_account"}', "external"),
            (b"\xff\xfe", "."),
            ("folder", "."),
        ],
    )
    def test_broken_settings_of_google_are_access_denied_with_the_reason(
        self, text: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "no-such-file"
        if text == "folder":
            file.mkdir()
        elif text is not None:
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        with RawServer(hello) as server:
            store = GSRaw(endpoint_url=server.url, retry=ONCE)
            for ask in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
                with pytest.raises(AccessDenied, match=f"(?i){told}"):
                    ask("gs://b/k")
            assert server.heads == []
            assert GSRaw("anonymous", endpoint_url=server.url).get("gs://b/k") == b"hello"


# ---------------------------------------------------------------------- the page


def test_each_row_of_the_page_names_its_test() -> None:
    top = Path(__file__).parent.parent
    rows = [line for line in (top / "docs/settings.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        where = re.fullmatch(r"\| .+ \| .+ \| .+ \| `(tests/\w+\.py)((?:::\w+)+)` \|", row)
        assert where is not None, row
        source = (top / where[1]).read_text()
        for name in where[2].split("::")[1:]:
            assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), row
