"""A Git LFS server: the batch API and basic transfers, as git-lfs itself speaks them (a test proves it).

Protocol: https://github.com/git-lfs/git-lfs/tree/main/docs/api.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.servers.http import FaultyServer, Upstream
from tests.servers.wire import Request, Response, make_response

__all__ = ["LFSServer"]

_JSON = "application/vnd.git-lfs+json"


class LFSServer(FaultyServer):
    """Repositories under `/<name>.git/info/lfs`, which share their objects.

    Attributes
    ----------
    blobs
        Bytes by SHA-256.
    answers
        What the batch API says of an object, in place of what is true: a dict merged into its entry.
    token
        Value of `Authorization` that the batch API wants; None: it lets everybody in.
    signature
        Without it in the query, a link is refused.
    most
        Objects in one request; more are refused with 413.
    strict
        Whether an object whose size was not named right is refused with 422, as Gitea and giftless do.
    storage
        The server that the links point to; None: this one.
    """

    def __init__(self, blobs: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.blobs = dict(blobs or {})
        self.answers: dict[str, dict[str, Any]] = {}
        self.token: str | None = None
        self.signature = "first-signature"
        self.header: dict[str, str] = {"X-Link": "token-of-the-link"}
        self.most = 1000
        self.strict = False
        self.storage: LFSServer | None = None

    @property
    def lfs(self) -> str:
        """URL of the LFS server of one repository, with a slash at its end."""
        return f"{self.url}/some/repository.git/info/lfs/"

    @property
    def batches(self) -> list[list[str]]:
        """The digests in each request to the batch API so far, with the object's size."""
        bodies = [json.loads(request.body) for request in self.requests if request.path.endswith("/objects/batch")]
        return [[each["oid"] for each in body["objects"]] for body in bodies]

    async def _respond(self, request: Request, upstream: Upstream) -> Response:
        status, body, headers = self._answer(request)
        return make_response(status, body, headers, method=request.method)

    def _answer(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        if request.path.startswith("/data/"):
            return self._data(request, request.path.removeprefix("/data/"))
        if not re.fullmatch(r"/some/repository\.git/info/lfs/(objects/batch|verify)", request.path):
            return _said(404, "Not found")
        if request.path.endswith("/verify"):
            return _said(200 if json.loads(request.body)["oid"] in self.blobs else 404, "")
        if request.headers.get("accept", "").partition(";")[0] != _JSON:
            return _said(406, "the Accept header needs to be application/vnd.git-lfs+json")
        if self.token is not None and request.headers.get("authorization") != self.token:
            return _said(401, "Credentials needed")
        asked = json.loads(request.body)
        if len(asked["objects"]) > self.most:
            return _said(413, "too many objects")
        objects = [self._object(asked["operation"], each["oid"], each["size"]) for each in asked["objects"]]
        return 200, json.dumps({"transfer": "basic", "objects": objects}).encode(), {"Content-Type": _JSON}

    def _object(self, operation: str, oid: str, size: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"oid": oid, "size": size}
        data = self.blobs.get(oid)
        if oid in self.answers:
            entry |= self.answers[oid]
        elif operation == "upload":
            if data is None:
                verify = {"href": f"{self.lfs}verify"}
                entry["actions"] = {"upload": {"href": self._href(oid), "header": self.header}, "verify": verify}
        elif data is None:
            entry["error"] = {"code": 404, "message": "Object does not exist"}
        elif self.strict and size != len(data):
            entry["error"] = {"code": 422, "message": "Object size does not match"}
        else:
            download = {"href": self._href(oid), "header": self.header, "expires_in": 3600}
            entry |= {"size": len(data), "actions": {"download": download}}
        return entry

    def _href(self, oid: str) -> str:
        storage = self.storage or self
        return f"{storage.url}/data/{oid}?signature={storage.signature}"

    def _data(self, request: Request, oid: str) -> tuple[int, bytes, dict[str, str]]:
        if urlsplit(request.target).query != f"signature={self.signature}":
            return 403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", {}
        if request.headers.get("x-link") != self.header.get("X-Link"):
            return 401, b"the header of the link is missing", {}
        if request.method == "PUT":
            if hashlib.sha256(request.body).hexdigest() != oid:
                return 422, b"", {}
            self.blobs[oid] = request.body
            return 200, b"", {}
        data = self.blobs.get(oid)
        if data is None:
            return 404, b"not found", {"Content-Type": "text/plain"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        headers = {"ETag": f'"{oid}"', "Content-Type": "application/octet-stream"}
        if match is None:
            return 200, data, headers
        part = data[int(match[1]) : int(match[2]) + 1 if match[2] else None]
        last = int(match[1]) + len(part) - 1
        return 206, part, headers | {"Content-Range": f"bytes {match[1]}-{last}/{len(data)}"}


def _said(status: int, message: str) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps({"message": message}).encode(), {"Content-Type": _JSON}
