"""What others see of lookups: statistics as tables and text, a function for each answer, OpenTelemetry."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import urllib.request
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bitstore import FileRaw, LookupFailed, MemoryCache, Sha1APISource, Sha1Composite, Sha1Store, Store
from bitstore.config import ConfigError, loads
from bitstore.observe import Answer, LatencyHistogram, otel
from bitstore.observe._names import BREAKER, COUNTERS, LATENCY, Span
from tests.test_import import run

ROOT = Path(__file__).parents[1]
HELD = b"held by the bucket"
BOUGHT = b"held by the API"
ABSENT = "0" * 40


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


class API(Sha1APISource):
    seen: trace.Span | None = None

    def api_get(self, digest: str) -> bytes | None:
        self.seen = trace.get_current_span()
        return BOUGHT if digest == hashlib.sha1(BOUGHT).hexdigest() else None


class Broken(Store):
    def is_valid(self, uri: object) -> bool:
        return True

    def get(self, uri: str) -> bytes:
        raise ConnectionError("https://user:hush-hush@host/ is down")


def made(folder: Path) -> Sha1Composite:
    """Memory, a bucket with one good and one damaged blob, and an API with another."""
    (folder / digest(HELD)).write_bytes(HELD)
    (folder / ("1" * 40)).write_bytes(b"damaged")
    store = Sha1Composite()
    store.append_cache(MemoryCache("1MB"), name="memory")
    store.append_source(Sha1Store(FileRaw(), folder.as_uri() + "/", verify=True), name="bucket")
    store.append_source(API(), name="api")
    return store


def broken(**options: Any) -> Sha1Composite:
    store = Sha1Composite(**options)
    store.append_source(Broken(), name="broken")
    store.append_source(API(), name="api")
    return store


# ------------------------------------------------------------------ statistics


SAMPLE = re.compile(r'(bitstore_[a-z_]+)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)+)\} ([0-9.e+-]+)')


UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The samples of a text for Prometheus by metric and labels. Raises where the grammar of its format is broken."""
    metrics: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    kinds: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if head := re.fullmatch(r"# (HELP|TYPE) (\w+) (.+)", line):
            if head[1] == "TYPE":
                assert head[3] in ("counter", "gauge", "histogram")
                assert head[2] not in kinds, "samples of a metric stand together"
                kinds[head[2]] = head[3]
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        family = next(name for name in (sample[1], sample[1].rpartition("_")[0]) if name in kinds)
        assert family == [*kinds][-1]
        assert kinds[family] != "counter" or sample[1].endswith("_total")
        labels = tuple(
            (name, re.sub(r"\\.", lambda each: UNESCAPED[each[0]], value))
            for name, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2])
        )
        known = metrics.setdefault(sample[1], {})
        assert labels not in known
        known[labels] = float(sample[3])
    return metrics


def test_counts_are_objects_a_dict_a_frame_and_json(tmp_path: Path) -> None:
    store = made(tmp_path)
    list(store.get_many([digest(HELD), digest(HELD).upper(), ABSENT, digest(BOUGHT)]))
    stats = store.stats()
    assert stats["bucket"].hits == 1
    assert stats.as_dict() == {name: each.as_dict() for name, each in stats.items()} == json.loads(stats.as_json())
    frame = stats.as_frame()
    assert list(frame.index) == ["memory", "bucket", "api"]
    row = frame.to_dict("index")["bucket"]
    assert [row[name] for name in ("hits", "misses", "bytes", "breaker")] == [1, 2, len(HELD), "closed"]
    empty = Sha1Composite().stats()
    assert (empty.as_dict(), len(empty.as_frame())) == ({}, 0)
    assert list(empty.as_frame().dtypes) == list(frame.dtypes)
    assert pickle.loads(pickle.dumps(stats)) == stats == dict(stats)


def test_counts_are_text_for_prometheus(tmp_path: Path) -> None:
    name = 'odd "name" \\ with\nall {of=} it, é'
    store = made(tmp_path)
    store.append_source(Broken(), name=name)
    for _ in range(6):
        list(store.get_many([digest(HELD), ABSENT], patience=0))
    stats = store.stats()
    metrics = parsed(stats.prometheus(store="web", node='a"b'))
    assert set(metrics) == {*(f"bitstore_{each}_total" for each in COUNTERS), f"bitstore_{BREAKER}"}
    for tier in stats.values():
        labels = (("tier", tier.name), ("store", "web"), ("node", 'a"b'))
        for each in COUNTERS:
            assert metrics[f"bitstore_{each}_total"][labels] == getattr(tier, each)
        assert metrics[f"bitstore_{BREAKER}"][labels] == (tier.name == name)
    assert parsed(Sha1Composite().stats().prometheus()) == {}
    for label in ("tier", "le", "__name__", "a-b", "1a", "é"):
        with pytest.raises(ValueError, match="is no label"):
            stats.prometheus(**{label: "x"})
        with pytest.raises(ValueError, match="is no label"):
            LatencyHistogram().prometheus(**{label: "x"})


def test_a_histogram_of_seconds_counts_each_answer(tmp_path: Path) -> None:
    store, histogram = made(tmp_path), LatencyHistogram()
    store.on_answer = histogram
    assert parsed(histogram.prometheus()) == {}
    list(store.get_many([digest(HELD), ABSENT, digest(BOUGHT)]))
    metrics = parsed(store.stats().prometheus() + histogram.prometheus(store="web"))
    counts = {dict(labels)["tier"]: value for labels, value in metrics[f"bitstore_{LATENCY}_count"].items()}
    assert counts == {"memory": 3, "bucket": 3, "api": 2}
    for tier, count in counts.items():
        buckets = [
            value
            for labels, value in metrics[f"bitstore_{LATENCY}_bucket"].items()
            if dict(labels)["tier"] == tier and dict(labels)["store"] == "web"
        ]
        assert (buckets, buckets[-1]) == (sorted(buckets), count)
    histogram(Answer("d", "slow", 1e9, 0, "failed", None))
    histogram(Answer("d", "slow", 0.001, 0, None, None))
    slow = {
        dict(labels)["le"]: value
        for labels, value in parsed(histogram.prometheus())[f"bitstore_{LATENCY}_bucket"].items()
        if dict(labels)["tier"] == "slow"
    }
    assert (slow["0.0003"], slow["0.001"], slow["30.0"], slow["+Inf"]) == (0, 1, 1, 2)
    assert parsed(pickle.loads(pickle.dumps(histogram)).prometheus()) == {}


def test_the_example_serves_its_metrics_while_it_fetches(tmp_path: Path) -> None:
    (tmp_path / digest(HELD)).write_bytes(HELD)
    config = tmp_path / "b.toml"
    config.write_text(f'algorithm = "sha1"\n[[tier]]\nname = "shelf"\nurl = "{tmp_path.as_uri()}/"\n')
    command = [sys.executable, str(ROOT / "examples" / "metrics.py"), str(config), "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as it:
        assert it.stdin
        assert it.stdout
        url = it.stdout.readline().split()[-1]
        assert parsed(urllib.request.urlopen(url).read().decode())["bitstore_hits_total"].popitem()[1] == 0
        it.stdin.write(f"{digest(HELD)}\n" * 200)  # more than are read ahead
        it.stdin.flush()
        assert it.stdout.readline() == f"{digest(HELD)} shelf\n"
        with urllib.request.urlopen(url) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            metrics = parsed(answer.read().decode())
        assert metrics["bitstore_hits_total"][("tier", "shelf"), ("store", "example")] >= 1
        assert metrics["bitstore_lookup_seconds_count"][("tier", "shelf"), ("store", "example")] >= 1
        it.stdin.close()
        it.stdout.read()
    assert it.returncode == 0


def test_the_page_names_each_metric_span_and_field() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    for name, text in COUNTERS.items():
        assert f"| `bitstore_{name}_total` | `bitstore.{name}` | {text}. |" in page
    assert f"| `bitstore_{BREAKER}` | `{Span.BREAKER}` |" in page
    assert f"| `bitstore_{LATENCY}` | `{Span.SECONDS}` " in page
    for name, value in vars(Span).items():
        assert name.startswith("_") or f"`{value}" in page
    assert [row for row in Answer._fields if f"| `{row}` |" not in page] == []


def test_the_dashboard_shows_single_processes_as_well() -> None:
    board = json.loads((ROOT / "ray_integration" / "grafana" / "bitstore.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    names = {name for text in asked for name in re.findall(r'__name__=~"([^"]+)"', text)}
    served = [f"bitstore_{name}_total" for name in COUNTERS] + [f"bitstore_{BREAKER}", f"bitstore_{LATENCY}_bucket"]
    for prefix in ("", "ray_"):
        assert [name for name in served if not any(re.fullmatch(each, prefix + name) for each in names)] == []


# ------------------------------------------------------------------ a function of the user's


def ways() -> list[Any]:
    async def aget_many(store: Store, uris: list[str]) -> None:
        async for _ in store.aget_many(uris, patience=0):
            pass

    async def aget(store: Store, uris: list[str]) -> None:
        await asyncio.gather(*[store.aget(uri) for uri in uris], return_exceptions=True)

    def get(store: Store, uris: list[str]) -> None:
        for uri in uris:
            try:
                store.get(uri)
            except Exception:
                continue

    return [
        pytest.param(get, id="get"),
        pytest.param(lambda store, uris: list(store.get_many(uris, patience=0)), id="get_many"),
        pytest.param(lambda store, uris: asyncio.run(aget(store, uris)), id="aget"),
        pytest.param(lambda store, uris: asyncio.run(aget_many(store, uris)), id="aget_many"),
    ]


@pytest.mark.parametrize("ask", ways())
def test_callbacks_get_what_the_statistics_count(ask: Callable[..., None], tmp_path: Path) -> None:
    store = made(tmp_path)
    answers: list[Answer] = []
    store.on_answer = answers.append
    ask(store, [digest(HELD).upper(), digest(BOUGHT), ABSENT, "1" * 40])
    told = Counter((answer.digest, answer.tier, answer.kind) for answer in answers)
    assert told == Counter(
        [
            (digest(HELD), "memory", "missing"), (digest(HELD), "bucket", None),
            (digest(BOUGHT), "memory", "missing"), (digest(BOUGHT), "bucket", "missing"), (digest(BOUGHT), "api", None),
            (ABSENT, "memory", "missing"), (ABSENT, "bucket", "missing"), (ABSENT, "api", "missing"),
            ("1" * 40, "memory", "missing"), ("1" * 40, "bucket", "invalid"), ("1" * 40, "api", "skipped"),
        ]
    )  # fmt: skip
    for name, tier in store.stats().items():
        kinds = Counter(answer.kind for answer in answers if answer.tier == name)
        assert (kinds[None], kinds["missing"], kinds["invalid"], kinds["skipped"]) == (
            tier.hits, tier.misses, tier.invalid, tier.skipped,
        )  # fmt: skip
        assert sum(answer.bytes for answer in answers if answer.tier == name) == tier.bytes
    assert all((answer.seconds > 0) == (answer.kind != "skipped") for answer in answers)
    assert all((answer.error is None) == (answer.kind in (None, "missing")) for answer in answers)


def test_callbacks_get_failures_breakers_and_time_limits() -> None:
    answers: list[Answer] = []
    store = broken(on_answer=answers.append)
    for _ in range(6):
        with pytest.raises(LookupFailed):
            store.get(ABSENT)
    assert [(answer.tier, answer.kind) for answer in answers] == [("broken", "failed"), ("api", "skipped")] * 6
    assert [answer.seconds > 0 for answer in answers[::2]] == [True] * 5 + [False]  # then it is left alone
    go = threading.Event()

    class Slow(Broken):
        def get(self, uri: str) -> bytes:
            go.wait(60)
            raise ConnectionError

    store = Sha1Composite(on_answer=answers.append)
    store.append_source(Slow(), name="slow")
    with pytest.raises(LookupFailed):
        store.get(ABSENT, timeout=0.05)
    go.set()
    assert (answers[-1].tier, answers[-1].kind, type(answers[-1].error)) == ("slow", "failed", TimeoutError)


@pytest.mark.parametrize(
    "error", [ValueError("https://u:hush-hush@host/"), SystemExit(3), asyncio.CancelledError()], ids=repr
)
@pytest.mark.parametrize("ask", ways())
def test_a_callback_that_raises_ends_no_lookup_and_is_heard(
    ask: Callable[..., None], error: BaseException, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from bitstore._support.once import given

    given.clear()
    store = made(tmp_path)

    def fail(answer: Answer) -> None:
        raise error

    store.on_answer = fail
    with caplog.at_level(logging.WARNING, "bitstore"):
        ask(store, [digest(HELD), digest(BOUGHT)])
    assert [tier.hits for tier in store.stats().values()] == [0, 1, 1]
    (record,) = [record for record in caplog.records if "on_answer failed" in record.getMessage()]
    assert type(error).__name__ in record.getMessage()
    assert re.search(r"test_observe\.py:\d+", record.getMessage())
    assert "hush" not in record.getMessage()


def test_a_ctrl_c_in_a_callback_is_a_ctrl_c(tmp_path: Path) -> None:
    store = made(tmp_path)

    def interrupted(answer: Answer) -> None:
        raise KeyboardInterrupt

    store.on_answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        store.get(digest(HELD))
    store.on_answer = None
    assert store.get(digest(HELD)) == HELD


@pytest.mark.parametrize("way", ["get", "get_many"])
@pytest.mark.timeout(60)
def test_a_lookup_in_on_answer_is_refused_and_not_waited_for(way: str, tmp_path: Path) -> None:
    store = made(tmp_path)
    refused: list[BaseException | None] = []

    def ask(answer: Answer) -> None:
        if way == "get_many":
            refused.extend(blob.error for blob in store.get_many([answer.digest]))
        try:
            store.get(answer.digest)
        except RuntimeError as error:
            refused.append(error)

    store.on_answer = ask
    assert [blob.data for blob in store.get_many([digest(HELD)])] == [HELD]
    assert store.get(digest(HELD)) == HELD
    assert {str(error)[:32] for error in refused} == {"on_answer must not look up blobs"}


@pytest.mark.parametrize(
    "look",
    [lambda store: list(store.get_many([digest(HELD)])), lambda store: store.locate(digest(HELD))],
    ids=["get_many", "locate"],
)
@pytest.mark.timeout(60)
def test_a_lookup_in_on_answer_of_another_store_waits_for_nothing_that_waits_for_it(
    look: Callable[[Any], Any], tmp_path: Path
) -> None:
    store, other = made(tmp_path), made(tmp_path)
    told: list[Any] = []

    def ask(answer: Answer) -> None:
        try:
            told.append(look(other))
        except RuntimeError as error:
            told.append(str(error))

    store.on_answer = ask
    assert [blob.data for blob in store.get_many([digest(HELD)])] == [HELD]
    assert told and all("hand it to another thread" in str(each) for each in told)
    told.clear()
    store.get(digest(HELD))  # in this thread, which others do not wait for
    assert told and not any("hand it" in str(each) for each in told)


async def coroutine(answer: Answer) -> None: ...


class Awaited:
    async def __call__(self, answer: Answer) -> None: ...


@pytest.mark.parametrize("wrong", [3, "print", coroutine, Awaited()], ids=["number", "name", "coroutine", "object"])
def test_a_callback_that_cannot_be_called_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"on_answer is a (plain )?function"):
        Sha1Composite(on_answer=wrong)
    store = Sha1Composite()
    with pytest.raises(TypeError, match=r"on_answer is a (plain )?function"):
        store.on_answer = wrong
    assert store.on_answer is None


TOLD: list[Answer] = []


def note(answer: Answer) -> None:
    TOLD.append(answer)


def test_a_callback_travels_with_the_store_and_comes_from_a_file(tmp_path: Path) -> None:
    store = made(tmp_path)
    store.on_answer = note
    TOLD.clear()
    again = pickle.loads(pickle.dumps(store))
    assert again.get(digest(HELD)) == HELD
    assert [answer.tier for answer in TOLD] == ["memory", "bucket"]
    lines = 'algorithm = "sha1"\non_answer = "{}"\n[[tier]]\nname = "a"\ncache = "memory"'
    assert loads(lines.format("tests.test_observe:note")).on_answer is note
    for wrong, message in (
        ("tests.test_observe:coroutine", "on_answer is a plain function"),
        ("tests.test_observe:ABSENT", "on_answer is a function"),
        ("no_such_module:note", "on_answer = .*No module named"),
        ("note", "on_answer = 'note': expected 'package.module:function'"),
    ):
        with pytest.raises(ConfigError, match="^configuration: " + message):
            loads(lines.format(wrong))


def test_a_store_that_is_not_observed_has_nothing_to_do(tmp_path: Path) -> None:
    """Off means no call more: the profile of a lookup names no function of `bitstore.observe`."""
    store = made(tmp_path)
    called: set[str] = set()
    sys.setprofile(lambda frame, event, _: called.add(frame.f_code.co_filename) if event == "call" else None)
    try:
        store.get(digest(HELD))
    finally:
        sys.setprofile(None)
    assert any("question.py" in name for name in called)
    assert not [name for name in called if "observe" in name and "tests" not in name]


# ------------------------------------------------------------------ OpenTelemetry


class Sdk:
    """Providers that keep in memory what they are told."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("test")

    def watch(self, store: Sha1Composite) -> Sha1Composite:
        otel(store, tracer_provider=self.tracers, meter_provider=self.meters)
        return store

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def metrics(self) -> dict[str, dict[tuple[str, str], Any]]:
        """Points by metric, and by the attributes tier and store."""
        data: Any = self.reader.get_metrics_data()
        return {
            metric.name: {
                (point.attributes["tier"], point.attributes["store"]): point for point in metric.data.data_points
            }
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    made = Sdk()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


@pytest.mark.parametrize("ask", ways())
def test_each_lookup_is_a_span_of_its_caller_and_each_answer_one_within(
    ask: Callable[..., None], sdk: Sdk, tmp_path: Path
) -> None:
    store = sdk.watch(made(tmp_path))
    with sdk.tracer.start_as_current_span("caller") as caller:
        ask(store, [digest(HELD), ABSENT, "1" * 40])
    lookups = {span.attributes["bitstore.digest"]: span for span in sdk.spans("bitstore.lookup")}  # type: ignore[index]
    assert {key: span.attributes["bitstore.kind"] for key, span in lookups.items()} == {  # type: ignore[index]
        digest(HELD): "found", ABSENT: "missing", "1" * 40: "failed",
    }  # fmt: skip
    assert {span.parent.span_id for span in lookups.values() if span.parent} == {caller.get_span_context().span_id}
    found = lookups[digest(HELD)]
    assert (found.attributes["bitstore.tier"], found.attributes["bitstore.bytes"]) == ("bucket", len(HELD))  # type: ignore[index]
    assert {key: span.status.status_code for key, span in lookups.items()}["1" * 40] is trace.StatusCode.ERROR
    assert lookups["1" * 40].attributes["error.type"] == "LookupFailed"  # type: ignore[index]
    within = Counter(
        (span.parent.span_id, span.attributes["bitstore.tier"], span.attributes["bitstore.kind"])  # type: ignore[union-attr, index]
        for span in sdk.spans("bitstore.tier")
    )
    of = {key: span.context.span_id for key, span in lookups.items()}
    assert within == Counter(
        [
            (of[digest(HELD)], "memory", "missing"), (of[digest(HELD)], "bucket", "found"),
            (of[ABSENT], "memory", "missing"), (of[ABSENT], "bucket", "missing"), (of[ABSENT], "api", "missing"),
            (of["1" * 40], "memory", "missing"), (of["1" * 40], "bucket", "invalid"), (of["1" * 40], "api", "skipped"),
        ]
    )  # fmt: skip
    # The API's own client finds the lookup's span, in whatever thread it works.
    api = store.sources[-1].seen  # type: ignore[attr-defined]
    assert api.get_span_context().span_id == of[ABSENT]


def test_opened_and_downloaded_blobs_are_lookups_as_well(sdk: Sdk, tmp_path: Path) -> None:
    store = sdk.watch(made(tmp_path))
    answers: list[Answer] = []
    store.on_answer = answers.append
    with sdk.tracer.start_as_current_span("caller"):
        for verify in (None, True):
            with store.open(digest(HELD), verify=verify) as file:
                assert file.read() == HELD
        store.download(digest(BOUGHT), tmp_path / "file")
        asyncio.run(store.adownload(digest(BOUGHT), tmp_path / "other"))
    lookups = {span.context.span_id for span in sdk.spans("bitstore.lookup")}
    assert len(lookups) == 4
    assert {span.parent.span_id for span in sdk.spans("bitstore.tier") if span.parent} == lookups
    assert len(sdk.spans("bitstore.tier")) == len(answers)
    assert [answer.tier for answer in answers if answer.kind is None] == ["bucket", "memory", "api", "memory"]


def test_a_composite_within_another_has_spans_of_its_own(sdk: Sdk, tmp_path: Path) -> None:
    inner = sdk.watch(made(tmp_path))
    outer = Sha1Composite()
    outer.append_cache(MemoryCache(), name="outer memory")
    outer.append_source(inner, name="inner")
    sdk.watch(outer)
    assert [blob.data for blob in outer.get_many([digest(HELD)])] == [HELD]
    spans = {span.context.span_id: span for span in sdk.exporter.get_finished_spans()}
    (inside,) = [span for span in sdk.spans("bitstore.lookup") if span.parent is not None]
    assert spans[inside.parent.span_id].name == "bitstore.lookup"  # type: ignore[union-attr]
    assert len(sdk.metrics()["bitstore.hits"]) == 5


def test_spans_tell_no_secrets_and_end_with_lookups_that_are_given_up(sdk: Sdk) -> None:
    store = sdk.watch(broken())
    with pytest.raises(LookupFailed):
        store.get(ABSENT)
    spans = sdk.spans("bitstore.lookup") + sdk.spans("bitstore.tier")
    assert len(spans) == 3
    assert "hush" not in "".join(span.to_json() for span in spans)


def test_spans_of_lookups_that_are_given_up_end(sdk: Sdk, tmp_path: Path) -> None:
    go = threading.Event()

    class Waiting(Broken):
        def get(self, uri: str) -> bytes:
            go.wait(60)
            raise ConnectionError

    store = made(tmp_path)
    store.append_source(Waiting(), name="waiting")
    sdk.watch(store)
    many = store.get_many([digest(HELD), *(f"{number:040}" for number in range(20))])
    assert next(many).data == HELD
    many.close()  # type: ignore[attr-defined]
    go.set()
    lookups = {span.context.span_id for span in sdk.spans("bitstore.lookup")}
    answers = sdk.spans("bitstore.tier")
    assert len(lookups) > 1
    assert {span.parent.span_id for span in answers if span.parent} <= lookups
    assert all(span.parent is not None for span in answers)


def test_metrics_are_those_of_the_statistics(sdk: Sdk, tmp_path: Path) -> None:
    store, other = sdk.watch(made(tmp_path)), sdk.watch(broken())
    list(store.get_many([digest(HELD), ABSENT, digest(BOUGHT)]))
    with pytest.raises(LookupFailed):
        other.get(ABSENT)
    metrics = sdk.metrics()
    assert set(metrics) == {*(f"bitstore.{name}" for name in COUNTERS), "bitstore.breaker.open", "bitstore.lookup"}
    (ours,) = {store for tier, store in metrics["bitstore.hits"] if tier == "bucket"}
    for tier in store.stats().values():
        for name in COUNTERS:
            assert metrics[f"bitstore.{name}"][tier.name, ours].value == getattr(tier, name)
    assert metrics["bitstore.lookup"]["bucket", ours].count == 3
    assert sum(point.value for (tier, _), point in metrics["bitstore.failures"].items() if tier == "broken") == 1
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None  # metrics keep no store alive
    assert "broken" not in {tier for tier, _ in sdk.metrics()["bitstore.hits"]}
    otel(store, on=False)
    before = len(sdk.exporter.get_finished_spans())
    store.get(digest(HELD))
    assert len(sdk.exporter.get_finished_spans()) == before
    assert "bitstore.hits" not in sdk.metrics()


def test_a_failing_exporter_ends_no_lookup(sdk: Sdk, tmp_path: Path) -> None:
    class Failing(SimpleSpanProcessor):
        def on_start(self, *_: Any, **__: Any) -> None:
            raise OSError("no collector")

    sdk.tracers.add_span_processor(Failing(sdk.exporter))
    store = sdk.watch(made(tmp_path))
    assert store.get(digest(HELD)) == HELD
    assert [blob.data for blob in store.get_many([digest(BOUGHT)])] == [BOUGHT]


def test_a_store_that_travels_tells_the_providers_where_it_arrives() -> None:
    said = run(
        """
import pickle
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from bitstore.config import loads
text = 'algorithm = "sha1"\\notel = true\\n[[tier]]\\nname = "a"\\ncache = "memory"'
store = pickle.loads(pickle.dumps(loads(text)))
exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider(); provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider); metrics.set_meter_provider(MeterProvider([reader]))
try:
    store.get("0" * 40)
except Exception:
    pass
print([span.name for span in exporter.get_finished_spans()])
print(sorted({metric.name for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics})[:3])
"""
    )
    assert said.splitlines() == [
        "['bitstore.tier', 'bitstore.lookup']",
        "['bitstore.breaker.open', 'bitstore.bytes', 'bitstore.conflicts']",
    ]


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    said = run(
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from bitstore import Sha1Composite; from bitstore.observe import otel\n"
        "try: otel(Sha1Composite())\n"
        "except ModuleNotFoundError as error: print(error)\n"
        "from bitstore.config import loads\n"
        'try: loads(\'algorithm = "sha1"\\notel = true\\n[[tier]]\\nname = "a"\\ncache = "memory"\')\n'
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    named = "OpenTelemetry needs opentelemetry-api: pip install 'epic-bitstore[otel]'"
    assert said.splitlines() == [named, f"ConfigError configuration: otel: {named}"]
    with pytest.raises(TypeError, match="only a composite is observed"):
        otel(MemoryCache())
