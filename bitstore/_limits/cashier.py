"""What a budget has in one process: it sets aside what a call or request may cost, and frees what it did not."""

from __future__ import annotations

import threading

from bitstore._limits.purses import Caps, Purse
from bitstore._limits.state import AccountError
from bitstore._money.amount import NOTHING, Amount
from bitstore._support import clock

__all__ = ["Cashier"]

# Seconds of spending that a process takes from a shared purse at once, and at most how many times what it has spent.
_AHEAD = 0.5
_FASTER = 8
_KEEP = 0.5  # seconds between two times at which it gives back what it does not need
_LOOK_AGAIN = 1.0  # seconds


class Cashier:
    """Sets aside and settles, for any number of threads.

    Of a shared purse it takes a little more than it needs, and keeps it as a lease of the source: not each request is
    then a transaction in a file. What is left of leases is given back when nothing is under way.

    Parameters
    ----------
    purse
        Where it is counted.
    caps
        What may be spent.
    """

    def __init__(self, purse: Purse, caps: Caps) -> None:
        self.purse = purse
        self._caps = caps
        # Held while a purse is asked that may block.
        self._asking = threading.Lock()
        # Guards all that follows. It is notified whenever something is settled.
        self._changed = threading.Condition(threading.Lock())
        # Requests that more is set aside for than they may come to cost.
        self._under_way = 0
        # How often something was settled: a waiting thread sees by it that it has missed one.
        self._settled = 0
        # What a shared purse has granted, and is neither spent nor set aside, by the names of sources.
        self._leases: dict[str, Amount] = {}
        # What sources have spent since a shared purse was asked for them last, and when that was.
        self._paces: dict[str, tuple[Amount, float]] = {}
        # When leases were given back last.
        self._given_back = 0.0

    def at_once(self, source: str, need: Amount) -> bool:
        """Set `need` aside for a request, if that needs no waiting. Never blocks."""
        with self._changed:
            if self.purse.shared:
                lease = self._leases.get(source, NOTHING)
                if not self._caps.cover(lease, need):
                    return False
                self._leases[source] = lease.minus(need)
            elif self.purse.take(self._caps, source, need, NOTHING) is None:
                return False
            self._under_way += 1
        return True

    def grant(self, source: str, need: Amount, *, under_way: int, wait: bool = True) -> Caps | None:
        """Set `need` aside; may block until requests that are under way have been settled.

        Parameters
        ----------
        source
            For which source.
        need
            How much.
        under_way
            How many requests begin with it, for which `settled` will be called.
        wait
            Whether to wait for what other requests do not come to cost.

        Returns
        -------
        Caps | None
            None: it is set aside. Else what is left, which is not enough; none is under way that could free more.

        Raises
        ------
        AccountError
            It cannot be counted.
        """
        while True:
            with self._changed:
                seen = self._settled
                ahead = self._ahead(source) if under_way else NOTHING
            with self._asking:
                granted = self.purse.take(self._caps, source, need, ahead)
                if granted is not None:
                    with self._changed:
                        if self.purse.shared:
                            self._leases[source] = self._leases.get(source, NOTHING).plus(granted.minus(need))
                        self._under_way += under_way
                    return None
            with self._changed:
                if self._settled != seen:
                    continue
                if self._under_way and wait:
                    self._changed.wait(_LOOK_AGAIN)
                    continue
            if not self.give_back():
                return self._caps.left(self.purse.spending().total)

    def settled(self, source: str, held: Amount, spent: Amount) -> None:
        """Free what was set aside for a request and not spent. Never blocks."""
        back = held.minus(spent)
        with self._changed:
            if self.purse.shared:
                self._leases[source] = self._leases.get(source, NOTHING).plus(back)
                used, since = self._paces.get(source, (NOTHING, clock.monotonic()))
                self._paces[source] = used.plus(spent), since
            else:
                self.purse.give_back(source, back)
            self._under_way -= 1
            self._settled += 1
            self._changed.notify_all()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and leases of a shared purse have been kept for a while."""
        if not self.purse.shared or self._under_way or clock.monotonic() - self._given_back < _KEEP:
            return False
        return any(lease != NOTHING for lease in list(self._leases.values()))

    def give_back(self) -> bool:
        """Give back all leases. Returns whether there was one. Raises `AccountError`: then they count as spent."""
        with self._changed:
            leases, self._leases = self._leases, {}
            self._given_back = clock.monotonic()
        found = False
        for source, lease in leases.items():
            if lease != NOTHING:
                self.purse.give_back(source, lease)
                found = True
        return found

    def left_beside(self, held: Amount) -> Caps:
        """What is left, and `held` besides, as far as this process knows."""
        try:
            return self._caps.left(self.purse.spending().total.minus(held))
        except AccountError:
            return self._caps

    def _ahead(self, source: str) -> Amount:
        """What a source may spend in the next half second, as it has until now. Begins to count again."""
        now = clock.monotonic()
        used, since = self._paces.get(source, (NOTHING, now))
        self._paces[source] = NOTHING, now
        return used.times(min(_FASTER, _AHEAD / max(now - since, 1e-3)))
