"""`bitstore misses`: what ledgers hold, as tables of several formats, and how sources are asked again."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitstore import MissLedger, RemembersMisses
from tests.cli_scene import CALLS, PAID, Scene
from tests.stores import API, outcome, sha1

DIGESTS = sorted(sha1(f"{number}".encode()) for number in range(5))


@pytest.fixture
def ledger(scene: Scene) -> MissLedger:
    """The ledger of `misses.toml`, which knows five misses of the source `api` and one of `other`."""
    config = (scene.root / "good.toml").read_text().replace('[[tier]]\nname = "shelf"', '[[tier]]\nname = "shelf"\n')
    config += PAID + 'misses = { path = "misses.sqlite" }\n'
    (scene.root / "misses.toml").write_text(config)
    (scene.root / "list").write_text("".join(f"{digest}\n" for digest in DIGESTS))
    assert scene("fetch", "list", "-o", "out", "--config", "misses.toml")[0] == 1
    ledger = MissLedger("misses.sqlite")
    other = RemembersMisses(API({}), ledger, name="other", lifetime=1e-6)
    outcome(lambda: other.get(DIGESTS[0]))
    return ledger


def calls(scene: Scene) -> int:
    return len((scene.root / CALLS).read_text().splitlines())


def test_a_second_fetch_calls_the_api_no_more(scene: Scene, ledger: MissLedger) -> None:
    assert calls(scene) == 5
    code, _, _ = scene("fetch", "list", "-o", "out", "--config", "misses.toml")
    assert (code, calls(scene)) == (1, 5)
    code, out, _ = scene("locate", DIGESTS[0], "--config", "misses.toml", "--paid")
    assert code == 1 and "missing: said so on" in out and calls(scene) == 5
    assert "misses in" in scene("show", "--config", "misses.toml")[1]


@pytest.mark.parametrize("words", [["misses.sqlite"], ["--config", "misses.toml"]], ids=["file", "configuration"])
def test_each_source_of_a_ledger_is_shown(words: list[str], scene: Scene, ledger: MissLedger) -> None:
    code, out, _ = scene("misses", "show", *words, "--check")
    assert code == 0 and "api (API): 5 misses, which count for 30 days" in out
    assert "other (API): 1 misses; of 1 the time of 1e-06 seconds is over" in out
    told = [json.loads(line) for line in scene("misses", "show", *words, "--json")[1].splitlines()]
    assert [(each["name"], each["misses"], each["expired"]) for each in told] == [("api", 5, 0), ("other", 1, 1)]


def test_misses_are_exported_in_all_formats(scene: Scene, ledger: MissLedger) -> None:
    expected = [(miss.source, miss.digest, miss.expired) for miss in ledger.misses()]
    assert [digest for source, digest, _ in expected if source == "api"] == DIGESTS

    def rows(name: str) -> list[tuple[str, str, bool]]:
        assert scene("misses", "export", "misses.sqlite", "-o", name)[0] == 0
        text = "" if name.endswith("parquet") else Path(name).read_text()
        tables: dict[str, Any] = {
            "m.csv": lambda: [
                {**row, "expired": row["expired"] == "True"} for row in csv.DictReader(text.splitlines())
            ],
            "m.jsonl": lambda: [json.loads(line) for line in text.splitlines()],
            "m.parquet": lambda: pq.read_table("m.parquet").to_pylist(),
        }
        return [(row["source"], row["digest"], row["expired"]) for row in tables[name]()]

    for name in ("m.csv", "m.jsonl", "m.parquet"):
        assert rows(name) == expected
    assert scene("misses", "export", "misses.sqlite", "-o", "m.txt", "--source", "api")[0] == 0
    assert Path("m.txt").read_text().split() == DIGESTS
    code, out, _ = scene("misses", "export", "misses.sqlite")
    assert code == 0 and out == Path("m.csv").read_text()
    code, _, err = scene("misses", "export", "misses.sqlite", "-o", "m.xls")
    assert code == 3 and ".parquet" in err and not os.path.lexists("m.xls")


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["--digest", DIGESTS[0].upper()], 2),
        (["--digest", DIGESTS[0], "--source", "api"], 1),
        (["--hashes", "list", "--source", "api"], 5),
        (["--source", "other"], 1),
        (["--expired"], 1),
        (["--all"], 6),
    ],
    ids=lambda words: "-".join(words).replace("--", "")[:12] if isinstance(words, list) else "",
)
def test_forgotten_misses_are_asked_for_again(words: list[str], gone: int, scene: Scene, ledger: MissLedger) -> None:
    code, out, _ = scene("misses", "forget", "misses.sqlite", *words)
    assert (code, out) == (0, f"{ledger.path}: {gone} misses forgotten\n")
    left = sum(miss.source == "api" for miss in ledger.misses())
    scene("fetch", "list", "-o", "out", "--config", "misses.toml")
    assert calls(scene) == 5 + 5 - left


def test_a_source_is_found_in_whichever_ledger_of_a_configuration_has_it(scene: Scene, ledger: MissLedger) -> None:
    config = (scene.root / "misses.toml").read_text()
    first = config.replace(
        '[[tier]]\nname = "shelf"\n', '[[tier]]\nname = "shelf"\nmisses = { path = "first.sqlite" }\n'
    )
    (scene.root / "two.toml").write_text(first)
    scene("get", DIGESTS[0], "-o", "blob", "--config", "two.toml")
    words = ["--config", "two.toml", "--source"]
    assert scene("misses", "export", *words, "other")[1].count("\n") == 2
    code, out, err = scene("misses", "forget", *words, "api")
    assert (code, err) == (0, "") and out == f"{ledger.path}: 5 misses forgotten\n"
    for command in ("forget", "export"):
        code, _, err = scene("misses", command, *words, "none")
        assert code == 3 and "it has: shelf" in err and "it has: api, other" in err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("show none.sqlite", "there is no ledger none.sqlite"),
        ("show empty", "there is no ledger empty"),
        ("export misses.sqlite --source none", "it has: api, other"),
        ("export misses.sqlite -o none/m.csv", "cannot write none/m.csv: No such file"),
        ("show --config good.toml", "has no ledger of misses"),
        ("show misses.sqlite --config misses.toml", "exclude each other"),
        ("forget misses.sqlite", "nothing says what is forgotten"),
        ("forget misses.sqlite --all --source api", "--all goes alone"),
        ("forget misses.sqlite --expired --all", "--expired goes alone"),
        ("forget misses.sqlite --source none", "it has: api, other"),
        ("forget misses.sqlite --digest abc", "no sha1 digest"),
        ("forget misses.sqlite --hashes nowhere", "nowhere"),
    ],
)
def test_a_mistake_of_the_caller_is_refused(line: str, text: str, scene: Scene, ledger: MissLedger) -> None:
    Path("empty").touch()
    code, _, err = scene("misses", *line.split())
    assert code == 3 and text in err and Path("empty").stat().st_size == 0
    assert sum(1 for _ in ledger.misses()) == 6


def test_a_damaged_ledger_ends_with_code_two(scene: Scene) -> None:
    Path("misses.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    for line in ("show misses.sqlite", "export misses.sqlite", "forget misses.sqlite --all"):
        code, _, err = scene("misses", *line.split())
        assert code == 2 and "misses.sqlite" in err, line


def test_a_put_withdraws_what_came_in_another_way(scene: Scene) -> None:
    config = (scene.root / "good.toml").read_text() + 'misses = { path = "misses.sqlite" }\n'
    (scene.root / "m.toml").write_text(config)
    digest = sha1(b"late")
    assert scene("get", digest, "-o", "late", "--config", "m.toml")[0] == 1
    (scene.root / "shelf" / digest).write_bytes(b"late")
    code, _, err = scene("get", digest, "-o", "late", "--config", "m.toml")
    assert code == 1 and "said so on" in err
    (scene.root / "file").write_bytes(b"late")
    assert scene("put", "file", "--config", "m.toml", "--tier", "shelf")[0] == 0
    assert scene("get", digest, "-o", "late", "--config", "m.toml")[0] == 0
    for words in (["verify", "--tier", "shelf"], ["index", "build", "--tier", "shelf", "-o", "x.idx"], ["check"]):
        told = [scene(*words, "--config", name)[0] for name in ("m.toml", "good.toml")]
        assert told[0] == told[1] != 3, words
