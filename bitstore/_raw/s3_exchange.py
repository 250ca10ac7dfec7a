"""One exchange with S3, mended where it can be: another region, fresh or other keys, the right time, each once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from bitstore._lookup.retry import Retry
from bitstore._raw.asked import Asked
from bitstore._raw.credentials import Unusable, obtained
from bitstore._raw.meanings import s3_problem
from bitstore._raw.problems import Problem, archive_problem, unasked, without, without_credentials
from bitstore._raw.s3_routes import Route, Routes
from bitstore.steps import Call, Request, Response, Steps

__all__ = ["REGION", "exchange"]

# Sends one request, with all retries.
Send: TypeAlias = Callable[[Asked, Request], Steps["Response | Problem"]]

REGION = re.compile(r"[a-z0-9-]{1,40}").fullmatch  # it becomes part of a host name: nothing else may get in


# Kinds of buckets with addresses of their own, by the end of their names:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_SPECIAL = {
    "--x-s3": "a directory bucket (S3 Express One Zone)",
    "--ol-s3": "an alias of an Object Lambda access point",
    "--op-s3": "an alias of an access point on Outposts",
    "--table-s3": "a table bucket",
    ".mrap": "a multi-region access point",
}


def _special(bucket: str) -> str | None:
    return next((kind for end, kind in _SPECIAL.items() if bucket.endswith(end)), None)


class _Refusals:
    """Credentials that did not help, and why."""

    def __init__(self) -> None:
        self.tried: set[int] = set()
        self.told: list[str] = []
        self.first: Problem | None = None
        self.all_forbidden = True
        self.outage = False  # whether some of them may be let in, and cannot be had now

    def add(self, route: Route, problem: Problem) -> None:
        self.tried.add(route.index)
        self.told.append(f"{route.identity.name}: {problem}")
        self.all_forbidden = self.all_forbidden and problem.forbidden
        self.first = self.first or problem

    def add_unusable(self, error: Unusable) -> None:
        self.told.append(str(error))
        self.outage = self.outage or error.outage

    def problem(self) -> Problem:
        """What they come to."""
        if self.first is None:  # not one request could be sent
            # Refused, as far as others are concerned: asking again will not help, and the service is not to blame.
            problem = Problem(message="; ".join(self.told) or "its list of credentials is empty", refused=True)
        else:
            problem = self.first
            if len(self.told) > 1:
                problem.message = f"no credentials were let in: {'; '.join(self.told)}"
            problem.forbidden = self.all_forbidden
        return without_credentials(problem) if self.outage else problem


def exchange(
    routes: Routes, asked: Asked, send: Send, retry: Retry, first: tuple[Route, Response] | None = None
) -> Steps[Response | Problem]:
    """Ask until there is an answer that no remedy can better.

    Parameters
    ----------
    routes
        Which credentials, region and address to use, and what was learned about them.
    asked
        The question.
    send
        Sends one request, with all retries.
    retry
        How often and how long credentials are asked for while what gives them is out.
    first
        The answer to this question that the caller has already, and the route by which it came.
    """
    response: Response | Problem | None
    route, response = first if first is not None else (routes.remembered.get(asked.place[0]), None)
    bucket, key = asked.place
    refusals = _Refusals()
    mended: set[object] = set()
    while True:
        if route is None:
            unusable: list[Unusable]
            try:
                route, unusable = yield from obtained(retry, routes.choose, bucket, refusals.tried)
            except Unusable as error:
                route, unusable = None, [error]
            if route is None or any(each.outage for each in unusable):
                for each in unusable:
                    refusals.add_unusable(each)
            if route is None:
                return refusals.problem()
        if ".amazonaws.com" in route.prefix and (kind := _special(bucket)) is not None:
            return Problem(
                message=f"'{bucket}' is {kind}, which the address {route.prefix} cannot serve", unservable=True
            )
        if response is None:
            if route.fresh_until <= time.monotonic():
                try:
                    yield from obtained(retry, routes.refresh, route)
                except Unusable as error:
                    refusals.tried.add(route.index)
                    refusals.add_unusable(error)
                    route = None
                    continue
            checksums = route.identity.service.checksums if routes.checksums is None else routes.checksums
            question = asked if checksums else _plainly(asked)
            url = f"{route.url(key)}?{asked.query}" if asked.query else route.url(key)
            response = yield from send(asked, question.request(route.profile, url))
            if isinstance(response, Problem):
                if response.cut in (200, 206):
                    routes.remembered[bucket] = route  # it was let in
                return _scrubbed(response, route)
        if 200 <= response.status < 300:
            routes.remembered[bucket] = route
            if asked.fits(response.status):
                return (archive_problem(response.headers) if asked.method == "HEAD" else None) or response
            if asked.method != "HEAD":
                return unasked(response.status)
        if asked.method == "HEAD":
            # Such an answer has no body to tell what is wrong. A 404 may mean that the bucket is gone, or come from a
            # proxy: no absence is taken from it, however lately the bucket was there.
            asked, response = asked.one_byte(), None
            continue
        problem = _scrubbed(s3_problem(response), route)
        response = None
        mend = yield from _mend(routes, route, problem, mended, send, refusals, retry)
        if mend is not None:
            route = mend
        elif problem.refused:
            refusals.add(route, problem)
            route = None
        else:
            routes.remembered[bucket] = route  # it was let in: that there is no blob is another matter
            if route.doubt and problem.missing and (yield from _is_bucket(route, send)):
                route.doubt = ""
            return _doubted(problem, route)


def _mend(
    routes: Routes, route: Route, problem: Problem, mended: set[object], send: Send, refusals: _Refusals, retry: Retry
) -> Steps[Route | None]:
    """A route by which the same question may get a better answer."""
    if problem.elsewhere and "region" not in mended:
        mended.add("region")
        region = problem.region or (yield from _heads(route, send)).get("x-amz-bucket-region")
        if region is not None and region != route.region and REGION(region):
            moved: Route = yield Call(routes.moved, route, region)
            return moved
    if problem.code == "RequestTimeTooSkewed" and "clock" not in mended:
        mended.add("clock")
        try:
            date = parsedate_to_datetime((yield from _heads(route, send))["date"])
        except (LookupError, ValueError, TypeError):
            pass  # no date, or an invalid one
        else:
            corrected: Route = yield Call(routes.corrected, route, date.timestamp() - time.time())
            return corrected
    if problem.code == "RequestTimeout" and problem.code not in mended:
        mended.add(problem.code)  # the service tired of waiting for bytes: transient, though its status is 400
        return route
    if problem.expired and ("expired", route.index) not in mended:
        mended.add(("expired", route.index))
        try:
            renewed: Route | None = yield from obtained(retry, routes.renewed, route)
        except Unusable as error:
            problem.message += f" ({error})"
            refusals.outage = refusals.outage or error.outage
        else:
            return renewed
    return None


def _is_bucket(route: Route, send: Send) -> Steps[bool]:
    """Whether the address of the bucket leads to a bucket, and not to an object called like one.

    An endpoint that ends in the bucket's name leads to the bucket itself where it is a slip: below it there is then an
    object of that name, or none. What has an ETag or a date is an object.
    """
    headers = yield from _heads(route, send, found=True)
    return bool(headers) and not ({"etag", "last-modified"} & headers.keys())


def _heads(route: Route, send: Send, *, found: bool = False) -> Steps[Mapping[str, str]]:
    """The headers of an answer about the bucket; none where none came, or with `found` none of success.

    They name the region of the bucket, and the time of the service. Without them the answer that led here is reported.
    """
    asked = Asked((route.bucket, ""), "HEAD", want_headers=True)
    response = yield from send(asked, asked.request(route.profile, route.prefix.rstrip("/")))
    return {} if isinstance(response, Problem) or (found and response.status != 200) else response.headers


def _plainly(asked: Asked) -> Asked:
    """`asked` without the checksum, which the configuration wants only where it is required."""
    return asked._replace(headers=tuple(line for line in asked.headers if not line.startswith("x-amz-checksum-")))


def _doubted(problem: Problem, route: Route) -> Problem:
    """`problem` as it counts where the address itself looks wrong: what is missing there may be in the bucket."""
    if route.doubt and (problem.missing or problem.no_bucket):
        problem.missing = False
        problem.message += f" ({route.doubt})"
    return problem


def _scrubbed(problem: Problem, route: Route) -> Problem:
    problem.message = without(problem.message, route.secrets)
    return problem
