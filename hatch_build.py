"""Builds the native transport into the wheel, where a compiler and the headers are there: docs/native.md.

`python hatch_build.py` builds it in place, beside the Python of the checkout, as an editable install does.
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
SWITCH = (
    "BITSTORE_BUILD_NATIVE"  # 0: built without; 1: an error where it cannot be built; not set: built where it can be
)
STRICT = "BITSTORE_BUILD_STRICT"  # 1: warnings of the compiler are errors
# One file serves this Python version and all later ones. A free-threaded Python loads only what was built for itself.
OLDEST = "0x030A0000"
SHARED = not sysconfig.get_config_var("Py_GIL_DISABLED")
# What must compile before the code itself is tried, and the reason to give where it does not.
OPENSSL = "#include <openssl/ssl.h>\n"
PROBES = (
    ("", "the C compiler ({cc}) does not work"),
    ("#include <Python.h>\n", "the headers of Python are missing (packages python3-dev, python3-devel)"),
    (OPENSSL, "the headers of OpenSSL are missing (packages libssl-dev, openssl-devel, openssl@3)"),
    (OPENSSL + "#if defined LIBRESSL_VERSION_NUMBER || OPENSSL_VERSION_NUMBER < 0x10101000L\n#error\n#endif\n",
     "the headers of OpenSSL are not those of version 1.1.1 or newer"),
)  # fmt: skip


class NotBuilt(Exception):
    """Why there is no extension module, in a few words."""


class NativeTransport(BuildHookInterface[Any]):
    """The hook of wheels and of editable installs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the extension module and give the wheel its tag, or say why not."""
        self._spare = tempfile.TemporaryDirectory(prefix="bitstore-native-")
        built, told = wanted(Path(self._spare.name))
        if built is None and os.environ.get(SWITCH, "") not in ("", "0"):
            self.app.abort(told)
        self.app.display_warning(told)
        if version == "editable":
            place(built)
        elif built is not None:
            build_data["force_include"][str(built)] = f"{FOLDER}/{built.name}"
            build_data["pure_python"] = False
            tag = self.build_config.builder.get_best_matching_tag()
            build_data["tag"] = f"cp310-abi3-{tag.rpartition('-')[2]}" if SHARED else tag

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel holds by now."""
        self._spare.cleanup()


def wanted(folder: Path) -> tuple[Path | None, str]:
    """The extension module, built in `folder`, and a line about it; None: there is none, and the line says why."""
    switch = os.environ.get(SWITCH, "")
    try:
        if switch not in ("", "0", "1"):
            raise NotBuilt(f"{SWITCH}={switch}: it is 0, 1 or not set")
        if switch == "0":
            raise NotBuilt(f"{SWITCH}=0")
        built = build(folder)
    except NotBuilt as reason:
        wish = f", and {SWITCH}=1 wants it" if switch == "1" else ""
        return None, f"native transport: not built{wish}: {reason}"
    return built, f"native transport: built ({built.name})"


def build(folder: Path) -> Path:
    """The extension module, built in `folder`. Raises `NotBuilt`."""
    if sys.implementation.name != "cpython" or os.name != "posix":
        raise NotBuilt("it is for CPython on Linux and macOS")
    told = [named] if (named := os.environ.get("CC", "").strip()) else [sysconfig.get_config_var("CC") or "cc", "cc"]
    compiler = next((each for each in told if shutil.which(shlex.split(each)[0])), None)
    if compiler is None:
        raise NotBuilt(f"there is no C compiler ({told[-1]})")
    flags, libraries = openssl()
    probe(compiler, flags)
    try:
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
        from setuptools.errors import BaseError, CCompilerError
    except ImportError as error:
        raise NotBuilt(f"setuptools is missing ({error})") from error
    os.environ["CC"] = compiler
    strict = ["-Werror"] if os.environ.get(STRICT) == "1" else []
    extension = Extension(
        "_core",
        sorted(str(path) for path in (ROOT / FOLDER / "src").glob("*.c")),
        define_macros=[("Py_LIMITED_API", OLDEST)] if SHARED else [],
        py_limited_api=SHARED,
        extra_compile_args=[
            *flags, "-std=gnu11", "-O2", "-pthread", "-fvisibility=hidden",
            "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2",
            "-Wall", "-Wextra", "-Werror=implicit-function-declaration", *strict,
        ],
        extra_link_args=["-pthread", *libraries],
    )  # fmt: skip
    command = build_ext(Distribution({"ext_modules": [extension]}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
    command.ensure_finalized()
    try:
        command.run()
    except (BaseError, CCompilerError) as error:
        raise NotBuilt(f"its code cannot be built here ({type(error).__name__}, see above)") from error
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


def probe(compiler: str, flags: list[str]) -> None:
    """Try whether what the code needs is there. Raises `NotBuilt`."""
    places = sysconfig.get_paths()
    folders = [f"-I{places['include']}", f"-I{places['platinclude']}"]
    own = [option for name in ("CPPFLAGS", "CFLAGS") for option in shlex.split(os.environ.get(name, ""))]
    command = [*shlex.split(compiler), *own, *flags, *folders, "-fsyntax-only", "-x", "c", "-"]
    for code, reason in PROBES:
        done = subprocess.run(command, input=code, text=True, errors="replace", capture_output=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            raise NotBuilt(reason.format(cc=compiler))


def place(built: Path | None) -> None:
    """Put the extension module into the checkout, or remove it there. A process that has loaded it keeps its own."""
    name = "_core.abi3.so" if SHARED else f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    where = ROOT / FOLDER / name
    if built is None:
        where.unlink(missing_ok=True)
        return
    spare = where.with_name(f"{name}.{os.getpid()}.new")
    shutil.copy(built, spare)
    spare.replace(where)


def main() -> int:
    """Build in place. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="bitstore-native-") as folder:
        built, told = wanted(Path(folder))
        place(built)
    print(told)
    return 1 if built is None and os.environ.get(SWITCH, "") not in ("", "0") else 0


if __name__ == "__main__":
    sys.exit(main())
