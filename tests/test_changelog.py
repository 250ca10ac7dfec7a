"""The files of changelog.d, which a release moves into CHANGELOG.md."""

from __future__ import annotations

import re
import sys

from tests.ray_cluster import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = ROOT / "changelog.d"


def test_each_file_has_a_known_kind_and_says_something_to_users() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    explained = set(re.findall(r"^- `(\w+)`:", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert explained == kinds
    wrong = []
    for path in FOLDER.iterdir():
        if path.name != "README.md":
            named = re.fullmatch(r"\+[a-z0-9-]+\.([a-z]+)\.md", path.name)
            if named is None or named[1] not in kinds or len(path.read_text().split()) < 5:
                wrong.append(path.name)
    assert wrong == []


def test_the_changelog_has_the_line_under_which_a_release_is_written() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    assert (ROOT / "CHANGELOG.md").read_text().startswith(settings["start_string"])
