"""A report as one HTML page that stands alone: it loads nothing, runs nothing, and escapes all texts."""

from __future__ import annotations

from collections.abc import Iterator

from bitstore._cli.lines import Report, Verification
from bitstore._pages.frame import Tile, document, duration, figure, section
from bitstore._pages.plots import Bar, bars, columns, steps
from bitstore._support.sizes import rounded_size

__all__ = ["page"]

_CAUSES = 8  # causes of failures that have a bar of their own
_FOOT = (
    "Sizes are powers of 1000, but for those of the histogram. Tiers that share a raw store show the requests and "
    "retries of all of them."
)
_COUNTS = ("hits", "misses", "failures", "invalid", "skipped", "writes", "write_failures", "requests", "retries")


def page(run: Report | Verification) -> str:
    """The page."""
    state, look = _state(run)
    title = f"bitstore {run.command}"
    started = run.started.replace("T", " ").replace("+00:00", " UTC")
    return document(
        title=title,
        state=state,
        look=look,
        when=started,
        call=run.command_line,
        told=_told(run),
        tiles=_tiles(run),
        plots=_plots(run),
        sections=_tables(run),
        foot=f"bitstore {run.version}. {_FOOT}",
    )


def _state(run: Report | Verification) -> tuple[str, str]:
    """How the run ended, and a word for its colour."""
    if run.exit_code > 128:
        return "interrupted", "warn"
    if not run.complete:
        return "stopped", "bad"
    if run.failed:
        return "complete, with failures", "bad"
    if isinstance(run, Verification):
        return ("complete, not all right", "bad") if run.exit_code else ("complete", "good")
    return ("complete, not all found", "warn") if run.exit_code else ("complete", "good")


def _told(run: Report | Verification) -> Iterator[str]:
    if run.stopped:
        yield f"Stopped because: {run.stopped}"
    if run.resume:
        yield run.resume[0].upper() + run.resume[1:]


def _counts(run: Report | Verification) -> list[tuple[int | None, str, str]]:
    """What the run counted, how that is called, and a word for its colour where it is not 0."""
    if isinstance(run, Verification):
        return [
            (run.listed, "objects listed", ""),
            (run.right, "right", ""),
            (run.wrong, "wrong", "bad"),
            (run.gone, "gone since", "warn"),
            (run.failed, "not read", "bad"),
            (run.no_digest, "no digest as key", "warn"),
        ]
    return [
        (run.entries, "entries in the list", ""),
        (run.found, "found", ""),
        (run.there, "there before", ""),
        (run.missing, "missing", "warn"),
        (run.failed, "failed", "bad"),
        (run.invalid, "no digests", "warn"),
    ]


def _tiles(run: Report | Verification) -> Iterator[Tile]:
    seconds = max(run.seconds, 1e-9)
    for value, name, look in (
        *(("?" if count is None else f"{count:,}", name, look if count else "") for count, name, look in _counts(run)),
        (duration(run.seconds), "from start to end", ""),
        (rounded_size(run.bytes), "moved", ""),
        (f"{run.timeline[-1]['answered'] / seconds:,.0f}/s", "answers", ""),
        (f"{run.bytes / 1e6 / seconds:,.1f} MB/s", "moved a second", ""),
    ):
        yield name, value, look


def _plots(run: Report | Verification) -> Iterator[str]:
    blobs, volume = [], []
    for before, after in zip(run.timeline, run.timeline[1:], strict=False):
        took = after["seconds"] - before["seconds"]
        if took > 0:
            blobs.append((after["seconds"], (after["answered"] - before["answered"]) / took))
            volume.append((after["seconds"], (after["bytes"] - before["bytes"]) / 1e6 / took))
    sizes = {row["below"].bit_length(): row["blobs"] for row in run.sizes}
    classes = range(min(sizes), max(sizes) + 1) if sizes else range(1, 11)
    found = [(_class(bits), sizes.get(bits, 0)) for bits in classes]
    causes = [Bar(str(cause["error"]), int(cause["failures"]), "bad") for cause in run.causes]
    if len(causes) > _CAUSES:
        rest = causes[_CAUSES:]
        causes[_CAUSES:] = [Bar(f"{len(rest):,} other causes", sum(bar.value for bar in rest), "bad")]
    yield figure("throughput", "Throughput: answers a second", steps("Answers a second over time", blobs))
    yield figure("volume", "Throughput: MB a second", steps("MB a second over time", volume))
    if isinstance(run, Report):
        hits = [Bar(name, count) for name, count in run.by_tier.items()]
        yield figure("tiers", "Hits per tier", bars("Hits per tier", hits, "nothing was found"))
    yield figure("sizes", "Sizes of blobs", columns("Sizes of blobs", found))
    yield figure("causes", "Failures by cause", bars("Failures by cause", causes, "no failures"))


def _tables(run: Report | Verification) -> Iterator[str]:
    if isinstance(run, Report) and run.tiers:
        rows = [
            [tier["name"], *(f"{tier[key]:,}" for key in _COUNTS), rounded_size(int(tier["bytes"]))]
            for tier in run.tiers
        ]
        head = ["tier", *(key.replace("write_failures", "not written").replace("_", " ") for key in _COUNTS), "size"]
        yield section("What each tier did", head, rows, words=1)
    if run.causes:
        found = [[cause["error"], cause["digest"], f"{cause['failures']:,}"] for cause in run.causes]
        head = ["cause", "the first digest", "failures"]
        yield section("Why lookups failed", head, found, words=2)


def _class(bits: int) -> str:
    """The class of sizes that have fewer than so many bits, named by its smallest size."""
    least = (1 << bits) >> 2  # bits are those of the bound, which no size of the class reaches
    for power, unit in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if least >= 1 << power:
            return f"{least >> power} {unit}B"
    return f"{least} B"
