"""Lookups awaited by asyncio: the answers of `get` and `get_many`, one thread for all, and nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    HTTPRaw,
    InvalidURI,
    LookupFailed,
    LookupTimedOut,
    MemoryCache,
    NotFoundInStore,
    Retry,
    Sha1Store,
    StoreNotAvailable,
)
from bitstore._lookup.loops import loop
from tests.servers import CountedAPI
from tests.servers.faults import Answer, Hang, Hold, Stall
from tests.stores import API, Shelf, as_cache, blobs, composed
from tests.test_batch import over
from tests.waiting import lookup_threads, wait_until


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("bitstore._lookup.loop._LINGER", 0.01)  # the end of threads is waited for
    yield
    gc.collect()
    wait_until(lambda: lookup_threads() == [] and loop().scheduler.active == 0)


async def collected(answers: AsyncIterator[Any]) -> list[Any]:
    return [blob async for blob in answers]


def test_a_thousand_lookups_at_once_share_one_thread(api: CountedAPI) -> None:
    api.blobs = blobs(1000)
    store = over(api)
    threads: set[int] = set()

    async def all_of_them() -> list[bytes]:
        tasks = [asyncio.ensure_future(store.aget(digest)) for digest in api.blobs]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        threads.add(len(lookup_threads()))
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(all_of_them()) == [*api.blobs.values()]
    assert threads == {1}


@pytest.mark.parametrize(
    ("answer", "digest", "error"),
    [
        (None, "0" * 40, NotFoundInStore),
        (Answer(503), "0" * 40, LookupFailed),
        (None, "no digest", InvalidURI),
        (Hang(), "0" * 40, LookupTimedOut),
    ],
)
def test_aget_raises_the_errors_of_get(api: CountedAPI, answer: Any, digest: str, error: type[Exception]) -> None:
    if answer is not None:
        api.rules.add(answer)
    store = over(api)
    timeout = 0.3 if error is LookupTimedOut else None
    with pytest.raises(error) as said:
        asyncio.run(store.aget(digest, timeout=timeout))
    assert type(said.value) is error
    with pytest.raises(error):
        store.get(digest, timeout=timeout)


def test_a_timeout_of_a_plain_store_is_a_failure(api: CountedAPI) -> None:
    api.rules.add(Hang())
    with pytest.raises(StoreNotAvailable, match=r"no answer within 0\.2 s"):
        asyncio.run(Sha1Store(HTTPRaw(), api.blob_url("")).aget("0" * 40, timeout=0.2))


def test_a_users_store_is_asked_in_a_thread_while_other_lookups_are_answered(api: CountedAPI) -> None:
    api.blobs = blobs(1)
    [(digest, data)] = api.blobs.items()
    shelf, store = Shelf({"a": b"from the shelf"}), over(api)
    shelf.gate = threading.Event()

    async def both() -> tuple[bytes, bytes]:
        slow = asyncio.ensure_future(shelf.aget("a"))
        fast = await store.aget(digest)
        assert shelf.gate is not None and not slow.done()
        shelf.gate.set()
        return fast, await slow

    assert asyncio.run(both()) == (data, b"from the shelf")


@pytest.mark.parametrize("begun", [False, True])
def test_a_cancelled_task_gives_up_its_lookup(api: CountedAPI, begun: bool) -> None:
    api.blobs = blobs(1)
    [(digest, data)] = api.blobs.items()
    rule = api.rules.add(Hang(), times=1)
    store = over(api)

    async def cancel_and_ask_again() -> bytes:
        task = asyncio.ensure_future(store.aget(digest))
        await asyncio.sleep(0)
        if begun:
            await asyncio.to_thread(rule.wait_hits)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if not begun:
            api.rules.clear()
        found: bytes = await store.aget(digest)  # would wait for ever for a lookup that still led
        return found

    assert asyncio.run(cancel_and_ask_again()) == data


def test_an_event_loop_that_ends_leaves_no_lookup_under_way(api: CountedAPI) -> None:
    rule = api.rules.add(Hang())
    store = over(api)
    events = asyncio.new_event_loop()
    task = events.create_task(store.aget("0" * 40))
    events.run_until_complete(asyncio.sleep(0))
    events.run_until_complete(events.run_in_executor(None, rule.wait_hits))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    events.close()
    task.get_coro().close()
    wait_until(lambda: lookup_threads() == [])  # long before the server's silence would end it


def test_lookups_of_one_digest_share_one_paid_call_with_threads(api: CountedAPI) -> None:
    [(digest, data)] = blobs(1).items()
    paid = API({digest: data})
    store = composed(as_cache(MemoryCache()), paid)

    async def many() -> list[bytes]:
        awaited = [store.aget(digest) for _ in range(50)]
        return list(await asyncio.gather(*awaited, *(asyncio.to_thread(store.get, digest) for _ in range(4))))

    assert asyncio.run(many()) == [data] * 54 and paid.calls == [digest]


class TestDownload:
    def test_many_adownloads_at_once_write_whole_files_and_name_the_tier(self, api: CountedAPI, tmp_path: Path) -> None:
        api.blobs = blobs(100, 5000)
        store = over(api)

        async def all_of_them() -> list[str]:
            return list(await asyncio.gather(*(store.adownload(digest, tmp_path / digest) for digest in api.blobs)))

        assert asyncio.run(all_of_them()) == [api.blob_url("")] * 100
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == api.blobs

    def test_a_cancelled_adownload_is_resumed_by_the_next_one(self, api: CountedAPI, tmp_path: Path) -> None:
        api.blobs = blobs(1, 100_000, "salt")
        [(digest, data)] = api.blobs.items()
        rule = api.rules.add(Stall(60_000), times=1)
        store, target = over(api), tmp_path / "blob"

        async def twice() -> None:
            task = asyncio.ensure_future(store.adownload(digest, target))
            await asyncio.to_thread(rule.wait_hits)
            await asyncio.to_thread(wait_until, lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not target.exists()
            await store.adownload(digest, target)

        asyncio.run(twice())
        assert target.read_bytes() == data and [*tmp_path.iterdir()] == [target]

    @pytest.mark.parametrize(
        ("digest", "target", "error"),
        [
            ("0" * 40, "blob", NotFoundInStore),
            ("no digest", "blob", InvalidURI),
            ("0" * 40, "no folder/blob", FileNotFoundError),
            ("0" * 40, "", IsADirectoryError),
        ],
    )
    def test_adownload_raises_the_errors_of_download(
        self, api: CountedAPI, tmp_path: Path, digest: str, target: str, error: type[Exception]
    ) -> None:
        store = over(api)
        with pytest.raises(error) as said:
            asyncio.run(store.adownload(digest, tmp_path / target))
        with pytest.raises(error) as expected:
            store.download(digest, tmp_path / target)
        assert str(said.value) == str(expected.value) and not [*tmp_path.iterdir()]

    def test_a_full_disk_fails_adownload_with_the_error_of_the_disk(self, api: CountedAPI, tmp_path: Path) -> None:
        api.blobs = blobs(1, 500_000, "salt")
        [digest] = api.blobs
        script = (
            "import asyncio, resource, signal, sys\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "from bitstore import HTTPRaw, Sha1Store\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
            "try:\n"
            "    asyncio.run(Sha1Store(HTTPRaw(), sys.argv[1]).adownload(sys.argv[2], sys.argv[3]))\n"
            "except OSError as error:\n"
            "    print(type(error).__name__, error.errno)\n"
        )
        command = [sys.executable, "-c", script, api.blob_url(""), digest, str(tmp_path / "out")]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.stdout.split() == ["OSError", str(errno.EFBIG)] and ran.stderr == ""
        assert not (tmp_path / "out").exists()


class TestMany:
    @pytest.mark.parametrize("ordered", [False, True])
    def test_aget_many_gives_the_answers_of_get_many(self, api: CountedAPI, ordered: bool) -> None:
        held = blobs(500)
        api.blobs = dict(held)
        wanted = ["no digest", *held, "0" * 40, *held, "f" * 40, 7]
        store = over(api)
        there = asyncio.run(collected(store.aget_many(wanted, ordered=ordered)))
        if ordered:
            assert [blob.index for blob in there] == list(range(len(wanted)))

        def told(blob: Any) -> Any:
            return blob.index, blob.uri, blob.data, blob.source, type(blob.error), str(blob.error)

        assert sorted(map(told, there)) == sorted(map(told, store.get_many(wanted)))

    def test_aget_many_raises_or_leaves_out_errors_as_asked(self, api: CountedAPI) -> None:
        api.blobs = blobs(3)
        wanted = [*api.blobs, "0" * 40]
        assert len(asyncio.run(collected(over(api).aget_many(wanted, errors="ignore")))) == 3
        with pytest.raises(NotFoundInStore):
            asyncio.run(collected(over(api).aget_many(wanted, errors="raise")))

    def test_bad_options_and_inputs_raise_before_the_first_answer(self, api: CountedAPI) -> None:
        async def endless() -> AsyncIterator[str]:
            yield "0" * 40

        store = over(api)
        for bad in ({"errors": "shout"}, {"in_flight": 0}, {"timeout": -1}, {"threads": 17}):
            with pytest.raises(ValueError, match=next(iter(bad))):
                store.aget_many([], **bad)
        for uris in ("0" * 40, endless()):
            with pytest.raises(TypeError, match="expected an iterable of URIs"):
                store.aget_many(uris)  # type: ignore[arg-type]

    def test_the_window_of_aget_many_bounds_how_far_inputs_are_read_ahead(self, api: CountedAPI) -> None:
        api.blobs = blobs(200)
        read = 0

        def inputs() -> Iterator[str]:
            nonlocal read
            for digest in api.blobs:
                read += 1
                yield digest

        async def some() -> None:
            answers = over(api).aget_many(inputs(), in_flight=10)
            for taken in range(100):
                await answers.__anext__()
                assert read <= taken + 1 + 10
            await answers.aclose()  # type: ignore[attr-defined]

        asyncio.run(some())

    def test_lookups_of_aget_many_are_spread_over_the_threads_of_the_option(self, api: CountedAPI) -> None:
        api.blobs = blobs(16)
        hold = Hold()
        api.rules.add(hold)
        store = over(api)

        async def counted() -> int:
            task = asyncio.ensure_future(collected(store.aget_many(api.blobs, threads=3)))
            await asyncio.to_thread(wait_until, lambda: len(api.requests) == 16)
            transferring = lookup_threads().count("bitstore-transfer")
            hold.release()
            assert all(blob.found for blob in await task)
            return transferring

        assert asyncio.run(counted()) == 3

    def test_a_cancelled_consumer_gives_up_its_lookups(self, api: CountedAPI) -> None:
        api.blobs = blobs(20)
        rule = api.rules.add(Hang(), times=20)
        store = over(api, retry=Retry(attempts=1))

        async def cancelled() -> list[Any]:
            task = asyncio.ensure_future(collected(store.aget_many(api.blobs)))
            await asyncio.to_thread(rule.wait_hits)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            api.rules.clear()
            return await collected(store.aget_many(api.blobs))

        assert all(blob.found for blob in asyncio.run(cancelled()))

    def test_the_event_loop_runs_on_while_answers_are_awaited(self, api: CountedAPI) -> None:
        api.blobs = blobs(10)
        rule = api.rules.add(Hang(), times=1)

        async def beside() -> None:
            task = asyncio.ensure_future(collected(over(api).aget_many(api.blobs, timeout=30)))
            await asyncio.to_thread(rule.wait_hits)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not task.done()
            task.cancel()

        asyncio.run(beside())


def test_the_example_web_service_distinguishes_missing_from_failed(api: CountedAPI, tmp_path: Path) -> None:
    api.blobs = blobs(1)
    [(digest, data)] = api.blobs.items()
    api.rules.add(Answer(503), path=".*" + "f" * 40)
    config = tmp_path / "bitstore.toml"
    config.write_text(
        f'algorithm = "sha1"\n[[tier]]\nname = "api"\nurl = "{api.blob_url("")}"\nretry = {{ attempts = 1 }}\n'
    )
    example = Path(__file__).parents[1] / "examples" / "web_service.py"

    def status(port: str, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/blob/{path}", timeout=60) as found:
                return found.status, found.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, b""

    with subprocess.Popen([sys.executable, example, config, "0"], stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            port = service.stdout.readline().split()[-1]
            assert status(port, digest) == (200, data)
            assert [status(port, path)[0] for path in ("0" * 40, "f" * 40, "nothing")] == [404, 503, 400]
        finally:
            service.kill()
