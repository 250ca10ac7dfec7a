"""A server that is a program: started, waited for, and surely stopped."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.servers import supervise

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ProgramServer", "ServerError", "free_ports"]

# Below the range from which systems take the ports of outgoing connections (Linux: from 32768), also with 10000
# added: so the only rival for a port is another server that is just being started.
_PORTS = range(10_300, 22_700)


class ServerError(RuntimeError):
    """A test server did not start; the text holds the end of its log."""


def free_ports(count: int, *, offsets: tuple[int, ...] = (0,)) -> list[int]:
    """`count` different ports that no process listens on now, nor on any of them plus an offset."""
    found: list[int] = []
    candidates = random.SystemRandom().sample(_PORTS, len(_PORTS))
    for port in candidates:
        if all(_is_free(port + offset) for offset in offsets):
            found.append(port)
            if len(found) == count:
                return found
    raise ServerError(f"fewer than {count} free ports in {_PORTS}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it, so that connections in TIME_WAIT do not count as listeners.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class ProgramServer(ABC):
    """A program that serves on loopback.

    A port is free only until another process takes it, so a start is tried again on fresh ports when the program ends
    early; `_is_ready` must make sure that the answer comes from *this* server.
    """

    name: ClassVar[str]
    start_seconds: ClassVar[float] = 60.0
    attempts: ClassVar[int] = 4

    def __init__(self) -> None:
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> list[str]:
        """Choose ports, write configuration into `self.folder`, and give the command line."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether this very server answers. `OSError` means not yet."""

    def _prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Set up what every user of the server relies on, once it is ready."""

    def _leftovers(self) -> list[Path]:
        """What the program makes outside of its folder, and leaves when it is killed."""
        return []

    @property
    def log(self) -> Path:
        """Where the program's output goes."""
        return self.folder / "output.log"

    @property
    def pid(self) -> int:
        """The process group of the running program."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> Self:
        """Start the program and wait until it is ready. Raises `ServerError` with its log when it does not come up."""
        assert self._process is None, "the server is running already"
        for attempt in range(1, self.attempts + 1):
            self.folder = Path(tempfile.mkdtemp(prefix=f"bitstore-{self.name}-"))
            try:
                self._launch()
                self._prepare()
            except BaseException as error:
                text = self._tail()
                self.stop()
                if isinstance(error, ServerError) and attempt < self.attempts:
                    continue
                raise ServerError(f"{self.name} did not start: {error}\n{text}") from error
            return self
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Kill the program and all that it started, and remove its folder. May be called again."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            for path in self._leftovers():
                supervise.remove(path)
        if self.folder != Path():
            supervise.remove(self.folder)
            self.folder = Path()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> None:
        program = self._command()
        leftovers = os.pathsep.join(map(str, [self.folder, *self._leftovers()]))
        command = [sys.executable, "-I", "-S", supervise.__file__, str(os.getpid()), leftovers, *program]
        with open(self.log, "wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "TMPDIR": str(self.folder)},
                start_new_session=True,
            )
        deadline = time.monotonic() + self.start_seconds
        while True:
            if self._process.poll() is not None:
                raise ServerError(f"the program ended with code {self._process.returncode}")
            with contextlib.suppress(OSError):
                if self._is_ready():
                    return
            if time.monotonic() > deadline:
                raise ServerError(f"not ready after {self.start_seconds:g} s")
            # Its output has nothing that one could wait for: a poll is what there is.
            time.sleep(0.02)

    def _tail(self) -> str:
        try:
            return self.log.read_text(errors="replace")[-4000:]
        except OSError:
            return ""
