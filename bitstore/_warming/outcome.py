"""What became of one digest of a warming."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from bitstore._warming.parts import There
from bitstore.blob import Blob
from bitstore.errors import BudgetReached, InvalidURI, NotFoundInStore, budget_reached, reason_of

__all__ = ["Kind", "Outcome", "failed", "outcome_of"]

Kind: TypeAlias = Literal["found", "missing", "failed", "invalid", "warm", "there"]

_LONGEST = 500  # characters of an error: a ledger may hold millions


class Outcome(NamedTuple):
    """What became of one digest.

    Attributes
    ----------
    digest
        In lower case; where it was none (`"invalid"`), the text that stood there.
    kind
        `"found"`: the caches hold it now; `"missing"`: no store has it; `"failed"`: it could not be looked up, or not
        be kept; `"invalid"`: it is no digest; `"warm"` (of dry runs alone): the caches held it before; `"there"` (of
        `bitstore fetch` alone): the output held it before.
    tier
        Where it was found.
    size
        Bytes of the blob; None where they did not have to be moved.
    error
        Why it was not found.
    used_up
        What a budget has said that does not allow its lookup; None: no budget was in the way.
    """

    digest: str
    kind: Kind
    tier: str | None = None
    size: int | None = None
    error: str | None = None
    used_up: str | None = None


def outcome_of(blob: Blob) -> Outcome:
    """The outcome of a lookup."""
    error, data = blob.error, blob.data
    if error is None:
        if isinstance(data, (bytes, bytearray, memoryview, There)):
            return Outcome(blob.uri, "found", str(blob.source), None if isinstance(data, There) else len(data))
        return failed(blob.uri, f"{blob.source} returned {type(data).__name__}, not bytes")
    if isinstance(error, NotFoundInStore):
        return Outcome(blob.uri, "missing")
    if isinstance(error, InvalidURI):
        return Outcome(str(blob.uri)[:_LONGEST], "invalid", error=str(error)[:_LONGEST])
    return failed(blob.uri, reason_of(error), budget_reached(error))


def failed(digest: Any, reason: str, budget: BudgetReached | None = None) -> Outcome:
    """The outcome of a digest that could not be looked up, or not be kept; `budget`: what a budget has said."""
    return Outcome(digest, "failed", error=reason[:_LONGEST], used_up=None if budget is None else budget.reason)
