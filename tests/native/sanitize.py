"""Proves the C code: a fuzzer over answers, and the transport tests, both with AddressSanitizer and UBSan.

`python -m tests.native.sanitize --seconds 60`; it needs clang with its fuzzer, gcc with libasan, and the headers of
Python and OpenSSL.
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
REPLACED = {"channel.c", "waiter.c", "module.c", "results.c", "group_type.c", "origin_type.c", "requests.c", "memory.c"}
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
FLAGS = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", *SANITIZERS]
# The tests whose requests go over the native transport.
TESTS = [
    "test_http1.py",
    "test_own_connections.py",
    "test_odd_servers.py",
    "test_certificates.py",
    "test_native_connections.py",
    "test_parts.py",
    "test_transport_endings.py",
]
# A fork takes the allocator of gcc's AddressSanitizer along as it is: locked, where another thread allocates. The child
# then hangs in its first `malloc`, which says nothing about the code. These fork while the transfer thread is at work.
ENDING = "test_transport_endings.py::test_a_process_may_exit_in_the_middle_of_transfers"
FORKS = [f"{ENDING}[in a forked child-native-{server}]" for server in ("server", "tls_server")]
FOLDERS = ["bitstore", "ray_integration", "epic", "tests"]
INCLUDE = f"-I{sysconfig.get_path('include')}"
# What both compilers must be able to build: options beside FLAGS, and a header.
PROBES = {"clang": (["-fsanitize=fuzzer"], "openssl/ssl.h"), "gcc": (["-fPIC", "-shared", INCLUDE], "Python.h")}
PROBE = """
#include <%s>
#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) { return data && size == 1 && *data == 1; }
"""


def main() -> int:
    """Run both parts; the first failure ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long the fuzzer runs")
    parser.add_argument("--where-possible", action="store_true", help="where something is missing, say so and succeed")
    options = parser.parse_args()
    reason = missing()
    if reason is None:
        return fuzz(options.seconds) or test()
    text = f"the C code is not run under sanitizers: {reason}"
    if not options.where_possible:
        raise SystemExit(f"error: {text}")
    print(text)
    return 0


def missing() -> str | None:
    """What keeps this machine from it, in a few words; None: nothing."""
    for compiler, (options, header) in PROBES.items():
        if shutil.which(compiler) is None:
            return f"there is no {compiler}"
        with tempfile.TemporaryDirectory(prefix="bitstore-sanitize-") as scratch:
            command = [compiler, *FLAGS, *options, "-x", "c", "-", "-o", f"{scratch}/probe"]
            done = subprocess.run(command, input=PROBE % header, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{compiler} cannot build {header} with them: {done.stderr.strip()}"
    return None


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
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory(prefix="bitstore-sanitize-") as scratch:
        top = Path(scratch)
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, top / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", top)
        module = top / "bitstore/_transport/native/_core.abi3.so"
        sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
        command = ["gcc", *FLAGS, "-fPIC", "-shared", INCLUDE, "-DPy_LIMITED_API=0x030A0000", *sources]
        subprocess.run([*command, "-lssl", "-lcrypto", "-o", str(module)], check=True)
        environment = {
            **os.environ,
            "BITSTORE_NATIVE": "1",
            "LD_PRELOAD": library.stdout.strip(),
            # Python frees little at its end. Memory that is kept after it was freed must not look like a leak.
            "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16:allocator_may_return_null=1",
            "PYTHONPATH": str(top),
        }
        files = sorted(str(path) for pattern in TESTS for path in (top / "tests").glob(pattern))
        # Where a test runs over each transport, only over this one.
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "native", *files]
        pytest += [f"--deselect=tests/{test}" for test in FORKS]
        return subprocess.run(pytest, cwd=top, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
