"""The extension module, built by `hatch_build.py` from `src/`."""

from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import final

API: int  # of what the C code offers; `bitstore._transport.native.choice.API` says which number it must have

def version() -> str:
    """The version text of the OpenSSL that is loaded."""

def memory(size: int) -> bytes:
    """Bytes to be written, by `copy` and `Group.begin`. Nothing else may see them before all of them were written."""

def copy(memory: bytes, start: int, data: bytes) -> None:
    """Write `data` into such bytes. ValueError where it does not fit."""

@final
class Trust:
    """Certificate authorities, of a file or of a folder. Raises OSError where there are none."""

    def __init__(self, file: str | None, folder: str | None) -> None: ...

@final
class Origin:
    """The way to one scheme, host and port, for requests of one profile; of one group only.

    Parameters
    ----------
    trust
        None: plain HTTP.
    server_name
        Name or address that the certificate must be for.
    connect_timeout, stall_timeout
        Seconds, as in `Profile`.
    max_bytes
        Of a body; 0: no limit.
    """

    def __init__(
        self, trust: Trust | None, server_name: str, connect_timeout: float, stall_timeout: float, max_bytes: int
    ) -> None: ...
    def reached(self, address: str, port: int, seconds: float) -> None:
        """Learn where the server is; for so many seconds, new connections may be made to it."""

@final
class Sheet:
    """What the signed requests of one second to one origin have in common.

    Parameters
    ----------
    canonical
        What follows the path in the canonical form of a request.
    text
        What stands before the hash of that form in the text that is signed.
    before, after
        What follows the path in the message, up to the signature and after it.
    key
        Signs; of 32 bytes. ValueError for another size.
    """

    def __init__(self, canonical: bytes, text: bytes, before: bytes, after: bytes, key: bytes) -> None: ...

@final
class Group:
    """Connections, used by one thread at a time. RuntimeError if two use it at once.

    Parameters
    ----------
    response
        The named tuple of a whole answer with a status below 300: status, body, `headers`, 0.0, and the digest in
        hexadecimal or None.
    headers
        Of such an answer.
    interpret
        Makes the outcome of everything else: called with the exchange, the number of its outcome (`enum outcome` of
        src/group.h), status, body or None, head of an answer or None, and errno.

    Attributes
    ----------
    connections, queued, carried
        Open connections, and requests that wait for one or have one.
    """

    def __init__(
        self, response: type[tuple[Any, ...]], headers: Mapping[str, str], interpret: Callable[..., object]
    ) -> None: ...

    connections: int
    queued: int
    carried: int

    def begin(
        self,
        exchange: object,
        origin: Origin,
        text: str,
        sheet: Sheet | None,
        algorithm: int,
        max_bytes: int = -1,
        headers: bool = False,
        memory: bytes | None = None,
        start: int = 0,
    ) -> int:
        """Take a request; returns its number, for `abandon`.

        Parameters
        ----------
        text
            Its message or, with a sheet, its path. ValueError for a path that cannot be sent as it is.
        algorithm
            Of the digest of a blob: 1 to 4 for md5, sha1, sha256, sha512; 0: none.
        max_bytes
            Of the body; 0: no limit; negative: that of the origin.
        headers
            Whether `interpret` is called with the head for whole answers with a status below 300, too, and for bodies
            that broke off.
        memory, start
            Where the body goes if the status is 206, from this position on: `interpret` is called with `memory` itself
            in place of the body. A body that is small or does not fit there is passed on as it is.
        """

    def begin_together(
        self, exchanges: list[Any], origin: Origin, texts: list[Any], sheet: Sheet | None, algorithm: int
    ) -> list[int | None]:
        """Take plain requests that `begin` would take; returns their numbers, and None for the others."""

    def abandon(self, number: int) -> None:
        """End a request that has not ended, and its connection. KeyError for another number."""

    def turn(self, limit: int, most: int, portion: int, patience: float) -> list[tuple[Any, Any]]:
        """Do what can be done without the GIL; returns the exchanges that have ended, with their outcomes.

        Parameters
        ----------
        limit
            Requests carried at once.
        most
            Connections.
        portion, patience
            Return when so many requests have ended, or one has and so many seconds are over.
        """

    def perform(self, seconds: float) -> list[tuple[Any, Any]]:
        """Wait until the one request that was begun has ended, for so many seconds at most; runs signal handlers."""

    def busy(self) -> bool:
        """Whether `turn` has something to do that `fileno` does not tell."""

    def fileno(self) -> int:
        """A file descriptor that is readable when `turn` has something to do; -1: there is none on this system."""

    def trim(self, most: int) -> None:
        """Close idle connections until there are so many at most."""
