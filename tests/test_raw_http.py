"""HTTPRaw against real web servers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any, cast

import pytest

from bitstore._lookup.retry import Retry
from bitstore._raw.http import HTTPRaw
from bitstore.errors import InvalidURI, NotFoundInStore, StoreNotAvailable
from tests.servers import Answer, CountedAPI, Cut, Reset
from tests.stores import outcome

QUICK = Retry(attempts=3, first_delay=0.001, longest_delay=0.002)
SECRET = "Bearer of-a-secret"


def redirect(url: str, status: int = 302) -> Answer:
    return Answer(status, b"over there", {"Location": url})


@pytest.fixture
def other() -> Iterator[CountedAPI]:
    with CountedAPI() as server:
        yield server


@pytest.mark.parametrize(
    "path", ["a%20b", "a//b", "x?y=1&z=%41", "ünï/日本", "a/../b", "%2E%2E/b", "sha1:ab/raw/", "~;@$'"]
)
def test_urls_reach_the_server_unchanged_in_requests(api: CountedAPI, path: str) -> None:
    outcome(lambda: HTTPRaw().get(f"{api.url}/{path}"))
    quoted = path.replace("ünï/日本", "%C3%BCn%C3%AF/%E6%97%A5%E6%9C%AC")
    assert api.requests[-1].target == f"/{quoted}"


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidURI) as caught:
        HTTPRaw().get("http://user:password@host/k")
    assert "password" not in str(caught.value)


def test_invalid_options_of_http_raw_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"headers": {"X": "a\r\nY: b"}}, "header X"),
        ({"headers": {"X: y\r\n": "a"}}, "name of a header"),
        ({"headers": {"X": None}}, "header X"),
        ({"follow_redirects": -1}, "follow_redirects"),
    ]
    for options, text in wrong:
        with pytest.raises(ValueError, match=text):
            HTTPRaw(**options)
    with pytest.raises(TypeError):
        cast("Any", HTTPRaw)({"X": "y"})


@pytest.mark.parametrize("fault", [Answer(503), Answer(429), Reset(), Cut(5)])
def test_transient_faults_are_retried_and_then_failures(api: CountedAPI, fault: Any) -> None:
    api.blobs["k"] = b"0123456789"
    store = HTTPRaw(retry=QUICK)
    api.rules.add(fault, times=2)
    assert store.get(api.blob_url("k")) == b"0123456789"
    api.rules.add(fault)
    assert isinstance(outcome(lambda: store.get(api.blob_url("k"))), StoreNotAvailable)


# ---------------------------------------------------------------------- headers and redirects


def test_headers_are_sent_with_every_request_and_never_shown(api: CountedAPI) -> None:
    api.blobs["k"] = b"x"
    store = pickle.loads(pickle.dumps(HTTPRaw(headers={"Authorization": SECRET, "X-Key": "k"})))
    assert store.get(api.blob_url("k")) == b"x"
    assert store.exists(api.blob_url("k"))
    for request in api.requests:
        assert (request.headers["authorization"], request.headers["x-key"]) == (SECRET, "k")
    assert repr(store) == "HTTPRaw(headers={'Authorization': ..., 'X-Key': ...})"
    api.rules.add(Answer(400, f"who sends {SECRET}?".encode()))
    assert "who sends ***?" in str(outcome(lambda: store.get(api.blob_url("k"))))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_of_gets_and_heads_are_followed(api: CountedAPI, status: int) -> None:
    api.blobs["k"] = b"x"
    api.rules.add(redirect("../blob/k#part", status), path="/old")
    store = HTTPRaw(headers={"Authorization": SECRET})
    assert store.get(f"{api.url}/some/old") == b"x"
    assert store.exists(f"{api.url}/some/old")
    assert [request.headers["authorization"] for request in api.requests] == [SECRET] * 4
    assert api.requests[-1].method == "HEAD"
    error = outcome(lambda: HTTPRaw(follow_redirects=0).get(f"{api.url}/some/old"))
    assert isinstance(error, StoreNotAvailable)


def test_credentials_are_not_sent_to_another_host(api: CountedAPI, other: CountedAPI) -> None:
    other.blobs["k"] = api.blobs["k"] = b"x"
    store = HTTPRaw(headers={"Authorization": SECRET})
    api.rules.add(redirect(other.blob_url("k")), path="/out")
    assert store.get(f"{api.url}/out") == b"x"
    assert "authorization" not in other.requests[-1].headers
    # Out and back again: the other host has chosen what is asked.
    api.rules.add(redirect(f"{other.url}/back"), path="/there")
    other.rules.add(redirect(api.blob_url("k")), path="/back")
    assert store.get(f"{api.url}/there") == b"x"
    assert "authorization" not in api.requests[-1].headers
    # localhost is another name, and another name is another host.
    api.rules.add(redirect(api.blob_url("k").replace("127.0.0.1", "localhost")), path="/name")
    assert store.get(f"{api.url}/name") == b"x"
    assert "authorization" not in api.requests[-1].headers
    assert store.get(api.blob_url("k")) == b"x"
    assert api.requests[-1].headers["authorization"] == SECRET


@pytest.mark.parametrize(
    ("target", "text"),
    [("/start", "a redirect loop"), ("/next?n=1", "redirects in a row"), ("file:///etc/passwd", "no http"),
     ("", "no http")],
)  # fmt: skip
def test_redirects_without_an_end_or_a_target_are_failures(api: CountedAPI, target: str, text: str) -> None:
    if text == "redirects in a row":
        for n in range(1, 9):
            api.rules.add(redirect(f"/next?n={n + 1}"), path=rf"n={n}$")
    api.rules.add(redirect(target), path="/start")
    error = outcome(lambda: HTTPRaw().get(f"{api.url}/start"))
    assert isinstance(error, StoreNotAvailable)
    assert not isinstance(error, NotFoundInStore)
    assert text in str(error)


# ---------------------------------------------------------------------- writes, against a server that takes them


def test_a_write_that_failed_raises_an_error(api: CountedAPI) -> None:
    for answer in (Answer(404), Answer(412), Answer(500), redirect("/blob/k", 302), Answer(202)):
        api.clear()
        api.rules.add(answer)
        error = outcome(lambda: HTTPRaw(retry=QUICK).put(api.blob_url("k"), b"x"))
        assert isinstance(error, StoreNotAvailable)
        assert "PUT" in str(error)


def test_a_redirected_write_reaches_its_target(web_folder: str, api: CountedAPI) -> None:
    api.rules.add(redirect(f"{web_folder}/moved", 307))
    HTTPRaw().put(f"{api.url}/k", b"data")
    assert HTTPRaw().get(f"{web_folder}/moved") == b"data"
