"""An actor of which the whole cluster has one, as one process sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ray_integration._cluster import NAMESPACE, head_node

__all__ = ["Central", "Unreachable"]

_LIMIT = 30.0  # seconds for one call, the actor's start and restarts included
_AGAIN = 0.25  # seconds between two looks for an actor that is being restarted


class Unreachable(Exception):
    """The actor did not answer. The text says why."""


class Central:
    """Finds the actor by its name: the first process makes it, and the others find it.

    It is detached, asks for no CPUs, is restarted when it crashes, and runs on the head's node: it is gone only when
    the cluster is. Where no node says that it is the head's, it runs on the node of the process that makes it.

    Parameters
    ----------
    name
        Name of the actor.
    actor_class
        Its class.
    arguments
        Makes the arguments of its constructor, from whether this process has met the actor before.
    """

    def __init__(self, name: str, actor_class: type, arguments: Callable[[bool], tuple[Any, ...]]) -> None:
        self._name = name
        self._class = actor_class
        self._arguments = arguments
        self._handle: Any = None
        self._met = False

    def call(self, method: str, *args: Any) -> Any:
        """What the method returns.

        A call that is lost with a crash of the actor is made again; so it may have been done twice.

        Raises
        ------
        Unreachable
            Ray is not running in this process, or the actor did not answer in time.
        Exception
            What the method raised.
        """
        import ray

        deadline = time.monotonic() + _LIMIT
        pause = threading.Event()  # never set: Ray has no event for the restart of an actor
        while True:
            # Asked first: the calls below would start a Ray of their own.
            if not ray.is_initialized():
                raise Unreachable("Ray is not running in this process: call ray.init() first")
            try:
                handle = self._found()
                answer = ray.get(getattr(handle, method).remote(*args), timeout=max(0.1, deadline - time.monotonic()))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.GetTimeoutError:
                raise Unreachable(f"the actor {self._name!r} did not answer within {_LIMIT:.0f} s") from None
            except (ray.exceptions.RayError, ValueError) as error:  # it crashed, is being restarted, or was ended
                self._handle = None
                if time.monotonic() + _AGAIN > deadline:
                    reason = str(error).partition("\n")[0]
                    raise Unreachable(f"the actor {self._name!r} does not answer: {reason}") from error
                pause.wait(_AGAIN)
            else:
                self._met = True
                return answer

    def end(self) -> None:
        """End the actor, for all processes; the next call makes another."""
        import ray

        if ray.is_initialized():
            try:
                handle = ray.get_actor(self._name, namespace=NAMESPACE)
            except ValueError:  # there is none
                return
            ray.kill(handle)
            self._handle = None

    def _found(self) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self._handle is None:
            remote: Callable[[type], Any] = ray.remote
            self._handle = (
                remote(self._class)
                .options(
                    name=self._name,
                    namespace=NAMESPACE,
                    get_if_exists=True,
                    lifetime="detached",
                    num_cpus=0,
                    max_restarts=-1,
                    max_task_retries=0,  # `call` does that, within its own limit
                    scheduling_strategy=NodeAffinitySchedulingStrategy(head_node(), soft=False),
                )
                .remote(*self._arguments(self._met))
            )
        return self._handle
