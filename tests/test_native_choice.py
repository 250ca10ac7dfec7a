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


# Runs one command after another; prints exit code, standard output and standard error of each as a line of JSON.
COMMANDS = """
import contextlib, io, json, os, sys
from bitstore._cli import main
for line in sys.argv[1:]:
    sys.argv = ["bitstore", *line.split()]
    sys.stdin, out, err = open(os.devnull), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main()
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


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

    def commands(self, core: str, switch: str | None, *lines: str) -> list[tuple[int, str, str]]:
        """Exit code, standard output and standard error of each command, all run in one process."""
        done = self(core, switch, "-c", COMMANDS, *lines)
        ran = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
        assert len(ran) == len(lines), done.stderr
        return ran


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
    commands = "version", "show --store file:///", "check --store file:///"
    shown = place.commands(core, switch, *commands, *(f"{command} --json" for command in commands))
    for _, out, _ in shown[:3]:
        assert f"native transport: {told}\n" in out
    for _, out, _ in shown[3:]:
        assert json.loads(out.splitlines()[-1])["native_transport"] == {"state": state, "detail": detail}


def test_the_number_of_the_c_code_is_that_of_the_python_beside_it() -> None:
    texts = [path.read_text() for path in (ROOT / "bitstore/_transport/native/src").iterdir()]
    assert re.findall(r"#define API (\d+)", "\n".join(texts)) == [str(API)]


def test_a_command_refuses_to_begin_where_what_is_asked_for_is_not_there(place: Place) -> None:
    told = f"BITSTORE_NATIVE=1 asks for what is not there: native transport: {BROKEN['no library']}"
    commands = (
        "fetch - -o out --algorithm sha1",
        "exists - --algorithm sha1",
        f"get {'0' * 40}",
        f"locate {'0' * 40}",
        "check",
        "show",
    )
    done = place.commands("no library", "1", *(f"{command} --store http://127.0.0.1:9/" for command in commands))
    assert [(code, err) for code, _, err in done] == [(3, f"bitstore: {told}\n")] * len(commands)
    done = place.commands("no library", None, "--help", "put --help", "version")
    assert [(code, err) for code, _, err in done] == [(0, "")] * 3
