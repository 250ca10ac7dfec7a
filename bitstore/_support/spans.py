"""Spans of time, as people write them."""

from __future__ import annotations

import math
import re

__all__ = ["format_span", "parse_span"]

_SPAN = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*([a-z]{1,7})\s*", re.IGNORECASE | re.ASCII)
_UNITS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_SHORT = {"d": 86_400, "h": 3_600, "min": 60, "s": 1, "w": 604_800, "week": 604_800, "weeks": 604_800}
_NAMES = {**_SHORT, **_UNITS, **{f"{name}s": seconds for name, seconds in _UNITS.items()}}


def parse_span(span: float | str, *, name: str = "span") -> float:
    """The seconds that `span` means.

    Parameters
    ----------
    span
        Seconds as a number, or a text such as `"30 days"`, `"12h"`, `"90 min"`, `"45s"` or `"2w"`.
    name
        What the error message calls it.

    Raises
    ------
    ValueError
        `span` is no such number, or is not more than 0.
    """
    seconds = math.nan
    if isinstance(span, str):
        if (match := _SPAN.fullmatch(span)) and match[2].lower() in _NAMES:
            seconds = float(match[1]) * _NAMES[match[2].lower()]
    elif not isinstance(span, bool) and isinstance(span, (int, float)):
        seconds = float(span)
    if not seconds > 0:
        raise ValueError(f"{name}={span!r}: give seconds as a number above 0, or a text like '30 days' or '12h'")
    return seconds


def format_span(seconds: float) -> str:
    """`seconds` in words, in the largest unit of which they are a whole number.

    Examples
    --------
    >>> format_span(30 * 86_400), format_span(3_600), format_span(90), format_span(0.5)
    ('30 days', '1 hour', '90 seconds', '0.5 seconds')
    """
    if math.isinf(seconds):
        return "ever"
    for name, size in _UNITS.items():
        count, rest = divmod(seconds, size)
        if count and not rest:
            return f"{count:.0f} {name}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
