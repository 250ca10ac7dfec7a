"""The simulation of large clusters, and that the page about them says what the programs compute."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scale, simulation

PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"
FIGURES: dict[str, Any] = json.loads(simulation.FIGURES.read_text())


def between(marker: str) -> list[str]:
    """The lines of the page between `<!-- marker ... -->` and `<!-- /marker -->`."""
    found = re.search(rf"<!-- {marker}: .*? -->\n(.*?)<!-- /{marker} -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def test_the_page_shows_the_figures_that_scale_computes() -> None:
    assert between("scale") == list(scale.report()), "paste the output of `python -m benchmarks.scale`"


def test_the_page_shows_the_simulated_figures() -> None:
    assert between("simulation") == list(simulation.tables(FIGURES))


def test_the_page_shows_plots_that_exist() -> None:
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE.read_text())
    assert len(shown) == 2
    for name in shown:
        text = (PAGE.parent / name).read_text()
        assert text.startswith("<?xml")
        assert len(text) < 100_000
        assert "<dc:date>" not in text


def test_the_simulation_gives_the_same_result_again() -> None:
    """Small clusters only: the large ones take half a minute."""
    asked = simulation.digests(100_000)
    for (count, many), kept in list(zip(simulation.BALANCED, FIGURES["balance"], strict=True))[:2]:
        assert simulation.balance(count, asked[:many]) == kept
    for (count, many), kept in list(zip(simulation.CHURNED, FIGURES["churn"], strict=True))[:2]:
        assert simulation.churn(count, asked[:many]) == kept


@pytest.mark.parametrize("row", FIGURES["balance"], ids=lambda row: row["nodes"])
def test_the_load_of_nodes_equals_that_of_a_fair_draw(row: Any) -> None:
    deviation = 1 / math.sqrt(row["mean"])
    assert row["fullest"] < 1 + 5 * deviation
    assert row["emptiest"] > 1 - 5 * deviation


@pytest.mark.parametrize("row", FIGURES["churn"], ids=lambda row: row["nodes"])
def test_only_the_share_of_one_node_moves(row: Any) -> None:
    asked = dict(simulation.CHURNED)[row["nodes"]]
    share = 1 / row["nodes"]
    deviation = math.sqrt(share * (1 - share) / asked)
    assert abs(row["leaves"] - share) < 5 * deviation
    assert abs(row["joins"] - 1 / (row["nodes"] + 1)) < 5 * deviation
    # To all others, as far as there are enough digests for them.
    assert row["heirs"] >= min(row["nodes"] - 1, 0.85 * (1 - math.exp(-asked * share / row["nodes"])) * row["nodes"])


def test_a_rolling_replacement_fetches_one_share_at_a_time() -> None:
    figures = simulation.rolling(10, 3, simulation.digests(20_000))
    assert figures["step"] == [1, 2, 3, 4, 5, 6]
    assert all(0.08 < share < 0.13 for share in figures["rendezvous"])
    assert all(share > 0.5 for share in figures["modulo"])


def test_a_third_of_the_nodes_is_replaced_at_two_percent_more_requests_at_most() -> None:
    (count, many), *_ = simulation.REPLACED
    kept = FIGURES["replaced"]
    assert simulation.replaced(count, simulation.digests(many)) == kept[0]
    assert all(row["announced"] <= 1.02 < row["killed"] < row["alone"] for row in kept)


def test_the_figures_of_scale_follow_from_its_units() -> None:
    units = scale.Units(blobs=10**6, rows_per_second=1000, batch=1000, refresh_per_node=0.1)
    cluster = scale.Cluster(100, units)
    assert cluster.rate == 100_000
    assert cluster.hours == pytest.approx(10 / 3600)
    assert cluster.blocks == 500
    assert cluster.refresh == 10
    assert cluster.lookups("local") == 100
    assert cluster.lookups("owner") == 10_000
    assert cluster.digests_per_call(1000) == 10
    assert cluster.digests_per_call(10) == 1
    assert cluster.owner_rate(1000, 0.0) == pytest.approx(1 / (0.001 + 0.0015 / 10))


def test_the_units_of_scale_are_those_of_the_code() -> None:
    from bitstore._tiers.stats import TierStats
    from bitstore.observe import _names
    from ray_integration._fetch import router
    from ray_integration._pool import keeper, members

    units = scale.Units()
    assert units.call_digests == router._CALL
    assert units.refresh == members._REFRESH
    assert units.refresh_per_node == members._REFRESH_PER_NODE
    assert units.keeper == keeper._PERIOD
    assert units.metric_series == len(_names.COUNTERS) + 1 + len(_names.BOUNDS) + 1 + 2
    assert set(TierStats("").as_dict()) == {"name", "breaker", *_names.COUNTERS}
