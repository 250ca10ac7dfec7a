"""The check of a tier whose blobs lie in a bucket or folder, under keys made of digests."""

from __future__ import annotations

import copy
import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bitstore._digests.store import DigestStore
from bitstore._digests.template import KeyTemplate, key_template
from bitstore._doctor.causes import Place, cause_of, right_named
from bitstore._doctor.layout import Guess, guessed, near_names
from bitstore._doctor.listening import Heard, overheard
from bitstore._doctor.local import nearest_folder
from bitstore._doctor.questions import READ, Questions
from bitstore._doctor.reports import CheckFault, TierCheck
from bitstore._lookup.retry import Retry
from bitstore._raw.file import FileRaw
from bitstore._raw.gs import GSRaw
from bitstore._raw.http import HTTPRaw
from bitstore._raw.listing import Listing
from bitstore._raw.s3 import S3Raw
from bitstore._raw.wire import WireStore
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore.errors import NotFoundInStore

__all__ = ["check_bucket", "place_of", "quick"]

_KINDS = ((S3Raw, "s3"), (GSRaw, "gs"), (HTTPRaw, "http"), (FileRaw, "file"))
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}  # by the beginnings of their regions
_URL = re.compile(r"[a-z0-9]+://([^/]*)/?(.*)", re.DOTALL)
_READS = frozenset({"s3:GetObject", "storage.objects.get"})
_LISTED = 200  # keys that are looked at
_ONE_RETRY = Retry(attempts=2, first_delay=0.1, longest_delay=1.0, budget=10.0)


def place_of(store: Any, samples: Sequence[Any], *, writes: bool) -> Place:
    """What a tier asks; where it has no prefix, what the first of `samples` names."""
    raw = store.base_store if isinstance(store, DigestStore) else store
    kind = next((name for cls, name in _KINDS if isinstance(raw, cls)), "own")
    start = key_template(store.prefix).start if isinstance(store, DigestStore) else str(next(iter(samples), ""))
    match = _URL.fullmatch(start)
    bucket, prefix = (match[1], match[2]) if match else ("", "")
    lenient = bool(getattr(raw, "forbidden_is_missing", False))
    region = str(getattr(raw, "region", None) or "")
    partition = next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")
    return Place(kind, bucket, prefix, writes, lenient, bool(getattr(raw, "acl", None)), partition)


def quick(store: Any) -> Any:
    """A copy of the store that tries twice and no more; the store itself where it cannot be copied."""
    try:
        if isinstance(store, DigestStore):
            twin = copy.copy(store)
            twin.base_store = quick(store.base_store)
            twin.recheck = True  # else its index may answer in place of the service
            return twin
        if isinstance(store, WireStore):
            other = copy.copy(store)
            other.retry = _ONE_RETRY
            return other
    except Exception:  # a client that does not pickle, a subclass of a user with a will of its own
        return store
    return store


def check_bucket(questions: Questions, store: DigestStore) -> None:
    """Find out what there is to know about a tier over a raw store."""
    check, place, raw = questions.check, questions.place, store.base_store
    if getattr(raw, "client", None) is not None:
        check.notes.append("it is asked through client=, so it cannot be listed, and its clock is not known")
    missing = questions.missing_blob()
    if missing is None:
        _similar_buckets(questions, raw)
        return
    page = _list(questions, store, key_template(store.prefix).start) if hasattr(raw, "list_steps") else None
    if any(fault.kind == "no-bucket" for fault in check.faults):
        return  # an emulator may call its blobs missing all the same
    _refusals(questions, missing)
    sample = None
    if page is not None:
        sample = _layout(questions, store, page)
    questions.samples(sample)
    if not (check.faults or questions.wishes.samples or place.writes or hasattr(raw, "list_steps")):
        check.notes.append(
            "it cannot be listed, so no blob was read: a digest that it has (--digest) shows if it is read"
        )
    if place.kind == "file":
        _folder(check, store)
    if questions.wishes.write and (check.role is None or place.writes):
        delete = getattr(raw, "delete_steps", None)
        questions.write(None if delete is None else lambda digest: delete(store.url(digest)))
    elif questions.wishes.write:
        check.notes.append("no probe was written: lookups never write to a source")


def _similar_buckets(questions: Questions, raw: Any) -> None:
    """Where the bucket is not there: name those of the account that are called like it."""
    faults, bucket = questions.check.faults, questions.place.bucket
    if not (faults and faults[-1].kind == "no-bucket" and hasattr(raw, "bucket_steps")):
        return
    heard = overheard(lambda: raw.bucket_steps(bucket), timeout=questions.wishes.timeout)
    close = difflib.get_close_matches(bucket, heard.result or (), n=3, cutoff=0.7)
    if close:
        meant = " or ".join(f"s3://{name}" for name in close)
        faults[-1] = replace(faults[-1], advice=f"Did you mean {meant}? {faults[-1].advice}")


def _list(questions: Questions, store: DigestStore, url: str, *, one_level: bool = False) -> Listing | None:
    """A page of what lies under `url`; None: it may not be listed."""
    raw: Any = store.base_store
    heard = questions.ask(lambda: raw.list_steps(url, one_level=one_level, most=_LISTED))
    if heard.error is None:
        questions.check.may_list = True
        page: Listing = heard.result
        return page
    fault = cause_of(heard, questions.place)
    if fault.kind in ("no-right-to-read", "refused", "no-permission"):
        questions.check.may_list = False
    elif fault.kind == "no-bucket" or heard.status == 404:  # a listing has no other 404
        bucket = f"{questions.place.kind}://{questions.place.bucket}"
        advice = f"Correct the name of {bucket}, or look at the account, project or endpoint that it should be in."
        questions.fault(CheckFault("no-bucket", fault.text, advice))
    elif getattr(raw, "client", None) is None and not url.startswith("file://"):
        questions.check.notes.append(f"it could not be listed: {fault.text}")
    return None


def _refusals(questions: Questions, missing: Heard) -> None:
    """What it means that a missing blob is refused, which is known when listing was tried."""
    check, place = questions.check, questions.place
    if isinstance(missing.error, NotFoundInStore):
        if place.forbidden_is_missing and missing.status in (401, 403):
            text = f"{missing.status} counts as missing here (forbidden_is_missing): a refused read looks the same"
            advice = "Better than that is the right to list: then the service tells one from the other."
            hint = CheckFault("no-right-to-list", text, advice, severity="hint", policy=place.policy())
            questions.fault(hint if place.policy() is not None else None)
        return
    if missing.error is None or (cause := cause_of(missing, place)).kind != "no-right-to-read":
        return  # the fault is noted already
    if check.may_list or right_named(missing, place) in _READS:
        questions.fault(cause)
        return
    right = {"s3": "s3:ListBucket", "gs": "storage.objects.list"}[place.kind]
    text = f"a missing blob is answered by {missing.status or 403}, so its lookup fails: {cause.text}"
    advice = (
        f"Ask for {right} on the bucket (and for the right to read, if that is lacking, too), as here; or count such "
        "refusals as missing: forbidden_is_missing = true."
    )
    questions.fault(CheckFault("no-right-to-list", text, advice, policy=place.policy()))


# ---------------------------------------------------------------------- keys


def _layout(questions: Questions, store: DigestStore, page: Listing) -> str | None:
    """Compare the keys with the template. Returns a digest of the listing that is small enough to be read."""
    template = key_template(store.prefix)
    kind = digest_algorithm(store.algorithm)
    fitting = [(item, digest) for item in page.objects if (digest := template.digest_of(item.url, kind.length))]
    if fitting:
        return next((digest for item, digest in fitting if item.size <= READ), None)
    if page.objects:
        guess = guessed((item.url for item in page.objects), store.algorithm)
        if guess is not None:
            questions.fault(_other_layout(store, template, guess))
        else:
            text = f"of {len(page.objects)} keys under {template.start} none is that of a {kind.name} digest"
            advice = f"Compare them with {template.pattern}: the first is {page.objects[0].url}"
            questions.fault(CheckFault("no-blobs", text, advice, severity="hint"))
        return None
    _look_around(questions, store, template)
    return None


def _other_layout(store: DigestStore, template: KeyTemplate, guess: Guess) -> CheckFault:
    text = f"keys do not fit {template.pattern}: they look like {guess.example}"
    if guess.upper:
        return CheckFault("upper-case", text, "Digests of keys are lower-case here: copy the objects to such names.")
    if guess.algorithm != store.algorithm:
        advice = f"These are {guess.algorithm} digests: take algorithm = {guess.algorithm!r}, and {guess.template!r}."
        return CheckFault("other-algorithm", text, advice)
    codec = guess.compression
    compressed = f" and compression = {codec!r}" if codec is not None and store.compression != codec else ""
    if template.lacks_slash and guess.prefix == f"{template.text}/":
        advice = f"Write the prefix with its slash: {guess.prefix!r}{compressed}."
        return CheckFault("prefix-without-slash", text, advice)
    kind = "other-prefix" if guess.prefix and template.pattern == f"{template.start}{{digest}}" else "other-template"
    return CheckFault(kind, text, f"Write {guess.prefix or guess.template!r}{compressed}.")


def _look_around(questions: Questions, store: DigestStore, template: KeyTemplate) -> None:
    """Nothing lies under the template: look for blobs beside it."""
    start = template.start
    bare = start.rstrip("/")
    if bare.count("/") > 2 and bare != start:  # keys such as filesab..., for the prefix files/
        page = _list(questions, store, bare)
        guess = guessed((item.url for item in page.objects), store.algorithm) if page is not None else None
        if guess is not None:
            questions.fault(_other_layout(store, template, guess))
            return
    parent = f"{bare.rpartition('/')[0]}/" if bare.count("/") > 2 else start
    level = _list(questions, store, parent, one_level=True) if parent != start else None
    near, others = near_names(start, level) if level is not None else ([], [])
    for folder in [*near, *others][:3]:
        page = _list(questions, store, folder)
        guess = guessed((item.url for item in page.objects), store.algorithm) if page is not None else None
        if guess is not None:
            text = f"nothing lies under {start}, and blobs such as {guess.example} do"
            questions.fault(CheckFault("other-prefix", text, f"Write {guess.prefix or guess.template!r}."))
            return
    text = f"nothing lies under {start}"
    if questions.place.writes:
        questions.check.notes.append(text)
    elif near:
        questions.fault(CheckFault("no-blobs", text, f"Look for a slip in the prefix. Similar are: {', '.join(near)}"))
    else:
        beside = f" Beside it are: {', '.join(others)}" if others else ""
        advice = f"Where blobs should be there, look at the names of the bucket and the prefix.{beside}"
        questions.fault(CheckFault("no-blobs", text, advice, severity="hint"))


def _folder(check: TierCheck, store: DigestStore) -> None:
    """Whether the user may write into a folder, by its rights."""
    folder = nearest_folder(Path(unquote(key_template(store.prefix).folder.removeprefix("file://"))))
    writable = os.access(folder, os.W_OK | os.X_OK)
    if check.role is not None and check.role.startswith("cache"):
        check.may_write = writable
        if not writable:
            text = f"the folder {folder} may not be written by this user"
            check.faults.append(
                CheckFault("no-permission", text, "Give this user the right to write, or name another folder.")
            )
