"""The simulation of a thousand nodes in trouble, and that the page about them says what it computes."""

from __future__ import annotations

import json
from typing import Any

from benchmarks import strain
from benchmarks.strained import disks, replaced, throttled
from tests.test_simulation import between

FIGURES: dict[str, Any] = json.loads(strain.FIGURES.read_text())


def column(table: str, name: str) -> list[float]:
    return [row[name] for row in FIGURES[table]]


def test_the_page_shows_the_figures_of_the_strain() -> None:
    assert between("strain") == list(strain.tables(FIGURES)), (
        "paste the output of `python -m benchmarks.strain --table`"
    )


def test_the_strain_gives_the_same_result_again() -> None:
    """Small clusters only: the large ones take minutes."""
    small = [throttled.run(10, "cluster", 55.0, bucket=55.0, seconds=6.0) for _ in range(2)]
    assert small[0] == small[1]
    assert disks.run(strain.NODES, strain.NODES // 10, "local", strain.BATCH) == FIGURES["disks"][2]["local"]


def test_a_bucket_that_throttles_is_used_up_and_no_row_fails_with_a_limit_or_without() -> None:
    limited = throttled.run(20, "process", 110.0, bucket=110.0, seconds=6.0)
    assert limited["served"] > 0.9 and limited["requests"] < 1.1 and limited["failed"] == 0
    unlimited = throttled.run(20, "none", 1.0, bucket=110.0, seconds=12.0)
    assert unlimited["served"] > 0.9 and unlimited["requests"] < 1.3 and unlimited["failed"] == 0
    # So it is on a thousand nodes.
    assert all(row["failed"] < 0.0005 and row["served"] > 0.8 and row["requests"] < 2 for row in FIGURES["throttled"])


def test_one_slow_disk_holds_up_all_actors_of_owner_and_only_its_own_of_local() -> None:
    assert disks.run(20, 1, "owner", 1024) < 0.2
    assert disks.run(20, 1, "local", 1024) > 0.9
    assert column("disks", "owner")[1] < 0.2 < 0.9 < column("disks", "local")[1]


def test_nodes_that_are_replaced_lose_only_what_no_living_node_has() -> None:
    still, some = (replaced.run(30, share, 3600.0, 3000) for share in (0.0, 0.3))
    assert still == {"nodes": 30, "replaced": 0, "upstream": 1.0, "alone": 1.0, "gone": 0.0}
    # At most what the nodes that died had: each asks on average for a third of the job for what it had before.
    assert 1.0 < some["upstream"] < some["alone"]
    assert some["upstream"] < 1 + some["replaced"] / some["nodes"] + 0.1
    assert all(row["upstream"] <= 1 + row["replaced"] / row["nodes"] + 0.01 for row in FIGURES["replaced"])
