"""`get_many` ends whatever an input does, and each input has an answer of its own."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from bitstore import Composite, LookupFailed, NotFoundInStore, Store
from bitstore.blob import Blob
from bitstore.steps import Found, Steps
from tests.stores import with_tiers

DATA = b"data"


class NoHash(str):
    __slots__ = ()

    def __hash__(self) -> int:
        raise ValueError("no hash")


class NoEquality(str):
    __slots__ = ()

    def __hash__(self) -> int:
        return hash("same for all")

    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")


class NoText:
    def __repr__(self) -> str:
        raise ValueError("no text")


class Unhashable(list):  # type: ignore[type-arg]
    """A key that no dict takes."""


class Anything(Store):
    """A store for which any object is a key; most are missing."""

    def is_valid(self, uri: Any) -> bool:
        if uri == "raises":
            raise ValueError("is_valid raises")
        return True

    def get(self, uri: Any) -> bytes:
        if isinstance(uri, str) and str.__eq__(uri, "fails"):
            raise OSError("down")
        if isinstance(uri, str):
            return DATA
        raise NotFoundInStore(self, uri)


class Raising(Anything):
    """A store whose `get_steps` is no generator, and raises when it is called."""

    def get_steps(self, uri: Any) -> Steps[Found]:
        raise ValueError("not even begun")


class OddLength(bytes):
    def __len__(self) -> int:
        raise ValueError("no length")


def answered(lookups: Callable[[], Iterable[Blob]]) -> list[Blob]:
    """The answers, in a thread of their own: a batch that never ends fails the test rather than hang it."""
    told: list[Any] = []

    def take() -> None:
        try:
            told.extend(lookups())
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), f"the batch does not end; it answered {len(told)}"
    for each in told:
        if isinstance(each, Exception):
            raise each
    return told


def over(store: Store) -> Composite:
    return with_tiers(Composite(), store)


STORES = [Anything, lambda: over(Anything()), lambda: over(over(Anything()))]
ODD = [NoHash("a"), NoEquality("a"), NoText(), Unhashable(), "raises", float("nan"), None, "fails"]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("make", STORES, ids=["store", "composite", "composite of a composite"])
def test_each_odd_input_has_an_answer(make: Callable[[], Store], ordered: bool) -> None:
    asked = [*ODD, "good", *ODD, "good"]
    blobs = answered(lambda: make().get_many(asked, ordered=ordered, patience=0))
    assert sorted(blob.index for blob in blobs) == list(range(len(asked)))
    assert [blob.data for blob in blobs if type(blob.uri) is str and blob.uri == "good"] == [DATA] * 2
    assert all(blob.failed for blob in blobs if type(blob.uri) is str and blob.uri in ("raises", "fails"))
    assert all(blob.missing for blob in blobs if isinstance(blob.uri, (NoText, float)))
    assert len(repr(blobs)) > 0
    assert len({str(blob.error) for blob in blobs}) > 2, "each error has a text"


@pytest.mark.parametrize("errors", ["ignore", "log"])
def test_odd_inputs_are_left_out_if_errors_are_ignored_or_logged(errors: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bitstore"):
        blobs = answered(lambda: over(Anything()).get_many([NoText(), "good", NoHash("b")], errors=errors))
    assert "good" in [blob.uri for blob in blobs if type(blob.uri) is str]
    assert ("NoText object without a text" in caplog.text) == (errors == "log")


@pytest.mark.parametrize("ordered", [False, True])
def test_a_lookup_that_cannot_begin_is_a_failure(ordered: bool) -> None:
    blobs = answered(lambda: Raising().get_many(["a", "b"], ordered=ordered))
    assert [str(blob.error) for blob in blobs] == ["not even begun"] * 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (iter(()), "not a generator of steps"),
        (b"bytes", "not a generator of steps"),
        (None, "not a generator of steps"),
    ],
)
def test_steps_that_are_no_generator_are_a_failure(returned: Any, message: str) -> None:
    class Wrong(Anything):
        def get_steps(self, uri: Any) -> Any:
            return returned if uri == "a" else good(uri)

    def good(uri: Any) -> Steps[Found]:
        yield from ()
        return Found(DATA, "x")

    blobs = answered(lambda: Wrong().get_many(["a", "b", "c"], ordered=True))
    assert blobs[0].failed and message in str(blobs[0].error)
    assert [blob.data for blob in blobs[1:]] == [DATA] * 2


@pytest.mark.parametrize("result", [None, b"bytes", (DATA, "x")])
def test_steps_that_end_in_no_found_are_a_failure(result: Any) -> None:
    class Wrong(Anything):
        def get_steps(self, uri: Any) -> Steps[Any]:
            yield from ()
            return result if uri == "a" else Found(DATA, "x")

    for store in (Wrong(), over(Wrong())):
        blobs = answered(lambda store=store: store.get_many(["a", "b"], ordered=True, patience=0))  # type: ignore[misc]
        assert blobs[0].failed and blobs[1].data == DATA


def test_an_iterable_that_raises_midway_ends_the_batch_with_its_error() -> None:
    def inputs() -> Iterator[Any]:
        yield from ("a", NoHash("b"), "c")
        raise RuntimeError("the list is torn")

    seen: list[Blob] = []

    def take() -> Iterator[Blob]:
        for blob in over(Anything()).get_many(inputs()):
            seen.append(blob)
            yield blob

    with pytest.raises(RuntimeError, match="the list is torn"):
        answered(take)
    assert len(seen) == 3


def test_a_blob_with_a_length_of_its_own_is_an_answer() -> None:
    class Odd(Anything):
        def get(self, uri: Any) -> bytes:
            return OddLength(DATA)

    for store in (Odd(), over(Odd())):
        (blob,) = answered(lambda store=store: store.get_many(["a"]))  # type: ignore[misc]
        assert blob.found


def test_errors_of_objects_without_a_text_pickle() -> None:
    for error in (NotFoundInStore(NoText(), NoText()), LookupFailed(NoText(), NoText(), [("x", OSError("down"))])):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
