"""What a run leaves in files of their own: what is missing, what failed, which lines were no digests."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bitstore._support.atomic import Draft, target_of

__all__ = ["Listing", "Listings"]

_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_LONGEST = 2000  # characters of one field


class Listing:
    """A text file of one line for each case; it replaces that of an earlier run when it is published.

    Parameters
    ----------
    path
        The file.
    append
        Keep what the file of an earlier run says, and add to it.

    Raises
    ------
    OSError
        A folder, pipe or device has the name.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self.path = path
        self._append = append
        self._draft: Draft | None = None
        self._file: IO[str] | None = None
        target_of(path)

    def add(self, *fields: str) -> None:
        """Write one line, of fields with tabs between. Raises `OSError`."""
        if self._file is None:
            self._draft = Draft(self.path)
            self._file = self._draft.path.open("x", encoding="utf-8")
            if self._append and self.path.exists():
                with self.path.open(encoding="utf-8", errors="replace") as before:
                    shutil.copyfileobj(before, self._file)
        self._file.write("\t".join([_UNFIT.sub(" ", text)[:_LONGEST] for text in fields]) + "\n")

    def publish(self) -> None:
        """Put the file in place; without a single line there is none. Raises `OSError`."""
        if self._draft is not None and self._file is not None:
            with self._draft:
                self._file.close()
                self._draft.publish()
        elif not self._append:
            with contextlib.suppress(FileNotFoundError):
                target_of(self.path).unlink()

    def discard(self) -> None:
        """Leave the file of an earlier run as it is."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._draft is not None:
            self._draft.discard()


@dataclass(frozen=True)
class Listings:
    """The three files of a run."""

    missing: Listing
    failed: Listing
    invalid: Listing

    @property
    def all(self) -> tuple[Listing, Listing, Listing]:
        """All of them."""
        return self.missing, self.failed, self.invalid
