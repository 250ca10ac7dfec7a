"""Budgets at the command line and in configurations: what they stop, what they say, and how a run resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitstore import Budget, Money, Price, S3Raw
from bitstore.config import ConfigError, loads
from tests.cli_scene import BOUGHT, CALLS, Scene
from tests.servers import CountedAPI
from tests.stores import blobs, sha1

ABSENT = [sha1(f"absent {number}".encode()) for number in range(30)]
PRICED = 'price = "0.01 USD"\n'


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Scene:
    scene = Scene(tmp_path, monkeypatch, capfd)
    (tmp_path / "priced.toml").write_text((tmp_path / "paid.toml").read_text() + PRICED)
    (tmp_path / "many").write_text("\n".join([BOUGHT, *ABSENT]))
    return scene


@pytest.fixture
def web() -> Iterator[CountedAPI]:
    with CountedAPI(blobs(40, 4000)) as api:
        yield api


def calls(scene: Scene) -> int:
    path = scene.root / CALLS
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("command", ["fetch many -o out", "warm many", "exists many --paid"])
def test_a_run_stops_before_its_budget_would_be_passed_and_resumes(scene: Scene, command: str) -> None:
    words = [*command.split(), "--config", "priced.toml", "--budget-file", "spent"]
    code, _, err = scene(*words, "--budget", "0.075USD", "--in-flight", "4")
    assert code == 2 and calls(scene) == 7
    assert "stopped because: the budget of 0.075 USD is used up: 0.005 USD is left" in err
    assert "spent: 0.07 USD, 7 calls of 0.075 USD, as" in err and "\n  api: 0.07 USD, 7 calls" in err
    assert scene(*words, "--budget", "0.075USD")[0] == 2 and calls(scene) == 7  # what earlier runs spent counts
    code, out, err = scene(*words, "--budget", "1USD", "--json")
    report = json.loads(out.splitlines()[-1])
    assert (code, report["complete"], report["stopped"]) == (1, True, None)
    (line,) = [each for each in report["spent"] if each["source"] == "api"]
    assert (line["currency"], line["calls"]) == ("USD", calls(scene))
    assert Money(line["money"], "USD") == Money("0.01 USD") * calls(scene)
    if not command.startswith("exists"):
        assert calls(scene) <= 7 + 31


def test_a_run_without_a_budget_says_nothing_of_money(scene: Scene) -> None:
    code, out, err = scene("fetch", "many", "-o", "out", "--config", "priced.toml", "--json")
    assert json.loads(out.splitlines()[-1])["spent"] is None and "spent" not in err and code == 1


def test_a_budget_in_bytes_stops_a_fetch_from_a_server(scene: Scene, web: CountedAPI) -> None:
    (scene.root / "list").write_text("\n".join(web.blobs))
    size = len(next(iter(web.blobs.values())))
    words = ["fetch", "list", "-o", "out", "--store", f"{web.url}/blob/", "--in-flight", "2"]
    code, _, err = scene(*words, "--budget", f"{65536 + 10 * size}B")
    assert code == 2 and "stopped because: the budget of" in err
    assert 10 <= len(web.requests) < 40
    assert scene(*words, "--budget", "10MB", "--budget", "1000requests")[0] == 0
    assert len(web.requests) == 40  # what is there is not fetched again


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--budget", "25"], "--budget '25': give money"),
        (["--budget", "much"], "give money (25USD), calls (900calls), requests or a size (10GB)"),
        (["--budget", "-1USD"], "give money"),
        (["--budget", "1USD", "--budget", "2USD"], "another cap of this kind"),
        (["--budget", "1EUR"], "api asks for USD, and the 'budget' budget is in EUR: give it a price in EUR"),
        (["--budget", "5GB", "--budget-file", ""], "--budget-file is empty"),
        (["--budget", "9B"], "must be 0 or at least 65536"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_before_anything_is_asked(scene: Scene, words: list[str], told: str) -> None:
    code, _, err = scene("fetch", "many", "-o", "out", "--config", "priced.toml", *words)
    assert (code, calls(scene)) == (3, 0) and told in err, err
    code, _, err = scene("get", BOUGHT, "--config", "paid.toml", "--budget", "1USD", "-o", "blob")
    assert code == 3 and "api costs money and has no price" in err


def test_one_blob_is_bought_only_within_the_budget(scene: Scene) -> None:
    for budget, code in (("0.009 USD", 2), ("0calls", 2), ("0.01usd", 0)):
        returned, _, err = scene("get", BOUGHT, "--config", "priced.toml", "--budget", budget, "-o", "blob")
        assert returned == code, err
    assert calls(scene) == 1 and (scene.root / "blob").read_bytes() == b"bought"


def test_a_configuration_has_prices_and_a_budget(scene: Scene) -> None:
    text = (
        'budget = { most = "2 USD", calls = 3, state = "s", name = "job" }\n' + (scene.root / "priced.toml").read_text()
    )
    store = loads(text)
    assert isinstance(store.budget, Budget)
    assert (store.budget.most, store.budget.calls, store.budget.name) == (Money("2 USD"), 3, "job")
    assert store.budget.state == str(scene.root / "s")
    assert store.sources[-1].price == Price(per_call="0.01 USD")  # type: ignore[attr-defined]
    (scene.root / "own.toml").write_text(text)
    code, _, err = scene("get", BOUGHT, "--config", "own.toml", "--budget", "0calls", "-o", "blob")
    assert code == 2 and "budget 'job': the budget of 0 calls is used up" in err
    assert scene("get", BOUGHT, "--config", "own.toml", "-o", "blob")[0] == 0
    assert loads(text).budget.spent == (Money("0.01 USD"), 1, 0, 0)  # type: ignore[union-attr]
    tier = '[[tier]]\nname = "b"\nurl = "s3://b/f/"\nprice = { like = "s3-standard-ia", egress_per_gb = "0 USD" }\n'
    raw = loads(f'algorithm = "sha1"\n{tier}').tiers[0].store.base_store  # type: ignore[attr-defined]
    assert raw.price == Price(per_1000_reads="0.001 USD", per_1000_writes="0.01 USD", per_gb="0.01 USD",
                              egress_per_gb="0 USD", source=raw.price.source, dated=raw.price.dated)  # fmt: skip
    for wrong, told in (
        ('price = "cheap"', "tier 'b': price='cheap': give money"),
        ("price = 0.002", "tier 'b': price: expected"),
        ('price = { like = "s3" }', "tier 'b': like='s3': give money"),
        ('price = { per_read = "1 USD" }', "unknown key 'price.per_read'"),
        ('price = { per_gb = "-1 USD" }', "per_gb"),
    ):
        line = tier.splitlines()[-1]
        with pytest.raises(ConfigError) as caught:
            loads(f'algorithm = "sha1"\n{tier.replace(line, wrong)}')
        assert told in str(caught.value)
    for wrong, told in (('"much"', "budget: 'much' is no amount of money"), ("{ cals = 3 }", "did you mean 'calls'")):
        with pytest.raises(ConfigError) as caught:
            loads(f'budget = {wrong}\nalgorithm = "sha1"\n{tier}')
        assert told in str(caught.value)


def test_buckets_of_amazon_have_a_price_and_those_of_others_have_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile other]\nendpoint_url = http://h\n[profile own]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    for raw, known in (
        (S3Raw(), Price.of("s3-standard")),
        (S3Raw("anonymous"), None),
        (S3Raw(endpoint_url="http://h"), None),
        (S3Raw({"profile_name": "other"}), None),
        (S3Raw({"profile_name": "own"}), Price.of("s3-standard")),
        (S3Raw(price="free"), Price()),
    ):
        assert raw.known_price() == known
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://h")
    assert S3Raw().known_price() is None


def test_a_plan_tells_money_and_whether_a_budget_will_do(scene: Scene) -> None:
    words = ["plan", "many", "--config", "priced.toml"]
    (scene.root / "many").write_text("\n".join([BOUGHT, *ABSENT, "no digest"]))
    code, out, err = scene(*words, "--budget", "1USD", "--rate", "10")
    assert (code, err) == (0, "") and "31 different digests, 31 of them sampled" in out
    assert "money: 0.31 USD" in out and "not a digest: 1" in out and "hours: 0.00 (0.00 to 0.00)" in out
    code, out, _ = scene(*words, "--budget", "0.30 USD", "--json")
    line = json.loads(out)
    assert (code, line["exit_code"], line["type"]) == (1, 1, "plan")
    assert (line["money"], line["currency"], line["invalid"]) == (["0.31"] * 3, "USD", 1)
    assert [tier["name"] for tier in line["tiers"]] == ["disk", "packed", "shelf", "api"]
    assert "the budget of 30 calls will not do: 31 are expected" in scene(*words, "--budget", "30calls")[1]
    assert calls(scene) == 0  # what is paid for is never asked
    for wrong, told in ((["--rate", "0"], "--rate 0.0: must be more than 0"), (["--sample", "-1"], "--sample")):
        code, _, err = scene(*words, *wrong)
        assert code == 3 and told in err
    assert scene("plan", "none", "--config", "priced.toml")[0] == 3
    assert scene(*words, "--sample", "0")[0] == 0


def test_a_fetch_with_a_plan_ends_with_the_fact_beside_it(scene: Scene) -> None:
    words = ["fetch", "many", "-o", "out", "--config", "priced.toml", "--plan"]
    code, _, err = scene(*words)
    assert code == 1 and "31 different digests" in err
    line = next(line for line in err.splitlines() if line.startswith("api ") and " money " in line)
    assert line.split() == ["api", "money", "0.3100", "0.3100", "+0.0%"]
    report = json.loads(scene(*words, "--json")[1].splitlines()[-1])
    assert {"tier": "api", "what": "calls", "planned": 30, "fact": 30} in report["planned"]  # one is there
    assert scene("fetch", "-", *words[2:])[0] == 3
