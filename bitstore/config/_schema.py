"""The JSON Schema of a configuration file, made from the types that read it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from bitstore.config._file import File
from bitstore.config._tables import KINDS

__all__ = ["FILE_NAME", "schema", "schema_file"]

FILE_NAME = "bitstore.schema.json"
"""Name of the file with the schema, beside this module."""


def schema() -> dict[str, Any]:
    """The JSON Schema of `bitstore.toml`, of draft 7 (https://json-schema.org/draft-07), which editors know.

    It says what the types say: keys, types, choices. What only a machine can tell (folders, variables, import paths)
    is for `load` to find out.
    """
    ((whole,), parts) = msgspec.json.schema_components([File], ref_template="#/definitions/{name}")
    whole = parts.pop(whole["$ref"].rpartition("/")[2])
    kinds, tables = msgspec.json.schema_components(KINDS, ref_template="#/definitions/{name}")
    whole["properties"]["tier"]["items"] = {"anyOf": list(kinds)}
    made: dict[str, Any] = _without_null(
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            **whole,
            "title": "bitstore.toml",
            "definitions": dict(sorted({**parts, **tables}.items())),
        }
    )
    return made


def schema_file() -> Path:
    """The file with the schema, which is part of the package."""
    return Path(str(resources.files("bitstore.config").joinpath(FILE_NAME)))


def _without_null(part: Any) -> Any:
    """`part` without the null that stands for a key which is not given: TOML has none."""
    if isinstance(part, list):
        return [_without_null(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {key: _without_null(value) for key, value in part.items() if not (key == "default" and value is None)}
    if "anyOf" in kept:
        choices = [each for each in kept.pop("anyOf") if each != {"type": "null"}]
        kept |= choices[0] if len(choices) == 1 else {"anyOf": choices}
    return kept
