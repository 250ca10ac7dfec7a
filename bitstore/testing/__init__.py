"""The conformance suite of stores: what every store of this library does, to be run on your own as well.

    from bitstore.testing import check_store

    def test_my_store():
        check_store(MyStore, "sha1")

It needs no test framework. It writes blobs of random content, under names that were never used before, and
leaves them behind; so it may be run again and again on one bucket.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

from bitstore._support.sizes import parse_size
from bitstore.testing import answers, concurrency, stepped
from bitstore.testing.trial import DIGESTS, Trial

__all__ = ["AWKWARD_KEYS", "check_store"]

# Keys that are spoilt by quoting too little or too much, by normalising, or by an encoding other than UTF-8.
AWKWARD_KEYS = (
    "plain", "a//b", "with space", "100%", "%41", "A", "a+b", "what?x=1&y", "frag#ment", "quo\"te's", "ünïcödé/日本/🙂",
    "back\\slash", "~tilde*(paren)!$&,:;=@[]", "dots.in/the.name..twice", ".hidden", "...", "k" * 200,
)  # fmt: skip


def check_store(
    make_store: Callable[[], Any],
    addresses: str,
    *,
    put: Callable[[Any, bytes], object] | None = None,
    unreachable: Callable[[], Any] | None = None,
    wrong: Sequence[str] | None = None,
    keys: Sequence[str] = AWKWARD_KEYS,
    big: int | str = "5MB",
    secrets: Sequence[str] = (),
    shared: bool = True,
    processes: bool = True,
    conditions: bool = True,
    limit: float = 60.0,
) -> None:
    """Check that a store keeps the contract of `bitstore.Store`, and of those methods of `bitstore.steps` that it has.

    Parameters
    ----------
    make_store
        Makes a new store at each call.
    addresses
        What its names are: `"sha1"`, `"sha256"`, `"md5"`, or the URL prefix below which it may be tried, such
        as `"s3://bucket/trial/"`.
    put
        `put(name, data)` places a blob where the store finds it. None: the store's own `put`, which is then
        checked as well.
    unreachable
        Makes the same store in a state in which it cannot answer: a wrong port, say, or a folder without rights.
        None: what it then does is not checked.
    wrong
        Texts that are no names for this store. None: chosen by `addresses`; `()` for a store that takes any text.
    keys
        For URLs: the keys to try below the prefix.
    big
        Size of a big blob.
    secrets
        Texts that must show up neither in the store's `repr` nor in its errors.
    shared
        Whether all stores that `make_store` makes, and their pickled copies, see the same blobs. False for what
        keeps its blobs in the memory of one process.
    processes
        Whether the store can be taken along to other processes, by pickle and by fork. False for those with a
        caller's own client inside: such clients share their connections with a forked child, and do not pickle.
    conditions
        Whether a store with `put_steps` and `version_steps` must keep the conditions of a write. False for a server
        that ignores `If-None-Match` and `If-Match`.
    limit
        Seconds after which a thread or a process that does not answer counts as hanging.

    Raises
    ------
    AssertionError
        The store breaks the contract. The text names each check that failed, and why.
    ValueError
        `addresses` is neither an algorithm nor a URL prefix.
    """
    if addresses not in DIGESTS and "://" not in addresses:
        raise ValueError(f"addresses={addresses!r}: use one of {', '.join(DIGESTS)} or a URL prefix")
    trial = Trial(
        make_store, addresses, put, unreachable, wrong, keys, parse_size(big), secrets, shared, limit, conditions
    )
    failures: list[str] = []
    first: BaseException | None = None
    for check in (*answers.CHECKS, *stepped.CHECKS, *concurrency.CHECKS):
        if check in (concurrency.copies, concurrency.forks) and not processes:
            continue
        try:
            check(trial)
        except Exception as error:  # whatever a store raises in the wrong place is a finding; the others are wanted too
            told = str(error) if isinstance(error, AssertionError) else "".join(traceback.format_exception(error)[-4:])
            failures.append(f"{check.__name__}: {told}")
            first = first or error
    if failures:
        message = f"{_show(make_store)} breaks the contract of a store:\n- " + "\n- ".join(failures)
        for secret in secrets:
            message = message.replace(secret, "***")
        raise AssertionError(message) from first


def _show(make_store: Callable[[], Any]) -> str:
    try:
        return repr(make_store())
    except Exception as error:  # this is itself among the findings
        return f"the store ({type(error).__name__}: {error})"
