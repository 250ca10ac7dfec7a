"""What `--json` writes: objects, one a line. docs/json-lines.md describes their types and keys."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from bitstore._cli.terminal import show

__all__ = [
    "Blob",
    "Cache",
    "CacheCheck",
    "Check",
    "CheckedTier",
    "Claim",
    "Cluster",
    "Config",
    "Error",
    "Forgotten",
    "IndexBuild",
    "IndexCheck",
    "IndexFile",
    "Line",
    "Location",
    "Miss",
    "MissExport",
    "MissSource",
    "Outcome",
    "Pass",
    "Plan",
    "Pool",
    "PoolEnd",
    "Put",
    "Report",
    "Run",
    "Shown",
    "Verification",
    "Verified",
    "Version",
    "as_json",
    "show_line",
]


class Line(msgspec.Struct, kw_only=True, tag_field="type"):
    """One object. All of its keys are always there; null: unknown, or not the case."""


class Version(Line, tag="version"):
    """What is installed."""

    version: str
    python: str
    native_transport: dict[str, str | None]


class Error(Line, tag="error"):
    """Why the command ends without what it was asked for."""

    message: str
    exit_code: int


class Blob(Line, tag="blob"):
    """A blob that was written to a file."""

    digest: str
    file: str
    bytes: int


class Outcome(Line, tag="outcome"):
    """What became of one entry of a list."""

    digest: str
    kind: str
    source: str | None
    bytes: int | None
    error: str | None


class Location(Line, tag="location"):
    """What one tier says about one blob."""

    digest: str
    tier: str
    state: str
    url: str | None
    bytes: int | None
    etag: str | None
    encoding: str | None
    compression: str | None
    error: str | None


class Put(Line, tag="put"):
    """What became of one file that was put."""

    file: str
    kind: str
    digest: str | None
    tier: str
    url: str | None
    bytes: int | None
    checked: str | None
    error: str | None


class Verified(Line, tag="verified"):
    """What a look at one object found."""

    url: str
    kind: str
    digest: str | None
    bytes: int
    error: str | None


class Run(Line):
    """What all long work tells at its end."""

    command: str
    command_line: str
    version: str
    started: str
    seconds: float
    exit_code: int
    complete: bool
    failed: int
    bytes: int
    sizes: list[dict[str, int]]
    timeline: list[dict[str, float]]
    causes: list[dict[str, str | int]]
    stopped: str | None
    resume: str | None


class Report(Run, tag="report"):
    """The counts of a run through a list."""

    entries: int | None
    found: int
    there: int
    missing: int
    invalid: int
    by_tier: dict[str, int]
    tiers: list[dict[str, str | int]] | None
    spent: list[dict[str, Any]] | None
    planned: list[dict[str, Any]] | None


class Verification(Run, tag="verification"):
    """The counts of a look at all objects below a prefix."""

    place: str
    listed: int
    right: int
    wrong: int
    gone: int
    no_digest: int
    seed: int | None


class Plan(Line, tag="plan"):
    """What looking up a list will come to. Numbers are lists of three: the least, the expected, the most."""

    digests: int
    invalid: int
    sampled: int
    missing: list[float]
    requests: list[float]
    bytes: list[float] | None
    money: list[str] | None
    currency: str | None
    hours: list[float] | None
    limited_to: list[float]
    tiers: list[dict[str, Any]]
    notes: list[str]
    exit_code: int


class Cache(Line, tag="cache"):
    """The bytes that a disk cache holds."""

    folder: str
    bytes: int | None


class CacheCheck(Line, tag="cache-check"):
    """What a look at all files of a disk cache found."""

    folder: str
    files: int
    damaged: int
    bytes: int


class IndexFile(Line, tag="index"):
    """What a membership index says of itself."""

    file: str
    bytes: int
    algorithm: str
    layout: str
    count: int
    source: str
    service: str
    made_at: str
    covers_up_to: str
    coverage: str
    written_since: int
    no_proof: str | None


class IndexBuild(Line, tag="index-build"):
    """What was read for a membership index."""

    file: str
    digests: int
    others: int
    resumed: int
    seconds: float
    exit_code: int


class IndexCheck(Line, tag="index-check"):
    """What a look at all of a membership index found."""

    file: str
    whole: bool
    error: str | None


class MissSource(Line, tag="miss-source"):
    """What a ledger of misses knows of one source."""

    file: str
    name: str
    algorithm: str
    place: str
    lifetime: float
    misses: int
    expired: int
    first: str | None
    last: str | None


class Miss(Line, tag="miss"):
    """A blob that a source has said it lacks."""

    source: str
    algorithm: str
    digest: str
    at: str
    reason: str
    expired: bool


class MissExport(Line, tag="miss-export"):
    """Misses that were written to a file."""

    file: str
    misses: int


class Forgotten(Line, tag="forgotten"):
    """Misses that a ledger has forgotten."""

    file: str
    misses: int


class Cluster(Line, tag="cluster"):
    """A Ray cluster."""

    address: str
    nodes: list[str]
    ray: str
    python: str
    version: str


class Pool(Line, tag="pool"):
    """A pool of a cluster."""

    name: str
    private: bool
    version: str | None
    store: str | None
    code: str | None
    started: str | None
    age: float | None
    unused: float | None
    under_way: int
    memory: int
    stale: list[str]
    nodes: list[dict[str, Any]]
    unanswered: list[str]


class PoolEnd(Line, tag="pool-end"):
    """What became of a pool that was to end."""

    name: str
    ended: bool
    reason: str | None


class Config(Line, tag="config"):
    """A configuration file that was written."""

    file: str
    algorithm: str
    tiers: list[str]


class CheckedTier(Line, tag="tier-check"):
    """What `check` found out about one tier."""

    name: str
    kind: str
    role: str | None
    ok: bool
    asked: bool
    reached: bool | None
    answers: list[dict[str, Any]]
    may_list: bool | None
    may_read: bool | None
    may_write: bool | None
    latency: float | None
    clock_skew: float | None
    samples: list[dict[str, Any]]
    notes: list[str]
    faults: list[dict[str, Any]]


class Check(Line, tag="check"):
    """What `check` comes to, at its end."""

    ok: bool
    exit_code: int
    tiers: int
    faults: int
    missing: list[str]
    native_transport: dict[str, str | None]


class Shown(Line, tag="outline"):
    """The tiers as a tree."""

    title: str
    kind: str
    role: str | None
    facts: dict[str, Any]
    parts: list[dict[str, Any]]
    native_transport: dict[str, str | None]


class Ordered(Line, tag="order"):
    """Where a free source stands in the learned order of a cohort, and why."""

    cohort: str
    tier: str
    place: int
    written: int
    lookups: int
    asked: int
    hits: int
    rate: float
    requests: int
    seconds: float | None
    why: str


class Pass(Line, tag="pass"):
    """One pass of the demo over all of its blobs."""

    name: str
    blobs: int
    bytes: int
    seconds: float
    by_tier: dict[str, int]


class Claim(Line, tag="claim"):
    """Something that the demo says is true."""

    text: str
    holds: bool


def as_json(line: Line) -> str:
    """An object as JSON.

    It is ASCII, with escapes: the same in every encoding, and names of files may be no text at all.
    """
    return json.dumps(msgspec.to_builtins(line))


def show_line(line: Line) -> None:
    """Write an object to standard output. Raises `OSError`."""
    show(as_json(line))
