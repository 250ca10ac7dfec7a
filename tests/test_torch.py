"""Datasets for a DataLoader as far as they go without PyTorch; `test_training.py` has what needs it."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy
import pandas
import pyarrow
import pytest

from bitstore import (
    DecodeFailed,
    DiskCache,
    HTTPRaw,
    InvalidURI,
    NotFoundInStore,
    Sha1Composite,
    Sha1Store,
    StoreNotAvailable,
)  # fmt: skip
from bitstore.torch import BlobDataset, BlobStream
from bitstore.torch._order import Order
from tests.ray_stores import MadeStore, OddStore
from tests.sample_worker import batch_of
from tests.servers.web_folder import WebFolder
from tests.stores import Shelf, blobs, down

BLOBS = blobs(60)
DIGESTS = list(BLOBS)


def shelf() -> Shelf:
    return Shelf(BLOBS)


def size(data: bytes) -> int:
    return len(data)


def refuse(data: bytes) -> bytes:
    raise NotFoundInStore("a table", data[:3])


@pytest.fixture
def web() -> Iterator[WebFolder]:
    with WebFolder() as server:
        server.files |= {f"/{digest}": data for digest, data in BLOBS.items()}
        yield server


def over(web: WebFolder, tmp_path: Path) -> Sha1Composite:
    """A disk cache over the web server."""
    store = Sha1Composite()
    store.append_cache(DiskCache(tmp_path / "cache", "1GB"), name="disk")
    store.append_source(Sha1Store(HTTPRaw(), f"{web.url}/", verify=True), name="web")
    return store


def test_positions_have_their_samples_in_whatever_order_they_are_asked_for() -> None:
    dataset = BlobDataset(shelf(), DIGESTS, targets=range(60), decode=size)
    assert len(dataset) == 60
    assert [dataset[position] for position in (0, 59, -1)] == [(52, 0), (78, 59), (78, 59)]
    plain: Any = BlobDataset(shelf(), DIGESTS)
    order: Any = [7, numpy.int64(3), 7, -60]
    assert plain.__getitems__(order) == [BLOBS[DIGESTS[position]] for position in order]
    assert plain.__getitems__([]) == []
    assert list(plain) == list(BLOBS.values())  # by position, until one is out of range
    for position in (60, -61):
        with pytest.raises(IndexError, match=f"position {position} of 60 samples"):
            plain[position]


def test_digests_come_in_any_column_and_take_the_bytes_of_a_digest() -> None:
    raw = [bytes.fromhex(digest) for digest in DIGESTS]
    upper = [digest.upper() for digest in DIGESTS]
    for column in (DIGESTS, raw, upper, iter(DIGESTS), pandas.Series(DIGESTS[::-1])[::-1], pyarrow.array(DIGESTS)):
        store = Sha1Composite()
        store.append_source(shelf())
        dataset = BlobDataset(store, column, targets=pandas.Series(range(60), index=range(60, 0, -1)))
        assert [dataset[position] for position in (0, 41)] == [(BLOBS[DIGESTS[n]], n) for n in (0, 41)]
        assert len(pickle.dumps(dataset._samples.keys)) < 60 * 20 + 200
    ends_in_zeros = bytes(range(1, 19)) + bytes(2)
    assert BlobDataset(store, numpy.array([ends_in_zeros]))._samples.keys[0] == ends_in_zeros.hex()


def test_a_blob_that_is_in_a_batch_twice_is_fetched_once(web: WebFolder) -> None:
    dataset = BlobDataset(Sha1Store(HTTPRaw(), f"{web.url}/"), DIGESTS)
    assert dataset.__getitems__([4, 5, 4]) == [BLOBS[DIGESTS[position]] for position in (4, 5, 4)]
    assert len(web.requests) == 2


@pytest.mark.parametrize("kind", [BlobDataset, BlobStream])
def test_a_sample_without_a_blob_raises_its_error_or_is_it(kind: Any) -> None:
    def samples(store: Any, digests: list[str], **options: Any) -> Any:
        made = kind(store, digests, **options)
        return made.__getitems__(range(len(digests))) if kind is BlobDataset else list(made)

    store = Sha1Composite()
    store.append_source(shelf())
    unknown = Sha1Composite()
    unknown.append_source(shelf())
    unknown.append_source(down())
    wrong: list[tuple[Any, str, type[Exception], dict[str, Any]]] = [
        (store, "0" * 40, NotFoundInStore, {}),
        (store, "no digest", InvalidURI, {}),
        (unknown, "0" * 40, StoreNotAvailable, {"patience": 0}),  # a failure is no absence
        (store, DIGESTS[1], DecodeFailed, {"decode": refuse}),
    ]
    for asked, digest, error, options in wrong:
        with pytest.raises(error):
            samples(asked, [digest], **options)
        (sample,) = samples(asked, [digest], errors="return", targets=["t"], **options)
        assert (type(sample[0]), sample[1]) == (error, "t") or isinstance(sample[0], error)
        pickle.loads(pickle.dumps(sample))
    with pytest.raises(StoreNotAvailable, match="it returned NoneType, not bytes"):
        samples(OddStore({"odd": None}), ["odd"])
    with pytest.raises(TypeError, match="expected a sha1 digest"):
        samples(store, [cast("str", None)])
    assert samples(store, [*DIGESTS[:2], "0" * 40], errors="return")[:2] == list(BLOBS.values())[:2]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"digests": "abc"}, "give a list of digests"),
        ({"targets": [1]}, "there are 60 digests and 1 targets"),
        ({"decode": "PIL"}, "decode='PIL': give a function"),
        ({"errors": "ignore"}, "errors='ignore': choose one of raise, return"),
        ({"store": dict}, "expected a store"),
        ({"patience": -1}, "patience=-1"),
        ({"shard": (2, 2)}, "a rank from 0 to world_size - 1"),
        ({"shard": (0, 0)}, "a rank from 0 to world_size - 1"),
    ],
)
def test_options_of_a_stream_that_make_no_sense_are_errors(options: dict[str, Any], named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=named):
        BlobStream(**{"store": shelf(), "digests": DIGESTS, **options})


@pytest.mark.parametrize("length", [0, 1, 2, 3, 60, 64, 65, 1000])
def test_an_order_has_each_position_once(length: int) -> None:
    orders = [[Order(length, seed)[place] for place in range(length)] for seed in ("0 0", "0 1", "1 0")]
    assert all(sorted(order) == list(range(length)) for order in orders)
    if length > 10:
        assert len({tuple(order) for order in orders}) == 3
        # Of a random order one position in `length` is at its own place, and half of the steps lead forwards.
        assert all(sum(place == position for place, position in enumerate(order)) < 10 for order in orders)
        assert all(0.3 < sum(a < b for a, b in itertools.pairwise(order)) / length < 0.7 for order in orders)


def test_ranks_together_take_each_digest_once_or_equally_many() -> None:
    def parts(**options: Any) -> list[list[int]]:
        ranks = [BlobStream(shelf(), DIGESTS, shard=(rank, 7), targets=range(60), **options) for rank in range(7)]
        return [[target for _, target in stream] for stream in ranks]

    for options in ({}, {"shuffle": 3}, {"shuffle": 3, "ordered": False}):
        assert sorted(target for part in parts(**options) for target in part) == list(range(60))
    assert [len(part) for part in parts(equal=True, shuffle=1)] == [8] * 7
    assert parts()[2] == list(range(2, 60, 7))


def test_each_reading_of_a_stream_is_an_epoch_with_its_order() -> None:
    stream = BlobStream(shelf(), DIGESTS, shuffle=5, targets=range(60))
    epochs = [[target for _, target in stream] for _ in range(3)]
    assert all(sorted(epoch) == list(range(60)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    stream.set_epoch(1)
    assert [target for _, target in stream] == epochs[1]
    assert [blob for blob, _ in stream] == [BLOBS[DIGESTS[target]] for target in epochs[2]]
    travelled = BlobStream(MadeStore(50), DIGESTS, shuffle=5, targets=range(60))
    travelled.set_epoch(1)
    assert [target for _, target in pickle.loads(pickle.dumps(travelled))] == epochs[1]


def test_a_stream_that_is_left_early_looks_up_no_more(web: WebFolder) -> None:
    stream = BlobStream(Sha1Store(HTTPRaw(), f"{web.url}/"), DIGESTS, in_flight=4)
    reading = iter(stream)
    assert next(reading) == BLOBS[DIGESTS[0]]
    reading.close()  # type: ignore[attr-defined]
    assert len(web.requests) < 20


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_epochs_of_workers_ask_the_server_once_for_each_blob(web: WebFolder, tmp_path: Path, method: Any) -> None:
    dataset = BlobDataset(over(web, tmp_path), DIGESTS)
    assert dataset[0] == BLOBS[DIGESTS[0]]  # a forked worker begins with what this process has opened
    processes = multiprocessing.get_context(method)
    for epoch in range(2):
        answers = processes.Queue()
        parts = [list(range(start, 60, 2)) for start in range(2)]
        workers = [processes.Process(target=batch_of, args=(dataset, part, answers)) for part in parts]
        for worker in workers:
            worker.start()
        found = [blob for _ in workers for blob in answers.get(timeout=60)]
        for worker in workers:
            worker.join()
        assert sorted(found) == sorted(BLOBS.values()), epoch
        assert Counter(request.target for request in web.requests) == {f"/{digest}": 1 for digest in DIGESTS}
