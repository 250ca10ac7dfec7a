"""No outage becomes a bill, and nothing is paid for twice: also in composites within composites, retries, downloads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    CallLimit,
    FileRaw,
    InvalidDataFound,
    LookupFailed,
    MemoryCache,
    NotFoundInStore,
    Sha1Composite,
    Sha1Store,
    Store,
    StoreNotAvailable,
)
from bitstore._tiers.paying import cannot_keep
from bitstore.errors import AccessDenied
from bitstore.steps import Call, Found, Steps
from tests.stores import API, Box, Shelf, blobs, down, full, sha1

pytestmark = pytest.mark.usefixtures("skipped_pauses")

[(DIGEST, DATA)] = blobs(1).items()


def chain(*stores: Store, call_when_uncertain: bool = False) -> Sha1Composite:
    composite = Sha1Composite(call_when_uncertain=call_when_uncertain)
    for store in stores:
        if isinstance(store, (Box, MemoryCache)):
            composite.append_cache(store)
        else:
            composite.append_source(store)
    return composite


class Gated(API):
    """Answers when the gate is open; says when it was entered."""

    def __init__(self, held: dict[str, bytes]) -> None:
        super().__init__(held)
        self.gate = threading.Event()
        self.entered = threading.Event()

    def api_get(self, digest: str) -> bytes | None:
        self.entered.set()
        assert self.gate.wait(60)
        return super().api_get(digest)


class TestCompositeInComposite:
    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_an_outage_above_an_inner_composite_never_becomes_a_paid_call(self, depth: int) -> None:
        api = API({DIGEST: DATA})
        inner: Store = api
        for _ in range(depth):
            inner = chain(Shelf(), inner)
        outer = chain(down(), inner)
        with pytest.raises(LookupFailed, match="not asked"):
            outer.get(DIGEST)
        [blob] = outer.get_many([DIGEST], patience=0)
        assert blob.failed and api.calls == []

    def test_free_blobs_of_an_inner_composite_are_found_during_an_outage(self, tmp_path: Path) -> None:
        api, cache = API({}), Box()
        inner = chain(cache, Shelf({DIGEST: DATA}), api)
        outer = chain(down(), inner)
        assert outer.get(DIGEST) == DATA and cache.held == {DIGEST: DATA}
        assert outer.download(DIGEST, tmp_path / "blob") == "Sha1Composite"
        assert (tmp_path / "blob").read_bytes() == DATA and api.calls == []
        assert inner.stats()["Shelf"].hits == 1 and inner.stats()["Box"].hits == 1

    def test_call_when_uncertain_of_the_outer_composite_pays_despite_an_outage(self) -> None:
        api = API({DIGEST: DATA})
        assert chain(down(), chain(Shelf(), api), call_when_uncertain=True).get(DIGEST) == DATA
        # The inner one says what holds for its own tiers, the outer one what holds for all that stands below a failure.
        outer = chain(down(), chain(Shelf(), api, call_when_uncertain=True))
        with pytest.raises(LookupFailed):
            outer.get(DIGEST)
        assert api.calls == [DIGEST]

    def test_an_inner_paid_source_is_asked_after_all_free_tiers_said_no(self) -> None:
        api = API({DIGEST: DATA})
        assert chain(Shelf(), chain(Shelf(), api)).get(DIGEST) == DATA
        assert api.calls == [DIGEST]

    def test_a_digest_store_over_a_paid_source_counts_as_paid(self) -> None:
        class PaidShelf(Shelf):
            paid = True

        shelf = PaidShelf({f"mem://{DIGEST}": DATA})
        outer = chain(down(), Sha1Store(shelf, "mem://"))
        with pytest.raises(LookupFailed, match="not asked"):
            outer.get(DIGEST)
        assert shelf.asked == []

    @pytest.mark.parametrize("failure", [AccessDenied("bucket", "403"), OSError("down")], ids=["refused", "down"])
    def test_a_failing_inner_tier_does_not_open_the_breaker_of_its_composite(self, failure: Exception) -> None:
        bad = Shelf(fail=failure)
        inner = chain(bad, Shelf({DIGEST: DATA}))
        outer = chain(inner)
        for number in range(10):
            with pytest.raises(LookupFailed):
                outer.get(sha1(b"%d" % number))
        assert outer.get(DIGEST) == DATA
        assert outer.stats()["Sha1Composite"].breaker == "closed"

    def test_a_batch_waits_for_tiers_of_an_inner_composite(self) -> None:
        """The breaker is that of the inner tier, and the patience that of the outer batch."""
        shelf = Shelf({DIGEST: DATA}, fail=OSError("down"))
        inner = chain(shelf)
        for number in range(5):
            with pytest.raises(LookupFailed):
                inner.get(sha1(b"%d" % number))
        assert inner.stats()["Shelf"].breaker == "open"
        with pytest.raises(LookupFailed) as caught:
            chain(inner).get(DIGEST)
        assert caught.value.retry_in is not None and caught.value.down_for > 0
        shelf.fail = None
        [blob] = chain(inner).get_many([DIGEST])
        assert blob.data == DATA


class TestTriesOfABatch:
    @pytest.mark.parametrize("first", [True, False], ids=["before the outage", "behind it"])
    def test_a_tier_that_said_no_is_not_asked_again_in_later_tries(self, first: bool) -> None:
        api, free = API({}), down()
        composite = chain(*((api, free) if first else (free, api)), call_when_uncertain=True)
        [blob] = composite.get_many([DIGEST])
        assert blob.failed and isinstance(blob.error, LookupFailed)
        assert blob.error.missing == ["API"]
        assert len(free.asked) == 3 and api.calls == [DIGEST]

    def test_a_tier_of_an_inner_composite_that_said_no_is_not_asked_again(self) -> None:
        api, free = API({}), down()
        [blob] = chain(chain(api, free)).get_many([DIGEST])
        assert blob.failed and api.calls == [DIGEST]

    def test_a_separate_lookup_asks_a_tier_that_said_no_before(self) -> None:
        api, free = API({}), down()
        composite = chain(api, free)
        for _ in range(2):
            with pytest.raises(LookupFailed):
                composite.get(DIGEST)
        assert api.calls == [DIGEST] * 2


class TestDownloads:
    @pytest.mark.parametrize("leader", ["get", "download"])
    @pytest.mark.parametrize("cached", [True, False])
    def test_downloads_at_the_same_time_share_one_paid_call(self, leader: str, cached: bool, tmp_path: Path) -> None:
        api = Gated({DIGEST: DATA})
        composite = chain(*([MemoryCache()] if cached else []), Shelf(), api)

        def download(name: str) -> bytes:
            composite.download(DIGEST, tmp_path / name)
            return (tmp_path / name).read_bytes()

        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(composite.get, DIGEST) if leader == "get" else pool.submit(download, "first")
            assert api.entered.wait(60)
            others = [pool.submit(download, f"{number}") for number in range(2)]
            others.append(pool.submit(composite.get, DIGEST))
            api.gate.set()
            assert [each.result(60) for each in (first, *others)] == [DATA] * 4
        assert len(api.calls) == 1 or not cached
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []

    def test_a_get_that_waited_for_a_download_gets_bytes_of_its_own(self, tmp_path: Path) -> None:
        """The bytes of a download went to its file: the lookup that waited for it is answered with bytes of its own."""
        entered, go_on = threading.Event(), threading.Event()

        class GatedFile(FileRaw):
            def download_steps(self, uri: Any, partial: Any) -> Steps[Found]:
                entered.set()
                yield Call(go_on.wait, 60)
                return (yield from super().download_steps(uri, partial))

        api = API({})
        (tmp_path / DIGEST).write_bytes(DATA)
        composite = chain(Sha1Store(GatedFile(), f"file://{tmp_path}/", verify=True), api)
        with ThreadPoolExecutor(2) as pool:
            download = pool.submit(composite.download, DIGEST, tmp_path / "out")
            assert entered.wait(60)
            get = pool.submit(composite.get, DIGEST)
            waiting = composite._live().flights._open[DIGEST]._callbacks
            while not waiting:  # the get has found the download's flight
                assert not get.done()
                time.sleep(0.001)
            go_on.set()
            assert get.result(60) == DATA and download.result(60)
        assert (tmp_path / "out").read_bytes() == DATA and api.calls == []

    def test_a_download_does_not_write_the_wrong_answer_of_another_lookup(self, tmp_path: Path) -> None:
        """The store does not verify, the download does: also what another lookup brought."""
        api = Gated({DIGEST: b"other bytes"})
        composite = chain(api)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(composite.get, DIGEST)
            assert api.entered.wait(60)
            second = pool.submit(composite.download, DIGEST, tmp_path / "out")
            api.gate.set()
            assert first.result(60) == b"other bytes"
            with pytest.raises(Exception, match=DIGEST):
                second.result(60)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("found", [DATA, b"other bytes"], ids=["right", "wrong"])
    def test_an_inner_composite_that_keeps_nothing_fills_files_and_is_checked(
        self, found: bytes, tmp_path: Path
    ) -> None:
        """Its cache is known to be full, so the outer one keeps for it: a way of its own through the walk."""
        bought = sha1(b"bought")
        inner = chain(full(), Shelf({DIGEST: found}), API({bought: b"bought"}))
        assert inner.get(bought) == b"bought" and cannot_keep(inner._live())
        composite = chain(Box(), Shelf(), inner)
        if found == DATA:
            composite.download(DIGEST, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == DATA
            assert chain(Box(), Shelf(), inner).open(DIGEST, verify=True).read() == DATA
            return
        with pytest.raises(LookupFailed, match="invalid"):
            composite.download(DIGEST, tmp_path / "out")
        with pytest.raises(LookupFailed, match="invalid"):
            chain(Box(), Shelf(), inner).open(DIGEST, verify=True)
        assert not (tmp_path / "out").exists()


class TestRemembered:
    @pytest.mark.parametrize("limited", [False, True])
    def test_an_absence_is_remembered_whether_returned_or_raised(self, limited: bool) -> None:
        class Raises(API):
            def api_get(self, digest: str) -> bytes | None:
                super().api_get(digest)
                raise NotFoundInStore(self, digest)

        for api in (API({}), Raises({})):
            api.remember_missing = 60
            if limited:
                api.limit = CallLimit("account", per_day=9)
            composite = chain(Shelf(), api)
            for uri in (DIGEST, DIGEST.upper(), f"sha1://{DIGEST}"):
                with pytest.raises(NotFoundInStore):
                    composite.get(uri)
            assert api.calls == [DIGEST]

    @pytest.mark.parametrize("error", [OSError("down"), InvalidDataFound("api", DIGEST), StoreNotAvailable("api")])
    def test_a_failure_of_a_paid_source_is_not_remembered(self, error: Exception) -> None:
        api = API({DIGEST: DATA})
        api.remember_missing, api.fail = 60, error
        with pytest.raises(LookupFailed):
            chain(Shelf(), api).get(DIGEST)
        api.fail = None
        assert chain(Shelf(), api).get(DIGEST) == DATA
