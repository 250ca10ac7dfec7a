"""Options of raw stores: known by name, checked whenever they are set, and acting from the next request on."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidURI,
    LFSRaw,
    RateLimit,
    Retry,
    S3Raw,
    StoreNotAvailable,
)
from bitstore._raw.gs import GSOptions
from bitstore._raw.http import HTTPOptions
from bitstore._raw.lfs import LFSOptions
from bitstore._raw.options import options_of
from bitstore._raw.s3 import S3Options
from bitstore.config import loads
from tests.scripted_server import Asked, Reply, ScriptedServer

WIRE = [(S3Raw, S3Options), (GSRaw, GSOptions), (HTTPRaw, HTTPOptions), (LFSRaw, LFSOptions)]


@pytest.mark.parametrize(("kind", "typed"), WIRE)
def test_options_of_the_type_and_of_the_class_agree(kind: type, typed: Any) -> None:
    assert set(typed.__annotations__) == set(options_of(kind))


@pytest.mark.parametrize("kind", [S3Raw, GSRaw, HTTPRaw, LFSRaw, FileRaw])
def test_signature_shows_every_option_with_its_default(kind: type) -> None:
    parameters = inspect.signature(kind).parameters
    assert "options" not in parameters
    for name, option in options_of(kind).items():
        assert parameters[name].default == option.default
    assert ("credentials" in parameters) == (kind in (S3Raw, GSRaw))


@pytest.mark.parametrize("kind", [S3Raw, GSRaw, HTTPRaw])
def test_unknown_option_error_names_the_close_match(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"has no option 'conect_timeout' \(did you mean 'connect_timeout'\?\)"):
        kind(conect_timeout=1)

    class OfAUser(kind):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)

    assert OfAUser(connect_timeout=2).connect_timeout == 2
    with pytest.raises(TypeError, match=r"OfAUser has no option 'max_blob' .*'max_blob_size'"):
        OfAUser(max_blob=1)


BAD = {
    "connect_timeout": -1,
    "stall_timeout": "soon",
    "total_timeout": 0,
    "max_blob_size": "many",
    "range_threshold": 0,
    "ca_bundle": "/no/such/file",
    "proxy": "http://a b",
    "retry": 3,
    "limit": 5,
    "acl": "x\r\nEvil: 1",
    "region": "a/b",
    "endpoint_url": "ftp://x",
    "addressing_style": "sideways",
    "user_project": "a\nb",
    "headers": {"X": "a\r\nb"},
    "follow_redirects": -1,
    "root": "relative",
}


@pytest.mark.parametrize("kind", [S3Raw, GSRaw, HTTPRaw, LFSRaw, FileRaw])
def test_values_are_checked_by_the_constructor_and_when_set_later(kind: Any) -> None:
    store = kind()
    tried = 0
    for name in BAD.keys() & options_of(kind).keys():
        before = getattr(store, name)
        with pytest.raises((ValueError, TypeError), match=name if name != "headers" else "header"):
            kind(**{name: BAD[name]})
        with pytest.raises((ValueError, TypeError)):
            setattr(store, name, BAD[name])
        assert getattr(store, name) == before
        tried += 1
    assert tried


@pytest.mark.parametrize("uri", [None, b"s3://b/k", 7, ["s3://b/k"]])
@pytest.mark.parametrize("kind", [S3Raw, GSRaw, HTTPRaw, LFSRaw, FileRaw])
def test_a_uri_that_is_no_str_is_a_type_error(kind: Any, uri: Any) -> None:
    store = kind()
    assert not store.is_valid(uri)
    for operation in (store.get, store.exists, lambda uri: store.put(uri, b"x")):
        with pytest.raises(TypeError, match=rf"{kind.__name__} expected a str such as '{store.URI_HINT}', not"):
            operation(uri)


@pytest.mark.parametrize("kind", [S3Raw, GSRaw])
def test_limit_and_client_exclude_each_other_in_any_order(kind: Any) -> None:
    for first, second in (("limit", "client"), ("client", "limit")):
        store = kind()
        values = {"limit": RateLimit(per_second=1), "client": object()}
        setattr(store, first, values[first])
        with pytest.raises(ValueError, match="exclude each other"):
            setattr(store, second, values[second])
        assert getattr(store, second) is None


class CountedRate:
    """A rate that lets every request pass."""

    def __init__(self) -> None:
        self.turns = 0

    def turn_steps(self) -> Any:
        self.turns += 1
        return
        yield

    def slow_down(self) -> None: ...


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    def answer(asked: Asked) -> Reply:
        part = asked.headers.get("range", "").removeprefix("bytes=").partition("-")
        if not part[0]:
            return 200, {"ETag": '"e"'}, b"blob"
        body = b"blob"[int(part[0]) : int(part[2]) + 1]
        return 206, {"ETag": '"e"', "Content-Range": f"bytes {part[0]}-{int(part[0]) + len(body) - 1}/4"}, body

    with ScriptedServer(answer) as running:
        yield running


def used(server: ScriptedServer) -> HTTPRaw:
    """A store that has sent a request already."""
    store = HTTPRaw(retry=Retry(attempts=1))
    assert store.get(f"{server.url}/k") == b"blob"
    return store


def test_limit_set_later_holds_from_the_next_request(server: ScriptedServer) -> None:
    store = used(server)
    rate: Any = CountedRate()
    store.limit = rate
    store.get(f"{server.url}/k")
    assert rate.turns == 1
    assert store.stats()["requests"] == 2
    store.limit = None
    store.get(f"{server.url}/k")
    assert rate.turns == 1


def test_max_blob_size_set_later_holds_from_the_next_request(server: ScriptedServer) -> None:
    store = used(server)
    store.max_blob_size = 2
    with pytest.raises(StoreNotAvailable, match="larger than max_blob_size"):
        store.get(f"{server.url}/k")
    assert pickle.loads(pickle.dumps(store)).max_blob_size == 2
    store.max_blob_size = None
    assert store.get(f"{server.url}/k") == b"blob"


def test_range_threshold_set_later_holds_from_the_next_request(server: ScriptedServer) -> None:
    store = used(server)
    store.range_threshold = 1
    assert store.get(f"{server.url}/k") == b"blob"
    assert any("range" in seen.headers for seen in server.seen)


def test_retry_set_later_holds_from_the_next_request(server: ScriptedServer) -> None:
    store = used(server)
    right = server.answer
    server.answer = lambda asked: (503, {}, b"") if asked.nth in (1, 2) else right(asked)
    with pytest.raises(StoreNotAvailable):
        store.get(f"{server.url}/k")
    store.retry = Retry(attempts=2, first_delay=0)
    assert store.get(f"{server.url}/k") == b"blob"


def test_headers_set_later_or_changed_in_place_are_sent_with_the_next_request(server: ScriptedServer) -> None:
    store = used(server)
    store.headers = {"X-Team": "a"}
    store.get(f"{server.url}/k")
    assert server.seen[-1].headers["x-team"] == "a"
    store.headers["X-Team"] = "b"
    store.get(f"{server.url}/k")
    assert server.seen[-1].headers["x-team"] == "b"
    store.headers["X-Team"] = "b\r\nEvil: 1"
    with pytest.raises(ValueError, match="X-Team"):
        store.get(f"{server.url}/k")


def test_an_address_and_credentials_set_later_hold_from_the_next_request(server: ScriptedServer) -> None:
    for store, uri in ((S3Raw("anonymous", region="x"), "s3://b/k"), (GSRaw("anonymous"), "gs://b/k")):
        store.retry = Retry(attempts=1)
        store.endpoint_url = "http://127.0.0.1:9"
        with pytest.raises(StoreNotAvailable):
            store.get(uri)
        store.endpoint_url = server.url
        assert store.get(uri) == b"blob"


def test_credentials_cannot_be_changed_in_place() -> None:
    store = S3Raw.anonymous()
    store.credentials.append("x")
    assert store.credentials == ["anonymous"]


def test_a_root_set_later_holds_from_the_next_lookup(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"x")
    store = FileRaw()
    assert store.get(f"file://{tmp_path}/k") == b"x"
    store.root = str(tmp_path / "inside")
    with pytest.raises(InvalidURI):
        store.get(f"file://{tmp_path}/k")


def test_configuration_files_set_missing_bucket_and_missing_folder(tmp_path: Path) -> None:
    def tier(url: str, line: str) -> Any:
        text = f'algorithm = "sha1"\n[[tier]]\nname = "a"\nurl = "{url}"\n{line}\n'
        composite: Any = loads(text)
        return composite.tiers[0].store

    wanted = {"s3://b/": "missing_bucket", "gs://b/": "missing_bucket", "https://h/": "missing_bucket"}
    for url, name in {**wanted, f"file://{tmp_path}/": "missing_folder"}.items():
        assert getattr(tier(url, f'{name} = "missing"').base_store, name) == "missing"
        assert getattr(tier(url, "").base_store, name) == "failure"
    store = tier("s3://b/", 'request_checksum_calculation = "when_required"').base_store
    assert store.request_checksum_calculation == "when_required"
