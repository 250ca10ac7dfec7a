"""The folder beside an index that is built: what was listed so far, from which a broken build resumes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from bitstore._support.atomic import fitting_name, target_of, write_whole
from bitstore.errors import BitstoreError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Busy", "Workplace"]


class Busy(BitstoreError):
    """Another process builds the same index."""


class Workplace:
    """A folder `NAME.listing` beside the index, made when it is needed and locked while it is used.

    Parameters
    ----------
    target
        The index that is built.
    """

    def __init__(self, target: Path) -> None:
        final = target_of(target)
        self.path = final.with_name(fitting_name(final.parent, final.name, ".listing"))
        self._lock: IO[bytes] | None = None

    def part_folder(self, identity: str) -> tuple[Path, datetime]:
        """The folder of one listing, and the moment at which that was begun.

        Parameters
        ----------
        identity
            What is listed: another text has another folder.

        Raises
        ------
        Busy
            Another process uses the folder.
        OSError
            The folder cannot be written.
        """
        folder = self.path / hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        self._hold()
        about = folder / "about.json"
        try:
            if not _has_pages(folder):  # else the index would cover less than it does
                raise FileNotFoundError
            told: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
            return folder, datetime.fromisoformat(told["started"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):  # what it would say of the parts is unknown
            shutil.rmtree(folder)
            folder.mkdir()
        started = datetime.now(timezone.utc)
        write_whole(about, json.dumps({"started": started.isoformat(), "listing": identity}).encode())
        return folder, started

    def _hold(self) -> None:
        if self._lock is not None:
            return
        self._lock = open(self.path / "lock", "ab")  # noqa: SIM115
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # a file system without locks
            self._let_go()
            raise Busy(f"{self.path} is in use: another build of this index goes on; wait for its end") from error

    def clear(self) -> None:
        """Delete the folder: the index is written."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self.path)

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            if self._lock is not None and not _has_pages(self.path):
                shutil.rmtree(self.path)
        self._let_go()


def _has_pages(folder: Path) -> bool:
    return any(part.stat().st_size for part in folder.rglob("*.part"))
