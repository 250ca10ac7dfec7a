from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bitstore._support.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("0", 0),
        ("4096", 4096),
        ("200GB", 200 * 10**9),
        ("512MiB", 512 * 2**20),
        ("1.5 TB", 1_500_000_000_000),
        (" 1.5kib ", 1536),
        ("7b", 7),
        ("3G", 3 * 10**9),
        ("1.9999B", 1),
        ("7EiB", 7 * 2**60),
    ],
)
def test_a_text_of_a_size_is_parsed_to_bytes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


BAD = ["", " ", "GB", "1,5GB", "-1", "1e9", "200 apples", "1GBB", "1 G B", "1iB", "\u0663GB", "1GB\0", "1.GB", ".5GB"]


@pytest.mark.parametrize("text", [*BAD, "9" * 5000, "nan", "0x10", None, 1.5, True, b"1GB", [1]])
def test_an_invalid_size_is_refused_by_name(text: Any) -> None:
    with pytest.raises(ValueError, match=r"cache_size .* is not a size: give bytes as an int, or a text"):
        parse_size(text, name="cache_size")


@pytest.mark.parametrize("text", [-1, 2**63, "8EiB", "99999EB"])
def test_a_size_out_of_range_is_refused_by_name(text: Any) -> None:
    with pytest.raises(ValueError, match=r"size .* is out of range"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (1000, "1kB"),
        (1024, "1KiB"),
        (1_500_000, "1.5MB"),
        (200 * 10**9, "200GB"),
        (1001, "1001B"),
    ],
)
def test_a_size_is_written_with_its_unit(size: int, text: str) -> None:
    assert format_size(size) == text


sizes = some.integers(0, 2**63 - 1)
round_sizes = some.integers(0, 9999).map(lambda n: n * 10**8) | some.integers(0, 99).map(lambda n: n << 30)


@given(sizes | round_sizes)
def test_a_written_size_is_parsed_to_about_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size
