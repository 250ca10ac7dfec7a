"""A hard cap on what a whole cluster spends, all jobs and nodes together."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

from bitstore._limits.budget import Budget
from bitstore._limits.purses import Caps, FilePurse, Purse, Spending
from bitstore._limits.state import AccountError
from bitstore._money.amount import Amount
from bitstore._support.per_process import current
from ray_integration._limits.central_actor import Central, Unreachable
from ray_integration._limits.cluster_limit import default_file

__all__ = ["BudgetKeeper", "ClusterBudget"]


class BudgetKeeper:
    """Counts what a cluster spends in a file of its node. An actor class; its calls are served one after another.

    A call that is lost with a crash of this actor is made again. What was taken is then taken twice, which is safe;
    what is given back has a number in the file, so that it is not given back twice.

    Parameters
    ----------
    name
        Name of the budget.
    state
        The file, on the node where this runs; None: one in the state folder of the user.
    known
        Whether the process that makes this has met one before; so it is, too, when Ray restarts it. Where the file then
        does not know the budget, it was lost, and nothing more is granted.
    """

    def __init__(self, name: str, state: str | None, known: bool) -> None:
        from ray import get_runtime_context

        self._currency: str | None = None
        restarted = bool(get_runtime_context().was_current_actor_reconstructed)
        self._purse = FilePurse(state or default_file(), name, lambda: self._currency, known=known or restarted)

    def take(self, caps: Caps, currency: str | None, source: str, need: Amount, ahead: Amount) -> Amount | None:
        """See `Purse`. When this returns, it is on the disk. Raises `AccountError`."""
        self._currency = currency
        return self._purse.take(caps, source, need, ahead)

    def give_back(self, process: str, number: int, source: str, amount: Amount) -> None:
        """See `Purse`; `number` grows with each message of `process`. Raises `AccountError`."""
        self._purse.give_back(source, amount, (process, number))

    def spending(self) -> Spending:
        """See `Purse`. Raises `AccountError`."""
        return self._purse.spending()


class _KeptPurse:
    """The purse of a cluster, as one process sees it."""

    shared = True

    def __init__(self, central: Central, budget: ClusterBudget) -> None:
        self._central = central
        self._budget = budget
        self._process = current().token
        self._numbers = itertools.count()
        self._giving = threading.Lock()

    def take(self, caps: Caps, source: str, need: Amount, ahead: Amount) -> Amount | None:
        """See `Purse`."""
        granted: Amount | None = self._call("take", caps, self._budget.currency, source, need, ahead)
        return granted

    def give_back(self, source: str, amount: Amount) -> None:
        """See `Purse`."""
        with self._giving:  # in the order of their numbers
            self._call("give_back", self._process, next(self._numbers), source, amount)

    def spending(self) -> Spending:
        """See `Purse`."""
        spending: Spending = self._call("spending")
        return spending

    def _call(self, method: str, *args: object) -> Any:
        try:
            return self._central.call(method, *args)
        except Unreachable as error:
            raise AccountError(str(error)) from error


class ClusterBudget(Budget):
    """What a whole Ray cluster may spend: `store.budget = ClusterBudget("25 USD", name="job")`. It is never passed.

    It means what `bitstore.Budget` means, for all nodes and jobs that give the same name. One actor on the head's node
    counts; what a process may spend is on the disk of that node before it is granted, so that neither the death of
    that actor, nor of the node that paid, lets more through. Processes of one name may have different caps: each stops
    at its own.

    Where the actor does not answer within 30 seconds, or Ray is not running in the process that looks something up,
    the lookup fails with `StoreNotAvailable`, and nothing is spent.

    Parameters
    ----------
    most, calls, requests, bytes
        As for `bitstore.Budget`.
    name
        Name of the budget in the cluster, and in the file.
    state
        Absolute path of the file (SQLite) on the head's node, on a local disk; None: `limits.sqlite` in the folder for
        state of the user that runs the cluster. What was counted there outlives the cluster.

    Raises
    ------
    TypeError, ValueError
        A cap that is no amount, or is negative; an empty name; or a path that is not absolute.
    """

    def _check(self) -> None:
        if self.state is not None and not Path(self.state).is_absolute():
            raise ValueError(f"state={self.state!r}: must be an absolute path, because it is a file of the head's node")

    def shutdown(self) -> None:
        """End the actor, for all processes: the next call makes another. What was counted stays."""
        self._central().end()

    def _new_purse(self) -> Purse:
        return _KeptPurse(self._central(), self)

    def _central(self) -> Central:
        name, state = self.name, self.state
        return Central(f"bitstore-budget-{name}", BudgetKeeper, lambda met: (name, state, met))
