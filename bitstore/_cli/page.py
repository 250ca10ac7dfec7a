"""A report as one HTML page that stands alone: it loads nothing, runs nothing, and escapes all texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bitstore._cli.lines import Report, Verification
from bitstore._cli.plots import Bar, bars, columns, steps, text
from bitstore._support.sizes import rounded_size

__all__ = ["page"]

_CAUSES = 8  # causes of failures that have a bar of their own
_FOOT = (
    "Sizes are powers of 1000, but for those of the histogram. Tiers that share a raw store show the requests and "
    "retries of all of them."
)
_COUNTS = ("hits", "misses", "failures", "invalid", "skipped", "writes", "write_failures", "requests", "retries")
_STYLE = """
:root { color-scheme: light dark; --back: #f7f8fa; --card: #fff; --edge: #dfe3e8; --ink: #1b2430; --soft: #5d6b7c;
  --plain: #2f6fd0; --bad: #c8372d; --good: #1f7a4d; --warn: #9a6200 }
@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1a2029; --edge: #303a47; --ink: #e6eaf0;
  --soft: #98a5b5; --plain: #6ba3f5; --bad: #f0766c; --good: #5cc493; --warn: #e2ab4f } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 28px 20px; max-width: 1080px; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { margin: 0; font-size: 24px; display: flex; flex-wrap: wrap; gap: 12px; align-items: center }
.state { font-size: 14px; font-weight: 600; padding: 2px 12px; border-radius: 99px; border: 1px solid }
.good { color: var(--good) } .warn { color: var(--warn) } .bad { color: var(--bad) }
.soft, .when { color: var(--soft) } .when { margin: 4px 0 0 }
code { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere }
.call { display: block; margin: 14px 0; padding: 10px 14px; background: var(--card); border: 1px solid var(--edge);
  border-radius: 8px }
.tell { margin: 10px 0; padding: 10px 14px; border-left: 4px solid var(--warn); background: var(--card);
  overflow-wrap: anywhere }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 10px; margin: 18px 0 }
.tile, figure, section { background: var(--card); border: 1px solid var(--edge); border-radius: 8px;
  padding: 12px 14px }
.tile b { display: block; overflow-wrap: anywhere; font-size: 21px; line-height: 1.25 }
.tile span { color: var(--soft); font-size: 13px }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 14px }
figure { margin: 0 } #causes { grid-column: 1 / -1 } #causes svg { max-width: 520px }
figcaption, h2 { margin: 0 0 8px; font-size: 15px; font-weight: 600 }
section { margin-top: 14px; overflow-x: auto }
svg { display: block; width: 100%; height: auto }
svg text { fill: var(--ink); font: 12px system-ui, "Segoe UI", Roboto, Arial, sans-serif }
svg .tick { fill: var(--soft) } svg .mid { text-anchor: middle } svg .end { text-anchor: end }
.grid { stroke: var(--edge); stroke-width: 1 }
.mark.plain, .area.plain { fill: var(--plain) } .mark.bad { fill: var(--bad) } .area { opacity: .16 }
.line { fill: none; stroke: var(--plain); stroke-width: 1.5; stroke-linejoin: round }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; border-top: 1px solid var(--edge);
  vertical-align: top }
thead th { border-top: 0; color: var(--soft); font-weight: 500 }
th.words, td.words { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 180px }
footer { margin-top: 18px; color: var(--soft); font-size: 13px }
"""


def page(run: Report | Verification) -> str:
    """The page."""
    state, look = _state(run)
    title = f"bitstore {run.command}"
    started = run.started.replace("T", " ").replace("+00:00", " UTC")
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        # The browser itself sees to it that nothing is loaded and nothing runs, whatever a text should smuggle in.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}: {text(state)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{text(title)} <span class="state {look}">{text(state)}</span></h1>',
        f'<p class="when">{text(started)}</p>',
        f'<code class="call">{text(run.command_line)}</code>',
        *(f'<p class="tell">{text(told)}</p>' for told in _told(run)),
        f'<div class="tiles">{"".join(_tiles(run))}</div>',
        f'<div class="plots">{"".join(_plots(run))}</div>',
        *_tables(run),
        f"<footer>bitstore {text(run.version)}. {_FOOT}</footer>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


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


def _tiles(run: Report | Verification) -> Iterator[str]:
    seconds = max(run.seconds, 1e-9)
    for value, name, look in (
        *(("?" if count is None else f"{count:,}", name, look if count else "") for count, name, look in _counts(run)),
        (_duration(run.seconds), "from start to end", ""),
        (rounded_size(run.bytes), "moved", ""),
        (f"{run.timeline[-1]['answered'] / seconds:,.0f}/s", "answers", ""),
        (f"{run.bytes / 1e6 / seconds:,.1f} MB/s", "moved a second", ""),
    ):
        yield f'<div class="tile"><b class="{look}">{text(value)}</b><span>{text(name)}</span></div>'


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
    yield _figure("throughput", "Throughput: answers a second", steps("Answers a second over time", blobs))
    yield _figure("volume", "Throughput: MB a second", steps("MB a second over time", volume))
    if isinstance(run, Report):
        hits = [Bar(name, count) for name, count in run.by_tier.items()]
        yield _figure("tiers", "Hits per tier", bars("Hits per tier", hits, "nothing was found"))
    yield _figure("sizes", "Sizes of blobs", columns("Sizes of blobs", found))
    yield _figure("causes", "Failures by cause", bars("Failures by cause", causes, "no failures"))


def _figure(name: str, title: str, svg: str) -> str:
    return f'<figure id="{name}"><figcaption>{title}</figcaption>\n{svg}</figure>\n'


def _tables(run: Report | Verification) -> Iterator[str]:
    if isinstance(run, Report) and run.tiers:
        rows = [
            [tier["name"], *(f"{tier[key]:,}" for key in _COUNTS), rounded_size(int(tier["bytes"]))]
            for tier in run.tiers
        ]
        head = ["tier", *(key.replace("write_failures", "not written").replace("_", " ") for key in _COUNTS), "size"]
        yield f"<section><h2>What each tier did</h2>{_table(head, rows, words=1)}</section>"
    if run.causes:
        found = [[cause["error"], cause["digest"], f"{cause['failures']:,}"] for cause in run.causes]
        head = ["cause", "the first digest", "failures"]
        yield f"<section><h2>Why lookups failed</h2>{_table(head, found, words=2)}</section>"


def _table(head: list[str], rows: Sequence[Sequence[object]], *, words: int) -> str:
    def line(cells: Sequence[object], tag: str) -> str:
        begun = [f'<{tag} class="words">'] * words + [f"<{tag}>"] * (len(cells) - words)
        return f"<tr>{''.join(f'{begin}{text(cell)}</{tag}>' for begin, cell in zip(begun, cells, strict=True))}</tr>"

    return f"<table><thead>{line(head, 'th')}</thead><tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def _class(bits: int) -> str:
    """The class of sizes that have fewer than so many bits, named by its smallest size."""
    least = (1 << bits) >> 2  # bits are those of the bound, which no size of the class reaches
    for power, unit in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if least >= 1 << power:
            return f"{least >> power} {unit}B"
    return f"{least} B"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 3600} h {whole // 60 % 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"
