"""Credentials for Google Cloud Storage: the bearer token of the hour, and the project that its use counts for.

google-auth supplies them, so that GOOGLE_APPLICATION_CREDENTIALS, gcloud, service accounts and workload
identity mean what they mean everywhere else. It is imported at first use, and never for anonymous access.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Any, NamedTuple

from bitstore._raw.credentials import ANONYMOUS, CONNECT_LIMIT, READ_LIMIT, Guarded, Unusable, brief, show

__all__ = ["ANONYMOUS", "Token", "Unusable", "emulator", "is_outage", "show"]

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_LOOK_AGAIN = 60.0  # seconds; google-auth calls a token expired minutes before the service does
_LOOK_SOON = 10.0  # seconds, while an old token is used because no other could be had
_IN_HEADER = re.compile(r"[\x21-\x7e]+").fullmatch


class _Obtained(NamedTuple):
    credentials: Any  # of google-auth
    token: str
    seconds: float  # for which the token may be used unasked


class Token:
    """The bearer token of one store in one process."""

    def __init__(self, credentials: Any) -> None:
        self._given = credentials
        self._credentials: Any = None  # of google-auth, made of what was given
        self._guarded: Guarded[_Obtained] = Guarded()
        self._lock = threading.Lock()
        self.value: str | None = None  # None before the first `refresh`, and always for anonymous access
        # `time.monotonic()` from which on `refresh` must be called before use. It blocks.
        self.fresh_until = float("inf") if credentials == ANONYMOUS else float("-inf")

    def refresh(self) -> None:
        """Make `value` usable. Threads that come at once share one refresh. Raises `Unusable`."""
        with self._lock:
            if self.fresh_until <= time.monotonic():  # else another thread has just done it
                self._obtain(force=False)

    def renew(self, refused: str | None) -> bool:
        """Get another token, after the service has refused this one; False where that was just done."""
        with self._lock:
            if self.value != refused:
                return True  # another thread has done it meanwhile
            if self._given == ANONYMOUS or not self._guarded.may_renew():
                return False
            self._obtain(force=True)
            return self.value != refused

    def headers(self, token: str | None) -> tuple[str, ...]:
        """The lines that a request with `token` carries, as Google's own client sends them."""
        project = getattr(self._credentials, "quota_project_id", None)
        billed = isinstance(project, str) and _IN_HEADER(project)
        return f"Authorization: Bearer {token}", *([f"x-goog-user-project: {project}"] if billed else [])

    def _obtain(self, *, force: bool) -> None:
        self._credentials, self.value, seconds = self._guarded.ask(
            lambda: _obtained(self._credentials, self._given, force=force)
        )
        self.fresh_until = time.monotonic() + seconds


def _obtained(credentials: Any, given: Any, *, force: bool) -> _Obtained:
    asking = _Asking()
    try:
        if credentials is None:
            credentials = _usable(given, asking)
        if force or not credentials.valid:
            credentials.refresh(asking)
    except Unusable:
        raise
    except ImportError as error:
        raise Unusable("requests is not installed: pip install 'epic-bitstore[gcp]'") from error
    except Exception as error:  # whatever a token service or a credentials object of the user's own raises
        if force or not _outlives(credentials):
            outage = is_outage(error) or asking.passing
            raise Unusable(f"the access token could not be refreshed: {brief(error)}", outage=outage) from error
    token = credentials.token
    if not isinstance(token, str) or not _IN_HEADER(token):
        raise Unusable(f"{show(given)} gives no access token")
    return _Obtained(credentials, token, _LOOK_AGAIN if credentials.valid else _LOOK_SOON)


class _Asking:
    """google-auth's way to send a request, with time limits, and a memory of how the service answered last."""

    def __init__(self) -> None:
        self._send: Any = None
        self._status = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self._send is None:
            from google.auth.transport.requests import Request

            self._send = Request()
        options.setdefault("timeout", (CONNECT_LIMIT, READ_LIMIT))
        response = self._send(*args, **options)
        self._status = response.status
        return response

    @property
    def passing(self) -> bool:
        """Whether the last answer says that the service is out or overrun, whatever google-auth makes of it."""
        return self._status in (408, 429) or self._status >= 500


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


def _usable(given: Any, asking: _Asking) -> Any:
    try:
        import google.auth
        from google.auth.credentials import Credentials, with_scopes_if_required
        from google.oauth2 import credentials, service_account

        # google-auth has no types of its own.
        default: Any = google.auth.default
        user: Any = credentials.Credentials
        service: Any = service_account.Credentials
        scoped: Any = with_scopes_if_required
    except ImportError as error:
        raise Unusable("google-auth is not installed: pip install 'epic-bitstore[gcp]'") from error
    try:
        if given is None:
            found, _ = default(scopes=_SCOPES, request=asking)
            return found
        if isinstance(given, dict):
            if given.get("type") == "authorized_user":
                return user.from_authorized_user_info(given, _SCOPES)
            return service.from_service_account_info(given, scopes=_SCOPES)
        if isinstance(given, Credentials):
            return scoped(given, _SCOPES)
    except Exception as error:  # no default credentials, a key that does not parse, a missing field: all unusable
        advice = "; for public buckets use GSRaw.anonymous()" if given is None else ""
        raise Unusable(f"{show(given)}: {brief(error)}{advice}", outage=asking.passing) from error
    raise Unusable(
        "credentials are None, 'anonymous', a google-auth credentials object or a dict with the fields of a "
        f"service account's key file, not {type(given).__name__}"
    )
