"""Formats of hash lists: each is known by its content, no digest is lost, and what is wrong is reported by row."""

from __future__ import annotations

import base64
import bz2
import codecs
import gzip
import hashlib
import lzma
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from bitstore._digests.hash_list import Entry, HashList, ListError
from bitstore._digests.lists.rows import LONGEST
from tests.test_hash_lists import GOOD, MB, OTHER, linux, through_a_pipe

MD5, SHA256 = "a" * 32, "b" * 64
NO_DIGEST = "not a digest: a sha1 has 40 hexadecimal characters"
TEXT = f"{GOOD}\n{OTHER}\n".encode()


def read(path: Path, content: bytes | str, **options: Any) -> list[Entry]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(HashList(str(path), **options))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list"


# ---------------------------------------------------------------------- lines


@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8], ids=["plain", "bom"])
@pytest.mark.parametrize(
    "content",
    [
        f"{GOOD}\n{OTHER}\n",
        f"{GOOD}\n{OTHER}",
        f"{GOOD}\r\n{OTHER}\r\n",
        f"{GOOD}\r\n{OTHER}",
        f"{GOOD}\n{OTHER}\n".upper(),
        f"# mine\n\n  {GOOD}\t\n\n sha1://{OTHER}",
        f"{GOOD} name\n{OTHER}  \n",
        f"{GOOD}  a file.bin\n{OTHER} *b\udcff",
        f"\\{GOOD}  a\\\\b\n{OTHER}  -\n",
        f"{GOOD}\r{OTHER}\r",
        f"{GOOD}\r{OTHER}",
        f"{GOOD}\0{OTHER}\0",
        f"{GOOD}\0{OTHER}",
        f"{GOOD}  a\r{OTHER}  b\r",
        f"{GOOD}  a\0{OTHER}  b\0",
        f"{GOOD}  a\nb\0{OTHER}  c\r\nd\0",
        f"{GOOD}\n{OTHER}\r",
        f"{GOOD}\r{OTHER}\n",
        f"SHA1 (a file) = {GOOD}\nSHA1 (b) = {OTHER}\n",
        f"\\SHA1 (a\\nb) = {GOOD}\nSHA1 (b) = x) = {OTHER}\n",
        f"SHA1(a)= {GOOD}\nSHA-1(stdin)= {OTHER}\n",
        f"(stdin)= {GOOD}\nSHA1(-)= {OTHER.upper()}\n",
        f"{GOOD} a\n{OTHER} *b\n",
        f"{GOOD} {GOOD}\n{OTHER}  {OTHER}\n",
        f"SHA1 (a\nb) = {GOOD}\0SHA1 (c) = {OTHER}\0",
        f"# comment\r\r{GOOD}\r# another\r{OTHER}",
        f"{GOOD}\n\ufeff{OTHER}\n",  # two lists, one after the other
        f"\x0c{GOOD}\n\x0b {OTHER}\t\n",
    ],
)
def test_lines_of_every_program_are_read(content: str, bom: bytes, path: Path) -> None:
    for algorithm in (None, "sha1"):
        entries = read(path, bom + content.encode(errors="surrogateescape"), algorithm=algorithm)
        assert [entry.digest for entry in entries] == [GOOD, OTHER]
        assert not any(entry.reason for entry in entries)


@pytest.mark.parametrize("options", [["-z"], ["--tag"], ["--tag", "-z"], ["-b"], ["-b", "-z"], []])
def test_the_output_of_sha1sum_is_read_in_every_form(options: list[str], path: Path) -> None:
    names = ["a", " b", "c (d) = e", "f\ng", "h\ri", "j\\k", "l\n" + GOOD[:-1], "ünïcode"]
    for number, name in enumerate(names):
        path.with_name(name).write_bytes(b"%d" % number)
    out = subprocess.run(["sha1sum", *options, *names], cwd=path.parent, stdout=subprocess.PIPE, check=True).stdout
    expected = [hashlib.sha1(b"%d" % number).hexdigest() for number in range(len(names))]
    entries = read(path, out)
    # Without -z, releases of coreutils before 9 leave a CR in a name as it is: the rest of that name is reported.
    assert [entry.digest for entry in entries if entry.digest] == expected
    assert all(entry.reason == NO_DIGEST for entry in entries if not entry.digest)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{GOOD},name", NO_DIGEST),
        (f"{GOOD}\tname", NO_DIGEST),
        (f"{GOOD} {OTHER}", "two digests on one line"),
        (f"{GOOD}\0{OTHER}", NO_DIGEST),
        (f"{GOOD} {OTHER} {GOOD}", "two digests on one line"),
        (f"{GOOD} {GOOD} {GOOD}", "two digests on one line"),
        (f"{GOOD}  {OTHER}  {GOOD}", "two digests on one line"),
        (f"0x{GOOD}", NO_DIGEST),
        (f"sha1-{base64.b64encode(bytes.fromhex(GOOD)).decode()}", NO_DIGEST),
        (":".join(GOOD[at : at + 2] for at in range(0, 40, 2)), NO_DIGEST),
        (f"{GOOD}{OTHER}", NO_DIGEST),
        (f"x {GOOD}", NO_DIGEST),
        (f"x {GOOD}  name", NO_DIGEST),
        (f"{GOOD}a  name", NO_DIGEST),
        (f"SHA1 (a) = {GOOD} and more", NO_DIGEST),
        (f"SHA1 (a) = {GOOD[:-1]}", "39 characters, and a digest of SHA1 is longer or shorter"),
        (f"SHA512/256 (a) = {SHA256}", "a digest of SHA512/256, which is none of sha1, sha256, md5"),
        (f"SHA3-256(a)= {SHA256}", "a digest of SHA3-256, which is none of sha1, sha256, md5"),
        (f"SHA2-256(a)= {SHA256}", "the length is that of sha256, not of sha1"),
        (f"MD5 (a) = {MD5}", "the length is that of md5, not of sha1"),
        (f"{MD5}  name", "the length is that of md5, not of sha1"),
        (f"{GOOD}  {'n' * LONGEST}", f"longer than {LONGEST} characters"),
        (GOOD + " " * 3 + "n" * LONGEST, f"longer than {LONGEST} characters"),
        ("nan", NO_DIGEST),
        ("12345", NO_DIGEST),
    ],
)
def test_a_line_with_missing_or_extra_parts_is_reported(line: str, reason: str, path: Path) -> None:
    for algorithm in (None, "sha1"):
        bad, *good = read(path, f"{GOOD}\n{line}\n{OTHER}\n", algorithm=algorithm)[1:]
        assert (bad.number, bad.digest, bad.reason) == (2, None, reason)
        assert line.startswith(bad.text) or bad.text in (MD5, SHA256)
        assert [entry[:3] for entry in good] == [(3, OTHER, OTHER)]


def test_a_line_end_cut_between_two_pieces_counts_once(path: Path) -> None:
    """The digests are shifted byte by byte over the border between two reads."""
    for shift in range(45):
        text = f"# {'x' * (65536 - 60 + shift)}\r\n" + f"{GOOD}\r\n" * 5
        entries = read(path, text)
        assert [entry.number for entry in entries] == [2, 3, 4, 5, 6]
        assert {entry.digest for entry in entries} == {GOOD}


def test_an_unsupported_encoding_of_a_list_is_named(path: Path) -> None:
    packed = [TEXT.decode().encode(name) for name in ("utf-16", "utf-32", "utf-16-le", "utf-16-be")]
    for content in (*packed, codecs.BOM_UTF16_BE + packed[-1]):
        with pytest.raises(ListError, match=r"list is UTF-(16|32) text: save it as UTF-8"):
            read(path, content, algorithm="sha1")


def test_a_failed_tsv_is_read_whatever_marks_and_ends_it_has(path: Path) -> None:
    content = codecs.BOM_UTF8 + f"{GOOD}\tTimeout: a b\r\n{OTHER}\tx\ty\r\nbad\tz\r\n".encode()
    for packed in (content, gzip.compress(content)):
        entries = read(path, packed, algorithm="sha1", failures=True)
        assert [entry.digest for entry in entries] == [GOOD, OTHER, None]


# ---------------------------------------------------------------------- several algorithms


def test_the_majority_of_digests_decides_the_algorithm(path: Path) -> None:
    entries = read(path, f"# MD5\n{MD5}\n# SHA256\n{SHA256}\n{SHA256}\n")
    assert [entry.digest for entry in entries] == [None, SHA256, SHA256]
    assert entries[0].reason == "the length is that of md5, not of sha256"


@pytest.mark.parametrize("content", [f"{MD5}\n{GOOD}\n", f"{MD5}\n{GOOD}\n{SHA256}\n", f"md5\n{GOOD}\n{MD5}\n"])
def test_a_list_without_a_majority_needs_a_named_algorithm(content: str, path: Path) -> None:
    with pytest.raises(ListError, match=r"holds 1 \w+ and 1 .* digests: say which are meant \(--algorithm\)"):
        read(path, content)
    assert [entry.digest for entry in read(path, content, algorithm="sha1") if entry.digest] == [GOOD]


@pytest.mark.parametrize("algorithm", [None, "sha1"])
@pytest.mark.parametrize(
    "content",
    [b"\x7fELF" + bytes(range(256)) * 300, b"some prose\nin lines\n", b"\0" * 1000 + b"x", b"\0" * 1000, b"<html>\n"],
)
def test_a_file_that_is_no_list_is_refused_for_any_algorithm(content: bytes, algorithm: str | None, path: Path) -> None:
    with pytest.raises(ListError, match="list begins with no sha1, sha256, md5 digest but with '"):
        read(path, content, algorithm=algorithm)


# ---------------------------------------------------------------------- tables of text


@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8], ids=["plain", "bom"])
@pytest.mark.parametrize(
    ("content", "column"),
    [
        (f"sha1,name\n{GOOD},a\n{OTHER},b\n", None),
        (f"name;SHA-1\r\na;{GOOD}\r\nb;{OTHER}", None),
        (f"name\tsha1\ra\t{GOOD}\rb\t{OTHER}\r", None),
        (f"# from somewhere\n\nname|Sha 1\na|{GOOD}\nb|{OTHER}\n", None),
        (f'"sha1", "a ""note"""\n"{GOOD}", "x, y"\n{OTHER}, "two\nlines"\n', None),
        (f"sha1\n{GOOD}\n{OTHER}\n", None),
        (f'"Digest"\n"{GOOD}"\n"{OTHER}"\n', None),
        (f"hash,size\n{GOOD},1,\n{OTHER},2,,\n", None),
        (f"size,key\n1,{GOOD}\n2,{OTHER}\n", "key"),
        (f"key\n{GOOD}\n{OTHER}\n", "key"),
        (f"sha1,md5,sha256\n{GOOD},{MD5},{SHA256}\n{OTHER},{MD5},{SHA256}\n", "sha1"),
        (f"sha1,name\n{GOOD}\n# a comment\n{OTHER}\n", None),
        (f'{{"sha1": "{GOOD}", "n": 1}}\n\n{{"n": {{"sha1": 5}}, "sha1": "{OTHER}"}}\n', None),
        (f'{{"size": 5, "SHA1": "sha1://{GOOD}"}}\r\n{{"SHA1": "{OTHER}"}}', None),
        (f'{{"key": "{GOOD}"}}\n{{"key": "{OTHER}"}}\n', "key"),
        (f'"{GOOD}"\n"{OTHER}"\n', None),
        (f'{{"sha1": "{GOOD}"}}\n{OTHER}\n', None),
    ],
)
def test_csv_with_a_header_and_json_lines_are_read(content: str, column: str | None, bom: bytes, path: Path) -> None:
    algorithms = [None, "sha1"] if column is None else ["sha1"]
    for algorithm in algorithms:
        entries = read(path, bom + content.encode(), column=column, algorithm=algorithm)
        assert [entry.digest for entry in entries] == [GOOD, OTHER]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"sha1,name\n{GOOD},a,b\n", "3 fields, and the header has 2"),
        ("name,sha1\na\n", "no value in the column 'sha1'"),
        ("sha1,name\n,a\n", "no value in the column 'sha1'"),
        ("sha1,name\nNaN,a\n", NO_DIGEST),
        ("sha1,name\n5,a\n", NO_DIGEST),
        (f"sha1,name\n{SHA256},a\n", "the length is that of sha256, not of sha1"),
        (f"sha1,name\n{GOOD},{'x' * LONGEST}\n", f"longer than {LONGEST} characters"),
        (f'sha1,name\n{GOOD},"a\n{GOOD},b"\n', "quotes around several lines with digests"),
        ('{"sha1": null}\n', "null"),
        ('{"name": "a", "size": 5}\n', "no values of 'sha1'"),
        ('{"sha1": NaN}\n', "null"),
        ('{"sha1": 5}\n', "expected a sha1 digest as bytes or str, got int 5"),
        ('{"sha1": ["a"]}\n', "expected a sha1 digest as bytes or str, got list"),
        ('{"sha1": "a"}\n{"sha": 1}\n', "no values of 'sha1'"),
        (f'{{"sha1": "a"}}\n{{"sha1": "{GOOD}", "sha1": "{OTHER}"}}\n', "2 values of 'sha1'"),
        (f'{{"sha1": "a"}}\n{{"sha1": "{GOOD}"}} {{"sha1": "{GOOD}"}}\n', "not a JSON object"),
        (f'{{"sha1": "a"}}\n{{"sha1": "{GOOD}"\n', "not a JSON object"),
        ('{"sha1": "a"}\n' + '{"a":' * 100_000 + "\n", f"longer than {LONGEST} characters"),
        ('{"sha1": "a"}\n' + '{"a":' * 10_000 + "\n", "not a JSON object"),
        ('{"sha1": "a"}\n{"sha1": ' + "9" * 5000 + "}\n", "not a JSON object"),
        ('{"sha1": "a"}\n{"sha1": "\\ud800"}\n', NO_DIGEST),
    ],
)
def test_a_bad_row_of_a_table_is_reported_and_the_others_are_read(content: str, reason: str, path: Path) -> None:
    content += f"{OTHER},b\n" if content.startswith(("sha1", "name")) else f'{{"sha1": "{OTHER}"}}\n'
    content = content.replace(f"\n{OTHER},b\n", f"\nb,{OTHER}\n") if content.startswith("name") else content
    *bad, last = read(path, content, algorithm="sha1")
    assert (bad[-1].digest, bad[-1].reason) == (None, reason)
    assert last.digest == OTHER


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ("sha1,name,sha1\n", None, "has the columns 'sha1', 'name', 'sha1', of which 2 are called 'sha1': rename"),
        ("sha1,name,sha1\n", "sha1", "has the columns 'sha1', 'name', 'sha1', and 2 'sha1': rename all but one"),
        ("sha1,SHA1\n", None, "of which 'sha1', 'SHA1' may hold the digests: say which does (--column)"),
        ("digest,hash\n", None, "of which 'digest', 'hash' may hold the digests: say which does (--column)"),
        ("name,size\n", "sha1", "has the columns 'name', 'size', and no 'sha1'"),
        (f"{GOOD}\n", "sha1", "is no table with a header, so it has no column 'sha1'"),
        ('{"sha1": 1, "sha1": 2}\n', None, "of which 2 are called 'sha1'"),
        ('{"sha1": 1, "Sha1": 2}\n', None, "of which 'sha1', 'Sha1' may hold the digests"),
        ('{"name": 1}\n', None, "has the columns 'name': say which of them holds the digests (--column)"),
        ('{"name": 1}\n', "sha1", "has the columns 'name', and no 'sha1'"),
        (f'"{GOOD}"\n', "sha1", "has texts and no objects on its lines, so it has no key 'sha1'"),
        (f'["{GOOD}"]\n', None, "is JSON, but not one object on each line"),
        (f'[\n{{"sha1": "{GOOD}"}}\n]', None, "is JSON, but not one object on each line"),
        (f'{{\n"sha1": "{GOOD}"\n}}', None, "is JSON, but not one object on each line"),
        (f'sha1,name\n{GOOD},"a\n{OTHER},b\n', None, "breaks off in the row after line 1: unexpected end of data"),
    ],
)
def test_a_table_with_no_clear_column_is_refused(content: str, column: str | None, message: str, path: Path) -> None:
    with pytest.raises(ListError) as caught:
        read(path, content, column=column, algorithm="sha1")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_columns_of_several_algorithms_are_ambiguous_until_one_is_named(path: Path) -> None:
    content = f"md5,sha1,sha256\n{MD5},{GOOD},{SHA256}\n"
    with pytest.raises(ListError, match=r"'md5', 'sha1', 'sha256', of which .* say which does \(--column\)"):
        read(path, content)
    assert [entry.digest for entry in read(path, content, algorithm="sha256")] == [SHA256]
    assert [entry.digest for entry in read(path, content, column="md5")] == [MD5]


def test_the_name_of_a_column_decides_the_algorithm_where_no_digest_does(path: Path) -> None:
    path.write_text("sha256,name\n,a\nNaN,b\n")
    entries = HashList(str(path))
    assert entries.algorithm.name == "sha256"
    assert [entry.digest for entry in entries] == [None, None]


def test_a_sum_of_several_lines_in_a_list_that_ends_lines_with_nul_is_reported(path: Path) -> None:
    entries = read(path, f"{GOOD}  a\0{GOOD}  a\n{OTHER}  b\n\0{OTHER}\0")
    assert [entry.digest for entry in entries] == [GOOD, None, OTHER]
    assert entries[1].reason == "two digests on one line"


def test_a_tar_archive_is_refused_by_name(path: Path) -> None:
    path.with_name("inner").write_text(f"{GOOD}\n")
    for mode in ("w", "w:gz"):
        with tarfile.open(path, mode) as archive:
            archive.add(path.with_name("inner"), "inner")
        with pytest.raises(ListError, match="list is a tar archive: give the list that is in it"):
            HashList(str(path), algorithm="sha1")


def test_a_path_that_no_system_takes_is_refused_by_name() -> None:
    with pytest.raises(ListError, match="cannot read the list a\0b: embedded null byte"):
        HashList("a\0b")


def test_a_closed_standard_input_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it where the descriptor is closed
    with pytest.raises(ListError, match="cannot read the list from standard input: it is closed"):
        HashList("-")


def piped(path: Path, content: bytes) -> list[Entry]:
    """The entries of a named pipe that is written once. A list that opens it again would wait for ever."""
    os.mkfifo(path)
    writing = threading.Thread(target=path.write_bytes, args=[content], daemon=True)
    writing.start()
    try:
        return list(HashList(str(path)))
    finally:
        writing.join(30)


def test_a_pipe_is_read_once_and_one_with_parquet_is_refused(tmp_path: Path) -> None:
    assert [entry.digest for entry in piped(tmp_path / "plain", TEXT)] == [GOOD, OTHER]
    assert [entry.digest for entry in piped(tmp_path / "packed", gzip.compress(TEXT))] == [GOOD, OTHER]
    with pytest.raises(ListError, match="table is a pipe with a Parquet file: give the path of the file itself"):
        piped(tmp_path / "table", b"PAR1" + bytes(100))


# ---------------------------------------------------------------------- Parquet

TWICE = pa.Table.from_arrays([pa.array([GOOD]), pa.array([OTHER])], names=["sha1", "sha1"])


@pytest.mark.parametrize("column", [None, "sha1"])
def test_two_columns_of_one_name_in_a_parquet_file_are_refused(column: str | None, path: Path) -> None:
    pq.write_table(TWICE, path)
    with pytest.raises(ListError, match=r"has the columns 'sha1', 'sha1', .*rename all but one"):
        HashList(str(path), column=column)


def test_rows_of_parquet_that_are_not_utf_8_or_of_another_length_are_reported(path: Path) -> None:
    column = pa.array([GOOD.encode(), b"\xff" * 40, None, b"nan", OTHER.encode()], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"sha1": column}), path)
    entries = list(HashList(str(path)))
    assert [entry.digest for entry in entries] == [GOOD, None, None, None, OTHER]
    assert [entry.reason for entry in entries] == ["", NO_DIGEST, "null", NO_DIGEST, ""]
    assert entries[1].text == r"\xff" * 40


def test_raw_sha256_and_md5_in_parquet_are_told_apart(path: Path) -> None:
    raw = hashlib.sha256(b"").digest()
    pq.write_table(pa.table({"hash": pa.array([raw, raw, MD5.encode()], pa.binary())}), path)
    entries = list(HashList(str(path)))
    assert [entry.digest for entry in entries] == [raw.hex(), raw.hex(), None]
    assert entries[2].reason == "the length is that of md5, not of sha256"


# ---------------------------------------------------------------------- compressed

SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "zstd-skippable": lambda data: SKIPPABLE + zstandard.compress(data) + SKIPPABLE,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
LONG = "".join(f"{hashlib.sha1(b'%d' % number).hexdigest()}\n" for number in range(5_000)).encode()


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_lists_are_expanded_while_they_are_read(kind: str, path: Path) -> None:
    pack = PACKERS[kind]
    digests = LONG.decode().split()
    for content in (pack(LONG), pack(LONG[:410]) + pack(b"") + pack(LONG[410:]), pack(codecs.BOM_UTF8 + LONG)):
        assert [entry.digest for entry in read(path, content)] == digests
    assert [entry.digest for entry in read(path, pack(f"sha1,n\n{GOOD},1\n".encode()))] == [GOOD]
    with pytest.raises(ListError, match="list is empty"):
        read(path, pack(b""))
    with pytest.raises(ListError, match="is UTF-16 text"):
        read(path, pack(TEXT.decode().encode("utf-16")))


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "zstd-skippable"])
def test_damaged_compressed_lists_are_refused_by_name(kind: str, path: Path) -> None:
    packed = PACKERS[kind](LONG)
    for content, message in [
        (packed[: len(packed) // 2], f"the {kind} file is cut"),
        (packed[:-1], f"the {kind} file is cut"),
        (packed + b"junk", f"something follows the end of the {kind} file"),
        (packed + TEXT, f"something follows the end of the {kind} file"),
        (
            packed[:200] + bytes(200) + packed[400:],
            f"list: {kind}:|list breaks off after line [0-9]+: {kind}:|the {kind} file is cut",
        ),
        (packed[:6], f"the {kind} file is cut"),
    ]:
        with pytest.raises(ListError, match=message):
            read(path, content)
    assert len(read(path, packed + bytes(1024))) == 5_000  # padding


@linux
@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_a_list_that_is_a_compression_bomb_takes_bounded_memory(kind: str, path: Path) -> None:
    bomb = PACKERS[kind](TEXT + b"x" * 60_000_000)
    path.write_bytes(bomb)
    code = f"""
    report([(entry.digest, len(entry.text)) for entry in HashList({str(path)!r})])
    """
    entries, peak = through_a_pipe(code, b"", 0)
    assert entries == [[GOOD, 40], [OTHER, 40], [None, LONGEST]]
    assert peak < 150 * MB


def test_a_zstd_window_that_takes_too_much_memory_is_refused(path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29, "preset": 0}]
    with pytest.raises(ListError, match="xz: Memory usage limit exceeded"):
        read(path, lzma.compress(TEXT, filters=filters))
