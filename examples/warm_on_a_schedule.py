"""Caches that follow a growing list, as cron would have it: each run fetches what the list has got since the last one.

    python examples/warm_on_a_schedule.py

The bucket is a folder of this machine.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

BLOBS = {hashlib.sha1(data).hexdigest(): data for data in (f"blob {n}".encode() for n in range(300))}


def warm(folder: Path) -> str:
    """One run. In a crontab: `bitstore warm /data/hashes.txt --config store.toml --since-last /data/hashes.state`."""
    words = ["warm", "hashes.txt", "--store", f"{(folder / 'bucket').as_uri()}/", "--cache", "cache"]
    words += ["--since-last", "hashes.state", "--max-failures", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "bitstore", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    told = done.stderr.splitlines()
    entries = next(line for line in told if " entries, " in line)
    counts = [line.partition(" (")[0] for line in told if line.startswith(("warm now", "missing"))]
    return ", ".join([entries.partition(",")[0], *counts])


def main() -> None:
    """Let the list grow, be rotated and be followed."""
    with tempfile.TemporaryDirectory() as name:
        folder, digests = Path(name), list(BLOBS)
        (folder / "bucket").mkdir()
        for digest, data in BLOBS.items():
            (folder / "bucket" / digest).write_bytes(data)
        listed = folder / "hashes.txt"
        listed.write_text("".join(f"{digest}\n" for digest in digests[:100]))
        print("first run:", warm(folder))
        with listed.open("a") as file:
            file.writelines(f"{digest}\n" for digest in digests[100:150])
        print("50 lines later:", warm(folder))
        print("no line later:", warm(folder))
        with listed.open("a") as file:
            file.writelines(f"{digest}\n" for digest in digests[150:200])
        listed.rename(folder / "hashes.txt.1")  # as logrotate does; the last 50 lines were not read yet
        listed.write_text("".join(f"{digest}\n" for digest in digests[200:]))
        print("rotated:", warm(folder))


if __name__ == "__main__":
    main()
