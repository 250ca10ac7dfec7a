"""Where the requests for a bucket go and with which keys they are signed: what one process knows of S3."""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Callable, Collection
from urllib.parse import quote

from bitstore._raw.credentials import Unusable
from bitstore._raw.features import WriteFeatures
from bitstore._raw.s3_credentials import Entry, Identity
from bitstore._raw.s3_environment import Keys, Service
from bitstore._raw.s3_signing import Signer
from bitstore.steps import Profile

__all__ = ["Route", "Routes"]

# What a virtual-hosted name may be: no upper case, no underscore, and dots only where no TLS is broken by them.
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]").fullmatch
_HOST_LABELS = re.compile(r"(?![0-9.]+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]").fullmatch
# libcurl leaves it out of the `Host` that it sends, and what is signed must be what is sent.
_USUAL_PORT = re.compile(r"(?<=^http:)(//[^/]+):80(?=/|$)|(?<=^https:)(//[^/]+):443(?=/|$)")
_AWS = re.compile(
    r"(https?://)(s3(?:-fips)?)((?:\.dualstack)?)(?:\.([a-z0-9-]+))?(\.amazonaws\.com(?:\.cn)?)"
).fullmatch
_ACCELERATED = re.compile(r"https?://s3-accelerate((?:\.dualstack)?)\.amazonaws\.com").fullmatch
# Hosts that serve all buckets of an account or a region, and those of single buckets below them.
_SERVICE = re.compile(r"s3[.-]|[0-9a-f]{32}\.(?:[a-z]+\.)?r2\.|[a-z0-9]+\.digitaloceanspaces\.").match


class Route:
    """One bucket, reached with one entry of the credentials. Raises `Unusable` where its service has no such bucket."""

    __slots__ = ("bucket", "doubt", "fresh_until", "identity", "index", "keys", "prefix", "profile", "region")

    def __init__(self, bucket: str, index: int, identity: Identity, region: str) -> None:
        self.bucket = bucket
        self.index = index  # of the entry
        self.identity = identity
        self.region = region
        self.prefix = _prefix(bucket, region, identity.service)  # URL of the bucket with its last slash, for a key
        self.doubt = _doubt(bucket, identity.service.endpoint)  # why the address looks wrong; empty: it does not
        self.keys: Keys | None = None
        self.profile = Profile()  # of its requests
        self.fresh_until = float("-inf")  # on time.monotonic(): then `Routes.refresh` must look at the keys again

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
        self.remembered: dict[str, Route] = {}  # by bucket: the route that worked
        self.features = WriteFeatures()
        self.checksums: bool | None = None  # whether writes carry one; None: as the identity's configuration says
        self._entries = list(entries)
        self._make_profile = make_profile
        self._headers = headers
        self._regions: dict[str, str] = {}
        self._known: dict[tuple[str, int], Route] = {}
        # By keys, region and authorities. Connections are kept per profile: buckets of one region share theirs.
        self._profiles: dict[tuple[Keys | None, str, str | None], Profile] = {}
        self._signers: weakref.WeakSet[Signer] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._skew = 0.0  # of the clock: what one bucket has taught holds for all of the service

    def choose(self, bucket: str, tried: Collection[int] = ()) -> tuple[Route | None, list[Unusable]]:
        """A fresh route with the first usable entry outside `tried`, and why entries before it are unusable.

        Raises `Unusable` where all are unusable, and at least one for an outage only.
        """
        unusable: list[Unusable] = []
        with self._lock:
            for index in range(len(self._entries)):
                if index in tried:
                    continue
                try:
                    return self._route(bucket, index), unusable
                except Unusable as refusal:
                    unusable.append(refusal)
        if any(refusal.outage for refusal in unusable):
            raise Unusable("; ".join(map(str, unusable)), outage=True) from unusable[0].__cause__
        return None, unusable

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
        """The route, with signatures from now on dated `seconds` later than by the local clock."""
        with self._lock:
            self._skew = seconds
            for signer in self._signers:
                signer.skew = seconds
        return route

    def renewed(self, route: Route) -> Route | None:
        """The route with credentials built again; None where that was just done and did not help."""
        with self._lock:
            if not self._entries[route.index].renew(route.identity):
                return None
            return self._route(route.bucket, route.index)

    def _route(self, bucket: str, index: int) -> Route:
        identity = self._entries[index].identity()
        region = self._regions.get(bucket, identity.service.region)
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
        bundle = route.identity.service.ca_bundle
        profile = self._profiles.get((keys, route.region, bundle))
        if profile is None:
            profile = self._signed(keys, route.region, bundle)
            if keys != route.keys:
                self._profiles.pop((route.keys, route.region, bundle), None)
            self._profiles[keys, route.region, bundle] = profile
        route.keys = keys
        route.profile = profile
        route.fresh_until = time.monotonic() + seconds

    def _signed(self, keys: Keys | None, region: str, bundle: str | None) -> Profile:
        if keys is None:
            return self._make_profile(headers=self._headers, ca_bundle=bundle)
        signer = Signer(
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            token=keys.token,
            region=region,
            headers=self._headers,
            skew=self._skew,
        )
        self._signers.add(signer)
        return self._make_profile(signer=signer, ca_bundle=bundle)


def _prefix(bucket: str, region: str, service: Service) -> str:
    address = _USUAL_PORT.sub(lambda match: match[1] or match[2], service.endpoint)
    aws, accelerated = _AWS(address), _ACCELERATED(address)
    if accelerated is None and service.accelerate:
        # As in boto3 there is no silent way round: a bucket that is reached otherwise is not what was asked for.
        if aws is None or aws[5] != ".amazonaws.com" or "-fips" in aws[2]:
            raise Unusable(f"use_accelerate_endpoint cannot be combined with {address}")
        if not _HOST_LABEL(bucket):
            raise Unusable(f"use_accelerate_endpoint: the name of bucket {bucket!r} fits no host name")
        return f"{aws[1]}{bucket}.s3-accelerate{aws[3]}.amazonaws.com/"
    if aws is not None and region != aws[4]:
        # A learned region, or the global name, which would answer with redirects for other regions.
        address = f"{aws[1]}{aws[2]}{aws[3]}.{region}{aws[5]}"
    known = aws is not None or accelerated is not None
    wanted = service.addressing_style == "virtual" or (service.addressing_style == "auto" and known)
    fits = _HOST_LABEL if address.startswith("https:") else _HOST_LABELS
    if wanted and fits(bucket):
        scheme, rest = address.split("://", 1)
        return f"{scheme}://{bucket}.{rest}/"
    return f"{address}/{bucket}/"


def _doubt(bucket: str, endpoint: str) -> str:
    """What is wrong with an endpoint that holds the bucket's name, as consoles of R2, Spaces and MinIO show it."""
    host, _, path = endpoint.partition("://")[2].partition("/")
    if path.rpartition("/")[2] == bucket:
        return f"endpoint_url {endpoint} ends in the name of the bucket, which is added to it: leave /{bucket} out"
    if host.startswith(f"{bucket}.") and _SERVICE(host, len(bucket) + 1):
        return f"endpoint_url {endpoint} begins with the name of the bucket, which is added to it: leave {bucket}. out"
    return ""
