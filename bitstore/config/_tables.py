"""From a table of a configuration file to what it means, with errors that a person can act on."""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec

from bitstore._support.redact import redact_url
from bitstore.config._caches import DiskTier, MemoryTier
from bitstore.config._foreign import CLIENTS
from bitstore.config._money import BudgetTable, PriceTable
from bitstore.config._order import OrderTable
from bitstore.config._packs import PacksTable
from bitstore.config._python import LimitTable, PythonTier
from bitstore.config._references import ReferencesTable
from bitstore.config._tier import MissesTable, Table, Tier
from bitstore.config._urls import SCHEMES, RetryTable

__all__ = ["KINDS", "convert", "tier"]

_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_INNER: dict[str, type[Table]] = {
    "retry": RetryTable,
    "limit": LimitTable,
    "references": ReferencesTable,
    "price": PriceTable,
    "budget": BudgetTable,
    "misses": MissesTable,
    "packs": PacksTable,
    "order": OrderTable,
}
_LOCAL: dict[str, type[Tier]] = {"disk": DiskTier, "memory": MemoryTier}
_KNOWN = ", ".join(f"{scheme}://" for scheme in SCHEMES)

KINDS: tuple[type[Tier], ...] = (*_LOCAL.values(), *dict.fromkeys(SCHEMES.values()), *CLIENTS.values(), PythonTier)
"""The kinds of tiers that a file may have."""


def tier(table: dict[str, Any]) -> Tier:
    """The checked form of one `[[tier]]`. Raises ValueError that names the key and what would be right."""
    checked: Tier = convert(table, _kind(table))
    return checked


def convert(table: dict[str, Any], kind: type[Table], place: str = "") -> Any:
    """`table`, which stands at `place`, as a `kind`. Raises ValueError, which names the key and what would be right."""
    known = kind.__struct_fields__
    for key, inner in _INNER.items():
        if isinstance(table.get(key), dict) and key in known:
            table = {**table, key: convert(table[key], inner, f"{key}.")}
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"unknown key {place + key!r}{meant}; {kind.what} takes: {', '.join(known)}")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        text, key = (match[1], place + match[2]) if match else (str(error), place.rstrip("."))
        for word, ours in (
            (" | null", ""),
            ("`", ""),
            ("Expected", "expected"),
            ("object", "table"),
            ("Object", "it is"),
        ):
            text = text.replace(word, ours)
        raise ValueError(f"{key}: {text}" if key else text) from None


def _nowhere(table: dict[str, Any]) -> str:
    for key in ("url", "cache", "python"):
        if close := difflib.get_close_matches(key, table.keys() - {key, "name"}, n=1):
            return f"unknown key {close[0]!r} (did you mean {key!r}?), and nothing says where its blobs are"
    return "nothing says where its blobs are"


def _kind(table: dict[str, Any]) -> type[Tier]:
    cache = table.get("cache")
    local = isinstance(cache, str)
    if not local and not isinstance(table.get("cache", False), bool):
        raise ValueError(f"cache: expected str or bool, got {type(cache).__name__}")
    places = [key for key in ("url", "python") if key in table] + (["cache"] if local else [])
    if len(places) != 1:
        begun = f"{' and '.join(places)} exclude each other" if places else _nowhere(table)
        raise ValueError(
            f"{begun}: give either url = 's3://bucket/prefix/', or cache = 'disk' (with path), "
            "or cache = 'memory', or python = 'package.module:function'"
        )
    if local:
        if cache not in _LOCAL:
            raise ValueError(f"cache = {cache!r}: choose 'disk' or 'memory', or with a url true or false")
        return _LOCAL[cache]
    if "python" in table:
        return PythonTier
    url = table["url"]
    if not isinstance(url, str):
        raise ValueError(f"url: expected str, got {type(url).__name__}")
    if "client" in table:
        if not isinstance(table["client"], str) or table["client"] not in CLIENTS:
            raise ValueError(f"client = {table['client']!r}: choose one of {', '.join(map(repr, CLIENTS))}")
        return CLIENTS[table["client"]]
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(f"url = {redact_url(url)!r} has no scheme: {_meant(url)}")
    if scheme.lower() not in SCHEMES:
        raise ValueError(f"url = {redact_url(url)!r}: its scheme is unknown; choose one of {_KNOWN}")
    return SCHEMES[scheme.lower()]


def _meant(url: str) -> str:
    """What is right in place of a URL without `://`."""
    if url.startswith("/"):
        folder = url if "{" in url or url.endswith("/") else f"{url}/"
        return f"for a folder write {f'file://{folder}'!r}"
    scheme, colon, rest = url.partition(":")
    if colon and scheme.lower() in SCHEMES:
        meant = f"{scheme}://" + rest.lstrip("/")
        return f"did you mean {redact_url(meant)!r}?"
    return f"begin with one of {_KNOWN}"
