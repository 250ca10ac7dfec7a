"""The checks of what a fast store offers besides `get`: the optional methods of `bitstore.steps`."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from bitstore._lookup.asking import methods_of
from bitstore._lookup.run import run
from bitstore.errors import NotFoundInStore
from bitstore.steps import Call, Found, Request, RequestCounts, Scope, Sleep, Steps, Together, Wait, Write
from bitstore.store import Store
from bitstore.testing.trial import Trial, must, raises, same

__all__ = ["CHECKS"]


def lookup_steps(trial: Trial) -> None:
    """`get_steps` ends in `Found` with the blob, and raises `NotFoundInStore` for a missing one."""
    store = trial.make()
    if not methods_of(store).get_steps:
        return
    data = secrets.token_bytes(1000)
    found = _performed(store.get_steps(trial.place(store, data)), "get_steps")
    if not isinstance(found, Found):
        raise AssertionError(f"get_steps ended in {type(found).__name__} instead of Found")
    same(found.data, data, "get_steps")
    must(isinstance(found.source, str), f"Found.source is {found.source!r}, and not a name")
    with raises(NotFoundInStore, "get_steps of a missing blob"):
        _performed(store.get_steps(trial.absent()), "get_steps")


def existence_steps(trial: Trial) -> None:
    """`exists_steps` says what `get` would find."""
    store = trial.make()
    if methods_of(store).exists_steps:
        name = trial.place(store, secrets.token_bytes(20))
        must(_performed(store.exists_steps(name), "exists_steps") is True, "exists_steps is not True for a blob")
        absent = _performed(store.exists_steps(trial.absent()), "exists_steps")
        must(absent is False, "exists_steps is not False for a missing blob")


def write_steps(trial: Trial) -> None:
    """`put_steps` writes, and keeps its conditions where the store tells versions."""
    store = trial.make()
    methods = methods_of(store)
    if not methods.put_steps or not trial.writable:
        return
    data = secrets.token_bytes(100)
    name = trial.name(data)
    _performed(store.put_steps(name, data, Write(only_if_absent=True)), "put_steps")
    same(store.get(name), data, "a blob written by put_steps")
    _performed(store.put_steps(name, data, Write(only_if_absent=True)), "put_steps over a blob that is there")
    if trial.by_digest or not methods.version_steps or not trial.conditions:
        return
    _performed(store.put_steps(name, b"other", Write(only_if_absent=True)), "put_steps")
    same(store.get(name), data, "a blob after Write(only_if_absent=True) of another one")
    version = _performed(store.version_steps(name), "version_steps")
    _performed(store.put_steps(name, b"newer", Write(replacing=version)), "put_steps")
    same(store.get(name), b"newer", "a blob after Write(replacing=<its version>)")
    _performed(store.put_steps(name, b"late", Write(replacing=version)), "put_steps")
    same(store.get(name), b"newer", "a blob after Write(replacing=<an older version>)")


def version_steps(trial: Trial) -> None:
    """`version_steps` ends in a text for a blob, and in None where there is none."""
    store = trial.make()
    if methods_of(store).version_steps:
        version = _performed(store.version_steps(trial.place(store, secrets.token_bytes(20))), "version_steps")
        must(version is None or isinstance(version, str), f"version_steps ended in {version!r}")
        absent = _performed(store.version_steps(trial.absent()), "version_steps")
        must(absent is None, f"version_steps ended in {absent!r} for a missing blob")


def downloads(trial: Trial) -> None:
    """`download` brings the blob into a file, and leaves none where the blob is missing."""
    store = trial.make()
    data = secrets.token_bytes(100_000)
    name = trial.place(store, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "blob")
        Store.download(store, name, path)
        same(path.read_bytes(), data, "download")
        path.unlink()
        with raises(NotFoundInStore, "download of a missing blob"):
            Store.download(store, trial.absent(), path)
        must(not list(path.parent.iterdir()), "the download of a missing blob left a file")


def opened(trial: Trial) -> None:
    """`open` gives a seekable file with the blob, and raises `NotFoundInStore` for a missing one."""
    store = trial.make()
    data = secrets.token_bytes(200_000)
    name = trial.place(store, data)
    with Store.open(store, name) as file:
        same(file.read(10), data[:10], "the first read of an opened blob")
        must(file.seek(150_000) == 150_000, "seek of an opened blob does not return the position")
        same(file.read(), data[150_000:], "a later part of an opened blob")
        must(file.seek(0, 2) == len(data), "the end of an opened blob is not its size")
    with raises(NotFoundInStore, "open of a missing blob"):
        Store.open(store, trial.absent())


def attributes(trial: Trial) -> None:
    """`scope`, `paid`, `bytes_only` and `counts` say what composites take them for."""
    store = trial.make()
    if not isinstance(store, Store):
        return
    must(store.scope in get_args(Scope), f"scope is {store.scope!r}, and not one of {', '.join(get_args(Scope))}")
    for name in ("paid", "bytes_only"):
        must(isinstance(getattr(store, name), bool), f"{name} is {getattr(store, name)!r}, and neither True nor False")
    counts = store.counts()
    must(counts is None or isinstance(counts, RequestCounts), f"counts returned {counts!r}")


def _performed(steps: Any, what: str) -> Any:
    return run(_checked(steps, what))


def _checked(steps: Any, what: str) -> Steps[Any]:
    """Pass on each step of `steps`. AssertionError where one of them is no step."""
    must(hasattr(steps, "send"), f"{what} returned {type(steps).__name__} instead of a generator of steps")
    answer: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            must(isinstance(step, (Call, Request, Sleep, Together, Wait)), f"{what} yielded {step!r}, which is no step")
            answer, error = None, None
            try:
                answer = yield step
            except Exception as problem:
                error = problem
    finally:
        steps.close()


CHECKS: tuple[Callable[[Trial], None], ...] = (
    lookup_steps, existence_steps, write_steps, version_steps, downloads, opened, attributes,
)  # fmt: skip
