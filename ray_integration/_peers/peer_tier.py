"""The disks of other nodes as a tier of a node's store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitstore.errors import InvalidDataFound, NotFoundInStore
from bitstore.steps import Found, Scope, Steps, Wait
from bitstore.store import Store
from ray_integration._peers.questions import Question

__all__ = ["PeerTier"]


class PeerTier(Store):
    """Has what other node stores have on their disks.

    A node store that does not answer, or whose disk fails, makes a blob missing here and never fails the lookup: what
    stands in the tiers below is still asked for there, and only they say that there is no such blob.

    Parameters
    ----------
    ask
        Begins a question; None: there is no node store to ask.
    """

    bytes_only = True
    scope: Scope = "process"  # a warming fills the disks themselves

    def __init__(self, ask: Callable[[str], Question | None]) -> None:
        self._ask = ask

    label = "peers"

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str)

    def get(self, uri: Any) -> bytes:
        raise NotImplementedError("it is looked up by its steps")

    def get_steps(self, uri: str) -> Steps[Found]:
        question = self._ask(uri)
        if question is None:
            raise NotFoundInStore(self.label, uri)
        yield Wait(question)
        if question.data is not None:
            return Found(question.data, self.label)
        if question.wrong:
            raise InvalidDataFound(self.label, uri, "another node gave bytes that do not match")
        raise NotFoundInStore(self.label, uri)

    def exists_steps(self, uri: str) -> Steps[bool]:
        yield from ()
        return False
