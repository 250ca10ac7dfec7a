"""Stores with a membership index: requests that are saved, and absences that are proved; never a wrong one."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import bitstore
from bitstore import (
    Composite,
    FileRaw,
    HTTPRaw,
    LookupTimedOut,
    MemoryCache,
    MissLedger,
    NotFoundInStore,
    RemembersMisses,
    S3Raw,
    Sha1Cache,
    Sha1Store,
    Sha256Store,
    StoreNotAvailable,
)
from bitstore.index import Index, IndexBuilder, _builder, _writes, merge
from bitstore.index._writes import HEAD, RECORD, place_of
from bitstore.steps import Cancelled
from tests.cli_scene import Scene
from tests.servers.web_folder import WebFolder
from tests.stores import API, as_cache, as_source, blobs, composed, outcome, sha1

HELD = blobs(5, salt="held")
OTHER = blobs(5, salt="other")
LOST, OTHER_LOST = sha1(b"lost"), sha1(b"also lost")
NOW = datetime.now(timezone.utc)


@pytest.fixture
def server() -> Iterator[WebFolder]:
    with WebFolder() as server:
        for folder, held in (("a", HELD), ("b", OTHER)):
            server.files |= {f"/{folder}/{digest}": data for digest, data in held.items()}
        yield server


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return build(tmp_path / "a.idx")


def build(path: Path, digests: Any = tuple(HELD), algorithm: str = "sha1", **how: Any) -> Path:
    with IndexBuilder(algorithm) as builder:
        builder.add(digests)
        builder.write(path, **how)
    return path


def at(server: WebFolder, folder: str, **options: Any) -> Sha1Store:
    return Sha1Store(HTTPRaw(), f"{server.url}/{folder}/", **options)


def asked(server: WebFolder) -> dict[str, int]:
    """How often each folder was asked."""
    found: dict[str, int] = {}
    for (_, path), count in server.counts.items():
        found[path[1]] = found.get(path[1], 0) + count
    return found


# ---------------------------------------------------------------------- the order


WAYS: dict[str, Callable[[Any, str], Any]] = {
    "get": lambda store, digest: store.get(digest),
    "get_many": lambda store, digest: list(store.get_many([digest], errors="raise")),
    "exists": lambda store, digest: store.exists(digest) or outcome(lambda: store.get(digest)),
    "download": lambda store, digest: store.download(digest, Path(tempfile.gettempdir(), digest)),
    "open": lambda store, digest: store.open(digest).read(),
}


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("way", ["get", "get_many", "exists", "open"])
def test_a_source_that_surely_lacks_a_blob_is_not_asked_while_another_has_it(
    server: WebFolder, index: Path, way: str, verify: bool
) -> None:
    store = composed(as_source(at(server, "a", index=index, verify=verify), "a"), at(server, "b", verify=verify))
    for digest in [*OTHER, *HELD]:
        WAYS[way](store, digest)
    assert asked(server) == {"a": len(HELD), "b": len(OTHER)}
    if way != "exists":
        assert store.stats()["a"].denied == len(OTHER)


def test_a_lookup_that_runs_out_of_time_counts_at_once_what_it_put_off(server: WebFolder, index: Path) -> None:
    [digest] = blobs(1, salt="other")
    store = composed(as_source(at(server, "a", index=index), "a"), at(server, "b"))
    steps = store.key_steps(digest)
    next(steps)
    with pytest.raises(LookupTimedOut) as caught:
        steps.throw(Cancelled())
    assert caught.value.failures and store.stats()["a"].denied == 1  # while the error keeps the frames of the walk


@pytest.mark.parametrize("recheck", [True, False])
def test_an_absence_says_how_each_tier_knows_it(server: WebFolder, index: Path, recheck: bool) -> None:
    store = composed(
        as_source(at(server, "a", index=index, recheck=recheck), "a"),
        as_source(at(server, "b"), "b"),
    )
    outer = composed(as_source(store, "inner"))
    covers = Index(index).info.covers_up_to
    for error in (
        outcome(lambda: store.get(LOST)),
        pickle.loads(pickle.dumps(outcome(lambda: store.get(LOST)))),
        next(iter(store.get_many([LOST]))).error,
    ):
        assert isinstance(error, NotFoundInStore)
        known = {each.tier: (each.how, each.moment) for each in error.evidence}
        assert known == {"a": ("asked", None) if recheck else ("index", covers), "b": ("asked", None)}
        said = f"a: not in the index of {covers.isoformat(timespec='seconds')}, nor among the writes since"
        assert (said in str(error)) is not recheck and "b: asked just now" in str(error)
    assert store.exists(LOST) is False
    assert asked(server) == {"b": 4} | ({"a": 4} if recheck else {})
    nested = outcome(lambda: outer.get(LOST))
    assert {each.tier for each in nested.evidence} == ({"inner > a", "inner > b"})  # type: ignore[attr-defined]


def test_a_store_by_itself_answers_without_a_request_only_if_it_is_not_to_recheck(
    server: WebFolder, index: Path
) -> None:
    sure, careful = at(server, "a", index=index, recheck=False), at(server, "a", index=index)
    for way in WAYS.values():
        try:
            error = way(sure, LOST)
        except NotFoundInStore as raised:
            error = raised
        assert "not in the index of" in str(error)
    assert asked(server) == {}
    assert outcome(lambda: careful.get(LOST)).evidence == ()  # type: ignore[attr-defined]
    assert asked(server) == {"a": 1}
    for store in (sure, careful):
        assert store.locate(LOST)[0].state == "missing"
    assert asked(server) == {"a": 3}


@pytest.mark.parametrize("recheck", [True, False])
def test_a_source_that_was_put_off_is_asked_before_anything_is_paid_for(
    server: WebFolder, index: Path, recheck: bool
) -> None:
    server.files[f"/a/{LOST}"] = b"lost"  # by another program, after the index was made
    api = API({sha1(b"paid"): b"paid"})
    store = composed(at(server, "a", index=index, recheck=recheck), at(server, "b"), api)
    assert store.get(LOST) == b"lost" and api.calls == []
    assert store.get(sha1(b"paid")) == b"paid" and len(api.calls) == 1
    assert asked(server) == {"a": 2, "b": 2}
    assert next(iter(store.exists_many([sha1(b"none")], paid=True))).error is not None
    assert asked(server)["a"] == (4 if recheck else 3)


def test_a_blob_that_came_without_bitstore_is_found_and_kept(server: WebFolder, index: Path) -> None:
    server.files[f"/a/{LOST}"] = b"lost"
    memory = MemoryCache()
    store = composed(as_cache(memory, "memory"), at(server, "a", index=index), at(server, "b"))
    assert store.get(LOST) == b"lost" and memory.get(LOST) == b"lost"
    assert asked(server) == {"a": 1, "b": 1}


def test_a_failure_elsewhere_stays_a_failure_whatever_an_index_proves(server: WebFolder, index: Path) -> None:
    broken = Sha1Store(FileRaw(), "file:///no/x/")
    store = composed(at(server, "a", index=index, recheck=False), broken)
    error = outcome(lambda: store.get(LOST))
    assert isinstance(error, StoreNotAvailable) and len(error.missing) == 1  # type: ignore[attr-defined]


def test_a_source_with_a_ledger_of_misses_keeps_its_index(server: WebFolder, index: Path, tmp_path: Path) -> None:
    ledger = MissLedger(tmp_path / "misses")
    store = composed(
        RemembersMisses(at(server, "a", index=index, recheck=False), ledger, name="a"), at(server, "b"), API({})
    )
    assert all(map(store.get, OTHER)) and asked(server) == {"b": len(OTHER)}
    for _ in range(2):
        outcome(lambda: store.get(LOST))
    assert asked(server)["a"] == 1, "asked once before anything is paid for, and remembered"


def test_a_composite_without_an_index_walks_its_own_chain(server: WebFolder, index: Path) -> None:
    store = composed(at(server, "b"))
    assert store._indexed is False and at(server, "b")._membership is None
    mixed = composed(at(server, "a", index=index), at(server, "b"))
    assert mixed._indexed and not mixed.view(lambda tier: tier if tier.store.index is None else None)._indexed  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- what is no proof


def _copied(path: Path) -> None:
    Path(shutil.copy(place_of(path), f"{path}.2")).replace(place_of(path))


def _damaged_record(path: Path) -> None:
    Sha1Store(FileRaw(), path.parent.as_uri() + "/", index=path).put(LOST[:-1] + "0", b"x")
    data = bytearray(place_of(path).read_bytes())
    data[HEAD.size + 3] ^= 1
    place_of(path).write_bytes(data)


def _linked(path: Path) -> None:
    place_of(path).rename(place_of(path.with_name("real.idx")))
    path.rename(path.with_name("real.idx"))
    path.symlink_to("real.idx")


OLD = {"covers_up_to": NOW - timedelta(days=3)}
NO_PROOF: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[Path], object], str]] = {
    "too old": ({}, {"index_max_age": 1e-6}, lambda path: time.sleep(0.001), "seconds ago"),
    "older than what is noted": (OLD, {"index_max_age": math.inf}, lambda path: None, "noted since"),
    "of the future": ({"covers_up_to": NOW + timedelta(hours=2)}, {}, lambda path: None, "a clock is wrong"),
    "of a part": ({"coverage": "keys 0-7"}, {}, lambda path: None, "covers a part"),
    "nothing noted": ({}, {}, lambda path: place_of(path).unlink(), "there is no"),
    "a copy": ({}, {}, _copied, "is a copy"),
    "a damaged head": ({}, {}, lambda path: place_of(path).write_bytes(b"BITADDED" + bytes(60)), "is damaged"),
    "another file": ({}, {}, lambda path: place_of(path).write_bytes(b"hello"), "move it away"),
    "a cut head": ({}, {}, lambda path: os.truncate(place_of(path), 20), "is damaged"),
    "a damaged record": ({}, {}, _damaged_record, "a record is damaged"),
    "by a link": ({}, {}, _linked, "its name is a link"),
}


@pytest.mark.parametrize("kind", NO_PROOF)
def test_an_index_that_is_no_proof_only_orders_and_says_why(server: WebFolder, tmp_path: Path, kind: str) -> None:
    how, options, change, says = NO_PROOF[kind]
    index = build(tmp_path / "a.idx", **how)
    change(index)
    store = composed(as_source(at(server, "a", index=index, recheck=False, **options), "a"), at(server, "b"))
    assert store.get(next(iter(OTHER))) and asked(server) == {"b": 1}
    assert outcome(lambda: store.get(LOST)).evidence[0].how == "asked"  # type: ignore[attr-defined]
    assert asked(server) == {"a": 1, "b": 2}
    assert says in str(store.outline()), store.outline()


def test_a_store_that_came_from_elsewhere_needs_the_same_notes(server: WebFolder, index: Path) -> None:
    store = at(server, "a", index=index, recheck=False)
    sent = pickle.dumps(store)
    assert pickle.loads(sent).exists(LOST) is False and asked(server) == {}
    place_of(index).unlink()
    index.unlink()
    build(index)  # as on another node, with an index and notes of its own
    twin = pickle.loads(sent)
    assert twin.exists(LOST) is False and asked(server) == {"a": 1}
    assert "in another file" in str(twin.outline())


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: os.truncate(path, path.stat().st_size - 1), "cut"),
    "empty": (lambda path: path.write_bytes(b""), "no membership index"),
    "head": (lambda path: _flip(path, 50), "its head is damaged"),
    "block": (lambda path: _flip(path, 17_000), "damaged"),
    "absent": (lambda path: path.unlink(), "there is no index"),
}


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[min(place, len(data) - 60)] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_damaged_index_is_told_and_the_store_is_asked(
    server: WebFolder, index: Path, kind: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage, says = DAMAGE[kind]
    if when == "before":
        damage(index)
    store = at(server, "a", index=index, recheck=False)
    if when == "after":
        assert store.exists(LOST) is False and asked(server) == {}
        damage(index)
    with caplog.at_level(logging.WARNING, "bitstore"):
        assert store.exists(LOST) is False and all(map(store.get, HELD))
    assert asked(server) == {"a": 1 + len(HELD)}
    assert when == "before" or (says in caplog.text and "as if it had no index" in caplog.text)
    build(index)  # and is used again once it is there again
    assert store.exists(LOST) is False and asked(server) == {"a": 1 + len(HELD)}


def test_an_index_of_another_store_is_refused_by_name(server: WebFolder, tmp_path: Path) -> None:
    mine = f"{server.url}/a/{{digest}}"
    other = build(tmp_path / "other.idx", source=f"{server.url}/b/{{digest}}")
    with pytest.raises(ValueError, match=r"it is of http://.*/b/\{digest\}, and the store of http://.*/a/\{digest\}"):
        at(server, "a", index=other)
    with pytest.raises(ValueError, match="it is of sha1 digests, and the store of sha256"):
        Sha256Store(HTTPRaw(), f"{server.url}/a/", index=other)
    with pytest.raises(ValueError, match="it is a folder"):
        at(server, "a", index=tmp_path)
    for bad in (0, -1, "1", True, math.nan):
        with pytest.raises(ValueError, match="index_max_age"):
            at(server, "a", index_max_age=bad)
    with pytest.raises(TypeError, match="index=5"):
        at(server, "a", index=5)
    merge([other, build(tmp_path / "a.idx", source=mine)], tmp_path / "both.idx")
    for source in (mine, "hashes.txt", "", f"{mine} (inventory s3://r/m/manifest.json)", f"{server.url}/a/"):
        at(server, "a", index=build(tmp_path / "x.idx", source=source))
    at(server, "a", index=tmp_path / "both.idx")
    with Index(other) as opened:
        assert at(server, "b", index=opened).index == str(other)
    store = at(server, "a", index=build(tmp_path / "x.idx", source=mine), recheck=False)
    store.prefix = f"{server.url}/b/"
    assert all(map(store.get, OTHER)), "an index never speaks for another prefix"


def test_an_index_of_a_bucket_at_one_service_proves_nothing_at_another(
    server: WebFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(address: str, index: Path) -> Sha1Store:
        raw = S3Raw("anonymous", endpoint_url=address, region="us-east-1")
        return Sha1Store(raw, "s3://a/", index=index, recheck=False)

    told: Any = {"source": "s3://a/{digest}", "service": server.url.removeprefix("http://")}
    mine = build(tmp_path / "mine.idx", **told)
    held = next(iter(HELD))
    with caplog.at_level(logging.WARNING, "bitstore"):
        assert not store(server.url, mine).exists(LOST) and not server.counts and not caplog.records
        with WebFolder() as other:
            other.files[f"/a/{LOST}"] = b"lost"
            for _ in range(2):
                elsewhere = store(other.url, mine)
                assert elsewhere.get(LOST) == b"lost"
            assert elsewhere.index_state is not None and f"the store asks {other.url[7:]}" in str(elsewhere.index_state)
            (record,) = caplog.records
            assert f"{told['service']} was listed, and the store asks {other.url[7:]}: until" in record.getMessage()
            moved = store(server.url, mine)  # also where the address is changed later, and in another process
            assert not moved.exists(LOST)
            moved.base_store.endpoint_url = other.url  # type: ignore[attr-defined]
            assert moved.get(LOST) == b"lost" and pickle.loads(pickle.dumps(moved)).get(LOST) == b"lost"
            # An index of several services is one of each; with one that is not known, services are not compared.
            theirs = build(tmp_path / "theirs.idx", **{**told, "service": other.url[7:]})
            merge([mine, theirs], tmp_path / "both.idx")
            of_both = [store(each, tmp_path / "both.idx") for each in (server.url, other.url, "http://127.0.0.1:9")]
            assert ["was listed" in str(each.index_state) for each in of_both] == [False, False, True]
            builder_tells = _builder._told
            with monkeypatch.context() as patched:  # as files of before services were recorded
                patched.setattr(_builder, "_told", lambda *about: without(builder_tells(*about), "service"))
                old = build(tmp_path / "old.idx", **told)
            with Index(old) as opened:
                assert opened.info.service == "" and held in opened
            merge([mine, old], tmp_path / "unsure.idx")
            assert not store(server.url, old).exists(LOST) and not store(other.url, old).exists(LOST)
            assert "was listed" not in str(store(other.url, tmp_path / "unsure.idx").index_state)


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    assert key in values
    return {name: value for name, value in values.items() if name != key}


def test_a_check_asks_the_service_and_tells_age_and_size_of_the_index(server: WebFolder, index: Path) -> None:
    store = composed(at(server, "a", index=index, recheck=False), at(server, "b"))
    first, second = bitstore.check(store, [next(iter(HELD)), LOST]).tiers
    assert [sample.state for sample in first.samples] == ["found", "missing"] and first.ok and not first.faults
    assert any("its index has 5 digests" in note and "0.0 hours ago" in note for note in first.notes), first.notes
    assert asked(server)["a"] >= 3 and not any("index" in note for note in second.notes)
    for change, kind in ((_copied, "index-no-proof"), (Path.unlink, "no-index")):
        change(index)
        (checked, _) = bitstore.check(store).tiers
        assert checked.ok and kind in [fault.kind for fault in checked.faults]


# ---------------------------------------------------------------------- what is written since


def test_all_stores_of_an_index_know_at_once_what_one_of_them_writes(server: WebFolder, index: Path) -> None:
    reader = at(server, "a", index=index, recheck=False)
    writer, cache = (kind(HTTPRaw(), f"{server.url}/a/", index=index) for kind in (Sha1Store, Sha1Cache))
    filling = composed(as_cache(cache, "cache"), at(server, "b"))
    other = next(iter(OTHER))
    assert [reader.exists(digest) for digest in (LOST, other)] == [False, False]
    writer.put(LOST.upper(), b"lost")
    assert filling.get(other)
    assert reader.get(LOST) == b"lost" and reader.get(other) == OTHER[other]
    code = (
        "import sys; from bitstore import HTTPRaw, Sha1Store;"
        "Sha1Store(HTTPRaw(), sys.argv[1], index=sys.argv[2]).put(sys.argv[3], b'third')"
    )
    third = sha1(b"third")
    assert reader.exists(third) is False
    subprocess.run([sys.executable, "-c", code, f"{server.url}/a/", str(index), third], check=True)
    assert reader.get(third) == b"third"
    state = reader.index_state
    assert state is not None and (state.noted, state.trouble) == (3, None)


def test_a_blob_is_noted_before_it_is_sent_and_not_sent_if_it_cannot_be(server: WebFolder, index: Path) -> None:
    store = at(server, "a", index=index)
    with open(place_of(index), "ab") as file:  # a process was killed within a record
        file.write(b"x" * (RECORD.size - 1))
    store.put(LOST, b"lost")
    assert place_of(index).stat().st_size == HEAD.size + RECORD.size
    assert at(server, "a", index=index, recheck=False).get(LOST) == b"lost"
    place_of(index).unlink()
    place_of(index).mkdir()
    error = outcome(lambda: store.put(sha1(b"more"), b"more"))
    assert isinstance(error, StoreNotAvailable) and "is not written, because that cannot be noted" in str(error)
    assert f"/a/{sha1(b'more')}" not in server.files


def test_a_note_waits_for_another_process_with_a_limit(
    server: WebFolder, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writes, "_LOCK_SECONDS", 0.05)
    store = at(server, "a", index=index)
    with open(place_of(index), "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        error = outcome(lambda: store.put(LOST, b"lost"))
    assert isinstance(error, StoreNotAvailable) and f"lock of {place_of(index)}" in str(error)
    assert f"/a/{LOST}" not in server.files
    store.put(LOST, b"lost")


def test_a_new_index_takes_over_what_was_noted_and_keeps_what_it_lacks(server: WebFolder, index: Path) -> None:
    reader = at(server, "a", index=index, recheck=False)
    writer = at(server, "a", index=index)
    fresh = blobs(50, salt="fresh")
    for digest, data in fresh.items():
        writer.put(digest, data)
    listed, late = list(fresh)[:30], list(fresh)[30:]
    assert reader.get(listed[0]) and not reader.exists(LOST)
    build(index, [*HELD, *listed])
    assert place_of(index).stat().st_size == HEAD.size + len(late) * RECORD.size
    asked_before = asked(server)["a"]
    assert all(reader.get(digest) == fresh[digest] for digest in fresh)
    assert not reader.exists(LOST) and asked(server)["a"] == asked_before + len(fresh)


def test_an_older_index_that_comes_back_is_no_proof(server: WebFolder, tmp_path: Path) -> None:
    begun = Path(tmp_path, "a.idx")
    at(server, "a", index=begun).put(LOST, b"lost")  # begins the notes
    build(begun, HELD)
    assert at(server, "a", index=begun, recheck=False).exists(LOST), "it is noted"
    old = begun.read_bytes()
    build(begun, [*HELD, LOST])
    assert place_of(begun).stat().st_size == HEAD.size, "the new index has it"
    store = at(server, "a", index=begun, recheck=False)
    before = asked(server)["a"]
    assert store.exists(OTHER_LOST) is False and asked(server)["a"] == before
    begun.write_bytes(old)
    assert store.get(LOST) == b"lost"
    assert store.exists(OTHER_LOST) is False and asked(server)["a"] == before + 2
    assert "the index covers less" in str(store.outline())


def test_an_index_that_says_it_is_of_the_future_takes_out_no_note(server: WebFolder, index: Path) -> None:
    store = at(server, "a", index=index, recheck=False)
    store.put(LOST, b"lost")
    build(index, covers_up_to=NOW + timedelta(days=900))
    assert place_of(index).stat().st_size == HEAD.size + RECORD.size
    build(index)
    assert store.get(LOST) == b"lost" and store.exists(OTHER_LOST) is False
    assert asked(server) == {"a": 2}


def test_keys_of_any_form_are_looked_up_in_an_index(server: WebFolder, index: Path) -> None:
    store = Composite()
    store.append_source(at(server, "a", index=index, recheck=False), name="a")
    store.append_source(at(server, "b"), name="b")
    for key in (LOST, LOST.upper(), bytes.fromhex(LOST), LOST.encode()):
        assert {each.tier for each in outcome(lambda key=key: store.get(key)).evidence} == {"a", "b"}  # type: ignore[misc, attr-defined]
    assert asked(server) == {"b": 4}


def test_a_cache_that_holds_what_its_index_denies_keeps_it(server: WebFolder, index: Path) -> None:
    digest = next(iter(OTHER))
    server.files[f"/a/{digest}"] = OTHER[digest]  # by another program
    cache = Sha1Cache(HTTPRaw(), f"{server.url}/a/", index=index)
    store = composed(as_cache(cache, "cache"), as_source(at(server, "b"), "b"))
    for _ in range(2):
        assert store.get(digest) == OTHER[digest]
    stats = store.stats()
    assert (stats["cache"].hits, stats["cache"].write_failures, stats["b"].hits) == (1, 0, 1), stats


def test_an_index_that_is_lost_or_comes_late_costs_no_proof_for_ever(server: WebFolder, tmp_path: Path) -> None:
    path = tmp_path / "a.idx"
    store = at(server, "a", index=path, recheck=False)  # there is no index yet
    store.put(LOST, b"lost")
    build(path, HELD)
    assert store.get(LOST) == b"lost", "it was noted before there was an index"
    assert store.exists(sha1(b"none")) is False
    assert asked(server) == {"a": 2}


def test_the_first_index_of_a_bucket_is_a_proof_as_writes_are_noted_before_it_is_listed(scene: Scene) -> None:
    url = (scene.root / "shelf").as_uri() + "/"
    code, out, err = scene("index", "build", url, "-o", "x.idx", "--algorithm", "sha1")
    assert code in (0, 1) and "written since: 0 digests; an absence is proved" in out, out + err
    store = Sha1Store(FileRaw(), url, index=scene.root / "x.idx", recheck=False)
    assert outcome(lambda: store.get(LOST)).evidence[0].how == "index"  # type: ignore[attr-defined]
    place_of(scene.root / "x.idx").write_bytes(b"hello")
    code, out, err = scene("index", "build", url, "-o", "x.idx", "--algorithm", "sha1")
    assert code in (0, 1) and "move it away" in out and "the index will prove no absence" in err


def test_verify_and_put_ask_the_store_whatever_an_index_of_the_configuration_says(scene: Scene) -> None:
    url = (scene.root / "shelf").as_uri() + "/"
    (scene.root / "shelf" / sha1(b"there")).write_bytes(b"there")
    index = build(scene.root / "x.idx", [LOST])
    (scene.root / "i.toml").write_text(
        f'algorithm = "sha1"\n[[tier]]\nname = "shelf"\nurl = "{url}"\nindex = "x.idx"\nrecheck = false\n'
    )
    (scene.root / "list").write_text(sha1(b"there"))
    words = ["--config", "i.toml"]
    assert scene("exists", "list", *words)[0] == 1, "the index is wrong, and has the last word"
    code, out, err = scene("verify", *words, "--tier", "shelf")
    assert code == 0, out + err
    (scene.root / "blob").write_bytes(b"new")
    code, out, err = scene("put", "blob", *words, "--tier", "shelf")
    assert code == 0, out + err
    assert "written since: 1 digests" in scene("index", "show", str(index))[1]
    (scene.root / "list").write_text(sha1(b"new"))
    assert scene("exists", "list", *words)[0] == 0
    code, out, err = scene("get", sha1(b"there"), *words)
    assert code == 1 and "is missing (shelf not in the index of" in err, err


# ---------------------------------------------------------------------- races

_WRITER = """
import hashlib, os, sys
from bitstore import FileRaw, Sha1Store
url, index, salt = sys.argv[1:]
store = Sha1Store(FileRaw(), url, index=index)
for number in range(10**9):
    data = f"{salt}-{number}".encode()
    digest = hashlib.sha1(data).hexdigest()
    store.put(digest, data)
    os.write(1, f"{digest}\\n".encode())  # it is acknowledged
"""


def test_no_acknowledged_blob_is_ever_called_missing_while_indexes_are_built_and_all_are_killed(
    tmp_path: Path,
) -> None:
    folder, index = tmp_path / "shelf", tmp_path / "a.idx"
    folder.mkdir()
    url = folder.as_uri() + "/"
    reader = Sha1Store(FileRaw(), url, index=index, recheck=False)
    acknowledged: list[str] = []
    chance = random.Random(1)
    rounds = int(os.environ.get("BITSTORE_TEST_ROUNDS", "4"))
    for number in range(rounds):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, url, str(index), f"{number}-{each}"], stdout=subprocess.PIPE
            )
            for each in range(2)
        ]
        pipes = [writer.stdout for writer in writers]
        fresh: list[str] = [pipe.readline().decode().strip() for pipe in pipes if pipe is not None]
        command = [sys.executable, "-m", "bitstore", "index", "build", url, "-o", str(index), "--algorithm", "sha1"]
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            killed.wait(chance.uniform(0.3, 1.2))  # any moment of it will do
        killed.kill()
        killed.wait()
        assert all(reader.exists(digest) for digest in acknowledged)
        building = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while building.poll() is None:
            for pipe in pipes:
                assert pipe is not None
                fresh.append(pipe.readline().decode().strip())
            assert reader.exists(fresh[-1]) and reader.exists(fresh[-2])
        assert building.returncode == 0, building.stderr.read() if building.stderr else ""
        for writer, pipe in zip(writers, pipes, strict=True):
            writer.kill()
            assert pipe is not None
            lines = pipe.read().decode().split("\n")
            fresh += [line for line in lines if len(line) == 40]
            writer.wait()
            pipe.close()
        acknowledged += fresh
        if building.stderr is not None:
            building.stderr.close()
        state = reader.index_state
        assert state is not None and state.trouble is None and state.info is not None
        assert all(reader.exists(digest) for digest in acknowledged)
        assert reader.denial(LOST) is not None and reader.denial(LOST).is_proof  # type: ignore[union-attr]


def test_threads_that_look_up_while_an_index_is_replaced_never_miss_a_blob(tmp_path: Path) -> None:
    shelf, index = tmp_path / "shelf", tmp_path / "a.idx"
    shelf.mkdir()
    store = Sha1Store(FileRaw(), shelf.as_uri() + "/", index=index, recheck=False)
    made = blobs(60, salt="made")
    put: list[str] = []
    wrong: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            known = list(put)
            wrong.extend(digest for digest in known if not store.exists(digest))

    with ThreadPoolExecutor(3) as pool:
        looking = [pool.submit(look) for _ in range(3)]
        for number, (digest, data) in enumerate(made.items()):
            store.put(digest, data)
            put.append(digest)
            if number % 4 == 0:
                build(index, put[: number // 2], layout="fuse" if number % 8 else "sorted")
        over.set()
        for future in looking:
            future.result()
    assert wrong == [] and store.exists(LOST) is False
