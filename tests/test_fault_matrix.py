"""Every cell of the fault matrix, against real servers behind proxies that make the faults."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    DiskCache,
    GSRaw,
    HTTPRaw,
    LookupFailed,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1APISource,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Store,
)
from tests.fault_table import DOCUMENT, FAULTS, HELD, KINDS, POSITIONS, SIZE, Cell, Fault, cells, document
from tests.servers import CountedAPI, FakeGCS, FaultProxy, SeaweedS3, Stall
from tests.servers.http import FaultyServer
from tests.servers.web_folder import WebFolder
from tests.sockets import TRANSPORTS, only_by
from tests.stores import as_cache, composed, sha1

TWICE = Retry(attempts=2, first_delay=0.001, longest_delay=0.002, budget=200)
LIMITS: dict[str, Any] = {"retry": TWICE, "connect_timeout": 2.0, "stall_timeout": 2.0}
SLOW = (  # they wait for time limits
    "stall in the body",
    "timeout (no answer)",
)


class WebShelf(WebFolder):
    def write(self, digest: str, data: bytes) -> None:
        self.files[f"/{digest}"] = data

    def read(self, digest: str) -> bytes | None:
        return self.files.get(f"/{digest}")


class Tier:
    """One of the four tiers below the disk cache.

    Parameters
    ----------
    server
        What makes its faults and counts its requests.
    raw, dead
        Stores of its kind: through that server, and to a port on which no server listens.
    prefix
        Where its blobs are.
    write, read
        Past the server: what is really there.
    """

    def __init__(
        self,
        server: FaultyServer,
        raw: Store,
        dead: Store,
        prefix: str,
        write: Callable[[str, bytes], object],
        read: Callable[[str], bytes | None],
    ) -> None:
        self.server = server
        self.raw = raw
        self.dead = dead
        self.prefix = prefix
        self.write = write
        self.read = read

    def calls(self) -> Counter[str]:
        """Reads of each blob. (How a write finds out what it replaces is not counted.)"""
        return Counter(
            digest
            for request in self.server.requests
            if request.method == "GET" and "fields=" not in request.query
            for digest in set(re.findall("[0-9a-f]{40}", request.path))
        )


class Elsewhere(HTTPRaw):
    """Asks at another address than the URL says: the URLs of web servers name their ports."""

    def __init__(self, address: str) -> None:
        super().__init__(**LIMITS)
        self.address = address

    def get(self, uri: str) -> bytes:
        return super().get(f"{self.address}/{uri.rpartition('/')[2]}")


class PaidAPI(Sha1APISource):
    """Asks the counted API as a user's own code would."""

    def __init__(self, server: CountedAPI) -> None:
        super().__init__(verify=True)
        self.server = server
        self.raw = HTTPRaw(**LIMITS)

    def api_get(self, digest: str) -> bytes | None:
        try:
            return self.raw.get(self.server.blob_url(digest))
        except NotFoundInStore:
            return None


class World:
    """The servers that all cells share. Cells do not disturb each other: every one has a blob of its own."""

    def __init__(self, tiers: Mapping[str, list[Tier]], api: CountedAPI, folder: Path) -> None:
        self.tiers = tiers
        self.api = api
        self.folder = folder
        self.calls: dict[str, list[Counter[str]]] = {}
        self.api_calls: Counter[str] = Counter()

    def prepare(self, cell: Cell) -> bytes:
        """Put a blob where the cell wants it, and make its fault. Returns the blob."""
        data = secrets.token_bytes(SIZE)
        digest = sha1(data)
        tiers = self.tiers[cell.kind]
        faulty = tiers[cell.position - 1]
        if cell.fault.name != "missing":
            faulty.write(digest, data if (held := _content(cell)) is None else held)
        if cell.home == "next":
            tiers[cell.position].write(digest, data)
        self.api.blobs[digest] = data
        path = f"{digest}.*alt=media" if cell.kind == "GCS" else digest
        action = cell.fault.action(cell.kind, f"{faulty.prefix}{digest}")
        if action is not None:
            # The rest of a stalled body is short enough to arrive whole, and its connection is used again by others:
            # they must not find it silent.
            times = 2 if isinstance(action, Stall) else None
            faulty.server.rules.add(action, method="GET", path=path, times=times)
        return data

    def look_up(self, cell: Cell, many: bool, data: bytes) -> Any:
        """The blob, or the error."""
        digest = sha1(data)
        composite = self._composite(cell, self._cache(digest))
        if many:
            [blob] = composite.get_many([digest], patience=0)
            return blob.data if blob.error is None else blob.error
        try:
            return composite.get(digest)
        except Exception as error:
            return error

    def count(self) -> None:
        """Count all requests, once for all cells: there are thousands of them."""
        self.calls = {kind: [tier.calls() for tier in tiers] for kind, tiers in self.tiers.items()}
        self.api_calls = self.api.calls

    def problem(self, cell: Cell, many: bool, data: bytes, outcome: Any) -> str | None:
        """What is not as the cell says, by the last count."""
        digest = sha1(data)
        tiers = self.tiers[cell.kind]
        before = (data if (held := _content(cell)) is None else held) if cell.position == 4 else data
        kept = {"blob": data, "nothing": None, "as before": before}[cell.api_cache]
        calls = tuple(counted[digest] for counted in self.calls[cell.kind])
        wrong = []
        if cell.outcome == "bytes":
            if outcome != data:
                wrong.append("not the blob")
        elif type(outcome) is not LookupFailed:
            wrong.append(f"not {cell.outcome}")
        elif not any(name == f"tier {cell.position}" for name, _ in outcome.failures):
            wrong.append("the error does not name the tier")
        if not cell.fits(calls):
            wrong.append(f"reads {calls} instead of {cell.calls}")
        if self.api_calls[digest] != cell.api_calls:
            wrong.append(f"{self.api_calls[digest]} calls of the API")
        if _held(self._cache(digest), digest) != (data if cell.disk else None):
            wrong.append("what the disk cache holds")
        if tiers[3].read(digest) != kept:
            wrong.append("what the cache of the API holds")
        how = "get_many" if many else "get"
        return f"{cell}, {how}: {', '.join(wrong)}; the outcome was {_brief(outcome)}" if wrong else None

    def _cache(self, digest: str) -> DiskCache:
        return DiskCache(self.folder / digest, algorithm="sha1")

    def _composite(self, cell: Cell, cache: DiskCache) -> Sha1Composite:
        composite = composed(as_cache(cache, "disk"))
        for number, tier in enumerate(self.tiers[cell.kind], 1):
            raw = tier.dead if cell.fault.refused and number == cell.position else tier.raw
            if number < 4:
                composite.append_source(Sha1Store(raw, tier.prefix, verify=True), name=f"tier {number}")
            else:
                composite.append_cache(Sha1Cache(raw, tier.prefix, verify=True), name="tier 4")
        composite.append_store(PaidAPI(self.api))
        return composite


def _content(cell: Cell) -> bytes | None:
    """What the faulty tier really holds instead of the blob."""
    text = HELD.get(cell.fault.name)
    return None if text is None else text.encode()


def _brief(outcome: Any) -> str:
    failures = getattr(outcome, "failures", [])
    return f"{type(outcome).__name__} {[(name, str(error)[-120:]) for name, error in failures]}"


def _held(cache: DiskCache, digest: str) -> bytes | None:
    try:
        return cache.get(digest)
    except NotFoundInStore:
        return None


@pytest.fixture(scope="module")
def dead_end() -> Iterator[str]:
    """The address of a port that is taken and on which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def world(s3: SeaweedS3, gcs: FakeGCS, dead_end: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        tiers: dict[str, list[Tier]] = {"S3": [], "GCS": [], "HTTP": []}
        client, bucket = s3.client(), s3.create_bucket()
        stack.callback(client.close)
        objects, gcs_bucket = gcs.client(), gcs.create_bucket()
        for number in POSITIONS:

            def read_s3(digest: str, key: str = f"t{number}/") -> bytes | None:
                try:
                    data: bytes = client.get_object(Bucket=bucket, Key=key + digest)["Body"].read()
                except client.exceptions.NoSuchKey:
                    return None
                return data

            def read_gcs(digest: str, key: str = f"t{number}/") -> bytes | None:
                blob = objects.bucket(gcs_bucket).get_blob(key + digest)
                return None if blob is None else blob.download_as_bytes()

            proxy = stack.enter_context(FaultProxy(s3.endpoint_url))
            options: dict[str, Any] = {"region": "us-east-1", **LIMITS}
            tiers["S3"].append(
                Tier(
                    proxy,
                    S3Raw(s3.admin.session, endpoint_url=proxy.url, **options),
                    S3Raw(s3.admin.session, endpoint_url=dead_end, **options),
                    f"s3://{bucket}/t{number}/",
                    lambda digest, data, key=f"t{number}/": s3.put(bucket, key + digest, data),  # type: ignore[misc]
                    read_s3,
                )
            )
            proxy = stack.enter_context(FaultProxy(gcs.url))
            tiers["GCS"].append(
                Tier(
                    proxy,
                    GSRaw("anonymous", endpoint_url=proxy.url, **LIMITS),
                    GSRaw("anonymous", endpoint_url=dead_end, **LIMITS),
                    f"gs://{gcs_bucket}/t{number}/",
                    lambda digest, data, key=f"t{number}/": gcs.put(gcs_bucket, key + digest, data),  # type: ignore[misc]
                    read_gcs,
                )
            )
            shelf = stack.enter_context(WebShelf())
            raw = HTTPRaw(**LIMITS)
            tiers["HTTP"].append(Tier(shelf, raw, Elsewhere(dead_end), f"{shelf.url}/", shelf.write, shelf.read))
        api = stack.enter_context(CountedAPI())
        yield World(tiers, api, tmp_path_factory.mktemp("caches"))


@pytest.fixture(scope="module", params=TRANSPORTS)
def problems(world: World, request: pytest.FixtureRequest) -> dict[tuple[Cell, bool], str | None]:
    """All cells at once, as most of the time goes into waiting for time limits: what is wrong with each."""
    todo = [(cell, many) for cell in cells() for many in (False, True)]
    with ThreadPoolExecutor(4) as few:
        blobs = dict(zip(todo, few.map(lambda item: world.prepare(item[0]), todo), strict=True))
    slow = [item for item in todo if item[0].fault.name in SLOW]
    quick = [item for item in todo if item[0].fault.name not in SLOW]
    with (
        ThreadPoolExecutor(len(slow)) as many,
        ThreadPoolExecutor(24) as few,
        pytest.MonkeyPatch.context() as patch,
    ):
        only_by(request.param, patch)
        lookups = [(item, many.submit(world.look_up, *item, blobs[item])) for item in slow]
        lookups += [(item, few.submit(world.look_up, *item, blobs[item])) for item in quick]
    world.count()
    return {item: world.problem(*item, blobs[item], lookup.result()) for item, lookup in lookups}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_of_the_fault_matrix_keeps_its_promises(
    problems: dict[tuple[Cell, bool], str | None], kind: str, fault: Fault
) -> None:
    mine = [problem for (cell, _), problem in problems.items() if cell.kind == kind and cell.fault is fault]
    assert len(mine) == (4 + 3) * 2  # positions, the blob there or also one tier further down; get and get_many
    wrong = [problem for problem in mine if problem]
    assert not wrong, "\n".join(wrong)


def test_the_page_of_the_fault_matrix_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: python -m tests.fault_table"


def test_the_table_of_the_fault_matrix_keeps_its_promises() -> None:
    """The expectations are derived: what they must never say, whatever derives them."""
    for cell in cells():
        outage = cell.fault.seen[cell.kind].verdict == "failed"
        assert not (outage and cell.api_calls), cell
        assert not (cell.outcome != "bytes" and cell.disk), cell
        assert cell.outcome in ("bytes", "LookupFailed"), cell
        assert cell.api_calls <= 1, cell
