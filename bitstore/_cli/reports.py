"""What a run leaves in files of their own: what is missing, what failed, which lines were no digests."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import IO

__all__ = ["Report"]

_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_LONGEST = 2000  # characters of one field


class Report:
    """A text file of one line for each case; it replaces that of an earlier run when it is published.

    Parameters
    ----------
    path
        The file.
    append
        Keep what the file of an earlier run says, and go on after it.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self.path = path
        self.count = 0
        self._append = append
        self._draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        self._file: IO[str] | None = None

    def add(self, *fields: str) -> None:
        """Write one line, of fields with tabs between. Raises `OSError`."""
        if self._file is None:
            self._file = self._draft.open("w", encoding="utf-8")
            if self._append and self.path.exists():
                with self.path.open(encoding="utf-8", errors="replace") as before:
                    shutil.copyfileobj(before, self._file)
        self._file.write("\t".join([_UNFIT.sub(" ", text)[:_LONGEST] for text in fields]) + "\n")
        self.count += 1

    def publish(self) -> None:
        """Put the file in place; without a single line there is none. Raises `OSError`."""
        if self._file is not None:
            try:
                self._file.close()
                self._draft.replace(self.path)
            finally:
                self._unlink_draft()
        elif not self._append:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def discard(self) -> None:
        """Leave the file of an earlier run as it is."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._unlink_draft()

    def _unlink_draft(self) -> None:
        with contextlib.suppress(OSError):
            self._draft.unlink()
