"""Credentials for Google Cloud Storage: who asks, and the bearer token of the hour.

google-auth supplies them, so that GOOGLE_APPLICATION_CREDENTIALS, gcloud, service accounts and workload
identity mean what they mean everywhere else. It is imported at first use, and never for anonymous access.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Any

__all__ = ["ANONYMOUS", "Token", "Unusable", "emulator", "is_outage", "show"]

ANONYMOUS = "anonymous"
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_LOOK_AGAIN = 60.0  # seconds; google-auth calls a token expired minutes before the service does
_TOKEN = re.compile(r"[\x21-\x7e]+").fullmatch  # it goes into a header
_AGAIN_AFTER = 10.0  # seconds before something that did not help is tried again


class Unusable(Exception):
    """From these credentials no token can be had; the text says why.

    Attributes
    ----------
    outage
        Whoever gives tokens could not be reached: the same credentials may do later. Otherwise there are none, or
        they are not let in, and asking again will not help.
    """

    def __init__(self, reason: str, *, outage: bool = False) -> None:
        super().__init__(reason)
        self.outage = outage


class Token:
    """The bearer token of one store in one process.

    Attributes
    ----------
    value
        The token; None before the first `refresh`, and always for anonymous access.
    fresh_until
        `time.monotonic()` from which on `refresh` must be called before use. It blocks.
    """

    def __init__(self, credentials: Any) -> None:
        self._given = credentials
        self._credentials: Any = None
        self._refusal: Unusable | None = None
        self._renewed = self._refused_at = float("-inf")
        self._lock = threading.Lock()
        self.value: str | None = None
        self.fresh_until = float("inf") if credentials == ANONYMOUS else float("-inf")

    def refresh(self) -> None:
        """See to it that `value` is good. Threads that come at once share one refresh. Raises `Unusable`."""
        with self._lock:
            now = time.monotonic()
            if now < self.fresh_until:
                return  # another thread has just done it
            if self._refusal is not None and now - self._refused_at < _AGAIN_AFTER:
                # What cannot be had costs its attempt once in a while and not at every lookup.
                raise Unusable(str(self._refusal), outage=self._refusal.outage) from self._refusal.__cause__
            try:
                self._obtain(force=False)
            except Unusable as refusal:
                self._refusal, self._refused_at = refusal, now
                raise
            self._refusal = None

    def renew(self, refused: str | None) -> bool:
        """Get another token, after the service has refused this one; False where that was just done."""
        with self._lock:
            if self.value != refused:
                return True  # another thread has done it meanwhile
            if self._given == ANONYMOUS or time.monotonic() - self._renewed < _AGAIN_AFTER:
                return False
            self._renewed = time.monotonic()
            self._obtain(force=True)
            return self.value != refused

    def _obtain(self, *, force: bool) -> None:
        if self._credentials is None:
            self._credentials = _usable(self._given)
        credentials = self._credentials
        if force or not credentials.valid:
            try:
                from google.auth.transport.requests import Request

                credentials.refresh(Request())
            except ImportError as error:
                raise Unusable("requests is not installed: pip install 'epic-bitstore[gcp]'") from error
            except Exception as error:  # whatever a token service or a credentials object of the user's own raises
                if force or not _outlives(credentials):
                    reason = f"the access token could not be refreshed: {_brief(error)}"
                    raise Unusable(reason, outage=is_outage(error)) from error
        if not isinstance(credentials.token, str) or not _TOKEN(credentials.token):
            raise Unusable(f"{show(self._given)} gives no access token")
        self.value = credentials.token
        self.fresh_until = time.monotonic() + (_LOOK_AGAIN if credentials.valid else _AGAIN_AFTER)


def _outlives(credentials: Any) -> bool:
    """Whether the old token is still let in: google-auth wants a new one minutes before it must have one."""
    from google.auth.credentials import TokenState

    return getattr(credentials, "token_state", None) is TokenState.STALE


def is_outage(error: BaseException) -> bool:
    """Whether `error`, which came instead of a token, says nothing about the credentials themselves."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    if not isinstance(error, GoogleAuthError):
        return True  # from a credentials object of the user's own, or from the network
    if isinstance(error, TransportError) or error.retryable:
        return True
    # google-auth reports a metadata server that does not answer as a RefreshError *from* a TransportError.
    return isinstance(error.__cause__, TransportError)


def emulator() -> str | None:
    """The address in STORAGE_EMULATOR_HOST, with a scheme; None where that is not set."""
    address = os.environ.get("STORAGE_EMULATOR_HOST", "").strip().rstrip("/")
    if not address:
        return None
    return address if "://" in address else f"http://{address}"


def show(credentials: Any) -> str:
    """Credentials for people: what they are, never what they hold."""
    if credentials is None:
        return "default credentials"
    if credentials == ANONYMOUS:
        return repr(ANONYMOUS)
    return f"<{type(credentials).__name__}>"


def _usable(given: Any) -> Any:
    try:
        import google.auth
        from google.auth.credentials import Credentials, with_scopes_if_required
        from google.oauth2 import credentials, service_account

        # google-auth has no types of its own.
        user: Any = credentials.Credentials
        service: Any = service_account.Credentials
        scoped: Any = with_scopes_if_required
    except ImportError as error:
        raise Unusable("google-auth is not installed: pip install 'epic-bitstore[gcp]'") from error
    try:
        if given is None:
            found, _ = google.auth.default(scopes=_SCOPES)
            return found
        if isinstance(given, dict):
            if given.get("type") == "authorized_user":
                return user.from_authorized_user_info(given, _SCOPES)
            return service.from_service_account_info(given, scopes=_SCOPES)
    except Exception as error:  # no default credentials, a key that does not parse, a missing field: all unusable
        advice = "; for public buckets use GSRaw.anonymous()" if given is None else ""
        raise Unusable(f"{show(given)}: {_brief(error)}{advice}") from error
    if not isinstance(given, Credentials):
        raise Unusable(
            "credentials are None, 'anonymous', a google-auth credentials object or a dict with the fields of a "
            f"service account's key file, not {type(given).__name__}"
        )
    return scoped(given, _SCOPES)


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
