"""Spans and metrics by OpenTelemetry, of which only the API package is needed (https://opentelemetry.io/docs/specs/otel/).

A program without an SDK records nothing. Errors are named by their class and in words without secrets, never with their
traceback.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from bitstore._support.fingerprint import fingerprint
from bitstore._support.redact import redact_url, text_of
from bitstore.errors import InvalidDataFound, NotFoundInStore, described
from bitstore.observe._answer import Answer, notify
from bitstore.observe._names import BOUNDS, BREAKER_TEXT, COUNTERS, LATENCY_TEXT, PREFIX, TIER, Span
from bitstore.observe._watch import Observer
from bitstore.steps import Call, Found, Steps

try:
    from opentelemetry import context as contexts
    from opentelemetry import metrics, trace
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "OpenTelemetry needs opentelemetry-api: pip install 'epic-bitstore[otel]'", name=missing.name
    ) from missing

__all__ = ["Telemetry"]

WHAT = "OpenTelemetry"
_lock = threading.Lock()


def _renew() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it at the fork


os.register_at_fork(after_in_child=_renew)


class Telemetry(Observer):
    """Reports the lookups of one composite. Unpickled elsewhere, it reports to the global providers there.

    Parameters
    ----------
    tracer_provider, meter_provider
        Of the SDK; None: the global ones.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        self._tracer = trace.get_tracer(PREFIX, tracer_provider=tracer_provider)
        self._instruments = _Instruments.of(meter_provider)
        # Attributes of the store's metrics; None: its counts are not reported yet.
        self._labels: dict[str, str] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Telemetry, ()

    def watch(self, store: Any) -> None:
        """Report the counts of `store` whenever metrics are collected, for as long as it lives."""
        self._labels = {"store": fingerprint(store)[:8]}
        self._instruments.stores[weakref.ref(store)] = self._labels

    def stop(self, store: Any) -> None:
        """Report the counts of `store` no more."""
        self._instruments.stores.pop(weakref.ref(store), None)

    def context(self) -> Any:
        """The context of the caller."""
        return contexts.get_current()

    def lookup(self, store: Any, key: Any, steps: Steps[Found], context: Any) -> Steps[Found]:
        """`steps` within a span. While they are performed, the span is the current one, also in calls of theirs."""
        begun: list[Any] = []
        notify(WHAT, self._begin, store, key, context, begun)
        if not begun:
            return (yield from steps)
        (span,) = begun
        try:
            found = yield from _within(steps, trace.set_span_in_context(span, context))
        except BaseException as error:
            notify(WHAT, _end, span, None, error)
            raise
        notify(WHAT, _end, span, found, None)
        return found

    def _begin(self, store: Any, key: Any, context: Any, begun: list[Any]) -> None:
        if self._labels is None:  # it was unpickled
            self.watch(store)
        attributes = {Span.DIGEST: redact_url(text_of(key))}
        begun.append(self._tracer.start_span(Span.LOOKUP, context=context, attributes=attributes))

    def answered(self, answer: Answer) -> None:
        """A span of the answer within that of the lookup, and its seconds for the histogram."""
        now = time.time_ns()
        attributes: dict[str, Any] = {
            Span.SOURCE: answer.tier,
            Span.KIND: answer.kind or "found",
            Span.BYTES: answer.bytes,
        }
        span = self._tracer.start_span(Span.ANSWER, start_time=now - int(answer.seconds * 1e9), attributes=attributes)
        if answer.error is not None:
            span.set_attribute(Span.ERROR, type(answer.error).__name__)
            span.set_status(trace.StatusCode.ERROR, described(answer.error))
        span.end(now)
        if answer.kind != "skipped":
            self._instruments.seconds.record(answer.seconds, {**(self._labels or {}), TIER: answer.tier})


def _within(steps: Steps[Found], context: Any) -> Steps[Found]:
    """`steps`, each performed with `context` as the current one."""
    resume: Callable[[Any], Any] = steps.send
    value: Any = None
    while True:
        token = contexts.attach(context)
        try:
            step = resume(value)
        except StopIteration as end:
            found: Found = end.value
            return found
        finally:
            contexts.detach(token)
        if type(step) is Call:
            step = Call(_called, context, step.function, *step.args)
        try:
            value = yield step
            resume = steps.send
        except BaseException as error:  # for the steps, as any driver's
            value = error
            resume = steps.throw


def _called(context: Any, function: Callable[..., Any], *args: Any) -> Any:
    token = contexts.attach(context)
    try:
        return function(*args)
    finally:
        contexts.detach(token)


def _end(span: Any, found: Found | None, error: BaseException | None) -> None:
    if found is not None:
        span.set_attribute(Span.KIND, "found")
        span.set_attribute(Span.SOURCE, found.source)
        if isinstance(found.data, bytes):
            span.set_attribute(Span.BYTES, len(found.data))
    elif isinstance(error, NotFoundInStore) and not isinstance(error, InvalidDataFound):
        span.set_attribute(Span.KIND, "missing")
    elif isinstance(error, Exception):
        span.set_attribute(Span.KIND, "failed")
        span.set_attribute(Span.ERROR, type(error).__name__)
        span.set_status(trace.StatusCode.ERROR, described(error))
    span.end()


class _Instruments:
    """The instruments of one provider of meters, and the composites whose counts they report."""

    _of_provider: ClassVar[weakref.WeakKeyDictionary[Any, _Instruments]] = weakref.WeakKeyDictionary()
    _global: ClassVar[_Instruments | None] = None

    @classmethod
    def of(cls, provider: Any) -> _Instruments:
        """Those of `provider`, made once: a second counter of one name would be refused. None: the global provider."""
        with _lock:
            if provider is None:
                # One proxy for all: whether the provider is set before or after this makes no difference.
                cls._global = cls._global or cls(metrics.get_meter(PREFIX))
                return cls._global
            made = cls._of_provider.get(provider)
            if made is None:
                made = cls._of_provider[provider] = cls(provider.get_meter(PREFIX))
            return made

    def __init__(self, meter: Any) -> None:
        # Composites, and the attributes of each one's metrics.
        self.stores: dict[weakref.ref[Any], dict[str, str]] = {}
        for name, text in COUNTERS.items():
            meter.create_observable_counter(f"{PREFIX}.{name}", [self._reader(name)], description=text)
        meter.create_observable_gauge(Span.BREAKER, [self._breakers], description=BREAKER_TEXT)
        options: dict[str, Any] = {"explicit_bucket_boundaries_advisory": BOUNDS}
        try:
            self.seconds = meter.create_histogram(Span.SECONDS, "s", LATENCY_TEXT, **options)
        except TypeError:  # an API before 1.30 takes no advice
            self.seconds = meter.create_histogram(Span.SECONDS, "s", LATENCY_TEXT)

    def _rows(self) -> Iterator[tuple[Any, dict[str, str]]]:
        for reference, labels in list(self.stores.items()):
            store = reference()
            if store is None:
                self.stores.pop(reference, None)
                continue
            for tier in store.stats().values():
                yield tier, {**labels, TIER: tier.name}

    def _reader(self, name: str) -> Callable[[Any], Iterable[Any]]:
        return lambda _: [metrics.Observation(getattr(tier, name), labels) for tier, labels in self._rows()]

    def _breakers(self, _: Any) -> Iterable[Any]:
        return [metrics.Observation(int(tier.breaker != "closed"), labels) for tier, labels in self._rows()]
