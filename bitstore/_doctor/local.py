"""The check of tiers that are no buckets: caches of this machine, paid sources, and stores of users."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from bitstore._caches.disk import DiskCache
from bitstore._doctor.causes import cause_of, reason_of
from bitstore._doctor.questions import Questions
from bitstore._doctor.reports import CheckFault, SampleCheck
from bitstore._lookup.asking import steps_of_get
from bitstore._support.sizes import rounded_size
from bitstore.errors import BitstoreError
from bitstore.steps import Call, Steps

__all__ = ["check_disk_cache", "check_own", "check_paid", "nearest_folder"]

_LEAST_FREE = 100_000_000  # bytes; a disk with fewer is called full


def check_disk_cache(questions: Questions, cache: DiskCache) -> None:
    """Find out whether the folder of a disk cache can be read and written, and has room."""
    check = questions.check
    try:
        folder = cache.folder
    except BitstoreError as error:
        advice = "Name a folder (path), or set BITSTORE_CACHE_DIR."
        questions.fault(CheckFault("no-folder", str(error), advice))
        return
    if questions.missing_blob() is None:
        return
    check.may_read = check.reached = True
    there = nearest_folder(folder)
    check.may_write = os.access(there, os.W_OK | os.X_OK)
    if not check.may_write:
        text = f"the folder {there} may not be written by this user, so nothing is kept"
        advice = "Give this user the right to write, or name another folder."
        questions.fault(CheckFault("no-permission", text, advice))
    _room(questions, cache, there)
    questions.samples(None)
    if questions.wishes.write:
        questions.write(lambda digest: _called(cache.delete, digest))


def _room(questions: Questions, cache: DiskCache, there: Path) -> None:
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        questions.check.notes.append(f"how much is free there is unknown: {error.strerror}")
        return
    held = cache.stats()["bytes"]
    told = "not counted yet" if held is None else f"{rounded_size(held)} held"
    questions.check.notes.append(
        f"{told}, of at most {rounded_size(cache.max_size)}; {rounded_size(free)} free on the disk"
    )
    if free < min(_LEAST_FREE, cache.max_size - (held or 0)):
        text = f"the disk of {there} has {rounded_size(free)} free"
        questions.fault(CheckFault("disk-full", text, "Make room, or name a folder on another disk."))
    elif free < cache.max_size - (held or 0):
        text = f"the cache may grow by {rounded_size(cache.max_size - (held or 0))}, and {rounded_size(free)} are free"
        questions.fault(CheckFault("disk-small", text, "Lower max_size, or make room.", severity="hint"))


def nearest_folder(folder: Path) -> Path:
    """The folder, or the first of those above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def check_paid(questions: Questions, store: Any) -> None:
    """Ask a paid source, once for each sample digest, or for one that it cannot have."""
    check = questions.check
    if not questions.wishes.paid:
        check.asked = False
        check.notes.append("it costs money or quota, and is not asked unless you say so (--paid, paid=True)")
        return
    check.notes.append(f"it was asked {len(questions.wishes.samples) or 1} times, which may have cost money or quota")
    if questions.wishes.samples:
        _look(questions)
    else:
        questions.missing_blob()


def _look(questions: Questions) -> None:
    """Look each sample digest up."""
    for digest in questions.wishes.samples:
        heard = questions.ask(lambda digest=digest: steps_of_get(questions.store, digest))  # type: ignore[misc]
        if heard.error is None:
            questions.check.samples.append(SampleCheck(digest, "found"))
        elif heard.says_missing:
            questions.check.samples.append(SampleCheck(digest, "missing"))
        else:
            fault = cause_of(heard, questions.place)
            questions.check.samples.append(SampleCheck(digest, "failed", why=fault.text))
            questions.fault(fault)


def check_own(questions: Questions, store: Any) -> None:
    """Find out what a store of a user, or a raw store without a prefix, answers."""
    if questions.algorithm is None and not questions.wishes.samples:
        questions.check.asked = False
        questions.check.notes.append("nothing was asked: it is addressed by URL, so name one to look for (a sample)")
        return
    if questions.algorithm is not None:
        try:
            takes = store.is_valid(questions.lost())
        except Exception as error:  # a store of a user may raise anything
            text = f"is_valid raised {reason_of(error)}"
            questions.fault(CheckFault("store-raises", text, "is_valid returns True or False: mend the class."))
            return
        if not takes:
            advice = "Its is_valid must say True for the digests of the composite: else no lookup asks it."
            questions.fault(CheckFault("takes-no-digest", f"is_valid says False for a {questions.algorithm}", advice))
            return
        if questions.missing_blob() is None:
            return
    questions.samples(None)
    if questions.wishes.write and questions.algorithm is not None and questions.place.writes:
        delete = getattr(store, "delete", None)
        questions.write((lambda digest: _called(delete, digest)) if callable(delete) else None)


def _called(function: Any, *args: Any) -> Steps[Any]:
    return (yield Call(function, *args))
