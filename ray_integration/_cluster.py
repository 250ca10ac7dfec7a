"""The cluster as Ray describes it: its nodes, and the names under which actors of this package are found."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

__all__ = [
    "CONTROL", "LACKS", "NAMESPACE", "alive_nodes", "head_node", "leaving_nodes", "node_name", "resources_of_nodes",
]  # fmt: skip

NAMESPACE = "bitstore"
CONTROL = "control"  # concurrency group of calls that are answered while all other threads of a node store are busy

# What to say where a process of another node cannot import something; %s is its name.
LACKS = "the node lacks the Python module %s: install the same on all nodes, or bring it with ray.init(runtime_env=...)"

_HEAD = "node:__internal_head__"  # the resource that Ray gives to the head's node


def alive_nodes() -> dict[str, str]:
    """The nodes that take part: `{id: name for people}`.

    All that are alive, except those without CPUs (heads that are to be spared of work), unless there are no others.
    """
    alive = _alive()
    working = [node for node in alive if node["Resources"].get("CPU", 0) > 0]
    return {node["NodeID"]: node_name(node["NodeID"], node["NodeManagerHostname"]) for node in working or alive}


def leaving_nodes() -> set[str]:
    """Ids of the nodes that Ray drains: they live on for a while, and get no new work. Empty where Ray does not say."""
    try:
        from ray._private.state import state

        # No public call has it. Ray Data and Ray Train ask here too, in all versions from 2.10.
        return set(state.get_draining_nodes())
    except Exception:  # another Ray may not have it: then nodes leave without notice, as ever
        return set()


def resources_of_nodes(name: str) -> list[float]:
    """How much of a resource (`CPU`, `memory`, ...) each node that is alive has; empty where Ray is not running."""
    import ray

    return [float(node["Resources"].get(name, 0)) for node in _alive()] if ray.is_initialized() else []


def head_node() -> str:
    """Id of the head's node; of this process's node where no node says that it is the head's."""
    import ray

    heads = [str(node["NodeID"]) for node in _alive() if _HEAD in node["Resources"]]
    return heads[0] if heads else str(ray.get_runtime_context().get_node_id())


def node_name(node_id: str, hostname: str | None = None) -> str:
    """A node's name for people: the beginning of its id, which is the same in Ray's own tables, and its host."""
    return f"{node_id[:8]} ({hostname or socket.gethostname()})"


def _alive() -> list[dict[str, Any]]:
    import ray

    list_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    return [node for node in list_nodes() if node["Alive"]]
