"""Nothing is paid for that cannot be kept, and a lookup in which nothing was asked is no absence."""

from __future__ import annotations

import contextlib
import errno
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    Composite,
    DiskCache,
    InvalidURI,
    LookupFailed,
    MemoryCache,
    NotFoundInStore,
    S3Raw,
    Sha1Cache,
    Sha1Composite,
    Store,
    StoreNotAvailable,
)
from bitstore._tiers.breaker import FAILURES
from bitstore._tiers.views import free_part
from bitstore.config import load
from bitstore.errors import AccessDenied, WriteConflict
from bitstore.steps import Call
from tests.servers import SeaweedS3
from tests.stores import API, Box, Shelf, as_cache, as_source, blobs, composed, full, sha1, with_tiers

pytestmark = pytest.mark.usefixtures("skipped_pauses")

HELD = blobs(40)
DIGEST, *OTHERS = HELD


def chain(*tiers: Store, **options: Any) -> Sha1Composite:
    composite = Sha1Composite(**options)
    for tier in tiers:
        (composite.append_cache if isinstance(tier, (Box, MemoryCache)) else composite.append_source)(tier)
    return composite


def get(store: Sha1Composite, digest: str, folder: Path) -> bytes:
    return store.get(digest)


def get_many(store: Sha1Composite, digest: str, folder: Path) -> bytes:
    (blob,) = store.get_many([digest], patience=0)
    if blob.error is not None:
        raise blob.error
    assert blob.data is not None
    return blob.data


def download(store: Sha1Composite, digest: str, folder: Path) -> bytes:
    store.download(digest, folder / "out")
    return (folder / "out").read_bytes()


class Slow(API):
    """Takes its time, so that calls overlap where they may; notes how many did."""

    def __init__(self, held: dict[str, bytes]) -> None:
        super().__init__(held)
        self.under_way = self.most = 0
        self.lock = threading.Lock()

    def api_get(self, digest: str) -> bytes | None:
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        threading.Event().wait(0.02)
        with self.lock:
            self.under_way -= 1
        return super().api_get(digest)


WAYS = pytest.mark.parametrize("look", [get, get_many, download])


class TestPayOnlyForWhatIsKept:
    @WAYS
    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize("error", [OSError("no room"), AccessDenied("box", "PUT: 403"), TypeError("no")], ids=repr)
    def test_a_blob_that_cannot_be_kept_is_paid_for_once(
        self, look: Callable[..., bytes], nested: bool, error: Exception, tmp_path: Path
    ) -> None:
        api = API(HELD)
        store = chain(full(error), chain(api) if nested else api)
        assert look(store, DIGEST, tmp_path) == HELD[DIGEST]
        for _ in range(3):
            with pytest.raises(LookupFailed, match=f"no cache can keep .*pay_unkept=False.*{re.escape(str(error))}"):
                look(store, DIGEST, tmp_path)
        assert api.calls == [DIGEST]

    @WAYS
    @pytest.mark.parametrize("depth", [1, 2])
    def test_a_blob_that_no_cache_of_several_composites_can_keep_is_paid_for_once(
        self, look: Callable[..., bytes], depth: int, tmp_path: Path
    ) -> None:
        api = API(HELD)
        store = chain(full(), api)
        for _ in range(depth):
            store = chain(full(), store)
        assert look(store, DIGEST, tmp_path) == HELD[DIGEST]
        for _ in range(3):
            with pytest.raises(LookupFailed, match="no cache can keep"):
                look(store, DIGEST, tmp_path)
        assert api.calls == [DIGEST]

    def test_a_second_inner_cache_that_keeps_is_enough(self, tmp_path: Path) -> None:
        api = API(HELD)
        store = chain(full(), chain(full(), Box(), api))
        for digest in list(HELD)[:5] * 2:
            assert store.get(digest) == HELD[digest]
        assert api.calls == list(HELD)[:5]

    def test_a_blob_is_not_paid_for_again_to_test_its_cache(self) -> None:
        box, api = full(StoreNotAvailable("box", "HTTP 400")), API(HELD)
        store = chain(box, api)
        store.get(DIGEST)
        for _ in range(3 * FAILURES):
            store._live().writers["Box"]._probe_at = 0.0
            with pytest.raises(LookupFailed, match="no cache can keep"):
                store.get(DIGEST)
        assert api.calls == [DIGEST]
        box.fail_put = None
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]], "another blob finds out that the cache is back"
        assert store.get(DIGEST) == HELD[DIGEST] and api.calls == [DIGEST, OTHERS[0], DIGEST]

    def test_no_blob_is_paid_for_to_test_a_disk_that_is_full(self) -> None:
        box, api = full(OSError(errno.ENOSPC, "no room")), API(HELD)
        store = chain(box, api)
        store.get(DIGEST)
        for digest in OTHERS:
            store._live().writers["Box"]._probe_at = 0.0
            with pytest.raises(LookupFailed, match="no cache can keep"):
                store.get(digest)
        box.fail_put = None
        store._live().writers["Box"]._probe_at = 0.0
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]]
        assert api.calls == [DIGEST, OTHERS[0]] and DIGEST in box.held

    @pytest.mark.parametrize("asked", ["the same blob", "new blobs"])
    def test_probes_of_a_cache_that_refuses_without_a_reason_pay_for_few_blobs(self, asked: str) -> None:
        box, api = full(StoreNotAvailable("box", "HTTP 400")), API(held := blobs(130))
        store = chain(box, api)
        for digest in held:
            store._live().writers["Box"]._probe_at = 0.0
            with contextlib.suppress(LookupFailed):
                store.get(digest if asked == "new blobs" else list(held)[bool(api.calls)])
        assert len(api.calls) == len(set(api.calls)) <= 8
        box.fail_put = None
        store._live().writers["Box"]._probe_at = 0.0
        for digest in reversed(held):  # another blob than the refused ones finds out that the cache is back
            assert store.get(digest) == held[digest]

    @pytest.mark.parametrize("lacking", [0, 20])
    def test_a_batch_pays_for_few_blobs_until_a_cache_has_written(self, lacking: int) -> None:
        api = Slow(dict(list(HELD.items())[lacking:]))
        answers = list(chain(full(), api).get_many(HELD, in_flight=40, patience=0))
        assert [blob.missing for blob in answers].count(True) <= lacking
        assert 1 <= sum(blob.found for blob in answers) <= max(1, lacking)

    def test_a_batch_calls_side_by_side_once_a_cache_has_written(self) -> None:
        together = threading.Barrier(8)

        class Crowd(API):
            def api_get(self, digest: str) -> bytes | None:
                if self.calls:
                    together.wait(30)
                return super().api_get(digest)

        held = dict(list(HELD.items())[:9])
        store = chain(Box(), Crowd(held))
        assert {blob.uri: blob.data for blob in store.get_many(held, in_flight=9)} == held

    def test_absences_let_twice_as_many_calls_pass_each_round(self) -> None:
        api = Slow({})
        answers = list(chain(Box(), api).get_many(HELD, in_flight=40))
        assert all(blob.missing for blob in answers)
        assert api.most > 8

    @pytest.mark.parametrize("end", ["closed", "out of time", "failed"])
    def test_a_first_payer_that_gives_up_lets_others_pay(self, end: str) -> None:
        api = API(HELD)
        store = chain(Box(), api)
        if end == "closed":
            first = store.get_steps(DIGEST)
            assert isinstance(next(first), Call)  # of the cache
            first.throw(NotFoundInStore("box", DIGEST))  # it is about to call the API
            first.close()
        elif end == "out of time":
            with pytest.raises(LookupFailed):
                store.get(DIGEST, timeout=1e-9)
        else:
            api.fail = OSError("down")
            with pytest.raises(LookupFailed):
                store.get(DIGEST)
            api.fail = None
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]]

    def test_no_other_blob_is_paid_for_while_caches_cannot_keep(self) -> None:
        api = API(HELD)
        store = chain(full(), api)
        answers = list(store.get_many(HELD, in_flight=1, patience=0))
        assert len(api.calls) == 1 == sum(blob.found for blob in answers)
        assert not any(blob.missing for blob in answers)
        assert store.stats()["API"].skipped >= len(HELD) - 1

    @WAYS
    def test_pay_unkept_pays_although_no_cache_keeps(self, look: Callable[..., bytes], tmp_path: Path) -> None:
        for nested in (False, True):
            api = API(HELD)
            store = chain(full(), chain(api) if nested else api, pay_unkept=True)
            assert [look(store, DIGEST, tmp_path) for _ in range(3)] == [HELD[DIGEST]] * 3
            assert len(api.calls) == 3

    def test_pay_unkept_can_be_set_in_a_configuration(self, tmp_path: Path) -> None:
        file = tmp_path / "stores.toml"
        tier = f'[[tier]]\nname = "files"\nurl = "file://{tmp_path}/blobs/"\n'
        for line, expected in (("", False), ("pay_unkept = true\n", True)):
            file.write_text(f'algorithm = "sha1"\n{line}{tier}')
            assert load(file).pay_unkept is expected

    def test_one_cache_that_keeps_is_enough(self) -> None:
        api = API(HELD)
        store = chain(full(), MemoryCache(), api)
        assert [store.get(digest) for digest in HELD] == list(HELD.values())
        inner = chain(full(), api := API(HELD))
        above = chain(Box(), inner)
        assert [above.get(digest) for digest in HELD] == list(HELD.values()), "the outer cache keeps it"
        below = chain(full(), chain(Box(), api := API(HELD)))
        assert [below.get(digest) for digest in HELD] == list(HELD.values()), "the inner cache keeps it"
        assert len(api.calls) == len(HELD)

    def test_a_paid_source_without_a_cache_above_is_always_asked(self) -> None:
        api = API(HELD)
        store = composed(api, as_cache(full()))
        assert [store.get(DIGEST) for _ in range(3)] == [HELD[DIGEST]] * 3
        uncached = composed(as_cache(full()), as_source(API(HELD), cache_result=False))
        assert [uncached.get(DIGEST) for _ in range(3)] == [HELD[DIGEST]] * 3

    def test_a_cache_that_is_back_is_noticed_without_another_call(self) -> None:
        box, api = full(), API(HELD)
        store = chain(box, api)
        store.get(DIGEST)
        with pytest.raises(LookupFailed):
            store.get(OTHERS[0])
        box.fail_put = None
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]]
        assert set(box.held) == {DIGEST, OTHERS[0]}, "what was paid for first is kept in the end"
        assert store.get(DIGEST) == HELD[DIGEST] and len(api.calls) == 2

    def test_one_blob_that_is_refused_does_not_stop_the_others(self) -> None:
        class Picky(Box):
            def put(self, uri: str, data: bytes) -> None:
                if uri == DIGEST:
                    raise StoreNotAvailable(self, "HTTP 400: too large")
                super().put(uri, data)

        box, api = Picky(), API(HELD)
        store = chain(box, api)
        store.get(DIGEST)
        writers = store._live().writers
        for _ in range(FAILURES):
            writers["Picky"]._probe_at = 0.0
            with pytest.raises(LookupFailed):
                store.get(OTHERS[0])
        writers["Picky"]._probe_at = 0.0
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]]
        assert store.get(OTHERS[1]) == HELD[OTHERS[1]] and api.calls == [DIGEST, *OTHERS[:2]]

    def test_a_conflict_is_counted_and_concerns_its_blob_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        class Archive(Box):
            def put(self, uri: str, data: bytes) -> None:
                if uri == DIGEST:
                    raise WriteConflict(self, "archived: restore it first")
                super().put(uri, data)

        api = API(HELD)
        store = chain(Archive(), api)
        assert store.get(DIGEST) == HELD[DIGEST]
        with pytest.raises(LookupFailed, match="archived: restore it first"):
            store.get(DIGEST)
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]] and api.calls == [DIGEST, OTHERS[0]]
        stats = store.stats()["Archive"]
        assert (stats.conflicts, stats.write_failures, stats.writes) == (1, 1, 1)
        assert "that it had called missing" in caplog.text

    def test_free_tiers_of_a_composite_are_still_asked(self) -> None:
        api = API(HELD)
        inner = chain(Shelf({OTHERS[0]: HELD[OTHERS[0]]}), api)
        store = chain(full(), inner)
        store.get(DIGEST)
        assert store.get(OTHERS[0]) == HELD[OTHERS[0]]
        with pytest.raises(LookupFailed, match="no cache can keep"):
            store.get(OTHERS[1])
        assert api.calls == [DIGEST]

    def test_a_misspelt_bucket_name_costs_one_paid_call(self, s3: SeaweedS3) -> None:
        raw = S3Raw(None, **_where(s3))
        api = API(HELD)
        store = composed(as_cache(Sha1Cache(raw, "s3://no-such-bucket-here/"), read=False), api)
        answers = list(store.get_many(list(HELD)[:5], in_flight=1, patience=0))
        assert [blob.found for blob in answers].count(True) == 1 == len(api.calls)

    def test_a_bucket_that_does_not_exist_is_noticed_before_the_first_paid_call(self, s3: SeaweedS3) -> None:
        raw = S3Raw(None, **_where(s3))
        api = API(HELD)
        store = composed(as_cache(Sha1Cache(raw, "s3://no-such-bucket-here/")), api, call_when_uncertain=True)
        with pytest.raises(LookupFailed, match="no cache can keep"):
            store.get(DIGEST)
        assert api.calls == []


def _where(s3: SeaweedS3) -> dict[str, Any]:
    return {"endpoint_url": s3.endpoint_url, "region": "us-east-1"}


@pytest.fixture(autouse=True)
def _credentials(request: pytest.FixtureRequest) -> None:
    if "s3" in request.fixturenames:
        request.getfixturevalue("aws_env")


class TestNothingAsked:
    """What no tier was asked for is not known to be missing."""

    @pytest.mark.parametrize("make", [Composite, Sha1Composite])
    def test_a_lookup_in_an_empty_composite_is_a_failure(self, make: Callable[[], Composite], tmp_path: Path) -> None:
        unread = make()
        unread.append_cache(Box(), read=False)
        for store, advice in ((make(), "append_source"), (unread, "without read=False")):
            for ask in (
                store.get, store.exists, lambda uri, store=store: next(iter(store.get_many([uri]))).error,
                lambda uri, store=store: store.download(uri, tmp_path / "x"),
            ):  # fmt: skip
                try:
                    answer: Any = ask(DIGEST)
                except LookupFailed as error:
                    answer = error
                assert isinstance(answer, LookupFailed) and advice in str(answer)
            assert str(answer).startswith(DIGEST)

    @pytest.mark.parametrize("make", [Composite, Sha1Composite])
    def test_an_empty_composite_within_another_is_no_absence(self, make: Callable[[], Composite]) -> None:
        for others in ([], [Shelf()]):
            outer = make()
            for store in (make(), *others):
                outer.append_source(store)
            for ask in (outer.get, outer.exists):
                with pytest.raises(LookupFailed, match="append_source"):
                    ask(DIGEST)

    def test_a_key_that_no_tier_takes_is_not_missing(self) -> None:
        class Picky(Shelf):
            def is_valid(self, uri: Any) -> bool:
                return False

        store = composed(as_source(Picky(), "picky"))
        with pytest.raises(LookupFailed, match="is_valid says no in picky"):
            store.get(DIGEST)
        with pytest.raises(LookupFailed):
            store.exists(DIGEST)
        outer = composed(as_source(store, "inner"))
        with pytest.raises(LookupFailed, match="is_valid says no in picky"):
            outer.get(DIGEST)
        plain = with_tiers(Composite(), Picky())
        with pytest.raises(InvalidURI):
            plain.get(DIGEST)

    def test_a_key_that_one_tier_takes_and_lacks_is_missing(self) -> None:
        class Picky(Shelf):
            def is_valid(self, uri: Any) -> bool:
                return False

        store = composed(Picky(), Shelf())
        with pytest.raises(NotFoundInStore):
            store.get(DIGEST)
        assert store.exists(DIGEST) is False

    def test_a_key_that_only_a_paid_tier_takes_does_not_exist_for_free(self) -> None:
        class Picky(Shelf):
            def is_valid(self, uri: Any) -> bool:
                return False

        store = composed(Picky(), API(HELD))
        part = free_part(store)
        assert part is not None and store.exists(DIGEST) is False
        with pytest.raises(NotFoundInStore):
            part.get(DIGEST)
        unread = composed(as_cache(Box(), read=False), API(HELD))
        assert free_part(unread) is None

    def test_a_cache_with_an_impossible_folder_is_an_error(self, tmp_path: Path) -> None:
        store = composed(as_cache(DiskCache(tmp_path)))
        with pytest.raises(NotFoundInStore):
            store.get(sha1(b"nowhere"))
