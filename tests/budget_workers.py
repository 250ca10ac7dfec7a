"""What processes that pay from one budget do, in a module that others can import."""

from __future__ import annotations

from bitstore import Budget, HTTPRaw, LookupFailed, Sha1Composite, Sha1Store
from bitstore.errors import BudgetReached
from tests.limit_workers import LimitedAPI, digest_of
from tests.stores import as_source, composed

__all__ = ["cause_of", "fetch_until_used_up", "pay_until_used_up", "priced_api", "priced_server"]


def cause_of(error: BaseException | None) -> BaseException | None:
    """What the first tier said that failed."""
    return error.failures[0][1] if isinstance(error, LookupFailed) else error


def priced_api(url: str, price: str, budget: Budget) -> Sha1Composite:
    """The counted API as the only source."""
    return composed(as_source(LimitedAPI(url, None, price=price), "api"), budget=budget)


def priced_server(url: str, price: object, budget: Budget, **options: object) -> Sha1Composite:
    """The counted API as a plain web server."""
    raw = HTTPRaw(price=price, **options)  # type: ignore[arg-type]
    return composed(as_source(Sha1Store(raw, f"{url}/blob/"), "web"), budget=budget)


def pay_until_used_up(url: str, most: str, price: str, state: str, worker: object) -> int:
    """Call one blob after another until the budget is used up; returns how many calls were answered."""
    store = priced_api(url, price, Budget(most, state=state))
    for number in range(10_000):
        try:
            store.get(digest_of(f"{worker} {number}".encode()))
        except FileNotFoundError:
            continue
        except LookupFailed as error:
            if isinstance(cause_of(error), BudgetReached):
                return number
            raise
    raise AssertionError("the budget was never used up")


def fetch_until_used_up(url: str, digests: list[str], most: str, price: object, state: str) -> int:
    """Fetch `digests` again and again, many at once, until the budget is used up; returns how many came."""
    store = priced_server(url, price, Budget(most, state=state), max_blob_size="64KiB")
    came = 0
    for _ in range(1000):
        for blob in store.get_many(digests, in_flight=8):
            if isinstance(cause_of(blob.error), BudgetReached):
                return came
            assert blob.error is None, blob.error
            came += 1
    raise AssertionError("the budget was never used up")
