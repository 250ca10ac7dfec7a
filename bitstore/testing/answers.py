"""The checks of what a store answers to one caller."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Any

from bitstore._tiers.composite import Composite
from bitstore.errors import BitstoreError, InvalidURI, LookupFailed, NotFoundInStore, StoreNotAvailable
from bitstore.store import Store
from bitstore.testing.trial import Trial, many, must, raises, same, survives


def present(trial: Trial) -> None:
    """Blobs come back as they were put, through the same store and another one."""
    store = trial.make()
    other = trial.other(store)
    for data in (b"x", b"\r\n\n\x00\x1a\xff\xfe", bytes(range(256)), secrets.token_bytes(10_000)):
        name = trial.place(store, data)
        must(store.is_valid(name), f"is_valid({name!r}) is false")
        same(store.get(name), data, "a blob just put")
        same(other.get(name), data, "a blob put through another store")


def empty(trial: Trial) -> None:
    """The empty blob is a blob."""
    store = trial.make()
    name = trial.place(store, b"")
    same(store.get(name), b"", "the empty blob")
    if hasattr(store, "exists"):
        must(store.exists(name) is True, "exists is not True for the empty blob")


def big(trial: Trial) -> None:
    """A blob far above any buffer."""
    store = trial.make()
    data = secrets.token_bytes(trial.big)
    name = trial.place(store, data)
    same(store.get(name), data, "a big blob")
    same(trial.other(store).get(name), data, "a big blob, through another store")


def missing(trial: Trial) -> None:
    """What is not there is `NotFoundInStore`, always, and never anything else."""
    store = trial.make()
    name = trial.absent()
    for when in ("a missing blob", "a missing blob, asked again"):
        with raises(NotFoundInStore, f"get of {when}"):
            store.get(name)
    if trial.writable:
        # A store may remember what is missing, but not beyond its own put.
        data = secrets.token_bytes(30)
        later = trial.name(data)
        with raises(NotFoundInStore, "get of a blob before it is put"):
            store.get(later)
        store.put(later, data)
        same(store.get(later), data, "a blob that was missing when asked for first")


def exists(trial: Trial) -> None:
    """`exists` says what `get` would find."""
    store = trial.make()
    if not hasattr(store, "exists"):
        return  # duck-typed: everything in the library does without
    name = trial.place(store, b"here " + secrets.token_bytes(8))
    must(store.exists(name) is True, "exists is not True for a blob that is there")
    must(store.exists(trial.absent()) is False, "exists is not False for a missing blob")


def again(trial: Trial) -> None:
    """A put over the same name: of the same bytes it changes nothing, under a URL it replaces."""
    if not trial.writable:
        return
    store = trial.make()
    data = secrets.token_bytes(100)
    name = trial.place(store, data)
    store.put(name, data)
    same(store.get(name), data, "a blob put twice")
    if not trial.by_digest:
        store.put(name, b"newer")
        same(store.get(name), b"newer", "a URL that was overwritten")


def names(trial: Trial) -> None:
    """Every name is its own: awkward keys, and both spellings of a digest."""
    store = trial.make()
    if trial.by_digest:
        for name, data in trial.place_some(store).items():
            # Where any text is a name, a digest in upper case is another one.
            if trial.wrong is None and store.is_valid(name.upper()):
                same(store.get(name.upper()), data, "a digest in upper case")
        return
    folder = trial.name(b"", "")
    kept = {f"{folder}{key}": secrets.token_bytes(30) for key in trial.keys}
    for name, data in kept.items():
        (store.put if trial.placed_by is None else trial.placed_by)(name, data)
    other = trial.other(store)
    for name, data in kept.items():
        must(store.is_valid(name), f"is_valid({name!r}) is false")
        same(store.get(name), data, repr(name))
        same(other.get(name), data, f"{name!r}, through another store")


def wrong_names(trial: Trial) -> None:
    """What is no name of this store is `InvalidURI`, which is never taken for a missing blob."""
    store = trial.make()
    wrong = trial.wrong
    if wrong is None and trial.by_digest:
        right = trial.absent()
        wrong = ["", "nonsense", right[:-1], right + "0", right + "\n", " " + right, "g" + right[1:], f"x://{right}"]
    elif wrong is None:
        wrong = ["", "nonsense", "nonsense://bucket/key", "x" + trial.addresses + "key", "sha1:" + trial.addresses]
    for name in wrong:
        must(not store.is_valid(name), f"is_valid({name!r}) is true")
        with raises(InvalidURI, f"get({name!r})"):
            store.get(name)
        if isinstance(store, Store):
            with raises(InvalidURI, f"exists({name!r})"):
                store.exists(name)


def none(trial: Trial) -> None:
    """None is a mistake of the caller's: TypeError (or InvalidURI), not a missing blob."""
    store = trial.make()
    with raises((TypeError, InvalidURI), "get(None)"):
        store.get(None)
    with contextlib.suppress(TypeError):
        must(not store.is_valid(None), "is_valid(None) is true")
    if isinstance(store, Store):
        with raises((TypeError, InvalidURI), "exists(None)"):
            store.exists(None)


def get_many(trial: Trial) -> None:
    """`get_many` gives for each input what `get` gives, duplicates included."""
    store = trial.make()
    blobs = trial.place_some(store, 20)
    absent = [trial.absent() for _ in range(3)]
    asked: list[Any] = [*blobs, *absent, *list(blobs)[:3]]
    expected = [blobs.get(name) for name in asked]
    for which in (store, trial.other(store)):
        told = list(many(which, iter(asked), ordered=True))
        must([blob.uri for blob in told] == asked, "get_many(ordered=True) did not answer each input in its order")
        must([blob.index for blob in told] == list(range(len(asked))), "get_many gave wrong indices")
        for blob, data in zip(told, expected, strict=True):
            if data is None:
                must(blob.missing, f"get_many gave {blob} for a missing blob")
            else:
                must(blob.found, f"get_many gave {blob} for a blob that is there")
                same(blob.data, data, "one of get_many")
        unordered = {blob.index: blob for blob in many(which, asked)}
        must(sorted(unordered) == list(range(len(asked))), "get_many did not answer each input once")
        must([unordered[index].data for index in sorted(unordered)] == expected, "get_many mixed up its answers")
    for name in trial.wrong or ():
        (blob,) = Store.get_many(store, [name])
        must(blob.failed, f"get_many gave {blob} for a wrong name")


def composite(trial: Trial) -> None:
    """It serves as a source, and if it can be written as a cache."""
    store = trial.make()
    blobs = trial.place_some(store)
    nothing = trial.place(store, b"")
    chain = Composite()
    chain.append_source(store)
    for name, data in {**blobs, nothing: b""}.items():
        same(chain.get(name), data, "a blob, through a composite")
    with raises(NotFoundInStore, "get of a missing blob, through a composite"):
        chain.get(trial.absent())
    if trial.writable:
        held = {trial.name(data): data for data in (secrets.token_bytes(40) for _ in range(3))}
        above = Composite()
        above.append_cache(store)
        above.append_source(_Held(held))
        for name, data in held.items():
            same(above.get(name), data, "a blob of the source below it")
            same(store.get(name), data, "a blob that it should have kept as a cache")


class _Held(Store):
    def __init__(self, held: dict[str, bytes]) -> None:
        self._held = held

    def is_valid(self, uri: Any) -> bool:
        return True

    def get(self, uri: Any) -> bytes:
        if uri not in self._held:
            raise NotFoundInStore(self, uri)
        return self._held[uri]


def errors(trial: Trial) -> None:
    """Its errors survive pickle, so that they can cross processes."""
    store = trial.make()
    raised: list[BaseException] = []
    with raises(NotFoundInStore, "get of a missing blob") as caught:
        store.get(trial.absent())
    raised += caught
    for name in trial.wrong or ([""] if trial.wrong is None else []):
        with raises(InvalidURI, f"get({name!r})") as caught:
            store.get(name)
        raised += caught
    for error in raised:
        survives(error)


def shown(trial: Trial) -> None:
    """Its `repr` and its errors tell no secrets."""
    store = trial.make()
    told = [repr(store), str(store)]
    with raises(NotFoundInStore, "get of a missing blob") as caught:
        store.get(trial.absent())
    told += [text for error in caught for text in (str(error), repr(error))]
    for secret in trial.secrets:
        for text in told:
            must(secret not in text, f"a secret shows up in {text.replace(secret, '***')}")


def unreachable(trial: Trial) -> None:
    """A store that cannot answer says so: it does not say that the blob is missing."""
    if trial.unreachable is None:
        return
    store = trial.unreachable()
    # Any exception of a user's store means that we do not know, except the one that says missing.
    for what, call in (("get", store.get), ("exists", getattr(store, "exists", store.get))):
        try:
            answer = call(trial.absent())
        except NotFoundInStore as error:
            raise AssertionError(f"{what} of a store that cannot answer said that the blob is missing") from error
        except Exception as error:
            if isinstance(error, BitstoreError):
                must(isinstance(error, StoreNotAvailable), f"{what} raised {type(error).__name__}: {error}")
                survives(error)
            for secret in trial.secrets:
                must(secret not in str(error), "a secret shows up in the error of a store that cannot answer")
        else:
            raise AssertionError(f"{what} of a store that cannot answer returned {answer!r:.80}")
    (blob,) = Store.get_many(store, [trial.absent()], patience=1)
    must(blob.failed, f"get_many of a store that cannot answer gave {blob}")
    chain = Composite()
    chain.append_source(store)
    with raises(LookupFailed, "get through a composite of a store that cannot answer"):
        chain.get(trial.absent())


CHECKS: tuple[Callable[[Trial], None], ...] = (
    present, empty, big, missing, exists, again, names, wrong_names, none, get_many, composite, errors, shown,
    unreachable,
)  # fmt: skip
