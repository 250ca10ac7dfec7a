"""Many lookups at once: answers as they come, in the consumer's thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from bitstore._lookup.asking import Errors
from bitstore._lookup.options import LookupOptions
from bitstore._lookup.window import Window
from bitstore._support.redact import redact, redact_url, text_of
from bitstore.blob import Blob

__all__ = ["check_errors", "get_many", "passes"]

logger = logging.getLogger("bitstore")


def get_many(
    store: Any, uris: Iterable[Any], options: LookupOptions, *, ordered: bool, errors: Errors
) -> Iterator[Blob]:
    """The answers of `Store.get_many`. Options that make no sense raise at once, not at the first answer."""
    check_errors(errors)
    return _answers(Window(store, uris, options), ordered, errors)


def _answers(window: Window, ordered: bool, errors: Errors) -> Iterator[Blob]:
    try:
        for blob in window.answers(ordered):
            if blob is None:
                window.wait()
            elif passes(blob, errors):
                yield blob
    finally:  # also when the consumer stops early
        window.close()


def check_errors(errors: Errors) -> None:
    """Raise ValueError unless `errors` is one of the words that `Store.get_many` knows."""
    if errors not in get_args(Errors):
        raise ValueError(f"errors={errors!r}: choose one of {', '.join(get_args(Errors))}")


def passes(blob: Blob, errors: Errors) -> bool:
    """Whether the consumer is given `blob`, by its option `errors`. Raises the blob's error with `"raise"`."""
    if blob.error is None or errors == "return":
        return True
    if errors == "raise":
        raise blob.error
    if errors == "log":
        cause = redact(text_of(blob.error))
        logger.warning("%s: %s: %s", redact_url(text_of(blob.uri)), type(blob.error).__name__, cause)
    return False
