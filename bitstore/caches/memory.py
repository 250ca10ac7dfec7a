"""A cache in memory."""

from __future__ import annotations

import threading
from typing import Any

from cachetools import LRUCache

from bitstore.caches.process import PerProcess
from bitstore.errors import InvalidURI, NotFoundInStore
from bitstore.sizes import format_size, parse_size
from bitstore.store import OVERWRITE, Store, Write
from bitstore.transfer.steps import Found, Steps

__all__ = ["MemoryCache"]
