"""How many actors fetch, and what they ask of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["cpus_of_nodes", "default_actors", "default_cpus"]

_CPUS_PER_ACTOR = 8
_TOKEN_CPUS = 0.01


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
    return _TOKEN_CPUS if spared and max(nodes) - actors * _TOKEN_CPUS >= 1 else 0.0


def cpus_of_nodes() -> list[float]:
    """The CPUs of each node that is alive; empty where Ray is not running."""
    import ray

    if not ray.is_initialized():
        return []
    list_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    return [float(node["Resources"].get("CPU", 0)) for node in list_nodes() if node["Alive"]]
