"""The number of sockets that one transfer thread may have open, shared by its transports."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Share", "SocketBudget"]


class SocketBudget:
    """At most `most` sockets, whichever transport opens them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._shares: list[Share] = []

    def share(self, spare: Callable[[], object] = lambda: None) -> Share:
        """The share of one more transport.

        Parameters
        ----------
        spare
            Called when another transport needs sockets and this one has more than half of them: it should close those
            that carry nothing.
        """
        share = Share(self, spare)
        self._shares.append(share)
        return share

    def _left_by_others(self, share: Share) -> int:
        return self.most - sum(other.taken for other in self._shares if other is not share)

    def _spare(self, share: Share) -> None:
        for other in self._shares:
            if other is not share and other.taken > self.most // 2:
                other.spare()


class Share:
    """The sockets of one transport."""

    def __init__(self, budget: SocketBudget, spare: Callable[[], object]) -> None:
        self.taken = 0  # sockets that the transport has open, as far as it knows; the transport counts
        self.spare = spare
        self._budget = budget

    @property
    def most(self) -> int:
        """How many sockets the transport may have open now: all that the others have not taken."""
        return self._budget._left_by_others(self)

    def claim(self) -> int:
        """`most`, after other transports have closed what they do not need."""
        self._budget._spare(self)
        return self.most
