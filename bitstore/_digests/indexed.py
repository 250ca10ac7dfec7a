"""The membership index of a digest store: what it surely lacks is not asked for, and what it is given is noted."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from bitstore._digests.template import key_template
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.sizes import format_size
from bitstore.errors import NotFoundInStore, StoreNotAvailable, described
from bitstore.evidence import Evidence
from bitstore.index._file import DamagedIndex
from bitstore.index._index import Index
from bitstore.index._membership import Denial, Membership, MembershipState
from bitstore.steps import Call, Steps

if TYPE_CHECKING:
    from typing_extensions import Self

    from bitstore.store import Store

__all__ = ["MAX_AGE", "Indexed"]

MAX_AGE = 172_800.0
"""Seconds: two days, because a daily inventory is that old just before the next one is there."""


class Indexed:
    """Base of stores that may have an index. It has a `prefix`, an `algorithm` and a `base_store`."""

    prefix: str
    algorithm: str
    base_store: Store
    # What the index says; None: there is no index.
    _membership: Membership | None = None
    _index_max_age: float = MAX_AGE
    recheck: bool = True

    def _use_index(self, index: str | os.PathLike[str] | Index | None, max_age: float, recheck: bool) -> None:
        """Take the options of the constructor. ValueError: the index is that of another store."""
        self.index_max_age = max_age
        self.recheck = recheck
        if index is not None:
            membership = Membership(index, self.algorithm)
            membership.check(self._pattern, self.base_store)
            self._membership = membership

    @property
    def index(self) -> str | None:
        """Path of the membership index; None: the store has none."""
        return None if self._membership is None else str(self._membership.path)

    @property
    def index_max_age(self) -> float:
        """Seconds after which what the index denies is asked for all the same, as late as possible."""
        return self._index_max_age

    @index_max_age.setter
    def index_max_age(self, seconds: Any) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"index_max_age={seconds!r}: expected a number of seconds above 0; inf: no limit")
        self._index_max_age = float(seconds)

    @property
    def index_state(self) -> MembershipState | None:
        """What is known of the index now; None: the store has none."""
        if self._membership is None:
            return None
        return self._membership.state(self._pattern, self.base_store, self.index_max_age)

    def denial(self, digest: Any) -> Denial | None:
        """What makes `digest` surely absent; None: the store has to be asked.

        It is a proof only where the store may leave it at that (`recheck=False`).
        """
        if self._membership is None:
            return None
        text = digest if isinstance(digest, str) else digest_algorithm(self.algorithm).text(digest)
        denial = self._membership.denial(text, self._pattern, self.base_store, self._index_max_age)
        return denial._replace(is_proof=False) if denial is not None and self.recheck else denial

    def without_index(self) -> Self:
        """The store itself, as it is asked for each blob."""
        if self._membership is None or self.recheck:  # by itself, an index that is checked has no say
            return self
        twin = copy.copy(self)
        twin._membership = None
        return twin

    @property
    def _pattern(self) -> str:
        return key_template(self.prefix).pattern

    def _deny(self, digest: str) -> None:
        """Raise `NotFoundInStore` for the lower-case `digest` where the index proves that it is absent."""
        if not self.recheck and (denial := self.denial(digest)) is not None and denial.is_proof:
            evidence = Evidence(key_template(self.prefix).shown, "index", str(denial), denial.covers_up_to)
            raise NotFoundInStore(self, digest, why=str(denial), evidence=(evidence,))

    def _note_steps(self, digest: str) -> Steps[None]:
        """Note that `digest` is written next: an index that was made before does not know of it."""
        assert self._membership is not None
        try:
            yield Call(self._membership.note, digest)
        except (OSError, DamagedIndex) as error:
            text = described(error) if isinstance(error, DamagedIndex) else f"{self.index}: {error}"
            raise StoreNotAvailable(
                self, f"'{digest}' is not written, because that cannot be noted beside the index: {text}"
            ) from error

    def _index_facts(self) -> dict[str, Any]:
        state = self.index_state
        if state is None:
            return {}
        if state.info is None:
            return {"index": self.index, "index is not used": state.trouble}
        told = f"{state.info.count:,} digests, {format_size(state.bytes)}, and {state.noted:,} written since"
        facts = {"index": self.index, "index has": told, "index covers up to": _seconds(state)}
        return facts | ({} if state.trouble is None else {"index is no proof": state.trouble})


def _seconds(state: MembershipState) -> str:
    assert state.info is not None
    return state.info.covers_up_to.isoformat(timespec="seconds")
