"""What every page of a report is made of. It loads nothing, runs nothing, and escapes all texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bitstore._pages.plots import text

__all__ = ["Tile", "document", "duration", "figure", "section", "table"]

# What a number is, the number as text, and a word for its colour.
Tile = tuple[str, str, str]

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


def document(
    *,
    title: str,
    state: str,
    look: str,
    when: str,
    call: str,
    told: Iterable[str],
    tiles: Iterable[Tile],
    plots: Iterable[str],
    sections: Iterable[str],
    foot: str,
) -> str:
    """The whole page.

    Parameters
    ----------
    title
        What the page is about.
    state, look
        How it stands, in words, and `good`, `warn` or `bad`.
    when, call
        Lines below the title: a time, and what it was.
    told
        Things that the reader should know first.
    tiles, plots, sections
        The numbers, the plots (`figure`), and the tables (`section`).
    foot
        The last line.
    """
    boxes = "".join(
        f'<div class="tile"><b class="{look}">{text(value)}</b><span>{text(name)}</span></div>'
        for name, value, look in tiles
    )
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        # The browser itself sees to it that nothing is loaded and nothing runs, whatever a text should smuggle in.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}: {text(state)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{text(title)} <span class="state {look}">{text(state)}</span></h1>',
        f'<p class="when">{text(when)}</p>',
        f'<code class="call">{text(call)}</code>',
        *(f'<p class="tell">{text(line)}</p>' for line in told),
        f'<div class="tiles">{boxes}</div>',
        f'<div class="plots">{"".join(plots)}</div>',
        *sections,
        f"<footer>{text(foot)}</footer>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def figure(name: str, title: str, svg: str) -> str:
    """A plot with its title; `name` is its id in the page."""
    return f'<figure id="{name}"><figcaption>{title}</figcaption>\n{svg}</figure>\n'


def section(title: str, head: list[str], rows: Sequence[Sequence[object]], *, words: int) -> str:
    """A table with its title; see `table`."""
    return f"<section><h2>{text(title)}</h2>{table(head, rows, words=words)}</section>"


def table(head: list[str], rows: Sequence[Sequence[object]], *, words: int) -> str:
    """A table whose first `words` columns are texts, and whose others are numbers."""

    def line(cells: Sequence[object], tag: str) -> str:
        begun = [f'<{tag} class="words">'] * words + [f"<{tag}>"] * (len(cells) - words)
        return f"<tr>{''.join(f'{begin}{text(cell)}</{tag}>' for begin, cell in zip(begun, cells, strict=True))}</tr>"

    return f"<table><thead>{line(head, 'th')}</thead><tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def duration(seconds: float) -> str:
    """So many seconds in a few letters, such as `2 min 5 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 3600} h {whole // 60 % 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"
