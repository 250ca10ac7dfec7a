"""The benchmarks of money reach their targets: they count, and no other work on the machine changes that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.bench import Bench
from benchmarks.cases import money


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(quick=True, rounds=1)
    yield made
    made.close()


def test_the_second_run_with_a_ledger_reaches_its_target(bench: Bench) -> None:
    result = money.ledger(bench)
    assert result.verdicts and [verdict for verdict in result.verdicts if verdict.word != "pass"] == []
    assert all(len(row) == len(result.columns) for row in result.table)
