"""What can go wrong, by name. Every error survives pickling, so it can cross a process or a Ray cluster.

The distinction that matters most: `NotFoundInStore` says that a blob *is not there*;
`StoreNotAvailable` says that *we do not know*. One is never reported as the other.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Sequence
from typing import Any

from bitstore._support.redact import redact, redact_url, text_of
from bitstore.evidence import Evidence

__all__ = [
    "AccessDenied",
    "BitstoreError",
    "BudgetReached",
    "DecodeFailed",
    "InvalidDataFound",
    "InvalidURI",
    "LimitReached",
    "LookupFailed",
    "LookupTimedOut",
    "NotFoundInStore",
    "StoreNotAvailable",
    "TooManyRequests",
    "WriteConflict",
]


class BitstoreError(Exception):
    """Base of all errors of this library.

    Parameters
    ----------
    message
        The text for a human being.
    *params
        The constructor arguments of the subclass, from which unpickling builds the error again. None: the message is
        the only one.
    """

    def __init__(self, message: str, *params: Any) -> None:
        self._params = params or (message,)
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._params


class StoreNotAvailable(BitstoreError):
    """A store could not answer: it may or may not hold the blob.

    Parameters
    ----------
    store
        The store, or its name.
    reason
        What happened, in a few words.

    Attributes
    ----------
    unreachable
        Nothing at all came from the service, or only the word that it is out or overrun (429, 502, 503, 504): that
        says nothing about this blob, and others will fare the same.
    definite
        The service has answered, and would answer the same again (there is no such bucket, the blob is archived): it
        is not out, so there is nothing to wait for.
    no_container
        The bucket or folder does not exist: no blob is there, and none can be kept there.
    overrun
        The service refuses a part of all requests, because there are too many (429, 503): a later try may pass.
    """

    unreachable: bool = False
    definite: bool = False
    no_container: bool = False
    overrun: bool = False

    def __init__(self, store: object, reason: str | None = None) -> None:
        name = text_of(store)
        message = f"{name} is not available" if reason is None else f"{reason} ({name} is not available)"
        super().__init__(message, name, reason)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        said = {name: True for name in ("unreachable", "definite", "no_container", "overrun") if getattr(self, name)}
        return (*super().__reduce__(), said) if said else super().__reduce__()


class AccessDenied(StoreNotAvailable, PermissionError):
    """A store refused to answer (401, 403), or there are no credentials to ask with.

    Whether the blob exists stays unknown.
    """


class WriteConflict(StoreNotAvailable):
    """A blob cannot be written, because something is there that cannot be read: an archived object, say.

    It concerns this blob alone: other blobs can be written.
    """


class LimitReached(StoreNotAvailable):
    """A source was not asked, because what it allows is used up. Whether it has the blob stays unknown.

    Parameters
    ----------
    store
        The store, or its name.
    reason
        Which limit it is, and when it opens again.
    retry_in
        Seconds after which it is worth trying again; None: that will not help.
    """

    def __init__(self, store: object, reason: str, retry_in: float | None = None) -> None:
        name = text_of(store)
        BitstoreError.__init__(self, f"{reason} ({name} is not available)", name, reason, retry_in)
        self.reason = reason
        self.retry_in = retry_in


class BudgetReached(LimitReached):
    """A source was not asked, because the answer might have passed the cap of a `Budget`.

    Whether the source has the blob stays unknown. Nothing was sent, and waiting does not help: a larger budget does.
    """


def budget_reached(error: BaseException | None) -> BudgetReached | None:
    """What a budget has said in a lookup that failed with `error`; None: no budget was in the way."""
    if isinstance(error, BudgetReached):
        return error
    inner = [each for _, each in error.failures] if isinstance(error, LookupFailed) else []
    return next((found for each in inner if (found := budget_reached(each)) is not None), None)


class TooManyRequests(StoreNotAvailable):
    """For `api_get` to raise, where the API answers 429: it is called again later, and others wait as well.

    Parameters
    ----------
    retry_after
        Seconds, or the `Retry-After` header as it came (https://www.rfc-editor.org/rfc/rfc9110#name-retry-after);
        None, or a header that says neither seconds nor a date: the pause is chosen by the library.
    """

    def __init__(self, retry_after: float | str | None = None) -> None:
        self.retry_after = _seconds(retry_after)
        asked = "" if self.retry_after is None else f", and asks for a pause of {self.retry_after:.0f} s"
        reason = f"the API answers that there are too many requests{asked}"
        BitstoreError.__init__(self, reason, self.retry_after)
        self.reason = reason


class NotFoundInStore(BitstoreError, FileNotFoundError):
    """A store said that it does not hold the blob.

    Parameters
    ----------
    store
        The store, or its name.
    uri
        What was asked for.
    why
        How the absence is known where the store was not asked just now, such as `"said so on 2026-11-20, remembered
        for 30 days"`; empty: it was asked just now, and this is its answer.
    evidence
        Of a composite: how the absence is known of each tier. Of a store: where it rests on more than its word.

    Attributes
    ----------
    store, uri, why, evidence
        As given. Of a composite, `why` tells it for each tier that was not asked.
    """

    why: str = ""
    evidence: tuple[Evidence, ...] = ()

    def __init__(self, store: object, uri: object, *, why: str = "", evidence: tuple[Evidence, ...] = ()) -> None:
        # A lookup meets one of these at every tier that lacks the blob: the text is made only when it is read.
        self.store = store
        self.uri = uri
        self.args = (store, uri)
        if evidence:
            self.evidence = evidence
            why = why or "; ".join(f"{each.tier} {each.why}" for each in evidence if each.why)
        if why:
            self.why = why

    def __str__(self) -> str:
        how = "; ".join(f"{redact_url(each.tier)}: {each}" for each in self.evidence) or self.why
        return f"{_key(self.uri)}: missing in {text_of(self.store)}" + (f" ({how})" if how else "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({text_of(self.store)!r}, {_key(self.uri)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        told = {name: value for name in ("why", "evidence") if (value := getattr(self, name))}
        plain = type(self), (text_of(self.store), text_of(self.uri))
        return (*plain, told) if told else plain


class InvalidDataFound(NotFoundInStore):
    """A store holds bytes under this name, but they do not match it.

    It is a `NotFoundInStore` because the blob that was asked for is indeed not there; inside a
    composite, bad bytes in a cache count as missing (and are replaced), in a source as a failure.
    """

    def __init__(self, store: object, uri: object, reason: str = "its bytes do not match the digest") -> None:
        super().__init__(store, uri)
        self.reason = reason

    def __str__(self) -> str:
        return f"{_key(self.uri)}: invalid data: {self.reason} (in {text_of(self.store)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (text_of(self.store), text_of(self.uri), self.reason)


class InvalidURI(BitstoreError, ValueError):
    """What was asked for is not a name that the store can understand."""

    def __init__(self, store: object, uri: object, hint: str | None = None) -> None:
        name = store if isinstance(store, str) else type(store).__name__
        suffix = "" if hint is None else f" (hint: {hint})"
        super().__init__(f"URI {_key(uri)!r} is invalid for {name}{suffix}", name, text_of(uri), hint)


class LookupFailed(StoreNotAvailable):
    """No tier had the blob and at least one could not say, so it is neither found nor missing.

    Parameters
    ----------
    store
        The composite.
    uri
        What was asked for.
    failures
        `(tier name, error)` of each tier that failed, in the order they were asked.
    missing
        Names of the tiers that said that they do not hold the blob.
    retry_in
        Seconds after which it is worth asking again, because a tier that failed may answer by then; None: it
        is not known to help.
    down_for
        Seconds for which a tier has answered no lookup, where that looks like an outage: it is unreachable, or left
        alone after repeated failures. 0: there is no such tier.
    paid_for
        Names of the tiers among `missing` that cost money or quota: the next try need not ask these.
    """

    def __init__(
        self,
        store: object,
        uri: object,
        failures: Sequence[tuple[str, BaseException]],
        missing: Sequence[str] = (),
        *,
        retry_in: float | None = None,
        down_for: float = 0.0,
        paid_for: frozenset[str] = frozenset(),
    ) -> None:
        reason = "; ".join(f"{name}: {described(error)}" for name, error in failures)
        if missing:
            reason += f" (missing in {', '.join(missing)})"
        name = text_of(store)
        text = f"{_key(uri)}: lookup failed: {reason} (in {name})"
        BitstoreError.__init__(self, text, name, text_of(uri), list(failures), list(missing))
        self.uri = text_of(uri)
        self.reason = reason
        self.failures = list(failures)
        self.missing = list(missing)
        self.retry_in = retry_in
        self.down_for = down_for
        self.paid_for = paid_for
        self.overrun = bool(failures) and all(getattr(error, "overrun", False) for _, error in failures)

    def __reduce__(self) -> tuple[Any, ...]:
        store, uri, failures, missing = self._params
        told = [(name, portable(name, error)) for name, error in failures]
        # With what says whether to try again: lookups that wait for another one get a copy of its error.
        state = {"retry_in": self.retry_in, "down_for": self.down_for, "paid_for": self.paid_for}
        return type(self), (store, uri, told, missing), state


class LookupTimedOut(LookupFailed, TimeoutError):
    """The caller's own time limit was over before the tiers had answered."""


class DecodeFailed(BitstoreError, ValueError):
    """A blob was found, but the decode function raised an error, or returned what its column cannot hold.

    Parameters
    ----------
    digest
        The blob.
    reason
        What was raised.
    """

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(f"{digest} cannot be decoded: {reason}", digest, reason)


def described(error: BaseException) -> str:
    """An error in words, for logs, reports and other errors. What looks like a secret in a foreign one is masked."""
    text = text_of(error)
    return text if isinstance(error, BitstoreError) else redact(f"{type(error).__name__}: {text}")


def reason_of(error: BaseException) -> str:
    """Why a lookup failed, without the name of the store that the error is of."""
    return error.reason if isinstance(error, StoreNotAvailable) and error.reason else described(error)


def _key(uri: object) -> str:
    return redact_url(text_of(uri))


def portable(name: str, error: BaseException) -> BaseException:
    """The error itself where it survives a round trip through pickle, else one that tells the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        # A user's exception may pickle in any broken way (locks inside, odd constructors): its text must still arrive.
        return StoreNotAvailable(name, described(error))
    return error


def _seconds(retry_after: float | str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(str(retry_after)).timestamp() - time.time()
        except (TypeError, ValueError):  # no date either
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
