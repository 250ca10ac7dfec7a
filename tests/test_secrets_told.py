"""No secret in what is told: signed URLs, exceptions of users' stores, limits, the command, files that are left."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import sqlite3
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from bitstore import (
    CallLimit,
    Composite,
    DiskCache,
    HTTPRaw,
    InvalidDataFound,
    InvalidURI,
    LimitReached,
    LookupFailed,
    MemoryCache,
    NotFoundInStore,
    Retry,
    Sha1Store,
    StoreNotAvailable,
)
from bitstore._frames.row_answer import answer_of
from bitstore._limits.accounts import AccountError, FileAccount
from bitstore._limits.windows import Terms
from bitstore._support.digests import algorithm
from bitstore._support.fingerprint import fingerprint
from bitstore._support.redact import redact, redact_url
from bitstore._warming.run import Warming, fill_here, numbered
from bitstore.config import ConfigError, from_urls, loads
from tests.servers import Answer, CountedAPI, Reset
from tests.stores import API, Box, Shelf, as_cache, composed, sha1, with_tiers

SECRET = "PLANTEDsecret0123456789"
DATA = b"a blob"
DIGEST = sha1(DATA)
ONCE = Retry(attempts=1)


def texts_of(error: BaseException) -> list[str]:
    return [str(error), repr(error), str(pickle.loads(pickle.dumps(error))), repr(pickle.loads(pickle.dumps(error)))]


# ---------------------------------------------------------------------- URLs that are secrets


@pytest.mark.parametrize("uri", [f"https://host/x?X-Amz-Signature={SECRET}", f"https://me:{SECRET}@host/x?v=1"])
def test_an_error_shows_no_signed_url(uri: str) -> None:
    failed = LookupFailed("store", uri, [("web", StoreNotAvailable("web", "down"))])
    for error in (NotFoundInStore("s", uri), InvalidDataFound("s", uri), InvalidURI("s", uri), failed):
        assert [text for text in texts_of(error) if SECRET in text or "host/x" not in text] == []
        assert SECRET in str(error.__reduce__())  # what was asked for is not lost


@pytest.mark.parametrize("status", [404, 500, None])
def test_a_batch_shows_no_signed_url(status: int | None, api: CountedAPI, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api.rules.add(Reset() if status is None else Answer(status))
    uri = f"{api.url}/blob/x?sig={SECRET}"
    composite = with_tiers(Composite(), as_cache(MemoryCache()), HTTPRaw(retry=ONCE))
    texts = []
    for _ in range(6):  # so that a breaker opens, and tells why
        [blob] = composite.get_many([uri], patience=0)
        assert blob.error is not None and blob.uri == uri
        texts += [repr(blob), answer_of(blob).text, *texts_of(blob.error)]
    assert list(composite.get_many([uri], errors="log", patience=0)) == []
    texts += [repr(composite.stats()), caplog.text]
    assert "/blob/x" in caplog.text
    assert [text for text in texts if SECRET in str(text)] == []


def test_a_download_that_breaks_off_leaves_no_signed_url_on_disk(tmp_path: Path) -> None:
    """What it leaves lies beside the file, until the download is resumed."""
    import http.server
    import threading

    class Cut(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(b"x" * 500_000)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cut)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(StoreNotAvailable):
            HTTPRaw(retry=ONCE).download(
                f"http://127.0.0.1:{server.server_address[1]}/x?sig={SECRET}", tmp_path / "out"
            )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    left = {path.suffix: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(left) == {".partial", ".origin"} and b"one" in left[".origin"]
    assert SECRET.encode() not in b"".join(left.values())


# ---------------------------------------------------------------------- what users' stores raise

CARELESS = {
    "url": ConnectionError(f"GET https://api.example/v1?key={SECRET}&x=1 failed"),
    "path": OSError(f"Max retries exceeded with url: /v1?a=1&api_key={SECRET} (Caused by ...)"),
    "user": ValueError(f"proxy http://me:{SECRET}@proxy.example:3128 refused"),
    "header": RuntimeError(f"sent {{'Authorization': 'Bearer {SECRET}'}}"),
}
careless = pytest.mark.parametrize("error", CARELESS.values(), ids=CARELESS)


@careless
def test_secrets_raised_by_a_users_store_are_redacted_in_logs_and_rows(
    error: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception is the user's, and stays as it is; what is made of it for logs, rows and ledgers is not."""
    caplog.set_level(logging.DEBUG)
    api, cache = API({}), Box()
    api.fail, cache.fail_put = error, error
    composite = composed(as_cache(DiskCache(tmp_path / "cache")), as_cache(cache), api)
    texts: list[object] = []
    for _ in range(7):
        [blob] = composite.get_many([DIGEST], patience=0)
        assert isinstance(blob.error, LookupFailed) and blob.error.failures[0][1] is not None
        texts += [repr(blob), answer_of(blob).text, str(blob.error), repr(blob.error), blob.error.reason]
    assert composite.stats()["API"].breaker == "open"
    assert list(composite.get_many([DIGEST], errors="log", patience=0)) == []
    kind = algorithm("sha1")
    said: list[str] = []
    ledger = tmp_path / "ledger"
    warming = Warming(algorithm=kind, target="here", store_id=fingerprint(composite), ledger=ledger, say=said.append)
    texts.append(
        str(warming.run(numbered([DIGEST], kind), fill_here(composite, dry_run=False, timeout=0.5, in_flight=None)))
    )
    texts += [str(pyarrow.parquet.read_table(path).to_pylist()) for path in sorted(ledger.rglob("*.parquet"))]
    composite.append_source(Shelf({DIGEST: DATA}))
    assert composite.get(DIGEST) == DATA  # one cache cannot keep it, and warns
    texts += [*said, repr(composite.stats()), caplog.text]
    assert "could not keep a blob" in caplog.text and "left alone" in caplog.text
    assert len([text for text in texts if type(error).__name__ in str(text)]) > 5  # it is told, but for the secret
    assert [text for text in texts if SECRET in str(text)] == []


def test_texts_without_a_secret_are_not_redacted() -> None:
    for text in (
        "key /a/b?x",
        "https://host/a/b",
        "the token is bad",
        "basic rules",
        "s3://bucket/key?x=1",
        "a@b.example",
    ):
        assert redact(text) == redact_url(text) == text
    assert redact("https://h/x?a=1 (curl error 7)") == "https://h/x?*** (curl error 7)"
    assert redact(redact("url: /v1?a=1&key=b: bearer abcdefghi")) == "url: /v1?a=1&key=*** bearer ***"


# ---------------------------------------------------------------------- limits


def test_the_state_of_a_limit_holds_only_names_and_numbers(tmp_path: Path) -> None:
    """Names and numbers only: the file may be read by administrators of the machine."""
    state = tmp_path / "limits.sqlite"

    class Keyed(API):
        api_key = SECRET

    api = Keyed({DIGEST: DATA})
    api.limit = CallLimit("account", per_day=2, state=state, wait=0)
    composite = composed(api)
    assert composite.get(DIGEST) == DATA
    api.fail = OSError(f"https://me:{SECRET}@host/")
    with pytest.raises(LookupFailed):
        composite.get(DIGEST)
    with pytest.raises(LookupFailed) as caught:
        composite.get(DIGEST)
    assert isinstance(caught.value.failures[0][1], LimitReached)
    texts = [repr(api.limit), *texts_of(caught.value), pickle.dumps(api.limit).decode("latin-1")]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    with sqlite3.connect(state) as file:
        texts.append(repr(file.execute("SELECT * FROM account").fetchall()))
    assert "account" in texts[-1]
    assert [text for text in texts if SECRET in text or (DIGEST in text and text not in texts_of(caught.value))] == []


def test_the_error_of_a_limit_that_cannot_count_shows_only_its_file(tmp_path: Path) -> None:
    broken = tmp_path / "limits.sqlite"
    broken.write_bytes(b"no database at all, but of a size that looks like one" * 100)
    with pytest.raises(AccountError, match=r"limits\.sqlite") as caught:
        FileAccount(broken, "account", Terms(per_day=1)).take()
    assert "looks like one" not in "".join(traceback.format_exception(caught.value))


# ---------------------------------------------------------------------- the names of pools


class Signs(API):
    """A user's store with secrets in odd places."""

    def __init__(self, secret: str, where: str) -> None:
        super().__init__({})
        token, password = secret, secret
        held: dict[str, Any] = {
            "closure": lambda url: url + token + password,
            "attribute": secret,
            "nested": {"user": "me", "password": secret},
            "pair": ("me", secret),
            "address": f"https://me:{secret}@host/?v=1&sig={secret}",
        }
        names = {"attribute": "subscription_key", "pair": "auth"}
        setattr(self, names.get(where, "thing"), held[where])


@pytest.mark.parametrize("where", ["closure", "attribute", "nested", "pair", "address"])
def test_the_name_of_a_pool_gives_no_way_to_test_guesses_of_a_secret(where: str) -> None:
    assert fingerprint(Signs("one", where)) == fingerprint(Signs("two", where))


@pytest.mark.parametrize(
    "header", ["Authorization", "X-Api-Key", "Ocp-Apim-Subscription-Key", "Cookie", "X-Auth-Token"]
)
def test_headers_with_secrets_do_not_change_the_name_of_a_pool(header: str) -> None:
    assert fingerprint(HTTPRaw(headers={header: "one"})) == fingerprint(HTTPRaw(headers={header: "two"}))


def test_another_prefix_or_header_makes_another_name_of_a_pool() -> None:
    def of(prefix: str) -> str:
        return fingerprint(Sha1Store(HTTPRaw(), prefix))

    assert of("https://host/{digest}?sig=one") == of("https://host/{digest}?sig=two")
    assert of("https://host/{digest}?tenant=one") != of("https://host/{digest}?tenant=two")
    assert of("https://host/get?key=one/{digest}") != of("https://host/get?key=two/{digest}")
    assert fingerprint(HTTPRaw(headers={"X-Tenant": "one"})) != fingerprint(HTTPRaw(headers={"X-Tenant": "two"}))


# ---------------------------------------------------------------------- the command


def run(folder: Path, *args: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bitstore", *args],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_command_shows_no_secret_and_leaves_none(tmp_path: Path, api: CountedAPI) -> None:
    api.rules.add(Answer(403))  # a refusal, which is not waited for
    (tmp_path / "bitstore.toml").write_text(f"""
        algorithm = "sha1"
        [[tier]]
        name = "disk"
        cache = "disk"
        path = "cache"
        [[tier]]
        name = "web"
        url = "{api.url}/blob/{{digest}}?sig={SECRET}"
        headers = {{Authorization = "Bearer ${{API_TOKEN}}", "X-Password" = "{SECRET}"}}
        retry = {{attempts = 1}}
        [[tier]]
        url = "http://blobs.example/"
        name = "behind a proxy"
        proxy = "{api.url.replace("//", f"//me:{SECRET}@")}"
        retry = {{attempts = 1}}
    """)
    (tmp_path / "list.txt").write_text(f"{DIGEST}\n{hashlib.sha1(b'2').hexdigest()}\nno digest\n")
    url = f"{api.url}/blob/{{digest}}?sig={SECRET}"
    said = {}
    for name, command in {
        "get --store": ["get", DIGEST, "--store", url],
        "fetch": ["fetch", "list.txt", "-o", "out"],
        "fetch --store": ["fetch", "list.txt", "-o", "out2", "--store", url],
        "warm": ["warm", "list.txt", "--ledger", "ledger"],
        "warm with another store": ["warm", "list.txt", "--ledger", "ledger", "--store", url, "--cache", "cache"],
    }.items():
        code, said[name] = run(tmp_path, *command, API_TOKEN=SECRET)
        assert code in (1, 2, 3) and "Traceback" not in said[name], said[name]
    (tmp_path / "bitstore.toml").unlink()
    texts = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(name.endswith("failed.tsv") for name in texts) and any("ledger" in name for name in texts)
    assert {name: text for name, text in said.items() if SECRET in text} == {}
    assert [name for name, text in texts.items() if SECRET.encode() in text] == []
    ledgers = [pyarrow.parquet.read_table(path) for path in (tmp_path / "ledger").rglob("*.parquet")]
    assert ledgers and not [table for table in ledgers if SECRET in str(table.to_pylist()) + str(table.schema.metadata)]


def test_the_tiers_of_a_command_line_have_distinct_names() -> None:
    """Also where the URLs differ in what is not shown alone."""
    urls = [f"https://host/{{digest}}?sig={SECRET}{number}" for number in range(3)]
    store = from_urls(urls, algorithm="sha1")
    assert list(store.stats()) == [f"https://host/{{digest}}?***{more}" for more in ("", " #2", " #3")]
    assert [source.prefix for source in store.sources] == urls  # type: ignore[attr-defined]


WRONG: dict[str, str] = {
    "type": "proxy = ['http://me:{s}@h']",
    "unknown key": "pasword = '{s}'",
    "misspelt header table": "header = {{Authorization = '{s}'}}",
    "number": "stall_timeout = 'https://me:{s}@h'",
    "headers no table": "headers = 'Bearer {s}'",
    "headers of tables": "headers = {{Authorization = {{value = '{s}'}}}}",
    "proxy": "proxy = 'wrong://me:{s}@h:1'",
    "proxy, no host": "proxy = 'http://me:{s}@'",
    "line feed": 'headers = {{Authorization = "{s}\\n"}}',
    "bundle": "ca_bundle = 'https://me:{s}@h/'\nproxy = 3",
    "no TOML": 'headers = {{Authorization = "{s}\n',
    "compression": "compression = 'https://me:{s}@h/'",
    "no such key": "proxy = 'http://me:{s}@host'\nno_such_key = 1",
    "password in the URL": "url = 'https://user:{s}@host/'",
    "name of a header": "headers = {{'bad name' = '{s}'}}",
    "variable": "headers = {{Authorization = '{s} ${{NO_SUCH_VARIABLE}}'}}",
}


@pytest.mark.parametrize("line", WRONG.values(), ids=WRONG)
def test_a_wrong_configuration_shows_no_secret(line: str) -> None:
    url = "" if line.startswith("url") else 'url = "https://host/"\n'
    text = f'algorithm = "sha1"\n[[tier]]\nname = "web"\n{url}{line.format(s=SECRET)}\n'
    texts: list[object] = []
    try:
        store = loads(text)
        [blob] = store.get_many([DIGEST], patience=0, timeout=5)
        texts += [store, blob, blob.error]
    except ConfigError as error:
        texts += [error, repr(error)]
    assert [text for text in texts if SECRET in f"{text} {text!r}"] == []
