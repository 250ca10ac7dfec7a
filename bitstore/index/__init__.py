"""Membership indexes: which digests a source surely does not hold, looked up in one file instead of by a request."""

from __future__ import annotations

from bitstore.index._builder import IndexBuilder
from bitstore.index._file import DamagedIndex
from bitstore.index._index import Index, IndexInfo
from bitstore.index._merge import merge

__all__ = ["DamagedIndex", "Index", "IndexBuilder", "IndexInfo", "merge"]
