"""A worker: one process that fetches for one contestant, on command.

It runs in the contestant's own environment, so it imports nothing but the standard library and the contestant's
module (`peers/<name>.py`). It speaks JSON lines: first comes the job, then commands; each is answered by one line.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer commands until the input ends."""
    # What contestants print must not come between the answers.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        job = json.loads(sys.stdin.readline())
        if "cores" in job:  # the first ones; the server has the last ones
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
        try:
            peer = importlib.import_module(f"peers.{sys.argv[1]}")
            names = Path(job["names"]).read_text().split() if "names" in job else ["0" * 40]
            fetch = peer.start(job)
            _answer(answers, {"ready": True, "versions": _versions(getattr(peer, "DISTRIBUTIONS", ()))})
            for line in sys.stdin:
                _answer(answers, _turn(fetch, job, names, json.loads(line)))
        except Exception:
            traceback.print_exc()
            _answer(answers, {"error": traceback.format_exc(limit=-4)})


def _turn(fetch: Any, job: dict[str, Any], names: list[str], command: dict[str, Any]) -> dict[str, Any]:
    count, first = command["count"], command["first"] % len(names)
    usage, started = _cpu(), time.perf_counter()
    told = fetch(_cycle(names, first, count))
    seconds, used = time.perf_counter() - started, _cpu() - usage
    answer = {"blobs": count, "seconds": seconds, "cpu": used, "peak": _peak(), **told}
    if answer["blobs"] != count:
        raise RuntimeError(f"{answer['blobs']} blobs came of {count}")
    if "size" in job and answer["bytes"] != count * job["size"]:
        raise RuntimeError(f"{answer['bytes']} bytes came of {count * job['size']}")
    return answer


def _cycle(names: list[str], first: int, count: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(itertools.chain(names[first:], names[:first])), count)


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak() -> int:
    """The most bytes that were resident at once."""
    try:
        # `getrusage` would count what the process was that this one was started from, too.
        told = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(told.partition("VmHWM:")[2].split()[0]) * 1024


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "?"
    return found


def _answer(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
