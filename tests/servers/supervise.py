"""Runs one command and takes it along when the process that asked for it is gone.

Started as a script, in a session of its own. Arguments: the pid of its owner, the files and folders to remove when the
owner is gone (separated as in PATH), and the command.

A signal that the kernel sends on a parent's death is no substitute: it follows the *thread* that
forked, and a test may start a server from any thread.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    owner, leftovers, command = int(sys.argv[1]), sys.argv[2].split(os.pathsep), sys.argv[3:]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    watched: list[int] = [wake_read]
    timeout: float | None = None
    try:
        watched.append(os.pidfd_open(owner))
    except (AttributeError, ProcessLookupError):
        timeout = 0.5  # no pidfd here (macOS): look now and then
    while child.poll() is None:
        if os.getppid() != owner:
            child.kill()
            child.wait()
            for path in leftovers:
                remove(Path(path))
            # The whole group, this process included: nothing may be left behind.
            os.killpg(0, signal.SIGKILL)
        if wake_read in select.select(watched, [], [], timeout)[0]:
            os.read(wake_read, 4096)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
