"""A body that was cut on its way: what has come of it, and the request for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bitstore.steps import Request, Response, TransferError

__all__ = ["LEAST_GAIN", "Cut", "gets_on"]

# Bytes that make it worth all tries again when a body was cut, or of a small blob this part of it: a server that gives
# a byte at each try, or always the same first ones, must not keep a lookup for ever.
LEAST_GAIN = 4096
_LEAST_PART = 16
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch


def gets_on(gained: int, here: int, total: int | None) -> bool:
    """Whether a body that was cut again has come far enough to begin the count of tries again.

    Parameters
    ----------
    gained
        Bytes that have come since the count of tries last began.
    here
        Bytes that have come in all.
    total
        Bytes of the whole as the server named them; None: it did not.
    """
    if total is None or here > total:
        return gained >= LEAST_GAIN
    return gained >= max(1, min(LEAST_GAIN, total // _LEAST_PART))


class Cut:
    """What has arrived of a body that was cut, and the request for the rest of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.restarts = 0
        self._whole = request
        self._parts: list[bytes] = []
        self._arrived = 0
        self._furthest = 0  # bytes that had arrived when the count of tries last began
        self._total: int | None = None
        self._etag = ""

    def keep(self, error: TransferError) -> bool:
        """Keep the bytes that came before `error`. True: they are so many that the count of tries begins again."""
        if self._whole.sink is not None:  # it keeps what came, and asks for the rest by itself
            return self._whole.sink.advanced()
        if error.status == 200 and not error.partial and not self._whole.want_headers:
            self.request = self._variant()  # its head may have been cut, which shows only where it is collected
            return False
        if (
            self._whole.method != "GET"
            or not error.partial
            or any(line.startswith("Range:") for line in self._whole.headers)
        ):
            return False
        if error.status == 200:
            self._forget()
            self._etag = error.headers.get("etag", "")
            length = error.headers.get("content-length", "")
            self._total = int(length) if _LENGTH(length) else None
            if not self._etag or self._etag.startswith("W/"):
                # Headers are not collected unless needed: each costs a call into Python. From here on they are.
                self.request = self._variant()
                return False
        elif not (error.status == 206 and self._continues(error.headers)):
            return False
        self._parts.append(error.partial)
        self._arrived += len(error.partial)
        # With If-Match the server gives a part of this version of the blob or nothing:
        # https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
        self.request = self._variant(f"Range: bytes={self._arrived}-", f"If-Match: {self._etag}")
        further = gets_on(self._arrived - self._furthest, self._arrived, self._total)
        if further:
            self._furthest = self._arrived
        return further

    def complete(self, response: Response) -> Response | None:
        """The whole answer; None: the rest does not fit what had arrived, so all must be asked for again."""
        if not self._parts or response.status == 200:  # 200: all of it again, although a part was asked for
            return response
        if response.status == 206 and self._continues(response.headers):
            return response._replace(status=200, body=b"".join([*self._parts, response.body]))
        if response.status in (206, 501) or 400 <= response.status < 500:
            # Another version by now, or a server that refuses ranges or its own ETag: all of it by a plain request.
            self.restarts += 1
            self._forget()
            self.request = self._variant()
            return None
        return response

    def _forget(self) -> None:
        self._parts.clear()
        self._arrived = 0

    def _continues(self, headers: Mapping[str, str]) -> bool:
        start = f"bytes {self._arrived}-"
        return (
            bool(self._parts)
            and headers.get("etag") == self._etag
            and headers.get("content-range", "").startswith(start)
        )

    def _variant(self, *more: str) -> Request:
        whole = self._whole
        left = max(1, whole.max_bytes - self._arrived) if whole.max_bytes else whole.max_bytes
        return Request(whole.profile, whole.url, headers=(*whole.headers, *more), want_headers=True, max_bytes=left)
