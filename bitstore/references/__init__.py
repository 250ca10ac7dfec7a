"""Tables of references: where the blob of each digest lies, as a URL and a part of what is there.

`Sha1References` and its kin read blobs by such a table. What is here makes one: from rows, or of an archive's members.
"""

from __future__ import annotations

from bitstore.references._archives import archive_members
from bitstore.references._table import DamagedReferences, Reference, ReferenceTable, write_references

__all__ = ["DamagedReferences", "Reference", "ReferenceTable", "archive_members", "write_references"]
