"""One question about one object, as data: what is asked, whatever signs it and wherever it goes."""

from __future__ import annotations

from typing import Any, NamedTuple

from bitstore.steps import FileBody, Profile, Request, Room, Sink

__all__ = ["Asked"]


class Asked(NamedTuple):
    """One question about one object."""

    place: Any  # what the store's `_place` makes of a URL: bucket and key, or the URL itself
    method: str = "GET"
    body: bytes | FileBody | None = None
    headers: tuple[str, ...] = ()
    query: str = ""  # of the address, percent-encoded and in the order of its names (GSRaw, S3Raw)
    want_headers: bool = False
    limit: int | None = None  # of this body, in bytes; None: the profile's; 0: none
    sink: Sink | None = None
    probe: bool = False  # only the head of the answer matters
    hash_with: str | None = None  # the algorithm by which a transport may hash the body on the way
    room: Room | None = None  # where a transport may receive the part that is asked for
    private: tuple[str, ...] | None = None  # lines for the first host alone; None: those of the store (HTTPRaw)

    def one_byte(self) -> Asked:
        """The question by GET in place of HEAD: the answer has a body, which tells what is wrong."""
        return self._replace(method="GET", headers=(*self.headers, "Range: bytes=0-0"), limit=1, probe=True)

    @property
    def partly(self) -> bool:
        """Whether a part of the object is an answer: otherwise a part would be taken for the whole."""
        return self.sink is not None or any(line.startswith("Range:") for line in self.headers)

    def fits(self, status: int) -> bool:
        """Whether a success with this status is what was asked for."""
        return self.method in ("PUT", "POST", "DELETE") or status == 200 or (status == 206 and self.partly)

    def request(self, profile: Profile, url: str) -> Request:
        """The request that puts the question to `url`."""
        return Request(
            profile,
            url,
            method=self.method,
            body=self.body,
            headers=self.headers if self.private is None else self.headers + self.private,
            want_headers=self.want_headers,
            max_bytes=self.limit,
            sink=self.sink,
            hash_with=self.hash_with,
            room=self.room,
        )
