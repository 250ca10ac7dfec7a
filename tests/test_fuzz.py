"""Every committed input of the fuzz targets, some random changes of them, and (`soak`) a minute of guided fuzzing."""

from __future__ import annotations

import os

import pytest

from bitstore._digests.hash_list import HashList
from tests.fuzz import mutate
from tests.fuzz.corpus import load
from tests.fuzz.run import GUIDED, guided
from tests.fuzz.targets import TARGETS
from tests.soak_report import record

SECONDS = int(os.environ.get("BITSTORE_FUZZ_SECONDS", "60"))


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_withstands_its_committed_inputs(name: str) -> None:
    inputs = load(name)
    assert inputs
    for data in inputs:
        try:
            TARGETS[name](data)
        except Exception as error:
            raise mutate.Broken(name, data) from error


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_withstands_random_changes_of_its_inputs(name: str) -> None:
    assert mutate.run(name, TARGETS[name], load(name), seed=1, count=100) == 100


def test_a_fuzz_target_that_fails_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what is planted here is found, and the input that found it is told."""
    monkeypatch.setattr(HashList, "_choose", lambda *_: 1 / 0)
    with pytest.raises(mutate.Broken, match="hashlist fails for b'"):
        mutate.run("hashlist", TARGETS["hashlist"], load("hashlist"), seed=1, count=200)


@pytest.mark.soak
def test_every_target_withstands_a_minute_of_fuzzing() -> None:
    """Guided by coverage where atheris is installed; else by chance alone, and the report says so."""
    share = max(1, SECONDS // len(TARGETS))
    tried = 0
    for name, target in TARGETS.items():
        given = load(name)
        tried += (
            guided(name, given, share)[0]
            if GUIDED
            else mutate.run(name, target, given, seed=os.getpid(), count=10**9, seconds=share)
        )
    assert tried > 1000
    record("fuzzing", seconds=share * len(TARGETS), targets=len(TARGETS), inputs=tried, guided=str(GUIDED), failures=0)
