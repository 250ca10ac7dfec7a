"""One target under atheris, in a process of its own: `python -m tests.fuzz.guided TARGET FOLDER SECONDS`.

The fuzzer ends the process itself; what it finds stays in FOLDER, an input that fails in FOLDER/failed-*.
"""

from __future__ import annotations

import sys

import atheris


def main() -> None:
    name, folder, seconds = sys.argv[1:]
    with atheris.instrument_imports(include=["bitstore"]):
        from tests.fuzz.targets import TARGETS
    options = [
        f"-max_total_time={seconds}",
        "-max_len=2048",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/failed-", folder], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
