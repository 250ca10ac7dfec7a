"""What may be asked of an API source by a whole cluster, all jobs and nodes together."""

from __future__ import annotations

from pathlib import Path

from bitstore._limits.accounts import Account, AccountError, FileAccount
from bitstore._limits.calls import Limit
from bitstore._limits.windows import Terms, Verdict
from ray_integration._limits.central_actor import Central, Unreachable

__all__ = ["CallKeeper", "ClusterLimit", "default_file"]

_FILE = "limits.sqlite"


class CallKeeper:
    """Counts the calls of a cluster in a file of its node. An actor class; its calls are served one after another.

    Parameters
    ----------
    name
        Name of the limit.
    terms
        What is allowed.
    state
        The file, on the node where this runs; None: one in the state folder of the user.
    known
        The process that makes this has met one before; so it is, too, when Ray restarts it. Where the file then knows
        nothing of the limit, it was lost, and counting begins as if all that is allowed had just been called.

    Notes
    -----
    An error of the constructor is raised by the calls, because Ray reports an actor that could not be made only as
    text.
    """

    def __init__(self, name: str, terms: Terms, state: str | None, known: bool) -> None:
        from ray import get_runtime_context

        self._name = name
        self._terms = terms
        self._broken: AccountError | None = None
        restarted = bool(get_runtime_context().was_current_actor_reconstructed)
        try:
            self._account = FileAccount(state or default_file(), name, terms, known=known or restarted)
            self._account.open()
        except AccountError as error:
            self._broken = error

    def take(self, terms: Terms) -> Verdict:
        """Count one call of a process that goes by `terms`. When this returns, it is on the disk.

        Raises
        ------
        AccountError
            It cannot be counted, or there are other terms here.
        """
        self._check(terms)
        return self._account.take()

    def hold(self, terms: Terms, seconds: float) -> None:
        """Grant nothing for so long. Raises as `take` does."""
        self._check(terms)
        self._account.hold(seconds)

    def _check(self, terms: Terms) -> None:
        if terms != self._terms:
            raise AccountError(
                f"this process says {str(terms) or 'no limit'}, but the keeper of the limit in this cluster was made "
                f"with {str(self._terms) or 'no limit'}: give one name the same numbers everywhere, or "
                "end the keeper with ClusterLimit.shutdown() first"
            )
        if self._broken is not None:
            raise self._broken


class _KeptAccount:
    """The account of a cluster, as one process sees it."""

    def __init__(self, central: Central, terms: Terms) -> None:
        self._central = central
        self._terms = terms

    def take(self) -> Verdict:
        """See `Account`."""
        try:
            verdict: Verdict = self._central.call("take", self._terms)
        except Unreachable as error:
            raise AccountError(str(error)) from error
        return verdict

    def hold(self, seconds: float) -> None:
        """See `Account`."""
        try:
            self._central.call("hold", self._terms, seconds)
        except Unreachable as error:
            raise AccountError(str(error)) from error


class ClusterLimit(Limit):
    """What an API source may do, counted for a whole Ray cluster: `Sha1APISource(limit=ClusterLimit(...))`.

    It means what `bitstore.CallLimit` means, for all nodes and jobs that give the same name, and the same numbers.
    One actor on the head's node counts; each call is on the disk of that node before it is granted, so that neither
    the death of that actor, nor of the node that called, lets more through. A grant that is lost on its way counts.

    What it counted outlives the cluster, in the file. Where the actor is made again within one cluster and the file is
    gone, counting begins as if all that is allowed had just been called, the budget as well. A new cluster on a
    machine without the file begins with nothing called: give `state` a path on a disk that stays.

    Where the actor does not answer within 30 seconds, or Ray is not running in the process that looks something up,
    the lookup fails with `StoreNotAvailable`, and nothing is called.

    Parameters
    ----------
    name
        Name of the account with the API.
    per_second, per_minute, per_day, budget, wait
        As for `bitstore.CallLimit`. Processes with different numbers for one name get errors that tell both.
    state
        Absolute path of the file (SQLite) on the head's node, on a local disk; None: `limits.sqlite` in the folder for
        state of the user that runs the cluster.

    Raises
    ------
    TypeError, ValueError
        A limit that is no whole number or not positive, or a path that is not absolute.
    """

    def _check(self) -> None:
        if self.state is not None and not Path(self.state).is_absolute():
            raise ValueError(f"state={self.state!r}: must be an absolute path, because it is a file of the head's node")
        if self._clock is not None:
            raise TypeError("clock=...: a ClusterLimit counts by the clock of the head's node")

    def shutdown(self) -> None:
        """End the actor, for all processes: the next call makes another, with its numbers. What was counted stays."""
        self._central().end()

    def _new_account(self) -> Account:
        return _KeptAccount(self._central(), self.terms)

    def _central(self) -> Central:
        name, terms, state = self.name, self.terms, self.state
        return Central(f"bitstore-limit-{name}", CallKeeper, lambda met: (name, terms, state, met))


def default_file() -> Path:
    """Where a cluster counts, on the head's node, unless a path is given."""
    import platformdirs

    return platformdirs.user_state_path("bitstore") / _FILE
