"""The first inputs of the fuzzer: answers as servers give them, behind decisions of `fuzz.c`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_seeds"]

END = b"\x1e"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x="y"\r\nlo\r\n0\r\nX: y\r\n\r\n'
ANSWERS = {
    "length": OK,
    "chunks": CHUNKED,
    "missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone",
    "old": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000,
    "huge": b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n" + b"x" * 100,
    "two in one": OK + OK,
    "unclear": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "cut": OK[:-2],
}
# Whole answers; in pieces; and in pieces, with all that the sanitizers should see: digests, limits, several at once.
DECISIONS = {
    "whole": bytes(48),
    "pieces": bytes([0, 1, 2, 3, 4, 2, 3] + [7] * 41),
    "more": bytes([4, 2, 2, 2, 2, 2, 2] + [60] * 41),
}


def write_seeds(folder: Path) -> None:
    """Write an input for each answer and way of deciding."""
    for name, answer in ANSWERS.items():
        for how, decisions in DECISIONS.items():
            seed = folder / f"{name} {how}".replace(" ", "-")
            seed.write_bytes(decisions + (answer + END) * 3 + OK + END)
