"""The manifest of an S3 Inventory: which files it has, what their columns are, and when it was begun.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timezone
from typing import Any, NamedTuple

from bitstore.errors import BitstoreError

__all__ = ["InventoryError", "InventoryFile", "Manifest", "read_manifest"]

_FORMATS = ("CSV", "ORC", "Parquet")
_MD5 = re.compile("[0-9a-f]{32}").fullmatch


class InventoryError(BitstoreError, ValueError):
    """An inventory cannot be read, or is not whole."""


class InventoryFile(NamedTuple):
    """One file of an inventory."""

    # Its key in the bucket that takes the inventory; of Google Cloud Storage its name beside the manifest.
    key: str
    # MD5 of its bytes, in lower case; None: the manifest does not say it.
    md5: str | None


class Manifest(NamedTuple):
    """What the manifest says."""

    # The bucket that was listed; None: each row says it.
    bucket: str | None
    # `CSV`, `ORC` or `Parquet`.
    format: str
    # Names of the columns of CSV files, in their order; of other formats the files have them.
    columns: tuple[str, ...]
    # When the inventory was begun.
    begun: datetime
    files: tuple[InventoryFile, ...]
    # `s3` or `gs`.
    scheme: str = "s3"
    # What stands between two fields of CSV files.
    delimiter: str = ","
    # Whether CSV files begin with the names of their columns.
    has_header: bool = False
    # How many rows the files have in all; None: the manifest does not say it.
    records: int | None = None


def read_manifest(data: bytes, place: str, *, checksum: bytes | None) -> Manifest:
    """The manifest in `data`.

    Parameters
    ----------
    place
        Where it lies, for errors.
    checksum
        Content of the file `manifest.checksum` beside it; None: there is none.

    Raises
    ------
    InventoryError
        It is no manifest, is damaged, or lacks something.
    """
    if (
        checksum is not None
        and hashlib.md5(data, usedforsecurity=False).hexdigest() != checksum.decode("ascii", "replace").strip().lower()
    ):
        raise InventoryError(f"{place} does not match the manifest.checksum beside it: get both again")
    try:
        told: dict[str, Any] = json.loads(data)
        names = {key: told[key] for key in ("sourceBucket", "creationTimestamp", "fileFormat", "fileSchema", "files")}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else "is no JSON object"
        raise InventoryError(f"{place} is no manifest.json of an S3 Inventory: it {what}") from error
    if names["fileFormat"] not in _FORMATS:
        raise InventoryError(
            f"{place}: fileFormat is {names['fileFormat']!r}, and must be one of {', '.join(_FORMATS)}"
        )
    try:
        columns = tuple(name.strip() for name in names["fileSchema"].split(","))
        begun = datetime.fromtimestamp(int(names["creationTimestamp"]) / 1000, timezone.utc)
        files = tuple(InventoryFile(str(each["key"]), str(each["MD5checksum"]).lower()) for each in names["files"])
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise InventoryError(f"{place}: its times or files are not as an S3 Inventory has them ({error!r})") from error
    if any(_MD5(file.md5 or "") is None for file in files):
        raise InventoryError(f"{place}: a file of it has no MD5checksum")
    if len({file.key for file in files}) < len(files):
        raise InventoryError(f"{place}: it names a file twice")
    return Manifest(str(names["sourceBucket"]), names["fileFormat"], columns, begun, files)
