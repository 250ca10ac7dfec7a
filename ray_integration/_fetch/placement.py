"""How many actors fetch, and what they ask of the cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from bitstore.errors import BitstoreError
from ray_integration._cluster import resources_of_nodes

__all__ = ["TOKEN_CPUS", "CannotBePlaced", "check_placement", "default_actors", "default_cpus"]

logger = logging.getLogger("bitstore")

_CPUS_PER_ACTOR = 8
_SILENCE = 5.0  # seconds of waiting for the cluster after which the log says for what
TOKEN_CPUS = 0.01


class CannotBePlaced(BitstoreError, RuntimeError):
    """The cluster has no room for what a dataset needs, and Ray would wait for it in silence."""


def default_actors(nodes: Sequence[float]) -> int:
    """One actor a node that has CPUs, and one more for each further 8 CPUs of it; at least 1.

    Few, because each keeps hundreds of transfers under way in one thread, and each costs seconds of CPU to start.

    Parameters
    ----------
    nodes
        The CPUs of each node.
    """
    return max(1, sum(max(1, int(cpus) // _CPUS_PER_ACTOR) for cpus in nodes if cpus >= 1))


def default_cpus(nodes: Sequence[float], actors: int) -> float:
    """CPUs that each of `actors` should ask for, on `nodes` with so many CPUs.

    None at all where that is possible. Actors wait for the network, and whatever fraction they took would leave
    less than a whole CPU somewhere: on a small cluster the tasks that read the input, at one CPU each, would then
    never start, and Ray would wait in silence (ray issue 44687).

    But Ray puts actors that ask for nothing on a head node too that was started with no CPUs to be spared of work.
    Where there is such a node, they ask for a little, if it surely leaves a whole CPU free.
    """
    spared = any(cpus == 0 for cpus in nodes)
    return TOKEN_CPUS if spared and max(nodes) - actors * TOKEN_CPUS >= 1 else 0.0


def check_placement(actors: int, asked: Mapping[str, float], *, reads: bool, limit: float) -> None:
    """Make sure that actors can be placed, and with them a task that reads the input.

    Ray is asked to set their resources aside, all at once, and to give them back. That is the only way to know: what
    is free in the cluster may be spread over nodes on none of which there is enough. Where Ray adds nodes to a cluster
    as they are needed, this makes it do so.

    Parameters
    ----------
    actors
        How many there are at least.
    asked
        What each asks for: `CPU`, `memory`, custom resources.
    reads
        Whether there are tasks besides, of one CPU each.
    limit
        Seconds to wait for it. After the first five the log says for what.

    Raises
    ------
    CannotBePlaced
        It cannot be had; the error names the resource.
    """
    import ray
    from ray.util import placement_group, remove_placement_group

    request = {name: amount for name, amount in asked.items() if amount > 0}
    bundles = ([request] * actors if request else []) + ([{"CPU": 1.0}] if reads else [])
    if not bundles or not ray.is_initialized():
        return
    group = placement_group(bundles, strategy="PACK")
    try:
        if group.wait(min(limit, _SILENCE)):
            return
        if limit > _SILENCE:
            reason = _why_not(actors, request, reads, _SILENCE)
            logger.warning("%s; waiting for it for %g s in all (placement_timeout)", reason, limit)
            if group.wait(limit - _SILENCE):
                return
    finally:
        remove_placement_group(group)
    raise CannotBePlaced(_why_not(actors, request, reads, limit))


def _why_not(actors: int, request: Mapping[str, float], reads: bool, limit: float) -> str:
    import ray

    list_free: Callable[[], Mapping[str, float]] = ray.available_resources
    free = list_free()
    needs = []
    if request:
        needs.append(f"{actors} actors of {_listed(request)} each")
    if reads:
        needs.append("a task of CPU 1 that reads the input (or does what else comes before)")
    told = f"in {limit:g} s the cluster had no room for {' and '.join(needs)}: "
    for name, amount in {**request, **({"CPU": max(1.0, request.get("CPU", 0.0))} if reads else {})}.items():
        most = max(resources_of_nodes(name), default=0.0)
        if most < amount:
            cure = ": add a node that has CPUs, or start the head with some" if name == "CPU" and not most else ""
            return f"{told}no node has as much {name}, the largest has {most:g}{cure}"
    total = {name: request.get(name, 0.0) * actors + (reads and name == "CPU") for name in {**request, "CPU": 0}}
    short = {name: free.get(name, 0.0) for name, amount in total.items() if free.get(name, 0.0) < amount}
    return told + (
        f"free in all are {_listed(short)}, others hold the rest" if short else "what is free is spread over many nodes"
    )


def _listed(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in resources.items())
