"""What all cases share: the origin with its buckets, a folder for scratch, and how long to measure."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contestant import Contestant
from benchmarks.origin import Origin, write_blobs

__all__ = ["Bench"]


class Bench:
    """One run of the benchmarks.

    Parameters
    ----------
    quick
        Shorter turns, fewer blobs, and only the contestants that matter to the claim.
    rounds
        How many turns each contestant gets.
    """

    def __init__(self, *, quick: bool, rounds: int) -> None:
        self.quick = quick
        self.rounds = rounds
        self.seconds = 0.5 if quick else 2.0
        self.folder = Path(tempfile.mkdtemp(prefix="bitstore-bench-"))
        self._origin: Origin | None = None
        self._names: dict[str, Path] = {}

    @property
    def origin(self) -> Origin:
        """The server, started when first asked for."""
        if self._origin is None:
            self._origin = Origin(self.folder / "origin")
            self._origin.start()
        return self._origin

    def close(self) -> None:
        """Stop the server and delete everything."""
        if self._origin is not None:
            self._origin.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def scratch(self, name: str) -> Path:
        """A new folder of this name. The case that fills it deletes it when it is large."""
        folder = self.folder / name
        folder.mkdir()
        return folder

    def small(self) -> dict[str, Any]:
        """A job over the bucket of 16 KB blobs.

        There are many more of them than lookups in one window: a digest repeated within it is fetched once.
        """
        return self._job("small", 8000 if self.quick else 10000, 16 * 1024)

    def tiny(self, count: int) -> dict[str, Any]:
        """A job over a bucket of 4 KB blobs."""
        return self._job("tiny", count, 4096)

    def large(self) -> dict[str, Any]:
        """A job over the bucket of 4 MB blobs."""
        return self._job("large", 100 if self.quick else 200, 4 * 1000 * 1000)

    def huge(self) -> dict[str, Any]:
        """A job over a bucket of a few blobs of 256 MB."""
        return self._job("huge", 2, 256 * 1000 * 1000)

    def _job(self, bucket: str, count: int, size: int) -> dict[str, Any]:
        if bucket not in self._names:
            digests = write_blobs(self.origin.root / bucket, count=count, size=size)
            self._names[bucket] = self.folder / f"{bucket}.txt"
            self._names[bucket].write_text("\n".join(digests))
        return {"url": self.origin.url, "bucket": bucket, "names": self._names[bucket], "size": size}

    def slow(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """The same job with a latency; None where this nginx cannot do so."""
        return None if self.origin.slow_url is None else {**job, "url": self.origin.slow_url}

    def secure(self, job: dict[str, Any]) -> dict[str, Any]:
        """The same job over TLS."""
        return {**job, "url": self.origin.tls_url, "authority": str(self.origin.authority)}

    @staticmethod
    def ours(job: dict[str, Any], name: str = "bitstore", **more: Any) -> Contestant:
        """A contestant that is bitstore, on `job`."""
        return Contestant(name, "ours", {**job, **more})
