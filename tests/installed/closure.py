"""Prints what a distribution needs with some extras, one name a line: `python closure.py epic-bitstore aws,cli`.

It reads the metadata of what is installed beside it, so it runs in an environment that has everything.
"""

from __future__ import annotations

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """The names of all distributions that `name[extras]` needs, but its own."""
    needed: set[str] = set()
    waiting, seen = [(name, extras)], set()
    while waiting:
        found = waiting.pop()
        if found in seen:
            continue
        seen.add(found)
        for line in requires(found[0]) or []:
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in ("", *found[1])]
            if requirement.marker is None or any(requirement.marker.evaluate(one) for one in environments):
                dependency = canonicalize_name(requirement.name)
                needed.add(dependency)
                waiting.append((dependency, frozenset(requirement.extras)))
    return needed - {name}


if __name__ == "__main__":
    print("\n".join(sorted(closure(sys.argv[1], frozenset(sys.argv[2].split(",")) - {""}))))
