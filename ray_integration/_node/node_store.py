"""The node store: the process of one node that fetches for all jobs' actors, and whose disk cache they share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from bitstore import __version__
from bitstore._frames.buffers import BufferPool
from bitstore._frames.row_answer import answer_of
from bitstore._tiers.chain import Chain
from bitstore._tiers.sharing import hear, learned_of
from bitstore._tiers.views import count_hits, free_part
from bitstore._warming.outcome import Outcome
from bitstore.blob import Blob
from bitstore.errors import BitstoreError, LookupFailed, NotFoundInStore, StoreNotAvailable, described
from bitstore.store import Store
from ray_integration._cluster import node_name
from ray_integration._node.decoding import Decode, Decoders, decoded
from ray_integration._node.gc_freeze import freeze_after_imports
from ray_integration._node.keeping import KeepOrder, keep_on_node
from ray_integration._node.metrics import TierMetrics
from ray_integration._node.own_disk import DiskPlace, OwnDisk, Reads
from ray_integration._node.pieces import Packer, Piece
from ray_integration._node.places import caches_of, origins_of, place_of
from ray_integration._node.usable import usable_part
from ray_integration._node.usage import Usage
from ray_integration._node.versions import VersionMismatch, check_code
from ray_integration._own_code import stamp_of
from ray_integration._peers.hand_out import HandOut
from ray_integration._peers.peers import Peers

__all__ = ["Description", "NodeStore", "NotSetUp", "needs_paid"]

_HELD_BYTES = 64 << 20


class NotSetUp(BitstoreError, RuntimeError):
    """A node store was called whose store could not be set up on its node. It has looked up nothing."""


@dataclass(frozen=True)
class Description:
    """What a node store says of itself."""

    node_id: str
    pid: int
    version: str  # of bitstore
    python: str  # version of Python
    notes: tuple[str, ...]  # what its node lacks, in words


class NodeStore:
    """One store for a node. An actor class: its methods run in threads, each call in one of its own.

    What it lacks it may take from the disks of other nodes (see `Peers`).

    Parameters
    ----------
    config
        The store, pickled by Ray's pickle. Bytes, because they travel inside the actor's own description: an argument
        in the object store may be lost with a node, and the actor could not be restarted.
    version
        The version of bitstore that pickled it.
    code
        The hash of each module of the store's own code, where the pool was made (see `own_code`).
    older
        Names of the node stores of the pool that were there before this one.

    Notes
    -----
    An error of the constructor is raised by `describe`, because Ray reports an actor that could not be made only as
    text. The pool's keeper then ends the actor; until it has, callers find it by its name.
    """

    def __init__(self, config: bytes, version: str, code: Mapping[str, str], older: Sequence[str] = ()) -> None:
        from ray import cloudpickle, get_runtime_context

        context = get_runtime_context()
        self._node_id: str = context.get_node_id()
        self._broken: Exception | None = None
        self._notes: list[str] = []
        self._store = self._free = None
        self._disk: OwnDisk | None = None
        self._buffers = BufferPool()
        self._usage = Usage()
        self._code = stamp_of(code)
        self._decoders = Decoders(f"the node store of node {self._node_id}", code)
        try:
            if version != __version__:
                raise VersionMismatch(f"node {self._node_id}", __version__, version)
            check_code(f"node {self._node_id}", code)
            self._store, self._notes = usable_part(cloudpickle.loads(config))
        except Exception as error:  # a user's store may fail in any way where it is unpickled
            self._broken = error
        else:
            self._free = free_part(self._store)
            self._disk = OwnDisk.of(self._store)
            self._peers = Peers(self._store, self._free, context.get_actor_name() or self._node_id, older)
            self._metrics = TierMetrics(self._store, self._free, usage=self._usage)

    def describe(self) -> Description:
        """The process, its node and its versions.

        Raises
        ------
        VersionMismatch
            This node has another version of bitstore, or of the store's own code, than the process that made the pool.
        Exception
            Whatever the store raised when it was unpickled.
        """
        if self._broken is not None:
            raise self._broken
        return Description(self._node_id, os.getpid(), __version__, sys.version.split()[0], tuple(self._notes))

    def ping(self) -> None:
        """Answer, as a sign of life.

        Raises
        ------
        NotSetUp
            The process lives, but has no store.
        """
        self._check_set_up()

    def own_disk(self) -> DiskPlace | None:
        """The disk cache whose hits other processes of this node may read by themselves; None: there is none."""
        return None if self._disk is None else self._disk.place()

    def count_reads(self, reads: Reads) -> None:
        """Count what another process of this node read from `own_disk`, as lookups here."""
        store: Any = self._store
        if self._disk is not None:
            self._usage.touch()
            count_hits(store, self._disk.tier, hits=reads.hits, size=reads.bytes, invalid=reads.invalid)
            self._metrics.report()

    def fetch(
        self,
        digests: Sequence[str],
        *,
        ask_paid: bool,
        timeout: float | None,
        in_flight: int | None,
        patience: float,
        with_errors: bool,
        caller: str | None = None,
        decode: Decode | None = None,
        leaving: Sequence[str] = (),
        spread: int = 0,
        ways: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[Piece]:
        """Look up blobs; each position of `digests` is answered once, in any order.

        Parameters
        ----------
        digests
            What to look up, each different.
        ask_paid
            Whether sources that cost money may be asked.
        timeout, in_flight, patience
            As for `get_many`.
        with_errors
            Send the errors themselves besides their texts.
        caller
            Id of the caller's node, to count what leaves this one; None: unknown.
        decode
            What is sent in place of blobs.
        leaving
            Names of the node stores that leave, from whose disks what they owned is taken.
        spread
            How many nodes there are, if hot blobs may be left to the caller's own node.
        ways
            The digests are hot: from which node stores this one takes each. What those lack counts as unpaid.

        Raises
        ------
        VersionMismatch, DecodeNotLoaded
            The decode function cannot be used here.

        Yields
        ------
        Piece
            Of bounded size, unless a single blob is larger.
        """
        self._check_set_up()
        freeze_after_imports()
        self._peers.heed(leaving)
        away = caller is not None and caller != self._node_id
        options = {"timeout": timeout, "in_flight": in_flight, "patience": patience}
        with self._usage.call():
            if ways is None:
                hot = self._peers.hot_among(digests, spread) if spread else []
                store = self._store if ask_paid else self._free
            else:
                hot, store = [], self._peers.near(ways)
            may_pay = ways is not None or (not ask_paid and self._free is not self._store)
            try:
                for piece in self._pieces(
                    digests, hot, store, may_pay=may_pay, with_errors=with_errors, decode=decode, **options
                ):
                    self._metrics.report()
                    yield from self._usage.hand_over(piece, away=away)
            finally:
                self._peers.forget(ways or ())
        self._metrics.report()

    def _pieces(
        self,
        digests: Sequence[str],
        hot: list[int],
        store: Any,
        *,
        may_pay: bool,
        with_errors: bool,
        decode: Decode | None,
        **options: Any,
    ) -> Iterator[Piece]:
        function = None if decode is None else self._decoders.load(decode)
        packer = Packer(self._buffers)
        if store is None:
            packer.unpaid = list(range(len(digests)))
            yield packer.take()
            return
        positions: Sequence[int] = range(len(digests))
        if hot:
            packer.hot = hot
            positions = sorted(set(positions).difference(hot))
            digests = [digests[position] for position in positions]
        near = store is not self._store and store is not self._free
        blobs: Any = Store.get_many(store, digests, errors="return", max_bytes=_HELD_BYTES, **options)
        with closing(blobs):
            for blob in blobs:
                position = positions[blob.index]
                if may_pay and blob.error is not None and (near or needs_paid(self._store, blob)):
                    packer.unpaid.append(position)
                    continue
                answer = answer_of(blob)
                if decode is not None:
                    answer = decoded(function, decode.form, answer, blob.uri)
                if not packer.has_room(answer.size):
                    yield packer.take()
                if answer.data is not None:
                    packer.add(position, answer.data, str(answer.source))
                else:
                    error = _portable(answer.error) if with_errors and answer.error is not None else None
                    packer.add_other((position, str(answer.text), error))
        yield packer.take()

    def hand_out(
        self, digests: Sequence[str], *, to: str, yours: Sequence[str], ways: Mapping[str, Sequence[str]]
    ) -> HandOut:
        """What this node's disks have of `digests`, for another node store (see `Peers.hand_out`)."""
        self._check_set_up()
        return self._peers.hand_out(digests, to=to, yours=frozenset(yours), ways=ways)

    def hand_over(self, staying: Sequence[str]) -> None:
        """Begin to give what is on this node's disks to the node stores that stay, because the node leaves."""
        self._check_set_up()
        self._peers.hand_over(staying)

    def lacking(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` that this node's disks lack."""
        self._check_set_up()
        return self._peers.lacking(digests)

    def take(self, blobs: Mapping[str, bytes]) -> int:
        """Keep blobs of a node that leaves; how many were kept."""
        self._check_set_up()
        return self._peers.take(blobs)

    def keep(self, digests: Sequence[str], order: KeepOrder) -> Iterator[list[Outcome]]:
        """Fill caches (see `bitstore._warming`); some outcomes at a time, and no blob, come back.

        `digests` are all different, and each has one outcome, in any order.
        """
        self._check_set_up()
        freeze_after_imports()
        with self._usage.call():
            for outcomes in keep_on_node(self._store, self._free, digests, order, node=self._node_id):
                self._metrics.report()
                yield outcomes

    def _check_set_up(self) -> None:
        if self._broken is not None:
            raise NotSetUp(f"node {self._node_id} could not set the store up: {self._broken}")

    def learned(self) -> dict[str, Any] | None:
        """What this process has learned of sources, by cohort; None: the store learns no order."""
        return learned_of(self._store)

    def hear(self, told: Sequence[dict[str, Any]]) -> None:
        """Take what the other node stores have learned, in place of what they had told before."""
        hear(self._store, told)

    def stats(self) -> list[dict[str, int | str]]:
        """The counts of each tier of a composite (see `TierStats`), its place and the node; none for other stores."""
        if not isinstance(self._store, Chain):
            return []
        where = {"node": node_name(self._node_id), "node_id": self._node_id}
        counts = self._store.stats()
        return [{**where, "place": place_of(tier.store), **counts[tier.name].as_dict()} for tier in self._store.tiers]

    def usage(self) -> dict[str, Any]:
        """What this node store is and is used for, as plain values: another version of bitstore may read them."""
        origins = origins_of(self._store)
        return {
            "node": node_name(self._node_id),
            "node_id": self._node_id,
            "pid": os.getpid(),
            "version": __version__,
            "python": sys.version.split()[0],
            "code": self._code,
            "requests": origins.requests,
            **{f"bytes_{place}": count for place, count in origins.bytes.items()},
            **self._usage.as_dict(),
            "caches": caches_of(self._store),
            "notes": [*self._notes, *([] if self._broken is None else [f"has no store: {described(self._broken)}"])],
        }


def needs_paid(store: Any, blob: Blob) -> bool:
    """Whether what the free part of `store` answered leaves the word to its paid part.

    It does where the blob is missing; where it is not known, only if the store's owner wants that.
    """
    if isinstance(blob.error, NotFoundInStore):
        return True
    return isinstance(blob.error, LookupFailed) and bool(getattr(store, "call_when_uncertain", False))


def _portable(error: Exception) -> Exception:
    from ray import cloudpickle

    try:
        cloudpickle.loads(cloudpickle.dumps(error))  # type: ignore[no-untyped-call]
    except Exception:  # a user's exception may hold anything: its text must arrive all the same
        return StoreNotAvailable("the store", f"{type(error).__name__}: {error}")
    return error
