"""A page of docs from a mutation run over the core: which changes of the code no test notices, and why that is right.

`make mutants` runs mutmut (its settings are in pyproject.toml), then this. The reasons are kept in the page itself, by
the function and the change, so that a new run keeps them. It ends with 1 if a survivor has no reason.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "mutants.md"
NO_REASON = "**no reason yet**"
HEAD = """# Changes of the core that no test notices

mutmut changes one operator, value, argument or statement of the core at a time and runs the tests that reach it.
Written by `make mutants`; the reasons are by hand and kept from run to run. A survivor in one of the rules "a failure
is no absence", "paid once" and "never the wrong bytes" is a defect of the tests.

"""
_TEXT = re.compile(r"""(?:f|rb?|)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_CALL_OF_LOG = re.compile(r"self\.(?:said\.)?log\(|logger\.debug\(")
_FALSE = re.compile(r"\b(?:False|None)\b")


class Survivor(NamedTuple):
    """One change that no test noticed."""

    module: str
    function: str
    change: str

    @property
    def reason(self) -> str | None:
        """The reason that follows from the change alone, if there is one."""
        before, _, after = self.change.partition(" -> ")
        if _TEXT.sub('""', before) == _TEXT.sub('""', after) and before != after:
            return "the wording of a message"
        if _CALL_OF_LOG.match(before):
            return "the wording of the log at level DEBUG"
        if before != after and _FALSE.sub("None", before) == _FALSE.sub("None", after):
            return "None is as false as False"
        return None


def main() -> int:
    """Write the page; the exit code says whether each survivor has a reason."""
    listed = _mutmut("results", "--all", "true")
    results = dict(re.findall(r"^\s+(\S+): (.+)$", listed, re.MULTILINE))
    # A run of some modules (ARGS) says nothing about the others.
    results = {name: outcome for name, outcome in results.items() if outcome != "not checked"}
    if not results:
        print("no results: run mutmut first", file=sys.stderr)
        return 2
    reasons = _known_reasons()
    survivors = [_survivor(name) for name, outcome in results.items() if outcome in ("survived", "no tests")]
    lines = [HEAD, "| module | changes | noticed | survived |\n|---|---:|---:|---:|\n"]
    made = Counter(_module(name) for name in results)
    left = Counter(survivor.module for survivor in survivors)
    lines += [f"| `{name}` | {made[name]} | {made[name] - left[name]} | {left[name]} |\n" for name in sorted(made)]
    unexplained = 0
    for module in sorted(left):
        lines.append(f"\n## {module}\n\n| function | change | why no test needs to notice |\n|---|---|---|\n")
        for survivor in sorted({survivor for survivor in survivors if survivor.module == module}):
            reason = survivor.reason or reasons.get((survivor.function, survivor.change), NO_REASON)
            unexplained += reason == NO_REASON
            lines.append(f"| `{survivor.function}` | `{survivor.change}` | {reason} |\n")
    PAGE.write_text("".join(lines), encoding="utf-8")
    print(f"{len(results)} changes, {len(survivors)} survivors, {unexplained} without a reason: {PAGE}")
    return min(1, unexplained)


def _known_reasons() -> dict[tuple[str, str], str]:
    if not PAGE.exists():
        return {}
    rows = re.findall(r"^\| `(.+?)` \| `(.+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {(function, change): reason for function, change, reason in rows if reason != NO_REASON}


def _survivor(name: str) -> Survivor:
    shown = _mutmut("show", name).splitlines()
    removed, added = (_changed(shown, sign) for sign in "-+")
    # A bar would end a cell of the table.
    return Survivor(_module(name), _function(name), f"{removed} -> {added}".replace("|", "¦").replace("`", "'"))


def _changed(diff: list[str], sign: str) -> str:
    lines = (line[1:].partition("  # ")[0].strip() for line in diff if line.startswith(sign) and line[:3] != sign * 3)
    return " ".join(lines)


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _function(name: str) -> str:
    # `xǁBreakerǁadmit__mutmut_3`, or `x_costs__mutmut_1` of a function outside a class.
    called = name.rpartition(".")[2].rpartition("__mutmut_")[0]
    return called.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in called else called.removeprefix("x_")


def _mutmut(*args: str) -> str:
    return subprocess.run([sys.executable, "-m", "mutmut", *args], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
