"""Budgets: a hard cap in money, calls, requests or bytes, and what it is counted in."""

from __future__ import annotations

import copy
import pickle
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bitstore import (
    Budget,
    BudgetReached,
    GSRaw,
    HTTPRaw,
    LookupFailed,
    MissLedger,
    Money,
    NotFoundInStore,
    PackCache,
    Price,
    RemembersMisses,
    Retry,
    S3Raw,
    Sha1Composite,
    Sha1Store,
    SharedMisses,
    StoreNotAvailable,
)
from bitstore._money.classes import CLASSES, DATED
from bitstore._support.fingerprint import fingerprint
from tests.budget_workers import cause_of, fetch_until_used_up, pay_until_used_up, priced_api, priced_server
from tests.limit_workers import LimitedAPI, TimedAPI, digest_of, kill_at_work
from tests.servers import Answer, CountedAPI, FakeGCS, Hang, Hold, MakeProxy, SeaweedS3
from tests.stores import API, Box, Shelf, as_cache, as_source, blobs, composed
from tests.waiting import processes

DIGESTS = [digest_of(f"blob {number}".encode()) for number in range(200)]
EGRESS = Price(per_1000_reads="0.4 USD", egress_per_gb="90 USD")


@pytest.fixture
def timed_api() -> Iterator[TimedAPI]:
    with TimedAPI() as api:
        yield api


@pytest.fixture
def web() -> Iterator[CountedAPI]:
    with CountedAPI(blobs(20, 5000)) as api:
        yield api


def served(api: CountedAPI, price: Price = EGRESS) -> Money:
    """What the server would bill for all that it was asked."""
    total = Money("0 USD")
    for request in api.requests:
        size = len(api.blobs.get(request.path.removeprefix("/blob/"), b'{"error": "not found"}'))
        amount = price.read(size if request.method == "GET" else 0)
        total += Money(Decimal(amount.units).scaleb(-18), "USD")
    return total


# ------------------------------------------------------------------ money and prices


def test_money_is_exact_and_of_one_currency() -> None:
    assert Money("0.1 USD") + Money("0.2 USD") == Money(Decimal("0.3"), "usd")
    assert Money("0.0004USD") * 2500 == Money(1, "USD")
    assert sorted([Money("2 EUR"), Money("-1 EUR"), Money("1.5 EUR")])[0] == Money(-1, "EUR") == -Money("1 EUR")
    assert str(Money("25.00 USD")) == "25 USD" and eval(repr(Money("0.10 USD"))) == Money("0.1 USD")
    assert pickle.loads(pickle.dumps(Money("3 USD"))) == Money("3 USD") == copy.copy(Money("3 USD"))
    assert {Money("1 USD"), Money("1.0 USD")} == {Money("1 USD")}
    assert [Money(text).rounded() for text in ("1234.5 USD", "0 USD", "0.00000123 USD")] == [
        "1,234.50 USD", "0.00 USD", "0.00000123 USD"
    ]  # fmt: skip
    assert Money("1 USD") != Money("1 EUR")
    mixes: list[Callable[[], object]] = [
        lambda: Money("1 USD") + Money("1 EUR"),
        lambda: Money("1 USD") < Money("1 EUR"),
        lambda: Money(Money("1 USD"), "EUR"),
    ]
    for mix in mixes:
        with pytest.raises(ValueError, match="EUR"):
            mix()
    wrong: list[Callable[[], object]] = [
        lambda: Money(0.1, "USD"),
        lambda: Money("1 USD") * 0.5,
        lambda: Money(True, "USD"),
        lambda: Money("1 USD") + 1,
    ]
    for make in wrong:
        with pytest.raises(TypeError):
            make()
    for text in ("25", "USD", "$25", "25 DOLLARS", "1e3 USD", "nan USD", "2\uff15 USD", "1,000 USD", ""):
        with pytest.raises(ValueError, match="no amount of money"):
            Money(text)
    for value in (Decimal("NaN"), Decimal("Infinity")):
        with pytest.raises(ValueError, match="no amount of money"):
            Money(value, "USD")
    with pytest.raises(AttributeError, match="cannot be changed"):
        Money("1 USD").amount = Decimal(2)


def test_prices_are_of_calls_of_classes_or_written_out() -> None:
    assert Price.of("0.002 USD") == Price(per_call="0.002 USD") and Price.of("free").currency is None
    for name in CLASSES:
        price = Price.of(name.upper())
        assert price.source.startswith("https://") and price.dated is not None and price.currency == "USD"
        assert price.misses_billed is name.startswith("s3-")
    standard = Price.of("s3-standard")
    assert standard.read(0).units == 4 * 10**11 and standard.write(0).units == 5 * 10**12
    assert standard.read(2**30).units - standard.read(0).units == 9 * 10**16
    page = (Path(__file__).parent.parent / "docs" / "money.md").read_text()
    for name, kind in CLASSES.items():
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line)
        cells = [cell.strip().removesuffix(" USD") for cell in row.strip("|").split("|")[1:]]
        assert cells == [kind.reads, kind.writes, kind.per_gb, kind.egress] and kind.source in page
    assert str(DATED) in page and str(DATED) in (Price.of.__doc__ or "")
    for value, told in (
        ("s3-cheap", "one of s3-standard"),
        ("0.002", "no amount of money"),
        (0.002, "float"),
        (Money("-1 USD"), "not negative"),
    ):
        with pytest.raises((TypeError, ValueError), match=told):
            Price.of(value)
    with pytest.raises(ValueError, match="one currency"):
        Price(per_call="1 USD", egress_per_gb="1 EUR")


# ------------------------------------------------------------------ one process


def test_calls_end_before_the_budget_would_be_passed(timed_api: TimedAPI) -> None:
    timed_api.blobs = {digest_of(b"x"): b"x"}
    budget = Budget("0.05 USD")
    cache = Box()
    store = composed(as_cache(cache, "cache"), as_source(LimitedAPI(timed_api.url, None, price="0.02 USD"), "api"))
    store.budget = budget
    assert store.get(digest_of(b"x")) == b"x"
    with pytest.raises(NotFoundInStore):
        store.get(DIGESTS[0])
    for digest in DIGESTS[:20]:
        with pytest.raises(LookupFailed) as failed:
            store.get(digest)
        cause = cause_of(failed.value)
        assert isinstance(cause, BudgetReached) and cause.retry_in is None and failed.value.retry_in is None
        assert "the budget of 0.05 USD is used up: 0.01 USD is left, and the next call may cost 0.02 USD" in str(cause)
    assert len(timed_api.times) == 2
    assert store.get(digest_of(b"x")) == b"x"  # what is kept costs nothing
    assert store.stats()["api"].breaker == "closed"
    assert budget.spent == (Money("0.04 USD"), 2, 0, 0)
    assert budget.receipt() == {"api": budget.spent}
    store.budget = Budget("0.08 USD")  # resumed with a larger one
    assert not isinstance(cause_of(_error(store.get, DIGESTS[0])), BudgetReached)
    assert len(timed_api.times) == 3


def _error(get: Callable[..., object], *args: object) -> BaseException | None:
    try:
        get(*args)
    except Exception as error:
        return error
    return None


def test_threads_and_batches_never_pass_a_cap_in_calls(timed_api: TimedAPI) -> None:
    store = priced_api(timed_api.url, "1 USD", Budget(calls=37))
    threads = [
        threading.Thread(target=lambda n=n: list(store.get_many(DIGESTS[n * 20 : n * 20 + 20]))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(timed_api.times) == 37
    with pytest.raises(LookupFailed, match="the budget of 37 calls is used up: 0 calls is left"):
        store.get(DIGESTS[-1])


@pytest.mark.parametrize("many", [False, True])
def test_requests_use_up_a_cap_in_money_and_never_pass_it(web: CountedAPI, many: bool) -> None:
    digests = list(web.blobs)
    # Each blob costs 0.0004 + 5000 bytes at 90 USD a GB; 64 KiB are set aside for each.
    for most in ("0.0062 USD", "0.012 USD", "0.0164 USD"):
        web.clear()
        budget = Budget(most)
        store = priced_server(web.url, EGRESS, budget, max_blob_size="64KiB")
        if many:
            answers = list(store.get_many(digests * 2, in_flight=16))
            found = sum(blob.error is None for blob in answers)
            refused = [blob for blob in answers if isinstance(cause_of(blob.error), BudgetReached)]
            assert found + len(refused) == 40
        else:
            found = 0
            while not isinstance(cause_of(_error(store.get, digests[found % 20])), BudgetReached):
                found += 1
        spent = budget.spent
        assert spent.money == served(web) <= Money(most)
        size = sum(len(web.blobs[request.path.removeprefix("/blob/")]) for request in web.requests)
        assert (spent.requests, spent.bytes) == (len(web.requests), size)
        # In a batch, inputs that ask for the same blob at the same time are one request.
        assert 0 < spent.requests <= found if many else spent.requests == found > 0
        # No more is left unused than what the largest answer might have cost.
        assert Money(most) - served(web) < Money("0.0004 USD") + Money("90 USD") * (Decimal(65536) / 2**30)


def test_lookups_wait_for_what_is_set_aside_and_not_needed(web: CountedAPI) -> None:
    need = sum(map(len, web.blobs.values())) + 65536  # for all, and what is set aside for one of them besides
    store = priced_server(web.url, "free", Budget(bytes=need), max_blob_size="64KiB")
    assert all(blob.found for blob in store.get_many(web.blobs, in_flight=16))


@pytest.mark.parametrize("many", [False, True])
def test_a_lookup_that_gives_up_while_it_waits_leaves_nothing_set_aside(web: CountedAPI, many: bool) -> None:
    first, second, third = [*web.blobs][:3]
    store = priced_server(web.url, "free", Budget(bytes=65536 + 12_000), max_blob_size="64KiB")
    hold = Hold()
    rule = web.rules.add(hold, path=first)
    holder = threading.Thread(target=store.get, args=(first,))
    holder.start()
    rule.wait_hits()
    if many:
        assert next(iter(store.get_many([second], timeout=0.2))).error is not None
    else:
        assert _error(lambda: store.get(second, timeout=0.2)) is not None
    hold.release()
    holder.join()
    assert store.get(third, timeout=10) == web.blobs[third]
    assert store.budget is not None
    assert store.budget.spent[2:] == (2, len(web.blobs[first]) + len(web.blobs[third]))


def test_a_request_that_is_given_up_counts_as_all_that_it_might_have_cost(web: CountedAPI) -> None:
    store = priced_server(web.url, EGRESS, Budget("1 USD"), max_blob_size="64KiB")
    web.rules.add(Hang(), times=1)
    with pytest.raises(LookupFailed):
        store.get(next(iter(web.blobs)), timeout=0.2)
    assert store.budget is not None and store.budget.spent[2:] == (1, 65536)


def test_a_budget_that_is_replaced_gives_back_what_it_has_not_spent(web: CountedAPI, tmp_path: Path) -> None:
    state = tmp_path / "state"
    store = priced_server(web.url, EGRESS, Budget("5 USD", state=state))
    list(store.get_many(web.blobs))
    first, store.budget = store.budget, Budget("6 USD", state=state)
    assert store.budget.spent.money == served(web)
    assert first is not None and first.spent == store.budget.spent


@pytest.mark.parametrize("kind", ["s3", "gs", "http"])
def test_every_request_to_a_bucket_is_on_the_receipt(
    kind: str, s3: SeaweedS3, gcs: FakeGCS, fault_proxy: MakeProxy
) -> None:
    options: Any = {"retry": Retry(attempts=3, first_delay=0.01), "price": "free"}
    proxy = fault_proxy(gcs.url if kind == "gs" else s3.endpoint_url)
    if kind == "s3":
        raw: Any = S3Raw(s3.admin.session, endpoint_url=proxy.url, **options)
        prefix = f"s3://{s3.create_bucket()}/"
    elif kind == "gs":
        raw = GSRaw("anonymous", endpoint_url=proxy.url, **options)
        prefix = f"gs://{gcs.create_bucket()}/"
    else:
        raw, prefix = HTTPRaw(**options), f"{proxy.url}/{s3.create_bucket(public=True)}/"
    store = Sha1Composite()
    store.append_source(Sha1Store(raw, prefix, True), name="bucket")  # the express lane would take it
    budget = Budget()
    store.budget = budget
    held = blobs(5, 1000)
    if kind != "http":
        for digest, data in held.items():
            raw.put(f"{prefix}{digest}", data)
    proxy.rules.add(Answer(503), times=3, skip=2)
    assert len(list(store.get_many([*held, *DIGESTS[:5]]))) == 10
    for digest in (*held, DIGESTS[0]):
        store.exists(digest)
        _error(store.get, digest)
    assert budget.receipt().keys() == {"bucket"}
    assert budget.spent.requests == sum(proxy.counts.values()) >= 20
    if kind != "http":
        assert budget.spent.bytes >= 5_000


def test_packs_and_shared_ledgers_are_on_the_receipt(s3: SeaweedS3, fault_proxy: MakeProxy, tmp_path: Path) -> None:
    proxy = fault_proxy(s3.endpoint_url)
    place = f"s3://{s3.create_bucket()}/"
    raw, other = (S3Raw(s3.admin.session, endpoint_url=proxy.url, price="free") for _ in range(2))
    packs = PackCache(raw, f"{place}packs/", folder=tmp_path / "packs", algorithm="sha1")
    ledger = MissLedger(tmp_path / "misses", share=SharedMisses(other, f"{place}misses/"))
    api = API({DIGESTS[0]: b"x"})
    api.price = "1 USD"
    store = composed(as_cache(packs, "packs"), as_source(RemembersMisses(api, ledger, name="api"), "api"))
    store.budget = Budget("3 USD")
    assert [store.get(DIGESTS[0]), isinstance(_error(store.get, DIGESTS[1]), NotFoundInStore)] == [b"x", True]
    assert store.budget.receipt().keys() >= {"packs", "api", "api/misses"}
    packs.flush()
    sent = sum(proxy.counts.values())  # packs are published by another thread, too: none is sent that is not counted
    assert store.budget.spent.requests >= sent > 0


def test_a_body_into_a_file_ends_where_the_budget_ends_and_resumes(web: CountedAPI, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(30_000_000)
    digest = digest_of(data)
    web.blobs = {digest: data}
    store = priced_server(web.url, "free", Budget(bytes="20MB"))
    error = _error(lambda: store.download(digest, tmp_path / "blob"))
    assert isinstance(cause_of(error), BudgetReached), error
    assert not (tmp_path / "blob").exists()
    first = store.budget
    assert first is not None and first.spent.bytes <= 20_000_000
    store.budget = Budget(bytes="40MB")
    store.download(digest, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == data


def test_a_blob_that_is_larger_than_what_is_left_is_refused_and_not_missing(web: CountedAPI) -> None:
    data = b"x" * 3_000_000
    web.blobs = {digest_of(data): data, **blobs(1, 100)}
    store = priced_server(web.url, "free", Budget(bytes="1MB"))
    assert store.get(next(iter(blobs(1, 100))))
    error = cause_of(_error(store.get, digest_of(data)))
    assert isinstance(error, BudgetReached) and "the budget of 1.0 MB is used up" in str(error)


def test_a_budget_that_could_not_hold_is_refused() -> None:
    class Paid(Shelf):
        paid = True

    unpriced = API({})
    for store, told in (
        (composed(as_source(unpriced, "api")), "api costs money and has no price.*price='0.002 USD'"),
        (composed(as_source(Paid(), "shop")), "shop costs money or quota, and only calls of API sources"),
        (composed(as_source(composed(as_source(Paid(), "in")), "out")), "out/in costs money"),
    ):
        with pytest.raises(ValueError, match=told):
            store.budget = Budget("1 USD")
        assert store.budget is None
    store = composed(budget=Budget("1 USD"))
    with pytest.raises(ValueError, match="has no price"):
        store.append_source(unpriced, name="api")
    assert store.tiers == ()
    euro = API({})
    euro.price = "1 EUR"
    with pytest.raises(ValueError, match="asks for EUR, and the 'budget' budget is in USD"):
        store.append_source(euro)
    with pytest.raises(ValueError, match="exclude each other"):
        composed(Sha1Store(S3Raw(client=object()), "s3://bucket/"), budget=Budget(calls=3))
    for options, told in (
        ({"most": "25"}, "no amount of money"),
        ({"most": "-1 USD"}, "negative"),
        ({"most": 25}, "no currency"),
        ({"calls": 1.5}, "expected a whole number"),
        ({"calls": True}, "expected a whole number"),
        ({"requests": -1}, "at least 0"),
        ({"bytes": "many"}, "not a size"),
        ({"bytes": 5}, "at least 65536"),
        ({"name": " "}, "needs a name"),
    ):
        with pytest.raises((TypeError, ValueError), match=told):
            Budget(**options)


def test_prices_of_another_kind_and_shared_stores_are_counted_as_well(web: CountedAPI) -> None:
    api = API({DIGESTS[0]: b"x"})
    api.price = Price(per_1000_reads="1 USD")
    with pytest.raises(ValueError, match="api costs money and has no price"):
        composed(as_source(api, "api"), budget=Budget("1 USD"))
    raw = HTTPRaw(price="0.01 USD")  # for each request
    here, there = Sha1Store(raw, f"{web.url}/none/"), Sha1Store(raw, f"{web.url}/blob/")
    store = composed(as_source(here, "here"), as_source(there, "there"), budget=Budget("0.2 USD"))
    answers = list(store.get_many([*web.blobs] * 2, in_flight=8, threads=4))
    assert sum(isinstance(cause_of(blob.error), BudgetReached) for blob in answers) >= len(answers) - 10
    assert store.budget is not None and store.budget.receipt().keys() == {"here, there"}
    assert store.budget.spent[:3] == (Money("0.2 USD"), 0, 20) and len(web.requests) == 20
    wrong: Any = "25 USD"
    with pytest.raises(TypeError, match="expected a Budget, such as"):
        store.budget = wrong


def test_a_budget_travels_as_its_configuration_and_is_no_part_of_the_store(tmp_path: Path) -> None:
    source = API({DIGESTS[0]: b"x"})
    source.price = "1 USD"
    store = composed(as_source(source, "api"), as_source(Sha1Store(HTTPRaw(), "http://127.0.0.1:1/"), "web"))
    before = fingerprint(store, paid=False), fingerprint(store)
    store.budget = Budget("3 USD", state=tmp_path / "state")
    assert fingerprint(store, paid=False) == before[0]
    assert fingerprint(store) != before[1]
    assert store.get(DIGESTS[0]) == b"x"
    there = pickle.loads(pickle.dumps(store))
    assert there.budget.spent == store.budget.spent == (Money("1 USD"), 1, 0, 0)
    assert there.get(DIGESTS[0]) == b"x" and copy.copy(store).get(DIGESTS[0]) == b"x"
    assert isinstance(cause_of(_error(there.get, DIGESTS[0])), BudgetReached)
    assert eval(repr(store.budget)).spent.calls == 3
    store.budget = None
    assert store.get(DIGESTS[0]) == b"x"
    source.calls.clear()
    assert fingerprint(store, paid=False) == before[0]


# ------------------------------------------------------------------ a state that is shared


def test_eight_processes_pay_exactly_what_the_budget_allows(timed_api: TimedAPI, tmp_path: Path) -> None:
    state = str(tmp_path / "budget.sqlite")
    work = [(timed_api.url, "1.20 USD", "0.01 USD", state, worker) for worker in range(8)]
    with processes("fork", 8) as pool:
        calls = pool.starmap(pay_until_used_up, work, 1)
    assert sum(calls) == len(timed_api.times) == 120
    assert pay_until_used_up(timed_api.url, "1.20 USD", "0.01 USD", state, 9) == 0  # it outlives them all
    assert pay_until_used_up(timed_api.url, "1.259 USD", "0.01 USD", state, 9) == 5
    assert Budget(state=state).spent == (Money("1.25 USD"), 125, 0, 0)


@pytest.mark.parametrize("bucket", [False, True])
def test_fifty_kills_leave_a_budget_that_was_never_passed(bucket: bool, tmp_path: Path) -> None:
    state, most = str(tmp_path / "budget.sqlite"), "4.5 USD"
    held = blobs(20, 5000)
    dice = random.Random(5)
    kills = 0
    with TimedAPI() as api:
        api.blobs = held if bucket else {}
        round_ = 0
        while kills < 50 and round_ < 30:  # a busy machine uses up the budget before the last kills
            round_ += 1
            work: list[tuple[Any, ...]] = [
                (api.url, list(held), most, EGRESS, state)
                if bucket
                else (api.url, most, "0.01 USD", state, f"{round_}-{number}")
                for number in range(5)
            ]
            kills += kill_at_work(
                api, dice.randrange(5, 30), fetch_until_used_up if bucket else pay_until_used_up, work
            )
        assert kills >= 10
        if bucket:
            fetch_until_used_up(api.url, list(held), most, EGRESS, state)
            assert served(api) <= Money(most)
        else:
            pay_until_used_up(api.url, most, "0.01 USD", state, "last")
            # A process that was killed may have paid for a call that it did not make, and never the reverse.
            assert 450 - kills <= len(api.times) <= 450
        spent = Budget(state=state).spent.money
        assert spent is not None and (served(api) if bucket else Money("0.01 USD") * len(api.times)) <= spent
        assert spent <= Money(most)


def test_a_state_that_cannot_be_read_allows_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"no database " * 1000)
    foreign = tmp_path / "foreign"
    Budget("1 USD", state=foreign).spent  # noqa: B018  # made by looking at it
    with sqlite3.connect(foreign) as file:
        file.execute("INSERT OR REPLACE INTO budget VALUES ('budget', '{\"sources\": 3}')")
    source = API({DIGESTS[0]: b"x"})
    source.price = "0.1 USD"
    for state in (broken, tmp_path, foreign):
        store = composed(as_source(source, "api"), budget=Budget("1 USD", state=state))
        with pytest.raises(LookupFailed, match=f"budget 'budget': its spending cannot be counted in {state}"):
            store.get(DIGESTS[0])
        assert store.budget is not None
        with pytest.raises(StoreNotAvailable, match="cannot be counted"):
            store.budget.receipt()
    assert source.calls == []
    state = tmp_path / "euro"
    euro = API({DIGESTS[0]: b"x"})
    euro.price = "0.1 EUR"
    assert composed(euro, budget=Budget("1 EUR", state=state)).get(DIGESTS[0]) == b"x"
    with pytest.raises(LookupFailed, match="it counts money in EUR, and this process pays in USD"):
        composed(as_source(source, "api"), budget=Budget("1 USD", state=state)).get(DIGESTS[0])
    assert source.calls == []


def test_a_state_that_is_deleted_grants_a_process_that_has_spent_nothing_more(tmp_path: Path) -> None:
    source = API({DIGESTS[0]: b"x"})
    store = composed(as_source(source, "api"), budget=Budget(calls=5, state=tmp_path / "state"))
    assert store.get(DIGESTS[0]) == b"x"
    (tmp_path / "state").unlink()
    with pytest.raises(LookupFailed, match="what it has spent is lost, because its file is gone"):
        store.get(DIGESTS[0])
    assert len(source.calls) == 1 and Budget(calls=5, state=tmp_path / "state").spent.calls == 0
