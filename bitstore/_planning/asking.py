"""The sample of a plan: some digests, looked for in free tiers without their bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

from bitstore._lookup.asking import steps_of_describe
from bitstore._planning.route import Leg, Part
from bitstore.errors import InvalidDataFound, NotFoundInStore
from bitstore.steps import Found, Steps

__all__ = ["Answer", "Asking"]


class Answer(NamedTuple):
    """What the tiers on the way of one digest have said."""

    # The legs that a lookup would go, each with the kind that it has turned out to be.
    legs: tuple[Leg, ...]
    # Bytes as they are stored, where the last leg holds the blob; None: unknown.
    size: int | None
    # Numbers of tiers that could not say, with the reason.
    failed: tuple[tuple[int, str], ...]


class Asking:
    """Asks the tiers that are open on the way of a digest, one after another; as a store, for a batch.

    Parameters
    ----------
    parts
        All tiers.
    routes
        The way of each digest.
    """

    label = "plan"

    def __init__(self, parts: list[Part], routes: dict[str, tuple[Leg, ...]]) -> None:
        self._parts = parts
        self._routes = routes

    def is_valid(self, uri: Any) -> bool:
        """True: the digests have been read already."""
        return True

    def canonical(self, uri: Any) -> Any:
        """The digest itself."""
        return uri

    def get_steps(self, digest: str) -> Steps[Found]:
        """Steps that end in an `Answer`. A paid tier is never asked: what it lacks is looked for further on."""
        legs: list[Leg] = []
        failed: list[tuple[int, str]] = []
        size = None
        for leg in self._routes[digest]:
            if leg.kind not in ("open", "held") or self._parts[leg.part].is_local:
                legs.append(leg)
                continue
            try:
                stored = yield from steps_of_describe(self._parts[leg.part].store, digest)
            except InvalidDataFound:
                stored = None
            except NotFoundInStore:
                stored = None
            except Exception as error:  # whatever a user's store raises: a lookup would go on, too
                failed.append((leg.part, str(error)))
                stored = None
            if stored is not None:
                size = stored.size
                legs.append(leg._replace(kind="held"))
                break
            legs.append(leg._replace(kind="lacked"))
        return Found(Answer(tuple(legs), size, tuple(failed)), self.label)
