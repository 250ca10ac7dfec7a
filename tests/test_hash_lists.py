"""Lists of hashes of any length: bounded memory, no entry lost, and a clear error for a file that is no list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitstore._digests.hash_list import HashList, ListError
from tests.soak_report import record

GOOD = "4bc39c7d87318382feb3cc5a684c767fbd913968"
OTHER = "00000000000000000000000000000000000000ff"
RAW = bytes.fromhex(GOOD)
MB = 1_000_000

PEAK = """
import itertools, json, pathlib, re, sys
from bitstore import MemoryCache, Sha1Composite
from bitstore._digests.hash_list import HashList
def peak(): return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
def report(*what): print(json.dumps([*what, peak()]))
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")


def lines(count: int, *, wrong_every: int) -> tuple[bytes, int]:
    """A block of lines, every so many of which is no digest; and how many such blocks make `count` lines."""
    size = 10_000
    assert count % size == 0 and size % wrong_every == 0
    each = [f"{number:040x}" if number % wrong_every else f"no digest {number}" for number in range(1, size + 1)]
    return ("\n".join(each) + "\n").encode(), count // size


def through_a_pipe(code: str, block: bytes, times: int) -> list[Any]:
    """What `code` reports in a process of its own that is given `block` so many times on its standard input."""
    command = [sys.executable, "-c", PEAK + textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin = process.stdin

        def feed() -> None:
            with stdin:
                for _ in range(times):
                    stdin.write(block)

        feeding = threading.Thread(target=feed)
        feeding.start()
        out = process.stdout.read()
        feeding.join()
    assert process.returncode == 0
    found: list[Any] = json.loads(out)
    return found


READ = """
    total = wrong = last = 0
    for entry in HashList("-", algorithm="sha1"):
        total += 1
        if entry.digest is None:
            wrong += 1
            last = entry.number
            assert entry.text.startswith("no digest"), entry
    report(total, wrong, last)
"""


@linux
@pytest.mark.parametrize("count", [1_000_000, pytest.param(100_000_000, marks=pytest.mark.soak)])
def test_a_long_list_is_read_in_bounded_memory(count: int) -> None:
    block, times = lines(count, wrong_every=1000)
    started = time.monotonic()
    total, wrong, last, peak = through_a_pipe(READ, block, times)
    assert (total, wrong, last) == (count, count // 1000, count)
    assert peak < 100 * MB
    seconds = time.monotonic() - started
    record(f"hash list of {count:,} lines", lines=total, wrong=wrong, seconds=seconds, peak_mb=peak / MB)


LOOK_UP = """
    store = Sha1Composite()
    memory = MemoryCache("50MB")
    for number in range(1, 10_001): memory.put(f"{number:040x}", b"blob %d" % number)
    store.append_cache(memory)
    found = errors = 0
    digests = (entry.digest or entry.text for entry in HashList("-", algorithm="sha1"))
    for blob in store.get_many(digests, patience=0):
        if blob.found: found += 1
        else:
            errors += 1
            assert type(blob.error).__name__ == "InvalidURI", blob
    report(found, errors)
"""


@linux
@pytest.mark.parametrize("count", [100_000, pytest.param(5_000_000, marks=pytest.mark.soak)])
def test_a_long_list_is_looked_up_in_bounded_memory(count: int) -> None:
    """`get_many` of a generator: what is no digest is an answer of its own and stops nothing."""
    block, times = lines(count, wrong_every=1000)
    started = time.monotonic()
    found, errors, peak = through_a_pipe(LOOK_UP, block, times)
    assert (found, errors) == (count - count // 1000, count // 1000)
    assert peak < 150 * MB
    seconds = time.monotonic() - started
    record(f"get_many of {count:,} hashes", found=found, wrong=errors, seconds=seconds, peak_mb=peak / MB)


@linux
@pytest.mark.parametrize("size", [100 * MB, pytest.param(1000 * MB, marks=pytest.mark.soak)])
def test_a_huge_line_is_one_entry_and_its_neighbours_are_read(size: int, tmp_path: Path) -> None:
    """In a file with a hole, which takes no room on the disk; the lines before and after it count."""
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.write(f"{GOOD}\n".encode())
        file.seek(size, os.SEEK_CUR)
        file.write(f"\n{OTHER}".encode())
    code = f"""
    entries = list(HashList({os.fspath(path)!r}, algorithm="sha1"))
    report([[entry.number, len(entry.text), entry.digest] for entry in entries])
    """
    entries, peak = through_a_pipe(code, b"", 0)
    assert [entry[0] for entry in entries] == [1, 2, 3]
    assert [entry[2] for entry in entries] == [GOOD, None, OTHER] and entries[1][1] <= 65536
    assert peak < 100 * MB


@linux
def test_a_huge_row_group_is_read_in_parts(tmp_path: Path) -> None:
    """A million rows that were written as one piece are not read as one."""
    path = tmp_path / "list.parquet"
    column = pa.array([RAW[:-3] + number.to_bytes(3, "big") for number in range(MB)], pa.binary(20))
    pq.write_table(pa.table({"sha1": column}), path, row_group_size=MB, use_dictionary=False, compression="none")
    code = f"""
    entries = HashList({os.fspath(path)!r}, algorithm="sha1")
    first = next(iter(entries))
    before = peak()
    rest = sum(entry.digest is not None for entry in entries)
    report(first.digest, rest, before)
    """
    first, rest, before, peak = through_a_pipe(code, b"", 0)
    assert first == (RAW[:-3] + bytes(3)).hex() and rest == MB - 1
    assert peak - before < 12 * MB and peak < 200 * MB  # the column alone is 24 MB


# ---------------------------------------------------------------------- encodings and ends


def test_an_empty_list_needs_an_algorithm(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"")
    assert list(HashList(str(path), algorithm="sha1")) == []
    with pytest.raises(ListError, match=r"list\.txt is empty: .*--algorithm"):
        HashList(str(path))


def test_invalid_lines_are_reported_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n# a comment\n" + GOOD.encode() + b"\nnonsense\n\xff\xfe\n\n" + OTHER.encode() + b"\n\0\n")
    entries = list(HashList(str(path), algorithm="sha1"))
    assert [(entry.number, entry.digest) for entry in entries] == [
        (3, GOOD),
        (4, None),
        (5, None),
        (7, OTHER),
        (8, None),
    ]


# ---------------------------------------------------------------------- Parquet


@pytest.mark.parametrize(
    "column",
    [pa.array([GOOD, None, OTHER]), pa.array([GOOD, None, OTHER], pa.large_string()),
     pa.array([GOOD, None, OTHER]).dictionary_encode(), pa.array([RAW, None, bytes.fromhex(OTHER)], pa.binary(20)),
     pa.array([RAW, None, bytes.fromhex(OTHER)], pa.binary()),
     pa.array([GOOD.encode(), None, OTHER.encode()], pa.binary()),
     pa.array([RAW, None, bytes.fromhex(OTHER)], pa.large_binary()),
     pa.array([RAW, None, bytes.fromhex(OTHER)]).dictionary_encode()],
    ids=lambda column: str(column.type).split("<values=")[-1].split(",")[0],
)  # fmt: skip
def test_columns_of_text_and_bytes_are_read(column: Any, tmp_path: Path) -> None:
    """Text or bytes, in any of their forms; a null is a row that is no digest."""
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"n": pa.array([1, 2, 3]), "SHA1": column}), path)
    for wanted in (None, "SHA1"):
        entries = list(HashList(str(path), column=wanted, algorithm="sha1"))
        assert [(entry.number, entry.digest) for entry in entries] == [(1, GOOD), (2, None), (3, OTHER)]
        assert entries[1].text == "null"


def test_a_column_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"a": pa.array([GOOD]), "b": pa.array([1])}), path)
    with pytest.raises(ListError, match=r"has the columns 'a', 'b', and no 'c'"):
        HashList(str(path), column="c")
    with pytest.raises(ListError, match="--column"):
        HashList(str(path), algorithm="sha1")
    with pytest.raises(ListError, match=r"column 'b' .*holds int64: expected text"):
        HashList(str(path), column="b")


def test_the_error_for_a_parquet_file_that_breaks_off_names_the_row(tmp_path: Path) -> None:
    """Its end is whole, so it opens; what is damaged in the middle is told with the row."""
    path = tmp_path / "list.parquet"
    digests = [f"{number:040x}" for number in range(50_000)]
    options = {"use_dictionary": False, "compression": "zstd", "row_group_size": 20_000}
    pq.write_table(pa.table({"sha1": digests}), path, **options)
    content = bytearray(path.read_bytes())
    end = int.from_bytes(content[-8:-4], "little") + 8
    for at in range(len(content) // 2, len(content) - end):
        content[at] ^= 0xA5
    path.write_bytes(content)
    entries = HashList(str(path), algorithm="sha1")
    with pytest.raises(ListError, match=r"list\.parquet breaks off after row \d+"):
        assert all(entry.digest == digests[entry.number - 1] for entry in entries)
