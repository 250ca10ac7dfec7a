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
        share = Share(self.most, spare, self._shares)
        self._shares.append(share)
        return share


class Share:
    """The sockets of one transport."""

    def __init__(self, most: int, spare: Callable[[], object], shares: list[Share]) -> None:
        self.taken = 0  # sockets that the transport has open, as far as it knows; the transport counts
        self._most = most  # of all transports together
        self._spare = spare
        self._shares = shares  # of all transports, with this one

    @property
    def most(self) -> int:
        """How many sockets the transport may have open now: all that the others have not taken."""
        left = self._most + self.taken
        for share in self._shares:
            left -= share.taken
        return left

    def claim(self) -> int:
        """`most`, after other transports have closed what they do not need."""
        for share in self._shares:
            if share is not self and share.taken > self._most // 2:
                share._spare()
        return self.most
