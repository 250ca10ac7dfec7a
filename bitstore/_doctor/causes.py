"""From what went wrong in a question to its cause, by name, and what to do about it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bitstore._doctor.listening import Exchange, Heard
from bitstore._doctor.policies import gcs_roles, s3_policy
from bitstore._doctor.reports import CheckFault
from bitstore._raw.meanings import gcs_meaning, gcs_problem, plain_problem, s3_meaning, s3_problem
from bitstore._raw.problems import Problem
from bitstore._support.redact import redact
from bitstore.errors import AccessDenied, LimitReached, StoreNotAvailable, described
from bitstore.steps import TransferError

__all__ = ["Place", "cause_of", "moved_hint", "problem_of", "reason_of", "right_named"]

_NETWORK = {  # by libcurl's error numbers
    5: ("no-such-host", "The name of the proxy does not resolve: look at proxy= and at the variables http(s)_proxy."),
    6: ("no-such-host", "Look for a slip in the address (endpoint_url, url), and at the DNS of this machine."),
    7: ("no-connection", "Nothing listens there, or a firewall refuses: look at the address and its port."),
    28: ("no-answer", "A firewall that drops packets, a wrong port or a hung server: try the address with curl."),
}
_TLS = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})
_TLS_ADVICE = (
    "Name the authority that signs this server's certificate: ca_bundle= (a PEM file), or SSL_CERT_FILE. A company's "
    "proxy that looks into TLS has an authority of its own. Verification cannot be switched off."
)
_ACTION = re.compile(r"\bperform:? ?([\w-]+:\w+)|(?:\bdoes not have |permission ')(\w+\.\w+\.\w+)", re.IGNORECASE)
_LOGIN = re.compile(
    r"expired|reauth|invalid_grant|invalid_rapt|could not be refreshed|sso|session token|log ?in|TokenRetrieval"
    r"|Unauthorized",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"^(?:[A-Z]+ )?[a-z0-9]+://\S*: ")
_STATUS = re.compile(r"(?:^|\()([45]\d\d)(?: ([A-Za-z]+))?: (.*)", re.DOTALL)
_NO_MODULE = re.compile(r"is not installed: (pip .*')")
_BAD_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "UnrecognizedClientException",
    }
)
_LOGINS = {
    "s3": "Log in again: `aws sso login --profile ...`, fresh keys, or a role for the machine.",
    "gs": "Log in again: `gcloud auth application-default login`, or give the machine a service account.",
}


@dataclass(frozen=True)
class Place:
    """What a tier asks.

    Attributes
    ----------
    kind
        `"s3"`, `"gs"`, `"http"`, `"file"` or `"own"`.
    bucket, prefix
        What of it; the prefix without the scheme and the bucket.
    writes
        Whether lookups write there.
    forbidden_is_missing
        As the store has it.
    acl
        Whether writes say one.
    partition
        Of AWS, where policies name it.
    """

    kind: str
    bucket: str = ""
    prefix: str = ""
    writes: bool = False
    forbidden_is_missing: bool = False
    acl: bool = False
    partition: str = "aws"

    def policy(self, *, write: bool | None = None) -> dict[str, Any] | None:
        """The least rights that the tier needs; None: there are no policies of this kind of store."""
        wanted = self.writes if write is None else write
        if self.kind == "s3":
            return s3_policy(self.bucket, self.prefix, write=wanted, acl=self.acl, partition=self.partition)
        return gcs_roles(self.bucket, write=wanted) if self.kind == "gs" else None


def problem_of(exchange: Exchange | None, place: Place) -> Problem | None:
    """What the answer of a request means; None: there was none, or a success."""
    if exchange is None or exchange.response is None or 200 <= exchange.status < 300:
        return None
    read = {"s3": s3_problem, "gs": gcs_problem}.get(place.kind, plain_problem)
    return read(exchange.response)


def cause_of(heard: Heard, place: Place, *, writing: bool = False) -> CheckFault:
    """The fault behind a question that failed."""
    error = heard.error
    assert error is not None
    text = _ADDRESS.sub("", reason_of(error))  # it is that of a blob which cannot be there
    network = next(_network_errors(heard), None)
    if network is not None:
        return _of_network(network, text)
    if isinstance(error, TimeoutError):
        own = "Look at what the store waits for." if place.kind == "own" else _NETWORK[28][1]
        return CheckFault("no-answer", text, own)
    if (of_disk := _of_disk(error, text)) is not None:
        return of_disk
    problem = problem_of(heard.last, place)
    if place.kind in ("s3", "gs") and not heard.exchanges and isinstance(error, StoreNotAvailable):
        problem = _told_by_client(text, place)
        if problem is None:
            return _of_credentials(error, text, place)
    if problem is None:
        return _without_answer(error, text, place)
    return _of_answer(problem, text, place, writing=writing)


def reason_of(error: BaseException) -> str:
    """What an error says, without the name of the store and without secrets."""
    reason = error.reason if isinstance(error, StoreNotAvailable) else None
    return redact(str(error) if reason is None and isinstance(error, TimeoutError) else reason or described(error))


def _told_by_client(text: str, place: Place) -> Problem | None:
    """What an answer means that a client of the caller's has read; None: the text tells of no answer."""
    match = _STATUS.search(text)
    if match is None:
        return None
    meaning = s3_meaning if place.kind == "s3" else gcs_meaning
    return meaning(int(match[1]), match[2] or "", match[3])


def _network_errors(heard: Heard) -> Iterator[TransferError]:
    error = heard.error
    while error is not None:
        if isinstance(error, TransferError):
            yield error
        error = error.__cause__
    if heard.last is not None and isinstance(heard.last.error, TransferError):
        yield heard.last.error


def _of_disk(error: BaseException | None, text: str) -> CheckFault | None:
    """What the operating system says about a file or folder; None: the error has another origin."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT):
            return CheckFault("disk-full", text, "Make room, or name a folder on another disk.")
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return CheckFault("no-permission", text, "Give this user the right to it, or name another folder.")
        error = error.__cause__
    return None


def _of_network(error: TransferError, text: str) -> CheckFault:
    if error.code in _TLS or "certificate" in error.message.lower():
        return CheckFault("tls", text, _TLS_ADVICE)
    kind, advice = _NETWORK.get(error.code, ("no-connection", "The connection broke: look at what lies in between."))
    return CheckFault(kind, text, advice)


def _of_credentials(error: StoreNotAvailable, text: str, place: Place) -> CheckFault:
    module = _NO_MODULE.search(text)
    if module is not None:
        return CheckFault("not-installed", text, f"Install it: {module[1]}")
    if "cannot serve" in text:
        return CheckFault("unservable", text, "Use the bucket through another kind of address, or copy the blobs.")
    if "finds no credentials" in text or "DefaultCredentials" in text or "is empty" in text:
        where = {
            "s3": "Name a profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role; for a "
            "public bucket: anonymous.",
            "gs": "`gcloud auth application-default login`, GOOGLE_APPLICATION_CREDENTIALS, or a service account of "
            "the machine; for a public bucket: anonymous.",
        }
        return CheckFault("no-credentials", text, where[place.kind])
    if not isinstance(error, AccessDenied):
        return CheckFault("credentials-out", text, "What gives the keys is out or silent: look at it, and try again.")
    if _LOGIN.search(text):
        return CheckFault("expired-login", text, _LOGINS[place.kind])
    advice = "Look at what gives the keys: the profile, the role, or the file of the service account."
    return CheckFault("no-credentials", text, advice)


def _without_answer(error: BaseException, text: str, place: Place) -> CheckFault:
    if isinstance(error, LimitReached):
        return CheckFault("limit-reached", text, "Wait, or raise the limit of the store.", severity="hint")
    if isinstance(error, StoreNotAvailable) and (error.no_container or "there is no folder" in text):
        advice = "Mount the disk, make the folder, or correct its path."
        return CheckFault("no-folder", text, advice)
    if isinstance(error, AccessDenied):
        return CheckFault(
            "refused", text, "Look at what the store asks with: its credentials, or the rights of this user."
        )
    if isinstance(error, StoreNotAvailable):
        return CheckFault("unavailable", text, "The store says so itself: look at the service or disk behind it.")
    if place.kind == "own" or not isinstance(error, OSError):
        advice = (
            "Any exception means that the store cannot say. For a blob that it lacks it raises NotFoundInStore, or "
            "returns None from api_get. bitstore.testing proves a class."
        )
        return CheckFault("store-raises", text, advice)
    return CheckFault("unexpected-answer", text, "Look at the address: what answers there is not what was expected.")


def _of_answer(problem: Problem, text: str, place: Place, *, writing: bool) -> CheckFault:
    bucket = f"{place.kind}://{place.bucket}" if place.kind in ("s3", "gs") else "the bucket"
    if "the name of the bucket, which is added to it" in text:
        return CheckFault("bucket-in-endpoint", text, "Leave the name of the bucket out of endpoint_url.")
    if problem.no_bucket:
        advice = f"Correct the name of {bucket}, or look at the account, project or endpoint that it should be in."
        return CheckFault("no-bucket", text, advice)
    if problem.code in ("RequestTimeTooSkewed", "RequestExpired"):
        return CheckFault("clock", text, "Set the clock of this machine: use NTP.")
    if problem.code in _BAD_KEYS:
        return CheckFault(
            "bad-keys", text, "The service does not know these keys: look at the profile, and at the endpoint."
        )
    if problem.expired and "nonymous" not in problem.message:
        return CheckFault("expired-login", text, _LOGINS.get(place.kind, "Get a new token."))
    if problem.elsewhere:
        region = f" {problem.region}" if problem.region else ""
        return CheckFault("wrong-region", text, f"Name the region of the bucket{region}: region= (or --region).")
    if problem.archived:
        return CheckFault("archived", text, "Restore the objects, or copy them into a class that is read at once.")
    if problem.status in (401, 403):
        return _of_refusal(problem, text, place, writing=writing)
    if problem.status == 429 or (problem.status >= 500 and problem.status != 501):  # 501: it knows no such request
        return CheckFault("service-out", text, "The service is out or overrun: wait, or bound the requests (limit=).")
    return CheckFault("unexpected-answer", text, "Look at the address: what answers there is not what was expected.")


def right_named(heard: Heard, place: Place) -> str | None:
    """The right that a refusal says is lacking; None: it names none."""
    problem = problem_of(heard.last, place)
    return None if problem is None else _right(problem)


def _right(problem: Problem) -> str | None:
    match = _ACTION.search(problem.message)
    return next((each for each in match.groups() if each), None) if match else None


def _of_refusal(problem: Problem, text: str, place: Place, *, writing: bool) -> CheckFault:
    action = _right(problem)
    if place.kind not in ("s3", "gs"):
        advice = "Name what lets in: headers = { Authorization = ... }; or write where writes are allowed."
        return CheckFault("refused", text, advice)
    if action is not None and action.startswith("kms:"):
        advice = f"Ask for {action} on the key with which the bucket is encrypted."
        return CheckFault("no-right-to-key", text, advice)
    if writing:
        wanted = action or {"s3": "s3:PutObject", "gs": "storage.objects.create"}[place.kind]
        advice = f"Ask the owner of {place.kind}://{place.bucket} for {wanted}, as here:"
        return CheckFault("no-right-to-write", text, advice, policy=place.policy(write=True))
    read = {"s3": "s3:GetObject", "gs": "storage.objects.get"}[place.kind]
    wanted = action or f"the right to read ({read})"
    advice = f"Ask the owner of {place.kind}://{place.bucket} for {wanted}, as here:"
    return CheckFault("no-right-to-read", text, advice, policy=place.policy())


def moved_hint(exchanges: list[Exchange], place: Place) -> CheckFault | None:
    """What is to be said about a bucket in another region than the one that is configured, which was gone round."""
    if place.kind != "s3":
        return None
    for exchange in exchanges:
        problem = problem_of(exchange, place)
        if problem is not None and problem.elsewhere:
            headers = exchange.response.headers if exchange.response is not None else {}
            region = problem.region or headers.get("x-amz-bucket-region")
            named = f" {region}" if region else ""
            text = f"the bucket is in another region{named} than the one that requests are signed for: {problem}"
            advice = f"Write region = {region!r}: it saves a request of each process." if region else "Write region=."
            return CheckFault("wrong-region", text, advice, severity="hint")
    return None
