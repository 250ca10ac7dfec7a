"""One exchange with S3, mended where it can be: another region, fresh or other keys, the right time, each once."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import quote

from bitstore._lookup.retry import Retry, Tally, send
from bitstore._raw.problems import Problem, s3_problem, transfer_problem, unasked, without
from bitstore._raw.s3_credentials import Unusable
from bitstore._raw.s3_routes import Route, Routes
from bitstore.steps import Call, Request, Response, Sink, Steps, TransferError

__all__ = ["REGION", "Asked", "exchange"]

REGION = re.compile(r"[a-z0-9-]{1,40}").fullmatch  # it becomes part of a host name: nothing else may get in


class Asked(NamedTuple):
    """What is asked of a bucket, whoever signs it and wherever it goes."""

    bucket: str
    key: str
    method: str = "GET"
    body: bytes | None = None
    headers: tuple[str, ...] = ()
    want_headers: bool = False
    limit: int | None = None  # of this body, in bytes; None: the profile's; 0: none
    max_blob_size: int | None = None  # for the message when that is exceeded
    sink: Sink | None = None

    def one_byte(self) -> Asked:
        """The same question with an answer that has a body."""
        return self._replace(method="GET", headers=(*self.headers, "Range: bytes=0-0"))

    def fits(self, status: int) -> bool:
        """Whether a success with this status is what was asked for."""
        if self.method != "GET" or status == 200:
            return True
        return status == 206 and (self.sink is not None or any(line.startswith("Range:") for line in self.headers))

    def request(self, route: Route) -> Request:
        """The request, as `route` sends it."""
        return Request(
            route.profile,
            route.prefix + quote(self.key, safe="/~"),
            method=self.method,
            body=self.body,
            headers=self.headers,
            want_headers=self.want_headers,
            max_bytes=self.limit,
            sink=self.sink,
        )


class _Refusals:
    """Credentials that did not help, and why."""

    def __init__(self) -> None:
        self.tried: set[int] = set()
        self.told: list[str] = []
        self.first: Problem | None = None
        self.all_forbidden = True

    def add(self, route: Route, problem: Problem) -> None:
        self.tried.add(route.index)
        self.told.append(f"{route.identity.name}: {problem}")
        self.all_forbidden = self.all_forbidden and problem.forbidden
        self.first = self.first or problem

    def add_unusable(self, route: Route, error: Unusable) -> None:
        self.tried.add(route.index)
        self.told.append(str(error))

    def problem(self) -> Problem:
        """What they come to."""
        if self.first is None:  # not one request could be sent
            # Refused, as far as others are concerned: asking again will not help, and the service is not to blame.
            return Problem(message="; ".join(self.told) or "its list of credentials is empty", refused=True)
        if len(self.told) > 1:
            self.first.message = f"no credentials were let in: {'; '.join(self.told)}"
        self.first.forbidden = self.all_forbidden
        return self.first


def exchange(
    routes: Routes, asked: Asked, retry: Retry, tally: Tally, first: tuple[Route, Response] | None = None
) -> Steps[Response | Problem]:
    """Ask until there is an answer that no remedy can better.

    Parameters
    ----------
    routes
        What this process knows of the buckets, and learns here.
    asked
        The question.
    retry, tally
        For each request.
    first
        An answer that has come already, and its route.
    """
    route, response = first if first is not None else (routes.remembered.get(asked.bucket), None)
    refusals = _Refusals()
    mended: set[object] = set()
    while True:
        if route is None:
            route, reasons = yield Call(routes.choose, asked.bucket, refusals.tried)
            if route is None:
                refusals.told += reasons
                return refusals.problem()
        if response is None:
            if route.fresh_until <= time.monotonic():
                try:
                    yield Call(routes.refresh, route)
                except Unusable as error:
                    refusals.add_unusable(route, error)
                    route = None
                    continue
            try:
                response = yield from send(asked.request(route), retry, tally)
            except TransferError as error:
                if error.status in (200, 206):
                    routes.remembered[asked.bucket] = route  # it was let in
                return _scrubbed(transfer_problem(error, asked.max_blob_size), route)
        if 200 <= response.status < 300:
            routes.remembered[asked.bucket] = route
            return response if asked.fits(response.status) else unasked(response.status)
        if asked.method == "HEAD":
            # Somebody else on the way, a proxy say, answers in HTML: then the body must tell.
            if response.status == 404 and "html" not in response.headers.get("content-type", ""):
                routes.remembered[asked.bucket] = route
                return Problem(404, message="Not Found", missing=True)
            # Such an answer has no body to tell what is wrong.
            asked, response = asked.one_byte(), None
            continue
        problem = _scrubbed(s3_problem(response), route)
        response = None
        mend = yield from _mend(routes, route, problem, mended, retry, tally)
        if mend is not None:
            route = mend
        elif problem.refused:
            refusals.add(route, problem)
            route = None
        else:
            routes.remembered[asked.bucket] = route  # it was let in: that there is no blob is another matter
            return problem


def _mend(
    routes: Routes, route: Route, problem: Problem, mended: set[object], retry: Retry, tally: Tally
) -> Steps[Route | None]:
    """A route by which the same question may get a better answer."""
    if problem.elsewhere and "region" not in mended:
        mended.add("region")
        region = problem.region or (yield from _region_of(route, retry, tally))
        if region is not None and region != route.region and REGION(region):
            moved: Route = yield Call(routes.moved, route, region)
            return moved
    if problem.code == "RequestTimeTooSkewed" and "clock" not in mended:
        mended.add("clock")
        seconds = yield from _ahead(route, retry, tally)
        if seconds is not None:
            corrected: Route = yield Call(routes.corrected, route, seconds)
            return corrected
    if problem.code == "RequestTimeout" and problem.code not in mended:
        mended.add(problem.code)  # the service tired of waiting for bytes: transient, though its status is 400
        return route
    if problem.expired and ("expired", route.index) not in mended:
        mended.add(("expired", route.index))
        try:
            renewed: Route | None = yield Call(routes.renewed, route)
        except Unusable as error:
            problem.message += f" ({error})"
        else:
            return renewed
    return None


def _region_of(route: Route, retry: Retry, tally: Tally) -> Steps[str | None]:
    """The region of the bucket, from the header that answers about it carry whatever their status."""
    request = Request(route.profile, route.prefix.rstrip("/"), method="HEAD", want_headers=True)
    try:
        response: Response = yield from send(request, retry, tally)
    except TransferError:
        return None  # the answer that led here is then the one that is reported
    return response.headers.get("x-amz-bucket-region")


def _ahead(route: Route, retry: Retry, tally: Tally) -> Steps[float | None]:
    """Seconds by which the clock of the service is ahead of ours, from the `Date` of an answer, whatever its status."""
    request = Request(route.profile, route.prefix.rstrip("/"), method="HEAD", want_headers=True)
    try:
        response: Response = yield from send(request, retry, tally)
        return parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
    except (TransferError, LookupError, ValueError, TypeError):  # no answer, no date, or one that is none
        return None  # the answer that led here is then the one that is reported


def _scrubbed(problem: Problem, route: Route) -> Problem:
    problem.message = without(problem.message, route.secrets)
    return problem
