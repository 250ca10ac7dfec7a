"""The options of lookups in batches, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

from bitstore._support.sizes import parse_size

__all__ = ["MOST_THREADS", "LookupOptions", "check_timeout"]

MOST_THREADS = 16


@dataclass(frozen=True)
class LookupOptions:
    """How the lookups of one batch are performed; `Store.get_many` describes each option.

    Raises
    ------
    ValueError
        An option makes no sense; the text names it and what would.
    """

    # Seconds that one lookup may take in all; None: no limit.
    timeout: float | None = None
    # Lookups under way or waiting to be taken; None: chosen by the library.
    in_flight: int | None = None
    # Bytes of blobs that may be held at once, as a number or a text such as "256MB".
    max_bytes: int | str = "256MB"
    # Seconds from the beginning of an outage for which lookups are tried again.
    patience: float = 60.0
    # Threads that transfer; None: chosen by the library.
    threads: int | None = None

    def __post_init__(self) -> None:
        check_timeout(self.timeout)
        in_flight: Any = self.in_flight
        if in_flight is not None and not (_is_number(in_flight) and in_flight >= 1):  # NaN is not, either
            raise ValueError(f"in_flight={in_flight!r}: must be a number of lookups, at least 1")
        patience: Any = self.patience
        if not (_is_number(patience) and patience >= 0):
            raise ValueError(f"patience={patience!r}: must be a number of seconds, at least 0")
        threads: Any = self.threads
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MOST_THREADS):
            raise ValueError(f"threads={threads!r}: must be a number of threads, 1 to {MOST_THREADS}")
        parse_size(self.max_bytes)

    @property
    def bytes_held(self) -> int:
        """`max_bytes` as a number."""
        return parse_size(self.max_bytes)


def check_timeout(timeout: Any) -> None:
    """Raise ValueError unless `timeout` is None or a number of seconds above 0."""
    if timeout is not None and not (_is_number(timeout) and timeout > 0):
        raise ValueError(f"timeout={timeout!r}: must be more than 0 seconds")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real)
