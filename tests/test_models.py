"""Random histories against plain models: of a composite with its caches, and of a disk cache in one process.
test_model_processes.py has the one of a disk cache in several.

Derandomised and short by default; `--hypothesis-profile=soak` goes on for long.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bitstore import (
    AccessDenied,
    DiskCache,
    InvalidDataFound,
    InvalidURI,
    LookupFailed,
    NotFoundInStore,
    Sha1APISource,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Store,
)
from bitstore._tiers.breaker import Breaker
from tests.stores import blobs, sha1

SOAK = settings.get_current_profile_name() == "soak"


def bounded(examples: int, steps: int) -> settings:
    """The soak profile if it was asked for, else few examples, the same ones each time."""
    if SOAK:
        return settings()
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


BLOBS = blobs(4, size=60)
DIGESTS = sorted(BLOBS)
digests = st.sampled_from(DIGESTS)
TIERS = ("first", "second", "kept", "api")  # "kept" is the API's cache
tier_names = st.sampled_from(TIERS)


class Shared:
    """What the tiers of one history hold and how they are: outside the stores, so that pickled copies see the same."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, bytes]] = {name: {} for name in TIERS}
        self.mode: dict[str, str] = dict.fromkeys(TIERS, "up")
        self.write_fails = False
        self.calls: Counter[str] = Counter()

    def ask(self, name: str, key: str) -> bytes | None:
        self.calls[name] += 1
        if self.mode[name] == "down":
            raise ConnectionError("down")
        if self.mode[name] == "forbidden":
            raise AccessDenied(name, "403")
        return self.held[name].get(key)


_worlds: dict[int, Shared] = {}
_numbers = count()


class Bucket(Store):
    """A raw store of URLs `mem://<digest>`."""

    def __init__(self, world: int, name: str) -> None:
        self.world = world
        self.name = name

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str) and uri.startswith("mem://")

    def get(self, uri: str) -> bytes:
        data = _worlds[self.world].ask(self.name, uri[6:])
        if data is None:
            raise NotFoundInStore(self, uri)
        return data

    def put(self, uri: str, data: bytes) -> None:
        world = _worlds[self.world]
        if world.write_fails:
            raise ConnectionError("cannot write")
        world.held[self.name][uri[6:]] = data


class Paid(Sha1APISource):
    def __init__(self, world: int) -> None:
        super().__init__(verify=True)
        self.world = world

    def api_get(self, digest: str) -> bytes | None:
        return _worlds[self.world].ask("api", digest)


class CompositeModel(RuleBasedStateMachine):
    """Disk cache, two sources, the API's cache, the API; all verify."""

    def __init__(self) -> None:
        super().__init__()
        self.number = next(_numbers)
        self.world = _worlds[self.number] = Shared()
        self.folder = tempfile.mkdtemp(prefix="bitstore-model-")
        self.now = 0.0
        self.disk: dict[str, str] = {}  # digest: "good" or "bad"
        self.composite = Sha1Composite()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)
        del _worlds[self.number]

    @initialize()
    def build(self) -> None:
        self.composite.append_cache(DiskCache(self.folder), name="disk")
        for name in ("first", "second"):
            self.composite.append_source(Sha1Store(Bucket(self.number, name), "mem://", verify=True), name=name)
        self.composite.append_cache(Sha1Cache(Bucket(self.number, "kept"), "mem://", verify=True), name="kept")
        self.composite.append_store(Paid(self.number), name="api")
        self.set_clocks()

    def set_clocks(self) -> None:
        """Breakers that go by the model's time, of which no step takes any."""
        for name in ("disk", *TIERS):
            self.composite._live().breakers[name] = Breaker(name, clock=lambda: self.now)

    @property
    def cache(self) -> DiskCache:
        cache = self.composite.sources[0]
        assert isinstance(cache, DiskCache)
        return cache

    # -- what happens around it

    @rule(name=tier_names, digest=digests)
    def appears(self, name: str, digest: str) -> None:
        self.world.held[name][digest] = BLOBS[digest]

    @rule(name=tier_names, digest=digests)
    def disappears(self, name: str, digest: str) -> None:
        self.world.held[name].pop(digest, None)

    @rule(name=tier_names, digest=digests, data=st.sampled_from([b"", b"wrong", BLOBS[DIGESTS[0]] + b"!"]))
    def goes_bad(self, name: str, digest: str, data: bytes) -> None:
        self.world.held[name][digest] = data

    @rule(name=tier_names, mode=st.sampled_from(["up", "up", "down", "forbidden"]))
    def changes(self, name: str, mode: str) -> None:
        self.world.mode[name] = mode

    @rule(fails=st.booleans())
    def writes_fail(self, fails: bool) -> None:
        self.world.write_fails = fails

    @rule(seconds=st.sampled_from([0.5, 1.5, 40.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(digest=digests)
    def is_evicted(self, digest: str) -> None:
        assert self.cache.delete(digest) == (self.disk.pop(digest, None) is not None)

    @rule(digest=digests, data=st.sampled_from([b"", b"x", b"y" * 60]))
    def is_damaged_on_disk(self, digest: str, data: bytes) -> None:
        if digest in self.disk:
            (Path(self.folder) / "sha1" / digest[:3] / digest).write_bytes(data)
            self.disk[digest] = "bad"

    @rule()
    def is_pickled(self) -> None:
        self.composite = pickle.loads(pickle.dumps(self.composite))
        self.set_clocks()

    # -- what it is asked

    @rule(digest=digests, form=st.sampled_from(["{}", "sha1://{}", "upper"]))
    def is_asked(self, digest: str, form: str) -> None:
        uri = digest.upper() if form == "upper" else form.format(digest)
        expected, calls = self.predict(digest)
        before = self.world.calls.copy()
        try:
            outcome: Any = self.composite.get(uri)
        except (NotFoundInStore, LookupFailed) as error:
            outcome = type(error)
        assert outcome == expected, (outcome, expected)
        assert self.world.calls - before == calls

    @rule(several=st.lists(digests, max_size=5, unique=True))
    def is_asked_for_several(self, several: list[str]) -> None:
        """Several lookups at once reach breakers in any order, so only what holds in every order is checked."""
        free = self.world.calls["api"]
        could_fail = any(
            self.world.mode[name] != "up" or self.breaker(name) != "closed" or set(self.world.held[name]) & set(several)
            for name in TIERS
        )
        predicted = {} if could_fail else {digest: self.predict(digest)[0] for digest in several}
        answers = list(self.composite.get_many(several, patience=0))
        assert sorted(blob.uri for blob in answers) == sorted(several)
        for blob in answers:
            assert blob.data in (None, BLOBS[blob.uri])
            if not could_fail:
                assert (type(blob.error) if blob.data is None else blob.data) == predicted[blob.uri]
            self.disk.pop(blob.uri, None)
            if blob.found:
                self.disk[blob.uri] = "good"
        assert self.world.calls["api"] - free <= len(several)

    @rule(bad=st.sampled_from(["", "x", DIGESTS[0][:-1], DIGESTS[0] + "\n", "md5://" + DIGESTS[0]]))
    def is_asked_nonsense(self, bad: str) -> None:
        before = self.world.calls.copy()
        try:
            self.composite.get(bad)
        except InvalidURI:
            assert self.world.calls == before
        else:
            raise AssertionError(f"{bad!r} was found")

    # -- the model

    def breaker(self, name: str) -> str:
        return self.composite._live().breakers[name].state

    def predict(self, digest: str) -> tuple[Any, Counter[str]]:
        """What a lookup comes to, and which tiers it asks. Changes the model of the caches accordingly."""
        calls: Counter[str] = Counter()
        if self.disk.get(digest) == "good":
            return BLOBS[digest], calls
        self.disk.pop(digest, None)  # a bad file is put aside
        failed = bad = False
        for name in TIERS:
            if name == "api" and failed:
                continue
            if self.breaker(name) == "open":
                failed = True
                continue
            calls[name] += 1
            held = self.world.held[name].get(digest)
            if self.world.mode[name] != "up":
                failed = True
            elif held == BLOBS[digest]:
                self.disk[digest] = "good"
                if name == "api":
                    # It is really kept there: compared by `kept_is_right` after the lookup.
                    self.expect_kept = (digest, not self.world.write_fails)
                return held, calls
            elif held is not None and name == "kept":
                bad = True
            elif held is not None:
                failed = True
        assert not (bad and digest in self.disk)
        return (LookupFailed if failed else NotFoundInStore), calls

    expect_kept: tuple[str, bool] | None = None

    @invariant()
    def kept_is_right(self) -> None:
        if self.expect_kept is not None:
            digest, written = self.expect_kept
            self.expect_kept = None
            assert not written or self.world.held["kept"].get(digest) == BLOBS[digest]

    @invariant()
    def disk_is_as_modelled(self) -> None:
        for digest in DIGESTS:
            place = Path(self.folder) / "sha1" / digest[:3] / digest
            state = self.disk.get(digest)
            assert place.exists() == (state is not None)
            assert state != "good" or place.read_bytes() == BLOBS[digest]

    @invariant()
    def nothing_is_left_under_way(self) -> None:
        assert len(self.composite._live().flights) == 0


BOUND = 1000
ODD_KEYS = ["https://host/a?b=c", "../../etc/passwd", "x" * 5000, "\u0661", "a\nb", "\ud800"]
VALUES = [b"", b"v", b"w" * 300, b"z" * 999]
keys = st.sampled_from([*DIGESTS, *ODD_KEYS])


class DiskCacheModel(RuleBasedStateMachine):
    """A small disk cache: it may forget, but what it says is true, and it keeps its bound."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="bitstore-model-"))
        self.folder = self.home / "cache"
        self.cache = self.open()
        self.damaged = False
        self.put: dict[str, set[bytes]] = {}  # every value that a key may have

    def open(self) -> DiskCache:
        return DiskCache(self.folder, max_size=BOUND, algorithm="sha1")

    def teardown(self) -> None:
        assert [path.name for path in self.home.iterdir()] in ([], ["cache"])  # nothing was written elsewhere
        shutil.rmtree(self.home)

    def files(self) -> list[Path]:
        return [path for top in ("sha1", "keys") for path in (self.folder / top).rglob("*") if path.is_file()]

    @rule(key=keys, data=st.sampled_from(VALUES), own=st.booleans())
    def is_put(self, key: str, data: bytes, own: bool) -> None:
        data = BLOBS[key] if own and key in BLOBS else data
        self.cache.put(key, data)
        self.put.setdefault(key, set()).add(data)
        try:
            assert self.cache.get(key) in self.put[key]
        except InvalidDataFound:
            # A put does not read what is there: over a damaged file of the right size it changes nothing, which the
            # next read notices. (A composite has read, and put it aside, before it puts.)
            assert self.damaged

    @rule(key=keys)
    def is_got(self, key: str) -> None:
        there = self.cache.exists(key)
        try:
            data = self.cache.get(key)
        except NotFoundInStore:
            pass  # damaged, if it was there
        else:
            assert there and data in self.put[key]
            assert self.cache.path(key).read_bytes() == data

    @rule(key=keys)
    def is_deleted(self, key: str) -> None:
        assert self.cache.delete(key) == self.cache.exists(key) or not self.cache.exists(key)
        self.put.pop(key, None)
        assert not self.cache.exists(key)

    @rule(number=st.integers(0, 20), how=st.sampled_from(["flip", "cut", "empty", "link", "delete"]))
    def is_damaged(self, number: int, how: str) -> None:
        files = sorted(path for path in self.files() if not path.is_symlink())
        if not files:
            return
        path = files[number % len(files)]
        data = path.read_bytes()
        path.unlink()
        self.damaged = True
        if how == "flip" and data:
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        elif how == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "link":
            path.symlink_to("/etc/hostname")

    @rule()
    def is_opened_anew(self) -> None:
        self.cache = self.open()

    @rule()
    def is_pickled(self) -> None:
        self.cache = pickle.loads(pickle.dumps(self.cache))

    @rule(size=st.sampled_from([0, 100, 500, BOUND]))
    def is_pruned(self, size: int) -> None:
        assert self.cache.prune(size) <= size
        assert sum(path.lstat().st_size for path in self.files() if not path.is_symlink()) <= size

    @rule()
    def is_verified(self) -> None:
        self.cache.verify_all()
        assert self.cache.verify_all().damaged == 0

    @rule()
    def is_cleared(self) -> None:
        self.cache.clear()
        self.put.clear()
        assert not any(self.cache.exists(key) for key in [*DIGESTS, *ODD_KEYS])

    @rule()
    def vanishes(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @invariant()
    def bound_is_kept(self) -> None:
        assert sum(path.lstat().st_size for path in self.files() if not path.is_symlink()) <= BOUND

    @invariant()
    def digests_name_their_bytes(self) -> None:
        for digest in DIGESTS:
            try:
                data = self.cache.get(digest)
            except NotFoundInStore:
                continue
            assert data in self.put[digest]
            assert sha1(data) == digest or data in VALUES


TestComposite = CompositeModel.TestCase
TestComposite.settings = bounded(120, 50)
TestDiskCache = DiskCacheModel.TestCase
TestDiskCache.settings = bounded(120, 50)
