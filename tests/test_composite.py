"""The composite's contract: outcomes, the cache rule, verification, pickling."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest

from bitstore import (
    Composite,
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    InvalidURI,
    LookupFailed,
    LookupTimedOut,
    MemoryCache,
    NotFoundInStore,
    S3Raw,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Sha256Composite,
    Sha256Store,
    Store,
    StoreNotAvailable,
)
from tests.stores import API, Box, Shelf, as_cache, as_source, blobs, composed, sha1, with_tiers

[(DIGEST, DATA)] = blobs(1).items()


class TestOutcome:
    def test_the_first_tier_that_has_the_blob_answers(self) -> None:
        first, second, third = Shelf(), Shelf({DIGEST: DATA}), Shelf({DIGEST: b"other"})
        assert composed(first, second, third).get(DIGEST) == DATA
        assert (first.asked, second.asked, third.asked) == ([DIGEST], [DIGEST], [])

    def test_every_form_of_a_digest_finds_the_same_blob(self) -> None:
        shelf = Shelf({DIGEST: DATA})
        composite = composed(shelf)
        for uri in (DIGEST.upper(), f"sha1://{DIGEST}", f"sha1://{DIGEST.upper()}"):
            assert composite.get(uri) == DATA
        assert set(shelf.asked) == {DIGEST}

    def test_a_blob_is_missing_only_when_all_tiers_say_so(self) -> None:
        with pytest.raises(NotFoundInStore) as caught:
            composed(Shelf(), Shelf()).get(DIGEST)
        assert DIGEST in str(caught.value)
        assert isinstance(caught.value, FileNotFoundError)

    @pytest.mark.parametrize(
        "failure", [StoreNotAvailable("x", "down"), OSError("reset"), ValueError("odd"), KeyError(1)]
    )
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_a_failure_is_never_an_absence(self, failure: Exception, position: int) -> None:
        shelves = [Shelf(), Shelf(), Shelf()]
        shelves[position].fail = failure
        composite = composed(*shelves)
        with pytest.raises(LookupFailed) as caught:
            composite.get(DIGEST)
        assert not isinstance(caught.value, NotFoundInStore)
        assert isinstance(caught.value, StoreNotAvailable)
        assert [error for _, error in caught.value.failures] == [failure]
        assert caught.value.__cause__ is failure
        assert len(caught.value.missing) == 2
        assert [len(shelf.asked) for shelf in shelves] == [1, 1, 1]

    def test_a_failing_tier_does_not_stop_the_walk(self) -> None:
        broken = Shelf(fail=ConnectionError("down"))
        assert composed(broken, Shelf({DIGEST: DATA})).get(DIGEST) == DATA

    def test_an_is_valid_that_raises_is_a_failure(self) -> None:
        class Odd(Shelf):
            def is_valid(self, uri: Any) -> bool:
                raise RuntimeError("no idea")

        with pytest.raises(LookupFailed, match="no idea"):
            composed(Odd(), Shelf()).get(DIGEST)

    def test_a_store_that_does_not_understand_the_uri_is_passed_over(self) -> None:
        class Picky(Box):
            def is_valid(self, uri: Any) -> bool:
                return False

        picky = Picky()
        composite = composed(as_cache(picky), Shelf({DIGEST: DATA}))
        assert composite.get(DIGEST) == DATA
        assert picky.asked == [] and picky.held == {}
        with pytest.raises(NotFoundInStore):
            composed(Picky(), Shelf()).get(DIGEST)

    @pytest.mark.parametrize(
        "bad", ["", "abc", DIGEST + "\n", DIGEST[:-1], "g" * 40, "sha256://" + DIGEST, "\uff11" * 40]
    )
    def test_an_invalid_digest_is_an_invalid_uri(self, bad: str) -> None:
        with pytest.raises(InvalidURI, match="sha1") as caught:
            composed(Shelf()).get(bad)
        assert isinstance(caught.value, ValueError)

    def test_a_digest_of_a_wrong_type_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="str, got NoneType"):
            composed(Shelf()).get(None)

    def test_a_composite_gives_up_a_slow_store_at_its_timeout(self) -> None:
        slow = Shelf({DIGEST: DATA})
        composite = with_tiers(Composite(), slow)

        class Inner(Composite):
            pass

        outer = Inner()
        outer.append_source(composite)
        with pytest.raises(LookupTimedOut):
            composite.get(DIGEST, timeout=1e-9)
        assert composite.get(DIGEST, timeout=60) == DATA

    def test_exists_answers_without_asking_a_paid_source(self) -> None:
        api = API({DIGEST: DATA})
        composite = composed(Shelf(), api)
        assert composite.exists(DIGEST) is False
        assert api.calls == []
        assert composed(Shelf(), Shelf({DIGEST: DATA})).exists(DIGEST) is True
        broken = Shelf(fail=OSError("down"))
        assert composed(broken, Shelf({DIGEST: DATA})).exists(DIGEST) is True
        with pytest.raises(LookupFailed):
            composed(broken, Shelf()).exists(DIGEST)

    def test_a_composite_within_a_composite_reports_its_failures(self) -> None:
        down = Shelf(fail=OSError("down"))
        inner = composed(down, Shelf())
        assert composed(inner, Shelf({DIGEST: DATA})).get(DIGEST) == DATA
        with pytest.raises(LookupFailed):
            composed(inner, Shelf()).get(DIGEST)

    def test_put_into_a_composite_is_not_implemented(self) -> None:
        with pytest.raises(NotImplementedError):
            composed(Shelf()).put(DIGEST, DATA)


class TestPaid:
    def test_a_paid_source_is_asked_last_and_its_blob_kept(self) -> None:
        api, cache = API({DIGEST: DATA}), Box()
        composite = composed(Shelf(), as_cache(cache), api)
        assert composite.get(DIGEST) == DATA
        assert cache.held == {DIGEST: DATA}
        assert composite.get(DIGEST) == DATA
        assert api.calls == [DIGEST]

    def test_an_outage_of_a_free_tier_never_becomes_a_paid_call(self) -> None:
        down, api = Shelf(), API({DIGEST: DATA})
        down.fail = OSError("down")
        composite = composed(down, api)
        with pytest.raises(LookupFailed, match="not asked"):
            composite.get(DIGEST)
        assert api.calls == []
        assert composite.stats()["API"].skipped == 1

    def test_call_when_uncertain_asks_the_paid_source_despite_an_outage(self) -> None:
        down, api = Shelf(), API({DIGEST: DATA})
        down.fail = OSError("down")
        assert composed(down, api, call_when_uncertain=True).get(DIGEST) == DATA

    def test_wrong_bytes_from_a_free_source_prevent_a_paid_call(self) -> None:
        api = API({DIGEST: DATA})

        class Corrupt(Shelf):
            def get(self, uri: str) -> bytes:
                raise InvalidDataFound(self, uri)

        with pytest.raises(LookupFailed):
            composed(Corrupt(), api).get(DIGEST)
        assert api.calls == []

    def test_a_paid_source_that_returns_none_means_missing(self) -> None:
        with pytest.raises(NotFoundInStore):
            composed(API({})).get(DIGEST)


class TestCacheRule:
    def test_every_cache_above_the_source_keeps_the_blob(self) -> None:
        top, middle, below = Box(), Box(), Box()
        composite = composed(as_cache(top), as_cache(middle), Shelf({DIGEST: DATA}), as_cache(below), API({}))
        assert composite.get(DIGEST) == DATA
        assert (top.held, middle.held, below.held) == ({DIGEST: DATA}, {DIGEST: DATA}, {})

    def test_a_lower_cache_fills_the_upper_ones(self) -> None:
        top, below = Box(), Box({DIGEST: DATA})
        composite = composed(as_cache(top), as_cache(below))
        assert composite.get(DIGEST) == DATA
        assert top.held == {DIGEST: DATA}

    def test_a_source_with_cache_result_false_is_not_kept(self) -> None:
        top = Box()
        composite = composed(as_cache(top), as_source(Shelf({DIGEST: DATA}), cache_result=False))
        assert composite.get(DIGEST) == DATA
        assert top.held == {}

    def test_the_old_cache_result_argument_keeps_in_the_last_cache(self) -> None:
        early, late = Box(), Box()
        composite = Sha1Composite()
        composite.append_source(Shelf({DIGEST: DATA}), True)
        composite.append_cache(early)
        composite.append_cache(late)
        assert composite.get(DIGEST) == DATA
        assert (early.held, late.held) == ({}, {DIGEST: DATA})

    def test_a_cache_with_read_false_is_written_but_not_read(self) -> None:
        cache = Box({DIGEST: b"stale"})
        composite = composed(as_cache(cache, read=False))
        composite.append_store(Shelf({DIGEST: DATA}))
        assert composite.get(DIGEST) == DATA
        assert cache.asked == [] and cache.held == {DIGEST: DATA}

    def test_a_cache_that_cannot_write_fails_no_lookup_and_warns_once(self, caplog: pytest.LogCaptureFixture) -> None:
        cache = Box(fail_put=OSError("disk full"))
        composite = composed(as_cache(cache), Shelf(blobs(5)))
        with caplog.at_level(logging.WARNING, "bitstore"):
            for digest in blobs(5):
                assert composite.get(digest)
        assert composite.stats()["Box"].write_failures == 5
        assert len([record for record in caplog.records if "could not keep" in record.message]) == 1

    def test_data_that_is_not_bytes_passes_caches_of_bytes(self) -> None:
        memory, own = MemoryCache(), Box()
        held: Any = {DIGEST: {"a": "dict"}}
        composite: Any = composed(as_cache(memory), as_cache(own), Shelf(held))
        assert composite.get(DIGEST) == {"a": "dict"}
        assert own.held == held
        assert composite.stats()["Box"].write_failures == 0
        assert sum(tier.write_failures for tier in composite.stats().values()) == 0

    def test_a_store_without_put_is_refused_as_a_cache(self) -> None:
        with pytest.raises(TypeError, match="does not implement 'put'"):
            composed(as_cache(Shelf()))

    def test_an_object_that_is_no_store_is_refused_as_a_tier(self) -> None:
        with pytest.raises(TypeError, match="expected a store"):
            Sha1Composite().append_source("s3://bucket/")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a store"):
            Sha1Composite().append_source(Shelf)  # type: ignore[arg-type]


class TestVerification:
    def test_wrong_bytes_in_a_source_are_a_failure(self, tmp_path: Any) -> None:
        bad = Sha1Store(FileRaw(), f"file://{tmp_path}/bad/", verify=True)
        FileRaw().put(f"file://{tmp_path}/bad/{DIGEST}", b"something else")
        with pytest.raises(InvalidDataFound):
            bad.get(DIGEST)
        with pytest.raises(LookupFailed):
            composed(bad).get(DIGEST)
        assert composed(bad, Shelf({DIGEST: DATA})).get(DIGEST) == DATA

    def test_wrong_bytes_in_a_cache_are_replaced(self, tmp_path: Any) -> None:
        cache = Sha1Cache(FileRaw(), f"file://{tmp_path}/")
        FileRaw().put(f"file://{tmp_path}/{DIGEST}", b"something else")
        api = API({DIGEST: DATA})
        composite = composed(as_cache(cache), api)
        cache.verify = True  # a live attribute
        assert composite.get(DIGEST) == DATA
        assert (tmp_path / DIGEST).read_bytes() == DATA
        assert composite.get(DIGEST) == DATA
        assert len(api.calls) == 1
        assert composite.stats()[cache.label].invalid == 1

    def test_bad_bytes_never_reach_a_verifying_cache(self, tmp_path: Any) -> None:
        cache = Sha1Cache(FileRaw(), f"file://{tmp_path}/", verify=True)
        composite = composed(as_cache(cache), Shelf({DIGEST: b"wrong"}))
        assert composite.get(DIGEST) == b"wrong"  # the source does not verify
        assert list(tmp_path.iterdir()) == []
        cache.put(DIGEST, b"wrong")
        assert list(tmp_path.iterdir()) == []

    def test_unverified_bytes_in_a_shared_cache_do_not_pass_sources_that_verify(self, tmp_path: Any) -> None:
        """Two programs with the same cache folder, of which one does not verify."""
        folder = tmp_path / "cache"
        careless = composed(as_cache(DiskCache(folder)), Shelf({DIGEST: b"wrong bytes"}))
        assert careless.get(DIGEST) == b"wrong bytes" and DiskCache(folder, algorithm="sha1").exists(DIGEST)
        (tmp_path / DIGEST).write_bytes(DATA)
        source = Sha1Store(FileRaw(), f"file://{tmp_path}/", verify=True)
        careful = composed(as_cache(DiskCache(folder)), composed(as_cache(MemoryCache()), source))
        assert careful.get(DIGEST) == DATA
        assert careful.stats()["disk:" + str(folder)].invalid == 1
        assert careful.get(DIGEST) == DATA  # from the disk now
        assert careful.stats()["disk:" + str(folder)].hits == 1
        # A source that does not verify may mean such bytes: then they are an answer.
        DiskCache(folder, algorithm="sha1").delete(DIGEST)
        assert careless.get(DIGEST) == b"wrong bytes"
        source.verify = False
        assert careful.get(DIGEST) == b"wrong bytes"
        source.verify = True
        (tmp_path / DIGEST).unlink()
        with pytest.raises(NotFoundInStore):
            composed(as_cache(DiskCache(folder)), source).get(DIGEST)

    @pytest.mark.parametrize("compression", ["gzip", "zlib", "zstd"])
    def test_the_digest_is_that_of_the_expanded_bytes(self, tmp_path: Any, compression: str) -> None:
        template = f"file://{tmp_path}/{{digest[:2]}}/{{digest}}.z"
        store = Sha1Store(FileRaw(), template, verify=True, compression=compression)
        store.put(DIGEST, DATA)
        assert (tmp_path / DIGEST[:2] / f"{DIGEST}.z").read_bytes() != DATA
        assert store.get(DIGEST) == DATA
        (tmp_path / DIGEST[:2] / f"{DIGEST}.z").write_bytes(b"not compressed")
        with pytest.raises(InvalidDataFound, match=compression):
            store.get(DIGEST)

    def test_a_compression_bomb_in_a_source_is_a_failure(self, tmp_path: Any) -> None:
        store = Sha1Store(FileRaw(), f"file://{tmp_path}/", compression="zstd", max_blob_size="1MB")
        bomb = bytes(50_000_000)
        store.put(sha1(bomb), bomb)
        with pytest.raises(StoreNotAvailable, match="1000000 bytes"):
            store.get(sha1(bomb))


class TestPickling:
    def test_a_composite_pickles_as_its_configuration_only(self) -> None:
        api, cache = API({DIGEST: DATA}), Box()
        shelf = Shelf()
        del shelf.entered, cache.entered
        composite = composed(
            as_source(Sha1Store(FileRaw(), "file:///nowhere/{digest}", verify=True), "files"),
            as_cache(MemoryCache(), "memory"),
            call_when_uncertain=True,
        )
        composite.append_store(api, cache_result=True)
        assert composite.get(DIGEST) == DATA
        copy = pickle.loads(pickle.dumps(composite))
        assert repr(copy) == repr(composite)
        assert copy.call_when_uncertain
        assert list(copy.stats()) == ["files", "memory", "API"]
        assert copy.stats()["API"].hits == 0
        assert copy.get(DIGEST) == DATA
        assert copy.get(DIGEST) == DATA
        assert copy.stats()["API"].hits == 1  # the published library paid for each get after pickling

    @pytest.mark.parametrize(
        "error",
        [
            NotFoundInStore("store", DIGEST),
            InvalidDataFound("store", DIGEST, "odd"),
            StoreNotAvailable("store"),
            StoreNotAvailable("store", "why"),
            InvalidURI("store", "x", "hint"),
            LookupFailed("store", DIGEST, [("a", OSError("x")), ("b", StoreNotAvailable("b", "y"))], ["c"]),
            LookupTimedOut("store", DIGEST, [("a", TimeoutError("x"))]),
        ],
    )
    def test_exceptions_keep_type_and_text_when_pickled(self, error: Exception) -> None:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        again = pickle.loads(pickle.dumps(copy))
        assert str(again) == str(error)

    def test_a_failure_that_does_not_pickle_travels_as_its_text(self) -> None:
        class Local(Exception):
            pass

        copy = pickle.loads(pickle.dumps(LookupFailed("store", DIGEST, [("a", Local("deep trouble"))])))
        assert "deep trouble" in str(copy.failures[0][1])


class TestNames:
    def test_the_repr_of_a_composite_shows_its_chain(self) -> None:
        composite = composed(as_cache(MemoryCache("1MB")), Sha1Store(FileRaw(), "file:///a/", verify=True))
        assert repr(composite) == (
            "Sha1Composite[cache MemoryCache(max_size='1MB'), Sha1Store(FileRaw(), 'file:///a/', verify=True)]"
        )

    def test_equal_names_of_tiers_are_numbered(self) -> None:
        composite = composed(Shelf(), Shelf(), Shelf({DIGEST: DATA}))
        assert list(composite.stats()) == ["Shelf", "Shelf #2", "Shelf #3"]
        [blob] = composite.get_many([DIGEST])
        assert blob.source == "Shelf #3"

    def test_a_subclass_whose_init_calls_no_super_works(self) -> None:
        class Mine(Sha1Composite):
            def __init__(self) -> None:
                self.append_source(Shelf({DIGEST: DATA}))

        assert Mine().get(DIGEST) == DATA

    def test_a_subclass_that_overrides_get_is_not_bypassed(self) -> None:
        class Counting(Sha1Store):
            seen: list[str] = []  # noqa: RUF012

            def get(self, digest: str) -> Any:
                self.seen.append(digest)
                return super().get(digest)

        store = Counting(Shelf({f"x{DIGEST}": DATA}), "x")
        composite = composed(store)
        assert composite.get(DIGEST) == DATA
        assert [blob.data for blob in composite.get_many([DIGEST])] == [DATA]
        assert store.seen == [DIGEST, DIGEST]

    @pytest.mark.parametrize("other", [Sha256Composite(), Sha256Store(FileRaw(), "file:///x/")], ids=["chain", "store"])
    def test_a_store_of_another_algorithm_is_refused_as_a_tier(self, other: Store) -> None:
        """It would be passed over in each lookup, which would tell that everything is missing."""
        with pytest.raises(ValueError, match=r"sha256 digests.*sha1"):
            composed(other)

    def test_one_cache_object_serves_one_algorithm_only(self, tmp_path: Any) -> None:
        cache = DiskCache(tmp_path)
        Sha1Composite().append_cache(cache)
        other = Sha256Composite()
        with pytest.raises(ValueError, match="sha1"):
            other.append_cache(cache)
        assert other.stats() == {}

    @pytest.mark.parametrize("raw", [S3Raw([]), GSRaw({}), HTTPRaw(), FileRaw()], ids=lambda raw: type(raw).__name__)
    def test_a_raw_store_is_refused_unless_it_is_wrapped(self, raw: Any) -> None:
        """They would be passed over for every digest, and so all blobs would be missing."""
        for composite in (Sha1Composite(), Sha256Composite()):
            wrapper = type(composite).__name__.replace("Composite", "Store")
            for append in (composite.append_source, composite.append_cache):
                with pytest.raises(
                    TypeError, match=rf"addressed by URL .*: wrap it, as in {wrapper}\({type(raw).__name__}\("
                ):
                    append(raw)
            assert composite.sources == ()

    def test_a_raw_store_subclass_that_understands_digests_is_taken(self) -> None:
        class Mine(S3Raw):
            def is_valid(self, uri: Any) -> bool:
                return super().is_valid(f"s3://bucket/{uri}")

            def get(self, uri: Any) -> bytes:
                return DATA

        composite = composed(Mine([]))
        assert composite.get(DIGEST) == DATA


@pytest.mark.parametrize(
    ("raw", "prefix"),
    [
        (S3Raw([]), "s3://bucket"),
        (S3Raw([]), "bucket/files/"),
        (GSRaw({}), "s3://bucket/"),
        (FileRaw(), "/some/folder/"),
    ],
    ids=str,
)
def test_a_prefix_that_makes_no_url_is_refused(raw: Any, prefix: str) -> None:
    with pytest.raises(ValueError, match=rf"'{prefix}' plus a digest is no URL that {type(raw).__name__} takes: "):
        Sha1Store(raw, prefix)


def test_a_base_store_that_is_no_store_is_refused() -> None:
    base: Any = "s3://bucket/"
    with pytest.raises(TypeError, match=r"such as S3Raw\(\), got 's3://bucket/'"):
        Sha1Store(base, "files/")


def test_data_that_cannot_be_verified_is_a_type_error_that_names_it() -> None:
    class Text(API):
        def api_get(self, digest: str) -> Any:
            return "text"

    source = Text({})
    source.verify = True
    with pytest.raises(TypeError, match=f"^Text has a str for {DIGEST}, and verify=True needs bytes$"):
        source.get(DIGEST)


def test_an_error_shows_the_newline_in_a_uri() -> None:
    with pytest.raises(InvalidURI, match=r"^URI 'abc\\n' is invalid for Sha1Composite"):
        Sha1Composite().get("abc\n")


def test_the_debug_log_has_one_line_for_each_tier_and_lookup(caplog: pytest.LogCaptureFixture) -> None:
    class Picky(Shelf):
        def is_valid(self, uri: Any) -> bool:
            return False

    down = Shelf(fail=OSError("down: https://host/?key=secret"))
    composite = composed(
        as_cache(Box(), "box"),
        as_source(Picky(), "picky"),
        as_source(down, "down"),
        as_source(API({}), "api"),
        as_source(Shelf({DIGEST: DATA}), "shelf"),
    )
    composite.get(DIGEST)
    assert caplog.text == ""
    with caplog.at_level(logging.DEBUG, "bitstore"):
        composite.get(DIGEST.upper())
        box_hit = len(caplog.messages)
        composite.cache.held.clear()  # type: ignore[union-attr]
        composite.get(DIGEST)
    assert caplog.messages[:box_hit] == [f"{DIGEST}: box: found, bytes: {len(DATA)}"]
    lines = [line.removeprefix(f"{DIGEST}: ") for line in caplog.messages[box_hit:]]
    assert lines[:3] == [
        "box: missing", "picky: passed over, because its is_valid says no", "down: failed: OSError: down: https://host/?***"
    ]  # fmt: skip
    assert lines[3].startswith("api: not asked, because an earlier tier failed")
    assert lines[4] == f"shelf: found, bytes: {len(DATA)}" and len(lines) == 5


@pytest.mark.parametrize("make", [Box, lambda: Sha1Cache(Urls(), "x://")], ids=["cache", "Sha1Cache over it"])
def test_a_users_cache_keeps_data_of_any_type(make: Any) -> None:
    for kept in ("a text", {"an": "object"}, DATA):
        composite = Sha1Composite()
        composite.append_cache(cache := make(), name="kept")
        composite.append_source(Shelf({DIGEST: kept}))  # type: ignore[dict-item]
        assert composite.get(DIGEST) == kept == cache.get(DIGEST) == composite.get(DIGEST)
        assert composite.stats()["kept"].writes == 1


@pytest.mark.parametrize(
    "cache",
    [
        lambda: MemoryCache(), lambda: Sha1Cache(Urls(), "x://", verify=True),
        lambda: Sha1Cache(Urls(), "x://", compression="gzip"), lambda: Sha1Cache(FileRaw(), "file:///nowhere/at/all/"),
    ],
)  # fmt: skip
def test_caches_of_bytes_pass_on_other_data_unkept(cache: Any, caplog: pytest.LogCaptureFixture) -> None:
    composite = Sha1Composite()
    composite.append_cache(cache(), name="bytes", read=False)
    composite.append_source(Shelf({DIGEST: "a text"}))  # type: ignore[dict-item]
    assert composite.get(DIGEST) == "a text"  # type: ignore[comparison-overlap]
    stats = composite.stats()["bytes"]
    assert (stats.writes, stats.write_failures) == (0, 0) and caplog.text == ""


class Urls(Box):
    """A store of a user that is addressed by URL."""
