"""Signature Version 4.

Protocol: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

libcurl can sign too, but takes twice the time for it (it derives the key again for each request), knows only the local
clock, and cannot send the path as it is (keys with `.` or `..` segments).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from hmac import digest as hmac
from typing import NamedTuple

__all__ = ["Moment", "Signer"]

_ALGORITHM = "AWS4-HMAC-SHA256"
_PAYLOAD = "x-amz-content-sha256"
_UNSIGNED = "UNSIGNED-PAYLOAD"


class Moment(NamedTuple):
    """What all requests of one second have in common.

    Attributes
    ----------
    second
        Since 1970, by the clock of the service.
    key
        Signs; derived from the secret for the day, the region and the service.
    date, scope
        As the protocol writes them.
    canonical
        What follows the host in the canonical form of a GET that has no headers of its own.
    text
        What stands before the hash of the canonical form in the text that is signed.
    authorization
        That header, up to the signature, for such a GET.
    lines
        The other headers of such a GET.
    """

    second: int
    key: bytes
    date: str
    scope: str
    canonical: str
    text: str
    authorization: str
    lines: tuple[str, ...]


class Signer:
    """Signs requests with one key pair, for one region.

    Parameters
    ----------
    access_key, secret_key, token
        The credentials that sign; only temporary ones have a token.
    region
        Where the bucket is.
    headers
        Lines `"name: value"` that every request carries.
    skew
        Seconds by which the clock of the service is ahead of ours; may be changed at any time.
    """

    def __init__(
        self, *, access_key: str, secret_key: str, token: str | None, region: str, headers: Sequence[str], skew: float
    ) -> None:
        self.skew = skew
        self._access_key = access_key
        self._secret = f"AWS4{secret_key}".encode()
        self._region = region
        self._headers = (*headers, f"x-amz-security-token: {token}") if token else tuple(headers)
        self._now = self._moment(0)

    def moment(self) -> Moment:
        """What all requests have in common that are sent in this second."""
        # One reference to what is of a second: another thread may put the next one in its place meanwhile.
        now = self._now
        second = int(time.time() + self.skew)
        if now.second != second:
            now = self._now = self._moment(second)
        return now

    def lines(self, method: str, url: str, headers: Sequence[str]) -> list[str]:
        """All header lines of a request, those that sign it among them.

        Parameters
        ----------
        method, url
            Of the request; its path percent-encoded as it goes out, and its query too, in the order of its names.
        headers
            Its own lines `"Name: value"`. All are signed. Without one that tells the hash of its body
            (`x-amz-content-sha256`), the body is not signed.
        """
        now = self.moment()
        host_at = url.index("//") + 2
        path_at = url.find("/", host_at)
        host, path = (url[host_at:path_at], url[path_at:]) if path_at > 0 else (url[host_at:], "/")
        if headers or method != "GET" or "?" in path:
            return self._other(now, method, host, path, headers)
        canonical = f"GET\n{path}\n\nhost:{host}{now.canonical}"
        text = now.text + sha256(canonical.encode()).hexdigest()
        return [now.authorization + hmac(now.key, text.encode(), "sha256").hex(), *now.lines]

    def _other(self, now: Moment, method: str, host: str, path: str, headers: Sequence[str]) -> list[str]:
        lines = self._all(now.date, headers)
        names, pairs, payload = _canonical(lines, host)
        path, _, query = path.partition("?")
        canonical = f"{method}\n{path}\n{query}\n{pairs}\n\n{names}\n{payload}"
        text = now.text + sha256(canonical.encode()).hexdigest()
        return [self._authorization(now.scope, names) + hmac(now.key, text.encode(), "sha256").hex(), *lines]

    def _moment(self, second: int) -> Moment:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{date[:8]}/{self._region}/s3/aws4_request"
        key = self._secret
        for part in scope.split("/"):
            key = hmac(key, part.encode(), "sha256")
        lines = self._all(date, ())
        names, pairs, payload = _canonical(lines, "")
        assert pairs.startswith("host:")  # sorts before all that begin with x-amz-, so the real host can stand there
        return Moment(
            second,
            key,
            date,
            scope,
            f"{pairs.removeprefix('host:')}\n\n{names}\n{payload}",
            f"{_ALGORITHM}\n{date}\n{scope}\n",
            self._authorization(scope, names),
            tuple(lines),
        )

    def _all(self, date: str, headers: Sequence[str]) -> list[str]:
        lines = [*self._headers, *headers, f"x-amz-date: {date}"]
        if not any(line.startswith(_PAYLOAD) for line in lines):
            lines.append(f"{_PAYLOAD}: {_UNSIGNED}")
        return lines

    def _authorization(self, scope: str, names: str) -> str:
        return f"Authorization: {_ALGORITHM} Credential={self._access_key}/{scope}, SignedHeaders={names}, Signature="


def _canonical(lines: Sequence[str], host: str) -> tuple[str, str, str]:
    """Names, pairs and the hash of the body, as the canonical form of a request has them."""
    pairs = sorted([("host", host), *map(_pair, lines)])
    payload = next(value for name, value in pairs if name == _PAYLOAD)
    return ";".join(name for name, _ in pairs), "\n".join(f"{name}:{value}" for name, value in pairs), payload


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), " ".join(value.split())
