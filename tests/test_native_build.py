"""What `hatch_build.py` builds, and what it says where it cannot: real builds, in a copy of what a build reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NATIVE = "bitstore/_transport/native"
MODULE = "_core.abi3.so"
Build = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What a build reads; the C code is a module with a version alone, which takes no time to compile."""
    tmp_path = tmp_path / "a folder"
    tmp_path.mkdir()
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("bitstore/__init__.py", "ray_integration/__init__.py", "epic/bitstore/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / NATIVE / "src").mkdir(parents=True)
    (tmp_path / NATIVE / "__init__.py").touch()
    (tmp_path / NATIVE / "src" / "module.c").write_text(CODE)
    (tmp_path / ".gitignore").write_text("*.so\n")
    return tmp_path


CODE = """
#include <Python.h>
#include <openssl/ssl.h>
static PyObject *version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyUnicode_FromString(OpenSSL_version(OPENSSL_VERSION));
}
static PyMethodDef functions[] = {{"version", version, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_core", .m_methods = functions};
PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }
"""


@pytest.fixture
def build(copy: Path) -> Build:
    """Runs a command of Python in the copy, with some variables, and none of the build that this run may have."""

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        foreign = ("BITSTORE_BUILD", "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return subprocess.run(
            [sys.executable, *command],
            cwd=copy, env={**kept, **variables}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


def can_build() -> bool:
    """Whether this machine has all that a build needs."""
    headers = [Path(sysconfig.get_path("include"), "Python.h"), Path("/usr/include/openssl/ssl.h")]
    return shutil.which("cc") is not None and all(path.exists() for path in headers)


needs_compiler = pytest.mark.skipif(not can_build(), reason="no compiler, or no headers of Python or OpenSSL")
WHEEL = ("-m", "hatchling", "build", "-t", "wheel", "-d", "dist")
IN_PLACE = ("hatch_build.py",)


def version_of(module: Path) -> str:
    """What `version()` of an extension module returns, in a fresh process."""
    code = f"import sys; sys.path.insert(0, {str(module.parent)!r}); import _core; print(_core.version())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def wheel_of(copy: Path) -> tuple[str, list[str]]:
    """The tag of the only wheel, and the names of its files."""
    (wheel,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(copy / "unpacked")
        return wheel.stem.split("-", 2)[2], packed.namelist()


@needs_compiler
def test_a_wheel_has_the_extension_module_and_its_tag(copy: Path, build: Build) -> None:
    (copy / NATIVE / "_core.cpython-31-old.so").touch()  # from another build
    done = build(*WHEEL)
    assert f"native transport: built ({MODULE})\n" in done.stderr
    tag, names = wheel_of(copy)
    assert tag.startswith("cp310-abi3-") and tag != "cp310-abi3-any"
    assert [name for name in names if NATIVE in name] == [f"{NATIVE}/__init__.py", f"{NATIVE}/{MODULE}"]
    assert version_of(copy / "unpacked" / NATIVE / MODULE).startswith("OpenSSL ")
    assert "Root-Is-Purelib: false" in next((copy / "unpacked").glob("*.dist-info/WHEEL")).read_text()
    assert not (copy / NATIVE / MODULE).exists() and not (copy / "build").exists()


def test_a_wheel_without_a_compiler_is_pure_and_says_why(copy: Path, build: Build) -> None:
    done = build(*WHEEL, CC="cc", PATH=str(copy))
    assert "native transport: not built: there is no C compiler (cc)\n" in done.stderr
    tag, names = wheel_of(copy)
    assert tag == "py3-none-any"
    assert [name for name in names if NATIVE in name] == [f"{NATIVE}/__init__.py"]
    refused = build(*WHEEL, CC="cc", PATH=str(copy), BITSTORE_BUILD_NATIVE="1")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    last = "native transport: not built, and BITSTORE_BUILD_NATIVE=1 wants it: there is no C compiler (cc)"
    assert refused.stderr.splitlines()[-1] == last


def test_an_sdist_has_all_that_a_build_reads(copy: Path, build: Build) -> None:
    assert build("-m", "hatchling", "build", "-t", "sdist", "-d", "dist").returncode == 0
    (sdist,) = (copy / "dist").iterdir()
    with tarfile.open(sdist) as packed:
        names = {name.split("/", 1)[1] for name in packed.getnames()}
    assert {"hatch_build.py", f"{NATIVE}/src/module.c"} <= names
    assert [name for name in names if name.endswith(".so")] == []


FAKE = "CPPFLAGS=-I fake"  # a folder whose headers are found before those of the system
TROUBLES = {
    "BITSTORE_BUILD_NATIVE=0": "BITSTORE_BUILD_NATIVE=0",
    "CC=nosuch": "there is no C compiler (nosuch)",
    "CC=false": "the C compiler (false) does not work",
    f"{FAKE} Python.h #error": "the headers of Python are missing (packages python3-dev, python3-devel)",
    f"{FAKE} openssl/ssl.h #error": (
        "the headers of OpenSSL are missing (packages libssl-dev, openssl-devel, openssl@3)"
    ),
    f"{FAKE} openssl/ssl.h #define OPENSSL_VERSION_NUMBER 0x100020ffL": (
        "the headers of OpenSSL are not those of version 1.1.1 or newer"
    ),
    f"{FAKE} openssl/ssl.h #define LIBRESSL_VERSION_NUMBER 0x4000000fL": (
        "the headers of OpenSSL are not those of version 1.1.1 or newer"
    ),
    "LDFLAGS=-lnosuch": "its code cannot be built here (LinkError, see above)",
    "CFLAGS=-Dfunctions=": "its code cannot be built here (CompileError, see above)",
}


@needs_compiler
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_reason_is_given_in_a_line_and_nothing_old_is_left(copy: Path, build: Build, trouble: str) -> None:
    setting, _, file = trouble.partition(" fake ") if " fake " in trouble else (trouble, "", "")
    if file:
        setting += " fake"
        name, text = file.split(" ", 1)
        (copy / "fake" / name).parent.mkdir(parents=True)
        (copy / "fake" / name).write_text(text)
    variable, value = setting.split("=", 1)
    old = copy / NATIVE / MODULE
    old.touch()
    done = build(*IN_PLACE, **{variable: value})
    assert (done.returncode, done.stdout) == (0, f"native transport: not built: {TROUBLES[trouble]}\n"), done.stderr
    assert not old.exists()
    if variable != "BITSTORE_BUILD_NATIVE":
        done = build(*IN_PLACE, **{variable: value, "BITSTORE_BUILD_NATIVE": "1"})
        told = f"native transport: not built, and BITSTORE_BUILD_NATIVE=1 wants it: {TROUBLES[trouble]}\n"
        assert (done.returncode, done.stdout) == (1, told)


def test_a_switch_that_makes_no_sense_is_refused(copy: Path, build: Build) -> None:
    told = "native transport: not built: BITSTORE_BUILD_NATIVE=yes: it is 0, 1 or not set"
    for command in (WHEEL, IN_PLACE):
        done = build(*command, BITSTORE_BUILD_NATIVE="yes")
        assert done.returncode == 1 and told in done.stdout + done.stderr
    assert not (copy / "dist").exists() or not any((copy / "dist").iterdir())


@needs_compiler
def test_a_build_in_place_replaces_the_file_and_not_its_content(copy: Path, build: Build) -> None:
    """A process that has the old one loaded would die of a changed one."""
    place = copy / NATIVE / MODULE
    assert build(*IN_PLACE).stdout == f"native transport: built ({MODULE})\n"
    with place.open("rb") as held:
        before = held.read()
        (copy / NATIVE / "src" / "module.c").write_text(CODE.replace("OPENSSL_VERSION", "99"))
        assert build(*IN_PLACE, BITSTORE_BUILD_NATIVE="1").returncode == 0
        assert place.stat().st_ino != os.fstat(held.fileno()).st_ino
        held.seek(0)
        assert held.read() == before
    assert sorted(path.name for path in place.parent.iterdir()) == ["__init__.py", MODULE, "src"]
    assert version_of(place) == "not available"


@needs_compiler
def test_a_free_threaded_python_gets_a_module_of_its_own(copy: Path, build: Build) -> None:
    """Pretended: the code of the checkout is compiled for this Python alone."""
    shutil.rmtree(copy / NATIVE / "src")
    shutil.copytree(ROOT / NATIVE / "src", copy / NATIVE / "src")
    code = """if True:
        import runpy, sysconfig
        sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
        runpy.run_path("hatch_build.py", run_name="__main__")
    """
    name = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    assert build("-c", code).stdout == f"native transport: built ({name})\n"
    assert version_of(copy / NATIVE / name).startswith("OpenSSL ")


@needs_compiler
def test_builds_in_place_at_once_do_not_meet(copy: Path, build: Build) -> None:
    """The second one begins and ends while the first has its file half in place."""
    code = """if True:
        import runpy, shutil, subprocess, sys
        def copy(*paths, original=shutil.copy):
            original(*paths)
            subprocess.run([sys.executable, "hatch_build.py"], check=True, stdout=subprocess.DEVNULL)
        shutil.copy = copy
        runpy.run_path("hatch_build.py", run_name="__main__")
    """
    done = build("-c", code, CC=" ")
    assert done.stdout == f"native transport: built ({MODULE})\n", done.stderr
    assert sorted(path.name for path in (copy / NATIVE).iterdir()) == ["__init__.py", MODULE, "src"]


@needs_compiler
def test_warnings_are_errors_where_a_variable_says_so(copy: Path, build: Build) -> None:
    (copy / NATIVE / "src" / "second.c").write_text("int second(int unused);\nint second(int unused) { return 2; }\n")
    assert build(*IN_PLACE).stdout.startswith("native transport: built")
    assert "CompileError" in build(*IN_PLACE, BITSTORE_BUILD_STRICT="1").stdout


@needs_compiler
def test_an_editable_install_builds_in_place(copy: Path, build: Build) -> None:
    code = "from hatchling.build import build_editable as build; build('dist')"
    done = build("-c", code)
    assert f"native transport: built ({MODULE})" in done.stderr
    tag, names = wheel_of(copy)
    assert tag == "py3-none-any" and not any(name.endswith(".so") for name in names)
    assert version_of(copy / NATIVE / MODULE).startswith("OpenSSL ")
    assert build("-c", code, BITSTORE_BUILD_NATIVE="0").returncode == 0
    assert not (copy / NATIVE / MODULE).exists()


def test_a_build_in_place_is_tried_again_once_what_it_lacked_is_there(tmp_path: Path) -> None:
    python = tmp_path / ".venv/bin/python"
    for path in (python, tmp_path / "requirements/install.sh", tmp_path / "include/Python.h"):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "requirements/install.sh", tmp_path / "requirements")
    (tmp_path / NATIVE / "src").mkdir(parents=True)
    for name in ("requirements/test.txt", "pyproject.toml", "hatch_build.py", f"{NATIVE}/src/module.c"):
        (tmp_path / name).touch()
    python.write_text(f'#!/bin/sh\ncase "$1" in hatch_build.py) echo tried;; -c) echo {tmp_path}/include;; esac\n')
    python.chmod(0o755)
    stamp = "cat requirements/test*.txt pyproject.toml requirements/install.sh | cksum >.venv/.installed-test"
    subprocess.run(["sh", "-c", stamp], cwd=tmp_path, check=True)

    def install(**variables: str) -> str:
        environment = {**os.environ, "PYTHON": "", **variables}
        command = ["sh", "requirements/install.sh", "test"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert [install(), install()] == ["tried\n", ""]
    (tmp_path / "include/Python.h").touch()
    assert [install(), install()] == ["tried\n", ""]
    assert [install(PKG_CONFIG_PATH=str(tmp_path)) for _ in range(2)] == ["tried\n", ""]


def test_sanitizers_are_left_out_with_a_word_where_that_is_allowed_and_a_compiler_is_missing(tmp_path: Path) -> None:
    told = "the C code is not run under sanitizers: there is no clang\n"
    for options, expected in (["--where-possible"], (0, told, "")), ([], (1, "", f"error: {told}")):
        command = [sys.executable, "-m", "tests.native.sanitize", *options]
        environment = {**os.environ, "PATH": str(tmp_path)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == expected


@needs_compiler
def test_the_code_of_the_checkout_is_compiled_and_loads(copy: Path, build: Build) -> None:
    shutil.rmtree(copy / NATIVE / "src")
    shutil.copytree(ROOT / NATIVE / "src", copy / NATIVE / "src")
    done = build(*IN_PLACE, BITSTORE_BUILD_NATIVE="1")
    assert done.returncode == 0, done.stderr
    assert version_of(copy / NATIVE / MODULE).startswith("OpenSSL ")
