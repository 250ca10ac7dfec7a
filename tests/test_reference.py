"""The public names: Python, type checkers and docs/reference.md say the same."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import build, modulefinder
from mypy.options import Options

import bitstore
from tests import reference

ROOT = Path(bitstore.__file__).parent


def names_for_type_checkers() -> list[str]:
    options = Options()
    options.implicit_reexport = False  # as `mypy --strict`
    options.follow_imports = "skip"  # the names alone: the modules behind them are checked by `make lint`
    options.incremental = False
    sources = [
        modulefinder.BuildSource(str(ROOT / file), module)
        for module, file in (("bitstore", "__init__.py"), ("bitstore._names", "_names.py"))
    ]
    tree = build.build(sources, options).files["bitstore"]
    return sorted(name for name, found in tree.names.items() if found.module_public and not name.startswith("_"))


def names_in_the_docs() -> dict[str, list[str]]:
    sections = re.split(r"^## ", reference.PAGE.read_text(), flags=re.MULTILINE)[1:]
    return {text.split()[0]: re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for text in sections}


def test_type_checkers_see_the_public_names_of_python() -> None:
    assert names_for_type_checkers() == reference.public_names("bitstore")


def test_the_docs_list_the_public_names_of_python() -> None:
    assert names_in_the_docs() == {module: reference.public_names(module) for module in reference.MODULES}


def test_the_reference_page_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.page(), "python -m tests.reference writes it"
