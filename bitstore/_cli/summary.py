"""What a run says at its end."""

from __future__ import annotations

from bitstore._cli.fetching import Outcome, Reports
from bitstore._tiers.composite import Composite

__all__ = ["per_tier", "size", "summary"]


def summary(outcome: Outcome, store: Composite, reports: Reports) -> str:
    """The summary of a run, some lines of text."""
    seconds = max(outcome.seconds, 1e-9)
    ended = ""
    if outcome.interrupted is not None:
        ended = "interrupted: "
    elif outcome.stopped is not None:
        ended = "stopped: "
    rate = f"{outcome.found / seconds:,.0f} blobs/s, {outcome.bytes / 1e6 / seconds:,.1f} MB/s"
    lines = [f"{ended}found {outcome.found:,} blobs, {size(outcome.bytes)} in {outcome.seconds:.1f} s ({rate})"]
    if outcome.there:
        lines.append(f"  {outcome.there:,} more were there already")
    lines += ["  " + line for line in per_tier(store)]
    for count, what, report in (
        (outcome.missing, "missing", reports.missing),
        (outcome.failed, "failed", reports.failed),
        (outcome.invalid, "not a digest", reports.invalid),
    ):
        told = f": see {report.path}" if count and report.path.exists() else ""
        lines.append(f"{what}: {count:,}{told}")
    if outcome.stopped is not None:
        lines.append(f"stopped because: {outcome.stopped}")
    return "\n".join(lines)


def per_tier(store: Composite) -> list[str]:
    """A table of what each tier did."""
    stats = list(store.stats().values())
    rows = [("tier", "hits", "misses", "failures", "written", "bytes")]
    for tier in stats:
        written = f"{tier.writes:,}" + (f" ({tier.write_failures:,} failed)" if tier.write_failures else "")
        rows.append((tier.name, f"{tier.hits:,}", f"{tier.misses:,}", f"{tier.failures:,}", written, size(tier.bytes)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def size(count: int) -> str:
    """`count` bytes, rounded for reading."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")
