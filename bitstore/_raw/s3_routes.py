"""Where the requests for a bucket go and who signs them: what one process knows of S3."""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Callable, Collection
from urllib.parse import quote

from bitstore._raw.s3_credentials import Entry, Identity, Keys, Unusable
from bitstore._raw.s3_signing import Signer
from bitstore.steps import Profile

__all__ = ["Route", "Routes"]

# What a virtual-hosted name may be: no dots (they break TLS), no upper case, no underscore.
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
# libcurl leaves it out of the `Host` that it sends, and what is signed must be what is sent.
_USUAL_PORT = re.compile(r"(?<=^http:)(//[^/]+):80(?=/|$)|(?<=^https:)(//[^/]+):443(?=/|$)")
_AWS = re.compile(r"(https?://)(s3(?:-fips)?)((?:\.dualstack)?)(?:\.([a-z0-9-]+))?(\.amazonaws\.com(?:\.cn)?)")


class Route:
    """One bucket, reached with one entry of the credentials.

    Attributes
    ----------
    prefix
        The URL of the bucket with its last slash; the percent-encoded key is appended.
    profile
        Of its requests.
    fresh_until
        `time.monotonic()` from which on `Routes.refresh` must look at the keys again.
    """

    __slots__ = (
        "bucket",
        "fresh_until",
        "identity",
        "index",
        "keys",
        "prefix",
        "profile",
        "region",
    )

    def __init__(self, bucket: str, index: int, identity: Identity, region: str) -> None:
        self.bucket = bucket
        self.index = index
        self.identity = identity
        self.region = region
        self.prefix = _prefix(bucket, region, identity)
        self.keys: Keys | None = None
        self.profile = Profile()
        self.fresh_until = float("-inf")

    def url(self, key: str) -> str:
        """The address of an object."""
        return self.prefix + quote(key, safe="/~")

    @property
    def secrets(self) -> tuple[str | None, ...]:
        """What must not appear in a message."""
        return () if self.keys is None else (self.keys.secret_key, self.keys.token)


class Routes:
    """The routes of one store in one process.

    Reading `remembered` needs no lock; everything else blocks and belongs in a `Call`. The lock also keeps
    boto3 from making two sessions at once, which it cannot do safely.
    """

    def __init__(
        self, entries: Collection[Entry], make_profile: Callable[..., Profile], headers: tuple[str, ...]
    ) -> None:
        self.remembered: dict[str, Route] = {}  # per bucket, the route that worked
        self._entries = list(entries)
        self._make_profile = make_profile
        self._headers = headers
        self._regions: dict[str, str] = {}
        self._known: dict[tuple[str, int], Route] = {}
        # Handles, and with them connections, are kept per profile: buckets of one region share theirs.
        self._profiles: dict[tuple[Keys | None, str], Profile] = {}
        self._signers: weakref.WeakSet[Signer] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._skew = 0.0  # of the clock: what one bucket has taught holds for all of the service

    def choose(self, bucket: str, tried: Collection[int] = ()) -> tuple[Route | None, list[str]]:
        """A fresh route with the first entry outside `tried`, and why entries before it are unusable."""
        reasons: list[str] = []
        with self._lock:
            for index in range(len(self._entries)):
                if index in tried:
                    continue
                try:
                    return self._route(bucket, index), reasons
                except Unusable as refusal:
                    reasons.append(str(refusal))
        return None, reasons

    def refresh(self, route: Route) -> None:
        """Look at the keys of `route` again. Raises `Unusable`."""
        with self._lock:
            if route.fresh_until <= time.monotonic():
                self._refresh(route)

    def moved(self, route: Route, region: str) -> Route:
        """The route to the same bucket in `region`, which is remembered."""
        with self._lock:
            self._regions[route.bucket] = region
            return self._route(route.bucket, route.index)

    def corrected(self, route: Route, seconds: float) -> Route:
        """The same route, with signatures from now on dated `seconds` later than by the local clock."""
        with self._lock:
            self._skew = seconds
            for signer in self._signers:
                signer.skew = seconds
        return route

    def renewed(self, route: Route) -> Route | None:
        """The same route with credentials built anew; None where that was just done and did not help."""
        with self._lock:
            if not self._entries[route.index].renew(route.identity):
                return None
            return self._route(route.bucket, route.index)

    def _route(self, bucket: str, index: int) -> Route:
        identity = self._entries[index].identity()
        region = self._regions.get(bucket, identity.region)
        route = self._known.get((bucket, index))
        if route is None or route.identity is not identity or route.region != region:
            route = Route(bucket, index, identity, region)
            self._refresh(route)
            self._known[bucket, index] = route
        elif route.fresh_until <= time.monotonic():
            self._refresh(route)
        return route

    def _refresh(self, route: Route) -> None:
        keys, seconds = route.identity.keys()
        profile = self._profiles.get((keys, route.region))
        if profile is None:
            profile = self._signed(keys, route.region)
            if keys != route.keys:
                self._profiles.pop((route.keys, route.region), None)
            self._profiles[keys, route.region] = profile
        route.keys = keys
        route.profile = profile
        route.fresh_until = time.monotonic() + seconds

    def _signed(self, keys: Keys | None, region: str) -> Profile:
        if keys is None:
            return self._make_profile(headers=self._headers)
        signer = Signer(
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            token=keys.token,
            region=region,
            headers=self._headers,
            skew=self._skew,
        )
        self._signers.add(signer)
        return self._make_profile(signer=signer)


def _prefix(bucket: str, region: str, identity: Identity) -> str:
    address = _USUAL_PORT.sub(lambda match: match[1] or match[2], identity.endpoint)
    aws = _AWS.fullmatch(address)
    if aws is not None and region != aws[4]:
        # A learned region, or the global name, which would answer with redirects for other regions.
        address = f"{aws[1]}{aws[2]}{aws[3]}.{region}{aws[5]}"
    wanted = identity.addressing_style == "virtual" or (identity.addressing_style == "auto" and aws is not None)
    if wanted and _HOST_LABEL.fullmatch(bucket):
        scheme, rest = address.split("://", 1)
        return f"{scheme}://{bucket}.{rest}/"
    return f"{address}/{bucket}/"
