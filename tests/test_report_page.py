"""The report of a run as a page: a real headless Chromium opens it without network, and looks at it."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bitstore._cli.lines import Report
from bitstore._cli.page import page
from bitstore._tiers.stats import TierStats
from bitstore._warming.timeline import Timeline
from ray_integration import PoolReport
from tests.browser import CHROMIUM, Browser, browser

PICTURES = Path(__file__).parents[1] / "build" / "report"
PLOTS = ["throughput", "volume", "tiers", "sizes", "causes"]
FETCH = [sys.executable, "-m", "bitstore", "fetch", "list", "-o", "out"]
SECRET = "PLANTEDsecret0123456789"
EVIL = '</title><script>console.error(1)</script><img src="https://127.0.0.1:9/x" onerror="console.error(2)">&amp;'

# For each plot: size of its picture, marks that can be seen, and texts or marks that stick out of it.
LOOK = """(() => {
  const inside = (a, b) =>
    a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
  const plots = {};
  for (const figure of document.querySelectorAll('figure')) {
    const frame = figure.querySelector('svg').getBoundingClientRect();
    const drawn = [...figure.querySelectorAll('svg text, svg rect, svg path')];
    const boxes = drawn.map(element => element.getBoundingClientRect());
    plots[figure.id] = {
      width: frame.width, height: frame.height,
      marks: [...figure.querySelectorAll('.mark, .line')].filter(e => e.getBoundingClientRect().width > 1).length,
      texts: [...figure.querySelectorAll('text')].filter(e => e.getBoundingClientRect().width > 1).length,
      outside: drawn.filter((element, i) => !inside(boxes[i], frame)).map(element => element.outerHTML),
    };
  }
  return {plots, scripts: document.scripts.length, images: document.images.length,
    wide: document.documentElement.scrollWidth - innerWidth,
    back: getComputedStyle(document.body).backgroundColor, text: document.body.innerText};
})()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install the package chromium, to look at the report in a browser")
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found


def report(**changes: Any) -> Report:
    empty: dict[str, Any] = {
        "command": "fetch", "command_line": "bitstore fetch list -o out", "version": "2.0.0", "started": "2026-11-27",
        "seconds": 0.0, "exit_code": 0, "complete": True, "entries": 0, "found": 0, "there": 0, "missing": 0,
        "failed": 0, "invalid": 0, "bytes": 0, "by_tier": {}, "tiers": None, "sizes": [], "stopped": None,
        "timeline": [{"seconds": 0.0, "answered": 0, "bytes": 0}, {"seconds": 0.0, "answered": 0, "bytes": 0}],
        "causes": [], "spent": None, "planned": None, "resume": None,
    }  # fmt: skip
    return Report(**{**empty, **changes})


def looked_at(tab: Browser, path: Path, name: str, plots: list[str] = PLOTS) -> dict[str, Any]:
    """What the browser sees, after pictures were taken. Fails for an error, a request, or a plot that is not drawn."""
    seen: list[dict[str, Any]] = []
    for width, dark in ((1100, False), (1100, True), (400, False)):
        tab.open(path, width=width, dark=dark)
        seen.append(tab.evaluate(LOOK))
        tab.picture(PICTURES / f"{name}-{width}{'-dark' if dark else ''}.png")
        assert tab.errors == []
        assert tab.requests == [path.as_uri()]
        assert (seen[-1]["scripts"], seen[-1]["images"], max(seen[-1]["wide"], 0)) == (0, 0, 0)
        assert list(seen[-1]["plots"]) == plots
        for plot in seen[-1]["plots"].values():
            assert plot["width"] > 300 and plot["height"] > 20 and plot["texts"] > 0
            assert plot["outside"] == []
    assert seen[0]["back"] != seen[1]["back"]
    return seen[0]


def test_the_report_of_a_run_is_drawn_by_a_browser(tab: Browser, tmp_path: Path) -> None:
    chance = random.Random(1)
    blobs = [chance.randbytes(chance.randint(1, 200_000)) for _ in range(300)]
    (tmp_path / "shelf").mkdir()
    for number, blob in enumerate(blobs):
        right = hashlib.sha1(blob).hexdigest()
        (tmp_path / "shelf" / right).write_bytes(blob if number > 3 else b"damaged")
    names = [hashlib.sha1(blob).hexdigest() for blob in blobs]
    (tmp_path / "list").write_text("\n".join([*names, "0" * 40, EVIL]))
    (tmp_path / "b.toml").write_text(
        f"algorithm = 'sha1'\n[[tier]]\nname = '{EVIL}'\nurl = '{(tmp_path / 'shelf').as_uri()}/'\n"
    )
    command = [*FETCH, "--config", "b.toml", "--report", "report.html", "--report", "report.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["found"], found["missing"], found["failed"], found["by_tier"]) == (296, 1, 4, {EVIL: 296})
    assert sum(row["blobs"] for row in found["sizes"]) == 296
    assert found["timeline"][-1]["answered"] == 301 and found["timeline"][-1]["bytes"] == found["bytes"]
    seen = looked_at(tab, tmp_path / "report.html", "fetch")
    assert {name: plot["marks"] > 0 for name, plot in seen["plots"].items()} == dict.fromkeys(PLOTS, True)
    assert seen["plots"]["sizes"]["marks"] > 5
    assert EVIL[:40] in seen["text"] and "complete, with failures" in seen["text"]


def test_the_report_of_a_verification_is_drawn_by_a_browser(tab: Browser, tmp_path: Path) -> None:
    for number in range(50):
        blob = b"%d" % number
        (tmp_path / hashlib.sha1(blob).hexdigest()).write_bytes(blob if number else b"damaged")
    command = [sys.executable, "-m", "bitstore", "verify", f"{tmp_path.as_uri()}/", "--report", "r/report.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    seen = looked_at(tab, tmp_path / "r/report.html", "verify", [name for name in PLOTS if name != "tiers"])
    assert "complete, not all right" in seen["text"] and seen["plots"]["sizes"]["marks"] > 0


CASES: dict[str, dict[str, Any]] = {
    "empty": {},
    "huge": {
        "command": "warm", "entries": 10**12, "found": 10**12, "failed": 123_456_789, "bytes": 10**17, "seconds": 1e6,
        "exit_code": 130, "complete": False, "stopped": "x" * 3000, "resume": "y " * 500,
        "by_tier": {"": 1, "n" * 400: 10**12, **{f"tier {n}": 7**n for n in range(12)}},
        "sizes": [{"below": 1 << bits, "blobs": 2**bits} for bits in range(0, 57, 3)],
        "timeline": [{"seconds": n * 9000.0, "answered": n**4, "bytes": n**6} for n in range(120)],
        "causes": [{"failures": 4**n, "error": f"\x00\x1b\udcff {'e' * 300}", "digest": "d" * 64} for n in range(20)],
        "tiers": [{"name": "n" * 400, **dict.fromkeys(
            ["hits", "misses", "failures", "invalid", "skipped", "writes", "write_failures", "requests", "retries",
             "bytes"], 10**12)}],
    },
    "no time": {"found": 1, "by_tier": {"a": 1}, "sizes": [{"below": 1, "blobs": 1}]},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_odd_reports_are_drawn_too(tab: Browser, tmp_path: Path, name: str) -> None:
    (tmp_path / "report.html").write_bytes(page(report(**CASES[name])).encode("utf-8"))
    looked_at(tab, tmp_path / "report.html", name.replace(" ", "-"))


def pool_report(nodes: int, **changes: Any) -> PoolReport:
    """The report of a pool with so many node stores."""
    node = {
        "requests": 1, "bytes_upstream": 10**8, "bytes_other_disks": 0, "bytes_disk": 10**9, "bytes_memory": 0,
        "bytes_peer": 10**7, "hand_over_bytes": 10**8, "hand_over_seconds": 1.5, "memory": 2 * 10**8,
        "memory_peak": 3 * 10**8, "calls": 7, "under_way": 0, "age": 7200.0, "idle": None, "worker": 0, "notes": [EVIL],
        "caches": [
            {"tier": "disk", "place": "disk", "folder": "/data/blobs", "bytes": 10**9, "max_size": 10**11},
            {"tier": EVIL, "place": "memory", "folder": None, "bytes": None, "max_size": None},
        ],
    }  # fmt: skip
    rows = [
        {
            **node,
            "node": f"{number:08x} (host-{number})",
            "node_id": f"{number:056x}",
            "memory_peak": 10**8 + 10**7 * number,
        }
        for number in range(nodes)
    ]
    tiers = [
        {
            **TierStats(name, hits=5, bytes=10**8, failures=failed).as_dict(),
            "worker": 0,
            **{key: row[key] for key in ("node", "node_id")},
        }
        for row in rows
        for name, failed in (("disk", 0), (EVIL, nodes > 3))
    ]
    given: dict[str, Any] = {
        "pool": "bitstore-0123456789abcdef-2.0.0-1", "private": False, "version": "2.0.0",
        "made": "2026-11-27T12:00:00+00:00", "nodes": tuple(rows), "tiers": tuple(tiers),
    }  # fmt: skip
    return PoolReport(**{**given, **changes})


def test_the_report_of_a_pool_is_drawn_by_a_browser(tab: Browser, tmp_path: Path) -> None:
    plots = ["places", "tiers", "memory", "upstream", "handed", "requests"]
    for name, report in {
        "pool": pool_report(3),
        "pool-empty": pool_report(0, unanswered=("x" * 300,), lost=(EVIL,)),
        "pool-huge": pool_report(1000),
    }.items():
        report.save(tmp_path / f"{name}.html")
        seen = looked_at(tab, tmp_path / f"{name}.html", name, plots)
        assert [plot["marks"] > 0 for plot in seen["plots"].values()] == [bool(report.nodes)] * 6
        assert {0: "not all counts", 3: "all answered"}.get(len(report.nodes), "with failures") in seen["text"]
        assert EVIL[:40] in seen["text"]


def test_a_browser_that_sees_an_error_says_so(tab: Browser, tmp_path: Path) -> None:
    """The looks above can fail: a page with a script and a picture is not what they let pass."""
    (tmp_path / "bad.html").write_text(f"<body>{EVIL}")
    tab.open(tmp_path / "bad.html", width=400, dark=False)
    assert len(tab.errors) >= 2 and "https://127.0.0.1:9/x" in tab.requests
    found = page(report()).replace("</body>", f"{EVIL}</body>")
    (tmp_path / "barred.html").write_text(found)
    tab.open(tmp_path / "barred.html", width=400, dark=False)
    assert len(tab.errors) >= 2 and all("Content Security Policy" in json.dumps(error) for error in tab.errors)


def test_a_timeline_holds_a_bounded_number_of_samples() -> None:
    now = [100.0]
    timeline = Timeline(lambda: now[0])
    for number in range(100_000):
        now[0] += 0.013
        timeline.look(number, number * 10)
    samples = timeline.samples(100_000, 1_000_000)
    assert 50 < len(samples) <= 122
    assert samples[0] == (0, 0, 0) and samples[-1][1:] == (100_000, 1_000_000)
    gaps = [after.seconds - before.seconds for before, after in pairwise(samples)]
    assert min(gaps) > 0 and max(gaps) < 4 * sorted(gaps)[len(gaps) // 2]
    assert all(after.answered > before.answered for before, after in pairwise(samples))


def test_no_credentials_are_in_a_report(tmp_path: Path) -> None:
    urls = [f"https://user:{SECRET}@127.0.0.1:9/x/", f"https://127.0.0.1:9/{{digest}}?X-Amz-Signature={SECRET}"]
    (tmp_path / "list").write_text("0" * 40)
    command = [
        sys.executable,
        "-m",
        "bitstore",
        "fetch",
        "list",
        "-o",
        "out",
        "--report",
        "r.html",
        "--report",
        "r.json",
    ]
    command += [word for url in urls for word in ("--store", url)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (2, 3), done.stderr
    assert done.returncode == 3 or (tmp_path / "r.html").exists()
    for text in (done.stderr, *(path.read_text() for path in tmp_path.glob("r.*"))):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("report.pdf", "--report report.pdf: its name ends neither in .html nor in .json"),
        ("list/report.html", "--report list/report.html cannot be written: {folder}/list is no folder"),
        ("folder.html", "--report folder.html is a folder, pipe or device: name a file"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "list").write_text("0" * 40)
    command = [
        sys.executable,
        "-m",
        "bitstore",
        "fetch",
        "list",
        "-o",
        "out",
        "--store",
        "file:///x/",
        "--report",
        name,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (3, f"bitstore: {said.format(folder=tmp_path)}\n")
    assert not (tmp_path / "out").exists()
