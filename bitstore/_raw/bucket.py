"""Raw stores of buckets: services that list what lies under a prefix, asked by us or by a client of the caller."""

from __future__ import annotations

import pickle
from abc import abstractmethod
from typing import Any, TypeVar

from bitstore._raw.asked import Asked
from bitstore._raw.listing import Listing
from bitstore._raw.problems import Problem
from bitstore._raw.wire import WireStore
from bitstore.errors import StoreNotAvailable
from bitstore.steps import Steps

__all__ = ["BucketStore"]

_LONGEST_PAGE = 32 * 1024 * 1024  # bytes of a page of a listing

S = TypeVar("S")


class BucketStore(WireStore[S]):
    """Objects of buckets. A subclass has an option `client`."""

    def _options_changed(self) -> None:
        if self.client is not None and self.limit is not None:
            raise ValueError("limit and client exclude each other: the requests of a client cannot be counted")
        if self.client is not None and self._till is not None:
            raise ValueError("a budget and client exclude each other: the requests of a client cannot be counted")
        super()._options_changed()

    def pay_from(self, budget: Any, name: str) -> None:
        if budget is not None and self.client is not None:
            raise ValueError(f"{name}: a budget and client exclude each other: its requests cannot be counted")
        super().pay_from(budget, name)

    # ------------------------------------------------------------------ listing

    @abstractmethod
    def _list_query(self, prefix: str, *, one_level: bool, most: int, after: str | None, beyond: str | None) -> str:
        """The query that asks for a page; `beyond` is a key."""

    @abstractmethod
    def _page(self, body: bytes, bucket: str) -> Listing | None:
        """The page that an answer holds; None: it is something else, or is cut and does not say how to go on."""

    def list_steps(
        self,
        uri: str,
        *,
        one_level: bool = False,
        most: int = 1000,
        after: str | None = None,
        beyond: str | None = None,
    ) -> Steps[Listing]:
        bucket, prefix = self._prefix(uri)
        start = None if beyond is None else self._prefix(beyond)[1]
        query = self._list_query(prefix, one_level=one_level, most=most, after=after, beyond=start)
        if self.client is not None:
            raise StoreNotAvailable(self, f"LIST {uri}: the store lists only by itself, not with client=")
        answer = yield from self._ask(Asked((bucket, ""), query=query, want_headers=True, limit=_LONGEST_PAGE))
        if isinstance(answer, Problem):
            self._fail(f"LIST {uri}", answer)
        page = self._page(answer.body, bucket)
        if page is None:
            self._fail(
                f"LIST {uri}",
                Problem(answer.status, message="the answer is no listing, or is cut and names no next page"),
            )
        return page

    def _prefix(self, uri: str) -> tuple[str, str]:
        """Bucket and prefix of what is listed; the prefix may be empty."""
        bucket, key = self._place(f"{uri}-")
        return bucket, key[:-1]

    # ------------------------------------------------------------------ a client of the caller

    def __getstate__(self) -> dict[str, Any]:
        if self.client is not None:
            _check_pickles(self, self.client)
        return super().__getstate__()

    def _shown_facts(self) -> dict[str, Any]:
        facts = {} if self.client is None else {"client": f"a {type(self.client).__name__} of the caller"}
        return {**facts, **super()._shown_facts()}

    def _shown_arguments(self) -> list[str]:
        client = [] if self.client is None else [f"client=<{type(self.client).__name__}>"]
        return [*client, *super()._shown_arguments()]


def _check_pickles(store: BucketStore[Any], client: object) -> None:
    try:
        pickle.dumps(client)
    except Exception as error:  # clients fail to pickle in many ways (locks, sockets, closures): all mean the same
        raise TypeError(
            f"{type(store).__name__} cannot be pickled: its attribute 'client' holds a {type(client).__name__}, "
            "which does not pickle. Give it credentials and options instead of a client"
        ) from error
