"""The express lane against the steps: whatever tiers answer, both come to the same, by the same requests."""

from __future__ import annotations

import gzip
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bitstore import (
    GSRaw,
    HTTPRaw,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1Store,
)
from bitstore._support import clock
from bitstore._tiers.composite import Composite
from tests.servers.faults import Action, Answer, Corrupt, Cut, Empty, Reset, ResetAfter, s3_error
from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request, Response, make_response
from tests.sockets import OWN, only_by
from tests.stores import blobs, sha1

KINDS = ("HTTP", "S3", "GCS")
TIERS = ("one", "two", "three")
OPTIONS: dict[str, Any] = {
    "retry": Retry(attempts=2, first_delay=0.001, longest_delay=0.002, budget=200),
    "connect_timeout": 5.0,
    "stall_timeout": 5.0,
}
XML = {"Content-Type": "application/xml"}


class BySteps(Sha1Composite):
    """A composite without an express lane."""

    takes_express = False


class Shelves(FaultyServer):
    """Holds blobs by tier and digest, and speaks as a web server, as S3 and as Google Cloud Storage."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, bytes] = {}  # by tier and digest: "one/<digest>"

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        name = "/".join(re.split("/|%2F", request.path)[-2:])
        data = self.held.get(name)
        if data is not None:
            return make_response(200, data, {}, method=request.method)
        if request.path.startswith("/bucket/"):
            missing = s3_error(404, "NoSuchKey")
            return make_response(404, missing.body, missing.headers, method=request.method)
        text = b"No such object: " + name.encode() if request.path.startswith("/storage/") else b""
        return make_response(404, text, {}, method=request.method)


class Virtual:
    """A clock that only pauses advance."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for name in clock.__all__:
            patch.setattr(clock, name, getattr(self, name))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def idle(self, seconds: float) -> float:
        self.now += seconds
        return 0.0


@pytest.fixture(scope="module")
def shelves() -> Iterator[Shelves]:
    with Shelves() as server:
        yield server


def raw_of(kind: str, server: Shelves, **options: Any) -> Any:
    if kind == "HTTP":
        return HTTPRaw(**{**OPTIONS, **options})
    if kind == "S3":
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        return S3Raw(keys, endpoint_url=server.url, region="us-east-1", **{**OPTIONS, **options})
    return GSRaw("anonymous", endpoint_url=server.url, **{**OPTIONS, **options})


def prefix_of(kind: str, server: Shelves, tier: str) -> str:
    return {"HTTP": f"{server.url}/{tier}/", "S3": f"s3://bucket/{tier}/", "GCS": f"gs://bucket/{tier}/"}[kind]


def composite_of(
    cls: type[Sha1Composite], kind: str, server: Shelves, tiers: tuple[str, ...] = ("one",), **options: Any
) -> Sha1Composite:
    composite = cls()
    for tier in tiers:
        store = Sha1Store(raw_of(kind, server, **options), prefix_of(kind, server, tier), verify=True)
        composite.append_source(store, name=tier)
    return composite


def warmed(composite: Sha1Composite, server: Shelves) -> Sha1Composite:
    """The composite, when each of its tiers has answered: only then is the way to a bucket known."""
    for tier in composite.tiers:
        data = f"first of {tier.name}".encode()
        server.held[f"{tier.name}/{sha1(data)}"] = data
        assert composite.get(sha1(data)) == data
    server.clear()
    return composite


def told(error: BaseException | None) -> Any:
    """All that a caller can see of an error, but for times."""
    if error is None:
        return None
    failures = [(name, type(each).__name__, str(each)) for name, each in getattr(error, "failures", [])]
    return (
        type(error).__name__,
        str(error).replace("BySteps", "Sha1Composite"),
        failures,
        getattr(error, "missing", None),
        getattr(error, "retry_in", None) is None,
        told(error.__cause__),
    )


# What one tier answers to one digest: what it holds, and what happens to how many requests.
Said = tuple[Callable[[bytes], bytes | None], Callable[[bytes, str], Action] | None, int]
ANSWERS: dict[str, Said] = {
    "good": (bytes, None, 0),
    "missing": (lambda data: None, None, 0),
    "wrong": (lambda data: b"wrong", None, 0),
    "corrupt": (bytes, lambda data, url: Corrupt(), 1),
    "empty": (bytes, lambda data, url: Empty(), 1),
    "coded": (bytes, lambda data, url: Answer(200, gzip.compress(data)), 1),
    "500 once": (bytes, lambda data, url: Answer(500), 1),
    "500": (bytes, lambda data, url: Answer(500), 9),
    "503": (bytes, lambda data, url: s3_error(503, "SlowDown"), 9),
    "429 once": (bytes, lambda data, url: Answer(429, b"", {"Retry-After": "1"}), 1),
    "403": (bytes, lambda data, url: s3_error(403, "AccessDenied", "Access Denied"), 9),
    "401": (bytes, lambda data, url: Answer(401, b"who?"), 9),
    "cut once": (bytes, lambda data, url: Cut(len(data) // 2), 1),
    "cut": (bytes, lambda data, url: Cut(len(data) // 2), 9),
    "reset in the body": (bytes, lambda data, url: ResetAfter(len(data) // 2), 9),
    "reset": (bytes, lambda data, url: Reset(), 99),
    "moved": (bytes, lambda data, url: Answer(302, b"", {"Location": f"{url}?moved"}), 1),
    "moved for ever": (bytes, lambda data, url: Answer(302, b"", {"Location": url}), 9),
    "gone": (bytes, lambda data, url: Answer(410), 9),
    "no bucket": (bytes, lambda data, url: s3_error(404, "NoSuchBucket"), 9),
    "a page": (bytes, lambda data, url: Answer(404, b"<html>Not here</html>"), 9),
    "a bucket's page": (bytes, lambda data, url: Answer(404, b"the bucket does not exist"), 9),
    "a part": (bytes, lambda data, url: Answer(206, data), 9),
    "203": (bytes, lambda data, url: Answer(203, data), 9),
    "204": (bytes, lambda data, url: Answer(204), 9),
    "expired": (bytes, lambda data, url: s3_error(400, "ExpiredToken"), 1),
}
UNCOUNTED = ("reset",)  # libcurl repeats requests by itself where a kept connection is reset


class Script:
    """What each tier answers to each digest, by chance; and when time passes."""

    def __init__(self, seed: int, tiers: tuple[str, ...], count: int = 24) -> None:
        rng = random.Random(seed)
        self.tiers = tiers
        self.blobs = blobs(count, 120, f"{seed} ")
        some = rng.sample(sorted(ANSWERS), 4)  # some kinds of trouble at a time: else breakers are open all the time
        self.answers = {
            (tier, digest): rng.choices(["good", "missing", *some], [3, 3, 1, 1, 1, 1])[0]
            for tier in tiers
            for digest in self.blobs
        }
        self.pauses = {digest: rng.choice([0.0, 0.0, 0.0, 2.0]) for digest in self.blobs}

    def prepare(self, server: Shelves) -> None:
        for (tier, digest), answer in self.answers.items():
            held, action, times = ANSWERS[answer]
            data = held(self.blobs[digest])
            server.held.pop(f"{tier}/{digest}", None)
            if data is not None:
                server.held[f"{tier}/{digest}"] = data
            if action is not None:
                made = action(self.blobs[digest], f"{server.url}/{tier}/{digest}")
                server.rules.add(made, path=f"{tier}(/|%2F){digest}", times=times)

    def uncounted(self, target: str) -> bool:
        return any(
            answer in UNCOUNTED and digest in target and re.search(rf"\b{tier}(/|%2F)", target)
            for (tier, digest), answer in self.answers.items()
        )


def performed(script: Script, cls: type[Sha1Composite], kind: str, server: Shelves, how: str, now: Virtual) -> Any:
    """What a run of the script comes to: answers, counts of the tiers, requests in their order."""
    composite = warmed(composite_of(cls, kind, server, script.tiers), server)
    before = composite.stats().as_dict()
    script.prepare(server)
    answers: dict[str, Any] = {}
    if how == "get":
        for digest in script.blobs:
            now.now += script.pauses[digest]
            try:
                answers[digest] = composite.get(digest)
            except Exception as error:
                answers[digest] = told(error)
    elif how == "together":
        for blob in composite.get_many(script.blobs, patience=0):
            answers[blob.uri] = (blob.data, blob.source, told(blob.error))
    else:
        for digest in script.blobs:
            now.now += script.pauses[digest]
            for blob in composite.get_many([digest], patience=0):
                answers[blob.uri] = (blob.data, blob.source, told(blob.error))
    requests = [(each.method, each.target) for each in server.requests if not script.uncounted(each.target)]
    counts = {
        tier: {name: value for name, value in values.items() if name not in ("requests", "retries") or tier in before}
        for tier, values in composite.stats().as_dict().items()
    }
    assert not composite._live().flights
    return answers, requests, counts


@pytest.fixture
def key_steps(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the steps of composites were asked for, by the names of their classes."""
    asked: Counter[str] = Counter()
    original = Composite.key_steps

    def counted(self: Composite, *args: Any, **options: Any) -> Any:
        asked[type(self).__name__] += 1
        return original(self, *args, **options)

    monkeypatch.setattr(Composite, "key_steps", counted)
    return asked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["get", "one by one", *OWN])
def test_random_answers_come_to_the_same(
    kind: str, how: str, shelves: Shelves, monkeypatch: pytest.MonkeyPatch, key_steps: Counter[str]
) -> None:
    if how in OWN:
        only_by(how, monkeypatch)
    now = Virtual(monkeypatch)
    for seed in range(12):
        script = Script(seed, TIERS[: 1 + seed % 3])
        by_steps = performed(script, BySteps, kind, shelves, how, now)
        taken = performed(script, Sha1Composite, kind, shelves, how, now)
        assert taken == by_steps, (seed, script.answers)
    assert key_steps["Sha1Composite"] < 0.8 * key_steps["BySteps"]
