"""SHA-1 and SHA-256 of several messages at once, by each set of instructions that this processor has."""

from __future__ import annotations

import ctypes
import hashlib
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parent.parent / "bitstore/_transport/native/src"
SHAS = ("sha1", "sha256")  # by their numbers in `enum sha`
AVX2, AVX512, SHA = 1, 2, 4  # `SHA_HAS_...`
WAYS = {"avx2": AVX2, "avx512": AVX512, "sha": SHA, "avx2 and sha": AVX2 | SHA, "avx512 and sha": AVX512 | SHA}
FINDERS = ("sha_way_of", "sha_way_with_openssl")
EDGES = [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 191, 192, 1000, 16384]

Hash = Callable[[list[bytes], list[int]], list[bytes]]


class Way(ctypes.Structure):
    """`struct sha_way`"""

    _fields_ = (
        ("sha", ctypes.c_int),
        ("least", ctypes.c_size_t),
        ("wide", ctypes.c_void_p),
        ("alone", ctypes.c_void_p),
    )


class Message(ctypes.Structure):
    """`struct sha_message`"""

    _fields_ = (
        ("state", ctypes.c_uint32 * 8),
        ("hashed", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("last", ctypes.c_bool),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Two files of those that the extension module is built of, by themselves."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    probe = ["cc", "-E", "-include", "openssl/sha.h", "-x", "c", "/dev/null"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("the headers of OpenSSL are missing")
    built = tmp_path_factory.mktemp("sha") / "sha.so"
    options = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    files = [str(SOURCES / "sha.c"), str(SOURCES / "sha_openssl.c")]
    subprocess.run(["cc", *options, *files, "-lcrypto", "-o", str(built)], check=True)
    loaded = ctypes.CDLL(str(built))
    for finder in FINDERS:
        getattr(loaded, finder).restype = ctypes.c_bool
    loaded.sha_digest.restype = ctypes.c_size_t
    loaded.sha_hash.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return loaded


@pytest.fixture(params=WAYS)
def features(request: pytest.FixtureRequest, library: ctypes.CDLL) -> int:
    wanted = WAYS[request.param]
    if wanted & library.sha_features() != wanted:
        pytest.skip(f"this processor lacks {request.param}")
    return wanted


@pytest.fixture(params=FINDERS)
def finder(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=SHAS)
def hashed(request: pytest.FixtureRequest, library: ctypes.CDLL, features: int, finder: str) -> Hash:
    """What hashes bodies, each in two parts: bytes of the first one are the second argument."""
    way = Way()
    assert getattr(library, finder)(ctypes.byref(way), SHAS.index(request.param), features)
    assert bool(way.alone) == (finder == "sha_way_with_openssl" or bool(features & SHA))

    def run(bodies: list[bytes], first: list[int]) -> list[bytes]:
        messages = [Message() for _ in bodies]
        table = (ctypes.c_void_p * len(bodies))(*(ctypes.addressof(each) for each in messages))
        kept = [ctypes.create_string_buffer(body, len(body)) if body else None for body in bodies]
        for message, buffer, part in zip(messages, kept, first, strict=True):
            library.sha_begin(way.sha, ctypes.byref(message))
            message.data, message.size = ctypes.addressof(buffer) if buffer else None, part
        library.sha_hash(ctypes.byref(way), table, len(bodies))
        for message, body, part in zip(messages, bodies, first, strict=True):
            assert message.hashed == part
            message.data = message.data + part if part else message.data
            message.size, message.last = len(body) - part, True
        library.sha_hash(ctypes.byref(way), table, len(bodies))
        digest = ctypes.create_string_buffer(32)
        found = []
        for message in messages:
            size = library.sha_digest(way.sha, ctypes.byref(message), digest)
            found.append(digest.raw[:size])
        return found

    run.__name__ = request.param
    return run


def right(hashed: Any, bodies: list[bytes]) -> list[bytes]:
    return [hashlib.new(hashed.__name__, body).digest() for body in bodies]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 16, 23])
def test_messages_of_all_lengths_around_a_block_have_the_digests_of_hashlib(hashed: Hash, count: int) -> None:
    dice = random.Random(count)
    bodies = [dice.randbytes(size) for size in EDGES for _ in range(count)]
    for start in range(0, len(bodies), count):
        some = bodies[start : start + count]
        assert hashed(some, [0] * count) == right(hashed, some)


def test_messages_of_different_lengths_in_parts_have_the_digests_of_hashlib(hashed: Hash) -> None:
    dice = random.Random(1)
    for _ in range(100):
        bodies = [dice.randbytes(dice.choice([*EDGES, dice.randrange(5000)])) for _ in range(dice.randrange(20))]
        parts = [dice.randrange(len(body) + 1) // 64 * 64 for body in bodies]
        assert hashed(bodies, parts) == right(hashed, bodies)


def test_no_message_has_no_digest(hashed: Hash) -> None:
    assert hashed([], []) == []


def test_a_processor_without_such_instructions_has_no_way(library: ctypes.CDLL) -> None:
    for finder in FINDERS:
        assert not any(getattr(library, finder)(ctypes.byref(Way()), sha, 0) for sha in range(len(SHAS)))
