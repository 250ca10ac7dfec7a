"""The pools of a cluster, as a process sees them that made none of them."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from bitstore import __version__
from ray_integration._cluster import NAMESPACE, alive_nodes
from ray_integration._pool.asking import ask_all
from ray_integration._pool.found import FoundPool

__all__ = ["end_pools", "found_pools"]

_ANSWER = 10.0  # seconds in which all node stores have to answer together
_GOES = 10.0  # seconds in which an actor that is killed loses its name
_COMES_BACK = 4.0  # seconds after which a job that uses a pool has surely made its node stores again
_LOOK = 0.2  # seconds between two looks at the names

# The names that `NodePool` gives.
_NAME = re.compile(
    r"(?P<pool>bitstore-(?:private-[0-9a-f]{32}"
    r"|(?P<store>[0-9a-f]{32})(?:-(?P<code>[0-9a-f]{12}))?-(?P<version>[^-]+)-[0-9]+))"
    r"-(?P<node>[0-9a-f]{56})-(?P<worker>[0-9]+)"
)


class _Name(NamedTuple):
    """What the name of a node store says."""

    actor: str
    pool: str
    # Fingerprint of the store, stamp of its own code, version of bitstore; None: the name does not say.
    store: str | None
    code: str | None
    version: str | None
    node: str
    worker: int


def found_pools() -> list[FoundPool]:
    """All pools of the cluster to which this process is connected, by name."""
    import ray

    nodes = alive_nodes()
    by_pool: dict[str, list[_Name]] = {}
    handles: dict[str, Any] = {}
    for name in _names():
        by_pool.setdefault(name.pool, []).append(name)
        with contextlib.suppress(ValueError):  # it has ended meanwhile
            handle = ray.get_actor(name.actor, namespace=NAMESPACE)
            if hasattr(handle, "usage"):  # versions before this one cannot tell
                handles[name.actor] = handle
    told, _ = ask_all("of this cluster", handles, "usage", limit=_ANSWER)
    pools = [_found(pool, names, told, nodes) for pool, names in sorted(by_pool.items())]
    return [_with_reasons(pool, pools) for pool in pools]


def end_pools(pools: Sequence[FoundPool]) -> dict[str, str | None]:
    """End all node stores of these pools; returns for each, by name, why it did not end (None: it did).

    A job that uses a pool makes the node stores again within seconds, so this watches for that.
    """
    import ray

    wanted = {pool.name for pool in pools}
    for name in _names():
        if name.pool in wanted:
            with contextlib.suppress(ValueError):  # it has ended meanwhile
                ray.kill(ray.get_actor(name.actor, namespace=NAMESPACE))
    pause = threading.Event()  # never set: Ray has no event for names
    deadline = time.monotonic() + _GOES
    while (left := _there(wanted)) and time.monotonic() < deadline:
        pause.wait(_LOOK)
    told: dict[str, str | None] = dict.fromkeys(sorted(wanted))
    told |= dict.fromkeys(left, f"its node stores are still there after {_GOES:.0f} s")
    deadline = time.monotonic() + _COMES_BACK
    while (gone := wanted - left) and time.monotonic() < deadline:
        again = _there(gone)
        told |= dict.fromkeys(again, "a job that uses it has made it again: end that job first")
        left |= again
        pause.wait(_LOOK)
    return told


def _names() -> list[_Name]:
    import ray

    found = []
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE and (match := _NAME.fullmatch(entry["name"])):
            pool, store, code, version, node, worker = match.group("pool", "store", "code", "version", "node", "worker")
            found.append(_Name(entry["name"], pool, store, code, version, node, int(worker)))
    return found


def _there(pools: Collection[str]) -> set[str]:
    return {name.pool for name in _names()} & set(pools)


def _found(pool: str, names: Sequence[_Name], told: Mapping[str, Sequence[Any]], nodes: Mapping[str, str]) -> FoundPool:
    answered = [{**told[name.actor][0], "worker": name.worker} for name in names if name.actor in told]
    first = names[0]
    return FoundPool(
        name=pool,
        private=first.store is None,
        version=first.version or next((node["version"] for node in answered), None),
        store=first.store,
        code=first.code or next((node["code"] or None for node in answered), None),
        nodes=tuple(sorted(answered, key=lambda node: (node["node"], node["worker"]))),
        unanswered=tuple(sorted(nodes.get(name.node, name.node[:8]) for name in names if name.actor not in told)),
    )


def _with_reasons(pool: FoundPool, pools: Sequence[FoundPool]) -> FoundPool:

    if pool.private:
        return pool
    reasons = []
    if pool.version is not None and pool.version != __version__:
        reasons.append(f"of bitstore {pool.version}, and here is {__version__}")
    for other in pools:
        same = other.store == pool.store and other.name != pool.name and other.code != pool.code
        if same and other.started is not None and pool.started is not None and other.started > pool.started:
            reasons.append(f"{other.name} is of the same store with newer code")
    return replace(pool, stale=tuple(reasons))
