"""`bitstore locate` and `bitstore exists`, run as people run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bitstore._cli.listings import Listing
from tests.cli_scene import BOUGHT, CALLS, Scene
from tests.stores import blobs

ABSENT = "0" * 40


@pytest.fixture
def held(scene: Scene) -> dict[str, bytes]:
    """Blobs of the shelf."""
    held = blobs(5)
    for digest, data in held.items():
        (scene.root / "shelf" / digest).write_bytes(data)
    return held


def test_locate_tells_each_tier(scene: Scene, held: dict[str, bytes]) -> None:
    digest, data = next(iter(held.items()))
    scene("get", digest, "-o", "x", "--config", "good.toml")  # now it is in the disk cache as well
    code, out, err = scene("locate", f"sha1://{digest.upper()}", "--config", "good.toml")
    assert (code, err) == (0, "")
    first, disk, packed, shelf = out.splitlines()
    url = (scene.root / "shelf" / digest).as_uri()
    assert (first, packed) == (digest, "  packed  missing")
    assert shelf == f"  shelf   held: {len(data)} B, {url}"
    assert disk.startswith(f"  disk    held: {len(data)} B, file://")
    assert scene("locate", digest, ABSENT, "--config", "good.toml")[0] == 1
    code, out, _ = scene("locate", digest, "--config", "lost.toml", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, [(each["tier"], each["state"]) for each in found]) == (
        2, [("disk", "held"), ("packed", "missing"), ("shelf", "held"), ("lost", "failed")]
    )  # fmt: skip
    assert "there is no folder" in found[3]["error"] and found[2]["bytes"] == len(data)


def test_locate_pays_only_when_told(scene: Scene) -> None:
    code, out, _ = scene("locate", BOUGHT, "--config", "paid.toml")
    assert code == 1 and "api     not asked: it costs money or quota" in out and not Path(CALLS).exists()
    code, out, _ = scene("locate", BOUGHT, "--config", "paid.toml", "--paid")
    assert code == 0 and Path(CALLS).read_text() == f"{BOUGHT}\n" and "api     held" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense", "--store", "file:///tmp/"], "'nonsense' is no digest of sha1, sha256, md5"),
        ([ABSENT, "nonsense", "--config", "good.toml"], "URI 'nonsense' is invalid"),
        ([ABSENT, "0" * 64, "--config", "good.toml"], "is invalid"),
        ([ABSENT, "--config", "none.toml"], "cannot read the configuration none.toml"),
        ([ABSENT, "--config", "good.toml", "--timeout", "nan"], "--timeout"),
    ],
)
def test_locate_refuses_what_cannot_be(scene: Scene, words: list[str], says: str) -> None:
    code, out, err = scene("locate", *words)
    assert (code, out) == (3, "") and says in err


def test_exists_tells_what_is_there_in_the_order_of_the_list(scene: Scene, held: dict[str, bytes]) -> None:
    digests = list(held)
    lines = [digests[0], ABSENT, "nonsense", *digests[1:], digests[0].upper(), BOUGHT]
    Path("list").write_text("".join(f"{line}\n" for line in lines))
    code, out, err = scene("exists", "list", "--config", "paid.toml", "-o", "report")
    assert (code, out.splitlines()) == (1, [f"{digest}\tshelf" for digest in (*digests, digests[0])])
    assert Path("report/missing.txt").read_text() == f"{ABSENT}\n{BOUGHT}\n"
    assert Path("report/invalid.tsv").read_text().startswith("3\tnonsense\tnot a digest")
    assert not Path("report/failed.tsv").exists() and not Path(CALLS).exists()
    assert "missing: 2: see report/missing.txt" in err and "api costs money or quota (--paid asks it)" in err
    code, out, err = scene("exists", "list", "--config", "paid.toml", "--paid", "--json")
    *outcomes, report = map(json.loads, out.splitlines())
    assert [each["kind"] for each in outcomes] == ["found", "missing", "invalid", *["found"] * 6]
    assert (outcomes[-1]["source"], report["command"], report["found"], report["exit_code"]) == ("api", "exists", 7, 1)
    assert set(Path(CALLS).read_text().split()) == {ABSENT, BOUGHT}
    Path("list").write_text("".join(f"{line}\n" for line in digests))
    assert scene("exists", "list", "--config", "good.toml", "-q") == (0, "".join(f"{d}\tshelf\n" for d in digests), "")


def test_exists_calls_no_failure_missing(scene: Scene, held: dict[str, bytes]) -> None:
    Path("list").write_text(f"{ABSENT}\n{next(iter(held))}\n")
    code, out, err = scene("exists", "list", "--config", "lost.toml", "-o", "report")
    assert code == 2 and out.startswith(next(iter(held))) and "missing: 0" in err
    assert Path("report/failed.tsv").read_text().startswith(f"{ABSENT}\tlost: ")
    Path("many").write_text("".join(f"{number:040x}\n" for number in range(500)))
    code, _, err = scene("exists", "many", "--config", "lost.toml", "--max-failures", "20")
    assert code == 2 and "stopped because: 20 lookups in a row failed" in err
    for words, says in ((["none"], "cannot read the list"), (["list", "-o", "list"], "cannot write into the folder")):
        code, _, err = scene("exists", *words, "--config", "good.toml")
        assert code == 3 and says in err


def test_exists_ends_quietly_when_its_reader_does(scene: Scene, held: dict[str, bytes]) -> None:
    Path("list").write_text("".join(f"{digest}\n" for digest in held) * 3000)
    script = f"set -o pipefail; {sys.executable} -m bitstore exists list --config good.toml | head -1 >one"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, env=os.environ)
    assert (done.returncode, done.stderr) == (141, "") and Path("one").read_text() == f"{next(iter(held))}\tshelf\n"


def test_an_interrupted_exists_lists_what_it_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    add, calls = Listing.add, 0

    def interrupted(listing: Listing, *fields: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        add(listing, *fields)

    monkeypatch.setattr(Listing, "add", interrupted)
    Path("list").write_text("".join(f"{number:040x}\n" for number in range(500)))
    code, _, err = scene("exists", "list", "--config", "good.toml", "-o", "report")
    assert code == 130 and "interrupted: there: 0" in err and "missing: 3: see" in err
    assert len(Path("report/missing.txt").read_text().splitlines()) == 3
