"""The observers of a composite, and the ways by which lookups and answers get to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from bitstore.observe._answer import Answer, OnAnswer, inside, notify
from bitstore.steps import Found, Steps

__all__ = ["Observer", "Watch"]


class Observer(Protocol):
    """What sees whole lookups besides answers, such as OpenTelemetry."""

    def watch(self, store: Any) -> None:
        """Begin with the lookups of `store`."""

    def stop(self, store: Any) -> None:
        """End with the lookups of `store`."""

    def context(self) -> Any:
        """Where a lookup that begins now belongs."""

    def lookup(self, store: Any, key: Any, steps: Steps[Found], context: Any) -> Steps[Found]:
        """`steps`, the lookup of `key`, with what the observer does before and after them."""

    def answered(self, answer: Answer) -> None:
        """A tier has answered the lookup whose steps are being performed."""


class Watch:
    """The observers of one composite. It pickles with the composite, as far as its parts do.

    Parameters
    ----------
    on_answer
        A user's function that is called with each answer.
    observer
        What sees lookups as well.
    """

    def __init__(self, on_answer: OnAnswer | None = None, observer: Observer | None = None) -> None:
        self.on_answer = on_answer
        self.observer = observer

    def lookup(self, store: Any, key: Any, steps: Steps[Found]) -> Steps[Found]:
        """The lookup of `key`, which begins in the caller's thread, as the observer sees it."""
        _check_outside()
        return steps if self.observer is None else self.observer.lookup(store, key, steps, self.observer.context())

    def lookups(self, store: Any, begin: Callable[..., Steps[Found]]) -> Callable[..., Steps[Found]]:
        """`begin`, by which a batch makes lookups in any thread, as the observer sees them."""
        observer = self.observer
        context = None if observer is None else observer.context()

        def lookup(key: Any, *more: Any) -> Steps[Found]:
            _check_outside()
            steps = begin(key, *more)
            return steps if observer is None else observer.lookup(store, key, steps, context)

        return lookup

    def answered(self, answer: Answer) -> None:
        """Pass an answer on. Raises nothing but KeyboardInterrupt."""
        if self.observer is not None:
            notify("OpenTelemetry", self.observer.answered, answer)
        if self.on_answer is not None:
            notify("on_answer", self.on_answer, answer)


def _check_outside() -> None:
    # The lookup could wait for the very one whose answer this is, and in the transfer thread for itself.
    if inside():
        raise RuntimeError("on_answer must not look up blobs of an observed store: hand the answer to another thread")
