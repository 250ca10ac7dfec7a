"""Writes the tables of docs/configuration.md and the schema of bitstore.toml. `python -m tests.config_page`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bitstore.config._schema import schema, schema_file

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
MARK = "<!-- The rest is written by `python -m tests.config_page`, and checked by tests/test_config_keys.py. -->\n"


def kind_of(part: dict[str, Any]) -> str:
    """What a key takes, in the words of TOML."""
    if "enum" in part:
        return " or ".join(f'`"{choice}"`' for choice in part["enum"])
    if "$ref" in part:
        return "table"
    words = {"string": "text", "integer": "number", "object": "table", "boolean": "`true` or `false`", "array": "list"}
    kinds = [each.get("type", "object") for each in part.get("anyOf", [part])]
    return " or ".join(dict.fromkeys(words.get(kind, kind) for kind in kinds))


def default_of(part: dict[str, Any]) -> str:
    """The default of a key, as it is written in a file; nothing where the store's own counts."""
    return f"`{json.dumps(part['default'])}`" if "default" in part else ""


def rows(table: dict[str, Any], without: set[str]) -> list[str]:
    """A row for each key of `table`."""
    lines = ["| key | takes | default | what it says |", "|---|---|---|---|"]
    for key, part in table["properties"].items():
        if key not in without:
            name = f"`{key}`" + (" (needed)" if key in table["required"] else "")
            lines.append(f"| {name} | {kind_of(part)} | {default_of(part)} | {part['description']} |")
    return lines


def tables() -> str:
    """All tables: the file, each kind of tier, and tables within them."""
    whole = schema()
    kinds = whole["definitions"]
    s3, gs, http = (kinds[f"{name}Tier"]["properties"] for name in ("S3", "GS", "HTTP"))
    wire = {key: part for key, part in s3.items() if gs.get(key) == part == http.get(key)}
    urls = [key for key in wire if key in kinds["FileTier"]["properties"]]
    of_wire = {"properties": {key: part for key, part in wire.items() if key not in urls}, "required": []}
    of_urls = {"properties": {key: wire[key] for key in urls}, "required": ["name"]}
    sections: list[tuple[str, dict[str, Any], set[str]]] = [
        ("The file", whole, set()),
        ('A tier with `cache = "disk"`', kinds["DiskTier"], set()),
        ('A tier with `cache = "memory"`', kinds["MemoryTier"], set()),
        ("A tier with a `url`, of any kind", of_urls, set()),
        ("A tier with a `url` of `s3://`, `gs://`, `http://` or `https://`", of_wire, set()),
        ("A tier with a `url` of `s3://`", kinds["S3Tier"], {*wire}),
        ("A tier with a `url` of `gs://`", kinds["GSTier"], {*wire}),
        ("A tier with a `url` of `http://` or `https://`", kinds["HTTPTier"], {*wire}),
        (
            "A tier with a `url` of `lfs+http://` or `lfs+https://`",
            kinds["LFSTier"],
            {*kinds["HTTPTier"]["properties"]} - {"url"},
        ),
        ("A tier with a `url` of `file://`", kinds["FileTier"], {*urls}),
        ('A tier with `client = "fsspec"`', kinds["FsspecTier"], {*urls}),
        ('A tier with `client = "obstore"`', kinds["ObstoreTier"], {*urls}),
        ("A tier with `python`", kinds["PythonTier"], set()),
        ("The table `limit`", kinds["LimitTable"], set()),
        ("The table `price`", kinds["PriceTable"], set()),
        ("The table `budget` of the file", kinds["BudgetTable"], set()),
        ("The table `misses`", kinds["MissesTable"], set()),
        ("The table `order` of the file", kinds["OrderTable"], set()),
        ("The table `packs`", kinds["PacksTable"], set()),
        ("The table `references`", kinds["ReferencesTable"], set()),
        ("The table `retry`", kinds["RetryTable"], set()),
    ]
    return "\n".join(
        "\n".join([f"\n### {title}\n", *rows(table, without)]) + "\n" for title, table, without in sections
    )


def page() -> str:
    """The whole page: what a person wrote, and the tables."""
    return PAGE.read_text().partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    schema_file().write_text(json.dumps(schema(), indent=1) + "\n")
    PAGE.write_text(page())
