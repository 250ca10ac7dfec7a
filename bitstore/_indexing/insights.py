"""The manifest of an inventory report of Google Cloud Storage (Storage Insights).

Format: https://cloud.google.com/storage/docs/insights/inventory-reports
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from bitstore._indexing.manifest import InventoryError, InventoryFile, Manifest

__all__ = ["is_insights", "read_insights"]


def is_insights(told: Any) -> bool:
    """Whether the JSON of a manifest is that of Storage Insights."""
    return isinstance(told, dict) and "reportshardsfilenames" in _plain(told)


def read_insights(told: dict[str, Any], place: str) -> Manifest:
    """The manifest, from its JSON.

    Parameters
    ----------
    told
        What the file holds. Names are taken as in JSON of Google's APIs (`snapshotTime`) and as the reports have them
        (`snapshot_time`).
    place
        Where it lies, for errors.

    Raises
    ------
    InventoryError
        Something is lacking, or the files are not as many as it says.
    """
    try:
        whole = _plain(told)
        report = _plain(whole["reportconfig"])
        fields = _plain(report["objectmetadatareportoptions"])
        names = [str(name) for name in whole["reportshardsfilenames"]]
        begun = datetime.fromisoformat(str(whole["snapshottime"]).replace("Z", "+00:00"))
        csv = report.get("csvoptions")
        options = _plain(csv or {})
        bucket = _plain(fields.get("storagefilters") or {}).get("bucket")
        columns = tuple(str(name) for name in fields["metadatafields"])
        shards = int(whole.get("shardcount", len(names)))
        records = None if whole.get("recordsprocessed") is None else int(whole["recordsprocessed"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is not as Storage Insights has it ({error!r})"
        raise InventoryError(f"{place} is no manifest of an inventory report: it {what}") from error
    if shards != len(names) or len(set(names)) < len(names):
        raise InventoryError(f"{place}: it names {len(set(names)):,} files, and should name {shards:,}")
    if options.get("recordseparator", "\n") not in ("\n", "\r\n", "\\n", "\\r\\n"):
        raise InventoryError(
            f"{place}: records end with {options['recordseparator']!r}, and must end with a line break"
        )
    is_csv = csv is not None or (report.get("parquetoptions") is None and all(name.endswith(".csv") for name in names))
    return Manifest(
        bucket=None if bucket is None else str(bucket),
        format="CSV" if is_csv else "Parquet",
        columns=columns,
        begun=begun if begun.tzinfo is not None else begun.replace(tzinfo=timezone.utc),
        files=tuple(InventoryFile(name, None) for name in names),
        scheme="gs",
        delimiter=str(options.get("delimiter", ",")).replace("\\t", "\t"),
        has_header=bool(options.get("headerrequired", False)),
        records=records,
    )


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    return {name.lower().replace("_", ""): value for name, value in table.items()}
