"""Whether the native transport carries requests: chosen at the first request of a process, by what is there."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from typing import NamedTuple

from bitstore._support.once import warn_once

__all__ = ["API", "VARIABLE", "Choice", "choice", "chosen", "demanded"]

logger = logging.getLogger("bitstore")

API = 2  # the number that `_core` must have: of what it offers to the Python beside it
VARIABLE = "BITSTORE_NATIVE"  # 0: it is not used; 1: an error where it cannot be used; not set: used where it can be
_CORE = "bitstore._transport.native._core"


class Choice(NamedTuple):
    """What is to be said of the native transport in this process."""

    state: str  # used, off (switched off by `BITSTORE_NATIVE`), absent (it was not built), or broken (it does not load)
    detail: str | None = None  # of `used` the version of OpenSSL, of `broken` the reason
    error: Exception | None = None  # of `broken` what its import raised

    def __str__(self) -> str:
        words = {"off": f"off ({VARIABLE}=0)", "absent": "not built"}
        return f"native transport: {words.get(self.state) or f'{self.state} ({self.detail})'}"

    def as_dict(self) -> dict[str, str | None]:
        """State and detail by name, for `--json`."""
        return {"state": self.state, "detail": self.detail}


def choice() -> Choice:
    """Look whether the native transport is there and loads, unless it is switched off."""
    switch = os.environ.get(VARIABLE, "")
    if switch == "0":
        return Choice("off")
    if switch not in ("", "1"):
        return Choice("broken", f"{VARIABLE}={switch}: it is 0, 1 or not set")
    if importlib.util.find_spec(_CORE) is None:
        return Choice("absent")
    try:
        core = importlib.import_module(_CORE)
        if core.API != API:
            raise ImportError(
                f"it was built for another version of bitstore (API {core.API}, not {API}): build it again"
            )
        return Choice("used", core.version())
    except Exception as error:  # a library is missing; or the file was built elsewhere, and anything may be wrong
        return Choice("broken", str(error) or type(error).__name__, error)


def demanded() -> None:
    """Raise `ImportError` where `BITSTORE_NATIVE` is neither 0 nor 1, or is 1 and there is nothing to use."""
    if (switch := os.environ.get(VARIABLE, "")) in ("", "0"):
        return
    found = choice()
    if found.state in ("absent", "broken"):
        raise ImportError(f"{VARIABLE}={switch} asks for what is not there: {found}") from found.error


def chosen() -> bool:
    """Whether the native transport is used.

    One that does not load is left out, with a warning.

    Raises
    ------
    ImportError
        `BITSTORE_NATIVE=1` asks for it, and it cannot be used; or that variable has another value than 0 and 1.
    """
    demanded()
    found = choice()
    if found.state == "broken":
        warn_once(logger, "native transport", "%s; requests go by the other transports", found)
    return found.state == "used"
