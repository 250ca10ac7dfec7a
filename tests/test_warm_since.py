"""Warmings that follow a schedule: only what a list has got since the last run is read, and nothing is passed over."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from bitstore._digests.hash_list import HashList
from bitstore._digests.lists.following import Following, Mark
from bitstore._support.digests import ALGORITHMS
from bitstore._warming import Outcome, Since, SinceError, Warming, WarmReport
from tests.cli_scene import Scene as CommandScene
from tests.servers import Delay, MakeProxy, SeaweedS3
from tests.test_cli_index import HELD, inventory
from tests.test_warm import Command, digest_of, made

SHA1 = ALGORITHMS["sha1"]
ALL = [digest_of(f"entry {number}") for number in range(60)]
OLD, NEW = ALL[:40], ALL[40:]


def lines(digests: list[str], end: str = "\n") -> bytes:
    return "".join(digest + end for digest in digests).encode()


def sums(digests: list[str]) -> bytes:
    return "".join(f"{digest}  a name\nof two lines\0" for digest in digests).encode()


def rows(digests: list[str]) -> bytes:
    return "".join(f'"a\n""name""",{digest}\r\n' for digest in digests).encode()


def objects(digests: list[str]) -> bytes:
    return "".join(json.dumps({"other": 1, "digest": digest}) + "\n" for digest in digests).encode()


# How a list begins, and what the second run finds at its end.
KINDS = {
    "lines": (lines(OLD), lines(NEW)),
    "CR LF": (lines(OLD, "\r\n"), lines(NEW, "\r\n")),
    "CR": (lines(OLD, "\r"), lines(NEW, "\r")),
    "upper case": (lines(OLD).upper(), lines(NEW).upper()),
    "sums": (sums(OLD), sums(NEW)),
    "CSV": (b"# a comment\nname,sha1\n" + rows(OLD), rows(NEW)),
    "JSON": (objects(OLD), objects(NEW)),
    "gzip": (gzip.compress(lines(OLD)), gzip.compress(lines(NEW))),
    "CSV, bzip2": (bz2.compress(b"name,sha1\n" + rows(OLD)), bz2.compress(rows(NEW))),
}


def read(path: Path, mark: Mark | None) -> tuple[list[tuple[int, str | None]], Mark, bool]:
    following = Following(mark)
    found = HashList(str(path), following=following)
    entries = [(entry.number, entry.digest) for entry in found]
    return entries, found.mark(), following.changed


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_is_read_from_where_it_was_read_before(tmp_path: Path, kind: str) -> None:
    path, (begin, more) = tmp_path / "list", KINDS[kind]
    path.write_bytes(begin + more)
    whole = [(entry.number, entry.digest) for entry in HashList(str(path))]
    assert [digest for _, digest in whole] == ALL
    path.write_bytes(begin)
    entries, mark, _ = read(path, None)
    assert entries == whole[:40]
    for _ in range(2):
        entries, mark, changed = read(path, Mark(**json.loads(json.dumps(mark._asdict()))))
        assert (entries, changed) == ([], False)
    path.write_bytes(begin + more)
    entries, mark, changed = read(path, mark)
    assert (entries, changed) == (whole[40:], False)
    assert read(path, mark)[0] == []
    # Whatever else is in the place of what was read: all is read, also where no length and neither end tells.
    if kind != "gzip" and "bzip2" not in kind:
        path.write_bytes(begin.replace(OLD[20].encode(), NEW[0].encode()) + more)
        if kind != "upper case":
            entries, _, changed = read(path, mark)
            assert changed and len(entries) == 60 and NEW[0] in [digest for _, digest in entries[:40]]
    path.write_bytes(begin)
    entries, _, changed = read(path, mark)
    assert (entries, changed) == (whole[:40], True)
    path.write_bytes(b"")
    assert read(path, mark)[0] == []


@pytest.mark.parametrize("cut", [0, 1, 10, 39, 40, 41, 47, 89])
@pytest.mark.parametrize("kind", ["lines", "CSV", "JSON", "sums"])
def test_a_line_that_is_being_written_is_read_once_it_is_whole(tmp_path: Path, kind: str, cut: int) -> None:
    """Wherever the list ends when it is read, all of its digests have been read afterwards, and nothing else."""
    path, (begin, more) = tmp_path / "list", KINDS[kind]
    path.write_bytes(begin + more[:cut])
    first, mark, _ = read(path, None)
    path.write_bytes(begin + more)
    second, mark, changed = read(path, mark)
    assert not changed
    assert {digest for _, digest in first + second} == set(ALL)
    assert read(path, mark)[0] == []


def test_new_lines_without_a_digest_are_counted_and_passed_over(scene: Scene) -> None:
    """What the list is was known before: it need not be guessed from its new lines."""
    scene.path.write_bytes(lines(OLD))
    scene.warm()
    with scene.path.open("ab") as file:
        file.write(b"nonsense\n" + lines([hashlib.sha256(b"").hexdigest()]))
    report = scene.warm()
    assert (report.given, report.invalid, report.complete, report.exit_code) == (2, 2, True, 1)
    assert scene.warm().given == 0


def test_a_parquet_list_that_did_not_change_has_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"

    def write(digests: list[str]) -> None:
        raw = pyarrow.array(map(bytes.fromhex, digests), pyarrow.binary(20))
        pyarrow.parquet.write_table(pyarrow.table({"sha1": raw}), path, write_statistics=False)

    write(OLD)
    entries, mark, _ = read(path, None)
    assert len(entries) == 40
    assert read(path, mark)[0] == []
    write([*OLD[1:], NEW[0]])  # of the same length and with the same footer
    entries, _, changed = read(path, mark)
    assert changed and len(entries) == 40


# ---------------------------------------------------------------------------- the file of the last run


class Scene:
    """A list, and warmings of it by a store that has everything but what `broken` and `absent` name."""

    def __init__(self, folder: Path) -> None:
        self.path, self.state = folder / "list.txt", folder / "state"
        self.broken, self.absent, self.asked = set[str](), set[str](), list[str]()

    def since(self, **options: Any) -> Since:
        since = Since(self.state, self.path, **{"target": "here", **options})
        since.bind("this")
        since.open(column=None, algorithm="sha1")
        return since

    def warm(self, **options: Any) -> WarmReport:
        since, self.asked = self.since(), []
        warming = Warming(algorithm=SHA1, target="here", store_id="this", show=False, since=since, **options)
        return warming.run(since, self.fill)

    def fill(self, digests: Iterator[str]) -> Iterator[Outcome]:
        for digest in digests:
            self.asked.append(digest)
            if digest in self.broken:
                yield Outcome(digest, "failed", error="it is down")
            else:
                yield Outcome(digest, "missing" if digest in self.absent else "found", "shelf", 1)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_run_asks_for_what_is_new_and_for_what_failed_before(scene: Scene) -> None:
    scene.path.write_bytes(lines(OLD))
    scene.broken, scene.absent = {OLD[3], OLD[7]}, {OLD[5]}
    report = scene.warm()
    assert (report.found, report.failed, report.exit_code) == (37, 2, 2)
    assert "is new: all of" in str(report)
    scene.broken = {OLD[3]}
    scene.path.write_bytes(lines(OLD + NEW[:5]))
    report = scene.warm()
    assert sorted(scene.asked) == sorted([OLD[3], OLD[7], *NEW[:5]])
    assert "what is new since 20" in str(report)
    scene.broken = set()
    assert (scene.warm().found, scene.asked) == (1, [OLD[3]])
    assert (scene.warm().given, scene.asked) == (0, [])
    scene.path.write_bytes(lines(OLD + NEW))
    scene.absent = {NEW[5], NEW[6]}
    assert scene.warm(dry_run=True).distinct == scene.warm(retry_missing=True).distinct == 15
    scene.absent = {NEW[6]}
    scene.warm(retry_missing=True)
    assert sorted(scene.asked) == sorted(NEW[5:7])
    assert scene.warm().asked == 1  # what was still missing then, and not any more from here on
    assert scene.warm().asked == 0


def test_a_run_that_is_stopped_leaves_the_file_of_the_last_run_as_it_is(scene: Scene, tmp_path: Path) -> None:
    scene.path.write_bytes(lines(OLD))
    scene.broken = set(OLD)
    report = scene.warm(max_failures=5)
    assert not report.complete and not scene.state.exists()
    scene.broken = set()
    scene.warm(ledger=tmp_path / "ledger")
    before = scene.state.read_bytes()
    scene.path.write_bytes(lines(OLD + NEW))
    since = scene.since()
    warming = Warming(
        algorithm=SHA1, target="here", store_id="this", show=False, since=since, ledger=tmp_path / "ledger"
    )

    def fill(digests: Iterator[str]) -> Iterator[Outcome]:
        yield Outcome(next(digests), "found", "shelf", 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warming.run(since, fill)
    assert scene.state.read_bytes() == before
    report = scene.warm(ledger=tmp_path / "ledger")
    assert (report.settled, report.found) == (1, 19)
    assert scene.state.read_bytes() != before


def test_more_failures_than_the_file_holds_are_read_again_from_the_list(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitstore._warming.since._AGAIN", 3)
    scene.path.write_bytes(lines(OLD))
    scene.broken = set(OLD[:4])
    report = scene.warm()
    assert (report.failed, scene.state.exists(), report.exit_code) == (4, False, 2)
    assert "more than 3 digests failed: the next run reads the same lines again" in str(report)
    scene.broken = set(OLD[:3])
    scene.warm()
    assert sorted(scene.asked) == sorted(OLD) and scene.state.exists()


ROTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "list.txt.1": lambda data: data,
    "list.txt-20261127": lambda data: data,
    "list.txt.1.gz": gzip.compress,
    "list.txt-20261127.bz2": bz2.compress,
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_the_rest_of_a_rotated_list_is_read_before_its_successor(scene: Scene, name: str) -> None:
    scene.path.write_bytes(lines(OLD))
    scene.warm()
    rotated = scene.path.with_name(name)
    rotated.write_bytes(ROTATIONS[name](lines(OLD + NEW[:5])))
    for number, other in enumerate(("list.txt.bak", "list.txt.1.idx", "list.txt.2")):
        scene.path.with_name(other).write_bytes(lines([digest_of(f"another {number}")]))
        os.utime(scene.path.with_name(other), (1, 1))  # older than the list that was read
    scene.path.write_bytes(lines(NEW[10:]))
    report = scene.warm()
    assert sorted(scene.asked) == sorted(NEW[:5] + NEW[10:])
    assert "is not the list that was read on" in str(report) and name in str(report)
    assert scene.warm().given == 0


def test_all_of_the_lists_between_two_rotations_is_read(scene: Scene) -> None:
    scene.path.write_bytes(lines(OLD))
    scene.warm()
    for number, (name, digests) in enumerate({"list.txt.2": OLD + NEW[:2], "list.txt.1": NEW[2:6]}.items()):
        scene.path.with_name(name).write_bytes(lines(digests))
        os.utime(scene.path.with_name(name), (10**9 + number,) * 2)
    scene.path.write_bytes(lines(NEW[6:8]))
    scene.warm()
    assert sorted(scene.asked) == sorted(NEW[:8])


def test_a_list_that_was_replaced_is_read_from_its_beginning_and_says_so(scene: Scene) -> None:
    scene.path.write_bytes(lines(OLD))
    scene.warm()
    scene.path.write_bytes(lines(NEW))
    report = scene.warm()
    assert sorted(scene.asked) == sorted(NEW)
    assert "read from its beginning; what was added to the old one after that day is not known" in str(report)


def test_a_file_that_is_not_that_of_the_warming_is_refused(scene: Scene, tmp_path: Path) -> None:
    scene.path.write_bytes(lines(OLD))
    scene.warm()
    good = json.loads(scene.state.read_text())
    with pytest.raises(SinceError, match=r"that of another target \(here, not owner\)"):
        scene.since(target="owner")
    with pytest.raises(SinceError, match=r"that of another list"):
        Since(scene.state, tmp_path / "other.txt", target="here")
    with pytest.raises(SinceError, match=r"that of another store \(this, not that\)"):
        Since(scene.state, scene.path, target="here").bind("that")
    parts: list[dict[str, Any]] = [{"read": 5}, {"read": {}}, {"again": 5}, {"again": [5]}, {"read": None}]
    parts.append({"read": {**good["read"], "algorithm": "crc"}})
    bad = {
        "does not say how far": [b"", b"{}", b"[]", b"null", b"\xff\0", b"[" * 100_000, lines(OLD)],
        "that of another format": [json.dumps({**good, "version": 2}).encode()],
        "is damaged": [json.dumps({**good, **part}).encode() for part in parts],
    }
    for reason, contents in bad.items():
        for content in contents:
            scene.state.write_bytes(content)
            with pytest.raises(SinceError, match=reason):
                scene.since()
            assert scene.state.read_bytes() == content
    for path, reason in ((tmp_path, "it is a folder"), (tmp_path / "gone" / "state", "there is no such folder")):
        with pytest.raises(SinceError, match=reason):
            Since(path, scene.path, target="here")


# ---------------------------------------------------------------------------- an inventory


@pytest.fixture(name="commands")
def commands_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandScene:
    scene = CommandScene(tmp_path, monkeypatch, capfd)
    for number, digest in enumerate(HELD):
        (scene.root / "shelf" / digest).write_text(str(number))
    return scene


def test_each_inventory_of_a_bucket_is_dealt_with_once(
    commands: CommandScene, monkeypatch: pytest.MonkeyPatch, aws_env: SeaweedS3, bucket: str
) -> None:
    """The first has 200 keys, the second 300. It lies in a bucket."""
    root = commands.root
    monkeypatch.setattr("tests.test_cli_index.HELD", HELD[:200])
    manifest = inventory(root / "first", "CSV")
    words = ["warm", str(manifest), "--config", "good.toml", "--template", "s3://bucket/a b/{digest}"]
    since = ["--since-last", "state", "--ledger", "ledger"]
    code, _, told = commands(*words, *since)
    assert code == 0 and "warm now: 200" in told, told
    state = (root / "state").read_text()
    code, _, told = commands(*words, *since)
    assert code == 0 and "0 entries" in told and "was dealt with on" in told and "nothing is new" in told, told
    monkeypatch.setattr("tests.test_cli_index.HELD", HELD)
    newer = json.loads(inventory(root / "inv/bucket/daily", "Parquet").read_text())
    newer["creationTimestamp"] = "1700000000001"
    for path in (root / "inv/bucket/daily/data").iterdir():
        aws_env.put(bucket, f"inv/bucket/daily/data/{path.name}", path.read_bytes())
    aws_env.put(bucket, "inv/manifest.json", json.dumps(newer).encode())
    before, words[1] = words[1], f"s3://{bucket}/inv/manifest.json"
    broken = HELD[250]
    (root / "shelf" / broken).rename(root / "aside")
    (root / "shelf" / broken).mkdir()  # which is a failure
    code, _, told = commands(*words, *since)
    assert code == 2 and "200 of them known by the ledger" in told and "warm now: 99" in told, told
    (root / "shelf" / broken).rmdir()
    (root / "aside").rename(root / "shelf" / broken)
    code, _, told = commands(*words, *since)
    assert code == 0 and "1 entries" in told and "warm now: 1" in told, told
    assert (root / "state").read_text() != state
    words[1] = before
    code, _, told = commands(*words, *since)
    assert (
        code == 3 and "the inventory of 2023-11-14T22:13:20.001000+00:00 was dealt with" in told and "older" in told
    ), told
    code, _, told = commands(*words)  # without a schedule
    assert code == 0 and "200 entries" in told, told


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--since-last", "state"], "--ledger DIR knows which of them are new"),
        (["--column", "x"], "--column goes with a list"),
        (["--algorithm", "sha1"], "--algorithm goes with --store"),
        (["--template", "s3://other/{digest}"], "the inventory is of keys below s3://bucket/"),
        (["--template", "s3://bucket/x"], "none of the 301 keys of the inventory is a digest below s3://bucket/x"),
    ],
)
def test_an_inventory_that_cannot_be_warmed_is_refused(commands: CommandScene, more: list[str], says: str) -> None:
    manifest = inventory(commands.root / "in", "CSV")
    words = ["--template", "s3://bucket/a b/{digest}", *more]
    code, _, told = commands("warm", str(manifest), "--config", "good.toml", *words)
    assert code == 3 and says in told, told
    assert not (commands.root / "state").exists()


def test_an_inventory_that_breaks_off_is_no_success(commands: CommandScene) -> None:
    manifest = inventory(commands.root / "in", "CSV")
    (commands.root / "in/data/1.csv").unlink()
    words = ["--template", "s3://bucket/a b/{digest}", "--since-last", "state", "--ledger", "ledger"]
    code, _, told = commands("warm", str(manifest), "--config", "good.toml", *words)
    assert code == 3 and "which is not there" in told and "Traceback" not in told, told
    assert not (commands.root / "state").exists()
    code, _, told = commands("warm", str(manifest), "--config", "good.toml")
    assert code == 3 and "--template says which keys of the inventory are digests" in told
    (commands.root / "list.txt").write_bytes(lines(OLD))
    code, _, told = commands("warm", "list.txt", "--config", "good.toml", "--template", "s3://bucket/{digest}")
    assert code == 3 and "--template goes with the manifest.json" in told


# ---------------------------------------------------------------------------- the command


def test_a_schedule_of_the_warm_command_asks_once_for_each_new_line(
    s3: SeaweedS3, fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    bucket, blobs = s3.create_bucket(), made("on a schedule", 300)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: s3.put(bucket, *item), blobs.items()))
    command, digests = Command(s3, fault_proxy(s3.endpoint_url), bucket, tmp_path), list(blobs)
    command.args = command.args[: command.args.index("--ledger")]
    listed, state = tmp_path / "list.txt", tmp_path / "state"
    listed.write_bytes(lines(digests[:50]))
    assert command.run("--since-last", "state")[0] == 0
    assert command.gets() == 50
    with listed.open("ab") as file:
        file.write(lines(digests[50:70] + digests[:5]) + digests[70][:20].encode())
    command.proxy.clear()
    code, told = command.run("--since-last", "state")
    assert (code, command.gets()) == (0, 20), told
    assert "25 entries, 25 different digests" in told and "warm: of list.txt what is new since 20" in told
    with listed.open("ab") as file:
        file.write(lines([digests[70][20:], *digests[71:]]))
    before = state.read_bytes()
    command.proxy.clear()
    rule = command.proxy.rules.add(Delay(0.4), method="GET")
    process = command.start("--in-flight", "40", "--since-last", "state")
    deadline = time.monotonic() + 60
    while command.gets() < 90:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert state.read_bytes() == before
    command.proxy.rules.clear()
    kept = sum(path.is_file() for path in (tmp_path / "cache").rglob("??????????????????????????????????????*"))
    code, told = command.run("--since-last", "state")
    assert code == 0, told
    assert "warm now: 230" in told and kept > 0
    # Once each, but for the lookups that were under way when it was killed.
    assert 230 <= command.gets() <= 230 + 40
    command.proxy.clear()
    code, told = command.run("--since-last", "state")
    assert (code, command.gets()) == (0, 0) and "0 entries" in told, told
    code, told = command.run("--since-last", "")
    assert code == 3 and "--since-last has no name" in told
    command.args[command.args.index("list.txt")] = "-"
    code, told = command.run("--since-last", "new")
    assert code == 3 and "standard input cannot be read since the last run" in told
    del rule


def test_a_fingerprint_is_of_all_that_was_read(tmp_path: Path) -> None:
    path, many = tmp_path / "list", [digest_of(str(number)) for number in range(20_000)]
    path.write_bytes(lines(many[:15_000]))
    mark = read(path, None)[1]
    assert mark.offset == 15_000 * 41
    assert mark.fingerprint == hashlib.sha256(lines(many[:15_000])).hexdigest()
    path.write_bytes(lines(many))
    assert [digest for _, digest in read(path, mark)[0]] == many[15_000:]
