"""Fuzzing without a coverage-guided fuzzer: random changes of the committed inputs. It runs on every Python."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence

__all__ = ["Broken", "mutants", "run"]

_TELLING = [
    b"\0", b"\xff", b"\n", b"\r\n", b"\t", b" ", b"/", b"..", b"//", b"%", b"%00", b"%2e", b"?", b"#", b"@", b":", b"{",
    b"}", b"{digest}",
    b"[", b"]", b"[" * 300, b"{" * 300, b"<", b">", b"<Error>", b"</Error>", b"<Code>", b"&amp;", b'"',
    b"'", b"\\", b"=", b"0", b"9", b"-1", b"18446744073709551616", b"9" * 30, b"1e999", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xed\xa0\x80", "\u0661".encode(), "\uff11".encode(), "\u202e".encode(), b"s3://", b"a" * 40, b"PAR1", b"\x1f\x8b",
]  # fmt: skip


class Broken(AssertionError):
    """An input for which a target raised what it should not."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(f"{name} fails for {data!r}")


def mutants(inputs: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Endlessly many variations of `inputs`; the same ones for the same seed."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            at = chance.randint(0, len(data))
            end = min(len(data), at + chance.choice((0, 1, 1, 2, 8, 64)))
            what = chance.randrange(6)
            if what == 0:
                data[at:end] = b""
            elif what == 1:
                data[at:end] = chance.randbytes(end - at)
            elif what == 2:
                data[at:end] = chance.choice(_TELLING)
            elif what == 3:
                other = chance.choice(inputs)
                begin = chance.randint(0, len(other))
                data[at:end] = other[begin : begin + chance.choice((1, 8, 64))]
            elif what == 4:
                data[at:at] = data[at:end] * chance.choice((1, 2, 100))
            elif data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
        yield bytes(data[:4096])


def run(
    name: str, target: Callable[[bytes], None], inputs: Sequence[bytes], *, seed: int, count: int, seconds: float = 1e9
) -> int:
    """Give `count` mutants to `target`, but begin none after `seconds`; returns how many were tried.

    Raises
    ------
    Broken
        One of them is an input that fails.
    """
    until = time.monotonic() + seconds
    tried = 0
    for data in mutants(inputs, seed):
        if tried >= count or time.monotonic() > until:
            break
        try:
            target(data)
        except Exception as error:
            raise Broken(name, data) from error
        tried += 1
    return tried
