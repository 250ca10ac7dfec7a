"""The pack cache: durable before it is published, published once, found by others, and whole after every kill."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import tarfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidDataFound,
    NotFoundInStore,
    PackCache,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1References,
    Store,
    StoreNotAvailable,
    config,
)
from bitstore._packs import catalog, publisher
from bitstore._packs.journal import adopted
from bitstore._packs.tar import Member, head_of, members, padding_of
from bitstore.references import ReferenceTable
from bitstore.steps import Call
from bitstore.testing import check_store
from tests.servers import FakeGCS, MakeProxy, SeaweedS3
from tests.servers.faults import Answer, Hold
from tests.stores import blobs, sha1

ROOT = Path(__file__).parents[1]
QUICK = Retry(attempts=1)
BLOBS = blobs(200)


class Scene:
    """A folder as the raw store, and one for the machine."""

    def __init__(self, folder: Path) -> None:
        self.remote = folder / "bucket"
        self.local = folder / "machine"
        self.remote.mkdir()
        self.prefix = f"file://{self.remote}/packs/"

    def cache(self, machine: str = "machine", **options: Any) -> PackCache:
        options = {"algorithm": "sha1", "refresh": 0, "folder": self.local.parent / machine, **options}
        return PackCache(FileRaw(), self.prefix, **options)

    def names(self, suffix: str = ".tar") -> list[Path]:
        return sorted((self.remote / "packs").glob(f"*{suffix}"))

    def journals(self) -> list[Path]:
        return sorted((self.local / "journals").glob("*.tar"))


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    """What a test has not published is not to be published at the end of all tests, when its server is gone."""
    yield
    publisher._writing.clear()


@pytest.fixture(scope="module", autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    if request.session.testsfailed:
        return  # the report of a failure holds its frame, and the cache in it
    left = [thread for thread in set(threading.enumerate()) - before if thread.name == "bitstore-packs"]
    for _ in range(60):  # a cache ends with its last reference, and its thread may hold one for a moment
        publisher._writing.clear()  # each time: a thread that publishes just now keeps its cache again afterwards
        gc.collect()
        for thread in left:
            thread.join(1 / len(left))
        if not any(thread.is_alive() for thread in left):
            break
    frames = sys._current_frames()
    assert not ["".join(traceback.format_stack(frames.get(thread.ident or 0))) for thread in left if thread.is_alive()]


@pytest.fixture
def place(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def names_in(pack: Path) -> list[str]:
    with tarfile.open(pack) as tar:
        return tar.getnames()


def fill(cache: PackCache, some: dict[str, bytes]) -> None:
    for digest, data in some.items():
        cache.put(digest, data)


def check(cache: Store, some: dict[str, bytes]) -> None:
    found = {blob.uri: blob.data for blob in cache.get_many(some, errors="raise")}
    assert found == some


# --- The contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"pack_size": 3000}, {"sync": True, "read_ahead": 0}], ids=str)
def test_a_pack_cache_keeps_the_store_contract(options: dict[str, Any], place: Scene) -> None:
    check_store(lambda: place.cache(**options), "sha1", unreachable=lambda: broken(place))


def broken(place: Scene) -> PackCache:
    place.local.with_name("a file").write_bytes(b"")
    return place.cache("a file/in it")


def test_pack_caches_on_servers_keep_the_store_contract(
    s3: SeaweedS3, bucket: str, gcs: FakeGCS, gcs_bucket: str, tmp_path: Path
) -> None:
    raw = S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url, region="us-east-1")
    check_store(
        lambda: PackCache(raw, f"s3://{bucket}/packs/", folder=tmp_path / "s3", algorithm="sha1", refresh=0),
        "sha1", secrets=[s3.secret_key],
    )  # fmt: skip
    check_store(
        lambda: PackCache(GSRaw("anonymous", endpoint_url=gcs.url), f"gs://{gcs_bucket}/p/", folder=tmp_path / "gs"),
        "sha256", unreachable=lambda: PackCache(GSRaw("anonymous", endpoint_url="http://127.0.0.1:9", retry=QUICK),
                                                f"gs://{gcs_bucket}/p/", folder=tmp_path / "none"),
    )  # fmt: skip


# --- Packs -----------------------------------------------------------------------------------------------------------


def test_blobs_are_published_in_packs_that_tar_can_read(place: Scene) -> None:
    cache = place.cache(pack_size=20_000)
    fill(cache, BLOBS)
    cache.flush()
    assert 3 <= len(place.names()) <= 10 and not place.journals()
    seen: dict[str, bytes] = {}
    for path in place.names():
        assert path.with_suffix(".bitrefs").exists()
        with tarfile.open(path) as tar:
            seen |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert seen == BLOBS
    told = cache.stats()
    assert told["blobs"] == 200 and told["packs"] == len(place.names()) and told["waiting"] == 0
    check(cache, BLOBS)
    check(place.cache("elsewhere"), BLOBS)


def test_the_index_of_a_pack_is_a_table_of_references(place: Scene) -> None:
    cache = place.cache()
    fill(cache, BLOBS)
    cache.flush()
    (table,) = place.names(".bitrefs")
    check(Sha1References(table, base_url=place.prefix), BLOBS)


def test_an_acknowledged_blob_is_found_by_others_before_it_is_published(place: Scene) -> None:
    cache, other = place.cache(), place.cache()
    for digest, data in list(BLOBS.items())[:20]:
        cache.put(digest, data)
        assert other.get(digest) == data == cache.get(digest)
    assert not place.names()
    with pytest.raises(NotFoundInStore):
        place.cache("elsewhere").get(digest)
    cache.flush()
    assert place.cache("elsewhere").get(digest) == data == other.get(digest)


def test_a_blob_that_another_process_has_published_meanwhile_is_found_without_a_listing(place: Scene) -> None:
    reader = place.cache(refresh=3600)
    assert not reader.exists("0" * 40)
    for digest, data in list(BLOBS.items())[:5]:
        with place.cache() as writer:
            writer.put(digest, data)
        assert reader.get(digest) == data


def test_a_pack_that_is_published_during_a_listing_is_not_taken_for_deleted(place: Scene) -> None:
    (place.remote / "packs").mkdir()

    class Busy(FileRaw):
        then: Callable[[], None] | None = None

        def list_steps(self, uri: Any, **options: Any) -> Any:
            page = yield from super().list_steps(uri, **options)
            if self.then is not None:
                yield Call(self.then)
            return page

    raw = Busy()
    cache = PackCache(raw, place.prefix, folder=place.local, algorithm="sha1", refresh=3600)
    fill(cache, BLOBS)
    raw.then = cache.flush
    assert not cache.exists("0" * 40) and len(place.names()) == 1 and not place.journals()
    check(cache, BLOBS)


def test_lookups_list_again_where_the_one_that_lists_is_given_up(behind: Any) -> None:
    proxy, make = behind
    with make() as cache:
        fill(cache, BLOBS)
    hold = Hold()
    listing = proxy.rules.add(hold, method="GET", times=1)
    reader = make("elsewhere")
    (digest, data), (other, _) = list(BLOBS.items())[:2]
    late: list[Any] = []
    first = threading.Thread(target=lambda: late.extend(reader.get_many([other], timeout=0.5, patience=0)))
    first.start()
    listing.wait_hits()
    assert reader.get(digest) == data
    hold.release()
    first.join()
    assert late[0].error is None or isinstance(late[0].error, StoreNotAvailable)


def test_a_blob_is_kept_once_however_often_it_is_put(place: Scene) -> None:
    cache = place.cache()
    for _ in range(3):
        fill(cache, BLOBS)
        cache.flush()
    fill(place.cache(), BLOBS)
    (pack,) = place.names()
    assert len(names_in(pack)) == 200
    assert cache.stats()["present"] == 400


def test_new_packs_are_seen_when_they_are_listed_again(place: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitstore._support import clock

    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    reader = place.cache("elsewhere", refresh=60)
    digest, data = next(iter(BLOBS.items()))
    assert not reader.exists(digest)
    with place.cache() as writer:
        writer.put(digest, data)
    assert not reader.exists(digest)
    now += 61
    assert reader.get(digest) == data


def test_a_damaged_table_is_fetched_again_where_small_tables_are_put_together(place: Scene) -> None:
    small = sorted(BLOBS)[-14:]  # these lie behind the damage
    numbered = [(sha1(data), data) for data in (b"%d" % number for number in range(10_000))]
    some = dict(numbered[:4000])
    with place.cache() as cache:
        fill(cache, some)
    reader = place.cache("elsewhere", refresh=3600)
    assert not reader.exists("0" * 40)
    (table,) = (place.local.with_name("elsewhere") / "tables").glob("*.bitrefs")
    data = table.read_bytes()
    at = data.index(bytes.fromhex(min(some)))
    table.write_bytes(data[:at] + bytes(20) + data[at + 20 :])
    for number, digest in enumerate(small):
        with place.cache() as cache:
            cache.put(digest, BLOBS[digest])
            if number in (4, 9):  # so few small ones are neighbours that large ones are put together with them
                cache.flush()
                fill(cache, dict(numbered[4000 if number == 4 else 7000 :][:3000]))
    reader = place.cache("elsewhere", refresh=3600)
    with pytest.raises(StoreNotAvailable, match="the next lookup fetches it again"):
        reader.get(digest)
    check(reader, {**some, digest: BLOBS[digest]})


def test_a_deleted_pack_is_an_absence_and_its_blobs_can_be_kept_again(place: Scene) -> None:
    with place.cache() as cache:
        fill(cache, BLOBS)
    check(cache, BLOBS)
    for path in [*place.names(), *place.names(".bitrefs")]:
        path.unlink()
    other = place.cache()
    digest = next(iter(BLOBS))
    with pytest.raises(NotFoundInStore):
        other.get(digest)
    other.put(digest, BLOBS[digest])
    other.flush()
    assert place.cache("elsewhere").get(digest) == BLOBS[digest]


def test_a_blob_of_which_one_pack_was_deleted_is_read_from_another(place: Scene) -> None:
    some = dict(list(BLOBS.items())[:3])
    for machine in ("one", "two"):
        with place.cache(machine, refresh=3600) as cache:
            fill(cache, some)
    reader = place.cache("elsewhere", refresh=3600)
    assert not reader.exists("0" * 40)
    place.names()[-1].unlink()
    for digest, data in some.items():
        assert reader.get(digest) == data


def test_a_missing_bucket_is_a_failure(place: Scene, s3: SeaweedS3, tmp_path: Path) -> None:
    raw = S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url, region="us-east-1", retry=QUICK)
    cache = PackCache(raw, "s3://no-such-bucket-here/p/", folder=tmp_path / "x", algorithm="sha1")
    for ask in (cache.get, cache.exists):
        with pytest.raises(StoreNotAvailable):
            ask(sha1(b"x"))
    place.remote.rmdir()
    with pytest.raises(StoreNotAvailable):
        place.cache().get(sha1(b"x"))


def test_many_packs_become_few_tables(place: Scene) -> None:
    some = list(BLOBS.items())
    for start in range(0, 160, 4):
        with place.cache() as cache:
            fill(cache, dict(some[start : start + 4]))
    assert len(place.names()) == 40
    reader = place.cache("elsewhere")
    assert not reader.exists("0" * 40)
    tables = list((place.local.with_name("elsewhere") / "tables").glob("*.bitrefs"))
    assert len(tables) < 13
    check(reader, dict(some[:160]))
    check(place.cache("elsewhere"), dict(some[:160]))


def test_a_process_that_only_writes_looks_into_few_tables(place: Scene) -> None:
    cache = place.cache(refresh=3600)
    some = list(BLOBS.items())
    for start in range(0, 160, 4):
        fill(cache, dict(some[start : start + 4]))
        cache.flush()
        assert len(list((place.local / "tables").glob("*.bitrefs"))) < 13
    assert len(place.names()) == 40
    fill(cache, dict(some[:160]))
    assert cache.stats()["present"] == cache.stats()["written"] == 160
    check(cache, dict(some[:160]))


@pytest.mark.parametrize("seed", range(6))
def test_tables_that_are_put_together_say_what_they_said(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_MANY", 3)
    monkeypatch.setattr(catalog, "_LARGE", 60)
    dice = random.Random(seed)
    pool = [sha1(b"%d" % number) for number in range(80)]
    known = catalog.Catalog(tmp_path, "sha1")
    sure = threading.Lock()
    for number in range(30):
        held = dice.sample(pool, dice.choice((0, 1, 5, 20, 70)))
        name = f"{number:02d}-{dice.randrange(99):02d}"
        rows = [Member(digest, 1000 * number + at, at) for at, digest in enumerate(held)]
        catalog.write_index(tmp_path / f"{name}.bitrefs", name, rows, "sha1", whole=dice.random() < 0.9)
        known.reload()
        known.gone |= {f"{name}.tar"} if dice.random() < 0.1 else set()
        before = [known.find(digest) for digest in pool]
        known.compact(sure)
        assert [known.find(digest) for digest in pool] == before
    assert len(list(tmp_path.glob("*.bitrefs"))) < 30


# --- Indexes that are lost or wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["lost", "cut", "of another pack", "damaged"])
def test_a_table_is_made_again_of_its_pack(change: str, place: Scene) -> None:
    with place.cache(pack_size=20_000) as cache:
        fill(cache, BLOBS)
    tables = place.names(".bitrefs")
    first, second = (path.read_bytes() for path in tables[:2])
    if change == "lost":
        tables[0].unlink()
    else:
        tables[0].write_bytes(
            {"cut": first[:-7], "of another pack": second, "damaged": first[:-60] + bytes(60)}[change]
        )
    check(place.cache("elsewhere"), BLOBS)


def test_all_tables_can_be_made_again_of_the_packs_alone(place: Scene) -> None:
    with place.cache(pack_size=20_000) as cache:
        fill(cache, BLOBS)
    before = {path.name: sorted(ReferenceTable(path)) for path in place.names(".bitrefs")}
    for path in place.names(".bitrefs"):
        path.write_bytes(b"")
    other = place.cache("elsewhere")
    assert other.rebuild() == len(before)
    assert {path.name: sorted(ReferenceTable(path)) for path in place.names(".bitrefs")} == before
    check(other, BLOBS)
    damaged = place.names()[0]
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    with pytest.raises(InvalidDataFound, match=r"1 packs are damaged"):
        other.rebuild()


def test_blobs_of_a_damaged_pack_without_its_index_are_no_absence(place: Scene) -> None:
    with place.cache() as cache:
        fill(cache, BLOBS)
    (pack,), (table,) = place.names(), place.names(".bitrefs")
    pack.write_bytes(pack.read_bytes()[:-3000])
    table.unlink()
    first, *_, last = BLOBS
    for machine in ("one", "two", "three"):  # the second one publishes the table that it makes
        reader = place.cache(machine)
        assert reader.get(first) == BLOBS[first]
        for ask in (reader.get, reader.exists):
            with pytest.raises(StoreNotAvailable, match=f"{pack.name} is damaged"):
                ask(last)
        if machine == "two":
            with pytest.raises(InvalidDataFound):
                reader.rebuild()
    pack.unlink()
    assert not reader.exists(last) and not place.cache("four").exists(last)


def test_a_damaged_table_of_this_machine_is_fetched_again(place: Scene) -> None:
    with place.cache() as cache:
        fill(cache, BLOBS)
    for lost, zeros in ((9, 0), (600, 600)):
        (table,) = (place.local / "tables").glob("*.bitrefs")
        table.write_bytes(table.read_bytes()[:-lost] + bytes(zeros))
        check(place.cache(), BLOBS)


def test_each_damaged_byte_of_a_table_of_this_machine_is_noticed(place: Scene) -> None:
    some = dict(list(BLOBS.items())[:3])
    with place.cache() as cache:
        fill(cache, some)
    (table,) = (place.local / "tables").glob("*.bitrefs")
    whole = table.read_bytes()
    for at in range(0, len(whole), 7):  # no multiple of the size of a field
        table.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        check(place.cache(), some)
        assert table.read_bytes() == whole


def test_bytes_of_a_pack_that_do_not_match_are_replaced_by_the_next_put(place: Scene) -> None:
    with place.cache() as cache:
        fill(cache, BLOBS)
    (pack,) = place.names()
    pack.write_bytes(pack.read_bytes().replace(next(iter(BLOBS.values())), bytes(len(next(iter(BLOBS.values()))))))
    cache = place.cache()
    digest = next(iter(BLOBS))
    with pytest.raises(InvalidDataFound):
        cache.get(digest)
    store = Sha1Composite()
    store.append_cache(cache)
    store.append_source(Sha1References(place.names(".bitrefs")[0], base_url="file:///nowhere/"), name="gone")
    with pytest.raises(StoreNotAvailable):
        store.get(digest)
    cache.put(digest, BLOBS[digest])
    assert cache.get(digest) == BLOBS[digest]
    cache.flush()
    check(place.cache("elsewhere"), BLOBS)


# --- Kills -----------------------------------------------------------------------------------------------------------

WRITER = """
import random, sys
from bitstore import FileRaw, PackCache
from tests.stores import sha1
cache = PackCache(FileRaw(), sys.argv[1], folder=sys.argv[2], algorithm="sha1", pack_size=int(sys.argv[3]))
r = random.Random(int(sys.argv[4]))
while True:
    data = r.randbytes(r.choice((0, 10, 500, 4096, 9000)))
    cache.put(sha1(data), data)
    print(data.hex(), flush=True)
"""


@contextlib.contextmanager
def writer(place: Scene, pack_size: int, seed: int, code: str = WRITER) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, place.prefix, str(place.local), str(pack_size), str(seed)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def acknowledged(process: subprocess.Popen[str], count: int) -> dict[str, bytes]:
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    process.kill()
    rest = process.stdout.read().splitlines(keepends=True)
    data = [bytes.fromhex(line) for line in [*lines, *rest] if line.endswith("\n")]
    return {sha1(each): each for each in data}


@pytest.mark.parametrize(("pack_size", "count"), [(64_000_000, 1), (64_000_000, 300), (30_000, 60), (5_000, 100)])
def test_a_kill_loses_no_acknowledged_blob(pack_size: int, count: int, place: Scene) -> None:
    told: dict[str, bytes] = {}
    for seed in range(3):
        with writer(place, pack_size, seed) as process:
            told |= acknowledged(process, count + random.Random(seed).randrange(50))
        check(place.cache(), told)
    place.cache().flush()
    assert not place.journals()
    check(place.cache("elsewhere"), told)


KILLED_AT = """
import os, signal, sys
from bitstore import FileRaw, PackCache
from bitstore._packs import writer as module
from tests.stores import blobs
at = int(sys.argv[4])
calls = 0
def counted(function):
    def wrapper(*args, **options):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return wrapper
cache = PackCache(FileRaw(), sys.argv[1], folder=sys.argv[2], algorithm="sha1", publish_after=3600)
for digest, data in blobs(50).items():
    cache.put(digest, data)
print("ok", flush=True)
module.run = counted(module.run)
module.write_index = counted(module.write_index)
module.Path.replace = counted(module.Path.replace)
module.Path.unlink = counted(module.Path.unlink)
module.Journal.seal = counted(module.Journal.seal)
cache.flush()
print("done", flush=True)
"""


def test_a_kill_at_each_step_of_publishing_loses_nothing(place: Scene) -> None:
    some = blobs(50)
    for at in range(1, 30):
        with writer(place, 0, at, KILLED_AT) as process:
            said = process.communicate()[0].split()
        assert said[0] == "ok"
        check(place.cache(), some)
        after = place.cache()
        after.flush()
        check(place.cache("elsewhere"), some)
        assert not place.journals()
        assert not list((place.local / "tables").glob("*.draft")) or said[-1] != "done"
        for path in [
            *place.remote.glob("packs/*"),
            *place.local.glob("*/*"),
            *place.local.with_name("elsewhere").glob("*/*"),
        ]:
            path.unlink()
        if said[-1] == "done":
            assert at > 6
            return
    raise AssertionError("publishing takes fewer steps")


def test_a_torn_or_damaged_journal_gives_all_blobs_that_are_whole(place: Scene) -> None:
    some = list(BLOBS.items())[:9]
    folder = place.local / "journals"
    folder.mkdir(parents=True)
    whole = [head_of(digest, len(data)) + data + bytes(padding_of(len(data))) for digest, data in some]
    pieces = [whole[0], whole[1][:512] + bytes(60) + whole[1][572:], whole[2], bytes(1024), whole[3], b"x" * 512,
              *whole[4:8], whole[8][:-511]]  # fmt: skip
    (folder / "20260101T000000000000-aaaaaaaaaaaa.tar").write_bytes(b"".join(pieces))
    (folder / "20260101T000000000000-bbbbbbbbbbbb.tar").write_bytes(b"")
    cache = place.cache()
    cache.flush()
    (pack,) = place.names()
    assert names_in(pack) == [some[at][0] for at in (0, 2, 3, 4, 5, 6, 7)]
    check(place.cache("elsewhere"), dict(some[at] for at in (0, 2, 3, 4, 5, 6, 7)))
    assert not cache.exists(some[1][0]) and not cache.exists(some[8][0]) and not place.journals()


def test_a_journal_that_goes_while_it_is_adopted_or_made_is_let_go(
    place: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.local / "journals"
    folder.mkdir(parents=True)
    lock = fcntl.flock
    gone: list[Path] = []

    def late(fd: Any, how: int) -> None:
        """Another process is faster: it has the file's blobs elsewhere, and deletes it."""
        for path in folder.glob("*.tar"):
            if not gone:
                gone.append(path)
                path.unlink()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    data = head_of(sha1(b"abc"), 3) + b"abc" + bytes(509)
    (folder / "20260101T000000000000-aaaaaaaaaaaa.tar").write_bytes(data)
    assert list(adopted(folder)) == [] and len(gone) == 1
    gone.clear()
    cache = place.cache()
    cache.put(sha1(b"x"), b"x")
    assert len(gone) == 1 and len(place.journals()) == 1
    assert place.cache().get(sha1(b"x")) == b"x"


def test_journals_of_living_processes_are_left_alone(place: Scene) -> None:
    with writer(place, 64_000_000, 1) as process:
        assert process.stdout is not None
        data = bytes.fromhex(process.stdout.readline())
        cache = place.cache()
        cache.put(sha1(b"mine"), b"mine")
        cache.flush()
        assert len(place.names()) == 1 and len(place.journals()) == 1
        assert cache.get(sha1(data)) == data


def test_a_forked_child_writes_a_journal_of_its_own_and_keeps_no_lock(place: Scene) -> None:
    cache = place.cache()
    cache.put(sha1(b"parent"), b"parent")
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        with contextlib.suppress(BaseException):
            cache.put(sha1(b"child"), b"child")
            if cache.get(sha1(b"parent")) == b"parent":
                os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(place.journals()) == 2
    cache.flush()
    assert not place.journals()
    check(place.cache("elsewhere"), {sha1(b"parent"): b"parent", sha1(b"child"): b"child"})


def test_the_end_of_a_process_publishes_what_it_has_written(place: Scene) -> None:
    code = WRITER.replace("while True:", "for _ in range(20):") + "\ndel cache\n"
    with writer(place, 64_000_000, 1, code) as process:
        said = process.communicate()[0].split("\n")[:-1]
    assert len(said) == 20 and not place.journals()
    check(place.cache("elsewhere"), {sha1(bytes.fromhex(line)): bytes.fromhex(line) for line in said})


def test_a_cache_that_was_flushed_ends_its_thread_when_it_is_dropped(place: Scene) -> None:
    before = set(threading.enumerate())
    with place.cache(publish_after=3600) as cache:
        fill(cache, BLOBS)
        (thread,) = set(threading.enumerate()) - before
    del cache
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


# --- A raw store that is down, a disk that is full -------------------------------------------------------------------


@pytest.fixture
def behind(s3: SeaweedS3, bucket: str, fault_proxy: MakeProxy, tmp_path: Path) -> tuple[Any, Callable[..., PackCache]]:
    proxy = fault_proxy(s3.endpoint_url)
    raw = S3Raw(s3.admin.session, endpoint_url=proxy.url, region="us-east-1", retry=QUICK)

    def make(machine: str = "machine", **options: Any) -> PackCache:
        how = {"algorithm": "sha1", "folder": tmp_path / machine, **options}
        return PackCache(raw, f"s3://{bucket}/packs/", **how)

    return proxy, make


def test_packs_that_cannot_be_published_wait_and_go_later(behind: Any) -> None:
    proxy, make = behind
    proxy.rules.add(Answer(503), method="PUT")
    cache = make()
    fill(cache, BLOBS)
    with pytest.raises(StoreNotAvailable):
        cache.flush()
    check(cache, BLOBS)
    check(make(), BLOBS)
    proxy.rules.clear()
    cache.flush()
    assert cache.stats()["waiting"] == 0
    check(make("elsewhere"), BLOBS)


def test_a_failed_listing_is_no_absence(behind: Any) -> None:
    proxy, make = behind
    cache = make()
    proxy.rules.add(Answer(503), method="GET")
    for ask in (cache.get, cache.exists):
        with pytest.raises(StoreNotAvailable):
            ask(sha1(b"x"))
    errors = [blob.error for blob in cache.get_many(BLOBS, patience=0)]
    assert len(errors) == 200 and all(type(error) is StoreNotAvailable for error in errors)


def test_many_lookups_list_once_and_read_packs_by_few_requests(behind: Any) -> None:
    proxy, make = behind
    with make() as cache:
        fill(cache, BLOBS)
    puts = [request for request in proxy.requests if request.method == "PUT"]
    assert len(puts) == 2
    before = len(proxy.requests)
    reader = make("elsewhere")
    check(reader, BLOBS)
    assert all(blob.error is not None for blob in reader.get_many(map(sha1, map(str.encode, BLOBS))))
    assert len(proxy.requests) - before < 8
    one_by_one = make("third")
    before = len(proxy.requests)
    assert [one_by_one.get(digest) for digest in BLOBS] == list(BLOBS.values())
    assert len(proxy.requests) - before <= 5


def test_a_plan_knows_what_packs_take_and_what_waits_on_this_machine(behind: Any) -> None:
    proxy, make = behind
    with make() as cache:
        fill(cache, BLOBS)
    store = Sha1Composite()
    store.append_cache(reader := make("elsewhere"), name="packs")
    reader.put(sha1(b"waits"), b"waits")
    digests = [*BLOBS, sha1(b"waits"), sha1(b"lacking")]
    (tier,) = store.plan(digests, sample=0).tiers
    assert tier.hits == (201, 201, 201) and tier.requests.low <= 2
    before = len(proxy.requests)
    assert sum(blob.found for blob in store.get_many(digests)) == 201
    gets = [request for request in proxy.requests[before:] if request.method == "GET" and "range" in request.headers]
    assert tier.requests.low - 0.1 <= len(gets) <= tier.requests.high and len(gets) <= 3
    reader.flush()


def test_a_put_waits_for_no_pack_on_its_way(behind: Any) -> None:
    proxy, make = behind
    hold = Hold()
    proxy.rules.add(hold, method="PUT")
    cache = make(pack_size=3000)
    fill(cache, BLOBS)
    check(cache, BLOBS)
    hold.release()
    cache.flush()
    check(make("elsewhere"), BLOBS)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_fails_the_put_and_keeps_what_was_there(place: Scene) -> None:
    cache = place.cache()
    some = list(BLOBS.items())
    fill(cache, dict(some[:10]))
    (journal,) = place.journals()
    with file_size_limit(journal.stat().st_size + 600), pytest.raises(StoreNotAvailable, match="File too large"):
        cache.put(*some[10])
    fill(cache, dict(some[11:20]))
    cache.flush()
    assert not cache.exists(some[10][0])
    check(place.cache("elsewhere"), dict(some[:10] + some[11:20]))


def test_a_put_that_has_failed_publishes_no_empty_pack(place: Scene) -> None:
    cache = place.cache()
    with file_size_limit(100), pytest.raises(StoreNotAvailable, match="File too large"):
        cache.put(sha1(b"x"), b"x")
    cache.flush()
    assert not place.names() and not place.journals()


def test_too_much_that_waits_is_a_failure_of_the_put(behind: Any) -> None:
    proxy, make = behind
    proxy.rules.add(Answer(503), method="PUT")
    cache = make(pack_size=3000, max_waiting=9000)
    with pytest.raises(StoreNotAvailable, match="to be published, and no more than"):
        fill(cache, BLOBS)
    proxy.rules.clear()
    cache.flush()
    assert cache.stats()["waiting"] == 0 < cache.stats()["blobs"] == cache.stats()["written"]


# --- Options ---------------------------------------------------------------------------------------------------------


def test_options_that_make_no_sense_are_refused_by_a_pack_cache(tmp_path: Path) -> None:
    def made(raw: Any, prefix: Any, **options: Any) -> PackCache:
        return PackCache(raw, prefix, folder=tmp_path, **options)

    with pytest.raises(TypeError, match="found by listing"):
        made(HTTPRaw(), "https://h/x/")
    for prefix in ("s3://b/packs", "file:///x/", "s3://b/{digest}/", 5, "packs/"):
        with pytest.raises(ValueError, match="prefix="):
            made(S3Raw(), prefix)
    for options in ({"pack_size": 0}, {"pack_size": "x"}, {"publish_after": -1}, {"refresh": "x"}, {"algorithm": "x"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            made(S3Raw(), "s3://b/p/", **options)
    cache = made(S3Raw(), "s3://b/p/", algorithm="sha1")
    with pytest.raises(ValueError, match="holds sha1 digests"):
        cache.use_algorithm("md5")
    with pytest.raises(InvalidDataFound):
        cache.put(sha1(b"x"), b"y")
    with pytest.raises(TypeError, match="holds bytes only"):
        cache.put(sha1(b"x"), "x")  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(cache))
    assert again.algorithm == "sha1" and again.folder == tmp_path and repr(again) == repr(cache)


def test_each_prefix_of_each_service_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITSTORE_CACHE_DIR", str(tmp_path / "blobs"))
    places = [("s3://b/p/", None), ("s3://b/q/", None), ("s3://b/p/", "http://h")]
    folders = [PackCache(S3Raw(endpoint_url=url), prefix).folder for prefix, url in places]
    assert len(set(folders)) == 3 and {folder.parent for folder in folders} == {tmp_path / "blobs-packs"}
    monkeypatch.delenv("BITSTORE_CACHE_DIR")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: name)  # as where there is no home
    cache = PackCache(S3Raw(), "s3://b/p/", algorithm="sha1")
    with pytest.raises(StoreNotAvailable, match="no folder for its journals"):
        cache.put(sha1(b"x"), b"x")


def test_packs_of_another_algorithm_are_a_failure_and_no_absence(place: Scene) -> None:
    with place.cache() as cache:
        fill(cache, BLOBS)
    for drop in (False, True):
        other = place.cache(f"elsewhere{drop}", algorithm="sha256")
        if drop:
            place.names(".bitrefs")[0].unlink()
        with pytest.raises(StoreNotAvailable, match="a prefix has packs of one algorithm"):
            other.get("0" * 64)


def test_other_objects_below_the_prefix_are_left_alone(place: Scene) -> None:
    (place.remote / "packs" / "folder").mkdir(parents=True)
    for name in ("x.tar", "20260101T000000000000-aaaaaaaaaaaa.zip", "folder/20260101T000000000000-aaaaaaaaaaaa.tar"):
        (place.remote / "packs" / name).write_bytes(b"other")
    cache = place.cache()
    assert not cache.exists("0" * 40) and cache.rebuild() == 0


def test_heads_that_are_not_of_blobs_are_refused(tmp_path: Path) -> None:
    good = head_of(sha1(b"abc"), 3) + b"abc" + bytes(509)
    path = tmp_path / "x"
    for data, count in ((good + bytes(1024), 1), (good, 1), (good[:514], 0), (good + good[:300], 1)):
        path.write_bytes(data)
        with path.open("rb") as file:
            assert len(list(members(file.fileno(), len(data)))) == count
    for at in range(0, 512, 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 2]) + good[at + 1 :])
        with path.open("rb") as file, pytest.raises(ValueError, match="no head of a blob at byte 0"):
            list(members(file.fileno(), len(good)))
    with pytest.raises(ValueError, match="too large for a pack"):
        head_of("0" * 40, 8**11)


def test_a_file_names_a_pack_cache(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    text = f'algorithm = "sha1"\n[[tier]]\nname = "p"\nurl = "file://{tmp_path}/bucket/"\ncache = true\n'
    packs = f'packs = {{ folder = "{tmp_path}/m", pack_size = "1MB", publish_after = 5 }}'
    (tier,) = config.loads(text + packs).tiers
    assert isinstance(tier.store, PackCache) and tier.store.pack_size == 1_000_000 and tier.is_cache
    tier.store.put(sha1(b"x"), b"x")
    tier.store.flush()
    for lines, told in (
        (text.replace("cache = true\n", "") + packs, "packs belong to a cache"),
        (text + 'compression = "gzip"\n' + packs, "compression excludes packs"),
        (text.replace("bucket/", "bucket/{digest}") + packs, "prefix="),
        (text.replace(f"file://{tmp_path}", "https://h") + packs, "found by listing"),
        (text + "packs = { pack_sise = 5 }", "unknown key 'packs.pack_sise'"),
        (text + "packs = { pack_size = 0 }", "pack_size 0"),
        (text + f'index = "x"\n{packs}', "index excludes packs"),
    ):
        with pytest.raises(config.ConfigError, match=told):
            config.loads(lines)
