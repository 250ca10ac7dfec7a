"""The questions that a check puts to one tier, and what each answer adds to what is known about it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bitstore._digests.store import DigestStore
from bitstore._doctor.causes import Place, cause_of, moved_hint, problem_of, reason_of
from bitstore._doctor.listening import Heard, overheard
from bitstore._doctor.reports import CheckAnswer, CheckFault, SampleCheck, TierCheck
from bitstore._lookup.asking import methods_of, size_of, steps_of_describe, steps_of_exists, steps_of_get, steps_of_put
from bitstore._lookup.opened import dropped, steps_of_open
from bitstore._support.digests import algorithm as digest_algorithm
from bitstore._support.redact import redact_url
from bitstore.errors import InvalidDataFound, NotFoundInStore
from bitstore.steps import Steps, Stored

__all__ = ["PROBE", "READ", "Questions", "Wishes"]

PROBE = b"bitstore check: this blob may be deleted\n"
READ = 16_000_000  # bytes of a blob that is read whole to see whether it can be
_OFF = 60.0  # seconds by which clocks may differ without a word
# Faults after which no other question has another answer.
_LAST_WORDS = frozenset(
    {"no-such-host", "no-connection", "no-answer", "tls", "no-credentials", "credentials-out", "expired-login"}
    | {"not-installed", "bad-keys", "no-bucket", "bucket-in-endpoint", "unservable", "service-out", "no-folder"}
)


@dataclass(frozen=True)
class Wishes:
    """What is asked of every tier.

    Attributes
    ----------
    samples
        Digests (or URLs) to look for.
    write
        Whether a probe is written.
    paid
        Whether paid tiers are asked.
    timeout
        Seconds for one question.
    """

    samples: Sequence[str] = ()
    write: bool = False
    paid: bool = False
    timeout: float = 20.0


class Questions:
    """Asks one tier.

    Parameters
    ----------
    store
        The tier's store.
    check
        Takes what is found out.
    place
        What the tier asks.
    wishes
        What is asked for.
    algorithm
        Of the digests; None: the tier is not addressed by digest.
    """

    def __init__(self, store: Any, check: TierCheck, place: Place, wishes: Wishes, algorithm: str | None) -> None:
        self.store = store
        self.check = check
        self.place = place
        self.wishes = wishes
        self.algorithm = algorithm
        # A fault that another one may explain better; None: there is none.
        self._unsettled: CheckFault | None = None

    def ask(self, question: Callable[[], Steps[Any]]) -> Heard:
        """What the question comes to; latency and clocks are noted."""
        heard = overheard(question, timeout=self.wishes.timeout)
        check = self.check
        for exchange in heard.exchanges:
            if exchange.response is not None:
                check.reached = True
                check.latency = min(check.latency or exchange.seconds, exchange.seconds)
            if exchange.skew is not None and (check.clock_skew is None or abs(exchange.skew) < abs(check.clock_skew)):
                check.clock_skew = exchange.skew
        if heard.error is None or isinstance(heard.error, NotFoundInStore):
            self.fault(moved_hint(heard.exchanges, self.place))
        return heard

    def fault(self, fault: CheckFault | None) -> None:
        """Note a fault, each kind once."""
        if fault is not None and all(fault.kind != each.kind for each in self.check.faults):
            self.check.faults.append(fault)

    def lost(self) -> str:
        """A digest that no store can have."""
        assert self.algorithm is not None
        return digest_algorithm(self.algorithm).of(secrets.token_bytes(32))

    # ------------------------------------------------------------------ the questions

    def missing_blob(self) -> Heard | None:
        """Look for a blob that cannot be there, by GET and by HEAD. None: nothing else is worth asking."""
        digest = self.lost()
        heard = self.ask(lambda: steps_of_get(self.store, digest))
        if heard.says_missing:
            self._answered("get of a missing blob", heard, "missing")
            self.check.reached = True
        elif heard.error is None or isinstance(heard.error, InvalidDataFound):
            self._answered("get of a missing blob", heard, "found")
            self.fault(_invents(heard, self.place))
        else:
            cause = cause_of(heard, self.place)
            refused = cause.kind in ("no-right-to-read", "refused")
            self._answered("get of a missing blob", heard, "refused" if refused else "failed")
            if cause.kind == "no-right-to-read":  # it is known when listing was tried which right is lacking
                self._unsettled = cause
            else:
                self.fault(cause)
                if cause.kind in _LAST_WORDS or not heard.exchanges:
                    self.check.reached = self.check.reached or False
                    return None
        if heard.exchanges:  # a store behind HTTP
            head = self.ask(lambda: steps_of_exists(self.store, digest))
            means = "missing" if head.result is False else "found" if head.result else "failed"
            self._answered("exists of a missing blob", head, means)
            if head.error is not None and heard.says_missing:
                self.fault(cause_of(head, self.place))
        return heard

    def samples(self, found_in_listing: str | None) -> None:
        """Look for the sample digests; read one blob that is there."""
        readable, large = found_in_listing, None
        for digest in self.wishes.samples:
            heard = self.ask(lambda digest=digest: steps_of_describe(self.store, digest))  # type: ignore[misc]
            url = self.url(digest)
            if heard.error is not None:
                fault = cause_of(heard, self.place)
                self.check.samples.append(SampleCheck(digest, "failed", url, fault.text))
                if fault.kind != "no-right-to-read" or not any(map(_is_about_listing, self.check.faults)):
                    self.fault(fault)
                continue
            stored: Stored | None = heard.result
            self.check.samples.append(SampleCheck(digest, "missing" if stored is None else "found", url))
            if stored is not None and (stored.size or 0) > READ:
                large = digest, stored
            elif stored is not None and readable in (None, found_in_listing):
                readable = digest
        if readable is not None:
            self._read(readable)
        elif large is not None:
            self._read_beginning(*large)

    def _read_beginning(self, digest: str, stored: Stored) -> None:
        """Read the beginning of a large blob, where that can be done without the rest."""
        told = f"{digest} has {stored.size:,} bytes: only its beginning was read"
        if stored.compression is not None or not methods_of(self.store).open_steps:
            self.check.notes.append(told.replace("only its beginning was read", "it was not read"))
            return
        heard = self.ask(lambda: steps_of_open(self.store, digest, False))
        if heard.error is None:
            dropped(heard.result)
            self.check.may_read = True
            self._answered(f"get of {digest}", heard, "found")
            self.check.notes.append(told)
        else:
            self._not_read(digest, heard)

    def _read(self, digest: str) -> None:
        heard = self.ask(lambda: steps_of_get(self.store, digest))
        if heard.error is None:
            self.check.may_read = True
            self._answered(f"get of {digest}", heard, "found")
            data = heard.result.data
            if self.algorithm is not None and isinstance(data, bytes):
                actual = digest_algorithm(self.algorithm).of(data)
                if actual != digest.lower():
                    self.fault(_wrong_bytes(f"{digest}: its bytes have the {self.algorithm} {actual}"))
        elif heard.says_missing:
            self._answered(f"get of {digest}", heard, "missing")
            advice = "It was deleted meanwhile, or the service lists what it cannot read: check again."
            self.fault(CheckFault("listed-not-read", f"{digest} is there, and reading it says missing", advice, "hint"))
        elif isinstance(heard.error, InvalidDataFound):
            self.check.may_read = True
            self._answered(f"get of {digest}", heard, "failed")
            self.fault(_wrong_bytes(str(heard.error)))
        else:
            self._not_read(digest, heard)

    def _not_read(self, digest: str, heard: Heard) -> None:
        self._answered(f"get of {digest}", heard, "failed")
        fault = cause_of(heard, self.place)
        self.check.may_read = False if fault.kind in ("no-right-to-read", "refused", "no-permission") else None
        self.fault(fault)

    def write(self, delete: Callable[[str], Steps[Any]] | None) -> None:
        """Write a probe, read it and delete it again.

        Parameters
        ----------
        delete
            Makes the steps that delete a blob; None: the store has no way to.
        """
        assert self.algorithm is not None
        digest = digest_algorithm(self.algorithm).of(PROBE)
        where = self.url(digest) or digest
        before = self.ask(lambda: steps_of_exists(self.store, digest))
        heard = self.ask(lambda: steps_of_put(self.store, digest, PROBE))
        if heard.error is not None:
            fault = cause_of(heard, self.place, writing=True)
            self.check.may_write = False
            self._answered("write of a probe", heard, "failed")
            self.fault(fault)
            return
        self.check.may_write = True
        self._answered("write of a probe", heard, "done")
        back = self.ask(lambda: steps_of_get(self.store, digest))
        if back.error is not None or back.result.data != PROBE:
            came = "other bytes" if back.error is None else reason_of(back.error)
            advice = (
                "What is written must be readable at once, and the same: look at the bucket, and at what is between."
            )
            self.fault(
                CheckFault("written-not-read", f"the probe at {where} was written, and reading it gives {came}", advice)
            )
        if before.result is True:
            self.check.notes.append(f"the probe was there before, and stays: {where} ({len(PROBE)} bytes)")
            return
        gone = None if delete is None else self.ask(lambda: delete(digest))
        if gone is None or gone.error is not None:
            why = "" if gone is None else f" ({reason_of(gone.error)})" if gone.error is not None else ""
            self.check.notes.append(f"the probe stays, and may be deleted: {where} ({len(PROBE)} bytes){why}")
        else:
            self.check.notes.append(f"a probe was written and deleted again: {where}")

    def settle(self) -> None:
        """Say what is still to be said when all questions were asked: about refusals, and about the clocks."""
        if self._unsettled is not None and self.check.ok:
            self.fault(self._unsettled)
        skew = self.check.clock_skew
        if skew is not None and abs(skew) > _OFF:
            ahead = "behind" if skew > 0 else "ahead of"
            text = f"the clock of this machine is {abs(skew):.0f} s {ahead} that of the service"
            self.fault(CheckFault("clock", text, "Set the clock of this machine: use NTP.", severity="hint"))

    # ------------------------------------------------------------------ within

    def url(self, digest: str) -> str | None:
        """Where the tier looks for a digest, without secrets; None: it has no addresses."""
        return redact_url(self.store.url(digest)) if isinstance(self.store, DigestStore) else None

    def _answered(self, question: str, heard: Heard, means: str) -> None:
        told = []
        for exchange in heard.exchanges:
            problem = problem_of(exchange, self.place)
            code = f" {problem.code}" if problem is not None and problem.code else ""
            told.append(f"{exchange.method} {exchange.status or 'without an answer'}{code}")
        if told:
            # A retry mostly hears the same again.
            once = [f"{text} ({count} times)" if count > 1 else text for text, count in Counter(told).items()]
            self.check.answers.append(CheckAnswer(question, ", ".join(once), means))


def _is_about_listing(fault: CheckFault) -> bool:
    """Whether the fault explains a refusal of what may only be missing."""
    return fault.kind == "no-right-to-list"


def _invents(heard: Heard, place: Place) -> CheckFault:
    data = None if heard.result is None else heard.result.data
    page = "Look at the address: a page for logins, or one for all that is missing, answers. verify=True refuses it."
    mend = "A store raises NotFoundInStore for a blob that it lacks: mend its class. bitstore.testing proves it."
    what = f"{size_of(data):,} bytes" if isinstance(data, bytes) else str(heard.error or type(data).__name__)
    return CheckFault(
        "answers-everything",
        f"a blob that was made up is answered with {what}",
        mend if place.kind == "own" else page,
    )


def _wrong_bytes(text: str) -> CheckFault:
    advice = (
        "Say compression= if the objects are compressed. Else they are named by something other than their own digest, "
        "or damaged."
    )
    return CheckFault("wrong-bytes", text, advice)
