"""Proves the C code: a fuzzer over answers, and the transport tests, both with AddressSanitizer and UBSan.

`python -m tests.native.sanitize --seconds 60`; it needs clang and a C compiler with libasan (gcc).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tests.native.seeds import write_seeds

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "bitstore/_transport/native/src"
BUILD = ROOT / "build/sanitize"
# What the fuzzer has in place of sockets; and what knows Python.
REPLACED = {"channel.c", "waiter.c", "module.c", "results.c", "group_type.c", "origin_type.c"}
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
FLAGS = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", *SANITIZERS]
# The tests whose requests go over the native transport.
TESTS = [
    "test_http1.py",
    "test_own_connections.py",
    "test_odd_servers.py",
    "test_certificates.py",
    "test_native_choice.py",
    "test_native_connections.py",
]
FOLDERS = ["bitstore", "ray_integration", "epic", "tests"]


def main() -> int:
    """Run both parts; the first failure ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long the fuzzer runs")
    options = parser.parse_args()
    if shutil.which("clang") is None:
        raise SystemExit("error: the fuzzer needs clang (package clang)")
    return fuzz(options.seconds) or test()


def fuzz(seconds: int) -> int:
    """Build the fuzzer and run it; inputs that it found worth keeping stay in build/sanitize/corpus."""
    corpus = BUILD / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    write_seeds(corpus)
    sources = [str(path) for path in sorted(SOURCES.glob("*.c")) if path.name not in REPLACED]
    fuzzer = BUILD / "fuzz"
    command = [
        "clang",
        *FLAGS,
        "-fsanitize=fuzzer",
        "-DFIRST_LARGE=80000",
        f"-I{SOURCES}",
        str(ROOT / "tests/native/fuzz.c"),
        *sources,
    ]
    subprocess.run([*command, "-lssl", "-lcrypto", "-o", str(fuzzer)], check=True)
    limits = [f"-max_total_time={seconds}", "-max_len=100000", "-len_control=0", "-timeout=20", "-print_final_stats=1"]
    return subprocess.run([fuzzer, *limits, f"-artifact_prefix={BUILD}/", corpus], check=False).returncode


def test() -> int:
    """Run the transport tests over an extension module that was built with the sanitizers."""
    compiler = shutil.which("gcc") or "cc"
    library = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory(prefix="bitstore-sanitize-") as scratch:
        top = Path(scratch)
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, top / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", top)
        module = top / "bitstore/_transport/native/_core.abi3.so"
        include = f"-I{sysconfig.get_path('include')}"
        sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
        command = [compiler, *FLAGS, "-fPIC", "-shared", include, "-DPy_LIMITED_API=0x030A0000", *sources]
        subprocess.run([*command, "-lssl", "-lcrypto", "-o", str(module)], check=True)
        environment = {
            **os.environ,
            "BITSTORE_NATIVE": "1",
            "LD_PRELOAD": library.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
            "PYTHONPATH": str(top),
        }
        files = sorted(str(path) for pattern in TESTS for path in (top / "tests").glob(pattern))
        # Where a test runs over each transport, only over this one.
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "native", *files]
        return subprocess.run(pytest, cwd=top, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
