"""The example scripts, each run as its reader would run it; those for Ray all on one local Ray."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]


@pytest.fixture
def address(shared_ray: Any) -> str:
    """A Ray that is there already, for all of them."""
    return str(shared_ray.address_info["gcs_address"])


def run(name: str, address: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", ROOT / "examples" / name],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_map_batches_example_fetches_blobs_of_hashes(address: str) -> None:
    size = sum(5 + number for number in range(1000))
    assert run("ray_map_batches.py", address)[-2:] == [
        f"1000 of 1001 blobs, {size:,} bytes",
        f"missing: {'0' * 40}: missing in Sha1Composite",
    ]


def test_the_enrichment_example_pays_once_for_each_digest(address: str) -> None:
    digests = [hashlib.sha1(f"picture {number}".encode()).hexdigest() for number in range(200)]
    absent = sum(digest.startswith("0") for digest in digests)
    assert absent > 0
    lines = run("ray_enrich.py", address)
    assert lines[:2] == [
        f"{attempt}: 1000 rows, {5 * absent} without a label, {200 - absent} answers paid for"
        for attempt in ("first", "second")
    ]
    (api,) = [line.split() for line in lines if line.startswith("API ")]
    assert (api[1], api[3]) == (str(200 - absent), "0")  # hits, failures


def test_the_example_of_small_files_buys_each_blob_once_and_keeps_them_in_one_pack(address: str) -> None:
    told = run("small_files.py", address)
    assert told[:2] == [
        "5000 blobs, 53890 bytes, 4000 calls; objects: .bitrefs, .tar",
        "53890 bytes of {'2025': 1000, 'packs': 4000, 'api': 0}, 4000 calls",
    ]
    assert told[2].startswith("4000 members")


def test_the_example_of_a_fast_store_keeps_the_contract(address: str) -> None:
    assert run("fast_store.py", address) == ["900 found, 100 missing"]


def test_the_dataset_example_fetches_its_blobs(address: str) -> None:
    assert run("ray_fetch.py", address)[-2:] == [
        f"row 1000: missing: {'0' * 40}: missing in Sha1Composite",
        "1000 of 1001 blobs found",
    ]


def test_the_warming_example_pays_once_before_a_training(address: str) -> None:
    told = run("warm_then_train.py", address)
    assert told[0] == "600 entries, 600 different digests"
    assert "  bucket: 500" in told and "  api: 100" in told
    size = sum(len(f"blob {number}") for number in range(600))
    epochs = [f"epoch {epoch}: {size} bytes, all from {{'disk'}}" for epoch in range(2)]
    assert told[-3:] == [*epochs, "paid calls: 100"]


@pytest.mark.soak
def test_the_training_example_reads_its_epochs_from_the_disks(address: str) -> None:
    *_, wrong, told = run("ray_train.py", address)
    assert re.fullmatch(r"\d+ of 512 are wrong, on 0 GPUs", wrong)
    assert re.fullmatch(r"from the bucket: 512, from disks: \d+", told)


def test_source_files_come_from_the_mirror_and_the_rest_from_the_api(address: str) -> None:
    # A call that was refused, then one for each file that the mirror lacks, and for the one that nothing has.
    assert run("source_files.py", address)[-2:] == ["100 texts, 7 calls of the API", "row 100: missing"]


def test_caches_follow_a_list_on_a_schedule() -> None:
    assert run("warm_on_a_schedule.py", "unused") == [
        "first run: 100 entries, warm now: 100, missing: 0",
        "50 lines later: 50 entries, warm now: 50, missing: 0",
        "no line later: 0 entries, warm now: 0, missing: 0",
        "rotated: 150 entries, warm now: 150, missing: 0",
    ]


def test_a_malware_corpus_keeps_to_its_quota() -> None:
    assert run("malware_corpus.py", "unused") == [
        "missing",
        "pass 1: {'API': 5, 'bucket': 90}, 6 calls, 5 left for tomorrow",
        "pass 2: {'bought': 5, 'bucket': 90}, 6 calls, 5 left for tomorrow",
    ]


def test_an_index_saves_the_requests_for_what_the_bucket_lacks() -> None:
    assert run("index_of_a_bucket.py", "unused") == [
        "without an index: 900 found by 1000 + 900 requests",
        "with an index: 900 found by 200 + 900 requests",
        "recheck=False: 900 found by 100 + 900 requests",
        "mirror: asked just now",
        "archive: not in the index",
    ]


def test_a_job_is_planned_and_stops_before_its_budget() -> None:
    planned, stopped, *told = run("money.py", "unused")
    assert planned.startswith("planned: 0.8")
    assert stopped.startswith("stopped: 0.4955 USD, 99 calls, ") and stopped.endswith(" of 0.5 USD")
    assert told[0] == "found 2000 of 2000" and ", 2,001 requests, " in told[1]  # one was asked again
    assert told[2] == "shop: 0.955 USD, 191 calls"


def test_the_order_of_sources_is_learned_by_kind() -> None:
    asked, *first = run("learned_order.py", "unused")
    assert float(asked.removesuffix(" questions for each blob")) < 1.3
    assert sorted(line.partition(" has ")[0] for line in first) == ["pages: crawl", "papers: library"]


def test_the_second_night_of_a_job_pays_for_no_miss() -> None:
    first, second, why = run("second_run.py", "unused")
    assert first == "60 missing, 200 calls in all, 0 answered by the ledger"
    assert second == "60 missing, 200 calls in all, 60 answered by the ledger"
    assert re.fullmatch(r"API said so on [0-9-]{10}, remembered for 30 days", why)


def test_a_build_cache_is_asked_once_for_each_output(address: str) -> None:
    told = run("build_cache.py", address)
    assert told[0] == "301 entries, 301 different digests"
    assert "  bazel: 300" in told and "missing: 1" in told
    sizes = [sum(len(f"object file {n}") for n in range(100 * job, 100 * job + 200)) for job in range(2)]
    jobs = [f"job {job}: {size} bytes from {{'disk'}}, without: {{'missing': 1}}" for job, size in enumerate(sizes)]
    assert told[-3:] == [*jobs, "fetched more than once: []"]


@pytest.mark.parametrize("name", ["metrics.py", "web_service.py"])
def test_an_example_that_needs_arguments_says_so(name: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / name)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"    python examples/{name} bitstore.toml " in done.stderr


def test_the_examples_of_the_page_are_short_and_there() -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    named = set(re.findall(r"\.\./examples/(\w+\.py)", page))
    assert named == {path.name for path in (ROOT / "examples").glob("*.py")}, "docs/examples.md names each program"
    for name in ("source_files", "malware_corpus", "build_cache", "web_service", "torch_dataset", "money"):
        assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 80
