"""Builds the distribution, installs it into clean environments and tries it there: see `--help`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.installed.environment import Environment, Failed, interpreters, pins, run
from tests.servers import FakeGCS, SeaweedS3

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
LOCKS = ROOT / "requirements"
# None, each alone, all together.
ALONE = ["aws", "cli", "frames", "fsspec", "gcp", "index", "obstore", "otel", "ray"]
EXTRAS = ["", *ALONE, ",".join(ALONE)]
MODULE = "bitstore/_transport/native/_core.abi3.so"
PACKAGES = ["bitstore", "epic", "ray_integration"]
# The tests of the core, which need no checkout, and those of the README's code.
CORE = [
    "tests/test_import.py", "tests/test_composite.py", "tests/test_memory_cache.py", "tests/test_raw_file.py",
    "tests/test_config.py", "tests/test_hash_lists.py", "tests/test_old_habits.py", "tests/test_warnings.py",
    "tests/test_readme.py",
]  # fmt: skip
# What reads other files of the project than Python: so the sdist must have them.
OF_FILES = ["tests/test_reference.py", "tests/test_simulation.py", "tests/test_soak_table.py", "tests/test_import.py"]


class Trial:
    """The steps of one run, each of which passes or fails by itself."""

    def __init__(self, folder: Path, base: Path | str, lock: Path, only: str) -> None:
        self.folder, self.base, self.only = folder, base, only
        self.pins = pins(lock)
        self.failed = 0
        self.passed = 0
        self.wheel = self.pure = self.sdist = folder  # set by `build`
        self.native = False  # whether `wheel` holds the native transport

    def step(self, name: str, act: Callable[[], object], *, always: bool = False) -> bool:
        """Do one step, unless others are asked for, and say how it went."""
        if not always and self.only not in name:
            return True
        began = time.monotonic()
        try:
            act()
        except Exception as error:
            self.failed += 1
            print(f"FAILED  {name}\n{error if isinstance(error, Failed) else traceback.format_exc()}", flush=True)
            return False
        self.passed += 1
        print(f"ok      {name} ({time.monotonic() - began:.0f} s)", flush=True)
        return True

    def environment(self, name: str) -> Environment:
        """A new, empty environment."""
        return Environment(self.folder / name, self.base)

    def build(self) -> None:
        """Make the sdist from the checkout, and from the sdist alone a wheel without a compiler, and one with."""
        out = self.folder / "dist"
        run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out, folder=ROOT)
        (packed,) = out.iterdir()
        shutil.unpack_archive(packed, self.folder)
        self.sdist = self.folder / packed.name.removesuffix(".tar.gz")
        nothing = self.folder / "nothing"
        nothing.mkdir()
        self.pure, told = self.packed("pure", PATH=str(nothing), CC="cc")
        if "native transport: not built: there is no C compiler (cc)" not in told or "-none-any" not in self.pure.name:
            raise Failed(f"without a compiler {self.pure.name} was built:\n{told}")
        switch = "BITSTORE_BUILD_NATIVE"
        self.wheel, told = self.packed("wheel", **{switch: os.environ.get(switch, "")})
        self.native = "native transport: built" in told
        if not self.native:
            print("        " + next(line for line in told.splitlines() if line.startswith("native transport: ")))
        for wheel, native in ((self.pure, False), (self.wheel, self.native)):
            names = zipfile.ZipFile(wheel).namelist()
            expected = {*PACKAGES, f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
            if {name.split("/")[0] for name in names} != expected:
                raise Failed(f"{wheel.name} holds other folders than {sorted(expected)}")
            if [name for name in names if name.endswith((".c", ".h", ".so"))] != [MODULE] * native:
                raise Failed(f"{wheel.name} holds C code, or not the native transport it should hold: {names}")
            if ("-cp310-abi3-" in wheel.name) != native:
                raise Failed(f"the tag of {wheel.name} is not that of its content")

    def packed(self, name: str, **variables: str) -> tuple[Path, str]:
        """A wheel of the sdist, and what its build says."""
        out = self.folder / "dist" / name
        command: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
        told = run(*command, folder=self.sdist, seconds=600, **variables)
        (wheel,) = out.iterdir()
        return wheel, told

    def whole(self) -> Environment:
        """An environment with all extras and the tools of the tests; the wheel as well."""
        environment = self.environment("whole")
        environment.install_pins(self.pins.values())
        source = LOCKS / "test-source.txt"
        environment.pip("install", "--require-hashes", "--no-deps", "--no-build-isolation", "-r", source)
        environment.install_wheel(self.wheel)
        return environment

    def needed(self, whole: Environment, extras: str) -> list[str]:
        """The entries of the lock that the distribution needs with `extras`."""
        told = run(whole.python, "-I", HERE / "closure.py", "epic-bitstore", extras, folder=self.folder)
        return [self.pins[name] for name in told.split() if name in self.pins]

    def try_out(self, whole: Environment, extras: str, places: dict[str, Any], *, pure: bool = False) -> None:
        """Install a wheel with some extras into an environment of its own, and use it there."""
        name = f"{'pure' if pure else 'with'}-{extras.replace(',', '-') or 'none'}"
        environment = self.environment(name)
        environment.install_pins(self.needed(whole, extras))
        environment.install_wheel(self.pure if pure else self.wheel)
        self.use(environment, extras, {**places, "native": self.native and not pure})
        shutil.rmtree(environment.folder)

    def use(self, environment: Environment, extras: str, places: dict[str, Any]) -> None:
        """Run `tryout.py` in an empty folder."""
        empty = Path(tempfile.mkdtemp(dir=self.folder))
        cloudless = {"AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true", "GCE_METADATA_HOST": "127.0.0.1:9"}
        variables = {**cloudless, "HOME": str(empty), "RAY_USAGE_STATS_ENABLED": "0"}
        program: list[str | Path] = [environment.python, "-I", HERE / "tryout.py"]
        run(*program, extras, json.dumps(places), folder=empty, seconds=300, **variables)

    def tests(self, environment: Environment, files: list[str], *, packages: bool) -> None:
        """Run tests of the sdist: with its own packages, or with the installed ones in their place."""
        folder = self.folder / ("sdist-tests" if packages else "wheel-tests")
        shutil.copytree(self.sdist, folder)
        if not packages:
            for package in PACKAGES:
                shutil.rmtree(folder / package)
        own = folder if packages else environment.packages
        code = f"import bitstore, sys; sys.exit(not bitstore.__file__.startswith({str(own)!r}))"
        run(environment.python, "-c", code, folder=folder)
        told = run(
            environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, folder=folder, seconds=3000
        )
        print("        " + told.strip().splitlines()[-1])

    def types(self, environment: Environment) -> None:
        """Check the README's imports and a user's code with `mypy --strict`, and with pyright."""
        folder = self.folder / "types"
        folder.mkdir()
        code = re.findall(r"```python\n(.*?)```", (self.sdist / "README.md").read_text(), re.DOTALL)
        imports = re.findall(r"^from (?:bitstore|epic|ray_integration).*$", "\n".join(code), re.MULTILINE)
        old = [f"from epic.{line.removeprefix('from ')}" for line in imports if line.startswith("from bitstore ")]
        every = [f"reveal_type({name.strip()})" for line in imports for name in line.split(" import ")[1].split(",")]
        (folder / "imports.py").write_text("\n".join(dict.fromkeys([*old, *imports, *every])) + "\n")
        shutil.copy(self.sdist / "tests" / "typed_use.py", folder)
        files = ["imports.py", "typed_use.py"]
        told = run(environment.python, "-m", "mypy", "--strict", "--cache-dir", "cache", *files, folder=folder)
        if "Any" in re.findall(r'Revealed type is "(.*?)"', told):
            raise Failed(f"a name of the README has no type:\n{told}")
        checker = Environment(self.folder / "pyright")
        checker.install_pins(pins(LOCKS / "pyright.txt").values())
        settings = {"pythonVersion": run(environment.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])",
                                         folder=folder).strip()}  # fmt: skip
        (folder / "pyrightconfig.json").write_text(json.dumps({**settings, "typeCheckingMode": "standard"}))
        told = run(
            checker.folder / "bin" / "pyright", "--pythonpath", environment.python, *files, folder=folder,
            PYRIGHT_PYTHON_IGNORE_WARNINGS="1", PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT="1",
        )  # fmt: skip
        if re.search(r'is "(type\[)?Unknown', told):
            raise Failed(f"a name of the README has no type:\n{told}")

    def upgrade(self, whole: Environment, places: dict[str, Any]) -> None:
        """Install the wheel over the published library: its files are replaced, none is left behind or owned twice."""
        environment = self.environment("upgrade")
        old = pins(LOCKS / "upgrade.txt")
        sources = {name for name in old if name.startswith("epic-")}
        environment.install_pins([*(old[name] for name in old.keys() - sources), *self.needed(whole, "")])
        file = self.folder / "published.txt"
        file.write_text("".join(old[name] for name in sources))
        environment.pip("install", "--require-hashes", "--no-deps", "--no-build-isolation", "-r", file)
        told = run(environment.python, "-c", "import epic.bitstore as b; print(b.__file__)", folder=self.folder)
        if str(environment.packages) not in told or (environment.packages / "bitstore").exists():
            raise Failed(f"the published library was not installed: {told}")
        environment.install_wheel(self.wheel)
        run(environment.python, "-c", "import epic.common, epic.logging", folder=self.folder)  # others of the namespace
        self.use(environment, "", {**places, "native": self.native})


def steps(trial: Trial, options: argparse.Namespace) -> None:
    """All steps in order; those that need a step that failed are left out."""
    if not trial.step("sdist and wheel are built", trial.build, always=True):
        return
    made: list[Environment] = []
    if not trial.step("wheel is installed with everything", lambda: made.append(trial.whole()), always=True):
        return
    (whole,) = made
    with SeaweedS3() as s3, FakeGCS() as gcs:
        places = {
            "s3": s3.endpoint_url,
            "bucket": s3.create_bucket(),
            "key": s3.admin.access_key,
            "secret": s3.admin.secret_key,
            "gcs": gcs.url,
            "gcs_bucket": gcs.create_bucket(),
        }
        for extras in EXTRAS:
            name = f"wheel with {extras or 'no extra'} works in a clean environment"
            trial.step(name, lambda extras=extras: trial.try_out(whole, extras, places))  # type: ignore[misc]
        pure = "wheel without the native transport works in a clean environment"
        trial.step(pure, lambda: trial.try_out(whole, "cli", places, pure=True))
        trial.step("upgrade from epic-bitstore 1.1.0 leaves no old file", lambda: trial.upgrade(whole, places))
    trial.step("mypy and pyright know what the README imports", lambda: trial.types(whole))
    trial.step("tests pass on the installed wheel", lambda: trial.tests(whole, CORE, packages=False))
    trial.step(
        "sdist passes its own tests",
        lambda: trial.tests(whole, ["tests"] if options.all_tests else OF_FILES, packages=True),
    )


def main() -> int:
    """Do the steps; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make wheel-test ARGS=...", description=__doc__)
    parser.add_argument("--lowest", action="store_true", help="the lowest declared versions, on Python 3.10")
    parser.add_argument(
        "--all-tests", action="store_true", help="the whole suite for the sdist, not only what reads its files"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="of the steps after the first two, those named so")
    options = parser.parse_args()
    base: Path | str = sys.executable
    if options.lowest:
        base = dict(interpreters()).get("3.10", "")
        if not base:
            parser.error("--lowest needs a Python 3.10")
    with tempfile.TemporaryDirectory(prefix="bitstore-installed-") as folder:
        trial = Trial(Path(folder), base, LOCKS / ("lowest.txt" if options.lowest else "test.txt"), options.only)
        steps(trial, options)
    print(f"{trial.passed} passed, {trial.failed} failed")
    return 1 if trial.failed else 0


if __name__ == "__main__":
    sys.exit(main())
