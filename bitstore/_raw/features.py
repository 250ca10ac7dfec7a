"""Features of writes that a service may lack: left out for a bucket once it has refused them, and said once.

None of them is needed for a write to be right: the digest of the body is signed, and blobs of one name have one
content. Encryption is not among them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from bitstore._raw.asked import Asked
from bitstore._raw.problems import Problem
from bitstore._support.once import warn_once
from bitstore.steps import Response, Steps

__all__ = ["WriteFeatures"]

Headers: TypeAlias = "Mapping[str, str | None]"  # None: the write has no such header

logger = logging.getLogger("bitstore")

# In the order in which they are left out where a service does not say which of them it refuses.
_OPTIONAL = ("if-none-match", "if-match", "x-amz-checksum-sha256", "x-amz-storage-class", "x-amz-acl")
_BY_CODE = {"AccessControlListNotSupported": "x-amz-acl", "InvalidStorageClass": "x-amz-storage-class"}
_BY_WORDS = {
    "x-amz-checksum-sha256": ("x-amz-checksum", "x-amz-sdk-checksum", "checksum algorithm"),
    "x-amz-storage-class": ("x-amz-storage-class", "storage class", "storageclass"),
    "x-amz-acl": ("x-amz-acl", "canned acl"),
    "if-none-match": ("if-none-match",),
    "if-match": ("if-match",),
}
_REFUSALS = frozenset({400, 405, 501})
# The body was damaged on its way, or a condition was not met: no feature is to blame.
_ABOUT_THE_BODY = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "PreconditionFailed"})


class WriteFeatures:
    """The features that each bucket of one store has refused in this process."""

    def __init__(self) -> None:
        self._refused: dict[str, frozenset[str]] = {}

    def ask(
        self, ask: Callable[[Asked], Steps[Response | Problem]], asked: Asked, bucket: str, headers: Headers
    ) -> Steps[Response | Problem]:
        """`ask` for a write with optional headers: those that the service refuses are left out, from now on as well."""
        refused: dict[str, Problem] = {}
        while True:
            lines = self._lines(bucket, {name: headers[name] for name in headers if name.lower() not in refused})
            answer = yield from ask(asked._replace(headers=lines))
            blamed = _blamed(answer, lines) if isinstance(answer, Problem) else None
            if blamed is None:
                if refused and (isinstance(answer, Response) or answer.status == 412):
                    self._leave_out(bucket, refused)
                return answer
            assert isinstance(answer, Problem)
            refused[blamed] = answer

    def _lines(self, bucket: str, headers: Headers) -> tuple[str, ...]:
        """Header lines of a write without those that have no value or that the bucket refuses."""
        refused = self._refused.get(bucket, ())
        return tuple(f"{name}: {value}" for name, value in headers.items() if value and name.lower() not in refused)

    def _leave_out(self, bucket: str, refused: Mapping[str, Problem]) -> None:
        """Remember what a bucket refuses, after it has taken a write without it."""
        self._refused[bucket] = self._refused.get(bucket, frozenset()) | refused.keys()
        for name, problem in refused.items():
            warn_once(
                logger,
                ("write feature", bucket, name),
                "%s takes no %s (%s): blobs are written without it",
                bucket,
                name,
                problem,
            )


def _blamed(problem: Problem, lines: Collection[str]) -> str | None:
    """The optional header among `lines` because of which the service refuses the write; None: another reason."""
    if problem.status not in _REFUSALS or problem.code in _ABOUT_THE_BODY:
        return None
    sent = {line.partition(":")[0].lower() for line in lines}
    named = _BY_CODE.get(problem.code)
    if named is not None:
        return named if named in sent else None
    text = f"{problem.header} {problem.message}".lower()
    for name, words in _BY_WORDS.items():
        if name in sent and any(word in text for word in words):
            return name
    if problem.status == 501 or problem.code == "NotImplemented":
        return next((name for name in _OPTIONAL if name in sent), None)
    return None
