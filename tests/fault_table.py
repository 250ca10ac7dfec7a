"""The fault matrix as data: what goes wrong where, and what must come of it.

`tests/test_fault_matrix.py` holds the library to it, and `python -m tests.fault_table` writes it out for people
as `docs/fault-matrix.md`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tests.servers.faults import Action, Answer, Cut, Hang, Reset, ResetAfter, Stall, s3_error

__all__ = ["DOCUMENT", "FAULTS", "HELD", "HOMES", "KINDS", "POSITIONS", "SIZE", "Cell", "Fault", "cells", "document"]

Kind: TypeAlias = Literal["S3", "GCS", "HTTP"]
KINDS: tuple[Kind, ...] = ("S3", "GCS", "HTTP")
POSITIONS = (1, 2, 3, 4)  # three sources, and last before the API: the API's own cache
HELD = {"wrong bytes": "wrong", "empty 200": "", "HTML error page with 200": "<html><h1>Sorry</h1></html>"}
SIZE = 120  # bytes of a blob; with more, libcurl counts the bytes of a body that stalls as progress for seconds
HALF = SIZE // 2
LIBCURL_TRIES = 6  # of one attempt, on kept connections that turn out to be dead
DOCUMENT = Path(__file__).parent.parent / "docs" / "fault-matrix.md"

# What the tier makes of the fault. `found`: it gets the blob all the same. `invalid`: what came is not the blob.
Verdict: TypeAlias = Literal["found", "missing", "failed", "invalid"]
# Where the blob can be had besides the faulty tier: only from the API, or also one tier further down.
Home: TypeAlias = Literal["API", "next"]
HOMES: tuple[Home, ...] = ("API", "next")


class Seen(NamedTuple):
    """What one tier makes of a fault, and how many requests it costs (with two attempts allowed).

    `or_more`: a kept connection may have died of old age, so libcurl sends a request again by itself, a few times,
    when one is reset before a single byte of the answer has come.
    """

    verdict: Verdict
    calls: int
    or_more: bool = False


@dataclass(frozen=True, eq=False)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    name
        In words.
    seen
        What it comes to, by kind of store.
    refused
        No server listens.
    """

    name: str
    seen: dict[Kind, Seen]
    refused: bool = False

    def action(self, kind: Kind, loop: str) -> Action | None:
        """What a proxy does to the reads of the faulty tier; None: the tier itself is as the fault says.

        `loop` is the URL that a redirect leads to: the one that was asked for.
        """
        status = {"403": 403, "429": 429, "500": 500, "503": 503}.get(self.name)
        if status is not None:
            return _error(kind, status)
        return {
            "timeout (no answer)": Hang(),
            "reset before the headers": Reset(),
            "reset in the body": ResetAfter(HALF),
            "stall in the body": Stall(HALF),
            "truncated body, right headers": Cut(HALF),
            "redirect loop": Answer(302, b"", {"Location": loop}),
        }.get(self.name)


def _error(kind: Kind, status: int) -> Answer:
    if kind == "S3":
        codes = {403: "AccessDenied", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}
        return s3_error(status, codes[status])
    if kind == "GCS":
        body = f'{{"error": {{"code": {status}, "message": "told to", "errors": [{{"reason": "told"}}]}}}}'
        return Answer(status, body.encode(), {"Content-Type": "application/json"})
    return Answer(status, b"told to")


def _all(verdict: Verdict, calls: int) -> dict[Kind, Seen]:
    return dict.fromkeys(KINDS, Seen(verdict, calls))


# A cut body is fetched on from where it was cut where the server names the version of the blob (ETag): one request
# that finds the cut, one that learns the ETag and is cut as well, and one for the rest. This web server names none.
_RESUMED: dict[Kind, Seen] = {"S3": Seen("found", 3), "GCS": Seen("found", 3), "HTTP": Seen("failed", 2)}

FAULTS = (
    Fault("missing", _all("missing", 1)),
    Fault("403", _all("failed", 1)),
    Fault("429", _all("failed", 2)),
    Fault("500", _all("failed", 2)),
    Fault("503", _all("failed", 2)),
    Fault("timeout (no answer)", _all("failed", 2)),
    Fault("connection refused", _all("failed", 0), refused=True),
    Fault("reset before the headers", dict.fromkeys(KINDS, Seen("failed", 2, or_more=True))),
    Fault("reset in the body", _RESUMED),
    Fault("stall in the body", _RESUMED),
    Fault("truncated body, right headers", _RESUMED),
    Fault("wrong bytes", _all("invalid", 1)),
    Fault("empty 200", _all("invalid", 1)),
    Fault("redirect loop", _all("failed", 1)),
    Fault("HTML error page with 200", _all("invalid", 1)),
)


@dataclass(frozen=True, eq=False)
class Cell:
    """One lookup, and what must come of it.

    Attributes
    ----------
    fault, kind, position, home
        What goes wrong, in stores of which kind, at which tier (from 1), and where else the blob is.
    outcome
        `"bytes"`, or the class of the error.
    calls
        Reads that each of the four tiers got.
    api_calls
        Calls of the paid API.
    disk
        The disk cache on top holds the blob afterwards.
    api_cache
        What the API's cache holds afterwards: `"blob"`, `"nothing"`, or `"as before"` for what was put there.
    """

    fault: Fault
    kind: Kind
    position: int
    home: Home
    outcome: str
    calls: tuple[int, int, int, int]
    api_calls: int
    disk: bool
    api_cache: Literal["blob", "nothing", "as before"]

    def fits(self, calls: tuple[int, ...]) -> bool:
        """Whether the tiers got the right numbers of reads."""
        most = list(self.calls)
        if self.fault.seen[self.kind].or_more:
            most[self.position - 1] *= LIBCURL_TRIES
        return all(low <= found <= high for low, found, high in zip(self.calls, calls, most, strict=True))

    def __str__(self) -> str:
        return f"{self.kind} {self.position} {self.fault.name} ({self.home})"


def cells() -> Iterator[Cell]:
    """The whole matrix."""
    for fault, kind, position, home in itertools.product(FAULTS, KINDS, POSITIONS, HOMES):
        if not (home == "next" and position == 4):  # the next after the last is the API itself
            yield _cell(fault, kind, position, home)


def _cell(fault: Fault, kind: Kind, position: int, home: Home) -> Cell:
    verdict, cost, _ = fault.seen[kind]
    # Bad bytes in a cache are as good as none; in a source, they say nothing.
    open_question = verdict == "failed" or (verdict == "invalid" and position < 4)
    calls = [1] * 4
    calls[position - 1] = cost
    if verdict == "found":
        finder = position
    elif home == "next":
        finder = position + 1
    else:
        finder = 5 if not open_question else 0
    if finder:
        calls[finder:] = [0] * (4 - finder) if finder < 4 else []
    api = finder == 5
    # The API's cache keeps what the API returns, and nothing else: it stands above the API alone.
    healed = position == 4 and verdict == "invalid"
    holds_blob = (home == "next" and position == 3) or (position == 4 and verdict in ("found", "failed")) or api
    return Cell(
        fault,
        kind,
        position,
        home,
        outcome="bytes" if finder else "LookupFailed",
        calls=(calls[0], calls[1], calls[2], calls[3]),
        api_calls=int(api),
        disk=bool(finder),
        api_cache=("blob" if api or healed else "as before") if holds_blob else "nothing",
    )


def document() -> str:
    """The matrix for people, in Markdown."""
    lines = [
        "# The fault matrix",
        "",
        "<!-- Written by `python -m tests.fault_table`; tests/test_fault_matrix.py checks every cell. -->",
        "",
        "What one lookup comes to when one tier goes wrong. The chain: a disk cache, three sources (tiers 1 to 3), the",
        "cache of a paid API (tier 4), the API. All stores verify (`verify=True`) and try a request at most twice",
        "(`Retry(attempts=2)`; the default is four times). Real servers stand behind a proxy that makes the faults;",
        "each cell is tested through `get` and through `get_many`.",
        "",
        "In each cell: **what the caller gets**, the reads that tiers 1 to 4 received, the calls of the API, and",
        "which caches hold the blob afterwards (*disk*, *API cache*; what they held before included). No outage",
        "reaches the paid API, and no wrong byte reaches the caller or a cache.",
        "",
    ]
    titles = {
        "API": "## The blob is in the faulty tier and in the API only",
        "next": "## The tier below the faulty one has the blob, too",
    }
    for home in HOMES:
        positions = [position for position in POSITIONS if home == "API" or position < 4]
        lines += [titles[home], ""]
        lines.append("| Fault | " + " | ".join(f"at tier {position}" for position in positions) + " |")
        lines.append("|---" * (len(positions) + 1) + "|")
        for fault in FAULTS:
            rows: dict[tuple[str, ...], list[str]] = {}
            for kind in KINDS:
                row = tuple(_told(_cell(fault, kind, position, home)) for position in positions)
                rows.setdefault(row, []).append(kind)
            for row, kinds in rows.items():
                of = "" if len(kinds) == len(KINDS) else f" ({', '.join(kinds)})"
                lines.append(f"| {fault.name}{of} | " + " | ".join(row) + " |")
        lines.append("")
    lines += [
        "A body that breaks off is fetched on from there where the server names the blob's version (`ETag`), as S3 and",
        "GCS do; the web server of this test names none. A fault that the caller should know of is in the error: each",
        "`LookupFailed` names every tier that failed, and why.",
        "",
    ]
    return "\n".join(lines)


def _told(cell: Cell) -> str:
    held = ["disk"] if cell.disk else []
    if cell.api_cache != "nothing":
        held.append("API cache")
    more = cell.fault.seen[cell.kind].or_more
    reads = " ".join(
        f"{calls}+" if more and at == cell.position else str(calls) for at, calls in enumerate(cell.calls, 1)
    )
    return f"**{cell.outcome}**; reads {reads}; API {cell.api_calls}; {', '.join(held) or 'no cache'}"


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(f"wrote {DOCUMENT}")
