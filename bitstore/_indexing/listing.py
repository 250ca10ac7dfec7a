"""A live listing of a bucket or folder, in parts side by side, that resumes where it broke off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bitstore._digests.template import KeyTemplate
from bitstore._indexing.journal import Journal
from bitstore._indexing.pages import HEX, Page, bucket_pages, folder_pages, parts_of, stray_pages
from bitstore._indexing.reading import Reading
from bitstore._indexing.workplace import Workplace

__all__ = ["Listing"]

_BEAT = 0.5  # seconds between two looks for a signal while the parts are listed
_LAST_PAGE = 2.0  # seconds that a stopped part has to keep its last page


class Listing:
    """One listing, from its first page or from where an earlier one broke off.

    Parameters
    ----------
    raw
        The raw store.
    template
        Which keys are those of digests.
    length
        Hexadecimal characters of a digest.
    workplace
        Where the pages are kept.
    identity
        What tells this listing from others.

    Attributes
    ----------
    started
        The moment before its first page: what was written later may be missing.
    resumed
        Keys that an earlier run has listed.

    Raises
    ------
    Busy, OSError
        See `Workplace.part_folder`.
    """

    def __init__(self, raw: Any, template: KeyTemplate, length: int, workplace: Workplace, identity: str) -> None:
        self._raw = raw
        self._template = template
        self._length = length
        folder, self.started = workplace.part_folder(identity)
        self._journals = {part: Journal(Path(folder, f"{part}.part")) for part in parts_of(template, length)}
        self._is_folder = template.start.lower().startswith("file:")
        if self._is_folder:  # the order of a folder may change: a part that is not whole is read again
            for part, journal in self._journals.items():
                if not journal.done and journal.cursor is not None:
                    journal.close()
                    journal.path.unlink()
                    self._journals[part] = Journal(journal.path)
        kept = self._journals.values()
        self.resumed = sum(2 * journal.digest_bytes // length + journal.others for journal in kept)
        self._stop = threading.Event()
        self._errors: list[BaseException] = []

    def run(self, reading: Reading) -> None:
        """List what is left. Raises what the first part raises that fails, when the others have kept their pages."""
        for journal in self._journals.values():
            reading.add(2 * journal.digest_bytes // self._length, journal.others)
        # Threads that do not keep the process alive: a page of a server that hangs may take half a minute.
        threads = [
            threading.Thread(target=self._list, args=(part, reading), name=f"bitstore-list-{part}", daemon=True)
            for part, journal in self._journals.items()
            if not journal.done
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_BEAT)
        except BaseException:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_LAST_PAGE / len(threads))
            raise
        if self._errors:
            raise self._errors[0]

    def digests(self) -> Iterator[bytes]:
        """All raw digests, once `run` has returned."""
        for journal in self._journals.values():
            if not journal.done:
                raise RuntimeError(f"{journal.path} is not whole")
            yield from journal.pieces()

    def close(self) -> None:
        """Close the files."""
        for journal in self._journals.values():
            journal.close()

    def _list(self, part: str, reading: Reading) -> None:
        try:
            journal = self._journals[part]
            for page in self._pages(part, journal.cursor):
                if self._stop.is_set():
                    return
                found = [self._template.digest_of(url, self._length) for url in page.urls]
                digests = [digest for digest in found if digest is not None]
                raw = bytes.fromhex("".join(digests))
                journal.append(raw, len(found) - len(digests), page.cursor, last=page.last)
                reading.add(len(digests), len(found) - len(digests))
        except BaseException as error:
            self._errors.append(error)
            self._stop.set()

    def _pages(self, part: str, cursor: str | None) -> Iterator[Page]:
        beyond = cursor or None
        if self._is_folder:
            return folder_pages(self._raw, self._template, part)
        if part == "all":
            return bucket_pages(self._raw, self._template.start, beyond=beyond)
        if part in HEX:
            return bucket_pages(self._raw, self._template.start + part, beyond=beyond)
        return stray_pages(self._raw, self._template, beyond=beyond)
