"""Whether the native transport is used: tried in fresh processes, on copies of the package whose `_core` is made up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bitstore._transport.native.choice import API

ROOT = Path(__file__).parent.parent
GOOD = f"API = {API}\ndef version():\n    return 'OpenSSL of the test'\n"
CORES = {
    "good": GOOD,
    "none": None,
    "no library": "raise ImportError('libssl.so.3: cannot open shared object file')",
    "another version": GOOD.replace(f"API = {API}", "API = -1"),
    "no version": f"API = {API}",
    "dies": "raise ZeroDivisionError",
}
USED = "used (OpenSSL of the test)"
BROKEN = {
    "no library": "broken (libssl.so.3: cannot open shared object file)",
    "another version": f"broken (it was built for another version of bitstore (API -1, not {API}): build it again)",
    "no version": "broken (module 'bitstore._transport.native._core' has no attribute 'version')",
    "dies": "broken (ZeroDivisionError)",
}


class Place:
    """A copy of the package, in which `_core` can be anything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._native = folder / "bitstore" / "_transport" / "native"
        shutil.copytree(ROOT / "bitstore", folder / "bitstore", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        # No class of the native transport can be made over such a module.
        (self._native / "transport.py").write_text("class Native: pass")

    def __call__(self, core: str, switch: str | None, *command: str) -> subprocess.CompletedProcess[str]:
        """What a process does in it, with `BITSTORE_NATIVE` set to `switch`."""
        (self._native / "_core.py").unlink(missing_ok=True)
        if (code := CORES[core]) is not None:
            (self._native / "_core.py").write_text(code)
        environment = {name: value for name, value in os.environ.items() if name != "BITSTORE_NATIVE"}
        environment |= {"PYTHONPATH": str(self._folder), "PYTHONDONTWRITEBYTECODE": "1"}
        if switch is not None:
            environment["BITSTORE_NATIVE"] = switch
        return subprocess.run(
            [sys.executable, *command],
            env=environment, cwd=self._folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("copy"))


# The choice is made where requests begin, and not before.
ASK = """
import sys, bitstore
store = bitstore.Sha1Composite()
store.append_source(bitstore.Sha1Store(bitstore.HTTPRaw(), "http://127.0.0.1:9/"))
import bitstore._lookup.loop, bitstore._transport.transports as transports
assert "bitstore._transport.native._core" not in sys.modules
print([kind.__name__ for kind in transports.kinds()], "bitstore._transport.native._core" in sys.modules)
"""


@pytest.mark.parametrize(
    ("core", "switch", "told"),
    [
        ("good", None, USED), ("good", "", USED), ("good", "1", USED), ("good", "0", "off (BITSTORE_NATIVE=0)"),
        ("none", None, "not built"), ("none", "0", "off (BITSTORE_NATIVE=0)"), ("none", "1", "not built"),
        *((core, None, told) for core, told in BROKEN.items()), *((core, "1", told) for core, told in BROKEN.items()),
        ("dies", "0", "off (BITSTORE_NATIVE=0)"),
        *(("good", value, f"broken (BITSTORE_NATIVE={value}: it is 0, 1 or not set)") for value in ("no", "2", " 1")),
    ],
)  # fmt: skip
def test_the_variable_switches_the_native_transport(place: Place, core: str, switch: str | None, told: str) -> None:
    asked = place(core, switch, "-c", ASK)
    used = told == USED
    if switch and not used and switch != "0":
        assert asked.returncode == 1
        last = asked.stderr.splitlines()[-1]
        assert last == f"ImportError: BITSTORE_NATIVE={switch} asks for what is not there: native transport: {told}"
    else:
        names = ["Native" if used else "Sockets", "Libcurl"]
        loaded = core not in ("none", "no library", "dies") and switch != "0"
        assert asked.stdout == f"{names} {loaded}\n", asked.stderr
        warning = f"native transport: {told}; requests go by the other transports\n" if "broken" in told else ""
        assert asked.stderr == warning
    shown = place(core, switch, "-m", "bitstore", "--version")
    assert (shown.returncode, shown.stdout.splitlines()[1:]) == (0, [f"native transport: {told}"])


def test_an_error_of_the_choice_has_its_cause_and_is_never_an_absence(place: Place) -> None:
    code = """
import bitstore, errno
store = bitstore.Sha1Composite()
store.append_source(bitstore.Sha1Store(bitstore.HTTPRaw(), "http://127.0.0.1:9/"))
for ask in (store.get, store.exists, store.sources[0].get, lambda digest: list(store.get_many([digest])),
            lambda digest: list(store.exists_many([digest]))):
    try:
        print("no error", ask("0" * 40))
    except bitstore.NotFoundInStore:
        print("an absence")
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        print(error)
"""
    done = place("no library", "1", "-c", code)
    assert done.stdout.splitlines() == ["libssl.so.3: cannot open shared object file"] * 5, done.stderr


@pytest.mark.parametrize("core", ["good", "none", "no library"])
@pytest.mark.parametrize("switch", [None, "0"])
def test_version_show_and_check_tell_which_transport_is_used(place: Place, core: str, switch: str | None) -> None:
    state = "off" if switch == "0" else {"good": "used", "none": "absent"}.get(core, "broken")
    told = {"used": USED, "absent": "not built", "off": "off (BITSTORE_NATIVE=0)"}.get(state, BROKEN["no library"])
    detail = told[len(state) + 2 : -1] if state in ("used", "broken") else None
    for command in ("version", "show --store file:///", "check --store file:///"):
        words = ["-m", "bitstore", *command.split()]
        assert f"native transport: {told}\n" in place(core, switch, *words).stdout
        last = place(core, switch, *words, "--json").stdout.splitlines()[-1]
        assert json.loads(last)["native_transport"] == {"state": state, "detail": detail}


def test_the_number_of_the_c_code_is_that_of_the_python_beside_it() -> None:
    texts = [path.read_text() for path in (ROOT / "bitstore/_transport/native/src").iterdir()]
    assert re.findall(r"#define API (\d+)", "\n".join(texts)) == [str(API)]


def test_a_command_refuses_to_begin_where_what_is_asked_for_is_not_there(place: Place) -> None:
    told = f"BITSTORE_NATIVE=1 asks for what is not there: native transport: {BROKEN['no library']}"
    for command in (
        "fetch - -o out --algorithm sha1",
        "exists - --algorithm sha1",
        f"get {'0' * 40}",
        f"locate {'0' * 40}",
        "check",
        "show",
    ):
        done = place("no library", "1", "-m", "bitstore", *command.split(), "--store", "http://127.0.0.1:9/")
        assert (done.returncode, done.stderr) == (3, f"bitstore: {told}\n"), command
    for command in ("--help", "put --help", "version"):
        done = place("no library", None, "-m", "bitstore", *command.split())
        assert (done.returncode, done.stderr) == (0, ""), command
