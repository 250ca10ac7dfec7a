"""What a configuration file leaves to the machine: environment variables and home folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["expand_home", "expand_path", "expand_values", "expand_variables"]

_VARIABLE = re.compile(r"\$\$|\$\{([^{}]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)|\$\{")
_IN_BRACES = re.compile(r"\$\{([^{}]*)\}")


def expand_variables(text: str, key: str, *, only_in_braces: bool = False, encode: Callable[[str], str] = str) -> str:
    """`text` with the values of the environment variables that it names.

    Parameters
    ----------
    text
        A value of the file, with `${NAME}` or `$NAME`; `$$` is one dollar sign.
    key
        The value's key, for errors.
    only_in_braces
        Only `${NAME}` is a variable, and nothing else has a meaning.
    encode
        Makes of a variable's value what stands in the text.

    Raises
    ------
    ValueError
        A variable is not set, or is no variable.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        literal = "" if only_in_braces else " ($$ stands for a dollar sign)"
        name = match[match.lastindex] if match.lastindex else None
        if name is None:
            raise ValueError(f"{key}: there is '${{' without its '}}'{literal}")
        found = os.environ.get(name)
        if found is None:
            if not name.isidentifier():
                raise ValueError(f"{key}: {name!r} is no name of an environment variable{literal}")
            raise ValueError(f"{key}: the environment variable {name} is not set, and {match[0]} needs it{literal}")
        return encode(found)

    return (_IN_BRACES if only_in_braces else _VARIABLE).sub(value, text)


def expand_home(text: str, key: str) -> Path:
    """`text` as a path, in which a `~` at the beginning is a home folder. Raises ValueError where that is unknown."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{key} = {text!r}: whose home '~' means here is unknown") from error


def expand_path(text: str, key: str) -> Path:
    """`text` as a path, with environment variables and a home folder. Raises ValueError where one is unknown."""
    return expand_home(expand_variables(text, key), key)


def expand_values(value: Any, key: str) -> Any:
    """`value`, a table or list, with `${NAME}` in each text of it expanded. Raises ValueError as `expand_variables`."""
    if isinstance(value, str):
        return expand_variables(value, key, only_in_braces=True)
    if isinstance(value, list):
        return [expand_values(each, key) for each in value]
    if isinstance(value, dict):
        return {name: expand_values(each, f"{key}.{name}") for name, each in value.items()}
    return value
