"""Settings that other tools heed, and that are heeded here: docs/settings.md names the test of each."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import requests

from bitstore import HTTPRaw, Retry, S3Raw, StoreNotAvailable
from bitstore._transport.proxies import Proxies
from tests.certificates import issued
from tests.raw_server import RawServer

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
    def test_they_are_those_of_requests(
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
    def test_no_proxy_names_hosts_ports_and_networks(
        self, no_proxy: str, url: str, bypassed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", PROXY)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert Proxies().of(url) == ("" if bypassed else PROXY)

    def test_capitals_alone_serve_plain_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with RawServer(hello) as proxy, RawServer(hello) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            assert HTTPRaw(retry=ONCE).get(f"{server.url}/k") == b"hello"
            assert S3Raw("anonymous", endpoint_url=server.url, retry=ONCE).get("s3://b/k") == b"hello"
            assert [blob.data for blob in HTTPRaw(retry=ONCE).get_many([f"{server.url}/k"] * 2)] == [b"hello"] * 2
            assert server.heads == [] and len(proxy.heads) == 3

    def test_each_server_goes_its_own_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_the_option_is_stronger_than_no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine)
    return folder, context


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE", None])
def test_authorities_may_be_a_folder(
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
