"""A contestant: a worker process in its environment, and what came of its turns."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.envs import HERE, python_of

__all__ = ["Contestant", "Failed", "Turn"]


class Failed(Exception):
    """A contestant could not be installed or started, or broke off."""


@dataclass(frozen=True)
class Turn:
    """The report of a worker on one turn: `blobs`, `bytes`, `seconds`, `cpu` (seconds), `peak` (bytes), and more."""

    told: dict[str, Any]

    @property
    def rate(self) -> float:
        """Blobs per second."""
        return float(self.told["blobs"] / self.told["seconds"])

    @property
    def cpu(self) -> float:
        """CPU microseconds per blob."""
        return float(self.told["cpu"] / self.told["blobs"] * 1e6)


@dataclass
class Contestant:
    """One contestant in a case.

    Attributes
    ----------
    name
        In tables.
    module
        Which of `peers` it runs.
    job
        What the module is told.
    env
        Its environment (`benchmarks.envs`).
    count
        Blobs per turn; None: as many as take about a turn's time, found at the warm-up.
    """

    name: str
    module: str
    job: dict[str, Any]
    env: str | None = None
    count: int | None = None
    warm_up: int = 200
    turns: list[Turn] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    _process: subprocess.Popen[str] | None = None
    _first: int = 0

    def start(self) -> None:
        """Install what it needs, start the process and connect to nothing yet. Raises `Failed`."""
        try:
            python = python_of(self.env)
        except RuntimeError as error:
            raise self._failed(str(error)) from error
        self._process = subprocess.Popen(
            [python, HERE / "worker.py", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if "BENCHMARKS_DEBUG" in os.environ else subprocess.DEVNULL,
            text=True,
            env=_environment(self.job, ours=self.env is None),
        )
        self.versions = self._ask(self.job)["versions"]

    def turn(self, count: int, **command: Any) -> Turn:
        """Let it fetch the next `count` blobs. Raises `Failed`."""
        answer = self._ask({"count": count, "first": self._first, **command})
        self._first += count
        return Turn(answer)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            try:
                self._process.stdin.close()
                self._process.wait(10)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def rate(self) -> float:
        """Median of blobs per second."""
        return median(turn.rate for turn in self.turns)

    @property
    def cpu(self) -> float:
        """Median of CPU microseconds per blob."""
        return median(turn.cpu for turn in self.turns)

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message, default=str) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise self._failed(answer["error"].strip().splitlines()[-1])
        return answer

    def _failed(self, why: str) -> Failed:
        self.failure = why
        return Failed(f"{self.name}: {why}")


def _environment(job: dict[str, Any], *, ours: bool) -> dict[str, str]:
    """What a worker sees: made-up keys, no configuration of the user's, no proxy, nothing that calls home.

    Of the job, `authority` is the file of the only authority that is trusted, and `native` False keeps bitstore from
    its native transport.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.upper().startswith(("AWS_", "GOOGLE_", "PYTHON", "BITSTORE_")) and not key.lower().endswith("_proxy")
    }
    made = {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL_S3": job.get("url", "http://127.0.0.1:9"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
        "GCE_METADATA_HOST": "127.0.0.1:9",
        "DO_NOT_TRACK": "true",
        "SCARF_NO_ANALYTICS": "true",
        "DAFT_ANALYTICS_ENABLED": "0",
        "DAFT_PROGRESS_BAR": "0",
    }
    if "authority" in job:
        made |= dict.fromkeys(("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"), job["authority"])
    if job.get("native") is False:
        made["BITSTORE_NATIVE"] = "0"
    # The other environments must not see the checkout: its `epic` has the name of a contestant.
    return {**kept, **made, **({"PYTHONPATH": str(Path(HERE).parent)} if ours else {})}
