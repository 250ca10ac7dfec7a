"""What others see of the lookups of a composite: a function for each answer, OpenTelemetry, Prometheus.

All of it is off until it is asked for, and costs nothing then.
"""

from __future__ import annotations

from typing import Any

from bitstore.observe._answer import Answer
from bitstore.observe._prometheus import LatencyHistogram

__all__ = ["Answer", "LatencyHistogram", "otel"]


def otel(store: Any, *, tracer_provider: Any = None, meter_provider: Any = None, on: bool = True) -> None:
    """Report the lookups of `store` to OpenTelemetry, from the next one on.

    Each lookup is a span `bitstore.lookup` in the context of its caller, with a span `bitstore.tier` for each tier's
    answer. The counts of `stats()` are observable counters `bitstore.hits`, `bitstore.misses` and so on; the seconds
    of each answer go into the histogram `bitstore.lookup`.

    A store that is unpickled in another process, as on a Ray cluster, reports to the global providers there.

    Parameters
    ----------
    store
        A composite.
    tracer_provider, meter_provider
        Providers of OpenTelemetry's SDK; None: the global ones, whenever the program sets them.
    on
        False: stop it.

    Raises
    ------
    ModuleNotFoundError
        `opentelemetry-api` is not installed (the extra `otel`).
    TypeError
        `store` is no composite.
    """
    if not hasattr(store, "observe_with"):
        raise TypeError(f"only a composite is observed, and {store!r} is none: put it into one with append_source")
    if not on:
        store.observe_with(None)
        return
    from bitstore.observe._otel import Telemetry

    store.observe_with(Telemetry(tracer_provider, meter_provider))
