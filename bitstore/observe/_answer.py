"""One tier's answer to one lookup, and the function that is called with it."""

from __future__ import annotations

import inspect
import logging
import os
import threading
import traceback
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from bitstore._support.once import warn_once
from bitstore.errors import described

__all__ = ["Answer", "OnAnswer", "check_callback", "inside", "notify"]

logger = logging.getLogger("bitstore")


class Answer(NamedTuple):
    """One tier's answer to one lookup, which the function `on_answer` of a composite is called with.

    What `TierStats` counts, one by one. A lookup that tries again, or has to ask several tiers, has several answers.
    One that waits for another lookup of the same blob has none of its own.

    Attributes
    ----------
    digest
        The digest in lower case; of a composite addressed by URL, the URL.
    tier
        Name of the tier.
    seconds
        Time from the question to the answer, retries included; 0 where the tier was not asked.
    bytes
        Size of the blob; 0 unless found.
    kind
        None: found. `"missing"`: the tier lacks the blob. `"failed"`: it did not answer, is left alone after repeated
        failures, or the time limit of the lookup is over. `"invalid"`: its bytes did not match the digest.
        `"skipped"`: a paid tier was not asked, because an earlier tier failed or no cache could keep what it returns.
    error
        The error of what is not found; None: found or missing.
    """

    digest: Any
    tier: str
    seconds: float
    bytes: int
    kind: Literal["missing", "failed", "invalid", "skipped"] | None
    error: BaseException | None


OnAnswer = Callable[[Answer], object]


class _Inside(threading.local):
    """Whether the calling thread is in a callback."""

    now = False


_inside = _Inside()


def inside() -> bool:
    """Whether a callback is under way in this thread."""
    return _inside.now


def check_callback(function: Any) -> Any:
    """`function`, if it can be called with answers. Raises TypeError."""
    if function is None:
        return None
    if not callable(function):
        raise TypeError(f"on_answer is a function of one argument, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise TypeError(f"on_answer is a plain function, and {function!r} is a coroutine function: nothing awaits it")
    return function


def notify(what: str, function: Callable[..., object], *args: Any) -> None:
    """Call `function`, which is known to users as `what`. Whatever it raises, but for Ctrl-C, is logged."""
    _inside.now = True
    try:
        function(*args)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what a user's function raises is no part of the lookup
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"  # noqa: PTH119
        text = "%s failed (%s, %s); lookups go on, further failures of this kind are logged at level DEBUG"
        warn_once(logger, (what, where, type(error)), text, what, described(error), where)
    finally:
        _inside.now = False
