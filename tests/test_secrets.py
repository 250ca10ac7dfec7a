"""No credential gets out: not by repr, log, error, pickle or statistics; and nothing switches TLS checks off."""

from __future__ import annotations

import ast
import base64
import datetime
import functools
import html
import inspect
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import Credentials

import bitstore
from bitstore import DiskCache, GSRaw, HTTPRaw, Retry, S3Raw, Sha1Cache, Sha1Store, Store
from bitstore._support.digests import algorithm
from bitstore._support.fingerprint import fingerprint
from bitstore._warming.run import Warming, fill_here, numbered
from bitstore.config import loads
from tests.certificates import issued, server_tls
from tests.clock import skip_pauses_of_google
from tests.raw_server import RawServer
from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request, Response, make_response
from tests.stores import as_cache, composed, sha1

ONCE = Retry(attempts=1)
DATA = b"a blob"
DIGEST = sha1(DATA)

# Each planted secret has a word in it that occurs nowhere else. The long ones are as long as real ones may be.
SECRETS = {
    "secret key": "PLANTEDsecretKEY" + "q" * 24,
    "session token": "PLANTEDsessionTOKEN" + "r" * 900,
    "bearer token": "ya29.PLANTEDbearerTOKEN" + "s" * 1000,
    "header": "PLANTEDheaderVALUE" + "t" * 20,
    "proxy password": "PLANTEDproxyPASSWORD",
    "refresh token": "PLANTEDrefreshTOKEN",
    "environment key": "PLANTEDenvironmentKEY" + "v" * 20,
}


@functools.cache
def service_account_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*pem).decode()


def leaks(text: str | bytes) -> list[str]:
    """Which secrets, or what lets one guess them, stand in `text`."""
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    found = [name for name, secret in SECRETS.items() if re.search("PLANTED[a-z]+[A-Z]+", secret)[0] in text]  # type: ignore[index]
    if service_account_key().splitlines()[5] in text:
        found.append("service account")
    encoded = base64.b64encode(f"user:{SECRETS['proxy password']}".encode()).decode()
    return found + (["proxy password, encoded"] if encoded in text else [])


class Echo(FaultyServer):
    """Answers whatever it is asked with an error that says all it was sent, in the manner of `style`."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 500
        self.style = "plain"
        self.before = ""

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        values = [value.removeprefix("Bearer ") for value in request.headers.values()]
        said = self.before + " ".join(values) + request.head.decode("latin-1").replace("\r\n", " ")
        if self.style == "S3":
            body = f"<Error><Code>Odd</Code><Message>{html.escape(said)}</Message></Error>"
        elif self.style == "GCS":
            body = json.dumps({"error": {"message": said, "errors": [{"reason": "odd"}]}})
        else:
            body = said
        return make_response(self.status, body.encode(), {}, method=request.method)


class Held(Credentials):
    """A google-auth credentials object with a token."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = SECRETS["bearer token"]
        self.expiry = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + datetime.timedelta(hours=1)

    def refresh(self, request: Any) -> None:
        raise AssertionError("the token is good for an hour")


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server


Case = tuple[Store, str, str]


def s3_keys(url: str) -> Case:
    keys = {
        "aws_access_key_id": "AKIA",
        "aws_secret_access_key": SECRETS["secret key"],
        "aws_session_token": SECRETS["session token"],
    }
    return S3Raw(keys, endpoint_url=url, region="us-east-1", retry=ONCE), "s3://bucket/", "S3"


def s3_environment(url: str) -> Case:
    os.environ.update(AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY=SECRETS["environment key"])
    return S3Raw(endpoint_url=url, region="us-east-1", retry=ONCE), "s3://bucket/", "S3"


def gs_token(url: str) -> Case:
    return GSRaw(Held(), endpoint_url=url, retry=ONCE), "gs://bucket/", "GCS"


def gs_service_account(url: str) -> Case:
    info = {
        "type": "service_account",
        "private_key": service_account_key(),
        "private_key_id": "id",
        "client_email": "me@example.iam.gserviceaccount.com",
        "token_uri": f"{url}/token",
    }
    return GSRaw(info, endpoint_url=url, retry=ONCE), "gs://bucket/", "GCS"


def gs_broken_service_account(url: str) -> Case:
    broken = service_account_key().replace("\n", "!", 3)
    info = {"type": "service_account", "private_key": broken, "client_email": "me", "token_uri": url}
    return GSRaw(info, endpoint_url=url, retry=ONCE), "gs://bucket/", "GCS"


def http_header(url: str) -> Case:
    headers = {"Authorization": f"Bearer {SECRETS['header']}", "X-Api-Key": SECRETS["header"] + "2"}
    return HTTPRaw(headers=headers, retry=ONCE), f"{url}/", "plain"


def http_proxy(url: str) -> Case:
    proxy = url.replace("http://", f"http://user:{SECRETS['proxy password']}@")
    return HTTPRaw(proxy=proxy, retry=ONCE), "http://blobs.example/", "plain"


def http_dead_proxy(url: str) -> Case:
    return HTTPRaw(proxy=f"http://user:{SECRETS['proxy password']}@127.0.0.1:9", retry=ONCE), f"{url}/", "plain"


def http_wrong_proxy(url: str) -> Case:
    return HTTPRaw(proxy=f"wrong://user:{SECRETS['proxy password']}@127.0.0.1:9", retry=ONCE), f"{url}/", "plain"


def s3_proxy(url: str) -> Case:
    proxy = f"http://user:{SECRETS['proxy password']}@127.0.0.1:9"
    return S3Raw("anonymous", endpoint_url=url, region="us-east-1", proxy=proxy, retry=ONCE), "s3://bucket/", "S3"


CASES = [
    s3_keys, s3_environment, s3_proxy, gs_token, gs_service_account, gs_broken_service_account, http_header,
    http_proxy, http_dead_proxy, http_wrong_proxy,
]  # fmt: skip


def told(error: BaseException) -> Iterator[str]:
    """All that an error can tell: itself, what it came from, its trace, its attributes, its pickle."""
    yield "".join(traceback.format_exception(error))
    todo, seen = [error], set[int]()
    while todo:
        this = todo.pop()
        if id(this) in seen:
            continue
        seen.add(id(this))
        yield from (str(this), repr(this), repr(this.args), repr(vars(this)))
        todo += [each for each in (this.__cause__, this.__context__) if each is not None]
        todo += [failure for _, failure in getattr(this, "failures", [])]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_no_repr_log_error_or_pickle_shows_a_secret(
    make: Callable[[str], Case],
    status: int,
    echo: Echo,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    skip_pauses_of_google(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")  # so that what a case sets is taken back
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["environment key"])
    caplog.set_level(logging.DEBUG)
    raw, prefix, echo.style = make(echo.url)
    echo.status = status
    composite = composed(
        as_cache(DiskCache(tmp_path / "cache")),
        Sha1Store(raw, prefix, verify=True),
        as_cache(Sha1Cache(raw, f"{prefix}kept/")),
    )
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / DIGEST).write_bytes(DATA)
    texts: list[str] = []
    errors: list[BaseException] = []
    # The second time the answer is so long that it is cut in the middle of what it echoes.
    for echo.before in ("", "x" * 250):
        for operation in (composite.get, lambda uri: raw.get(prefix + uri), lambda uri: raw.exists(prefix + uri),
                          lambda uri: raw.put(prefix + uri, DATA)):  # fmt: skip
            try:
                texts.append(str(operation(DIGEST)))
            except Exception as error:
                errors.append(error)
        errors += [blob.error for blob in composite.get_many([DIGEST], patience=0) if blob.error]
        texts += [repr(blob) for blob in composite.get_many([DIGEST], patience=0)]
    composite.append_source(Sha1Store(bitstore.FileRaw(), f"file://{shelf}/"))
    assert composite.get(DIGEST) == DATA  # and a cache that cannot be written warns
    assert errors
    for failure in errors:
        texts += told(failure)
        texts.append(pickle.dumps(failure).decode("latin-1"))
        texts += told(pickle.loads(pickle.dumps(failure)))
    for store in (raw, composite, *composite.sources):
        texts += [repr(store), str(store), str(getattr(store, "label", ""))]
    texts += [repr(composite.stats()), repr({name: stats.as_dict() for name, stats in composite.stats().items()})]
    # What other libraries log when they are told to log everything is theirs.
    texts += [caplog.handler.format(record) for record in caplog.records if record.name.startswith("bitstore")]
    found = {leak: text[:1500] for text in texts for leak in leaks(text)}
    assert found == {}


@pytest.mark.parametrize("make", [s3_environment, gs_token, http_header], ids=lambda make: make.__name__)
def test_pickles_hold_the_arguments_of_the_user_and_no_found_secret(
    make: Callable[[str], Case], echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found in the environment, or learned in use, stays behind."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["environment key"])
    raw, prefix, echo.style = make(echo.url)
    before = pickle.dumps(raw)
    echo.status = 404
    with pytest.raises(Exception, match=DIGEST):
        raw.get(prefix + DIGEST)
    assert pickle.dumps(raw) == before
    assert (
        leaks(before) == {"s3_environment": [], "gs_token": ["bearer token"], "http_header": ["header"]}[make.__name__]
    )


@pytest.mark.parametrize("make", [s3_keys, gs_token, http_header, http_proxy], ids=lambda make: make.__name__)
def test_the_ledger_of_a_warming_shows_no_secret(
    make: Callable[[str], Case], echo: Echo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its rows hold the texts of errors, its metadata what identifies the store."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["environment key"])
    raw, prefix, echo.style = make(echo.url)
    composite = composed(as_cache(DiskCache(tmp_path / "cache")), Sha1Store(raw, prefix, verify=True))
    kind = algorithm("sha1")
    said: list[str] = []
    folder = tmp_path / "ledger"
    warming = Warming(
        algorithm=kind, target="here", store_id=fingerprint(composite), ledger=folder, show=True, say=said.append
    )
    fill = fill_here(composite, dry_run=False, timeout=20, in_flight=None)
    report = warming.run(numbered([DIGEST, SECRETS["header"][:3]], kind), fill)
    texts: list[str | bytes] = [repr(report), str(report), *said]
    for path in sorted(folder.rglob("*.parquet")):
        table = pyarrow.parquet.read_table(path)
        texts += [path.read_bytes(), str(table.to_pylist()), repr(table.schema.metadata)]
    assert any("failed" in text for text in texts if isinstance(text, str))
    assert {leak: text[:1500] for text in texts for leak in leaks(text)} == {}


def test_a_configuration_shows_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", SECRETS["header"])
    tier = 'algorithm = "sha1"\n[[tier]]\nname = "web"\nurl = "https://host/"\n'
    composite = loads(tier + 'headers = {Authorization = "Bearer ${API_TOKEN}"}\n')
    assert leaks(repr(composite)) == []


def test_urls_with_passwords_are_refused_without_showing_them() -> None:
    password = SECRETS["proxy password"]
    for raw in (HTTPRaw(), S3Raw("anonymous", endpoint_url="http://127.0.0.1:9")):
        with pytest.raises(bitstore.InvalidURI) as caught:
            raw.get(f"https://user:{password}@host/x")
        assert [leak for text in told(caught.value) for leak in leaks(text)] == []
    for kind in (S3Raw, GSRaw):
        with pytest.raises(ValueError, match="endpoint_url") as wrong:
            kind(endpoint_url=f"https://user:{password}@host")
        assert leaks(str(wrong.value)) == []


def test_a_client_of_a_user_is_never_shown() -> None:
    import boto3

    session: Any = boto3.Session("AKIA", SECRETS["secret key"], SECRETS["session token"], region_name="us-east-1")
    store = Sha1Store(S3Raw(client=session.client("s3")), "s3://bucket/")
    assert leaks(repr(store)) == []
    with pytest.raises(TypeError, match="does not pickle") as caught:
        pickle.dumps(store)
    assert [leak for text in told(caught.value) for leak in leaks(text)] == []


# ---------------------------------------------------------------------- TLS


def test_an_unknown_certificate_is_refused_whatever_the_environment_says(tmp_path: Path) -> None:
    bundle, mine = issued(tmp_path)
    (tmp_path / ".curlrc").write_text("insecure\n")
    code = (
        "import json, sys; from bitstore import *\n"
        "once, url = Retry(attempts=1), sys.argv[1]\n"
        "stores = [(HTTPRaw(retry=once), url + '/x'), (GSRaw('anonymous', endpoint_url=url, retry=once), 'gs://bucket/x'),\n"
        "    (S3Raw('anonymous', endpoint_url=url, region='us-east-1', retry=once), 's3://bucket/x')]\n"
        "def ask(get):\n"
        "    try: return repr(get())\n"
        "    except StoreNotAvailable as error: return str(error)\n"
        "single = [ask(lambda: store.get(uri)) for store, uri in stores]\n"
        "print(json.dumps(single + [str(blob.error) for store, uri in stores for blob in store.get_many([uri])]))\n"
    )
    off = {
        "PYTHONHTTPSVERIFY": "0",
        "CURL_INSECURE": "1",
        "CURL_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "GIT_SSL_NO_VERIFY": "1",
        "NODE_TLS_REJECT_UNAUTHORIZED": "0",
        "AWS_CA_BUNDLE": "",
        "REQUESTS_CA_BUNDLE": "",
        "CURL_CA_BUNDLE": "",
        "SSL_CERT_FILE": "",
        "SSL_CERT_DIR": str(tmp_path),
        "OPENSSL_CONF": os.devnull,
    }
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(DATA), DATA)
    with RawServer(lambda peer, _, __: peer.sendall(answer), tls=server_tls(mine)) as server:
        command = [sys.executable, "-c", code, server.url]
        done = subprocess.run(command, env={**os.environ, **off}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout)
        assert len(answers) == 6
        assert all("certificate" in answer and "(curl error 60)" in answer for answer in answers), answers
        assert server.heads == []
        # The control: it is the certificate, and nothing else, for which the others were refused.
        assert HTTPRaw(ca_bundle=bundle, retry=ONCE).get(f"{server.url}/x") == DATA


def test_no_option_switches_off_the_checks_of_certificates() -> None:
    for kind in (S3Raw, GSRaw, HTTPRaw):
        names = set(inspect.signature(kind).parameters) - {"request_checksum_calculation"}
        assert not [name for name in names if re.search("insecure|tls|ssl|verify|check", name)]
    pattern = re.compile(r"SSL_VERIFY(PEER|HOST)|CERT_NONE|check_hostname|_create_unverified")
    for path in Path(bitstore.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not pattern.search(text), path.name
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        unchecked = {ast.unparse(each.func) for each in calls for key in each.keywords if switched_off(key)}
        assert unchecked <= {"self.cache.open", "self.store.open"}, path.name  # `verify` of digests


def switched_off(key: ast.keyword) -> bool:
    off = isinstance(key.value, ast.Constant) and not key.value.value
    return key.arg in ("verify", "verify_ssl", "ssl_verify", "use_ssl", "ssl") and off


@pytest.mark.parametrize(
    "prefix", ["http://user:{secret}@127.0.0.1:9/blobs/", "http://127.0.0.1:9/{{digest}}?sig={secret}&x=1"]
)
def test_a_secret_in_the_prefix_of_a_store_is_not_shown(prefix: str, tmp_path: Path) -> None:
    prefix = prefix.format(secret=SECRETS["header"])
    raw = bitstore.HTTPRaw(retry=bitstore.Retry(attempts=1))
    if "user:" in prefix:  # which no request may carry: refused at once, and where it is put in later, at each lookup
        with pytest.raises(ValueError, match="no URL that HTTPRaw takes") as refused:
            Sha1Store(raw, prefix)
        assert not [text for text in told(refused.value) if leaks(text)]
    store = Sha1Store(raw, "http://127.0.0.1:9/")
    store.prefix = prefix
    composite = composed(store)
    (blob,) = composite.get_many([DIGEST], patience=0)
    assert blob.error is not None
    texts = [
        repr(store),
        repr(composite),
        str(composite.stats()),
        *told(blob.error),
        pickle.dumps(blob.error).decode("latin-1"),
    ]
    texts += [repr(blob), store.label]
    assert not [text for text in texts if leaks(text)]
