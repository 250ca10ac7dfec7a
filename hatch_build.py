"""Builds the native transport into the wheel where a compiler and the headers are there; docs/native.md.

By itself, `python hatch_build.py` builds it in place, beside the Python of the checkout.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
FOLDER = "bitstore/_transport/native"  # of the extension module, in the checkout and in the wheel
SWITCH = "BITSTORE_BUILD_NATIVE"  # 0: built without; 1: an error where it cannot be built; otherwise: where it can be
STRICT = "BITSTORE_BUILD_STRICT"  # 1: warnings of the compiler are errors
# Later Pythons load what was built for this one. A free-threaded Python loads only what was built for itself.
OLDEST = "0x030A0000"
SHARED = not sysconfig.get_config_var("Py_GIL_DISABLED")
# What must compile before anything else is tried, and the reason if it does not.
OPENSSL = "#include <openssl/ssl.h>\n"
PROBES = (
    ("", "the C compiler {cc} does not work"),
    ("#include <Python.h>", "the headers of Python are missing (package python3-dev or python3-devel)"),
    (OPENSSL, "the headers of OpenSSL are missing (package libssl-dev or openssl-devel)"),
    (OPENSSL + "#if defined LIBRESSL_VERSION_NUMBER || OPENSSL_VERSION_NUMBER < 0x10101000L\n#error\n#endif",
     "the headers of OpenSSL are not those of version 1.1.1 or newer"),
)  # fmt: skip


class NotBuilt(Exception):
    """Why there is no extension module, in a few words."""


class NativeTransport(BuildHookInterface[Any]):
    """The hook of the wheel, and of the editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the extension module, and give the wheel its tag; or say why not."""
        switch = os.environ.get(SWITCH, "")
        if switch not in ("", "0", "1"):
            self.app.abort(f"{SWITCH}={switch}: it is 0, 1 or not set")
        self._spare = tempfile.TemporaryDirectory(
            prefix="bitstore-native-"
        )  # emptied at the end of the process at the latest
        try:
            if switch == "0":
                raise NotBuilt(f"{SWITCH}=0")
            built = build(Path(self._spare.name))
        except NotBuilt as reason:
            if switch == "1":
                self.app.abort(f"native transport: not built, and {SWITCH}=1 wants it: {reason}")
            self.app.display_warning(f"native transport: not built: {reason}")
            return
        self.app.display_info(f"native transport: built ({built.name})")
        if version == "editable":
            put(built)
            return
        build_data["force_include"][str(built)] = f"{FOLDER}/{built.name}"
        build_data["pure_python"] = False
        tag = self.build_config.builder.get_best_matching_tag()
        build_data["tag"] = f"cp310-abi3-{tag.rpartition('-')[2]}" if SHARED else tag

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel holds by now."""
        self._spare.cleanup()


def build(folder: Path) -> Path:
    """The path of the extension module, built in `folder`. Raises `NotBuilt`."""
    if sys.implementation.name != "cpython" or os.name != "posix":
        raise NotBuilt("it is for CPython on Linux and macOS")
    told = (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc")
    compiler = next((each for each in told if each and shutil.which(shlex.split(each)[0])), None)
    if compiler is None:
        raise NotBuilt("there is no C compiler (cc)")
    flags, libraries = openssl()
    include = sysconfig.get_paths()
    headers = [f"-I{include[name]}" for name in ("include", "platinclude")]
    for code, reason in PROBES:
        command = [*shlex.split(compiler), *shlex.split(os.environ.get("CPPFLAGS", "")), *flags, *headers]
        probe = subprocess.run(
            [*command, "-fsyntax-only", "-x", "c", "-"], input=code, text=True, capture_output=True, check=False
        )
        if probe.returncode:
            print(probe.stderr, file=sys.stderr)
            raise NotBuilt(reason.format(cc=compiler))
    try:
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
        from setuptools.errors import BaseError
    except ImportError as error:
        raise NotBuilt(f"setuptools is missing ({error})") from error
    os.environ["CC"] = compiler
    extension = Extension(
        "_core",
        sorted(str(path) for path in (ROOT / FOLDER / "src").glob("*.c")),
        define_macros=[("Py_LIMITED_API", OLDEST)] if SHARED else [],
        py_limited_api=SHARED,
        extra_compile_args=[
            *flags, "-std=c11", "-O2", "-Wall", "-Wextra", *(["-Werror"] if os.environ.get(STRICT) == "1" else []),
            "-pthread", "-fvisibility=hidden", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2",
        ],
        extra_link_args=["-pthread", *libraries],
    )  # fmt: skip
    command = build_ext(Distribution({"ext_modules": [extension]}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
    command.ensure_finalized()
    try:
        command.run()
    except BaseError as error:
        raise NotBuilt(f"its code does not compile: {error}") from error
    (built,) = (folder / "lib").iterdir()
    return built


def openssl() -> tuple[list[str], list[str]]:
    """The options of compiler and linker for OpenSSL, from pkg-config where it knows them."""
    found = []
    for option in ("--cflags", "--libs"):
        try:
            done = subprocess.run(["pkg-config", option, "openssl"], text=True, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return [], ["-lssl", "-lcrypto"]
        found.append(shlex.split(done.stdout))
    return found[0], found[1]


def put(built: Path) -> Path:
    """Put the extension module into the checkout; a process that has the previous one loaded keeps it."""
    place = ROOT / FOLDER / built.name
    spare = place.with_name(f"{place.name}.new")
    shutil.copy(built, spare)
    return spare.replace(place)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(put(build(Path(folder))))
