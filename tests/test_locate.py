"""`Store.locate` and `Store.exists_many`: where blobs are, by each tier's own word and without their bytes."""

from __future__ import annotations

import gzip
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    InvalidURI,
    Location,
    LookupFailed,
    MemoryCache,
    NotFoundInStore,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1Store,
    StoreNotAvailable,
)
from tests.scripted_server import ScriptedServer
from tests.servers import FakeGCS, SeaweedS3
from tests.stores import API, Box, Shelf, blobs, sha1

DATA = b"where am I" * 100
DIGEST = sha1(DATA)
NOBODY_HAS = "0" * 40


def states(locations: list[Location]) -> dict[str, str]:
    return {location.tier: location.state for location in locations}


def chain(**tiers: Any) -> Sha1Composite:
    composite = Sha1Composite()
    for name, store in tiers.items():
        (composite.append_cache if "cache" in name else composite.append_source)(store, name=name)
    return composite


def test_each_tier_says_what_it_holds_and_where(tmp_path: Path) -> None:
    memory, disk, api = MemoryCache(), DiskCache(tmp_path / "cache", algorithm="sha1"), API({DIGEST: DATA})
    (tmp_path / "files").mkdir()
    packed = gzip.compress(DATA, mtime=0)
    (tmp_path / "files" / f"{DIGEST}.gz").write_bytes(packed)
    url = f"{(tmp_path / 'files').as_uri()}/{{digest}}.gz"
    broken = Shelf(fail=RuntimeError("no route to the shelf at http://x/?token=abcdefghijk"))
    store = chain(
        memory_cache=memory,
        disk_cache=disk,
        files=Sha1Store(FileRaw(), url, compression="gzip"),
        broken=broken,
        empty=Shelf(),
        paid=api,
    )
    for cache in (memory, disk):
        cache.put(DIGEST, DATA)
    found = {location.tier: location for location in store.locate(DIGEST.upper())}
    assert list(found) == ["memory_cache", "disk_cache", "files", "broken", "empty", "paid"]
    assert found["memory_cache"] == Location(tier="memory_cache", state="held", size=len(DATA))
    assert found["disk_cache"].size == len(DATA)
    assert Path((found["disk_cache"].url or "").removeprefix("file://")).read_bytes() == DATA
    assert found["files"] == Location(
        tier="files", state="held", url=url.format(digest=DIGEST), size=len(packed), compression="gzip"
    )
    assert found["broken"].state == "failed" and found["broken"].error is broken.fail
    assert "no route" in str(found["broken"].why) and "abcdefghijk" not in str(found["broken"].why)
    assert found["empty"] == Location(tier="empty", state="missing")
    assert found["paid"].state == "not asked" and "paid=True" in str(found["paid"].why)
    assert api.calls == [] and memory.stats()["hits"] == disk.stats()["hits"] == 0
    assert states(store.locate(DIGEST, paid=True))["paid"] == "held" and api.calls == [DIGEST]
    assert pickle.loads(pickle.dumps(found["files"])) == found["files"]
    assert found["files"].as_dict()["size"] == len(packed)
    with pytest.raises(InvalidURI):
        store.locate("no digest")
    assert Sha1Composite().locate(DIGEST) == []


def test_a_bucket_says_size_etag_and_encoding(
    s3: SeaweedS3, bucket: str, gcs: FakeGCS, gcs_bucket: str, public_bucket: str
) -> None:
    packed = gzip.compress(DATA, mtime=0)
    s3.client().put_object(Bucket=bucket, Key=f"p/{DIGEST}", Body=packed, ContentEncoding="gzip")
    s3.put(bucket, f"p/{sha1(b'')}", b"")
    s3.put(public_bucket, DIGEST, DATA)
    gs = Sha1Store(GSRaw("anonymous", endpoint_url=gcs.url), f"gs://{gcs_bucket}/q/")
    gs.put(DIGEST, DATA)
    raw = S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url, region=s3.region)
    client = S3Raw(client=s3.client())
    etag = s3.client().head_object(Bucket=bucket, Key=f"p/{DIGEST}")["ETag"]
    for each in (raw, client):
        own = Sha1Store(each, f"s3://{bucket}/p/", compression="gzip")
        (held,) = own.locate(DIGEST)
        assert held == Location(
            tier=own.label,
            state="held",
            url=f"s3://{bucket}/p/{DIGEST}",
            size=len(packed),
            etag=etag,
            encoding="gzip",
            compression="gzip",
        )
        assert own.locate(sha1(b""))[0].size == 0
        assert own.locate(NOBODY_HAS)[0].state == "missing"
    (held,) = gs.locate(DIGEST)
    assert (held.state, held.url, held.size) == ("held", f"gs://{gcs_bucket}/q/{DIGEST}", len(DATA)) and held.etag
    web = f"{s3.endpoint_url}/{public_bucket}/"
    (held,) = Sha1Store(HTTPRaw(), web).locate(DIGEST)
    assert (held.url, held.size) == (web + DIGEST, len(DATA)) and held.etag
    lost = Sha1Store(raw, "s3://no-such-bucket-at-all/").locate(DIGEST)[0]
    assert lost.state == "failed" and "no bucket" in str(lost.why)


def test_a_head_that_is_refused_is_asked_again_by_one_byte_and_the_size_is_of_the_whole() -> None:
    def answer(asked: Any) -> Any:
        if asked.method == "HEAD":
            return 403, {}, b""
        return 206, {"Content-Range": "bytes 0-0/4711", "ETag": '"e"'}, b"x"

    with ScriptedServer(answer) as server:
        (held,) = HTTPRaw().locate(f"{server.url}/k?signature=secretsecret")
    assert (held.state, held.size, held.etag, held.url) == ("held", 4711, '"e"', f"{server.url}/k?***")


def test_a_tier_that_hangs_takes_no_answer_from_the_others() -> None:
    slow, held = Shelf({DIGEST: DATA}), Shelf({DIGEST: DATA})
    slow.gate = threading.Event()
    try:
        found = chain(slow=slow, held=held, inner=chain(paid=API({}), shelf=held)).locate(DIGEST, timeout=0.5)
    finally:
        slow.gate.set()
    assert states(found) == {"slow": "failed", "held": "held", "inner > paid": "not asked", "inner > shelf": "held"}
    assert isinstance(found[0].error, StoreNotAvailable) and "time limit" in str(found[0].why)
    (alone,) = slow.locate(DIGEST)
    assert alone.state == "held"
    for bad in (0, -1, "soon"):
        with pytest.raises(ValueError, match="timeout"):
            held.locate(DIGEST, timeout=bad)  # type: ignore[arg-type]


def test_exists_many_tells_which_are_there(tmp_path: Path) -> None:
    near, far = blobs(300, salt="near"), blobs(300, salt="far")
    api = API({NOBODY_HAS: b"bought"})
    store = chain(cache=Box(dict(list(near.items())[:10])), near=Shelf(near), far=Shelf(far), paid=api)
    wanted = [*near, NOBODY_HAS, "no digest", *far, next(iter(near)).upper()]
    answers = list(store.exists_many(iter(wanted), ordered=True))
    assert [answer.uri for answer in answers] == wanted
    assert [answer.source for answer in answers] == [
        *["cache"] * 10, *["near"] * 290, None, None, *["far"] * 300, "cache"
    ]  # fmt: skip
    assert answers[300].missing and isinstance(answers[301].error, InvalidURI)
    assert all(answer.data is None for answer in answers) and api.calls == []
    bought = [store.exists_many([NOBODY_HAS], paid=True), store.exists_many([NOBODY_HAS], paid=True)]
    assert [answer.source for (answer,) in bought] == ["paid", "cache"] and api.calls == [NOBODY_HAS]  # and kept
    with pytest.raises(NotFoundInStore):
        list(store.exists_many(["1" * 40], errors="raise"))


def test_a_failure_is_no_absence_and_never_a_bill() -> None:
    broken, api = Shelf(), API({DIGEST: DATA})
    broken.fail = RuntimeError("out")
    store = chain(broken=broken, inner=chain(empty=Shelf(), paid=api))
    (answer,) = store.exists_many([DIGEST])
    assert answer.failed and "RuntimeError: out" in str(answer.error)
    alone = chain(broken=broken, paid=api)
    (answer,) = alone.exists_many([DIGEST], paid=True)
    assert answer.failed and "call_when_uncertain" in str(answer.error) and api.calls == []
    alone.call_when_uncertain = True
    (answer,) = alone.exists_many([DIGEST], paid=True)
    assert answer.source == "paid" and api.calls == [DIGEST]
    (answer,) = API({DIGEST: DATA}).exists_many([DIGEST])
    assert answer.failed and "paid=True" in str(answer.error)


def test_other_bytes_than_those_of_the_digest_are_no_absence() -> None:
    class Checked(Shelf):
        def get(self, uri: str) -> bytes:
            raise InvalidDataFound(self, uri)

    class Plain:  # with `get` alone
        def is_valid(self, uri: Any) -> bool:
            return True

        def get(self, uri: Any) -> bytes:
            raise InvalidDataFound(self, uri)

    api = API({DIGEST: b"other bytes"})
    api.verify = True
    for store in (Checked(), Plain(), api):
        of_source = chain(source=store)
        (location,) = of_source.locate(DIGEST, paid=True)
        (answer,) = of_source.exists_many([DIGEST], paid=True)
        assert location.state == "failed" and answer.failed
        if store is not api:
            with pytest.raises(LookupFailed):
                of_source.exists(DIGEST)
    with pytest.raises(InvalidDataFound):
        Checked().exists(DIGEST)

    class Bad(Checked, Box): ...

    assert not chain(cache=Bad(), empty=Shelf()).exists(DIGEST)  # as `get`: a bad copy in a cache is replaced


def test_a_dead_service_is_a_failure() -> None:
    retry = Retry(attempts=1)
    raw = S3Raw("anonymous", endpoint_url="http://127.0.0.1:9", region="r", retry=retry)
    store = chain(dead=Sha1Store(raw, "s3://bucket/p/"), held=Shelf({DIGEST: DATA}))
    assert states(store.locate(DIGEST)) == {"dead": "failed", "held": "held"}
    (answer,) = store.exists_many([NOBODY_HAS])
    assert answer.failed
